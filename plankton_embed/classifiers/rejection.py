"""Reject images of unknown classes: novelty scores, and a threshold for each predicted class."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import beta, betabinom

from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import draw_per_class
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

ENOUGH = 100  # calibration scores for a threshold; with fewer the rejected share is uncertain
OWN_WEIGHT = 3  # how often a score of the class itself counts when it is pooled with those of other classes
LEVEL = 0.9  # of the interval of the rejected share
MOST_FOR_SPREAD = 200  # vectors of a class, drawn once, on which its spread is measured

NoveltyScore = Literal["centroid", "neighbor", "density"]


class Rejector:
    """Rejects images that are too far from the reference, with a threshold for each predicted class.

    Novelty scores:

    - `centroid`: distance to the centroid of the predicted class.
    - `neighbor`: distance to the k-th nearest reference vector (Sun et al. 2022, arXiv 2204.06507).
    - `density`: that distance over the mean of the same distance at the k nearest reference vectors themselves (a local
      outlier factor, after Breunig et al. 2000).

    Args:
        measure: one of these novelty scores.
        n_neighbors: k; at most the number of reference vectors.

    Attributes:
        rate_: share of the images of known classes that may be rejected.
        thresholds_: one row per class: label, threshold, spread, n_calibration (calibration images predicted as the
            class), n_pooled (scores that the threshold is computed from); `rejected`, the share of further images of
            the class that is expected to be rejected, and `rejected_low` and `rejected_high`, its 90 % interval (the
            share varies with the calibration images: a beta distribution; Vovk 2012, arXiv 1209.2673).
    """

    def __init__(self, measure: NoveltyScore = "neighbor", n_neighbors: int = 10):
        self.measure = check_measure(measure)
        self.n_neighbors = n_neighbors

    def fit(self, vectors: NDArray[Any], labels: ArrayLike) -> Self:
        """Fit to the reference: vectors (n, d) with their class names (n,)."""
        names = np.asarray(labels, dtype=str)
        self._centroids = NearestCentroidClassifier().fit_names(vectors, names)
        self._index = VectorIndex.build(EmbeddingTable(vectors))
        self._k = min(self.n_neighbors, len(vectors))
        if self.measure == "density":
            self._reach = self._search(self._index.table.vectors, skip_itself=True)[0]
        self._spread = self._measure_spread(names)
        return self

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(C,) class names, sorted."""
        return self._centroids.classes_

    def novelty_score(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.float64]:
        """Return the novelty score of each vector (n, d), given its predicted class name (n,); (n,)."""
        return self._novelty_score(vectors, self._codes(names))

    def novelty_scores(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.float64]:
        """Return three novelty scores (n, 3) of each vector (n, d), given its predicted class name.

        The score divided by the spread of the class, the score itself, and the distance to the class centroid; higher
        is more novel.
        """
        codes = self._codes(names)
        novelty_score = self._novelty_score(vectors, codes)
        to_centroid = np.linalg.norm(vectors - self._centroids.centroids_[codes], axis=1)
        return np.stack([novelty_score / self._spread[codes], novelty_score, to_centroid], axis=1)

    def _novelty_score(
        self, vectors: NDArray[Any], codes: NDArray[np.intp], skip_itself: bool = False
    ) -> NDArray[np.float64]:
        """`skip_itself`: the vectors are in the reference, in these classes; leave each out of its own reference."""
        if self.measure == "centroid":
            to_centroid = np.linalg.norm(vectors - self._centroids.centroids_[codes], axis=1)
            counts = self._centroids.counts_[codes]  # the mean without the vector itself is n / (n - 1) times as far
            return np.asarray(to_centroid * counts / np.maximum(counts - 1, 1) if skip_itself else to_centroid)
        reach, rows = self._search(vectors, skip_itself)
        if self.measure == "density":
            reach /= np.maximum(self._reach[rows].mean(axis=1), np.finfo(np.float32).eps)
        return reach

    def _search(
        self, vectors: NDArray[Any], skip_itself: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the distance to the k-th reference vector, and the rows of all k."""
        skipped = int(skip_itself and len(self._index) > 1)
        found = self._index.search(np.asarray(vectors, np.float32), min(self._k + skipped, len(self._index)))
        return found.distances[:, -1].astype(np.float64), found.rows[:, skipped:]

    def _measure_spread(self, names: NDArray[np.str_]) -> NDArray[np.float64]:
        """Return the median novelty score of each class's reference vectors; the usual one where it has no meaning."""
        codes = self._codes(names)
        rows = draw_per_class(codes, MOST_FOR_SPREAD, np.random.default_rng(0))
        own = self._novelty_score(self._index.table.vectors[rows], codes[rows], skip_itself=True)
        medians = pd.Series(own).groupby(codes[rows]).median().to_numpy()
        is_valid = medians > np.finfo(np.float32).eps * medians.max()  # not with one example, or copies of one
        usual = float(np.median(medians[is_valid])) if is_valid.any() else 1.0
        alone = np.sqrt(2) if self.measure == "centroid" else 1.0  # the single example is as far from the true mean
        return np.where(is_valid, medians, alone * usual)

    def calibrate(self, vectors: NDArray[Any], names: ArrayLike, rate: float = 0.05) -> Self:
        """Set the thresholds so that a share `rate` of the known-class images predicted as each class is rejected.

        Of n calibration scores, the threshold is number ceil((1 - rate) (n + 1)), counted from the smallest: a further
        score of the class exceeds it with a probability of at most `rate` (split conformal prediction, by predicted
        class: Mondrian; Vovk et al. 2005, Algorithmic Learning in a Random World). A class with fewer than 100 scores
        (or the number that the rate needs) also uses scores of the classes with the most similar spread, each score
        divided by the spread of its class (as classes are pooled by Ding et al. 2023, arXiv 2306.09335). If there are
        100 scores in all, its own scores count three times; the share is then approximately `rate`. The number of
        scores makes (n + 1) rate a whole number, if there are enough, because rounding up rejects fewer than `rate`.

        Args:
            vectors: of images of known classes that the network was not trained on, (n, d).
            names: their predicted class names, (n,).
            rate: share of the images of known classes that may be rejected.

        Raises:
            SettingError: the rate is not between 0 and 1.
            InputError: too few images for the rate.
        """
        needed = least_calibration(rate)
        if len(vectors) < needed:
            raise InputError(
                f"rejecting {rate:.3g} of the images of known classes needs at least {needed} calibration images; "
                f"found {len(vectors)}. Give more of them, or a higher unknown rate"
            )
        codes = self._codes(names)
        scaled = self._novelty_score(vectors, codes) / self._spread[codes]
        order = np.random.default_rng(0).permutation(len(scaled))  # which scores a class gives, if it gives only a part
        own = [scaled[order[codes[order] == code]] for code in range(len(self.classes_))]
        n_own = np.array([len(part) for part in own])
        more = OWN_WEIGHT - 1 if len(scaled) >= ENOUGH else 0  # copies of a class's own scores
        rows = []
        for code, label in enumerate(self.classes_):
            similar = np.argsort(np.abs(np.log(self._spread / self._spread[code])), kind="stable")
            similar = np.concatenate([[code], similar[similar != code]])
            n = whole_pool(max(n_own[code], ENOUGH, needed) + more * n_own[code], rate) - more * n_own[code]
            n = max(n_own[code], min(n, len(scaled)))
            n_classes = int(np.searchsorted(np.cumsum(n_own[similar]), n)) + 1
            pooled = np.concatenate([np.tile(own[code], more), *(own[other] for other in similar[:n_classes])])
            threshold = conformal_threshold(pooled[: n + more * n_own[code]], rate) * self._spread[code]
            rows.append((label, threshold, self._spread[code], n_own[code], n))
        table = pd.DataFrame(rows, columns=["label", "threshold", "spread", "n_calibration", "n_pooled"])
        n_pooled = table["n_pooled"].to_numpy()
        weight = n_pooled + more * n_own
        # the number of equal scores that are worth as much (Kish 1965, Survey Sampling)
        effective = weight**2 / (n_pooled + ((1 + more) ** 2 - 1) * n_own)
        share = 1 - conformal_rank(weight, rate) / (weight + 1)
        table["rejected"] = share
        for end, tail in (("low", (1 - LEVEL) / 2), ("high", (1 + LEVEL) / 2)):
            table[f"rejected_{end}"] = beta.ppf(tail, share * (effective + 1), (1 - share) * (effective + 1))
        self._weight = weight
        self.thresholds_, self.rate_ = table, rate
        return self

    def count_rejected(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.float64]:
        """Return how much each calibration image counts as rejected, 0 to 1, without its effect on the threshold.

        If a score is itself the threshold, it would exceed the threshold of the other scores; the factor w / (w + 1),
        for w scores, corrects the count for that.
        """
        weight = self._weight[self._codes(names)]
        is_rejected = self.novelty_score(vectors, names) >= self.threshold(names)
        return np.where(is_rejected, weight / (weight + 1), 0.0)

    def threshold(self, names: ArrayLike) -> NDArray[np.float64]:
        """Return the threshold of each predicted class name, (n,)."""
        return self.thresholds_["threshold"].to_numpy(dtype=np.float64)[self._codes(names)]

    def reject(self, vectors: NDArray[Any], names: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each image, given its predicted class name, is rejected; (n,)."""
        return self.novelty_score(vectors, names) > self.threshold(names)

    def _codes(self, names: ArrayLike) -> NDArray[np.intp]:
        return np.searchsorted(self.classes_, np.asarray(names, dtype=str))


def check_measure(measure: NoveltyScore) -> NoveltyScore:
    """Return the name of the novelty score; SettingError if there is no such score."""
    if measure not in get_args(NoveltyScore):
        raise SettingError(f"novelty score: expected {', '.join(get_args(NoveltyScore))}; found {measure!r}")
    return measure


def least_calibration(rate: float | str) -> int:
    """Return the least number of calibration images with which that share of images can be rejected.

    Raises:
        SettingError: the rate is not a number between 0 and 1.
    """
    if isinstance(rate, str) or not 0 < rate < 1:
        raise SettingError(f"unknown rate: expected a share between 0 and 1, such as 0.05; found {rate!r}")
    return int(np.ceil(round(1 / rate, 9))) - 1


def conformal_threshold(scores: NDArray[np.floating], rate: float) -> float:
    """Return the score that a further one of the same distribution exceeds with a probability of at most `rate`."""
    rank = int(conformal_rank(np.array(len(scores)), rate))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else np.inf


def conformal_rank(n: NDArray[np.integer], rate: float) -> NDArray[np.intp]:
    """Return which of n scores is the threshold, counted from the smallest, from 1; n + 1 is none of them."""
    return np.ceil(np.round((1 - rate) * (n + 1), 9)).astype(np.intp)


def whole_pool(n: int, rate: float) -> int:
    """Return the least number of scores, n or more, whose threshold rejects a share of exactly `rate` (or nearly)."""
    rejected = np.ceil(round((n + 1) * rate, 9))
    return max(n, int(np.ceil(round(rejected / rate, 9))) - 1)


def estimate_kept(
    rejected: NDArray[np.float64], codes: NDArray[np.intp], n_classes: int, n_draws: int, seed: int = 0
) -> NDArray[np.float64]:
    """Estimate the share of each class's images that is not rejected.

    The shares are modelled as drawn from one beta distribution, which is fitted to them (empirical Bayes): a class with
    few calibration images gets approximately the share of all classes.

    Args:
        rejected: (m,) of `Rejector.count_rejected` for the calibration images.
        codes: (m,) their true classes.
        n_classes: C.
        n_draws: draws from the posterior distribution of each share.
        seed: of the draws.

    Returns:
        (1 + n_draws, C): the posterior means, then the draws.
    """
    n_images = np.bincount(codes, minlength=n_classes)
    whole = np.bincount(codes, rejected > 0, minlength=n_classes)

    def loss(parameters: NDArray[np.float64]) -> float:
        mean, size = expit(parameters[0]), np.exp(parameters[1])
        return -float(betabinom.logpmf(whole, n_images, mean * size, (1 - mean) * size).sum())

    start = np.log([(whole.sum() + 0.5) / (n_images.sum() - whole.sum() + 0.5), 20])
    found = minimize(loss, start, bounds=[(-12, 12), np.log([2, 1000])], method="L-BFGS-B").x
    mean, size = expit(found[0]), np.exp(found[1])
    above, below = whole + mean * size, n_images - whole + (1 - mean) * size
    rng, n_rejected = np.random.default_rng([seed, 3]), whole.sum() + 0.5
    of_all = rng.beta(n_rejected, len(codes) + 1 - n_rejected, (n_draws, 1)) * (len(codes) + 1) / n_rejected
    drawn = rng.beta(above, below, (n_draws, n_classes)) * of_all  # thresholds are too high or low for all classes
    share = np.concatenate([[above / (above + below)], drawn])
    return np.asarray(1 - np.minimum(share * (rejected.sum() / max(whole.sum(), 1)), 0.99))
