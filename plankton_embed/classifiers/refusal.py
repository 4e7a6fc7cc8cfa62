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

ENOUGH = 19  # calibration images for a threshold of a class's own: the least that can refuse one in twenty
MOST_FOR_SPREAD = 200  # vectors of a class, drawn once, that its spread is measured on

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
        thresholds_: one row a class: label, threshold, spread, n_calibration (images named so), n_pooled (those the
            threshold was read from).
    """

    def __init__(self, measure: RefusalMeasure = "neighbor", n_neighbors: int = 10):
        self.measure = check_measure(measure)
        self.n_neighbors = n_neighbors

    def fit(self, vectors: NDArray[Any], labels: ArrayLike) -> Self:
        """Take known vectors (n, d) with their class names (n,)."""
        names = np.asarray(labels, dtype=str)
        self._centroids = NearestCentroidClassifier().fit_names(vectors, names)
        self._index = VectorIndex.build(EmbeddingTable(vectors))
        self._k = min(self.n_neighbors, len(vectors))
        if self.measure == "density":
            self._reach = self._search(self._index.table.vectors, skip_itself=True)[0]
        self._spread = self._measure_spread(names)
        return self

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(C,) class names, sorted."""
        return self._centroids.classes_

    def strangeness(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.float64]:
        """Return how far each vector (n, d) lies from what is known, given the names (n,) it got; (n,)."""
        return self._strangeness(vectors, self._codes(names))

    def _strangeness(
        self, vectors: NDArray[Any], codes: NDArray[np.intp], skip_itself: bool = False
    ) -> NDArray[np.float64]:
        """`skip_itself`: the vectors are known ones, of these classes; each is measured as if it were not."""
        if self.measure == "centroid":
            to_centroid = np.linalg.norm(vectors - self._centroids.centroids_[codes], axis=1)
            counts = self._centroids.counts_[codes]  # without itself the mean lies n / (n - 1) times as far
            return np.asarray(to_centroid * counts / np.maximum(counts - 1, 1) if skip_itself else to_centroid)
        reach, rows = self._search(vectors, skip_itself)
        if self.measure == "density":
            reach /= np.maximum(self._reach[rows].mean(axis=1), np.finfo(np.float32).eps)
        return reach

    def _search(
        self, vectors: NDArray[Any], skip_itself: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the distance to the k-th known vector, and the rows of all k."""
        skipped = int(skip_itself and len(self._index) > 1)
        found = self._index.search(np.asarray(vectors, np.float32), min(self._k + skipped, len(self._index)))
        return found.distances[:, -1].astype(np.float64), found.rows[:, skipped:]

    def _measure_spread(self, names: NDArray[np.str_]) -> NDArray[np.float64]:
        """Return the median strangeness of a class's own known vectors; the usual one where they cannot tell."""
        codes = self._codes(names)
        order = np.random.default_rng(0).permutation(len(codes))
        place = pd.Series(order).groupby(codes[order]).cumcount().to_numpy()
        rows = order[place < MOST_FOR_SPREAD]
        own = self._strangeness(self._index.table.vectors[rows], codes[rows], skip_itself=True)
        medians = pd.Series(own).groupby(codes[rows]).median().to_numpy()
        told = medians > np.finfo(np.float32).eps * medians.max()  # not by a lone example, or by copies of one
        usual = float(np.median(medians[told])) if told.any() else 1.0
        alone = np.sqrt(2) if self.measure == "centroid" else 1.0  # an example lies itself as far from the mean
        return np.where(told, medians, alone * usual)

    def calibrate(self, vectors: NDArray[Any], names: ArrayLike, rate: float = 0.05) -> Self:
        """Set the thresholds so that a share `rate` of the known images named as a class is refused.

        Of the n calibration images named as a class, the threshold is the strangeness of number
        ceil((1 - rate) (n + 1)), counted from the least strange: a further image of the kind then exceeds it with a
        probability of at most `rate` (split conformal prediction, class by class). A class with too few of them (19,
        or what the rate needs) shares those of the classes whose spread is most like its own, each taken in relation to
        the spread of its class.

        Args:
            vectors: of images of known classes that the network was not trained on, (n, d).
            names: that the classifier gave them, (n,).
            rate: share of known images that may be refused.

        Raises:
            SettingError: the rate is not between 0 and 1.
            InputError: too few images for the rate.
        """
        needed = least_calibration(rate)
        if len(vectors) < needed:
            raise InputError(
                f"refusing {rate:.3g} of the known images needs at least {needed} calibration images; found "
                f"{len(vectors)}. Give more of them, or a higher unknown rate"
            )
        codes = self._codes(names)
        scaled = self._strangeness(vectors, codes) / self._spread[codes]
        own = [scaled[codes == code] for code in range(len(self.classes_))]
        n_own = np.array([len(part) for part in own])
        enough = min(max(ENOUGH, needed), len(scaled))
        rows = []
        for code, label in enumerate(self.classes_):
            likest = np.argsort(np.abs(np.log(self._spread / self._spread[code])), kind="stable")
            likest = np.concatenate([[code], likest[likest != code]])
            n_classes = int(np.searchsorted(np.cumsum(n_own[likest]), enough)) + 1
            pooled = np.concatenate([own[other] for other in likest[:n_classes]])
            threshold = conformal_threshold(pooled, rate) * self._spread[code]
            rows.append((label, threshold, self._spread[code], n_own[code], len(pooled)))
        self.thresholds_ = pd.DataFrame(rows, columns=["label", "threshold", "spread", "n_calibration", "n_pooled"])
        return self

    def threshold(self, names: ArrayLike) -> NDArray[np.float64]:
        """Return the threshold of the class of each name, (n,)."""
        return self.thresholds_["threshold"].to_numpy(dtype=np.float64)[self._codes(names)]

    def refuse(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each image, given the name it got, is refused; (n,)."""
        return self.strangeness(vectors, names) > self.threshold(names)

    def _codes(self, names: ArrayLike) -> NDArray[np.intp]:
        return np.searchsorted(self.classes_, np.asarray(names, dtype=str))


def check_measure(measure: RefusalMeasure) -> RefusalMeasure:
    """Return the measure of strangeness; SettingError where there is none of that name."""
    if measure not in get_args(RefusalMeasure):
        raise SettingError(f"measure of refusing: expected {', '.join(get_args(RefusalMeasure))}; found {measure!r}")
    return measure


def least_calibration(rate: float) -> int:
    """Return how many calibration images it takes to refuse that share of images.

    Raises:
        SettingError: the rate is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise SettingError(f"unknown rate: expected a share between 0 and 1, such as 0.05; found {rate!r}")
    return int(np.ceil(round(1 / rate, 9))) - 1


def conformal_threshold(scores: NDArray[np.floating], rate: float) -> float:
    """Return the score that a further one of the kind exceeds with a probability of at most `rate`."""
    rank = int(np.ceil(round((1 - rate) * (len(scores) + 1), 9)))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else np.inf
