"""k-nearest-neighbours classifier, by FAISS: predicts the class of most neighbours."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from plankton_embed.classifiers.calibrated import CalibratedClassifier, Labelled, Rating
from plankton_embed.classifiers.calibration import fit_temperature
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import split_by_class
from plankton_embed.sharded_index import ShardedIndex
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import Neighbors, VectorIndex

MOST_DISTANCES = 2**24  # in memory at a time
SHARED_VOTE = 0.99  # below 1, so that it overturns no majority

Weights = Literal["uniform", "distance"]


class NeighborsClassifier(CalibratedClassifier):
    """Classify by the majority of the k nearest vectors; ties go to the class whose mean is nearer.

    Probabilities are proportional to votes to the power of 1 / temperature. Almost one additional vote is divided among
    the classes by the nearness of their means (less, if the class with most votes leads by less): it settles ties and
    changes no majority.

    Args:
        n_neighbors: k.
        weights: `uniform`, or `distance`: a neighbour's vote weighs the inverse of its distance; neighbours at
            distance 0, if there are any, are then the only ones that vote.

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d), the class means that settle ties.
        index_: the `VectorIndex` over the training vectors.
        temperature_: the logarithms of the votes are divided by it.
    """

    index_: VectorIndex
    _codes: NDArray[np.integer]
    _means_temperature = 1.0

    def __init__(self, n_neighbors: int = 10, weights: Weights = "uniform"):
        self.n_neighbors = n_neighbors
        self.weights = weights

    def _check_settings(self, n_images: int) -> None:
        if self.weights not in ("uniform", "distance"):
            raise SettingError(f"weights: expected uniform or distance; found {self.weights!r}")
        if not 1 <= self.n_neighbors <= n_images:
            raise InputError(
                f"n_neighbors: expected 1 to {n_images}, as n_samples={n_images}; found {self.n_neighbors}"
            )

    def _learn(self, images: Labelled, calibration: Labelled | None) -> None:
        vectors, self._codes = images
        self._means = NearestCentroidClassifier().fit_names(vectors, self._codes)
        if calibration is not None:
            self._means_temperature = fit_temperature(self._means._logits(calibration[0]), calibration[1])
        self.index_ = VectorIndex.build(EmbeddingTable(vectors))
        self._rows_of_class = split_by_class(self._codes)

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each vector to the nearest vector of every class, (n, C)."""
        vectors = self._check_query(X).astype(np.float32)
        reference = self.index_.table.vectors[np.concatenate(self._rows_of_class)]
        starts = np.cumsum([0, *map(len, self._rows_of_class)])[:-1]
        nearest = np.empty((len(vectors), len(self.classes_)))
        n_at_once = max(1, MOST_DISTANCES // len(reference))
        for start in range(0, len(vectors), n_at_once):
            block = slice(start, start + n_at_once)
            nearest[block] = np.minimum.reduceat(cdist(vectors[block], reference), starts, axis=1)
        return nearest

    def distance_to(self, X: ArrayLike, codes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the distance of each vector to the nearest vector of one class, given by its code (n,); (n,)."""
        return self._distance_to(self._check_query(X), codes)

    def _distance_to(
        self, vectors: NDArray[Any], codes: NDArray[np.intp], neighbors: Neighbors | None = None
    ) -> NDArray[np.float64]:
        """`neighbors`: of the vectors; the first of a class is its nearest, so that only other classes are searched."""
        vectors, nearest, is_known = vectors.astype(np.float32), np.empty(len(codes)), np.zeros(len(codes), dtype=bool)
        if neighbors is not None:
            of_class = self._codes[neighbors.rows] == codes[:, None]
            is_known = of_class.any(axis=1)
            nearest[is_known] = neighbors.distances[np.arange(len(codes)), of_class.argmax(axis=1)][is_known]
        others = np.flatnonzero(~is_known)
        for code, part in enumerate(split_by_class(codes[others]) if len(others) else ()):
            reference = self.index_.table.vectors[self._rows_of_class[code]]
            exact = reference.astype(np.float64)  # |v|^2 / 2 - q v, by which they are compared, loses digits
            halves = (exact**2).sum(axis=1) / 2
            n_at_once = max(1, MOST_DISTANCES // len(reference))
            for start in range(0, len(part), n_at_once):
                rows = others[part[start : start + n_at_once]]
                best = (halves - vectors[rows].astype(np.float64) @ exact.T).argmin(axis=1)
                nearest[rows] = np.linalg.norm(vectors[rows] - reference[best], axis=1)
        return nearest

    def _rate(self, vectors: NDArray[Any]) -> Rating:
        """Rank by votes, then by nearness of the class mean; logits are the logarithms of votes and shared vote."""
        found = self._search(vectors)
        votes = self._votes(found)
        to_means = self._means._logits(vectors)
        most = votes.max(axis=1, keepdims=True)
        lead = most - np.where(votes < most, votes, 0).max(axis=1, keepdims=True)
        shared = log_softmax(to_means / self._means_temperature, axis=1) + np.log(SHARED_VOTE * np.minimum(lead, 1))
        with np.errstate(divide="ignore"):  # no votes
            logits = np.logaddexp(np.log(votes), shared)
        return Rating((-to_means, -votes), np.asarray(logits), found)

    def _logits(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        return self._rate(vectors).logits

    def _search(self, vectors: NDArray[Any]) -> Neighbors:
        return self.index_.search(vectors.astype(np.float32), min(self.n_neighbors, len(self.index_)))

    def _votes(self, found: Neighbors) -> NDArray[np.float64]:
        """Return votes (n, C); each row sums to k."""
        n, k = found.rows.shape
        if self.weights == "distance":
            nearest = found.distances[:, :1].astype(float)
            with np.errstate(divide="ignore", invalid="ignore"):
                weight = np.where(nearest > 0, nearest / found.distances, found.distances == 0)
            weight *= k / weight.sum(axis=1, keepdims=True)
        else:
            weight = np.ones(found.rows.shape)
        cells = np.arange(n)[:, None] * len(self.classes_) + self._codes[found.rows]
        votes = np.bincount(cells.ravel(), weight.ravel(), minlength=n * len(self.classes_))
        return np.asarray(votes, dtype=np.float64).reshape(n, -1)


class ShardedNeighborsClassifier(NeighborsClassifier):
    """Classify by the majority of the k nearest vectors of a `ShardedIndex`; its classes alone are in memory.

    The distance to a class is that to its nearest vector among the k; nan if there is none of it. There are no
    calibrated probabilities.

    Args:
        n_neighbors, weights: see `NeighborsClassifier`.

    Attributes:
        classes_, centroids_, temperature_: see `NeighborsClassifier`.
        index_: the index.
    """

    def fit_index(self, index: ShardedIndex) -> Self:
        """Learn from the labelled vectors of an index, which are read once, for the class means.

        Raises:
            InputError: a vector has no label, or k is larger than the index.
        """
        self._check_settings(len(index))
        classes, self._codes = index.read_labels()
        if n_missing := int((self._codes < 0).sum()):
            raise InputError(
                f"{index.folder}: expected a label for each of its {len(index):,} vectors; found {n_missing:,} without "
                "one; index labelled vectors only"
            )
        sums, start = np.zeros((len(classes), index.dimension)), 0
        for block in index.vector_blocks(MOST_DISTANCES // index.dimension):
            own = self._codes[start : start + len(block)]
            for column, values in enumerate(block.T):
                sums[:, column] += np.bincount(own, values, len(classes))
            start += len(block)
        self.classes_, self.n_features_in_, self.temperature_ = np.array(classes), index.dimension, 1.0
        self.centroids_ = sums / np.bincount(self._codes)[:, None]
        self._means = NearestCentroidClassifier()
        self._means.centroids_ = self.centroids_
        self.index_ = index  # type: ignore[assignment]
        return self

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Raise an InputError: the vectors of a class are not in memory."""
        raise InputError("distances to all classes need the vectors in memory; fit a NeighborsClassifier on them")

    def _distance_to(
        self, vectors: NDArray[Any], codes: NDArray[np.intp], neighbors: Neighbors | None = None
    ) -> NDArray[np.float64]:
        found = self._search(vectors) if neighbors is None else neighbors
        of_class = self._codes[found.rows] == codes[:, None]
        nearest = found.distances[np.arange(len(codes)), of_class.argmax(axis=1)].astype(np.float64)
        return np.where(of_class.any(axis=1), nearest, np.nan)
