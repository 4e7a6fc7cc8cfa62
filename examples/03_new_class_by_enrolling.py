"""
A new class without training
============================

The model was not trained on tintinnids. Ten labelled images of them are enough to add the class to the reference.
"""

import numpy as np
from shared_run import CLASSES, new_images, shared_run

import plankton_embed as pe
from plankton_embed.classifiers.enrollment import measure_learning, summarize_learning
from plankton_embed.plots.learning_curve import draw_learning_curve

folder = shared_run()
new = pe.embed(folder, new_images("tintinnids", 30, (*CLASSES, "tintinnid")), progress=False)
tintinnids = np.flatnonzero(new.label == "tintinnid")
examples = new.select(tintinnids[:10])
query = new.select(np.setdiff1d(np.arange(len(new)), tintinnids[:10]))

# %%
# Before: every tintinnid is predicted as another class, because the reference has no tintinnids.

before = pe.evaluate(folder, query, progress=False)
print(f"accuracy {before.scores.metrics['accuracy']:.2f}")

# %%
# After: the reference has the new class. The network is the same.

reference = pe.enroll(folder, examples, progress=False)
after = pe.evaluate(reference, query, progress=False)
print(f"accuracy {after.scores.metrics['accuracy']:.2f}, {len(reference.classes)} classes")
after.scores.per_class.round(2)

# %%
# How much do more examples help? Mean and spread of ten random draws of 1, 2, 5, … examples.

training = pe.EmbeddingTable.load(folder / "vectors" / "train.parquet")
draws = measure_learning(training, new.select(tintinnids[:20]), query, n_neighbors=10, n_draws=10, seed=0)
ax = draw_learning_curve(summarize_learning(draws))
