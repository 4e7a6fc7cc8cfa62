"""The batches of the comparison nets: the images of an epoch, and their views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plankton_embed.images.views import n_views

BLOCK = 1024  # images at a time, outside training
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
    sizes, most = np.bincount(codes), n_views(*image_shape[:2])
    mean_size = -(-len(codes) // len(sizes))
    if sampling == "balanced":
        targets = np.full(len(sizes), mean_size)
    else:
        targets = np.maximum(sizes, np.minimum(mean_size, most * sizes)) if grow_rare else sizes
    rows, views = [], []
    for c, target in enumerate(targets):
        members = np.flatnonzero(codes == c)
        rounds = -(-target // len(members))
        rows.append(np.concatenate([rng.permutation(len(members)) for _ in range(rounds)])[:target])
        turned = rng.integers(most, size=len(members))[rows[-1]] + np.repeat(np.arange(rounds), len(members))[:target]
        is_turned = turn or (grow_rare and sizes[c] < mean_size)
        views.append(turned % most if is_turned else np.zeros(target, dtype=np.intp))
        rows[-1] = members[rows[-1]]
    order = rng.permutation(int(targets.sum()))
    return np.concatenate(rows)[order], np.concatenate(views)[order]
