"""The base of the classifiers: fitting with a calibration set, and probabilities."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from plankton_embed.classifiers.calibration import fit_temperature
from plankton_embed.errors import InputError
from plankton_embed.images.balance import shuffle_by_class
from plankton_embed.table import class_means
from plankton_embed.vector_index import Neighbors

LEFT_OUT_SHARE = 0.1  # share of the images, where no calibration or validation set is given
KINDS = [np.float64, np.float32]
Labelled = tuple[NDArray[Any], NDArray[np.intp]]  # vectors (n, d) and class codes (n,)


class Rating(NamedTuple):
    """How a classifier judges the classes of n vectors.

    `keys`: arrays (n, C) by which classes are sorted as `np.lexsort` does, smaller is better. `logits`: (n, C), higher
    for more likely classes. `neighbors`: the nearest reference vectors, if the classifier has searched for them.
    """

    keys: tuple[NDArray[np.float64], ...]
    logits: NDArray[np.float64]
    neighbors: Neighbors | None = None


class CalibratedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with calibrated probabilities: one temperature scales its logits.

    A subclass learns (`_learn`) and returns one logit per class, higher for more likely classes (`_logits`).

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d), class means, not renormalised.
        temperature_: the logits are divided by it (Guo et al. 2017, arXiv 1706.04599).
    """

    _learns_from_all = True  # after the temperature is found, also from the images held out for it

    def fit(self, X: ArrayLike, y: ArrayLike, calibration: tuple[ArrayLike, ArrayLike] | None = None) -> Self:
        """Learn from vectors X (n, d) with class names y (n,), and find the temperature.

        Args:
            X: vectors, finite.
            y: class names.
            calibration: vectors and class names that the network was not trained on; those of other classes are left
                out. By default a stratified tenth of X is used to fit the temperature, and is then learned from as
                well (except by the MLP). Training images of the network would give probabilities that are too high.

        Raises:
            InputError: no calibration image is of a class in y.
        """
        images = self._take(X, y)
        learned, checked = (
            self._split(images) if calibration is None else (images, self._check_calibration(*calibration))
        )
        self._learn(learned, checked)
        self.temperature_ = 1.0 if checked is None else self._find_temperature(checked)
        if calibration is None and self._learns_from_all:
            self._learn(images, None)
        return self

    def fit_names(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn as `fit` does, but leave the temperature at 1: faster, for uses that need no probabilities."""
        images = self._take(X, y)
        self._learn(*((images, None) if self._learns_from_all else self._split(images)))
        self.temperature_ = 1.0
        return self

    def _take(self, X: ArrayLike, y: ArrayLike) -> Labelled:
        vectors, labels = validate_data(self, X, y, dtype=KINDS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes")  # few examples of many classes are fine
            check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self._check_settings(len(vectors))
        self.centroids_ = class_means(vectors, codes)
        return vectors, codes

    @staticmethod
    def _split(images: Labelled) -> tuple[Labelled, Labelled | None]:
        """Return the images to learn from, and a stratified tenth for calibration; None if there are too few."""
        vectors, codes = images
        is_left_out = hold_out(codes, LEFT_OUT_SHARE)
        calibration = (vectors[is_left_out], codes[is_left_out]) if is_left_out.any() else None
        return (vectors[~is_left_out], codes[~is_left_out]), calibration

    def _check_settings(self, n_images: int) -> None:
        """Raise if the settings cannot be used with that many images."""

    @abstractmethod
    def _learn(self, images: Labelled, calibration: Labelled | None) -> None:
        """Learn from images; use the calibration images only to decide when to stop."""

    def _find_temperature(self, calibration: Labelled) -> float:
        """Return the temperature under which the calibration images are most likely."""
        return fit_temperature(self._logits(calibration[0]), calibration[1])

    @abstractmethod
    def _logits(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return logits (n, C), higher for more likely classes."""

    def _check_calibration(self, X: ArrayLike, y: ArrayLike) -> Labelled:
        vectors = validate_data(self, X, dtype=KINDS, reset=False)
        labels = check_array(y, ensure_2d=False, dtype=None)
        return keep_classes(vectors, labels, self.classes_, "calibration", "vector")

    def _check_query(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, dtype=KINDS, reset=False))

    def assess(self, X: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the codes of all classes for each vector, best first, and the log-probabilities.

        Returns:
            Codes (n, C), as `rank`, and log-probabilities (n, C) in the order of `classes_`.
        """
        rating = self._rate(self._check_query(X))
        return np.lexsort(rating.keys, axis=1), self._scale(rating)

    def assess_best(
        self, X: ArrayLike, n_best: int = 2
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """Return the first columns of `assess`, without sorting the other classes, and the distances to these classes.

        Args:
            X: vectors (n, d).
            n_best: number of classes, 1 to C.

        Returns:
            Codes (n, n_best), best first; log-probabilities (n, C) of all classes, in the order of `classes_`; and the
            distances (n, n_best) of `distance_to`.
        """
        vectors = self._check_query(X)
        rating = self._rate(vectors)
        codes = _find_best(rating.keys, n_best)
        distances = [self._distance_to(vectors, column, rating.neighbors) for column in codes.T]
        return codes, self._scale(rating), np.stack(distances, axis=1)

    def _rate(self, vectors: NDArray[Any]) -> Rating:
        logits = self._logits(vectors)
        return Rating((-logits,), logits)

    def _scale(self, rating: Rating) -> NDArray[np.float64]:
        """Return the log-probabilities (n, C)."""
        return np.asarray(log_softmax(rating.logits / self.temperature_, axis=1))

    def rank(self, X: ArrayLike) -> NDArray[np.intp]:
        """Return the codes of all classes for each vector, (n, C), best first."""
        return self.assess(X)[0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class name of each vector, (n,)."""
        best = self.rank(X)[:, 0]
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of every class for each vector, (n, C), in the order of `classes_`."""
        return np.exp(self.assess(X)[1])

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-probabilities, (n, C)."""
        return self.assess(X)[1]

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each vector to every class mean, (n, C), in the order of `classes_`."""
        return np.asarray(cdist(self._check_query(X), self.centroids_))

    def distance_to(self, X: ArrayLike, codes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the distance, as in `distances`, of each vector to one class, given by its code (n,); (n,)."""
        return self._distance_to(self._check_query(X), codes)

    def _distance_to(
        self, vectors: NDArray[Any], codes: NDArray[np.intp], neighbors: Neighbors | None = None
    ) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(vectors - self.centroids_[codes], axis=1))


