"""
Reject images of unknown classes
================================

New images may show classes that the reference lacks. Images that look too novel get the label `unknown`.
"""

from shared_run import CLASSES, new_images, shared_run

import plankton_embed as pe
from plankton_embed.plots.open_set import draw_open_set

folder = shared_run()
images = new_images("unknown_classes", 15, (*CLASSES, "detritus", "appendicularian"))

# %%
# Two classes of these images, detritus and appendicularian, are not in the reference. An image is rejected if its
# novelty score is above that of 90 % of the calibration images of its predicted class. So about 10 % of the images of
# the other classes are rejected too.

predictions = pe.classify(folder, images, "knn", unknown_rate=0.1, refuse_by="density", progress=False)
is_rejected = predictions["label"] == "unknown"
is_rejected.groupby(predictions["true_label"]).mean().rename("share rejected").round(2).to_frame()

# %%
# `best_label` is the class predicted without rejection. An image is rejected if `novelty_score` is above `threshold`.

print(is_rejected.sum(), "images are rejected")
predictions.loc[is_rejected, ["true_label", "best_label", "novelty_score", "threshold"]].head().round(2)

# %%
# The open-set curve: for every threshold, the share of accepted images of known classes (high is good) over the share
# of accepted images of unseen classes (low is good).

query = pe.embed(folder, images, progress=False)
evaluation = pe.evaluate(folder, query, "knn", unknown_rate=0.1, refuse_by="density", progress=False)
ax = draw_open_set(evaluation.open_set)
