"""
Reject images of unknown classes
================================

Images that are stranger to the reference than 90 % of the calibration images of their class are labelled `unknown`.
"""

from shared_run import CLASSES, new_images, shared_run

import plankton_embed as pe
from plankton_embed.plots.open_set import draw_open_set

folder = shared_run()
images = new_images("unknown_classes", 15, (*CLASSES, "detritus", "appendicularian"))

# %%
# Two classes that the model has never seen are among the images; about 10 % of the others are rejected too.

predictions = pe.classify(folder, images, "knn", unknown_rate=0.1, refuse_by="density", progress=False)
print(predictions.groupby("true_label")["label"].apply(lambda labels: (labels == "unknown").mean()).round(2))

# %%
# `best_label` has the class that it would have had, `novelty_score` the novelty score, `threshold` what it exceeds.

rejected = predictions[predictions["label"] == "unknown"]
print(rejected[["true_label", "best_label", "novelty_score", "threshold"]].head().to_string(index=False))

# %%
# The open-set curve: how many images of unknown classes are rejected, over how many of the known ones.

evaluation = pe.evaluate(
    folder, pe.embed(folder, images, progress=False), "knn", unknown_rate=0.1, refuse_by="density", progress=False
)
figure = draw_open_set(evaluation.open_set)
