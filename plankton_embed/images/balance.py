"""Draws the images of an epoch: large classes are capped at random, small ones grow by mirroring and turning."""

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

    A class with more images than its quota gives a random part of them. A class with fewer gives all its images again
    and again, each time in another of the eight views, so up to eight times its size the epoch repeats no picture.

    Args:
        class_index: (n,) class code of every training image, 0 … C-1, each code present.
        n_images: approximate number of images of the epoch; every class gives at least two.
        rng: the source of chance.
        sampling: number of images per class: `balanced`: equal; `square_root`: proportional to the root of its size;
            `natural`: proportional to its size.
    """
    sizes = np.bincount(class_index)
    weights = sizes ** {"balanced": 0.0, "square_root": 0.5, "natural": 1.0}[sampling]
    quotas = np.maximum(2, np.rint(n_images * weights / weights.sum())).astype(int)
    rows, views = [], []
    for c, quota in enumerate(quotas):
        members = np.flatnonzero(class_index == c)
        rounds = -(-quota // len(members))
        rows.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:quota])
        views.append(np.repeat(np.arange(rounds), len(members))[:quota] % N_VIEWS)
    return EpochPlan(rows, views)
