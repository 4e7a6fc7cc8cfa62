"""The eight views of an image: 0 is the image, 1-3 its quarter turns, 4-7 its mirror image and the turns of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

N_VIEWS, FIRST_MIRRORED = 8, 4
VIEWS = {1: (0,), 2: (0, 2), 4: (0, 1, 2, 3), 8: tuple(range(N_VIEWS))}  # test-time augmentation: number -> which


def check_views(n: int) -> None:
    """Raise a SettingError unless n views of an image can be averaged."""
    if n not in VIEWS:
        raise SettingError(f"views: expected one of {', '.join(map(str, VIEWS))}; found {n}")


def turn_view(images: Tensor, view: int) -> Tensor:
    """Return one view of images (b, channels, T, T)."""
    seen = images.flip(3) if view >= FIRST_MIRRORED else images
    return seen.rot90(view % FIRST_MIRRORED, (2, 3))


def n_views(height: int, width: int) -> int:
    """Return how many views keep the shape of an image: 8 of a square, 4 (half turns) of any other."""
    return N_VIEWS if height == width else N_VIEWS // 2


def turn_images(pixels: NDArray[np.uint8], views: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return images (n, height, width[, channels]), each in its view (n,): 0-7, or 0-3 where they are not square.

    The four views of images that are not square are, in order: the image, its half turn, its mirror image, and the half
    turn of that.
    """
    if not views.any():
        return pixels
    step = N_VIEWS // n_views(*pixels.shape[1:3])  # half turns are every second view
    turned = pixels.copy()
    for view in np.unique(views):
        rows = views == view
        seen = pixels[rows][:, :, ::-1] if step * view >= FIRST_MIRRORED else pixels[rows]
        turned[rows] = np.rot90(seen, step * view % FIRST_MIRRORED, axes=(1, 2))
    return turned
