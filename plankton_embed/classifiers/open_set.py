"""Scores where some images are of classes never seen: are they refused, and what does refusing do to the counts?"""

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
    """How well unseen classes are told from known ones.

    `auroc`: chance that an unseen image is stranger than a known one. `fpr_at_95`: share of unseen images accepted
    where 95 % of the known ones are; `refused_at_5` is the rest of it. `oscr`: area under `curve`, whose rows are the
    share of unseen images accepted and the share of known images accepted and named right, over all thresholds
    (Dhamija et al. 2018, arXiv 1811.04110). These take one threshold for all images; `known_refused` and
    `unseen_refused` are the shares at the thresholds in use, one a class.
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
        """Share of unseen images refused where 5 % of the known ones are."""
        return 1 - self.fpr_at_95

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "curve"}
        return {**numbers, "refused_at_5": self.refused_at_5}


def score_open_set(
    truth: ArrayLike, names: ArrayLike, novelty_score: ArrayLike, is_unseen: ArrayLike, refused: ArrayLike
) -> OpenSetScores:
    """Score refusing.

    Args:
        truth: (n,) true class names.
        names: (n,) names given before any is refused.
        novelty_score: (n,).
        is_unseen: (n,) whether the class was unknown when the names were given.
        refused: (n,) whether the image got no name in the end.

    Raises:
        InputError: all images are of known classes, or none is.
    """
    true, named = np.asarray(truth, dtype=str), np.asarray(names, dtype=str)
    strange, unseen = np.asarray(novelty_score, dtype=float), np.asarray(is_unseen, dtype=bool)
    gone = np.asarray(refused, dtype=bool)
    if unseen.all() or not unseen.any():
        raise InputError(
            f"refusing is scored on images of known and of unseen classes; found {int((~unseen).sum())} and "
            f"{int(unseen.sum())}"
        )
    thresholds = np.concatenate([[-np.inf], np.unique(strange)])
    right = np.sort(strange[~unseen & (true == named)])
    known, new = np.sort(strange[~unseen]), np.sort(strange[unseen])
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
        auroc=float(roc_auc_score(unseen, strange)),
        fpr_at_95=float(curve["unseen_accepted"].iloc[at_95]),
        oscr=float(np.trapezoid(curve["known_right"], curve["unseen_accepted"])),
        known_refused=float(gone[~unseen].mean()),
        unseen_refused=float(gone[unseen].mean()),
        curve=curve,
    )


def count_names(truth: NDArray[np.str_], names: NDArray[np.str_], refused: NDArray[np.bool_]) -> pd.DataFrame:
    """Return, for every class that occurs and for `unknown`, what refusing does to its count.

    Columns: label, true (images of it), forced (named so when every image must have a name), forced_right, kept (named
    so when some are refused), kept_right, refused (images of it that got no name). In the row `unknown`, the last, kept
    are all that were refused.
    """
    classes = np.setdiff1d(np.concatenate([truth, names]), [UNKNOWN])
    labels = np.append(classes, UNKNOWN)

    def count(given: NDArray[np.str_]) -> NDArray[np.int64]:
        places = np.where(given == UNKNOWN, len(classes), np.searchsorted(classes, given))
        return np.bincount(places, minlength=len(labels))

    right = truth == names
    return pd.DataFrame(
        {
            "label": labels,
            "true": count(truth),
            "forced": count(names),
            "forced_right": count(names[right]),
            "kept": count(np.where(refused, UNKNOWN, names)),
            "kept_right": count(names[right & ~refused]),
            "refused": count(truth[refused]),
        }
    )
