"""Nearest centroid: an image takes the name of the class whose mean vector is nearest."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class NearestCentroidClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify by the Euclidean distance to class means.

    A centroid is the mean of the class's vectors, not renormalised.

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d).
        radii_: (C,) mean distance of a class's vectors to its centroid.
        counts_: (C,) vectors a class.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Compute the centroids of vectors X (n, d) with class names y (n,)."""
        vectors, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.counts_ = np.bincount(codes)
        sums = np.zeros((len(self.classes_), vectors.shape[1]))
        np.add.at(sums, codes, vectors)
        self.centroids_ = sums / self.counts_[:, None]
        to_own = np.linalg.norm(vectors - self.centroids_[codes], axis=1)
        self.radii_ = np.bincount(codes, weights=to_own) / self.counts_
        return self

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each vector to every centroid, (n, C), in the order of `classes_`."""
        check_is_fitted(self)
        vectors = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray(cdist(vectors, self.centroids_))

    def rank(self, X: ArrayLike) -> NDArray[np.intp]:
        """Return the codes of all classes for each vector, (n, C), best first."""
        return np.argsort(self.distances(X), axis=1, kind="stable")

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class name of each vector, (n,)."""
        nearest = self.distances(X).argmin(axis=1)
        return np.asarray(self.classes_[nearest])

    def centroid_distances(self) -> pd.DataFrame:
        """Return the distances between all centroids, (C, C), by class name."""
        check_is_fitted(self)
        return pd.DataFrame(cdist(self.centroids_, self.centroids_), self.classes_, self.classes_)

    def class_table(self) -> pd.DataFrame:
        """Return one row a class: label, count, radius, and the nearest other class with its distance."""
        between = self.centroid_distances().to_numpy(copy=True)
        np.fill_diagonal(between, np.inf)
        table = pd.DataFrame({"label": self.classes_, "count": self.counts_, "radius": self.radii_})
        if len(self.classes_) > 1:
            table["nearest_class"] = self.classes_[between.argmin(axis=1)]
            table["nearest_distance"] = between.min(axis=1)
        return table
