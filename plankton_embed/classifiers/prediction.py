"""Predicting the images of one table by the labelled vectors of another."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.neighbors import NeighborsClassifier
from plankton_embed.classifiers.rejection import ENOUGH, NoveltyScore, Rejector, check_measure, least_calibration
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import UNKNOWN, refuse_unknown
from plankton_embed.output import progress_bar
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

Method = Literal["centroid", "knn", "mlp"]
METHODS: tuple[Method, ...] = ("centroid", "knn", "mlp")
WITHOUT_TRAINING: tuple[Method, ...] = ("centroid", "knn")  # their reference grows by being given vectors
Classifier = NearestCentroidClassifier | NeighborsClassifier | MLPClassifier
NO_CALIBRATION = (
    "needs a calibration set: labelled vectors of images that the network was not trained on. Give one "
    "(--calibration VECTORS), or put it as val.parquet beside the reference"
)
UNKNOWN_RATE = 0.05  # where classes are withheld and no rate is asked for


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


def fit_rejector(
    reference: EmbeddingTable,
    classifier: Classifier,
    calibration: EmbeddingTable,
    rate: float = 0.05,
    measure: NoveltyScore = "neighbor",
) -> Rejector:
    """Find, for every class, from where on an image is too strange to be named.

    Args:
        reference: the table the classifier was fitted on.
        classifier: gives the calibration images their names.
        calibration: labelled vectors of images that the network was not trained on; those of other classes are left
            aside.
        rate: share of known images that may be refused.
        measure: `centroid`, `neighbor` or `density` (see `Rejector`).
    """
    reference.check_same_model(calibration, ("reference", "calibration"))
    refuse_unknown(reference.classes, "the reference")
    known = select_reference_classes(calibration, reference)
    names = classifier.predict(known.vectors) if len(known) else known.label
    rejector = Rejector(measure).fit(*_labelled(reference, "reference")).calibrate(known.vectors, names, rate)
    least = rejector.thresholds_.sort_values("n_pooled", kind="stable").iloc[0]
    if least["n_pooled"] < ENOUGH:
        logger.warning(
            "thresholds for unknown images: read from %d calibration images, fewer than %d; between %.1f and %.1f %% "
            "of the images of known classes will be rejected, where %.1f %% are wanted; give more calibration images",
            *(least["n_pooled"], ENOUGH, 100 * least["rejected_low"], 100 * least["rejected_high"], 100 * rate),
        )
    return rejector


def select_reference_classes(images: EmbeddingTable, reference: EmbeddingTable) -> EmbeddingTable:
    """Keep the labelled rows whose class the reference knows."""
    return images.select(images.is_labelled & np.isin(images.label.astype(str), reference.classes))


def _labelled(table: EmbeddingTable, name: str) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    labelled = table.labelled
    if len(labelled) == 0:
        raise InputError(f"{name}: expected labelled vectors; found none of {len(table)} with a label")
    return labelled.vectors, labelled.label.astype(str)


def predict_images(
    classifier: Classifier,
    query: EmbeddingTable,
    rejector: Rejector | None = None,
    *,
    probabilities: bool = True,
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Name every image of a table.

    Args:
        classifier: gives the names.
        query: the images.
        rejector: calls images `unknown` that are too strange; by default none is.
        probabilities: fill them in; else they are nan.
        all_probabilities: give those of every class too, in columns of their own.

    Returns:
        One row an image: `object_id`, `path`, `label` (the predicted class), `probability`, `distance` (to the class,
        as the classifier measures it: to its centroid, or for kNN to its nearest vector), the same three for the second
        best class (`second_label`, …). With a rejector `best_label` (the prediction before rejection; probability and
        distance are those of it), `novelty_score` and the `threshold` above which an image is rejected. `true_label`
        where the query has labels. With all probabilities one float64 column `p(<class>)` a class.
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
    if rejector is not None:
        names["best_label"] = names["label"]
        names["novelty_score"] = rejector.novelty_score(query.vectors, names["label"]) if len(query) else np.nan
        names["threshold"] = rejector.threshold(names["label"]) if len(query) else np.nan
        names.loc[names["novelty_score"] > names["threshold"], "label"] = UNKNOWN
    if query.is_labelled.any():
        names["true_label"] = query.label
    if all_probabilities:
        columns = [f"p({name})" for name in classifier.classes_]
        names = pd.concat([names, pd.DataFrame(np.exp(chances), columns=columns)], axis=1)
    return names


@dataclass(frozen=True)
class PredictionOptions:
    """How images get their labels: method, k of kNN, share of reference-class images that may be refused, and measure.

    `settings` are those of the run that is the reference; without a k they give it.
    """

    method: Method = "centroid"
    n_neighbors: int | None = None
    unknown_rate: float | None = None
    refuse_by: NoveltyScore | None = None
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.n_neighbors is not None and self.method != "knn":
            raise SettingError("n_neighbors (-k) is the k of kNN; give it together with method knn (--method knn)")
        if self.n_neighbors is not None and self.n_neighbors < 1:
            raise SettingError(f"n_neighbors (-k): expected at least 1; found {self.n_neighbors}")
        if self.unknown_rate is not None:
            least_calibration(self.unknown_rate)
        elif self.refuse_by is not None:
            raise SettingError("refuse_by says how to refuse; give the unknown rate too (--unknown-rate .05)")
        check_measure(self.measure)

    @property
    def measure(self) -> NoveltyScore:
        """What makes an image strange: `refuse_by`, by default `neighbor`."""
        return self.refuse_by or "neighbor"

    def fit(self, known: EmbeddingTable, calibration: EmbeddingTable | None, progress: bool = False) -> Classifier:
        """Fit the classifier; where no k is given, with that of the settings, or as many as there are vectors."""
        k = fitting_k(known, self.settings) if self.n_neighbors is None else self.n_neighbors
        if self.method == "knn":
            logger.info("k of kNN: %d", k)
        return fit_classifier(known, self.method, k, calibration, progress=progress)


def fitting_k(known: EmbeddingTable, settings: Settings) -> int:
    """Return k of the settings, or the size of a reference that is smaller."""
    return max(1, min(settings.classification.n_neighbors, int(known.is_labelled.sum())))


def rejector_for(
    options: PredictionOptions, known: EmbeddingTable, classifier: Classifier, calibration: EmbeddingTable | None
) -> Rejector | None:
    """Return what rejects images as `options` says; None where it rejects none."""
    if options.unknown_rate is None:
        return None
    if calibration is None:
        raise InputError(f"refusing {NO_CALIBRATION}")
    return fit_rejector(known, classifier, calibration, options.unknown_rate, options.measure)


def describe_predictions(classifier: Classifier, measures: Rejector, table: EmbeddingTable) -> pd.DataFrame:
    """Return `best_label`, `probability`, `novelty_score` and `threshold` of the images of a table, for `find_shift`.

    No image is rejected: the thresholds are infinite.
    """
    order, logs = classifier.assess(table.vectors)
    best = classifier.classes_[order[:, 0]]
    return pd.DataFrame({
        "best_label": best,
        "probability": np.exp(logs.max(axis=1)),
        "novelty_score": measures.novelty_score(table.vectors, best),
        "threshold": np.inf,
    })  # fmt: skip


def predict_out_of_fold(table: EmbeddingTable, n_folds: int, seed: int, progress: bool) -> NDArray[np.float64] | None:
    """Return the probabilities of all classes for every image, from a head that had not learned from it.

    None where every class has but one image, so that no head can learn it from others.
    """
    labels = table.label.astype(str)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"suspects need labelled images of at least 2 classes; found {len(classes)}")
    if counts.max() < 2:
        logger.warning("every class has one image; the head's loss is left out")
        return None
    n_folds = min(n_folds, int(counts.max()))
    probabilities = np.full((len(table), len(classes)), 1 / len(classes))  # of a class that nobody could learn
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is in some of the folds only
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels))
    for learned, held in progress_bar(folds, "folds", "fold", shown=progress):
        head = MLPClassifier().fit(table.vectors[learned], labels[learned])
        could = held[np.isin(labels[held], head.classes_)]
        probabilities[could] = 0
        probabilities[could[:, None], np.searchsorted(classes, head.classes_)] = head.predict_proba(
            table.vectors[could]
        )
    return probabilities
