"""k nearest neighbours, by FAISS: an image takes the name that most of its neighbours bear."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from plankton_embed.classifiers.calibration import CalibratedClassifier, Labelled
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

MOST_DISTANCES = 2**24  # held in memory at a time
SHARED_VOTE = 0.99  # divided among the classes; below 1, so that it settles ties and nothing else

Weights = Literal["uniform", "distance"]


class NeighborsClassifier(CalibratedClassifier):
    """Classify by the majority of the k nearest vectors; ties go to the class whose mean is nearer.

    Probabilities: the votes, and almost a whole vote more that is divided among the classes as their means are near
    (less where votes lie nearer together, so that it never turns the order), to the power of 1 / temperature.

    Args:
        n_neighbors: k.
        weights: `uniform`, or `distance`: a neighbour's vote weighs the inverse of its distance; neighbours at
            distance 0, if any, then vote alone.

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d), the class means that settle ties.
        index_: the `VectorIndex` over the training vectors.
        temperature_: what the logarithms of the votes are divided by.
    """

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
        self._means = NearestCentroidClassifier().fit(vectors, self._codes, calibration)
        self.index_ = VectorIndex.build(EmbeddingTable(vectors))

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each vector to the nearest vector of every class, (n, C)."""
        vectors = self._check_query(X).astype(np.float32)
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
        vectors = self._check_query(X)
        return np.lexsort((cdist(vectors, self.centroids_), -self._votes(vectors)), axis=1)

    def _votes(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n, C) votes; those of a row add up to k."""
        k = min(self.n_neighbors, len(self.index_))
        found = self.index_.search(vectors.astype(np.float32), k)
        if self.weights == "distance":
            nearest = found.distances[:, :1].astype(float)
            with np.errstate(divide="ignore", invalid="ignore"):
                weight = np.where(nearest > 0, nearest / found.distances, found.distances == 0)
            weight *= k / weight.sum(axis=1, keepdims=True)
        else:
            weight = np.ones(found.rows.shape)
        cells = np.arange(len(vectors))[:, None] * len(self.classes_) + self._codes[found.rows]
        votes = np.bincount(cells.ravel(), weight.ravel(), minlength=len(vectors) * len(self.classes_))
        return np.asarray(votes, dtype=np.float64).reshape(len(vectors), -1)

    def _logits(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        votes = self._votes(vectors)
        steps = np.diff(np.sort(votes, axis=1), axis=1)
        smallest = np.where(steps > 0, steps, 1).min(axis=1, initial=1, keepdims=True)
        means = self._means.predict_log_proba(vectors)
        with np.errstate(divide="ignore"):
            return np.asarray(np.logaddexp(np.log(votes), means + np.log(SHARED_VOTE * smallest)))
