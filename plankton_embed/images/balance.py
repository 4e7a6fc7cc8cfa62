"""The images of an epoch: large classes capped at random, small ones grown by mirror and rotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plankton_embed.images.views import N_VIEWS

Sampling = Literal["balanced", "square_root", "natural"]


@dataclass(frozen=True)
class EpochPlan:
    """Which images one epoch shows, and how, class by class.

    `rows`: the row numbers of each class, int (n_c,). `views`, likewise: a view of each image (see `images.views`).
    """

    rows: list[NDArray[np.int64]]
    views: list[NDArray[np.int64]]


def balance_epoch(
    class_index: NDArray[np.integer], n_images: int, rng: np.random.Generator, sampling: Sampling = "balanced"
) -> EpochPlan:
    """Draw the images of one epoch.

    A class that has more images than its due gives a random part of them; one with fewer gives every image in turn,
    each time round in another of its eight views, so that up to eight times its size no picture comes twice.

    Args:
        class_index: (n,) class code of every training image, 0 … C-1, each code present.
        n_images: images of the epoch, about; every class gives at least two.
        rng: the source of chance.
        sampling: what a class gives: `balanced` the same as any other, `square_root` as the root of its size,
            `natural` as its size.
    """
    sizes = np.bincount(class_index)
    weights = sizes ** {"balanced": 0.0, "square_root": 0.5, "natural": 1.0}[sampling]
    dues = np.maximum(2, np.rint(n_images * weights / weights.sum())).astype(int)
    rows, views = [], []
    for c, due in enumerate(dues):
        members = np.flatnonzero(class_index == c)
        rounds = -(-due // len(members))
        rows.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:due])
        views.append(np.repeat(np.arange(rounds), len(members))[:due] % N_VIEWS)
    return EpochPlan(rows, views)
