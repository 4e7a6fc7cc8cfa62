"""Detect early that the space collapses: all images to one point, or some classes to the same point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plankton_embed.training.history import EpochRecord

LEAST_DISTANCE = 0.05  # between images of two classes, on average
LEAST_SEPARATION = 1.1  # distance between two classes, as a multiple of that within a class
LEAST_RANK = 1.2  # of three or more classes
MOST_NEVER_PREDICTED = 0.15  # share of the classes; one class alone is not a sign
LEAST_IMAGES = 5  # of a class, before it counts that no image was predicted as it
BLOCK = 1024  # rows of the distance matrix at a time
PATIENCE = 2  # epochs in a row


@dataclass(frozen=True)
class Spread:
    """How vectors are spread: mean distance within classes and between them, and their effective rank."""

    within_distance: float
    between_distance: float
    effective_rank: float


def measure_spread(vectors: NDArray[np.floating], class_index: NDArray[np.integer]) -> Spread:
    """Measure how vectors (n, d) of class codes (n,) are spread.

    Distances are Euclidean, averaged over all pairs of different images of the same class, and of different classes;
    nan where there is no such pair. The effective rank is exp of the entropy of the covariance's eigenvalues, as shares
    of their sum: 1 on a line, d in a ball, 0 where all vectors are equal (Roy & Vetterli 2007, of singular values).
    """
    points = np.asarray(vectors, dtype=np.float64)
    squares = (points**2).sum(axis=1)
    total = np.zeros(2)  # of distances between, within
    n_pairs = np.zeros(2)
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        distances = np.sqrt(np.maximum(squares[block, None] + squares - 2 * points[block] @ points.T, 0))
        same = class_index[block, None] == class_index
        np.fill_diagonal(distances[:, start:], 0)  # distance of an image to itself
        total += distances[~same].sum(), distances[same].sum()
        n_pairs += (~same).sum(), same.sum() - len(same)
    between, within = (float(t / n) if n else np.nan for t, n in zip(total, n_pairs, strict=True))
    centred = points - points.mean(axis=0)
    eigenvalues = np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0)
    shares = eigenvalues / eigenvalues.sum() if eigenvalues.sum() > 1e-12 * squares.sum() else np.zeros(1)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    return Spread(
        within_distance=within,
        between_distance=between,
        effective_rank=float(np.exp(entropy)) if shares.any() else 0.0,
    )


def active_share(vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the share of triplets of a batch whose negative is not farther than the positive by the margin.

    Distances are squared Euclidean; nan where the batch has no triplet. Stays on the device.
    """
    with torch.no_grad():
        squares = vectors.square().sum(dim=1)
        distances = squares[:, None] + squares - 2 * vectors @ vectors.T
        same = labels[:, None] == labels
        twins = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        negatives = distances.masked_fill(same, torch.inf).sort(dim=1).values
        n_breaking = torch.searchsorted(negatives, (distances + margin).contiguous())  # negatives nearer than that
        n_triplets = (twins.sum(dim=1) * (~same).sum(dim=1)).sum()
        return (n_breaking * twins).sum() / n_triplets


def count_never_predicted(truth: NDArray[np.str_], predicted: NDArray[np.str_], reference: set[str]) -> int:
    """Count the reference classes with at least `LEAST_IMAGES` true images (n,) that no image is predicted as."""
    classes, counts = np.unique(truth, return_counts=True)
    return len((set(classes[counts >= LEAST_IMAGES]) & reference) - set(predicted))


def find_collapse(records: Sequence[EpochRecord], n_classes: int) -> str | None:
    """Return what is wrong with the space after the newest epoch, and the remedy; None where nothing is wrong.

    An untrained space is narrow: the first epoch is not tested, and a fault counts when two epochs in a row have one.
    Epochs whose space was not measured do not count.
    """
    measured = [record for record in records[1:] if not math.isnan(record.between_distance)]
    recent = [_find_fault(record, n_classes) for record in measured[-PATIENCE:]]
    if len(recent) < PATIENCE or None in recent:
        return None
    return (
        f"epoch {measured[-1].epoch}: the space is collapsing: {recent[-1]}. What to do: set a lower "
        "training.learning_rate, "
        "training.objective=scheduled or normalized_softmax (proxies keep the classes apart), or, with triplets, "
        "training.miner=semihard"
    )


def _find_fault(record: EpochRecord, n_classes: int) -> str | None:
    if record.between_distance < LEAST_DISTANCE:
        return f"all images are near one point, {record.between_distance:.3f} from each other (mean distance)"
    if n_classes > 2 and record.effective_rank < LEAST_RANK:
        return f"the vectors use {record.effective_rank:.1f} directions (effective rank)"
    if record.between_distance < LEAST_SEPARATION * record.within_distance:
        return (
            f"images of two classes are {record.between_distance:.3f} apart, images of one class "
            f"{record.within_distance:.3f} (mean distances)"
        )
    if record.n_never_predicted > max(1, MOST_NEVER_PREDICTED * n_classes):
        return f"{record.n_never_predicted} of {n_classes} classes are never predicted"
    return None
