"""Names for the images of one table from the labelled vectors of another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.classifiers.neighbors import NeighborsClassifier
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

Method = Literal["centroid", "knn"]
METHODS: tuple[Method, ...] = ("centroid", "knn")
Classifier = NearestCentroidClassifier | NeighborsClassifier


def fit_classifier(reference: EmbeddingTable, method: Method = "centroid", n_neighbors: int = 10) -> Classifier:
    """Fit a classifier on the labelled rows of a table.

    Args:
        reference: labelled vectors; unlabelled rows are left aside.
        method: `centroid` or `knn`.
        n_neighbors: k of kNN; at most the labelled rows.

    Raises:
        SettingError: an unknown method.
        InputError: no row has a label, or k is too large.
    """
    if method == "centroid":
        return fit_centroids(reference)
    if method == "knn":
        return NeighborsClassifier(n_neighbors).fit(*_labelled(reference))
    raise SettingError(f"method: expected one of {', '.join(METHODS)}; found {method!r}")


def fit_centroids(reference: EmbeddingTable) -> NearestCentroidClassifier:
    """Fit the nearest-centroid classifier on the labelled rows of a table."""
    return NearestCentroidClassifier().fit(*_labelled(reference))


def _labelled(reference: EmbeddingTable) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    labelled = reference.select(reference.is_labelled)
    if len(labelled) == 0:
        raise InputError("the reference has no labelled vectors, so it cannot name anything")
    return labelled.vectors, labelled.label.astype(str)


def name_images(classifier: Classifier, query: EmbeddingTable) -> pd.DataFrame:
    """Name every image of a table.

    Returns:
        One row an image: `object_id`, `path`, `label` (the name given), `distance` (to it, as the classifier measures:
        the centroid, or the nearest vector of the class), `second_label`, `second_distance`, and `true_label` where
        the query has labels.
    """
    order = classifier.rank(query.vectors) if len(query) else np.empty((0, len(classifier.classes_)), dtype=int)
    distances = classifier.distances(query.vectors) if len(query) else np.empty(order.shape)
    names = pd.DataFrame({"object_id": query.object_id, "path": query.path})
    rows = np.arange(len(query))
    for prefix, place in (("", 0), ("second_", 1)):
        known = place < order.shape[1]
        names[f"{prefix}label"] = classifier.classes_[order[:, place]] if known else None
        names[f"{prefix}distance"] = distances[rows, order[:, place]] if known else np.nan
    if query.is_labelled.any():
        names["true_label"] = query.label
    return names
