"""Test whether a sample is a mixture of the calibration classes, as its corrected counts assume."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, t

from plankton_embed.analysis.quantification import CountCorrection

FIT_LIMIT = 0.01  # false discovery rate at which samples are not corrected
N_SIMULATED = 100  # samples, for the distribution of the statistic by chance
MOST_IMAGES = 1000  # of a sample, drawn once where there are more
LEAST_IMAGES = 20  # of a sample, and of the calibration images
MOST_NOVELTY = 6.0  # of one image, so that few images do not decide alone
TOLERANCE = 1e-4  # of prevalences: changes the statistic by less than a thousandth of its spread by chance
PRIOR_IMAGES = 5  # images with the common variance that are added to those of each class

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def find_misfits(p_values: ArrayLike) -> NDArray[np.bool_]:
    """Return which samples are not such a mixture (S,), by their p-values, some of which may be nan.

    Among hundreds of samples, some have a small p-value by chance. On average at most a hundredth of the samples found
    here are mixtures (false discovery rate; Benjamini & Hochberg 1995,
    https://doi.org/10.1111/j.2517-6161.1995.tb02031.x).
    """
    p = np.asarray(p_values, dtype=float)
    tested, misfits = np.isfinite(p), np.zeros(len(p), dtype=bool)
    if tested.any():
        misfits[tested] = false_discovery_control(p[tested]) < FIT_LIMIT
    return misfits


def draw_tested(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw the vectors of a sample that are tested: 1,000, which do not depend on their order; of fewer, all."""
    if len(vectors) <= MOST_IMAGES:
        return vectors
    rows = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.shape[1] * vectors.itemsize)))
    ordered = vectors[np.argsort(rows[:, 0], kind="stable")]
    rng = np.random.default_rng(zlib.crc32(ordered.tobytes()))
    return np.asarray(ordered[rng.permutation(len(ordered))[:MOST_IMAGES]])


