"""
Find wrong labels, and correct them
===================================

Some labels are made wrong here; `suspects` ranks all labels by how likely they are wrong.
"""

from dataclasses import replace

import numpy as np
from shared_run import shared_run

import plankton_embed as pe
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.workflows.contact_sheets import suspects_sheets

folder = shared_run()
vectors = pe.EmbeddingTable.load(folder / "vectors" / "train.parquet")
rng = np.random.default_rng(0)
wrong = rng.choice(len(vectors), 10, replace=False)
labels = vectors.label.copy()
labels[wrong] = [rng.choice([name for name in vectors.classes if name != label]) for label in labels[wrong]]

# %%
# How many of the first ten are the ones that were made wrong?

suspects = pe.suspects(replace(vectors, label=labels), n_folds=3, progress=False)
first = suspects.first(10)
print(f"{first['object_id'].isin(vectors.object_id[wrong]).sum()} of 10")
print(first[["object_id", "label", "guess", "score"]].to_string(index=False, float_format="{:.2f}".format))

# %%
# A person writes `keep`, `relabel` or `delete`; here every suspect is relabelled. The catalog is written anew.

decisions = suspects.corrections(10).assign(action="relabel")
decisions["label"] = first["guess"].to_numpy()
catalog = pe.ImageCatalog.load(folder / "catalog.csv")
corrected = pe.apply_corrections(catalog, decisions)
print(corrected)

# %%
# The images, most suspect first.

figure = draw_sheet(next(iter(suspects_sheets(suspects, 10))))
