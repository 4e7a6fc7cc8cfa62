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

CorrectionMethod = Literal["em", "confusion"]
METHODS: tuple[CorrectionMethod, ...] = ("em", "confusion")
N_DRAWS = 200
LEVEL = 0.9  # share of the intervals that should hold the true count
BIAS_PRECISION = 5.0  # of the normal prior of every bias, and of the logarithm of the scale
SAMPLE_PRECISION = 1.0  # the same where whole samples are drawn: the biases of a few samples vary more than their mean
MIX_PRIOR = 5.0  # images, shared by all classes, that are added to each sample: few classes are common
N_SWEEPS = 30  # of Gibbs sampling in every draw
MOST_ITERATIONS, TOLERANCE = 500, 1e-6

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class CorrectedCounts:
    """What a sample holds.

    `count`, `low` and `high` (C,) of the classes; `membership` (n, C): the chance that each image is of each class,
    given the mix of the sample; its columns add up to `count`. `draws` (B, C): the counts of the draws behind the
    intervals, which add up over samples draw by draw, since how the classifier errs is the same in a draw for all of
    them (where whole samples are drawn: for all that have as many samples).
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
    1901.06852). `confusion`: the mixes that the predictions make likely, given how often images of each class get
    each prediction (adjusted counts; Hopkins and King 2010, American Journal of Political Science 54).

    `confusion` draws from the posterior distributions of the error rates (see `ErrorRates`), and of the mix given them
    (Dirichlet, with a prior under which few classes are common); its counts are means. Error rates are learned from the
    calibration images alone, not from the sample (a cut posterior; Plummer 2015, Statistics and Computing 25).

    The intervals come from draws. With `em` each draws the calibration images anew within their classes (bootstrap),
    the images of the sample too, and then a class for every image of the sample. It also draws what the biases are
    shrunk to, from the normal distribution that shrinking stands for; else few calibration images would look like
    certainty. With `confusion` each draws error rates, the mix, and a class for every image.
    With `samples` each draw takes whole samples of calibration images (see `draw_whole`): images of one sample are more
    alike than those of several. How the classifier errs differs between samples, those that are counted among
    them: of G calibration samples a draw takes k, 1/k = 1/m + 1/G (at least 1), where m samples are counted together.
    What it learns then varies as much as the difference between their errors and those of the calibration samples.

    Args:
        log_probabilities: (m, C) logarithms of the probabilities of the calibration images, not trained on.
        codes: (m,) their classes, as columns.
        prior: (C,) mix of classes that the probabilities take for granted; by default all alike.
        method: `em` or `confusion`.
        samples: (m,) which calibration images belong together, as codes from 0; by default each is independent.
        n_draws: draws of the intervals.
        level: share of the intervals that should hold the true count.
        seed: of the draws.

    Raises:
        InputError: no calibration image, the shapes do not fit, or a class has no share of the prior.
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
        taken = np.ones(self.n_classes) if prior is None else np.asarray(prior, dtype=float)
        if taken.shape != (self.n_classes,) or not (np.isfinite(taken) & (taken > 0)).all():
            raise InputError(f"prior: expected {self.n_classes} shares above 0, one a class; found {taken.tolist()}")
        self.log_prior = np.log(taken)
        self.method, self.level, self.seed = method, level, seed
        ratios, named = logs - self.log_prior, logs.argmax(axis=1)
        self._samples, self.n_draws, self._calibration = samples, n_draws, (ratios, named, known)
        self._rates = self._learn_rates(np.arange(len(known))) if method == "confusion" else None
        self._learned = self._learn_biases(ratios, known, None) if self._rates is None else self._rates.mean()
        self._draws: dict[int, list[Floats]] = {}

    def _learn_rates(self, rows: Codes) -> ErrorRates:
        ratios, named, known = self._calibration
        return ErrorRates(np.exp(ratios[rows] + self.log_prior), named[rows], known[rows])

    def _take_draws(self, n_counted: int) -> list[Floats]:
        """Return what each draw has learned, where so many samples are counted together (0: drawn by image)."""
        n_drawn = 0  # whole samples
        if self._samples is not None and n_counted:
            n_known = len(np.unique(self._samples))
            n_drawn = max(1, round(n_known * n_counted / (n_known + n_counted)))
        if n_drawn not in self._draws:
            self._draws[n_drawn] = self._draw_learned(n_drawn)
        return self._draws[n_drawn]

    def _draw_learned(self, n_drawn: int) -> list[Floats]:
        rng = np.random.default_rng([self.seed, n_drawn] if n_drawn else self.seed)
        if self._rates is not None and not n_drawn:
            return [self._rates.draw(rng) for _ in range(self.n_draws)]
        ratios, _, known = self._calibration
        rows = (self._draw_calibration(n_drawn, rng) for _ in range(self.n_draws))
        if self._rates is not None:
            return [self._learn_rates(drawn).draw(rng) for drawn in rows]
        return [self._learn_biases(ratios[drawn], known[drawn], rng) for drawn in rows]

    def _draw_calibration(self, n_drawn: int, rng: np.random.Generator) -> Codes:
        """Return rows of the calibration images: whole samples, or as many of each class as there are."""
        known = self._calibration[2]
        if self._samples is not None:
            return draw_whole(self._samples, rng, n_drawn, known)
        counts = np.bincount(known, minlength=self.n_classes)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        order = np.argsort(known, kind="stable")
        return np.asarray(order[first + (rng.random(len(known)) * np.repeat(counts, counts)).astype(int)])

    def _learn_biases(self, ratios: Floats, known: Codes, rng: np.random.Generator | None) -> Floats:
        """Return (1 + C,): log of the scale and bias of each class under which the classes are likeliest."""
        n, rows = len(known), np.arange(len(known))
        counts = np.bincount(known, minlength=self.n_classes)
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
            excess[rows, known] -= 1
            slope = np.append(scale * (excess * ratios).sum(), excess.sum(axis=0))
            return precision / 2 * (off**2).sum() - logs[rows, known].sum(), precision * off + slope

        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)

    def _weigh(self, learned: Floats, ratios: Floats, named: Codes) -> Floats:
        """Return (n, C), how much likelier each image is under each class, every row up to a factor of its own."""
        if self.method == "confusion":
            return learned.T[named]
        logs = np.exp(learned[0]) * ratios + learned[1:]
        return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))

    def estimate_mix(
        self, log_probabilities: Floats, start: Floats | None = None, tolerance: float = TOLERANCE
    ) -> Floats:
        """Return the estimated prevalences (C,) of one sample, given the log-probabilities (n, C) of its images."""
        ratios, named = log_probabilities - self.log_prior, log_probabilities.argmax(axis=1)
        return estimate_prevalence(self._weigh(self._learned, ratios, named), start=start, tolerance=tolerance)

    def correct(self, log_probabilities: ArrayLike, samples: Codes | None = None) -> CorrectedCounts:
        """Correct the counts of images that are counted together.

        Args:
            log_probabilities: (n, C) of the images.
            samples: (n,) which of them belong together, as codes; where there are several, whole ones are drawn. By
                default each image is independent.
        """
        logs = np.asarray(log_probabilities, dtype=float).reshape(-1, self.n_classes)
        if len(logs) == 0:
            zeros = np.zeros((self.n_draws, self.n_classes))
            return CorrectedCounts(zeros[0], zeros[0], zeros[0], zeros[:0], zeros)
        count = self._count_by_names if self.method == "confusion" else self._count_by_probabilities
        membership, counts = count(logs, samples)
        total = membership.sum(axis=0)
        low, high = np.quantile(counts, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return CorrectedCounts(total, np.minimum(low, total), np.maximum(high, total), membership, counts)

    def _count_by_probabilities(self, logs: Floats, samples: Codes | None) -> tuple[Floats, Floats]:
        """Return the membership (n, C) of the images, and the counts (D, C) of every draw."""
        rng = np.random.default_rng([self.seed, zlib.crc32(logs.tobytes())])  # samples vary independently
        n, ratios, named = len(logs), logs - self.log_prior, logs.argmax(axis=1)
        evidence = self._weigh(self._learned, ratios, named)
        mix = estimate_prevalence(evidence)
        n_counted = 1 if samples is None else len(np.unique(samples))
        counts = np.empty((self.n_draws, self.n_classes))
        for number, draw in enumerate(self._take_draws(n_counted)):
            evidence_drawn = self._weigh(draw, ratios, named)
            drawn = rng.integers(0, n, n) if samples is None or n_counted == 1 else draw_whole(samples, rng, n_counted)
            times = np.bincount(drawn, minlength=n).astype(float)
            chance = _share_out(evidence_drawn, estimate_prevalence(evidence_drawn, times, mix)).cumsum(axis=1)
            classes = (chance < rng.random((n, 1))).sum(axis=1).clip(max=self.n_classes - 1)
            counts[number] = np.bincount(classes, minlength=self.n_classes)
        return _share_out(evidence, mix), counts

    def _count_by_names(self, logs: Floats, samples: Codes | None) -> tuple[Floats, Floats]:
        """Return the same from the predictions alone, in whatever order."""
        names, place, times = np.unique(logs.argmax(axis=1), return_inverse=True, return_counts=True)
        rng = np.random.default_rng([self.seed, *names, *times])  # samples vary independently
        membership, counts = self._sample_counts(names, times, self._take_draws(0), rng)
        if self._samples is not None:  # for the intervals alone
            n_counted = 1 if samples is None else len(np.unique(samples))
            counts = self._sample_counts(names, times, self._take_draws(n_counted), rng)[1]
        return membership[place], counts

    def _sample_counts(
        self, names: Codes, times: Codes, draws: list[Floats], rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Return the chances (k, C) of the classes given each of k names, and the counts (D, C) of every draw.

        Gibbs sampling: the classes of the images given the mix, then the mix given the classes, from another mix in
        every draw.
        """
        start, n = estimate_prevalence(self._learned.T[names], times.astype(float)), times.sum()
        prior = min(MIX_PRIOR / self.n_classes, 0.5)
        counts, shares = np.empty((len(draws), self.n_classes)), np.zeros((len(names), self.n_classes))
        for number, errors in enumerate(draws):
            evidence = errors.T[names]
            mix = estimate_prevalence(evidence, rng.multinomial(n, times / n).astype(float), start)
            mix = (n * mix + 1 / self.n_classes) / (n + 1)  # what stands at 0 would stay there
            for _ in range(N_SWEEPS):
                share = _share_out(evidence, mix)
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
        n_drawn: samples to draw.
        classes: (n,) the class of each image; one that no drawn sample has is taken from one of its samples.
    """
    rows = np.split(np.argsort(samples, kind="stable"), np.cumsum(np.unique(samples, return_counts=True)[1])[:-1])
    drawn = np.concatenate([rows[number] for number in rng.integers(len(rows), size=n_drawn)])
    if classes is None:
        return drawn
    lost = [np.flatnonzero(classes == code) for code in np.setdiff1d(classes, classes[drawn])]
    return np.concatenate([drawn, *(own[samples[own] == samples[rng.choice(own)]] for own in lost)])


def estimate_prevalence(
    evidence: Floats, times: Floats | None = None, start: Floats | None = None, tolerance: float = TOLERANCE
) -> Floats:
    """Return the mix of classes (C,) under which the images are likeliest, by expectation–maximisation.

    Args:
        evidence: (n, C), how much likelier each image is under each class.
        times: (n,) how often each image counts; by default once.
        start: (C,) where to begin; by default all classes alike.
        tolerance: of every prevalence, between two steps, at which to stop.
    """
    n, n_classes = evidence.shape
    times = np.ones(n) if times is None else times
    even = np.full(n_classes, 1 / n_classes)
    mix = even if start is None else 0.99 * start + 0.01 * even  # what stands at 0 would stay there
    for _ in range(MOST_ITERATIONS):
        before = mix
        mix = before * (evidence.T @ (times / np.maximum(evidence @ before, 1e-300)))
        mix = mix / mix.sum()
        if np.abs(mix - before).max() < tolerance:
            break
    return mix


def _share_out(evidence: Floats, mix: Floats) -> Floats:
    joint = evidence * mix
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300))