class MixtureTest:
    """Tests whether a sample differs from the calibration images only by its prevalences.

    The statistic is the mean novelty of the sample's images minus that of the calibration images, weighted by class
    with the estimated prevalences. The novelty of an image is the mean of -log(1 - rank) over its novelty scores, with
    ranks among the calibration images: images of unknown classes or of another instrument raise it.

    The distribution of the statistic by chance is simulated (a parametric bootstrap): samples are drawn from the
    calibration images by class with the estimated prevalences, their prevalences are estimated again, and the
    calibration images are resampled within their classes. For classes with few images, whose draws vary too little, the
    variance is raised towards that of all classes. The p-value is one-sided, by the t distribution.

    Args:
        correction: estimates the prevalences.
        log_probabilities: (m, C) of the calibration images.
        codes: (m,) their classes, as columns.
        novelty: (m, k) their novelty scores, higher is more novel.
        seed: of the draws.
        samples: (m,) codes of the samples of the calibration images; by default each image is independent.
    """

    def __init__(
        self,
        correction: CountCorrection,
        log_probabilities: ArrayLike,
        codes: ArrayLike,
        novelty: ArrayLike,
        seed: int = 0,
        samples: Codes | None = None,
    ) -> None:
        self._correction, self._seed = correction, seed
        self._logs, self._codes = np.asarray(log_probabilities, dtype=float), np.asarray(codes, dtype=np.intp)
        self._sorted = np.sort(np.asarray(novelty, dtype=float), axis=0)
        self._novelty = self._rank(np.asarray(novelty, dtype=float), False)
        self._order = np.argsort(self._codes, kind="stable")
        self._counts = np.bincount(self._codes, minlength=correction.n_classes)
        self._first = np.cumsum(self._counts) - self._counts
        self._between, self._freedom = 0.0, N_SIMULATED - 1
        if samples is not None:
            self._between, n_samples = self._measure_between(samples)
            self._freedom = min(self._freedom, max(n_samples - 1, 1))

    def _rank(self, novelty: Floats, is_new: bool) -> Floats:
        """Return the novelty of each image, 0 to `MOST_NOVELTY`; among new images there is one more rank."""
        columns = zip(self._sorted.T, novelty.T, strict=True)
        below = np.array([(np.searchsorted(c, v) + np.searchsorted(c, v, "right")) / 2 for c, v in columns])  # ties
        share = (below + 0.5 * is_new) / (len(self._sorted) + is_new)
        return np.asarray(np.minimum(-np.log(1 - share), MOST_NOVELTY).mean(axis=0))

    def p_value(self, log_probabilities: ArrayLike, novelty: ArrayLike) -> float:
        """Return the p-value of one sample, given (n, C) and (n, k) of its images; nan with fewer than 20 images."""
        logs, scores = np.asarray(log_probabilities, dtype=float), np.asarray(novelty, dtype=float)
        if min(len(logs), len(self._codes)) < LEAST_IMAGES:
            return float("nan")
        order = np.lexsort(scores.T)  # the result does not depend on the order of images
        logs, scores = logs[order], scores[order]
        rng = np.random.default_rng([self._seed, zlib.crc32(logs.tobytes()), 2])  # samples vary independently
        rows = rng.permutation(len(logs))[:MOST_IMAGES]
        logs, ranked = logs[rows], self._rank(scores[rows], True)
        mix, excess = self._compare(logs, ranked, np.arange(len(self._codes)))
        drawn = np.where(self._counts > 0, mix, 0)
        simulated = np.empty(N_SIMULATED)
        for number in range(N_SIMULATED):
            n_each = rng.multinomial(len(logs), drawn / drawn.sum())
            sample, calibration = self._draw(n_each, rng), self._draw(self._counts, rng)
            simulated[number] = self._compare(self._logs[sample], self._novelty[sample], calibration, mix)[1]
        spread = np.sqrt(simulated.var(ddof=1) + self._missing_variance(mix) + self._between)
        return float(t.sf((excess - simulated.mean()) / max(spread, 1e-9), self._freedom))

    def _compare(
        self, logs: Floats, ranked: Floats, calibration: Codes, start: Floats | None = None
    ) -> tuple[Floats, float]:
        """Return the estimated prevalences, and the excess: how much more novel the sample is than its mixture."""
        mix = self._correction.estimate_mix(logs, start, TOLERANCE)
        codes, novelty = self._codes[calibration], self._novelty[calibration]
        counts = np.bincount(codes, minlength=len(mix))
        means = np.bincount(codes, novelty, minlength=len(mix)) / np.maximum(counts, 1)
        means[counts == 0] = self._novelty.mean()
        return mix, float(ranked.mean() - mix @ means)

    def _measure_between(self, samples: Codes) -> tuple[float, int]:
        """Return the variance of the excess between calibration samples beyond chance, and the number of samples."""
        excess, chance = [], []
        for sample in np.unique(samples):
            own = np.flatnonzero(samples == sample)
            if LEAST_IMAGES <= len(own) < len(samples):
                others = np.flatnonzero(samples != sample)
                excess.append(self._compare(self._logs[own], self._novelty[own], others)[1])
                within = self._novelty[own] - pd.Series(self._novelty[own]).groupby(self._codes[own]).transform("mean")
                n_classes = len(np.unique(self._codes[own]))
                chance.append((within**2).sum() / max(len(own) - n_classes, 1) / len(own))
        if len(excess) < 2:
            return 0.0, len(excess)
        return max(float(np.var(excess, ddof=1) - np.mean(chance)), 0.0), len(excess)

    def _draw(self, n_each: NDArray[np.integer], rng: np.random.Generator) -> Codes:
        """Draw rows of calibration images with replacement, `n_each` (C,) of each class."""
        codes = np.repeat(np.arange(len(n_each)), n_each)
        return np.asarray(self._order[self._first[codes] + (rng.random(len(codes)) * self._counts[codes]).astype(int)])

    def _missing_variance(self, mix: Floats) -> float:
        """Return the variance of the mixture's mean that is missing in draws from classes with few images."""
        n, has = self._counts, self._counts > 0
        means = np.bincount(self._codes, self._novelty, minlength=len(n)) / np.maximum(n, 1)
        squares = np.bincount(self._codes, (self._novelty - means[self._codes]) ** 2, minlength=len(n))
        common = squares.sum() / max(n.sum() - has.sum(), 1)
        variance = (squares + PRIOR_IMAGES * common) / (np.maximum(n - 1, 0) + PRIOR_IMAGES)
        shown = squares / np.maximum(n, 1) ** 2
        missing = np.where(has, np.maximum(variance / np.maximum(n, 1) - shown, 0), 2 * common)
        return float(mix**2 @ missing)
