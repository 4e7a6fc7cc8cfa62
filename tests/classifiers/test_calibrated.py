"""The base of the classifiers: calibrated probabilities, held-out images, and faulty vectors."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plankton_embed.classifiers.calibrated import hold_out
from plankton_embed.classifiers.calibration import measure_reliability
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


@settings(max_examples=40)
@example(seed=14330, n_classes=12, n=16)  # many tiny classes: a class of seven gives one, not two
@given(seed=st.integers(0, 10**6), n_classes=st.integers(1, 12), n=st.integers(1, 300))
def test_a_tenth_is_held_out_and_every_class_remains(seed, n_classes, n):
    codes = np.random.default_rng(seed).integers(n_classes, size=n)
    is_left_out = hold_out(codes, 0.1)
    assert is_left_out.sum() <= round(0.1 * n)
    assert set(codes[~is_left_out]) == set(codes)
    for code in set(codes):
        of_class = codes == code
        assert abs(is_left_out[of_class].sum() - 0.1 * of_class.sum()) < 1


def test_large_classes_give_exactly_a_tenth():
    codes = np.repeat([0, 1, 2], [50, 100, 200])
    assert np.bincount(codes[hold_out(codes, 0.1)]).tolist() == [5, 10, 20]


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_probabilities_are_calibrated(classifier, blobs):
    reference, calibration, query = blobs(1), blobs(2), blobs(3, n=3000)
    classifier.fit(*reference, calibration=calibration)
    probabilities = classifier.predict_proba(query[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    names = classifier.predict(query[0])
    np.testing.assert_array_equal(names, classifier.classes_[probabilities.argmax(axis=1)])
    assert measure_reliability(probabilities.max(axis=1), names == query[1]).ece < 0.06


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
@pytest.mark.parametrize("n_best", [1, 2, 4])
def test_the_best_classes_are_the_first_of_all_ties_included(classifier, n_best, blobs):
    vectors, labels = blobs(1)
    vectors = np.round(vectors)  # many equal distances
    vectors[labels == "b"], labels = np.resize(vectors[labels == "a"], vectors[labels == "b"].shape), labels.copy()
    query = np.concatenate([np.round(blobs(2)[0]), vectors[:100], np.zeros((1, 5), dtype=np.float32)])
    classifier.fit(vectors, labels)
    order, logs = classifier.assess(query)
    codes, same_logs, distances = classifier.assess_best(query, n_best)
    np.testing.assert_array_equal(codes, order[:, :n_best])
    np.testing.assert_array_equal(same_logs, logs)
    for rank in range(n_best):
        np.testing.assert_array_equal(distances[:, rank], classifier.distance_to(query, codes[:, rank]))
        wanted = classifier.distances(query)[np.arange(len(query)), codes[:, rank]]
        np.testing.assert_allclose(distances[:, rank], wanted, atol=1e-6)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_predictions_depend_on_the_calibration_set_for_the_head_only(classifier, blobs):
    reference, calibration, query = blobs(1), blobs(2, n=100), blobs(3)[0]
    alone = classifier.fit(*reference)
    names, temperature = alone.predict(query), alone.temperature_
    given_it = classifier.fit(*reference, calibration=calibration)
    assert given_it.temperature_ != temperature
    if not isinstance(classifier, MLPClassifier):
        np.testing.assert_array_equal(given_it.predict(query), names)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_calibration_images_of_other_classes_are_left_aside(classifier, blobs):
    reference, (vectors, labels) = blobs(1), blobs(2, n=100)
    with_more = np.concatenate([vectors, vectors[:5] + 100]), np.concatenate([labels, ["zebra"] * 5])
    assert classifier.fit(*reference, calibration=(vectors, labels)).temperature_ == pytest.approx(
        classifier.fit(*reference, calibration=with_more).temperature_
    )
    with pytest.raises(InputError, match="0 of its classes"):
        classifier.fit(*reference, calibration=(vectors, ["zebra"] * 100))
    with pytest.raises(InputError, match="100 vectors, 99 labels"):
        classifier.fit(*reference, calibration=(vectors, labels[:99]))


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
def test_faulty_vectors_are_refused(classifier, blobs):
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
