"""Exactly n images of every class an epoch: large classes capped at random, small ones grown by mirror and rotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_VIEWS = 8  # the four quarter turns of an image and of its mirror image


@dataclass(frozen=True)
class EpochPlan:
    """Which images one epoch shows, and how.

    `rows` int (C, n): row numbers, one line a class. `views` int (C, n): 0 is the image as it is, 1-3 its quarter
    turns, 4-7 the mirror image and its quarter turns.
    """

    rows: NDArray[np.int64]
    views: NDArray[np.int64]


def balance_epoch(class_index: NDArray[np.integer], n_per_class: int, rng: np.random.Generator) -> EpochPlan:
    """Draw the images of one epoch.

    A class with more than `n_per_class` images gives a random part of them; one with fewer gives every image in turn,
    each time round in another of its eight views, so that up to eight times its size no picture comes twice.

    Args:
        class_index: (n,) class code of every training image, 0 … C-1, each code present.
        n_per_class: images of each class in the epoch.
        rng: the source of chance.
    """
    rows, views = [], []
    for c in range(int(class_index.max()) + 1):
        members = np.flatnonzero(class_index == c)
        rounds = -(-n_per_class // len(members))
        rows.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:n_per_class])
        start = np.repeat(np.arange(rounds), len(members))[:n_per_class]
        views.append(start % N_VIEWS)
    return EpochPlan(np.stack(rows), np.stack(views))
