"""Figure: images in three channels: grey, threshold and opening."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.plots.figure import TEXT_SIZE, draw_message, new_axes, title_axes

NAMES = ("grey", "threshold", "opening")
GAP, BACKGROUND = 4, 170  # pixels between images, and their grey


def draw_three_channels(images: NDArray[np.uint8], ax: Axes | None = None) -> Axes:
    """Draw a few images as columns, with the rows grey, Otsu's threshold and its opening.

    Args:
        images: uint8 (n, height, width, 3), as `read_pixels(..., channels="three")` returns them; ten fit well.
        ax: where to draw; by default a new figure, wider for more images.

    Returns:
        The axes, with all images as its only picture.

    Raises:
        InputError: another shape or type.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise InputError(f"expected images in three channels, uint8 (n, height, width, 3); found {images.shape}")
    n_images, height, width = images.shape[:3]
    ax = ax or new_axes(max(4.0, 1.0 * n_images + 1), 3.0 * height / max(width, 1) + 0.8)
    title_axes(ax, f"{n_images} image{'s' * (n_images != 1)} in three channels")
    if not n_images:
        draw_message(ax, "no images")
        return ax
    mosaic = np.full((3 * (height + GAP) - GAP, n_images * (width + GAP) - GAP), BACKGROUND, dtype=np.uint8)
    for column, image in enumerate(images):
        for row in range(3):
            top, left = row * (height + GAP), column * (width + GAP)
            mosaic[top : top + height, left : left + width] = image[..., row]
    ax.imshow(mosaic, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_yticks([row * (height + GAP) + height / 2 for row in range(3)], NAMES, fontsize=TEXT_SIZE)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
