"""k nearest neighbours, by FAISS: an image takes the name that most of its neighbours bear."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from plankton_embed.errors import InputError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

MOST_DISTANCES = 2**24  # held in memory at a time


class NeighborsClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify by the majority of the k nearest vectors; ties go to the class whose mean is nearer.

    Args:
        n_neighbors: k.

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d), the class means that settle ties.
        index_: the `VectorIndex` over the training vectors.
    """

    def __init__(self, n_neighbors: int = 10):
        self.n_neighbors = n_neighbors

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Index vectors X (n, d) with class names y (n,).

        Raises:
            InputError: n_neighbors is below 1 or above n.
        """
        vectors, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        if not 1 <= self.n_neighbors <= len(vectors):
            n = len(vectors)
            raise InputError(f"n_neighbors: expected 1 to {n}, as n_samples={n}; found {self.n_neighbors}")
        self.classes_, self._codes = np.unique(labels, return_inverse=True)
        sums = np.zeros((len(self.classes_), vectors.shape[1]))
        np.add.at(sums, self._codes, vectors)
        self.centroids_ = sums / np.bincount(self._codes)[:, None]
        self.index_ = VectorIndex.build(EmbeddingTable(vectors))
        return self

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each vector to the nearest vector of every class, (n, C)."""
        check_is_fitted(self)
        vectors = validate_data(self, X, dtype=np.float32, reset=False)
        order = np.argsort(self._codes, kind="stable")
        reference = self.index_.table.vectors[order]
        starts = np.searchsorted(self._codes[order], np.arange(len(self.classes_)))
        nearest = np.empty((len(vectors), len(self.classes_)))
        n_at_once = max(1, MOST_DISTANCES // len(reference))
        for start in range(0, len(vectors), n_at_once):
            block = slice(start, start + n_at_once)
            nearest[block] = np.minimum.reduceat(cdist(vectors[block], reference), starts, axis=1)
        return nearest

    def rank(self, X: ArrayLike) -> NDArray[np.intp]:
        """Return the codes of all classes for each vector, (n, C): by votes, then by nearness of the class mean."""
        check_is_fitted(self)
        vectors = validate_data(self, X, dtype=np.float32, reset=False)
        voters = self._codes[self.index_.search(vectors, self.n_neighbors).rows]
        cells = np.arange(len(vectors))[:, None] * len(self.classes_) + voters
        votes = np.bincount(cells.ravel(), minlength=len(vectors) * len(self.classes_)).reshape(len(vectors), -1)
        return np.lexsort((cdist(vectors, self.centroids_), -votes), axis=1)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class name of each vector, (n,)."""
        best = self.rank(X)[:, 0]
        return np.asarray(self.classes_[best])
