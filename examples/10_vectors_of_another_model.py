"""
Vectors of another model
========================

Everything after the embedding takes vectors of any model: here simple numbers of each image, made without a network.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from shared_run import new_images

import plankton_embed as pe
from plankton_embed.plots.projection import draw_projection

images = sorted(new_images().glob("*/*.png"))


def measure(path: Path) -> list[float]:
    """Return mean, spread and the share of dark pixels, and the shape of an image."""
    image = Image.open(path).convert("L")
    pixels = np.asarray(image, dtype=float) / 255
    return [pixels.mean(), pixels.std(), (pixels < 0.5).mean(), np.log(image.width / image.height)]


frame = pd.DataFrame({"object_id": [str(p) for p in images], "path": [str(p) for p in images]})
frame["label"] = [path.parent.name for path in images]
numbers = np.array([measure(path) for path in images])
frame[[f"v{i}" for i in range(4)]] = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
table = pe.EmbeddingTable.from_frame(frame, {"model_hash": "four numbers"})
print(table)

# %%
# Half of the images predict the others.

is_reference = np.arange(len(table)) % 2 == 0
evaluation = pe.evaluate(table.select(is_reference), table.select(~is_reference), "knn", progress=False)
print(evaluation)

# %%
# Two principal components of the vectors.

figure = draw_projection(pe.pca(table, n_components=2))
