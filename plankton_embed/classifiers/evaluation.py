"""How right predictions are: scores, reliability, rejection, and the space itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from plankton_embed.classifiers.calibration import Reliability, measure_reliability
from plankton_embed.classifiers.open_set import OpenSetScores, count_names, score_open_set
from plankton_embed.classifiers.prediction import Classifier, Method, PredictionOptions, predict_images, rejector_for
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """How well labelled images are predicted that the reference has not seen.

    `scores` of the predictions, over all labelled images (where images may be refused: before any is, and over those
    of the reference's classes alone). `missing`: the labels that the reference lacks, whose images no prediction can
    get right (see `find_missing`); where there are such, `shared`: the scores over the other images, None without any.
    The `names` given; the fitted `classifier`; where there is a calibration set, `reliability` of the probabilities,
    without and with their temperature; where images may be refused, the `rejector` and the `counts` by class; where
    classes are unseen, `open_set`. Of the space itself: `retrieval` (recall@k and MAP@R; `retrieval_of` names queries
    and gallery) and the `self_centroid_accuracy` of the query on itself (flattering; for comparison with the 2019
    recipe only).
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
    self_centroid_accuracy: float = float("nan")

    @property
    def method(self) -> Method:
        """How the images were named."""
        return self.options.method

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "method": self.method,
            **self.scores_dict(),
            "intervals_by": self.intervals_by or "image",
            "missing_classes": self.missing.to_dict("records"),
            "retrieval": self.retrieval,
            "retrieval_of": self.retrieval_of,
            "self_centroid_accuracy": self.self_centroid_accuracy,
        }

    def scores_dict(self) -> dict[str, Any]:
        """Return what depends on the method, as plain values."""
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
                "unknown_rate": self.options.unknown_rate,
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
    known: EmbeddingTable,
    query: EmbeddingTable,
    options: PredictionOptions,
    calibration: EmbeddingTable | None,
    *,
    samples: NDArray[np.str_] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Predict the labelled rows of one table by those of another, and score; intervals draw whole `samples` (n,)."""
    known.check_same_model(query)
    samples = None if samples is None else samples[query.is_labelled]
    query = query.select(query.is_labelled)
    if len(query) == 0:
        raise InputError(
            "the query has no labels, so there is nothing to score against; classify it instead. Of images from "
            "EcoTaxa, labels are validated names alone: --status validated,predicted takes more"
        )
    n_shared = len(_paths(known) & _paths(query))
    if n_shared:
        logger.warning("%d of the query's images are in the reference too, so these scores are too good", n_shared)
    classifier = options.fit(known, calibration, progress)
    rejector = rejector_for(options, known, classifier, calibration)
    names = predict_images(classifier, query, rejector, probabilities=calibration is not None)
    forced = names["label" if rejector is None else "best_label"].to_numpy(dtype=str)
    refused = (names["label"] == UNKNOWN).to_numpy()
    truth = query.label.astype(str)
    is_known = np.isin(truth, known.classes)
    scored = is_known if rejector is not None and is_known.any() else np.ones(len(query), dtype=bool)

    def score(rows: NDArray[np.bool_]) -> ClassificationScores:
        return score_predictions(truth[rows], forced[rows], samples=None if samples is None else samples[rows])

    scores, shared = score(scored), None
    if is_known.any() and not is_known.all():
        shared = scores if scored is is_known else score(is_known)
    return Evaluation(
        options,
        scores,
        names,
        classifier,
        find_missing(truth, known.classes),
        shared=shared,
        reliability=None
        if calibration is None or not is_known.any()
        else _measure_reliability(classifier, query.select(is_known)),
        rejector=rejector,
        counts=None if rejector is None else count_names(truth, forced, refused),
        open_set=None
        if rejector is None or is_known.all() or not is_known.any()
        else score_open_set(truth, forced, names["novelty_score"], ~is_known, refused),
    )


def score_space(known: EmbeddingTable, query: EmbeddingTable, retrieval_of: str) -> dict[str, Any]:
    """Return the scores of the space itself, whatever the method: those of `Evaluation` and what they are of."""
    query = query.select(query.is_labelled)
    retrieval = score_retrieval(query, known) if set(query.classes) & set(known.classes) else {}
    return {
        "retrieval": retrieval,
        "retrieval_of": retrieval_of,
        "self_centroid_accuracy": self_centroid_accuracy(query),
    }


def _measure_reliability(classifier: Classifier, query: EmbeddingTable) -> tuple[Reliability, Reliability]:
    """Compare probability and accuracy, without and with the temperature."""
    with_temperature = classifier.predict_log_proba(query.vectors)
    without = softmax(with_temperature * classifier.temperature_, axis=1)
    is_right = classifier.classes_[with_temperature.argmax(axis=1)] == query.label.astype(str)
    return (
        measure_reliability(without.max(axis=1), is_right),
        measure_reliability(np.exp(with_temperature).max(axis=1), is_right),
    )


def _paths(table: EmbeddingTable) -> set[str]:
    return {path for path in table.path if path}
