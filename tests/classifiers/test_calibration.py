"""Temperature, held-out images and reliability: by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from plankton_embed.classifiers.calibrated import class_means, hold_out
from plankton_embed.classifiers.calibration import fit_temperature, measure_reliability
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.neighbors import NeighborsClassifier
from plankton_embed.errors import InputError

CLASSIFIERS = [
    NearestCentroidClassifier(),
    NeighborsClassifier(15),
    NeighborsClassifier(15, "distance"),
    MLPClassifier((16,), epochs=20, learning_rate=1e-2),
]


def blobs(seed, n=600, n_classes=4, dimension=5, apart=1.5):
    rng = np.random.default_rng(seed)
    codes = rng.integers(n_classes, size=n)
    means = np.random.default_rng(99).normal(size=(n_classes, dimension)) * apart
    return (means[codes] + rng.normal(size=(n, dimension))).astype(np.float32), np.array(list("abcd"))[codes]


# ------------------------------------------------------------------------------------------ temperature


def test_logits_drawn_at_a_temperature_give_it_back():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 6)) * 4
    chances = softmax(logits / 2.5, axis=1)
    codes = (chances.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits, codes) == pytest.approx(2.5, rel=0.03)


def test_agrees_with_scikit_learn():
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


def test_what_tells_nothing_has_temperature_one():
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == 1
    assert fit_temperature(np.arange(4.0)[:, None], np.zeros(4, dtype=int)) == 1


# ------------------------------------------------------------------------------------------ held-out images


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(1, 12), n=st.integers(1, 300))
def test_a_tenth_is_held_out_and_every_class_is_left(seed, n_classes, n):
    codes = np.random.default_rng(seed).integers(n_classes, size=n)
    held = hold_out(codes, 0.1)
    assert held.sum() <= round(0.1 * n)
    assert set(codes[~held]) == set(codes)
    for code in set(codes):
        of_class = codes == code
        assert abs(held[of_class].sum() - 0.1 * of_class.sum()) <= 1


def test_large_classes_give_exactly_a_tenth():
    codes = np.repeat([0, 1, 2], [50, 100, 200])
    assert np.bincount(codes[hold_out(codes, 0.1)]).tolist() == [5, 10, 20]


def test_class_means_by_hand():
    vectors = np.array([[0, 0], [2, 0], [4, 4], [0, 2], [6, 4]])
    assert class_means(vectors, np.array([0, 0, 1, 0, 1])).tolist() == [[2 / 3, 2 / 3], [5, 4]]


# ------------------------------------------------------------------------------------------ what all classifiers share


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_probabilities_come_true_as_often_as_they_say(classifier):
    known, held, asked = blobs(1), blobs(2), blobs(3, n=3000)
    classifier.fit(*known, calibration=held)
    chances = classifier.predict_proba(asked[0])
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    names = classifier.predict(asked[0])
    np.testing.assert_array_equal(names, classifier.classes_[chances.argmax(axis=1)])
    assert measure_reliability(chances.max(axis=1), names == asked[1]).ece < 0.06


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_names_do_not_depend_on_the_calibration_set_but_for_the_head(classifier):
    known, held, asked = blobs(1), blobs(2, n=100), blobs(3)[0]
    alone = classifier.fit(*known)
    names, temperature = alone.predict(asked), alone.temperature_
    given_it = classifier.fit(*known, calibration=held)
    assert given_it.temperature_ != temperature
    if not isinstance(classifier, MLPClassifier):
        np.testing.assert_array_equal(given_it.predict(asked), names)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_calibration_images_of_other_classes_are_left_aside(classifier):
    known, (vectors, labels) = blobs(1), blobs(2, n=100)
    with_more = np.concatenate([vectors, vectors[:5] + 100]), np.concatenate([labels, ["zebra"] * 5])
    assert classifier.fit(*known, calibration=(vectors, labels)).temperature_ == pytest.approx(
        classifier.fit(*known, calibration=with_more).temperature_
    )
    with pytest.raises(InputError, match="0 of its classes"):
        classifier.fit(*known, calibration=(vectors, ["zebra"] * 100))
    with pytest.raises(InputError, match="100 vectors, 99 labels"):
        classifier.fit(*known, calibration=(vectors, labels[:99]))


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_faulty_vectors_are_refused(classifier):
    vectors, labels = blobs(1, n=60)
    classifier.fit(vectors, labels)
    with pytest.raises(ValueError, match="NaN"):
        classifier.predict(np.full((1, 5), np.nan))
    with pytest.raises(ValueError, match="4 features"):
        classifier.predict_proba(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="NaN"):
        classifier.fit(np.full((60, 5), np.nan), labels)
    with pytest.raises(ValueError, match="4 features"):
        classifier.fit(vectors, labels, calibration=(np.zeros((2, 4)), labels[:2]))


# ------------------------------------------------------------------------------------------ reliability


def test_five_names_by_hand():
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
