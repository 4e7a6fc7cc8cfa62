"""The batches of the comparison nets: which images an epoch shows, and how they are turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

BLOCK = 1024  # images at a time, where nothing is learned
N_VIEWS = 8  # views of a square image; one that is not square has half as many
Sampling = Literal["natural", "balanced"]
Pixels = NDArray[np.uint8]
Codes = NDArray[np.intp]


def balance_weights(codes: Codes, n_classes: int) -> NDArray[np.float64]:
    """Return the balanced weight of every class (C,): n / (C · its images)."""
    return np.asarray(len(codes) / (n_classes * np.bincount(codes, minlength=n_classes)))


def draw_epoch(
    codes: Codes, image_shape: Sequence[int], sampling: Sampling, turn: bool, grow_rare: bool, rng: np.random.Generator
) -> tuple[Codes, Codes]:
    """Draw which images an epoch shows, in which order, and which view of each.

    Args:
        codes: (n,) class code of every image, 0 … C-1, each code present.
        image_shape: height, width, …
        sampling: see `NetClassifier`.
        turn: see `NetClassifier`.
        grow_rare: see `NetClassifier`.
        rng: the source of chance.

    Returns:
        Rows and views, (m,) each; a view is a number that `turn_images` takes. Within an epoch an image comes twice in
        the same view only when all its views have come.
    """
    sizes, n_views = np.bincount(codes), N_VIEWS if image_shape[0] == image_shape[1] else N_VIEWS // 2
    due = -(-len(codes) // len(sizes))
    if sampling == "balanced":
        dues = np.full(len(sizes), due)
    else:
        dues = np.maximum(sizes, np.minimum(due, n_views * sizes)) if grow_rare else sizes
    rows, views = [], []
    for c, wanted in enumerate(dues):
        members = np.flatnonzero(codes == c)
        rounds = -(-wanted // len(members))
        rows.append(np.concatenate([rng.permutation(len(members)) for _ in range(rounds)])[:wanted])
        turned = (
            rng.integers(n_views, size=len(members))[rows[-1]] + np.repeat(np.arange(rounds), len(members))[:wanted]
        )
        seen = turn or (grow_rare and sizes[c] < due)
        views.append(turned % n_views if seen else np.zeros(wanted, dtype=np.intp))
        rows[-1] = members[rows[-1]]
    order = rng.permutation(int(dues.sum()))
    return np.concatenate(rows)[order], np.concatenate(views)[order]


def turn_images(pixels: Pixels, views: Codes) -> Pixels:
    """Return images in the given views (n,): 0 as they are; the first half turned, the second mirrored and turned.

    A square image has the views 0-7, in quarter turns; another has 0-3, in half turns.
    """
    if not views.any():
        return pixels
    square, turned = pixels.shape[1] == pixels.shape[2], pixels.copy()
    half = (N_VIEWS if square else N_VIEWS // 2) // 2
    for view in np.unique(views):
        these = views == view
        picture = pixels[these][:, :, ::-1] if view >= half else pixels[these]
        turned[these] = np.rot90(picture, (view % half) * (1 if square else 2), axes=(1, 2))
    return turned
