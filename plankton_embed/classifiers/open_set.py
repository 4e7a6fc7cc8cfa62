"""Open-set scores: are images of unseen classes rejected, and how does rejection change the counts?"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN


@dataclass(frozen=True)
class OpenSetScores:
    """How well images of unseen classes are separated from those of known classes.

    `auroc`: probability that an unseen image has a higher novelty score than a known one. `fpr_at_95`: share of unseen
    images accepted when 95 % of the known ones are; `refused_at_5` is 1 minus that. `oscr`: area under `curve`, whose
    rows are the share of unseen images accepted and the share of known images accepted and predicted right, over all
    thresholds (Dhamija et al. 2018, arXiv 1811.04110). These use one threshold for all images; `known_refused` and
    `unseen_refused` are the rejected shares at the thresholds in use, one per class.
    """

    n_known: int
    n_unseen: int
    auroc: float
    fpr_at_95: float
    oscr: float
    known_refused: float
    unseen_refused: float
    curve: pd.DataFrame

    @property
    def refused_at_5(self) -> float:
        """Share of unseen images rejected when 5 % of the known ones are."""
        return 1 - self.fpr_at_95

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "curve"}
        return {**numbers, "refused_at_5": self.refused_at_5}


def score_open_set(
    truth: ArrayLike, predicted: ArrayLike, novelty_score: ArrayLike, is_unseen: ArrayLike, rejected: ArrayLike
) -> OpenSetScores:
    """Score the rejection of unknown classes.

    Args:
        truth: (n,) true class names.
        predicted: (n,) predicted class names before rejection.
        novelty_score: (n,).
        is_unseen: (n,) whether the true class was not in the reference.
        rejected: (n,) whether the image was rejected.

    Raises:
        InputError: all images are of known classes, or none is.
    """
    true, given = np.asarray(truth, dtype=str), np.asarray(predicted, dtype=str)
    novelty, unseen = np.asarray(novelty_score, dtype=float), np.asarray(is_unseen, dtype=bool)
    is_rejected = np.asarray(rejected, dtype=bool)
    if unseen.all() or not unseen.any():
        raise InputError(
            f"rejection is scored on images of known and of unseen classes; found {int((~unseen).sum())} and "
            f"{int(unseen.sum())}"
        )
    thresholds = np.concatenate([[-np.inf], np.unique(novelty)])
    right = np.sort(novelty[~unseen & (true == given)])
    known, new = np.sort(novelty[~unseen]), np.sort(novelty[unseen])
    curve = pd.DataFrame(
        {
            "threshold": thresholds,
            "known_accepted": np.searchsorted(known, thresholds, side="right") / len(known),
            "known_right": np.searchsorted(right, thresholds, side="right") / len(known),
            "unseen_accepted": np.searchsorted(new, thresholds, side="right") / len(new),
        }
    )
    at_95 = int(np.argmax(curve["known_accepted"].to_numpy() >= 0.95))
    return OpenSetScores(
        n_known=len(known),
        n_unseen=len(new),
        auroc=float(roc_auc_score(unseen, novelty)),
        fpr_at_95=float(curve["unseen_accepted"].iloc[at_95]),
        oscr=float(np.trapezoid(curve["known_right"], curve["unseen_accepted"])),
        known_refused=float(is_rejected[~unseen].mean()),
        unseen_refused=float(is_rejected[unseen].mean()),
        curve=curve,
    )


def count_predictions(
    truth: NDArray[np.str_], predicted: NDArray[np.str_], rejected: NDArray[np.bool_]
) -> pd.DataFrame:
    """Return how rejection changes the count of every class that occurs, and of `unknown`.

    Columns: label, true (its images), forced (predictions of it without rejection), forced_right, kept (predictions of
    it after rejection), kept_right, refused (its images that were rejected). The last row is `unknown`; its `kept` are
    all rejected images.
    """
    classes = np.setdiff1d(np.concatenate([truth, predicted]), [UNKNOWN])
    labels = np.append(classes, UNKNOWN)

    def count(names: NDArray[np.str_]) -> NDArray[np.int64]:
        codes = np.where(names == UNKNOWN, len(classes), np.searchsorted(classes, names))
        return np.bincount(codes, minlength=len(labels))

    right = truth == predicted
    return pd.DataFrame(
        {
            "label": labels,
            "true": count(truth),
            "forced": count(predicted),
            "forced_right": count(predicted[right]),
            "kept": count(np.where(rejected, UNKNOWN, predicted)),
            "kept_right": count(predicted[right & ~rejected]),
            "refused": count(truth[rejected]),
        }
    )
