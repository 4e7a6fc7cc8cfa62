"""How often images of each class get each name, learned from few calibration images of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, softmax

PRIOR_IMAGES = np.geomspace(1, 100, 14)  # how many images a prior may be worth

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


class ErrorRates:
    """The rows of a confusion matrix as posterior distributions, in two parts.

    How often a class is named right: the prior (beta) is the share of all calibration images. Which names its other
    images get: the prior (Dirichlet) is half the wrong names of all images, half the mean probabilities of the images
    of this class. How many images each prior is worth is estimated too: many where all classes err alike (hierarchical
    model; Gelman et al. 2013, Bayesian Data Analysis, chapter 5). A class without calibration images has the prior.

    Args:
        probabilities: (m, C) of the calibration images.
        named: (m,) the names they get, as columns.
        known: (m,) their classes, as columns.
    """

    def __init__(self, probabilities: Floats, named: Codes, known: Codes) -> None:
        n_classes = probabilities.shape[1]
        found, similar = np.zeros((2, n_classes, n_classes))
        np.add.at(found, (known, named), 1)
        np.add.at(similar, known, probabilities)
        is_wrong = 1 - np.eye(n_classes)
        right, wrong = np.diag(found), found * is_wrong
        share = (right.sum() + 0.5) / (len(known) + 1)
        usual = _divide_rows((wrong.sum(axis=0) + 0.5) * is_wrong)
        self._right = _Rows(np.array([share, 1 - share]), np.stack([right, wrong.sum(axis=1)], axis=1))
        self._wrong = _Rows(_divide_rows(usual + _divide_rows(similar * is_wrong)), wrong)

    def mean(self) -> Floats:
        """Return the mean error rates (C, C); every row adds up to 1."""
        return _join(self._right.mean(), self._wrong.mean())

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return error rates (C, C) drawn from the posterior distribution."""
        return _join(self._right.draw(rng), self._wrong.draw(rng))


class _Rows:
    """Shares (C, k) of which so many images were `found` (C, k), with the prior `base` (k,) or (C, k)."""

    def __init__(self, base: Floats, found: Floats) -> None:
        self._base, self._found = np.broadcast_to(base, found.shape), found
        self._chances = softmax([self._log_evidence(n) for n in PRIOR_IMAGES])

    def _log_evidence(self, n: float) -> float:
        asked = self._base > 0
        prior, found = n * self._base[asked], self._found[asked]
        rows = gammaln(n) - gammaln(n + self._found.sum(axis=1))
        return float(rows.sum() + (gammaln(prior + found) - gammaln(prior)).sum())

    def mean(self) -> Floats:
        means = [_divide_rows(n * self._base + self._found) for n in PRIOR_IMAGES]
        return np.asarray(np.tensordot(self._chances, means, axes=1))

    def draw(self, rng: np.random.Generator) -> Floats:
        n = rng.choice(PRIOR_IMAGES, p=self._chances)
        return _divide_rows(rng.standard_gamma(n * self._base + self._found))


def _join(right: Floats, wrong: Floats) -> Floats:
    errors = wrong * right[:, 1:]
    np.fill_diagonal(errors, right[:, 0])
    return _divide_rows(errors)


def _divide_rows(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300))
