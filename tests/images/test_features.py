"""Numeric features: their summary, and how they are prepared."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images import features
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.features import FeaturePreparation, summarize_features


@parametrize_with_checks([FeaturePreparation()])
def test_it_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def random_table(n_rows=400, gaps=0.2, seed=0):
    """Columns of very different scales, some alike, with gaps."""
    rng = np.random.default_rng(seed)
    alike = rng.normal(size=(n_rows, 3))
    values = np.hstack([alike, alike * [1, -1, 1] + rng.normal(size=(n_rows, 3)) * [0.05, 0.1, 0.5]])
    values = values * [1, 1e-4, 1e6, 3, 1, 1e3] + [0, 5, -2e6, 7, 0, 1]
    return pd.DataFrame(values, columns=list("abcdef")).mask(rng.random(values.shape) < gaps)


def catalog_of(table, **columns):
    rows = table.add_prefix("feature_").assign(path=[f"{k}.png" for k in range(len(table))], **columns)
    return ImageCatalog.from_rows(rows)


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_it_scales_as_the_standard_scaler_and_correlates_as_pandas(gaps, monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 90)  # so that several blocks are added
    table = random_table(gaps=gaps)
    preparation = FeaturePreparation().fit(table)
    np.testing.assert_allclose(preparation.correlation_, table.corr().abs(), atol=1e-12)
    assert list(preparation.reasons_) == ["", "", "", _pair(table, "d", "a"), _pair(table, "e", "b"), ""]
    seen = preparation.transform(table)
    expected = StandardScaler().fit_transform(table)[:, [0, 1, 2, 5]]
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, np.nan_to_num(expected), rtol=1e-5, atol=1e-6)
    assert list(preparation.get_feature_names_out()) == ["a", "b", "c", "f"]


def _pair(table, later, earlier):
    return f"|r| = {abs(table[later].corr(table[earlier])):.3f} with {earlier}"


def test_five_rows_by_hand():
    table = pd.DataFrame(
        {
            "ramp": [0, 1, 2, 3, 4],
            "twice": [0, 2, 4, 6, 8],  # all of ramp
            "flat": [0.1] * 5,
            "few": [1, 2, np.nan, np.nan, np.inf],  # infinite is a gap: three of five
            "none": [np.nan] * 5,
            "huge": [1, -1, 1, -1, 1e300],  # beyond float32 is a gap too; r with ramp is -.447 over four rows
            "last": [8, 6, 4, 2, 1],
        }
    )
    preparation = FeaturePreparation().fit(table)
    assert list(preparation.reasons_) == [
        "", "|r| = 1.000 with ramp", "constant", "60 % missing", "100 % missing", "", "|r| = 0.994 with ramp",
    ]  # fmt: skip
    assert list(preparation.missing_) == [0, 0, 0, 3, 5, 1, 0]
    assert preparation.correlation_[0, 5] == pytest.approx(1 / 5**0.5)
    assert preparation.correlation_[0, 6] == pytest.approx(18 / (10 * 32.8) ** 0.5)
    assert np.isnan(preparation.correlation_[0, 3]), "two rows in common always lie on a line"
    assert np.isnan(preparation.correlation_[2]).all()
    root2 = 2**0.5
    expected = [[-root2, 1], [-root2 / 2, -1], [0, 1], [root2 / 2, -1], [root2, 0]]
    np.testing.assert_allclose(preparation.transform(table), expected, rtol=1e-6, atol=1e-6)


def test_the_limits_can_be_set_and_are_checked():
    table = random_table(gaps=0.3)
    assert FeaturePreparation(max_correlation=1).fit(table).kept_.all()
    assert not FeaturePreparation(max_missing=0.1).fit(table).kept_.any()
    assert FeaturePreparation(max_correlation=0.5).fit(table).reasons_[5].endswith("with c")
    assert FeaturePreparation(max_missing=0.1).fit(table).transform(table).shape == (400, 0)
    with pytest.raises(SettingError, match=r"max_correlation: expected a number from 0 to 1; found 95"):
        FeaturePreparation(max_correlation=95).fit(table)


def test_a_column_is_dropped_only_for_one_that_is_kept():
    rng = np.random.default_rng(0)
    middle = rng.normal(size=5000)
    first, last = middle + 0.29 * rng.normal(size=5000), middle + 0.29 * rng.normal(size=5000)
    table = pd.DataFrame({"first": first, "middle": middle, "last": last})
    r = table.corr()
    assert r.loc["first", "middle"] > 0.95 > r.loc["first", "last"]
    assert list(FeaturePreparation().fit(table).kept_) == [True, False, True]


cells = st.floats(-1e6, 1e6).map(lambda x: round(x, 3)) | st.just(np.nan) | st.just(np.inf)


@settings(max_examples=200)
@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=cells))
def test_what_comes_out_is_finite_and_no_pair_of_it_too_alike(table):
    preparation = FeaturePreparation().fit(table)
    seen = preparation.transform(table)
    assert np.isfinite(seen).all()
    assert seen.shape == (len(table), preparation.kept_.sum())
    kept = preparation.correlation_[preparation.kept_][:, preparation.kept_]
    assert not (np.triu(kept, 1) > 0.95).any()
    assert ((preparation.reasons_ == "") == preparation.kept_).all()
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-4)


def test_the_summary_of_a_catalog_without_splits():
    table = random_table()
    table["flat"] = 3.3
    summary = summarize_features(catalog_of(table))
    columns = summary.columns.set_index("feature")
    assert list(columns.index) == list(table.columns)
    assert (columns["missing"] == table.isna().sum()).all()
    np.testing.assert_allclose(columns["percent"], 100 * table.isna().mean())
    np.testing.assert_allclose(columns["mean"], table.mean())
    np.testing.assert_allclose(columns["sd"].drop("flat"), table.drop(columns="flat").std(ddof=0))
    np.testing.assert_allclose(columns["mean_scaled"].drop("flat"), 0, atol=1e-9)
    np.testing.assert_allclose(columns["sd_scaled"].drop("flat"), 1)
    assert columns.loc["flat", ["sd", "dropped"]].tolist() == [0, "constant"]
    assert columns.loc["flat", ["mean_scaled", "sd_scaled"]].isna().all()
    np.testing.assert_allclose(summary.correlation.loc["a", "d"], table[["a", "d"]].corr().abs().iloc[0, 1])
    assert (summary.n_images, summary.n_fitted) == (400, 400)


def test_the_summary_scales_by_the_training_part():
    table = random_table(gaps=0)
    split = np.array(["train", "val", "test", "train"] * 100)
    summary = summarize_features(catalog_of(table, split=split))
    training = table[split == "train"]
    columns = summary.columns.set_index("feature")
    np.testing.assert_allclose(columns["mean"], training.mean())
    np.testing.assert_allclose(columns["sd"], training.std(ddof=0))
    scaler = StandardScaler().fit(training)
    np.testing.assert_allclose(columns["mean_scaled"], scaler.transform(table).mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(columns["sd_scaled"], scaler.transform(table).std(axis=0))
    assert (summary.n_images, summary.n_fitted) == (400, 200)


def test_a_catalog_without_features_is_reported():
    with pytest.raises(InputError, match="expected a catalog with features"):
        summarize_features(ImageCatalog.from_rows({"path": ["a.png"]}))


def test_no_torch_is_loaded():
    code = "import sys, plankton_embed.images.features as f; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
