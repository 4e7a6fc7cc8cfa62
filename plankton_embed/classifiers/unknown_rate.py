"""Choose the share of rejected images by the error of the composition, with classes withheld in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.classifiers.rejection import NoveltyScore, Rejector, least_calibration
from plankton_embed.errors import InputError
from plankton_embed.table import EmbeddingTable

if TYPE_CHECKING:
    from plankton_embed.classifiers.prediction import Classifier

RATES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
SHARES = (0.05, 0.1, 0.2, 0.4)  # of images of unknown classes, in the samples for which the rate is chosen
MOST_FOLDS = 5
LEAST_CLASSES = 4


def score_unknown_rates(
    reference: EmbeddingTable,
    calibration: EmbeddingTable,
    fit: Callable[[EmbeddingTable], Classifier],
    measure: NoveltyScore = "neighbor",
    seed: int = 0,
) -> pd.DataFrame:
    """Return the error of the composition at several unknown rates.

    A part of the classes is withheld from the reference at a time, and their calibration images stand for unknown
    classes. The error is the Bray-Curtis dissimilarity of the true and the predicted composition, over the classes that
    remain and one bin of unknown images: the mean over the parts, and over samples of which 5, 10, 20 and 40 % are of
    unknown classes. The network was trained on the withheld classes, so really new classes may be rejected less often.

    Args:
        reference: labelled vectors.
        calibration: labelled vectors of the same classes, of images that the network was not trained on.
        fit: fits a classifier on a part of the reference.
        measure: the novelty score.
        seed: of the division of the classes.

    Returns:
        One row for each rate that the calibration images allow: `rate`, `bray_curtis`.

    Raises:
        InputError: too few classes with calibration images, or too few of these images.
    """
    labels = calibration.label.astype(str)
    classes = np.unique(labels)
    if len(classes) < LEAST_CLASSES:
        raise InputError(
            f"unknown rate auto: expected calibration images of at least {LEAST_CLASSES} classes, found "
            f"{len(classes)}; give a share, such as .05"
        )
    n_folds = min(MOST_FOLDS, len(classes) // 2)
    folds = np.array_split(np.random.default_rng(seed).permutation(classes), n_folds)
    n_least = min(int((~np.isin(labels, fold)).sum()) for fold in folds)
    rates = [rate for rate in RATES if least_calibration(rate) <= n_least]
    if not rates:
        raise InputError(
            f"unknown rate auto: found {n_least} calibration images without the withheld classes, which are too few; "
            "give more of them"
        )
    errors = [_measure_errors(reference, calibration, fold, fit, measure, rates) for fold in folds]
    return pd.DataFrame({"rate": rates, "bray_curtis": np.mean(errors, axis=0)})


def _measure_errors(
    reference: EmbeddingTable,
    calibration: EmbeddingTable,
    withheld: NDArray[np.str_],
    fit: Callable[[EmbeddingTable], Classifier],
    measure: NoveltyScore,
    rates: list[float],
) -> list[float]:
    """Return the error at each rate, the mean over `SHARES`, with these classes withheld."""
    remaining = reference.select(reference.is_labelled & ~np.isin(reference.label.astype(str), withheld))
    classifier, labels = fit(remaining), calibration.label.astype(str)
    rejector = Rejector(measure).fit(remaining.vectors, remaining.label)
    vectors, is_new = calibration.vectors, np.isin(labels, withheld)
    predicted = classifier.predict(vectors).astype(str)
    novelty = rejector.novelty_score(vectors, predicted)
    classes = rejector.classes_
    true_codes = np.where(is_new, len(classes), np.searchsorted(classes, labels))
    errors = []
    for rate in rates:
        rejector.calibrate(vectors[~is_new], predicted[~is_new], rate)
        rejected = novelty > rejector.threshold(predicted)
        codes = np.where(rejected, len(classes), np.searchsorted(classes, predicted))
        for share in SHARES:
            weight = np.where(is_new, share / is_new.sum(), (1 - share) / (~is_new).sum())
            true, found = (np.bincount(part, weight, len(classes) + 1) for part in (true_codes, codes))
            errors.append(np.abs(true - found).sum() / 2)
    return [float(part.mean()) for part in np.array_split(np.array(errors), len(rates))]


def choose_unknown_rate(scores: pd.DataFrame) -> float:
    """Return the rate with the smallest error; of equal ones the smallest."""
    return float(scores["rate"].iloc[int(scores["bray_curtis"].to_numpy().argmin())])
