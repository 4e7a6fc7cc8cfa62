"""Refusing the unknown: how strange an image is to the class it was named, and from where on it gets no name."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

UNKNOWN = "unknown"  # the label of a refused image
ENOUGH = 19  # calibration images for a threshold of a class's own: the least that can refuse one in twenty

RefusalMeasure = Literal["centroid", "neighbor", "density"]


class Refuser:
    """Refuses images that lie too far from what is known, class by class.

    Measures of strangeness:

    - `centroid`: distance to the centroid of the class that the image was named.
    - `neighbor`: distance to the k-th nearest known vector (Sun et al. 2022, arXiv 2204.06507).
    - `density`: that distance over the mean of the same distance at the k nearest known vectors themselves (a local
      outlier factor, after Breunig et al. 2000).

    Args:
        measure: one of these.
        n_neighbors: k; at most the known vectors.

    Attributes:
        thresholds_: one row a class: label, threshold, n_calibration (images named so), n_pooled (those the threshold
            was read from).
    """

    def __init__(self, measure: RefusalMeasure = "neighbor", n_neighbors: int = 10):
        if measure not in get_args(RefusalMeasure):
            raise SettingError(
                f"measure of refusing: expected {', '.join(get_args(RefusalMeasure))}; found {measure!r}"
            )
        self.measure = measure
        self.n_neighbors = n_neighbors

    def fit(self, vectors: NDArray[Any], labels: ArrayLike) -> Self:
        """Take known vectors (n, d) with their class names (n,)."""
        self.centroids_ = NearestCentroidClassifier().fit(vectors, labels)
        self._k = min(self.n_neighbors, len(vectors))
        self._index = VectorIndex.build(EmbeddingTable(vectors))
        if self.measure == "density":
            k = min(self._k + 1, len(vectors))  # each vector finds itself first
            self._reach = self._index.search(self._index.table, k).distances[:, -1]
        return self

    def strangeness(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.float64]:
        """Return how far each vector (n, d) lies from what is known, given the names (n,) it got; (n,)."""
        if self.measure == "centroid":
            codes = np.searchsorted(self.centroids_.classes_, np.asarray(names, dtype=str))
            offsets = vectors - self.centroids_.centroids_[codes]
            return np.asarray(np.linalg.norm(offsets, axis=1))
        found = self._index.search(np.asarray(vectors, dtype=np.float32), self._k)
        reach = found.distances[:, -1].astype(np.float64)
        if self.measure == "density":
            reach /= np.maximum(self._reach[found.rows].mean(axis=1), np.finfo(np.float32).eps)
        return reach

    def calibrate(self, vectors: NDArray[Any], names: ArrayLike, rate: float = 0.05) -> Self:
        """Set the thresholds so that a share `rate` of known images is refused, in every class.

        Of the n calibration images named as a class, the threshold is the strangeness of number
        ceil((1 - rate) (n + 1)), counted from the least strange: a further image of the kind then exceeds it with a
        probability of at most `rate` (split conformal prediction, class by class). A class with too few of them (19,
        or what the rate needs) shares those of the classes whose spread is most like its own.

        Args:
            vectors: of images that the network was not trained on, (n, d).
            names: that the classifier gave them, (n,).
            rate: share of known images that may be refused.

        Raises:
            SettingError: the rate is not between 0 and 1.
            InputError: too few images for the rate.
        """
        if not 0 < rate < 1:
            raise SettingError(f"unknown rate: expected a share between 0 and 1, such as 0.05; found {rate!r}")
        needed = int(np.ceil(round(1 / rate, 9))) - 1  # with fewer, no image could exceed a threshold that rarely
        if len(vectors) < needed:
            raise InputError(
                f"refusing {rate:.3g} of the known images needs at least {needed} calibration images; "
                f"found {len(vectors)}. Give more of them (--calibration), or a higher rate"
            )
        classes = self.centroids_.classes_
        scores = self.strangeness(vectors, names)
        codes = np.searchsorted(classes, np.asarray(names, dtype=str))
        own = [scores[codes == code] for code in range(len(classes))]
        n_own = np.array([len(part) for part in own])
        spread = self._spread()
        rows = []
        for code, label in enumerate(classes):
            likest = np.argsort(np.abs(spread - spread[code]), kind="stable")
            likest = np.concatenate([[code], likest[likest != code]])
            n_classes = int(np.searchsorted(np.cumsum(n_own[likest]), min(max(ENOUGH, needed), len(scores)))) + 1
            pooled = np.concatenate([own[other] for other in likest[:n_classes]])
            rows.append((label, conformal_threshold(pooled, rate), n_own[code], len(pooled)))
        self.thresholds_ = pd.DataFrame(rows, columns=["label", "threshold", "n_calibration", "n_pooled"])
        return self

    def _spread(self) -> NDArray[np.float64]:
        """Return how far the vectors of a class lie from its centroid; the median, where one vector cannot tell."""
        radii, several = self.centroids_.radii_, self.centroids_.counts_ > 1
        return np.where(several, radii, np.median(radii[several]) if several.any() else 0.0)

    def threshold(self, names: ArrayLike) -> NDArray[np.float64]:
        """Return the threshold of the class of each name, (n,)."""
        codes = np.searchsorted(self.centroids_.classes_, np.asarray(names, dtype=str))
        return self.thresholds_["threshold"].to_numpy(dtype=np.float64)[codes]

    def refuse(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each image, given the name it got, is refused; (n,)."""
        return self.strangeness(vectors, names) > self.threshold(names)


def conformal_threshold(scores: NDArray[np.floating], rate: float) -> float:
    """Return the score that a further one of the kind exceeds with a probability of at most `rate`."""
    rank = int(np.ceil(round((1 - rate) * (len(scores) + 1), 9)))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else np.inf
