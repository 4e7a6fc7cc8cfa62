"""What the classifiers share: fitting with a calibration set, probabilities."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Self

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

HELD_OUT = 0.1  # of the images, where no calibration or validation set is given
KINDS = [np.float64, np.float32]
Labelled = tuple[NDArray[Any], NDArray[np.intp]]  # vectors (n, d) and class codes (n,)


class CalibratedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose probabilities are scaled by one temperature, so that they come true as often as they say.

    A subclass learns (`_learn`) and gives one number a class, the larger the likelier (`_logits`).

    Attributes:
        classes_: (C,) class names, sorted.
        centroids_: float64 (C, d), class means, not renormalised.
        temperature_: what the logits are divided by (Guo et al. 2017, arXiv 1706.04599).
    """

    _learns_from_all = True  # once the temperature is known, also from the images held out for it

    def fit(self, X: ArrayLike, y: ArrayLike, calibration: tuple[ArrayLike, ArrayLike] | None = None) -> Self:
        """Learn from vectors X (n, d) with class names y (n,), and find the temperature.

        Args:
            X: vectors, finite.
            y: class names.
            calibration: vectors and class names that the network was not trained on; those of other classes are left
                aside. By default a stratified tenth of X is held out, fitted to, and then learned from as well (not by
                the MLP). A network knows its own training images too well: their probabilities come out too high.

        Raises:
            InputError: not one calibration image is of a class in y.
        """
        images = self._take(X, y)
        learned, known = self._part(images) if calibration is None else (images, self._of_known_classes(*calibration))
        self._learn(learned, known)
        self.temperature_ = 1.0 if known is None else self._find_temperature(known)
        if calibration is None and self._learns_from_all:
            self._learn(images, None)
        return self

    def fit_names(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn as `fit` does, in less time, for names alone: the temperature stays at 1."""
        images = self._take(X, y)
        self._learn(*((images, None) if self._learns_from_all else self._part(images)))
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
    def _part(images: Labelled) -> tuple[Labelled, Labelled | None]:
        """Return the images to learn from, and a stratified tenth to calibrate on; None where they are too few."""
        vectors, codes = images
        held = hold_out(codes, HELD_OUT)
        return (vectors[~held], codes[~held]), (vectors[held], codes[held]) if held.any() else None

    def _check_settings(self, n_images: int) -> None:
        """Raise where the settings cannot be used with that many images."""

    @abstractmethod
    def _learn(self, images: Labelled, calibration: Labelled | None) -> None:
        """Learn from images; what needs images it does not learn from (when to stop) takes the second ones."""

    def _find_temperature(self, calibration: Labelled) -> float:
        """Return the temperature at which the calibration images are likeliest."""
        return fit_temperature(self._logits(calibration[0]), calibration[1])

    @abstractmethod
    def _logits(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n, C), the larger the likelier."""

    def _of_known_classes(self, X: ArrayLike, y: ArrayLike) -> Labelled:
        vectors = validate_data(self, X, dtype=KINDS, reset=False)
        labels = check_array(y, ensure_2d=False, dtype=None)
        return keep_known(vectors, labels, self.classes_, "calibration", "vector")

    def _check_query(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, dtype=KINDS, reset=False))

    def assess(self, X: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the codes of all classes for each vector, best first, and the logarithms of their probabilities.

        Returns:
            Codes (n, C), as `rank`, and logarithms (n, C) in the order of `classes_`.
        """
        order, logits = self._assess(self._check_query(X))
        return order, np.asarray(log_softmax(logits / self.temperature_, axis=1))

    def _assess(self, vectors: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        logits = self._logits(vectors)
        return np.argsort(-logits, axis=1, kind="stable"), logits

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
        """Return the logarithms of the probabilities, (n, C)."""
        return self.assess(X)[1]

    def distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each vector to every class mean, (n, C), in the order of `classes_`."""
        return np.asarray(cdist(self._check_query(X), self.centroids_))

    def distance_to(self, X: ArrayLike, codes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the distance of each vector to one class, given by its code (n,): that of `distances`; (n,)."""
        return np.asarray(np.linalg.norm(self._check_query(X) - self.centroids_[codes], axis=1))


def keep_known(values: NDArray[Any], labels: NDArray[Any], classes: NDArray[Any], argument: str, unit: str) -> Labelled:
    """Keep the rows (n, …) whose label is among the sorted classes, and give their codes.

    Raises:
        InputError: not one label a row, or none of a known class; names the argument and what a row is.
    """
    known = np.isin(labels, classes)
    if len(labels) != len(values) or not known.any():
        raise InputError(
            f"{argument}: expected a label for each {unit}, some of them of the {len(classes)} classes of the "
            f"classifier; found {len(values)} {unit}s, {len(labels)} labels, {int(known.sum())} of its classes"
        )
    return values[known], np.searchsorted(classes, labels[known])


def hold_out(codes: NDArray[np.intp], share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Return the mask of a stratified share of images; every class keeps at least one outside it."""
    order, number = shuffle_by_class(codes, np.random.default_rng(seed))
    n_of_class = np.bincount(codes)[codes[order]]
    position = (number + 0.5) / n_of_class  # within its class, 0 to 1
    chosen = np.argsort(position, kind="stable")[: round(share * len(codes))]
    mask = np.zeros(len(codes), dtype=bool)
    mask[order[chosen]] = True
    mask[order[number == n_of_class - 1]] = False
    return mask
