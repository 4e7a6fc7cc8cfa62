"""The batches of the comparison nets: the images of an epoch, and their views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # images at a time, outside training
N_VIEWS = 8  # views of a square image; one that is not square has half as many
Sampling = Literal["natural", "balanced"]
Pixels = NDArray[np.uint8]
Codes = NDArray[np.intp]


def balance_weights(codes: Codes, n_classes: int) -> NDArray[np.float64]:
    """Return the balanced weight of every class (C,): n / (C · images of the class)."""
    return np.asarray(len(codes) / (n_classes * np.bincount(codes, minlength=n_classes)))


def draw_epoch(
    codes: Codes, image_shape: Sequence[int], sampling: Sampling, turn: bool, grow_rare: bool, rng: np.random.Generator
) -> tuple[Codes, Codes]:
    """Draw the images of an epoch, their order, and a view of each.

    Args:
        codes: (n,) class code of every image, 0 … C-1, each code present.
        image_shape: height, width, …
        sampling: see `NetClassifier`.
        turn: see `NetClassifier`.
        grow_rare: see `NetClassifier`.
        rng: random generator.

    Returns:
        Rows and views, (m,) each; views are numbers for `turn_images`. Within an epoch an image has the same view twice
        only after all its views.
    """
    sizes, n_views = np.bincount(codes), N_VIEWS if image_shape[0] == image_shape[1] else N_VIEWS // 2
    mean_size = -(-len(codes) // len(sizes))
    if sampling == "balanced":
        targets = np.full(len(sizes), mean_size)
    else:
        targets = np.maximum(sizes, np.minimum(mean_size, n_views * sizes)) if grow_rare else sizes
    rows, views = [], []
    for c, target in enumerate(targets):
        members = np.flatnonzero(codes == c)
        rounds = -(-target // len(members))
        rows.append(np.concatenate([rng.permutation(len(members)) for _ in range(rounds)])[:target])
        turned = (
            rng.integers(n_views, size=len(members))[rows[-1]] + np.repeat(np.arange(rounds), len(members))[:target]
        )
        is_turned = turn or (grow_rare and sizes[c] < mean_size)
        views.append(turned % n_views if is_turned else np.zeros(target, dtype=np.intp))
        rows[-1] = members[rows[-1]]
    order = rng.permutation(int(targets.sum()))
    return np.concatenate(rows)[order], np.concatenate(views)[order]


def turn_images(pixels: Pixels, views: Codes) -> Pixels:
    """Return images in the given views (n,): 0 unchanged; the first half turned, the second half mirrored and turned.

    Square images have the views 0-7, in quarter turns; others have 0-3, in half turns.
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
