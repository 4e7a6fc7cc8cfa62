"""Nearest-centroid classifier: predicts the class with the nearest mean vector."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.utils.validation import check_is_fitted

from plankton_embed.classifiers.calibrated import CalibratedClassifier, Labelled
from plankton_embed.table import class_means


class NearestCentroidClassifier(CalibratedClassifier):
    """Classify by the Euclidean distance to class means.

    A centroid is the mean of the class's vectors, not renormalised. Probabilities are the softmax of the negative
    squared distances over the temperature, as for spherical classes of one width.

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d).
        radii_: (C,) mean distance of a class's vectors to its centroid.
        counts_: (C,) number of vectors of each class.
        temperature_: the negative squared distances are divided by it.
    """

    def _learn(self, images: Labelled, calibration: Labelled | None) -> None:
        vectors, codes = images
        self.counts_ = np.bincount(codes)
        self.centroids_ = class_means(vectors, codes)
        to_own = np.linalg.norm(vectors - self.centroids_[codes], axis=1)
        self.radii_ = np.bincount(codes, weights=to_own) / self.counts_

    def _logits(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(-cdist(vectors, self.centroids_, "sqeuclidean"))

    def centroid_distances(self) -> pd.DataFrame:
        """Return the distances between all centroids, (C, C), by class name."""
        check_is_fitted(self)
        return pd.DataFrame(cdist(self.centroids_, self.centroids_), self.classes_, self.classes_)

    def class_table(self) -> pd.DataFrame:
        """Return one row per class: label, count, radius, and the nearest other class with its distance."""
        between = self.centroid_distances().to_numpy(copy=True)
        np.fill_diagonal(between, np.inf)
        table = pd.DataFrame({"label": self.classes_, "count": self.counts_, "radius": self.radii_})
        if len(self.classes_) > 1:
            table["nearest_class"] = self.classes_[between.argmin(axis=1)]
            table["nearest_distance"] = between.min(axis=1)
        return table
