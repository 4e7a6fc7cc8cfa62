"""The confusion matrix as posterior distributions, learned from few calibration images of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, softmax

PRIOR_IMAGES = np.geomspace(1, 100, 14)  # weights of the priors, in images
SHARES = np.linspace(0.005, 0.995, 100)  # of images that are predicted right, in all classes
PARTS = [(a / 4, b / 4, (4 - a - b) / 4) for a in range(5) for b in range(4) if a + b <= 4]  # of the prior's mean

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


class ErrorRates:
    """The rows of a confusion matrix as posterior distributions, in two parts (a hierarchical model).

    The share of a class that is predicted right has a beta prior, whose mean is common to all classes. The wrong
    predictions of the class have a Dirichlet prior, whose mean has three parts: the wrong predictions of the other
    classes, the mean probabilities of the images of this class that are predicted right, and a uniform part. Each prior
    leaves out the predictions that it is the prior of; otherwise the class would count twice, and its error rates would
    seem more certain than they are.

    The mean of the first prior, the parts of the second and the weight of each, in images, are drawn too, by their
    likelihood given the predictions; their hyperpriors are uniform in the means and in 1 / sqrt(images) (Gelman et al.
    2013, Bayesian Data Analysis, chapter 5). A class without calibration images gets the prior.

    Args:
        probabilities: (m, C) of the calibration images.
        predicted: (m,) their predicted classes, as columns.
        true: (m,) their true classes, as columns.
    """

    def __init__(self, probabilities: Floats, predicted: Codes, true: Codes) -> None:
        n_classes = probabilities.shape[1]
        found, similar = np.zeros((2, n_classes, n_classes))
        np.add.at(found, (true, predicted), 1)
        is_right, is_wrong = true == predicted, 1 - np.eye(n_classes)
        np.add.at(similar, true[is_right], probabilities[is_right])
        right, wrong, similar = np.diag(found), found * is_wrong, similar * is_wrong
        self._right = _Rows([np.array([share, 1 - share]) for share in SHARES], np.stack([right, wrong.sum(axis=1)], 1))
        usual = _divide_rows((wrong.sum(axis=0) - wrong + 0.5) * is_wrong)
        similar = np.where(similar.any(axis=1, keepdims=True), _divide_rows(similar), usual)
        even = _divide_rows(is_wrong)
        self._wrong = _Rows([a * usual + b * similar + c * even for a, b, c in PARTS], wrong)

    def mean(self) -> Floats:
        """Return the mean error rates (C, C); every row adds up to 1."""
        return _join(self._right.mean(), self._wrong.mean())

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return error rates (C, C) drawn from the posterior distribution."""
        return _join(self._right.draw(rng), self._wrong.draw(rng))


class _Rows:
    """Posterior of shares (C, k), given counts `found` (C, k); the prior's mean is one of `means`, (k,) or (C, k)."""

    def __init__(self, means: Sequence[Floats], found: Floats) -> None:
        self._found, self._total = found, found.sum(axis=1)
        self._priors = [(n, np.broadcast_to(mean, found.shape)) for mean in means for n in PRIOR_IMAGES]
        self._cells = np.nonzero(found)
        self._weights = softmax([self._log_likelihood(*prior) - 0.5 * np.log(prior[0]) for prior in self._priors])

    def _log_likelihood(self, n: float, mean: Floats) -> float:
        prior, found = n * mean[self._cells], self._found[self._cells]
        rows = gammaln(n) - gammaln(n + self._total)
        return float(rows.sum() + (gammaln(prior + found) - gammaln(prior)).sum())

    def mean(self) -> Floats:
        likely = [(weight, *prior) for weight, prior in zip(self._weights, self._priors, strict=True) if weight > 1e-9]
        return np.asarray(sum(weight * _divide_rows(n * mean + self._found) for weight, n, mean in likely))

    def draw(self, rng: np.random.Generator) -> Floats:
        n, mean = self._priors[rng.choice(len(self._priors), p=self._weights)]
        return _divide_rows(rng.standard_gamma(n * mean + self._found))


def _join(right: Floats, wrong: Floats) -> Floats:
    errors = wrong * right[:, 1:]
    np.fill_diagonal(errors, right[:, 0])
    return _divide_rows(errors)


def _divide_rows(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300))
