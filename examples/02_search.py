"""
Find similar images
===================

A run has an index of its training images. The model of the run embeds the new images; the index finds those nearest.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from shared_run import new_images, shared_run

import plankton_embed as pe

folder = shared_run()
images = sorted(new_images().glob("*/*_0001.png"))
print(len(images), "new images")

# %%
# Distance is Euclidean: 0 for the same vector, 2 at most.

found = pe.search(folder, images, n_results=5, progress=False)
table = found.assign(query=[Path(path).name for path in found["query"]])
table.head(10)[["query", "rank", "label", "distance"]].round(2)

# %%
# Each row: a new image, then the five nearest training images with their class and distance.
# Not all are of the same class: the network was trained for three epochs only.

figure, axes = plt.subplots(len(images), 6, figsize=(8, 8), layout="constrained")
for row, image in enumerate(images):
    nearest = found[found["query"] == str(image)]
    axes[row, 0].imshow(Image.open(image), cmap="gray")
    axes[row, 0].set_title("new image", fontsize=8)
    for axis, path, label, distance in zip(
        axes[row, 1:], nearest["path"], nearest["label"], nearest["distance"], strict=True
    ):
        axis.imshow(Image.open(path), cmap="gray")
        axis.set_title(f"{label} {distance:.2f}", fontsize=8)
for axis in axes.flat:
    axis.axis("off")