def _find_best(keys: tuple[NDArray[np.float64], ...], n_best: int) -> NDArray[np.intp]:
    """Return the first columns of `np.lexsort(keys, axis=1)`, (n, n_best), for one or two keys."""
    ties, primary = keys[0], keys[-1].copy()
    rows, best = np.arange(len(primary)), np.empty((len(primary), n_best), dtype=np.intp)
    for column in range(n_best):
        is_least = primary == primary.min(axis=1, keepdims=True)
        best[:, column] = np.where(is_least, ties, np.inf).argmin(axis=1)
        primary[rows, best[:, column]] = np.inf
    return best


def keep_classes(
    values: NDArray[Any], labels: NDArray[Any], classes: NDArray[Any], argument: str, unit: str
) -> Labelled:
    """Keep the rows (n, …) whose label is one of the sorted classes; return them and their codes.

    Raises:
        InputError: the number of labels differs from that of rows, or no label is one of the classes; the message
            gives the name of the argument and what a row is (`unit`).
    """
    kept = np.isin(labels, classes)
    if len(labels) != len(values) or not kept.any():
        raise InputError(
            f"{argument}: expected a label for each {unit}, some of them of the {len(classes)} classes of the "
            f"classifier; found {len(values)} {unit}s, {len(labels)} labels, {int(kept.sum())} of its classes"
        )
    return values[kept], np.searchsorted(classes, labels[kept])


def hold_out(codes: NDArray[np.intp], share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Return the mask (n,) of a stratified share of the images.

    Of each class its share is in the mask, rounded up or down, and at least one image is not.
    """
    order, number = shuffle_by_class(codes, np.random.default_rng(seed))
    n_of_class = np.bincount(codes)[codes[order]]
    n_held_out = np.round(share * n_of_class, 9)  # 0.1 * 30 is slightly more than 3
    may_be = np.flatnonzero((number < n_held_out) & (number < n_of_class - 1))
    position = (number[may_be] + 0.5) / n_of_class[may_be]  # within its class, 0 to 1
    by_turn = np.lexsort((position, number[may_be] >= np.floor(n_held_out[may_be])))
    mask = np.zeros(len(codes), dtype=bool)
    mask[order[may_be[by_turn[: round(share * len(codes))]]]] = True
    return mask
