"""Counts of classes in a sample, corrected for the errors of the classifier, with intervals."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from plankton_embed.analysis.error_rates import ErrorRates
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import split_by_class

CorrectionMethod = Literal["em", "confusion"]
METHODS: tuple[CorrectionMethod, ...] = ("em", "confusion")
N_DRAWS = 200
LEVEL = 0.9  # share of the intervals that should hold the true count
BIAS_PRECISION = 5.0  # of the normal prior of every bias, and of the logarithm of the scale
SAMPLE_PRECISION = 1.0  # the same for draws of whole samples: biases of a few samples vary more than their mean
MIX_PRIOR = 5.0  # images added to each sample, divided among all classes: few classes are common
N_SWEEPS = 30  # of Gibbs sampling in every draw
MOST_ITERATIONS, TOLERANCE = 500, 1e-6

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class CorrectedCounts:
    """Corrected counts of a sample.

    `count`, `low` and `high` (C,) of the classes; `posterior` (n, C): the probability of each class for each image,
    given the prevalences of the sample; its columns sum to `count`. `draws` (B, C): the counts of the draws behind the
    intervals. They can be added over samples draw by draw, because a draw uses the same classifier errors for all
    samples (if whole samples are drawn: for all that have the same number of samples).
    """

    count: Floats
    low: Floats
    high: Floats
    posterior: Floats
    draws: Floats


class CountCorrection:
    """Learns from calibration images how a classifier errs, and corrects counts for it.

    `em`: the prevalences under which the probabilities are most likely (Saerens et al. 2002, Neural Computation 14),
    after the probabilities are calibrated again by one temperature and a bias per class, shrunk to 0 (Alexandari et al.
    2020, arXiv 1901.06852). `confusion`: the prevalences that are likely given the predictions and the confusion matrix
    (adjusted counts; Hopkins and King 2010, American Journal of Political Science 54).

    `confusion` draws from the posterior distributions of the error rates (see `ErrorRates`) and of the prevalences
    given them (Dirichlet, with a prior under which few classes are common); its counts are means. Error rates are
    learned from the calibration images only, not from the sample (a cut posterior; Plummer 2015, Statistics and
    Computing 25).

    The intervals are quantiles of draws. With `em` each draw resamples the calibration images within their classes
    (bootstrap) and the images of the sample, and then draws a class for every image of the sample. It also draws the
    point to which the biases are shrunk, from the normal prior that shrinking implies; otherwise few calibration images
    would give intervals that are too narrow. With `confusion` each draw has its own error rates, prevalences, and class
    of every image.
    With `samples` each draw takes whole samples of calibration images (see `draw_whole`), as images of one sample are
    more similar than images of several. Classifier errors differ between samples, also between those that are counted:
    of G calibration samples a draw takes k, 1/k = 1/m + 1/G (at least 1), where m samples are counted together. The
    learned errors then vary as much as the difference between the errors in these samples and in the calibration
    samples.

    Args:
        log_probabilities: (m, C) of the calibration images, which the network was not trained on.
        codes: (m,) their classes, as columns.
        prior: (C,) prevalences that the probabilities assume; by default equal.
        method: `em` or `confusion`.
        samples: (m,) which calibration images belong together, as codes from 0; by default each is independent.
        n_draws: draws for the intervals.
        level: share of the intervals that should contain the true count.
        seed: seed of the draws.

    Raises:
        InputError: no calibration image, shapes that do not fit, or a class whose prior is not above 0.
        SettingError: an unknown method, fewer than 20 draws, or a level outside 0-1.
    """

    def __init__(
        self,
        log_probabilities: ArrayLike,
        codes: ArrayLike,
        prior: ArrayLike | None = None,
        method: CorrectionMethod = "em",
        *,
        samples: Codes | None = None,
        n_draws: int = N_DRAWS,
        level: float = LEVEL,
        seed: int = 0,
    ) -> None:
        logs, true = np.asarray(log_probabilities, dtype=float), np.asarray(codes, dtype=np.intp)
        if logs.ndim != 2 or true.shape != logs.shape[:1] or len(true) == 0:
            raise InputError(
                f"calibration: expected (m, C) log-probabilities and m classes; found {logs.shape} and {true.shape}"
            )
        if method not in METHODS:
            raise SettingError(f"correction: expected one of {', '.join(METHODS)}; found {method!r}")
        if n_draws < 20:
            raise SettingError(f"draws: expected at least 20, found {n_draws}")
        if not 0 < level < 1:
            raise SettingError(f"level: expected a share between 0 and 1, found {level}")
        self.n_classes = logs.shape[1]
        taken = np.ones(self.n_classes) if prior is None else np.asarray(prior, dtype=float)
        if taken.shape != (self.n_classes,) or not (np.isfinite(taken) & (taken > 0)).all():
            raise InputError(f"prior: expected {self.n_classes} shares above 0, one per class; found {taken.tolist()}")
        self.log_prior = np.log(taken)
        self.method, self.level, self.seed = method, level, seed
        ratios, predicted = logs - self.log_prior, logs.argmax(axis=1)
        self._samples, self.n_draws, self._calibration = samples, n_draws, (ratios, predicted, true)
        self._rates = self._learn_rates(np.arange(len(true))) if method == "confusion" else None
        self._learned = self._learn_biases(ratios, true, None) if self._rates is None else self._rates.mean()
        self._draws: dict[int, list[Floats]] = {}

    def _learn_rates(self, rows: Codes) -> ErrorRates:
        ratios, predicted, true = self._calibration
        return ErrorRates(np.exp(ratios[rows] + self.log_prior), predicted[rows], true[rows])

    def _take_draws(self, n_counted: int) -> list[Floats]:
        """Return the learned parameters of each draw, for this number of samples counted together (0: draw images)."""
        n_drawn = 0  # whole samples
        if self._samples is not None and n_counted:
            n_calibration_samples = len(np.unique(self._samples))
            n_drawn = max(1, round(n_calibration_samples * n_counted / (n_calibration_samples + n_counted)))
        if n_drawn not in self._draws:
            self._draws[n_drawn] = self._draw_learned(n_drawn)
        return self._draws[n_drawn]

    def _draw_learned(self, n_drawn: int) -> list[Floats]:
        rng = np.random.default_rng([self.seed, n_drawn] if n_drawn else self.seed)
        if self._rates is not None and not n_drawn:
            return [self._rates.draw(rng) for _ in range(self.n_draws)]
        ratios, _, true = self._calibration
        rows = (self._draw_calibration(n_drawn, rng) for _ in range(self.n_draws))
        if self._rates is not None:
            return [self._learn_rates(drawn).draw(rng) for drawn in rows]
        return [self._learn_biases(ratios[drawn], true[drawn], rng) for drawn in rows]

    def _draw_calibration(self, n_drawn: int, rng: np.random.Generator) -> Codes:
        """Draw rows of the calibration images: whole samples, or within each class as many as it has."""
        true = self._calibration[2]
        if self._samples is not None:
            return draw_whole(self._samples, rng, n_drawn, true)
        counts = np.bincount(true, minlength=self.n_classes)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        order = np.argsort(true, kind="stable")
        return np.asarray(order[first + (rng.random(len(true)) * np.repeat(counts, counts)).astype(int)])

    def _learn_biases(self, ratios: Floats, true: Codes, rng: np.random.Generator | None) -> Floats:
        """Return (1 + C,): the log of the scale and the bias of each class under which the classes are most likely."""
        n, rows = len(true), np.arange(len(true))
        counts = np.bincount(true, minlength=self.n_classes)
        offset = np.log((counts + 0.5) / (n + 0.5 * self.n_classes))
        centre = np.zeros(1 + self.n_classes)
        start = centre
        precision = BIAS_PRECISION if rng is None or self._samples is None else SAMPLE_PRECISION
        if rng is not None:
            centre = rng.normal(0, precision**-0.5, len(centre))
            start = self._learned

        def loss(parameters: Floats) -> tuple[float, Floats]:
            scale, off = np.exp(parameters[0]), parameters - centre
            logs = log_softmax(scale * ratios + parameters[1:] + offset, axis=1)
            excess = np.exp(logs)
            excess[rows, true] -= 1
            slope = np.append(scale * (excess * ratios).sum(), excess.sum(axis=0))
            return precision / 2 * (off**2).sum() - logs[rows, true].sum(), precision * off + slope

        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)

    def _weigh(self, learned: Floats, ratios: Floats, predicted: Codes) -> Floats:
        """Return the likelihood of each image under each class, (n, C); every row up to a factor."""
        if self.method == "confusion":
            return learned.T[predicted]
        return np.asarray(np.exp(np.exp(learned[0]) * ratios + (learned[1:] - learned[1:].max())))

    def _compare_classes(self, log_probabilities: Floats) -> Floats:
        """Return the logarithms of likelihoods (n, C), with the largest of each image 0."""
        ratios = log_probabilities - self.log_prior
        return np.asarray(ratios - ratios.max(axis=1, keepdims=True))

    def estimate_mix(
        self, log_probabilities: Floats, start: Floats | None = None, tolerance: float = TOLERANCE
    ) -> Floats:
        """Return the estimated prevalences (C,) of one sample, given the log-probabilities (n, C) of its images."""
        ratios, predicted = self._compare_classes(log_probabilities), log_probabilities.argmax(axis=1)
        return estimate_prevalence(self._weigh(self._learned, ratios, predicted), start=start, tolerance=tolerance)

    def correct(self, log_probabilities: ArrayLike, samples: Codes | None = None) -> CorrectedCounts:
        """Return the corrected counts of images that are counted together.

        Args:
            log_probabilities: (n, C) of the images.
            samples: (n,) the sample of each image, as codes; if there are several, whole samples are drawn. By default
                each image is independent.
        """
        logs = np.asarray(log_probabilities, dtype=float).reshape(-1, self.n_classes)
        if len(logs) == 0:
            zeros = np.zeros((self.n_draws, self.n_classes))
            return CorrectedCounts(zeros[0], zeros[0], zeros[0], zeros[:0], zeros)
        count = self._count_by_predictions if self.method == "confusion" else self._count_by_probabilities
        posterior, counts = count(logs, samples)
        total = posterior.sum(axis=0)
        low, high = np.quantile(counts, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return CorrectedCounts(total, np.minimum(low, total), np.maximum(high, total), posterior, counts)

    def _count_by_probabilities(self, logs: Floats, samples: Codes | None) -> tuple[Floats, Floats]:
        """Return the posterior (n, C) of the images, and the counts (D, C) of every draw."""
        rng = np.random.default_rng([self.seed, zlib.crc32(logs.tobytes())])  # samples vary independently
        n, ratios, predicted = len(logs), self._compare_classes(logs), logs.argmax(axis=1)
        likelihood = self._weigh(self._learned, ratios, predicted)
        mix = estimate_prevalence(likelihood)
        n_counted = 1 if samples is None else len(np.unique(samples))
        counts = np.empty((self.n_draws, self.n_classes))
        for number, draw in enumerate(self._take_draws(n_counted)):
            drawn_likelihood = self._weigh(draw, ratios, predicted)
            drawn = rng.integers(0, n, n) if samples is None or n_counted == 1 else draw_whole(samples, rng, n_counted)
            times = np.bincount(drawn, minlength=n).astype(float)
            drawn_mix = estimate_prevalence(drawn_likelihood, times, mix)
            cumulative = (drawn_likelihood * drawn_mix).cumsum(axis=1)
            classes = (cumulative <= rng.random((n, 1)) * cumulative[:, -1:]).argmin(axis=1)
            counts[number] = np.bincount(classes, minlength=self.n_classes)
        return _posterior(likelihood, mix), counts

    def _count_by_predictions(self, logs: Floats, samples: Codes | None) -> tuple[Floats, Floats]:
        """Return the same from the predictions alone; their order does not matter."""
        classes, which, times = np.unique(logs.argmax(axis=1), return_inverse=True, return_counts=True)
        rng = np.random.default_rng([self.seed, *classes, *times])  # samples vary independently
        posterior, counts = self._sample_counts(classes, times, self._take_draws(0), rng)
        if self._samples is not None:  # for the intervals alone
            n_counted = 1 if samples is None else len(np.unique(samples))
            counts = self._sample_counts(classes, times, self._take_draws(n_counted), rng)[1]
        return posterior[which], counts

    def _sample_counts(
        self, predicted: Codes, times: Codes, draws: list[Floats], rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Return the posterior (k, C) of the classes given each of k predictions, and the counts (D, C) of every draw.

        Gibbs sampling: the classes of the images given the prevalences, then the prevalences given the classes; every
        draw starts from other prevalences.
        """
        start, n = estimate_prevalence(self._learned.T[predicted], times.astype(float)), times.sum()
        prior = min(MIX_PRIOR / self.n_classes, 0.5)
        counts, shares = np.empty((len(draws), self.n_classes)), np.zeros((len(predicted), self.n_classes))
        for number, errors in enumerate(draws):
            likelihood = errors.T[predicted]
            mix = estimate_prevalence(likelihood, rng.multinomial(n, times / n).astype(float), start)
            mix = (n * mix + 1 / self.n_classes) / (n + 1)  # a prevalence of 0 would stay 0
            for _ in range(N_SWEEPS):
                share = _posterior(likelihood, mix)
                counts[number] = rng.multinomial(times, share).sum(axis=0)
                mix = rng.standard_gamma(prior + counts[number])
                mix = mix / mix.sum()
            shares += share / len(draws)
        return shares, counts


