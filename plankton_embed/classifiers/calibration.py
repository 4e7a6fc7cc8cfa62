"""Calibration of probabilities: temperature scaling and reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LEAST_PROBABILITY = 1e-12  # of a class, so that logarithms stay finite
N_BINS = 15


def fit_temperature(logits: NDArray[np.floating], codes: NDArray[np.intp]) -> float:
    """Return the temperature T under which softmax(logits / T) makes the true classes most likely.

    One additional image of no particular class keeps T above zero when every image is predicted right.

    Args:
        logits: (n, C).
        codes: (n,) the true classes.
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    unit = float(-logits.mean())
    if unit == 0:  # a single class, or logits that are all equal
        return 1.0
    rows = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        probabilities = log_softmax(logits / (unit * np.exp(log_temperature)), axis=1)
        return float(-probabilities[rows, codes].sum() - probabilities.mean())

    found = minimize_scalar(loss, bounds=(-12.0, 12.0), method="bounded")
    return float(unit * np.exp(found.x))


@dataclass(frozen=True)
class Reliability:
    """Probability and accuracy by bins of equal width.

    `bins`: low, high, n_images, probability (mean), accuracy. `ece`, the expected calibration error, is the mean
    absolute difference between probability and accuracy, weighted by the images of each bin.
    """

    bins: pd.DataFrame
    ece: float


def measure_reliability(probability: ArrayLike, is_right: ArrayLike, n_bins: int = N_BINS) -> Reliability:
    """Compare the probabilities of predictions with their accuracy.

    Args:
        probability: (n,) of the predicted class.
        is_right: (n,) whether the prediction is the true class.
        n_bins: bins of equal width over 0 to 1, each with its upper edge.
    """
    probabilities, right = np.asarray(probability, dtype=float), np.asarray(is_right, dtype=bool)
    edges = np.linspace(0, 1, n_bins + 1)
    position = np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, n_bins - 1)
    n = np.bincount(position, minlength=n_bins)
    filled = np.maximum(n, 1)
    mean = np.where(n, np.bincount(position, weights=probabilities, minlength=n_bins) / filled, np.nan)
    accuracy = np.where(n, np.bincount(position, weights=right, minlength=n_bins) / filled, np.nan)
    bins = pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n_images": n, "probability": mean, "accuracy": accuracy}
    )
    gaps = np.abs(mean - accuracy)[n > 0]
    return Reliability(bins, float((gaps * n[n > 0]).sum() / max(len(probabilities), 1)))
