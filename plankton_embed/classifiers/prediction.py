"""Predict the images of one table by the labelled vectors of another."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
from plankton_embed.classifiers.unknown_rate import choose_unknown_rate, score_unknown_rates
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import UNKNOWN, refuse_unknown
from plankton_embed.output import progress_bar
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import Vectors, VectorShards

logger = logging.getLogger(__name__)

Method = Literal["centroid", "knn", "mlp"]
METHODS: tuple[Method, ...] = ("centroid", "knn", "mlp")
WITHOUT_TRAINING: tuple[Method, ...] = ("centroid", "knn")  # to add vectors to their reference takes no training
UnknownRate = float | Literal["auto"]
Classifier = NearestCentroidClassifier | NeighborsClassifier | MLPClassifier
NO_CALIBRATION = (
    "needs a calibration set: labelled vectors of images that the network was not trained on. Give one "
    "(--calibration VECTORS), or put it as val.parquet beside the reference"
)
BLOCK = 2**14  # images whose probabilities of all classes are in memory at a time
MANY = 100_000  # images of a fold's head, from which on a small one finds as many wrong labels
SMALL_HEAD: dict[str, Any] = {"hidden": (256, 256), "epochs": 3, "batch_size": 512, "learning_rate": 6e-3}
UNKNOWN_RATE = 0.05  # where classes are withheld and no rate is given


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
        reference: labelled vectors; unlabelled rows are left out.
        method: `centroid`, `knn` or `mlp`.
        n_neighbors: k of kNN; at most the labelled rows.
        calibration: labelled vectors of images that the network was not trained on; without them the probabilities have
            no meaning. The MLP also stops its training by them, or by a tenth of the reference otherwise.
        progress: show a bar while the MLP is trained.

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
    """Find the threshold of the novelty score of every class, above which its images are rejected.

    Args:
        reference: the table the classifier was fitted on.
        classifier: predicts the calibration images.
        calibration: labelled vectors of images that the network was not trained on; those of classes that are not in
            the reference are left out.
        rate: share of the images of known classes that may be rejected.
        measure: `centroid`, `neighbor` or `density` (see `Rejector`).
    """
    reference.check_same_model(calibration, ("reference", "calibration"))
    refuse_unknown(reference.classes, "the reference")
    calibration = select_reference_classes(calibration, reference)
    predicted = classifier.predict(calibration.vectors) if len(calibration) else calibration.label
    rejector = Rejector(measure).fit(*_labelled(reference, "reference")).calibrate(calibration.vectors, predicted, rate)
    least = rejector.thresholds_.sort_values("n_pooled", kind="stable").iloc[0]
    if least["n_pooled"] < ENOUGH:
        logger.warning(
            "thresholds for unknown images: read from %d calibration images, fewer than %d; between %.1f and %.1f %% "
            "of the images of known classes will be rejected (the target is %.1f %%); give more calibration images",
            *(least["n_pooled"], ENOUGH, 100 * least["rejected_low"], 100 * least["rejected_high"], 100 * rate),
        )
    return rejector


def select_reference_classes(images: EmbeddingTable, reference: EmbeddingTable) -> EmbeddingTable:
    """Return the labelled rows whose class is in the reference."""
    return images.select(images.is_labelled & np.isin(images.label.astype(str), reference.classes))


def _labelled(table: EmbeddingTable, name: str) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    labelled = table.labelled
    if len(labelled) == 0:
        raise InputError(f"{name}: expected labelled vectors; found none of {len(table)} with a label")
    return labelled.vectors, labelled.label.astype(str)


def predict_images(
    classifier: Classifier,
    query: Vectors,
    rejector: Rejector | None = None,
    *,
    probabilities: bool = True,
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Predict the class of every image of a table.

    Args:
        classifier: makes the predictions.
        query: the images.
        rejector: labels images `unknown` whose novelty score is too high; by default no image is rejected.
        probabilities: fill in the probabilities; otherwise they are nan.
        all_probabilities: add the probabilities of every class, in columns of their own.

    Returns:
        One row per image: `object_id`, `path`, `label` (the predicted class), `probability`, `distance` (to the class,
        as the classifier measures it: to its centroid, or for kNN to its nearest vector), the same three for the second
        best class (`second_label`, …). With a rejector `best_label` (the prediction before rejection, which
        probability and distance belong to), `novelty_score` and the `threshold` above which an image is rejected.
        `true_label` where the query has labels. With all probabilities one float64 column `p(<class>)` per class.
    """
    blocks = predict_in_blocks(
        classifier, query, rejector, probabilities=probabilities, all_probabilities=all_probabilities
    )
    return pd.concat(list(blocks))


