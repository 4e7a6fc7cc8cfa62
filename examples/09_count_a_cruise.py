"""
Count a cruise
==============

Counts of predictions are biased by the errors of the classifier. `abundance` corrects them, with intervals.
"""

import numpy as np
import pandas as pd
from shared_run import CLASSES, new_images, shared_run

import plankton_embed as pe
from plankton_embed.plots.abundance import draw_abundance

folder = shared_run()
images = pe.catalog(new_images("cruise", 60), progress=False).frame

# %%
# Three stations with mixes of classes of their own; each sample stands for some cubic metres of water.

rng = np.random.default_rng(0)
parts = []
for number in range(3):
    shares = dict(zip(CLASSES, rng.dirichlet([1] * len(CLASSES)), strict=True))
    kept = images[rng.random(len(images)) < images["label"].map(shares) * 2]
    ids = [f"{number}/{object_id}" for object_id in kept["object_id"]]
    parts.append(kept.assign(object_id=ids, sample_id=f"station {number + 1}", volume=5.0))
cruise = pe.ImageCatalog.from_frame(pd.concat(parts, ignore_index=True))
print(cruise)

# %%
# `count` are the predictions, `corrected` the estimate, `low` and `high` its nominal 90 % interval.

found = pe.abundance(folder, pe.embed(folder, cruise, progress=False), catalog=cruise, n_draws=50, progress=False)
truth = cruise.frame.groupby(["sample_id", "label"]).size().rename("true").reset_index()
table = found.table.merge(truth, left_on=["sample", "label"], right_on=["sample_id", "label"])
columns = ["sample", "label", "true", "count", "corrected", "low", "high", "concentration"]
print(table[columns].to_string(index=False, float_format="{:.1f}".format))

# %%
# All stations.

figure = draw_abundance(found)
