"""
A new class without training
============================

The model has never seen tintinnids. Ten labelled images of them are enough to add the class to the reference.
"""

import numpy as np
from shared_run import CLASSES, new_images, shared_run

import plankton_embed as pe
from plankton_embed.classifiers.enrollment import measure_learning, summarize_learning
from plankton_embed.plots.learning_curve import draw_learning_curve

folder = shared_run()
new = pe.embed(folder, new_images("tintinnids", 30, (*CLASSES, "tintinnid")), progress=False)
is_new = new.label == "tintinnid"
examples = new.select(np.flatnonzero(is_new)[:10])
query = new.select(np.setdiff1d(np.arange(len(new)), np.flatnonzero(is_new)[:10]))

# %%
# Before, every tintinnid is predicted as a class that the reference has.

before = pe.evaluate(folder, query, progress=False)
print(f"accuracy {before.scores.metrics['accuracy']:.2f}")

# %%
# Enrolled, it is a class like the others. The network is the same.

reference = pe.enroll(folder, examples, progress=False)
after = pe.evaluate(reference, query, progress=False)
print(f"accuracy {after.scores.metrics['accuracy']:.2f}, {len(reference.classes)} classes")

# %%
# How much more examples help (mean and spread of ten draws).

known = pe.EmbeddingTable.load(folder / "vectors" / "train.parquet")
draws = measure_learning(known, new.select(is_new).select(np.arange(20)), query, n_neighbors=10, n_draws=10, seed=0)
figure = draw_learning_curve(summarize_learning(draws))