def draw_whole(samples: Codes, rng: np.random.Generator, n_drawn: int, classes: Codes | None = None) -> Codes:
    """Draw whole samples, with replacement, and return the rows of their images.

    Args:
        samples: (n,) the sample of each image, as codes.
        rng: what to draw with.
        n_drawn: number of samples to draw.
        classes: (n,) the class of each image; the images of a class that is in no drawn sample come from one of its
            samples.
    """
    rows = split_by_class(np.unique(samples, return_inverse=True)[1])
    drawn = np.concatenate([rows[number] for number in rng.integers(len(rows), size=n_drawn)])
    if classes is None:
        return drawn
    lost = [np.flatnonzero(classes == code) for code in np.setdiff1d(classes, classes[drawn])]
    return np.concatenate([drawn, *(own[samples[own] == samples[rng.choice(own)]] for own in lost)])


def estimate_prevalence(
    likelihood: Floats, times: Floats | None = None, start: Floats | None = None, tolerance: float = TOLERANCE
) -> Floats:
    """Return the prevalences (C,) under which the images are most likely, by expectation–maximisation.

    Args:
        likelihood: (n, C) of each image under each class, every row up to a factor.
        times: (n,) weight of each image; by default 1.
        start: (C,) first estimate; by default equal prevalences.
        tolerance: stop when no prevalence changes by more than this in a step.
    """
    n, n_classes = likelihood.shape
    times = np.ones(n) if times is None else times
    even = np.full(n_classes, 1 / n_classes)
    mix = even if start is None else 0.99 * start + 0.01 * even  # a prevalence of 0 would stay 0
    for _ in range(MOST_ITERATIONS):
        before = mix
        mix = before * (likelihood.T @ (times / np.maximum(likelihood @ before, 1e-300)))
        mix = mix / mix.sum()
        if np.abs(mix - before).max() < tolerance:
            break
    return mix


def _posterior(likelihood: Floats, mix: Floats) -> Floats:
    joint = likelihood * mix
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300))
