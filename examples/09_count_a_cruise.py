"""
Count a cruise
==============

A classifier makes errors, so counts of its predictions are biased. `abundance` corrects them, and gives intervals.
"""

import numpy as np
import pandas as pd
from shared_run import CLASSES, new_images, shared_run

import plankton_embed as pe

folder = shared_run()
images = pe.catalog(new_images("cruise", 60), progress=False).frame

# %%
# Make a cruise of three stations, each with its own mix of classes and 5 m³ of filtered water.

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
# `count` is the number of predictions, `corrected` the estimate, `low` and `high` its nominal 90 % interval,
# `concentration` the individuals per m³.

found = pe.abundance(folder, pe.embed(folder, cruise, progress=False), catalog=cruise, n_draws=50, progress=False)
truth = cruise.frame.groupby(["sample_id", "label"]).size().rename("true").reset_index()
table = found.table.merge(truth, left_on=["sample", "label"], right_on=["sample_id", "label"])
print(found)
table[["sample", "label", "true", "count", "corrected", "low", "high", "concentration"]].round(1)

# %%
# All stations together.

ax = pe.draw(found)
