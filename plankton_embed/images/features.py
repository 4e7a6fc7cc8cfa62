"""Numeric features of the images: what they hold, and how they are prepared for classifiers that take tables."""

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

BLOCK = 50_000  # rows that are compared at once
FEWEST_COMMON = 3  # rows that two columns must share to be compared; two rows always lie on a line


class FeaturePreparation(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Drop columns that tell nothing, scale the others by their mean and sd, and fill their gaps with the mean, 0.

    Dropped are columns with more gaps than `max_missing`, constant ones, and those whose `|r|` with an earlier one that
    is kept is above `max_correlation`. r is over the rows that have both. nan, infinite values and numbers too large
    for float32 are gaps. The sd is that of the population (divided by n).

    Args:
        max_correlation: `|r|` from which on the later column of a pair is dropped.
        max_missing: share of gaps, 0 to 1, from which on a column is dropped.

    Attributes:
        mean_: float64 (k,) of each column; nan where it has nothing but gaps.
        scale_: float64 (k,) sd of each column; 0 where it has nothing but gaps.
        missing_: (k,) number of gaps.
        correlation_: float64 (k, k), `|r|` between columns; nan with a constant one.
        reasons_: (k,) text, why each column is dropped; empty where it is kept.
        kept_: bool (k,).
    """

    def __init__(self, max_correlation: float = 0.95, max_missing: float = 0.5):
        self.max_correlation = max_correlation
        self.max_missing = max_missing

    def fit(self, X: ArrayLike, y: Any = None) -> FeaturePreparation:
        """Learn which columns to keep, and their means and sds.

        Args:
            X: (n, k) numbers, an array or a DataFrame, whose column names then stand in the reasons.
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
        self.scale_ = frame.std(ddof=0).where(frame.max() > frame.min(), 0.0).to_numpy()  # sums of equal numbers err
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
        """Return the kept columns, float32 (n, n_kept): scaled, and 0 where there is a gap."""
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
    """What the numeric features of a catalog hold.

    `columns` has one row a feature, in the catalog's order: feature, missing and percent (gaps, of all images), mean
    and sd (of the training part where there are splits, else of all images), mean_scaled and sd_scaled (of all images,
    scaled by mean and sd; nan where these are no help), and dropped, the reason why classifiers leave it out (empty
    where they do not). `correlation`: |r| between features, by name on both sides. `n_images`: in the catalog;
    `n_fitted`: those that mean, sd and |r| are of.
    """

    columns: pd.DataFrame
    correlation: pd.DataFrame
    n_images: int
    n_fitted: int


def summarize_features(catalog: ImageCatalog) -> FeatureSummary:
    """Count gaps, and measure means, sds and correlations, with the very steps of `FeaturePreparation`.

    Raises:
        InputError: the catalog has no features.
    """
    features = catalog.features
    if features.empty:
        raise InputError("expected a catalog with features, columns feature_…; found none")
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
    """Return |r| of all pairs of columns over the rows that have both; nan where these are few or constant."""
    n_columns = values.shape[1]
    sums = np.zeros((4, n_columns, n_columns))
    for start in range(0, len(values), BLOCK):
        scaled = (values[start : start + BLOCK] - mean) / scale
        known = ~np.isnan(scaled)
        scaled[~known] = 0
        has = known.astype(np.float64)
        sums += has.T @ has, scaled.T @ has, (scaled * scaled).T @ has, scaled.T @ scaled
    n, total, squares, products = sums  # over the common rows; [i, j] is of column i where j is known too
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares / n - (total / n) ** 2
        spread[(n < FEWEST_COMMON) | (spread < 1e-12)] = np.nan
        r = (products / n - total * total.T / n**2) / np.sqrt(spread * spread.T)
    return np.asarray(np.minimum(np.abs(r), 1))