def predict_in_blocks(
    classifier: Classifier,
    query: Vectors,
    rejector: Rejector | None = None,
    *,
    probabilities: bool = True,
    all_probabilities: bool = False,
    with_truth: bool | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `predict_images`, 16,384 at a time; at least one block, which may be empty.

    `with_truth`: whether there is a column `true_label`; by default if the query has labels.
    """
    with_truth = bool(query.is_labelled.any()) if with_truth is None else with_truth
    if isinstance(query, VectorShards):
        start = 0
        for table in query.blocks(BLOCK):
            for block in predict_in_blocks(
                classifier,
                table,
                rejector,
                probabilities=probabilities,
                all_probabilities=all_probabilities,
                with_truth=with_truth,
            ):
                yield block.set_axis(range(start, start := start + len(block)))
        return
    given = pd.DataFrame({"object_id": query.object_id, "path": query.path})
    if with_truth:
        given["true_label"] = query.label
    names = pd.Series(classifier.classes_).array
    n_best = min(2, len(names))
    for start in range(0, max(len(query), 1), BLOCK):
        vectors = query.vectors[start : start + BLOCK]
        codes, logs = np.empty((0, n_best), dtype=np.intp), np.empty((0, len(names)))
        distances = np.empty((0, n_best))
        if len(vectors):
            codes, logs, distances = classifier.assess_best(vectors, n_best)
        block = given.iloc[start : start + BLOCK]
        predictions = block[["object_id", "path"]].copy()
        for rank, prefix in enumerate(("", "second_")):
            exists = rank < n_best
            predictions[f"{prefix}label"] = names.take(codes[:, rank]) if exists else None
            chosen = np.take_along_axis(logs, codes[:, [rank]], axis=1)[:, 0] if exists and probabilities else np.nan
            predictions[f"{prefix}probability"] = np.exp(chosen)
            predictions[f"{prefix}distance"] = distances[:, rank] if exists else np.nan
        if rejector is not None:
            labels = predictions["label"].copy()
            predictions["best_label"] = labels
            predictions["novelty_score"] = rejector.novelty_score(vectors, labels) if len(vectors) else np.nan
            predictions["threshold"] = rejector.threshold(labels) if len(vectors) else np.nan
            predictions.loc[predictions["novelty_score"] > predictions["threshold"], "label"] = UNKNOWN
        if "true_label" in block:
            predictions["true_label"] = block["true_label"]
        if all_probabilities:
            columns = [f"p({name})" for name in names]
            predictions = pd.concat([predictions, pd.DataFrame(np.exp(logs), predictions.index, columns)], axis=1)
        yield predictions


@dataclass(frozen=True)
class PredictionOptions:
    """How images are predicted: method, k of kNN, share of reference-class images that may be rejected, novelty score.

    `settings` are those of the reference's run; they give k where `n_neighbors` is None.
    """

    method: Method = "centroid"
    n_neighbors: int | None = None
    unknown_rate: UnknownRate | None = None
    refuse_by: NoveltyScore | None = None
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.n_neighbors is not None and self.method != "knn":
            raise SettingError("n_neighbors (-k) is the k of kNN; give it together with method knn (--method knn)")
        if self.n_neighbors is not None and self.n_neighbors < 1:
            raise SettingError(f"n_neighbors (-k): expected at least 1; found {self.n_neighbors}")
        if isinstance(self.unknown_rate, str):
            if self.unknown_rate != "auto":
                raise SettingError(f"unknown rate: expected a share such as 0.05, or auto; found {self.unknown_rate!r}")
        elif self.unknown_rate is not None:
            least_calibration(self.unknown_rate)
        elif self.refuse_by is not None:
            raise SettingError(
                "refuse_by is the novelty score of the rejection; give the unknown rate too (--unknown-rate .05)"
            )
        check_measure(self.measure)

    @property
    def measure(self) -> NoveltyScore:
        """The novelty score: `refuse_by`, by default `neighbor`."""
        return self.refuse_by or "neighbor"

    def fit(self, reference: EmbeddingTable, calibration: EmbeddingTable | None, progress: bool = False) -> Classifier:
        """Fit the classifier; without `n_neighbors` k is that of the settings, at most the number of vectors."""
        k = fitting_k(reference, self.settings) if self.n_neighbors is None else self.n_neighbors
        if self.method == "knn":
            logger.info("k of kNN: %d", k)
        return fit_classifier(reference, self.method, k, calibration, progress=progress)

    def fit_part(self, part: EmbeddingTable) -> Classifier:
        """Fit the classifier to a part of a reference; k is at most the number of its vectors."""
        few = self.n_neighbors is not None and self.n_neighbors > len(part)
        return (replace(self, n_neighbors=len(part)) if few else self).fit(part, None)


def fitting_k(reference: EmbeddingTable, settings: Settings) -> int:
    """Return k of the settings, but at most the number of labelled vectors in the reference."""
    return max(1, min(settings.classification.n_neighbors, int(reference.is_labelled.sum())))


def rejector_for(
    options: PredictionOptions, reference: EmbeddingTable, classifier: Classifier, calibration: EmbeddingTable | None
) -> Rejector | None:
    """Return the rejector that the options ask for; None without an unknown rate."""
    if options.unknown_rate is None:
        return None
    if calibration is None:
        raise InputError(f"refusing {NO_CALIBRATION}")
    rate = options.unknown_rate
    if rate == "auto":
        own = select_reference_classes(calibration, reference)
        scores = score_unknown_rates(reference, own, options.fit_part, options.measure)
        rate = choose_unknown_rate(scores)
        error = scores["bray_curtis"].min()
        logger.info(
            "unknown rate: %g, at which the composition of the calibration images has the smallest error (Bray-Curtis "
            "dissimilarity %.3f) when some of their classes are unknown",
            *(rate, error),
        )
    return fit_rejector(reference, classifier, calibration, rate, options.measure)


def describe_predictions(classifier: Classifier, measures: Rejector, table: EmbeddingTable) -> pd.DataFrame:
    """Return `best_label`, `probability`, `novelty_score` and `threshold` of the images of a table, for `find_shift`.

    No image is rejected: the thresholds are infinite.
    """
    blocks = []
    for start in range(0, max(len(table), 1), BLOCK):
        vectors = table.vectors[start : start + BLOCK]
        order, logs = classifier.assess(vectors)
        best = classifier.classes_[order[:, 0]]
        blocks.append(
            pd.DataFrame({
                "best_label": best,
                "probability": np.exp(logs.max(axis=1)),
                "novelty_score": measures.novelty_score(vectors, best),
                "threshold": np.inf,
            })
        )  # fmt: skip
    return pd.concat(blocks, ignore_index=True)


def predict_out_of_fold(table: EmbeddingTable, n_folds: int, seed: int, progress: bool) -> NDArray[np.float64] | None:
    """Return the probabilities of all classes for every image, from a head that was not trained on it.

    None if every class has a single image, as no head can then be trained on others of it.
    """
    labels = table.label.astype(str)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"suspects need labelled images of at least 2 classes; found {len(classes)}")
    if counts.max() < 2:
        logger.warning("every class has one image; the head's loss is left out")
        return None
    n_folds = min(n_folds, int(counts.max()))
    probabilities = np.full((len(table), len(classes)), 1 / len(classes))  # kept if no other fold has the class
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is in some folds only
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels))
    for train_rows, left_out in progress_bar(folds, "folds", "fold", shown=progress):
        head = MLPClassifier(**(SMALL_HEAD if len(train_rows) >= MANY else {}))
        head.fit(table.vectors[train_rows], labels[train_rows])
        rows = left_out[np.isin(labels[left_out], head.classes_)]
        probabilities[rows] = 0
        probabilities[rows[:, None], np.searchsorted(classes, head.classes_)] = head.predict_proba(table.vectors[rows])
    return probabilities
