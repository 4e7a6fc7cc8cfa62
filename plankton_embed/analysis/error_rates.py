"""How often images of each class get each name, learned from few calibration images of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, softmax

PRIOR_IMAGES = np.geomspace(1, 100, 14)  # how many images a prior may be worth
SHARES = np.linspace(0.005, 0.995, 100)  # of images that are named right, in all classes
PARTS = [(a / 4, b / 4, (4 - a - b) / 4) for a in range(5) for b in range(4) if a + b <= 4]  # of the prior's three

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


class ErrorRates:
    """The rows of a confusion matrix as posterior distributions, in two parts (a hierarchical model).

    How often a class is named right has a beta prior, whose mean is common to all classes. Which names its other
    images get has a Dirichlet prior, whose mean has three parts: the wrong names of the other classes, the mean
    probabilities of the images of this class that are named right, and all names alike. Both leave out the names that
    they are the prior of; else the class would count twice, and its error rates would seem more certain than they are.

    The mean of the first, the parts of the second, and how many images each prior is worth are drawn too, by how likely
    they make the names found; before, all means are alike, and so are all values of 1 / sqrt(images) (Gelman et al.
    2013, Bayesian Data Analysis, chapter 5). A class without calibration images has the prior.

    Args:
        probabilities: (m, C) of the calibration images.
        named: (m,) the names they get, as columns.
        known: (m,) their classes, as columns.
    """

    def __init__(self, probabilities: Floats, named: Codes, known: Codes) -> None:
        n_classes = probabilities.shape[1]
        found, similar = np.zeros((2, n_classes, n_classes))
        np.add.at(found, (known, named), 1)
        is_right, is_wrong = known == named, 1 - np.eye(n_classes)
        np.add.at(similar, known[is_right], probabilities[is_right])
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
    """Shares (C, k) of which so many images were `found` (C, k); the prior's mean is one of `means`, (k,) or (C, k)."""

    def __init__(self, means: Sequence[Floats], found: Floats) -> None:
        self._found, self._total = found, found.sum(axis=1)
        self._priors = [(n, np.broadcast_to(mean, found.shape)) for mean in means for n in PRIOR_IMAGES]
        self._cells = np.nonzero(found)
        self._chances = softmax([self._log_evidence(*prior) - 0.5 * np.log(prior[0]) for prior in self._priors])

    def _log_evidence(self, n: float, mean: Floats) -> float:
        prior, found = n * mean[self._cells], self._found[self._cells]
        rows = gammaln(n) - gammaln(n + self._total)
        return float(rows.sum() + (gammaln(prior + found) - gammaln(prior)).sum())

    def mean(self) -> Floats:
        likely = [(chance, *prior) for chance, prior in zip(self._chances, self._priors, strict=True) if chance > 1e-9]
        return np.asarray(sum(chance * _divide_rows(n * mean + self._found) for chance, n, mean in likely))

    def draw(self, rng: np.random.Generator) -> Floats:
        n, mean = self._priors[rng.choice(len(self._priors), p=self._chances)]
        return _divide_rows(rng.standard_gamma(n * mean + self._found))


def _join(right: Floats, wrong: Floats) -> Floats:
    errors = wrong * right[:, 1:]
    np.fill_diagonal(errors, right[:, 0])
    return _divide_rows(errors)


def _divide_rows(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300))
