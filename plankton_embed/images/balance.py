"""Random draws by class; the images of an epoch: large classes capped, small ones grown by mirror and rotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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
    for members, quota in zip(split_by_class(class_index), quotas, strict=True):
        rounds = -(-quota // len(members))
        rows.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:quota])
        views.append(np.repeat(np.arange(rounds), len(members))[:quota] % N_VIEWS)
    return EpochPlan(rows, views)


def split_by_class(codes: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """Return the rows of every class code 0 … C-1, sorted."""
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def shuffle_by_class(labels: ArrayLike, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return all rows (n,) in random order, and of each in this order its number within its class, from 0."""
    order = rng.permutation(len(np.asarray(labels))).astype(np.intp)
    number = pd.Series(order).groupby(np.asarray(labels)[order]).cumcount()
    return order, np.asarray(number, dtype=np.intp)


def draw_per_class(labels: ArrayLike, n_per_class: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw at most so many rows of each class at random; return them sorted."""
    order, number = shuffle_by_class(labels, rng)
    return np.sort(order[number < n_per_class])


def draw_evenly(labels: ArrayLike, n_rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw rows at random, as nearly equally many of each class as possible; return them sorted."""
    order, number = shuffle_by_class(labels, rng)
    return np.sort(order[np.argsort(number, kind="stable")[:n_rows]])
