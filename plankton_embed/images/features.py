"""Numeric features of images: their summary, and their preparation for classifiers of tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog

BLOCK = 50_000  # rows per step of the correlations
FEWEST_COMMON = 3  # rows that two columns must share to be compared; two rows always correlate perfectly


class FeaturePreparation(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Drop uninformative columns, scale the others by their mean and sd, and fill missing values with the mean, 0.

    A column is dropped if it has more missing values than `max_missing`, if it is constant, or if its `|r|` with an
    earlier, kept column is above `max_correlation`. r is over the rows that have both values. nan, infinite values and
    numbers too large for float32 are missing values. The sd is that of the population (divided by n).

    Args:
        max_correlation: the later column of a pair with a larger `|r|` is dropped.
        max_missing: a column with a larger share of missing values, 0 to 1, is dropped.

    Attributes:
        mean_: float64 (k,) mean of each column; nan where all values are missing.
        scale_: float64 (k,) sd of each column; 0 where all values are missing.
        missing_: (k,) number of missing values.
        correlation_: float64 (k, k), `|r|` between columns; nan for constant columns.
        reasons_: (k,) text, why each column is dropped; empty where it is kept.
        kept_: bool (k,).
    """

    def __init__(self, max_correlation: float = 0.95, max_missing: float = 0.5):
        self.max_correlation = max_correlation
        self.max_missing = max_missing

    def fit(self, X: ArrayLike, y: Any = None) -> FeaturePreparation:
        """Learn which columns to keep, and their means and sds.

        Args:
            X: (n, k) numbers, an array or a DataFrame; the reasons use its column names.
            y: not used.

        Raises:
            SettingError: a limit is not within 0 to 1.
        """
        for name in ("max_correlation", "max_missing"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"{name}: expected a number from 0 to 1; found {getattr(self, name)!r}")
        values = self._validate(X, reset=True)
        frame = pd.DataFrame(values)
        names = getattr(self, "feature_names_in_", np.arange(frame.shape[1]))
        self.missing_ = frame.isna().sum().to_numpy()
        self.mean_ = frame.mean().to_numpy()
        self.scale_ = (
            frame.std(ddof=0).where(frame.max() > frame.min(), 0.0).to_numpy()
        )  # the sd of equal numbers may not be exactly 0
        is_constant = self.scale_ == 0
        self.correlation_ = _correlate(values, self.mean_, np.where(is_constant, np.nan, self.scale_))
        self.reasons_ = np.full(frame.shape[1], "", dtype=object)
        self.kept_ = np.zeros(frame.shape[1], dtype=bool)
        for column, share in enumerate(self.missing_ / len(frame)):
            r = np.where(self.kept_, self.correlation_[column], np.nan)
            if share > self.max_missing:
                self.reasons_[column] = f"{100 * share:.0f} % missing"
            elif is_constant[column]:
                self.reasons_[column] = "constant"
            elif (r > self.max_correlation).any():
                partner = int(np.nanargmax(r))
                self.reasons_[column] = f"|r| = {r[partner]:.3f} with {names[partner]}"
            else:
                self.kept_[column] = True
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the kept columns, float32 (n, n_kept): scaled, and 0 where a value is missing."""
        check_is_fitted(self)
        values = self._validate(X, reset=False)[:, self.kept_]
        scaled = (values - self.mean_[self.kept_]) / self.scale_[self.kept_]
        return np.where(np.isnan(scaled), 0, scaled).astype(np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the kept columns."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", input_features)
        if names is None:
            names = [f"x{column}" for column in range(self.n_features_in_)]
        return np.asarray(names, dtype=object)[self.kept_]

    def _validate(self, X: ArrayLike, reset: bool) -> NDArray[np.float64]:
        values = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
        return np.where(np.abs(values) <= np.finfo(np.float32).max, values, np.nan)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@dataclass(frozen=True)
class FeatureSummary:
    """Statistics of the numeric features of a catalog.

    `columns` has one row per feature, in the catalog's order: feature, missing and percent (missing values, over all
    images), mean and sd (of the training images if there are splits, else of all), mean_scaled and sd_scaled (of all
    images, scaled by mean and sd; nan where the sd is 0), and dropped, the reason why classifiers leave it out (empty
    where they use it). `correlation`: |r| between features, with their names as index and columns. `n_images`: images
    of the catalog; `n_fitted`: images from which mean, sd and |r| were computed.
    """

    columns: pd.DataFrame
    correlation: pd.DataFrame
    n_images: int
    n_fitted: int


def summarize_features(catalog: ImageCatalog) -> FeatureSummary:
    """Count missing values, and compute means, sds and correlations exactly as `FeaturePreparation` does.

    Raises:
        InputError: the catalog has no features.
    """
    features = catalog.features
    if features.empty:
        raise InputError("expected a catalog with features (columns feature_…); found none")
    is_training = (catalog.frame["split"] == "train").to_numpy() if catalog.has_splits else np.zeros(len(catalog), bool)
    fitted = features[is_training] if is_training.any() else features
    preparation = FeaturePreparation().fit(fitted)
    numbers = features.where(features.abs() <= np.finfo(np.float32).max)
    scaled = (numbers - preparation.mean_) / np.where(preparation.scale_ > 0, preparation.scale_, np.nan)
    missing = numbers.isna().sum().to_numpy()
    columns = pd.DataFrame(
        {
            "feature": features.columns,
            "missing": missing,
            "percent": 100 * missing / len(catalog),
            "mean": preparation.mean_,
            "sd": preparation.scale_,
            "mean_scaled": scaled.mean().to_numpy(),
            "sd_scaled": scaled.std(ddof=0).to_numpy(),
            "dropped": preparation.reasons_,
        }
    )
    correlation = pd.DataFrame(preparation.correlation_, features.columns, features.columns)
    return FeatureSummary(columns, correlation, n_images=len(catalog), n_fitted=len(fitted))


def _correlate(
    values: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return |r| of all pairs of columns over the rows that have both values; nan where these are few or constant."""
    n_columns = values.shape[1]
    sums = np.zeros((4, n_columns, n_columns))
    for start in range(0, len(values), BLOCK):
        scaled = (values[start : start + BLOCK] - mean) / scale
        present = ~np.isnan(scaled)
        scaled[~present] = 0
        has = present.astype(np.float64)
        sums += has.T @ has, scaled.T @ has, (scaled * scaled).T @ has, scaled.T @ scaled
    n, total, squares, products = sums  # over common rows; [i, j] is of column i where j is present too
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares / n - (total / n) ** 2
        spread[(n < FEWEST_COMMON) | (spread < 1e-12)] = np.nan
        r = (products / n - total * total.T / n**2) / np.sqrt(spread * spread.T)
    return np.asarray(np.minimum(np.abs(r), 1))
