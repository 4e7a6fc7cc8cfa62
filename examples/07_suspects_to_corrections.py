"""
Find wrong labels, and correct them
===================================

`suspects` ranks images: those whose labels are most likely wrong come first. Here ten labels are made wrong to test it.
"""

from dataclasses import replace

import numpy as np
from shared_run import shared_run

import plankton_embed as pe

folder = shared_run()
vectors = pe.EmbeddingTable.load(folder / "vectors" / "train.parquet")
rng = np.random.default_rng(0)
wrong = rng.choice(len(vectors), 10, replace=False)
labels = vectors.label.copy()
labels[wrong] = [rng.choice([name for name in vectors.classes if name != label]) for label in labels[wrong]]

# %%
# How many of the first ten suspects are images with a wrong label?

suspects = pe.suspects(replace(vectors, label=labels), n_folds=3, progress=False)
first = suspects.first(10)
print(f"{first['object_id'].isin(vectors.object_id[wrong]).sum()} of 10")
first[["object_id", "label", "guess", "score"]].round(2)

# %%
# A person writes `keep`, `relabel` or `delete` for each suspect. Here all ten are relabelled in a new catalog.

decisions = suspects.corrections(10).assign(action="relabel")
decisions["label"] = first["guess"].to_numpy()
frame = pe.ImageCatalog.load(folder / "catalog.csv").frame
made_wrong = dict(zip(vectors.object_id[wrong], labels[wrong], strict=True))
catalog = pe.ImageCatalog.from_frame(frame.assign(label=frame["object_id"].map(made_wrong).fillna(frame["label"])))
corrected = pe.apply_corrections(catalog, decisions)
print(corrected)

# %%
# The images, the most suspect first.

ax = pe.draw(suspects)
