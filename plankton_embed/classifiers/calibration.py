"""Whether probabilities come true: temperature scaling, reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LEAST_CHANCE = 1e-12  # of a class, so that logarithms stay finite
N_BINS = 15


def fit_temperature(logits: NDArray[np.floating], codes: NDArray[np.intp]) -> float:
    """Return the temperature T at which softmax(logits / T) makes the true classes likeliest.

    One more image, whose class is left open, keeps T above zero where every image is named right.

    Args:
        logits: (n, C).
        codes: (n,) the true classes.
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    unit = float(-logits.mean())
    if unit == 0:  # one class only, or nothing that tells them apart
        return 1.0
    rows = np.arange(len(codes))

    def surprise(log_temperature: float) -> float:
        probabilities = log_softmax(logits / (unit * np.exp(log_temperature)), axis=1)
        return float(-probabilities[rows, codes].sum() - probabilities.mean())

    found = minimize_scalar(surprise, bounds=(-12.0, 12.0), method="bounded")
    return float(unit * np.exp(found.x))


@dataclass(frozen=True)
class Reliability:
    """Do probabilities come true? `bins` of equal width: low, high, n_images, mean probability, accuracy.

    `ece` is the expected calibration error, the mean distance of the two, weighted by images.
    """

    bins: pd.DataFrame
    ece: float


def measure_reliability(probability: ArrayLike, is_right: ArrayLike, n_bins: int = N_BINS) -> Reliability:
    """Compare the probability of the names given with how often they were right.

    Args:
        probability: (n,) of the name given.
        is_right: (n,) whether it was the true one.
        n_bins: bins of equal width over 0 to 1, each with its upper edge.
    """
    sure, right = np.asarray(probability, dtype=float), np.asarray(is_right, dtype=bool)
    edges = np.linspace(0, 1, n_bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    filled = np.maximum(n, 1)
    mean = np.where(n, np.bincount(place, weights=sure, minlength=n_bins) / filled, np.nan)
    accuracy = np.where(n, np.bincount(place, weights=right, minlength=n_bins) / filled, np.nan)
    bins = pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n_images": n, "probability": mean, "accuracy": accuracy}
    )
    gaps = np.abs(mean - accuracy)[n > 0]
    return Reliability(bins, float((gaps * n[n > 0]).sum() / max(len(sure), 1)))
