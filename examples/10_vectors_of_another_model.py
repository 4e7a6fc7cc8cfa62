"""
Vectors of another model
========================

Search, classification and all analyses also take vectors of other models. Here the vectors are four simple measurements
of each image.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from shared_run import new_images

import plankton_embed as pe

images = sorted(new_images().glob("*/*.png"))


def measure(path: Path) -> list[float]:
    """Return the mean grey, its standard deviation, the share of dark pixels, and the log of width over height."""
    image = Image.open(path).convert("L")
    pixels = np.asarray(image, dtype=float) / 255
    return [pixels.mean(), pixels.std(), (pixels < 0.5).mean(), np.log(image.width / image.height)]


# %%
# A table with the columns `object_id`, `label` and `v0`, `v1`, … is all that is needed.

frame = pd.DataFrame({"object_id": [str(p) for p in images], "path": [str(p) for p in images]})
frame["label"] = [path.parent.name for path in images]
numbers = np.array([measure(path) for path in images])
frame[[f"v{i}" for i in range(4)]] = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
table = pe.EmbeddingTable.from_frame(frame, {"model_hash": "four numbers"})
print(table)

# %%
# Half of the images are the reference, the others the query.

is_reference = np.arange(len(table)) % 2 == 0
evaluation = pe.evaluate(table.select(is_reference), table.select(~is_reference), "knn", progress=False)
print(evaluation)
evaluation.scores.per_class.round(2)

# %%
# The vectors on their first two principal components.

ax = pe.draw(pe.pca(table, n_components=2))
