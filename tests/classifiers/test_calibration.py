"""Temperatures and reliability: by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from plankton_embed.classifiers.calibration import fit_temperature, measure_reliability


def test_logits_drawn_at_a_temperature_give_it_back():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 6)) * 4
    probabilities = softmax(logits / 2.5, axis=1)
    codes = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits, codes) == pytest.approx(2.5, rel=0.03)


def test_agrees_with_scikit_learn(blobs):
    vectors, labels = blobs(0, n=4000, apart=0.7)
    model = LogisticRegression(C=100).fit(vectors[:60], labels[:60])
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(vectors[60:], labels[60:])
    logits = model.decision_function(vectors[60:])
    temperature = fit_temperature(logits, np.searchsorted(model.classes_, labels[60:]))
    ours = softmax(logits / temperature, axis=1)
    np.testing.assert_allclose(ours, theirs.predict_proba(vectors[60:]), atol=0.002)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_the_temperature_grows_with_the_logits_and_not_with_what_is_added_to_them(seed, factor, shift):
    rng = np.random.default_rng(seed)
    logits, codes = rng.normal(size=(50, 3)), rng.integers(3, size=50)
    logits[np.arange(50), codes] += 1
    once = fit_temperature(logits, codes)
    assert fit_temperature(factor * logits + shift, codes) == pytest.approx(factor * once, rel=1e-3)


def test_where_all_is_right_no_name_is_wholly_sure():
    logits = np.eye(3)[[0, 1, 2, 0, 1]]
    temperature = fit_temperature(logits, np.array([0, 1, 2, 0, 1]))
    sure = softmax(logits / temperature, axis=1).max(axis=1)
    assert (sure > 0.8).all()
    assert (sure < 0.999).all()


def test_equal_logits_have_temperature_one():
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == 1
    assert fit_temperature(np.arange(4.0)[:, None], np.zeros(4, dtype=int)) == 1


def test_five_images_by_hand():
    # two bins: 0-0.5 holds .4 (wrong) and .5 (right), 0.5-1 holds .6 (right), .8 (wrong) and 1 (right)
    found = measure_reliability([0.4, 0.5, 0.6, 0.8, 1.0], [False, True, True, False, True], n_bins=2)
    assert found.bins["n_images"].tolist() == [2, 3]
    np.testing.assert_allclose(found.bins["probability"], [0.45, 0.8])
    np.testing.assert_allclose(found.bins["accuracy"], [0.5, 2 / 3])
    assert found.ece == pytest.approx(2 / 5 * 0.05 + 3 / 5 * (0.8 - 2 / 3))


def test_empty_bins_count_nothing():
    found = measure_reliability([0.95, 0.97], [True, True])
    assert len(found.bins) == 15
    assert found.bins["accuracy"].notna().sum() == 1
    assert found.ece == pytest.approx(0.04)
