"""Boosted trees on numeric features, and a classifier of embedding and features together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from plankton_embed.classifiers.calibrated import LEFT_OUT_SHARE, hold_out, keep_classes
from plankton_embed.classifiers.calibration import LEAST_PROBABILITY
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.errors import InputError, SettingError, needs_extra
from plankton_embed.images.features import FeaturePreparation

Kind = Literal["histogram", "lightgbm"]
Labelled = tuple[ArrayLike, ArrayLike]  # features (n, k) and class names (n,)
Joined = tuple[NDArray[Any], NDArray[np.float64], NDArray[Any]]  # vectors (n, d), features (n, k), class names (n,)


class BoostedTreesClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Gradient-boosted trees on the columns that `FeaturePreparation` keeps, scaled by the training images.

    Missing values stay missing: each split of a tree learns to which side images without the value go. The
    settings are those of system D (FlowCam, with XGBoost): depth 3, 100 rounds, rate .1, the same weight for every
    class, and XGBoost's penalty of 1, without which trees fail on rare classes with high weights.

    Args:
        kind: `histogram`, scikit-learn's HistGradientBoostingClassifier, or `lightgbm` (extra `tabular`).
        max_depth: maximum number of splits from root to leaf.
        n_rounds: trees per class.
        learning_rate: factor of the values of each tree.
        min_images_leaf: minimum number of images in a leaf.
        penalty: L2 penalty on the values of the leaves.
        class_weight: `balanced` (n / (C · images of the class)), None, or a weight for each class name.
        random_state: seed.

    Attributes:
        classes_: (C,) class names, sorted.
        preparation_: the fitted `FeaturePreparation`; its `reasons_` report why columns are dropped.
        n_rounds_: rounds in use: all, or those with the lowest log loss on the validation images, weighted as training
            images of their class.
    """

    def __init__(
        self,
        kind: Kind = "histogram",
        max_depth: int = 3,
        n_rounds: int = 100,
        learning_rate: float = 0.1,
        min_images_leaf: int = 1,
        penalty: float = 1.0,
        class_weight: Literal["balanced"] | dict[Any, float] | None = "balanced",
        random_state: int = 0,
    ):
        self.kind = kind
        self.max_depth = max_depth
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.min_images_leaf = min_images_leaf
        self.penalty = penalty
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, validation: Labelled | None = None) -> Self:
        """Learn from features X (n, k) with class names y (n,).

        Args:
            X: numbers, an array or a DataFrame; nan and infinite values are missing.
            y: class names.
            validation: features and class names that choose the number of rounds; those of other classes are ignored.
                By default all rounds are used.

        Raises:
            SettingError: a setting is out of its range.
            InputError: fewer than two classes, no usable column, or no validation image of a class in y.
            DependencyError: LightGBM is not installed.
        """
        self._check_settings()
        _, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite=False)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"boosted trees need at least two classes; found 1 class, {self.classes_[0]}")
        self.preparation_ = FeaturePreparation().fit(X)
        if not self.preparation_.kept_.any():
            raise InputError(
                f"features: none of the {self.n_features_in_} columns over n_samples = {len(codes)} can be used; "
                f"the first is dropped: {self.preparation_.reasons_[0]}"
            )
        weights = compute_sample_weight(self.class_weight, labels)
        self.model_ = self._build().fit(self._prepare(X), codes, weights)
        self.n_rounds_ = self.n_rounds
        if validation is not None:
            val_features, truth = self._of_known_classes(*validation)
            every, of_class = np.arange(len(self.classes_)), np.empty(len(self.classes_))
            of_class[codes] = weights
            stages = self._stages(val_features)
            losses = [
                log_loss(truth, probabilities, labels=every, sample_weight=of_class[truth]) for probabilities in stages
            ]
            self.n_rounds_ = int(np.argmin(losses)) + 1
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of every class for each image, (n, C), in the order of `classes_`."""
        check_is_fitted(self)
        values = self._prepare(X)
        if self.kind == "lightgbm":
            return np.asarray(self.model_.predict_proba(values, num_iteration=self.n_rounds_))
        if self.n_rounds_ == self.n_rounds:
            return np.asarray(self.model_.predict_proba(values))
        return np.asarray(next(islice(self.model_.staged_predict_proba(values), self.n_rounds_ - 1, None)))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class name of each image, (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _check_settings(self) -> None:
        if self.kind not in get_args(Kind):
            raise SettingError(f"kind: expected {' or '.join(get_args(Kind))}; found {self.kind!r}")
        if not isinstance(self.class_weight, dict) and self.class_weight not in ("balanced", None):
            raise SettingError(
                f"class_weight: expected balanced, weights by class, or None; found {self.class_weight!r}"
            )
        for name in ("max_depth", "n_rounds", "min_images_leaf"):
            if not getattr(self, name) >= 1:
                raise SettingError(f"{name}: expected at least 1; found {getattr(self, name)!r}")
        if not self.penalty >= 0:
            raise SettingError(f"penalty: expected at least 0; found {self.penalty!r}")
        if not self.learning_rate > 0:
            raise SettingError(f"learning_rate: expected a number above 0; found {self.learning_rate!r}")

    def _build(self) -> Any:
        shared = {
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "random_state": self.random_state,
        }
        if self.kind == "histogram":
            return HistGradientBoostingClassifier(
                **shared,
                max_iter=self.n_rounds,
                min_samples_leaf=self.min_images_leaf,
                l2_regularization=self.penalty,
                early_stopping=False,
            )
        with needs_extra("kind lightgbm", "tabular"):
            from lightgbm import LGBMClassifier
        return LGBMClassifier(
            **shared,
            n_estimators=self.n_rounds,
            num_leaves=2**self.max_depth,
            min_child_samples=self.min_images_leaf,
            reg_lambda=self.penalty,
            deterministic=True,
            force_col_wise=True,
            verbose=-1,
        )

    def _stages(self, values: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
        """Yield the probabilities after each round."""
        if self.kind == "histogram":
            yield from self.model_.staged_predict_proba(values)
        else:
            for n_rounds in range(1, self.n_rounds + 1):
                yield self.model_.predict_proba(values, num_iteration=n_rounds)

    def _prepare(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the kept columns, scaled; missing values, which `FeaturePreparation` fills, are nan again."""
        scaled = self.preparation_.transform(X)
        numbers = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)
        is_given = np.abs(numbers[:, self.preparation_.kept_]) <= np.finfo(np.float32).max
        return np.where(is_given, scaled, np.float32(np.nan))

    def _of_known_classes(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        values, labels = self._prepare(X), check_array(y, ensure_2d=False, dtype=None)
        return keep_classes(values, labels, self.classes_, "validation", "row")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class EmbeddingAndFeaturesClassifier(BaseEstimator):  # type: ignore[misc]
    """Embedding and features in one model: a classifier of each, and the weights of both.

    The logarithms of their probabilities are added, each times a weight, and scaled to sum to 1 (a product of experts).
    The two weights maximise the likelihood of the classes of the calibration images. These must be images that the
    network was not trained on: on its training images the embedding is too good, and would get too high a weight.

    Args:
        embedding_classifier: a scikit-learn classifier with `calibration` in `fit`, as in `classifiers`; None: an
            `MLPClassifier` of two layers of 256 with dropout .5.
        feature_classifier: a scikit-learn classifier; None: `BoostedTreesClassifier`.
        random_state: seed of those two defaults.

    Attributes:
        classes_: (C,) class names, sorted.
        embedding_classifier_: fitted, and usable alone.
        feature_classifier_: fitted, and usable alone.
        weights_: (2,) of the embedding and of the features, 0 or more. (1, 0) is the embedding alone.
    """

    def __init__(self, embedding_classifier: Any = None, feature_classifier: Any = None, random_state: int = 0):
        self.embedding_classifier = embedding_classifier
        self.feature_classifier = feature_classifier
        self.random_state = random_state

    def fit(
        self,
        vectors: ArrayLike,
        features: ArrayLike,
        y: ArrayLike,
        calibration: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    ) -> Self:
        """Learn both classifiers and their weights.

        Args:
            vectors: (n, d), finite.
            features: (n, k), of the same images; nan is missing.
            y: (n,) class names.
            calibration: vectors, features and class names of images not used to train the network; those of
                other classes are ignored. By default a stratified tenth of the images is used for this
                and not for training.

        Raises:
            InputError: lengths differ, fewer than two classes, no usable column of features, or no calibration image
                of a class in y.
        """
        learned = _take(vectors, features, y, "training images")
        if calibration is None:
            is_calibration = hold_out(np.unique(learned[2], return_inverse=True)[1], LEFT_OUT_SHARE)
            calibration_part = _choose(learned, is_calibration)
            learned = _choose(learned, ~is_calibration)
        else:
            calibration_part = _take(*calibration, "calibration images")
            calibration_part = _choose(calibration_part, np.isin(calibration_part[2], learned[2]))
        if not len(calibration_part[2]):
            raise InputError(
                f"calibration: none of the images is of one of the {len(np.unique(learned[2]))} classes of y, or there "
                "are too few images to set some aside; give images that the network was not trained on"
            )
        layers = MLPClassifier((256, 256), 60, 10, batch_size=256, learning_rate=1e-3, dropout=0.5)
        layers.set_params(random_state=self.random_state)
        trees = BoostedTreesClassifier(random_state=self.random_state)
        self.feature_classifier_ = clone(trees if self.feature_classifier is None else self.feature_classifier)
        self.feature_classifier_.fit(learned[1], learned[2])
        self.embedding_classifier_ = clone(layers if self.embedding_classifier is None else self.embedding_classifier)
        self.embedding_classifier_.fit(learned[0], learned[2], calibration=(calibration_part[0], calibration_part[2]))
        self.classes_ = self.embedding_classifier_.classes_
        self.weights_ = _fit_weights(
            self._logarithms(*calibration_part[:2]), np.searchsorted(self.classes_, calibration_part[2])
        )
        return self

    def predict_proba(self, vectors: ArrayLike, features: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of every class for each image, (n, C), in the order of `classes_`."""
        check_is_fitted(self)
        if len(np.asarray(vectors)) != len(np.asarray(features)):
            raise InputError(f"expected features of as many images as vectors; {_lengths(vectors, features)}")
        return np.exp(_fuse(self._logarithms(vectors, features), self.weights_))

    def predict(self, vectors: ArrayLike, features: ArrayLike) -> NDArray[Any]:
        """Return the class name of each image, (n,)."""
        best = self.predict_proba(vectors, features).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _logarithms(self, vectors: ArrayLike, features: ArrayLike) -> NDArray[np.float64]:
        """Return the logarithms of both classifiers' probabilities, (2, n, C)."""
        probabilities = (
            self.embedding_classifier_.predict_proba(vectors),
            self.feature_classifier_.predict_proba(np.asarray(features, dtype=np.float64)),
        )
        return np.asarray(np.log(np.maximum(np.stack(probabilities), LEAST_PROBABILITY)))


def _take(vectors: ArrayLike, features: ArrayLike, y: ArrayLike, name: str) -> Joined:
    joined = np.asarray(vectors), np.asarray(features, dtype=np.float64), np.asarray(y)
    if len({len(part) for part in joined}) > 1:
        raise InputError(f"{name}: expected features and class names of as many images as vectors; {_lengths(*joined)}")
    return joined


def _choose(joined: Joined, mask: NDArray[np.bool_]) -> Joined:
    return joined[0][mask], joined[1][mask], joined[2][mask]


def _lengths(*parts: ArrayLike) -> str:
    names = ("vectors", "rows of features", "class names")
    return "found " + ", ".join(f"{len(np.asarray(part))} {name}" for part, name in zip(parts, names, strict=False))


def _fuse(logarithms: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(log_softmax(np.tensordot(weights, logarithms, axes=1), axis=1))


def _fit_weights(logarithms: NDArray[np.float64], codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the weights (2,) that maximise the likelihood of the true classes.

    One more image, of every class with equal weight, keeps them finite where every image is predicted right.
    """
    rows = np.arange(len(codes))

    def loss(weights: NDArray[np.float64]) -> float:
        probabilities = _fuse(logarithms, weights)
        return float(-probabilities[rows, codes].mean() - probabilities.mean() / len(codes))

    return np.asarray(minimize(loss, np.ones(2), method="L-BFGS-B", bounds=[(0, None)] * 2).x)
