"""The batches of the comparison nets: which images an epoch shows, and how they are turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plankton_embed.images.views import n_views

BLOCK = 1024  # images at a time, where nothing is learned
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
        Rows and views, (m,) each; the views are those that `turn_images` takes. Within an epoch an image comes twice in
        the same view only when all its views have come.
    """
    sizes, most = np.bincount(codes), n_views(*image_shape[:2])
    due = -(-len(codes) // len(sizes))
    if sampling == "balanced":
        dues = np.full(len(sizes), due)
    else:
        dues = np.maximum(sizes, np.minimum(due, most * sizes)) if grow_rare else sizes
    rows, views = [], []
    for c, wanted in enumerate(dues):
        members = np.flatnonzero(codes == c)
        rounds = -(-wanted // len(members))
        rows.append(np.concatenate([rng.permutation(len(members)) for _ in range(rounds)])[:wanted])
        turned = rng.integers(most, size=len(members))[rows[-1]] + np.repeat(np.arange(rounds), len(members))[:wanted]
        seen = turn or (grow_rare and sizes[c] < due)
        views.append(turned % most if seen else np.zeros(wanted, dtype=np.intp))
        rows[-1] = members[rows[-1]]
    order = rng.permutation(int(dues.sum()))
    return np.concatenate(rows)[order], np.concatenate(views)[order]
