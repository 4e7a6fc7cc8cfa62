"""
Find similar images
===================

A run has an index of its training images. New images are embedded by the model of the run.
"""

import matplotlib.pyplot as plt
from PIL import Image
from shared_run import new_images, shared_run

import plankton_embed as pe

folder, images = shared_run(), sorted(new_images().glob("*/*_0001.png"))

# %%
# Distance is Euclidean: 0 for the same vector, 2 at most.

found = pe.search(folder, images, n_results=5, progress=False)
print(found.head(10)[["query", "rank", "label", "distance"]].to_string(index=False))

# %%
# Each row: a new image, and the five training images that are nearest.

figure, axes = plt.subplots(len(images), 6, figsize=(7, 7))
for row, image in enumerate(images):
    nearest = found["path"].iloc[5 * row : 5 * row + 5]
    for axis, path in zip(axes[row], [image, *nearest], strict=True):
        axis.imshow(Image.open(path), cmap="gray")
        axis.axis("off")
