"""Names for the images of one table from the labelled vectors of another."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.neighbors import NeighborsClassifier
from plankton_embed.classifiers.refusal import ENOUGH, RefusalMeasure, Refuser
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import UNKNOWN, refuse_unknown
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

Method = Literal["centroid", "knn", "mlp"]
METHODS: tuple[Method, ...] = ("centroid", "knn", "mlp")
WITHOUT_TRAINING: tuple[Method, ...] = ("centroid", "knn")  # their reference grows by being given vectors
Classifier = NearestCentroidClassifier | NeighborsClassifier | MLPClassifier


def fit_classifier(
    reference: EmbeddingTable,
    method: Method = "centroid",
    n_neighbors: int = 10,
    calibration: EmbeddingTable | None = None,
    *,
    progress: bool = False,
) -> Classifier:
    """Fit a classifier on the labelled rows of a table.

    Args:
        reference: labelled vectors; unlabelled rows are left aside.
        method: `centroid`, `knn` or `mlp`.
        n_neighbors: k of kNN; at most the labelled rows.
        calibration: labelled vectors of images that the network was not trained on, for the probabilities (and for the
            MLP to know when to stop, which takes a tenth of the reference otherwise); without it they mean nothing.
        progress: show a bar while the MLP learns.

    Raises:
        SettingError: an unknown method.
        MismatchError: reference and calibration were made by different models.
        InputError: no row has a label, no calibration image is of a class of the reference, or k is too large.
    """
    classifiers: dict[str, Any] = {
        "centroid": NearestCentroidClassifier,
        "knn": partial(NeighborsClassifier, n_neighbors),
        "mlp": partial(MLPClassifier, progress=progress),
    }
    if method not in classifiers:
        raise SettingError(f"method: expected one of {', '.join(METHODS)}; found {method!r}")
    classifier: Classifier = classifiers[method]()
    images = _labelled(reference, "reference")
    if calibration is None:
        return classifier.fit_names(*images)
    reference.check_same_model(calibration, ("reference", "calibration"))
    return classifier.fit(*images, _labelled(calibration, "calibration set"))


def fit_refuser(
    reference: EmbeddingTable,
    classifier: Classifier,
    calibration: EmbeddingTable,
    rate: float = 0.05,
    measure: RefusalMeasure = "neighbor",
) -> Refuser:
    """Find, for every class, from where on an image is too strange to be named.

    Args:
        reference: the table the classifier was fitted on.
        classifier: gives the calibration images their names.
        calibration: labelled vectors of images that the network was not trained on; those of other classes are left
            aside.
        rate: share of known images that may be refused.
        measure: `centroid`, `neighbor` or `density` (see `Refuser`).
    """
    reference.check_same_model(calibration, ("reference", "calibration"))
    refuse_unknown(reference.classes, "the reference")
    known = select_known(calibration, reference)
    names = classifier.predict(known.vectors) if len(known) else known.label
    refuser = Refuser(measure).fit(*_labelled(reference, "reference")).calibrate(known.vectors, names, rate)
    least = refuser.thresholds_.sort_values("n_pooled", kind="stable").iloc[0]
    if least["n_pooled"] < ENOUGH:
        logger.warning(
            "thresholds for unknown images: read from %d calibration images, fewer than %d; between %.1f and %.1f %% "
            "of the images of known classes will be rejected, where %.1f %% are wanted; give more calibration images",
            *(least["n_pooled"], ENOUGH, 100 * least["rejected_low"], 100 * least["rejected_high"], 100 * rate),
        )
    return refuser


def select_known(images: EmbeddingTable, reference: EmbeddingTable) -> EmbeddingTable:
    """Keep the labelled rows whose class the reference knows."""
    return images.select(images.is_labelled & np.isin(images.label.astype(str), reference.classes))


def _labelled(table: EmbeddingTable, name: str) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    labelled = table.select(table.is_labelled)
    if len(labelled) == 0:
        raise InputError(f"{name}: expected labelled vectors; found none of {len(table)} with a label")
    return labelled.vectors, labelled.label.astype(str)


def name_images(
    classifier: Classifier,
    query: EmbeddingTable,
    refuser: Refuser | None = None,
    *,
    probabilities: bool = True,
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Name every image of a table.

    Args:
        classifier: gives the names.
        query: the images.
        refuser: calls images `unknown` that are too strange; by default none is.
        probabilities: fill them in; else they are nan.
        all_probabilities: give those of every class too, in columns of their own.

    Returns:
        One row an image: `object_id`, `path`, `label` (the name given), `probability`, `distance` (to the class, as the
        classifier measures: to its centroid, or for kNN to its nearest vector), the same three of the second guess
        (`second_label`, …); with a refuser `best_label` (the name where none may be refused; probability and distance
        stay those of it), `strangeness` and the `threshold` above which it is refused; `true_label` where the query has
        labels; and with all probabilities one column `p(<class>)` a class, float64.
    """
    n_classes = len(classifier.classes_)
    order, chances = np.empty((0, n_classes), dtype=int), np.empty((0, n_classes))
    if len(query):
        order, chances = classifier.assess(query.vectors)
    names = pd.DataFrame({"object_id": query.object_id, "path": query.path})
    rows = np.arange(len(query))
    for prefix, place in (("", 0), ("second_", 1)):
        known = place < n_classes
        codes = order[:, place if known else 0]
        names[f"{prefix}label"] = classifier.classes_[codes] if known else None
        names[f"{prefix}probability"] = np.exp(chances[rows, codes]) if known and probabilities else np.nan
        names[f"{prefix}distance"] = classifier.distance_to(query.vectors, codes) if known and len(query) else np.nan
    if refuser is not None:
        names["best_label"] = names["label"]
        names["strangeness"] = refuser.strangeness(query.vectors, names["label"]) if len(query) else np.nan
        names["threshold"] = refuser.threshold(names["label"]) if len(query) else np.nan
        names.loc[names["strangeness"] > names["threshold"], "label"] = UNKNOWN
    if query.is_labelled.any():
        names["true_label"] = query.label
    if all_probabilities:
        columns = [f"p({name})" for name in classifier.classes_]
        names = pd.concat([names, pd.DataFrame(np.exp(chances), columns=columns)], axis=1)
    return names
