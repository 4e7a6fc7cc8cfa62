"""Counts of classes in a sample, corrected for the errors of the classifier, with intervals."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from plankton_embed.errors import InputError, SettingError

CorrectionMethod = Literal["em", "confusion"]
METHODS: tuple[CorrectionMethod, ...] = ("em", "confusion")
N_DRAWS = 200
LEVEL = 0.9  # share of the intervals that should hold the true count
BIAS_PRECISION = 5.0  # of the normal prior of every bias, and of the logarithm of the scale
MOST_ITERATIONS, TOLERANCE = 500, 1e-6

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class CorrectedCounts:
    """What a sample holds.

    `count`, `low` and `high` (C,) of the classes; `membership` (n, C): the chance that each image is of each class,
    given the mix of the sample; its columns add up to `count`. `draws` (B, C): the counts of the bootstrap draws, which
    add up over samples draw by draw, since a draw takes the same calibration images for all of them.
    """

    count: Floats
    low: Floats
    high: Floats
    membership: Floats
    draws: Floats


class CountCorrection:
    """Learns from calibration images how a classifier errs, and corrects counts for it.

    `em`: the mix of classes under which the probabilities are likeliest (Saerens et al. 2002, Neural Computation 14),
    once they are calibrated anew by one temperature and a bias a class, shrunk to 0 (Alexandari et al. 2020, arXiv
    1901.06852). `confusion`: the mix under which the names given are likeliest, their errors being those of the
    calibration images (adjusted counts; Hopkins and King 2010, American Journal of Political Science 54).

    The intervals come from bootstrap draws. Each draws the calibration images anew within their classes, the images of
    the sample too, and then a class for every image of the sample. With `em` it also draws what the biases are shrunk
    to, from the normal distribution that shrinking stands for; else few calibration images would look like certainty.

    Args:
        log_probabilities: (m, C) logarithms of the probabilities of the calibration images, not trained on.
        codes: (m,) their classes, as columns.
        prior: (C,) mix of classes that the probabilities take for granted; by default all alike.
        method: `em` or `confusion`.
        n_draws: bootstrap draws.
        level: share of the intervals that should hold the true count.
        seed: of the draws.

    Raises:
        InputError: no calibration image, or the shapes do not fit.
        SettingError: an unknown method, fewer than 20 draws, or a level outside 0-1.
    """

    def __init__(
        self,
        log_probabilities: ArrayLike,
        codes: ArrayLike,
        prior: ArrayLike | None = None,
        method: CorrectionMethod = "em",
        *,
        n_draws: int = N_DRAWS,
        level: float = LEVEL,
        seed: int = 0,
    ) -> None:
        logs, known = np.asarray(log_probabilities, dtype=float), np.asarray(codes, dtype=np.intp)
        if logs.ndim != 2 or known.shape != logs.shape[:1] or len(known) == 0:
            raise InputError(
                f"calibration: expected (m, C) log-probabilities and m classes; found {logs.shape} and {known.shape}"
            )
        if method not in METHODS:
            raise SettingError(f"correction: expected one of {', '.join(METHODS)}; found {method!r}")
        if n_draws < 20:
            raise SettingError(f"draws: expected at least 20, found {n_draws}")
        if not 0 < level < 1:
            raise SettingError(f"level: expected a share between 0 and 1, found {level}")
        self.n_classes = logs.shape[1]
        self.log_prior = np.zeros(self.n_classes) if prior is None else np.log(np.asarray(prior, dtype=float))
        self.method, self.level, self.seed = method, level, seed
        ratios, named = logs - self.log_prior, logs.argmax(axis=1)
        learn = self._learn_biases if method == "em" else self._learn_errors
        self._learned = learn(ratios, named, known)
        rng = np.random.default_rng(seed)
        order = np.argsort(known, kind="stable")
        counts = np.bincount(known, minlength=self.n_classes)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        self._draws = []
        for _ in range(n_draws):
            drawn = order[first + (rng.random(len(known)) * np.repeat(counts, counts)).astype(int)]
            self._draws.append(learn(ratios[drawn], named[drawn], known[drawn], rng))

    def _learn_errors(
        self, ratios: Floats, named: Codes, known: Codes, rng: np.random.Generator | None = None
    ) -> Floats:
        """Return how often images of each class get each name (C, C), one image more of each shared by all names."""
        confusion: Floats = np.full((self.n_classes, self.n_classes), 1 / self.n_classes)
        np.add.at(confusion, (known, named), 1)
        return np.asarray(confusion / confusion.sum(axis=1, keepdims=True))

    def _learn_biases(
        self, ratios: Floats, named: Codes, known: Codes, rng: np.random.Generator | None = None
    ) -> Floats:
        """Return (1 + C,): log of the scale and bias of each class under which the classes are likeliest."""
        n, rows = len(known), np.arange(len(known))
        counts = np.bincount(known, minlength=self.n_classes)
        offset = np.log((counts + 0.5) / (n + 0.5 * self.n_classes))
        centre = np.zeros(1 + self.n_classes)
        start = centre
        if rng is not None:
            centre = rng.normal(0, BIAS_PRECISION**-0.5, len(centre))
            start = self._learned

        def loss(parameters: Floats) -> tuple[float, Floats]:
            scale, off = np.exp(parameters[0]), parameters - centre
            logs = log_softmax(scale * ratios + parameters[1:] + offset, axis=1)
            excess = np.exp(logs)
            excess[rows, known] -= 1
            slope = np.append(scale * (excess * ratios).sum(), excess.sum(axis=0))
            return BIAS_PRECISION / 2 * (off**2).sum() - logs[rows, known].sum(), BIAS_PRECISION * off + slope

        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)

    def _weigh(self, learned: Floats, ratios: Floats, named: Codes) -> Floats:
        """Return (n, C), how much likelier each image is under each class, every row up to a factor of its own."""
        if self.method == "confusion":
            return learned.T[named]
        logs = np.exp(learned[0]) * ratios + learned[1:]
        return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))

    def correct(self, log_probabilities: ArrayLike) -> CorrectedCounts:
        """Correct the counts of one sample, given the log-probabilities (n, C) of its images."""
        logs = np.asarray(log_probabilities, dtype=float).reshape(-1, self.n_classes)
        n = len(logs)
        if n == 0:
            zeros = np.zeros((len(self._draws), self.n_classes))
            return CorrectedCounts(zeros[0], zeros[0], zeros[0], zeros[:0], zeros)
        ratios, named = logs - self.log_prior, logs.argmax(axis=1)
        evidence = self._weigh(self._learned, ratios, named)
        mix = find_mix(evidence)
        membership = _share_out(evidence, mix)
        rng = np.random.default_rng([self.seed, zlib.crc32(logs.tobytes())])  # samples vary independently
        counts = np.empty((len(self._draws), self.n_classes))
        for number, draw in enumerate(self._draws):
            evidence = self._weigh(draw, ratios, named)
            times = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
            chance = _share_out(evidence, find_mix(evidence, times, mix)).cumsum(axis=1)
            classes = (chance < rng.random((n, 1))).sum(axis=1).clip(max=self.n_classes - 1)
            counts[number] = np.bincount(classes, minlength=self.n_classes)
        count = membership.sum(axis=0)
        low, high = np.quantile(counts, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return CorrectedCounts(count, np.minimum(low, count), np.maximum(high, count), membership, counts)


def find_mix(evidence: Floats, times: Floats | None = None, start: Floats | None = None) -> Floats:
    """Return the mix of classes (C,) under which the images are likeliest, by expectation–maximisation.

    Args:
        evidence: (n, C), how much likelier each image is under each class.
        times: (n,) how often each image counts; by default once.
        start: (C,) where to begin; by default all classes alike.
    """
    n, n_classes = evidence.shape
    times = np.ones(n) if times is None else times
    even = np.full(n_classes, 1 / n_classes)
    mix = even if start is None else 0.99 * start + 0.01 * even  # what stands at 0 would stay there
    for _ in range(MOST_ITERATIONS):
        before = mix
        mix = before * (evidence.T @ (times / np.maximum(evidence @ before, 1e-300)))
        mix = mix / mix.sum()
        if np.abs(mix - before).max() < TOLERANCE:
            break
    return mix


def _share_out(evidence: Floats, mix: Floats) -> Floats:
    joint = evidence * mix
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300))
