"""Evaluate predictions: scores, reliability, rejection, and the embedding space itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from plankton_embed.classifiers.calibration import Reliability, measure_reliability
from plankton_embed.classifiers.open_set import OpenSetScores, count_predictions, score_open_set
from plankton_embed.classifiers.prediction import (
    BLOCK,
    Classifier,
    Method,
    PredictionOptions,
    predict_images,
    rejector_for,
)
from plankton_embed.classifiers.rejection import Rejector
from plankton_embed.classifiers.scoring import (
    ClassificationScores,
    find_missing,
    score_predictions,
    score_retrieval,
    self_centroid_accuracy,
)
from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN
from plankton_embed.notebook import Shown
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import Vectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """How well labelled images that are not in the reference are predicted.

    Attributes:
        scores: of the predictions, over all labelled images (with rejection: before it, and over the images of the
            reference's classes only).
        names: the predictions (see `predict_images`).
        classifier: fitted on the reference.
        missing: labels that are not in the reference, so that no prediction of their images can be right (see
            `find_missing`).
        shared: the scores over the other images, where labels are missing; None if there are no other images.
        reliability: of the probabilities without and with the temperature, where there is a calibration set.
        rejector, counts: with rejection, the fitted `Rejector` and its counts by class (see `count_predictions`).
        open_set: with rejection and missing classes, the open-set scores.
        retrieval: recall@k and MAP@R of the space; `retrieval_of` reports which vectors are queries and gallery.
        n_seen: number of images that the model was trained on; None if it is not known.
        self_centroid_accuracy: of the query on itself; too high, for comparison with the 2019 recipe only.
    """

    options: PredictionOptions
    scores: ClassificationScores
    names: pd.DataFrame
    classifier: Classifier
    missing: pd.DataFrame
    shared: ClassificationScores | None = None
    reliability: tuple[Reliability, Reliability] | None = None
    rejector: Rejector | None = None
    counts: pd.DataFrame | None = None
    open_set: OpenSetScores | None = None
    retrieval: dict[str, float] = field(default_factory=dict)
    retrieval_of: str = ""
    intervals_by: str | None = None
    n_seen: int | None = 0
    self_centroid_accuracy: float = float("nan")

    @property
    def method(self) -> Method:
        """How the images were predicted."""
        return self.options.method

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "method": self.method,
            **self.scores_dict(),
            "intervals_by": self.intervals_by or "image",
            "missing_classes": self.missing.to_dict("records"),
            "n_seen": self.n_seen,
            "retrieval": self.retrieval,
            "retrieval_of": self.retrieval_of,
            "self_centroid_accuracy": self.self_centroid_accuracy,
        }

    def scores_dict(self) -> dict[str, Any]:
        """Return the scores that depend on the method, as plain values."""
        values = self.scores.to_dict()
        if len(self.missing):
            shared = None if self.shared is None else self.shared.to_dict()
            values["shared_classes"] = shared and {name: shared[name] for name in shared if name != "per_class"}
        if self.reliability is not None:
            before, after = self.reliability
            values["calibration"] = {
                "temperature": self.classifier.temperature_,
                "ece_before": before.ece,
                "ece": after.ece,
            }
        if self.counts is not None:
            values["refusing"] = {
                "unknown_rate": None if self.rejector is None else self.rejector.rate_,
                "refuse_by": self.options.measure,
                "counts": self.counts.to_dict("records"),
            }
        if self.open_set is not None:
            values["open_set"] = self.open_set.to_dict()
        return values

    def _describe(self) -> str:
        metrics = self.scores.metrics
        shown = f"accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['f1_macro']:.3f}"
        return f"{self.method}, {len(self.names):,} images, {shown}"

    def _preview(self) -> pd.DataFrame:
        return self.scores.per_class


def evaluate_predictions(
    reference: EmbeddingTable,
    query: Vectors,
    options: PredictionOptions,
    calibration: EmbeddingTable | None,
    *,
    samples: NDArray[np.str_] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Predict the labelled rows of a query and score; the intervals draw whole `samples` (n,) where they are given."""
    reference.check_same_model(query)
    samples = None if samples is None else samples[query.is_labelled]
    query = query.select(query.is_labelled)
    if len(query) == 0:
        raise InputError(
            "the query has no labels, so there is nothing to score; classify it instead. For images from EcoTaxa only "
            "validated labels are read: --status validated,predicted takes more"
        )
    n_shared = len(set(filter(None, reference.path)) & set(query.path))
    if n_shared:
        logger.warning("%d of the query's images are in the reference too, so these scores are too good", n_shared)
    classifier = options.fit(reference, calibration, progress)
    rejector = rejector_for(options, reference, classifier, calibration)
    predictions = predict_images(classifier, query, rejector, probabilities=calibration is not None)
    forced = predictions["label" if rejector is None else "best_label"].to_numpy(dtype=str)
    rejected = (predictions["label"] == UNKNOWN).to_numpy()
    truth = query.label.astype(str)
    in_reference = np.isin(truth, reference.classes)
    scored = in_reference if rejector is not None and in_reference.any() else np.ones(len(query), dtype=bool)

    def score(rows: NDArray[np.bool_]) -> ClassificationScores:
        return score_predictions(truth[rows], forced[rows], samples=None if samples is None else samples[rows])

    scores, shared = score(scored), None
    if in_reference.any() and not in_reference.all():
        shared = scores if scored is in_reference else score(in_reference)
    return Evaluation(
        options,
        scores,
        predictions,
        classifier,
        find_missing(truth, reference.classes),
        shared=shared,
        reliability=None
        if calibration is None or not in_reference.any()
        else _measure_reliability(classifier, query.select(in_reference)),
        rejector=rejector,
        counts=None if rejector is None else count_predictions(truth, forced, rejected),
        open_set=None
        if rejector is None or in_reference.all() or not in_reference.any()
        else score_open_set(truth, forced, predictions["novelty_score"], ~in_reference, rejected),
    )


def score_space(reference: EmbeddingTable, query: Vectors, retrieval_of: str) -> dict[str, Any]:
    """Return the scores of the space itself, which do not depend on the method, as fields of `Evaluation`."""
    query = query.select(query.is_labelled)
    retrieval = score_retrieval(query, reference) if set(query.classes) & set(reference.classes) else {}
    return {
        "retrieval": retrieval,
        "retrieval_of": retrieval_of,
        "self_centroid_accuracy": self_centroid_accuracy(query),
    }


def _measure_reliability(classifier: Classifier, query: Vectors) -> tuple[Reliability, Reliability]:
    """Return the reliability of the probabilities without and with the temperature."""
    predicted, without, best = [], [], []
    for vectors in query.vector_blocks(BLOCK):
        with_temperature = classifier.predict_log_proba(vectors)
        predicted.append(with_temperature.argmax(axis=1))
        without.append(softmax(with_temperature * classifier.temperature_, axis=1).max(axis=1))
        best.append(np.exp(with_temperature).max(axis=1))
    is_right = classifier.classes_[np.concatenate(predicted)] == query.label.astype(str)
    return measure_reliability(np.concatenate(without), is_right), measure_reliability(np.concatenate(best), is_right)
