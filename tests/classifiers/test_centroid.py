"""Nearest centroid: by hand, against scikit-learn, and under names that are hard to write."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks

from plankton_embed.classifiers.centroid import NearestCentroidClassifier

FIVE = np.array([[0, 0], [2, 0], [10, 0], [10, 4], [0, 9]], dtype=np.float32)
LABELS = np.array(["a", "a", "b", "b", "c"])


@parametrize_with_checks([NearestCentroidClassifier()])
def test_scikit_learn_accepts_the_estimator(estimator, check):
    check(estimator)


@pytest.fixture
def fitted():
    return NearestCentroidClassifier().fit(FIVE, LABELS)


def test_five_points_by_hand(fitted):
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    assert fitted.centroids_.tolist() == [[1, 0], [10, 2], [0, 9]]
    assert fitted.radii_.tolist() == [1, 2, 0]
    assert fitted.counts_.tolist() == [2, 2, 1]
    query = [[1, 1], [6, 2], [0, 5]]
    wanted = [[1, np.sqrt(82), np.sqrt(65)], [np.sqrt(29), 4, np.sqrt(85)], [np.sqrt(26), np.sqrt(109), 4]]
    np.testing.assert_allclose(fitted.distances(query), wanted)
    assert fitted.predict(query).tolist() == ["a", "b", "c"]
    assert fitted.rank(query).tolist() == [[0, 2, 1], [1, 0, 2], [2, 0, 1]]


def test_the_centroid_tables_by_hand(fitted):
    between = fitted.centroid_distances()
    assert between.loc["a", "b"] == between.loc["b", "a"] == pytest.approx(np.sqrt(85))
    assert np.diag(between).tolist() == [0, 0, 0]
    table = fitted.class_table()
    assert table["label"].tolist() == ["a", "b", "c"]
    assert table["count"].tolist() == [2, 2, 1]
    assert table["radius"].tolist() == [1, 2, 0]
    assert table["nearest_class"].tolist() == ["c", "a", "a"]
    np.testing.assert_allclose(table["nearest_distance"], np.sqrt([82, 85, 82]))


def test_one_class_has_no_nearest_class():
    alone = NearestCentroidClassifier().fit(FIVE, ["only"] * 5)
    assert alone.class_table().columns.tolist() == ["label", "count", "radius"]
    assert set(alone.predict(FIVE)) == {"only"}


def test_a_tie_goes_to_the_first_name():
    assert NearestCentroidClassifier().fit([[0.0], [2.0]], ["b", "a"]).predict([[1.0]]).tolist() == ["a"]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 8), dimension=st.integers(1, 12))
def test_agrees_with_scikit_learn(seed, n_classes, dimension):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=40)])
    vectors = rng.normal(size=(len(codes), dimension)) + codes[:, None]
    query = rng.normal(size=(50, dimension)) * n_classes
    ours, theirs = NearestCentroidClassifier().fit(vectors, codes), NearestCentroid().fit(vectors, codes)
    np.testing.assert_allclose(ours.centroids_, theirs.centroids_, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(query), theirs.predict(query))


def test_distances_do_not_depend_on_the_order_of_the_training_rows(fitted):
    order = np.random.default_rng(0).permutation(5)
    shuffled = NearestCentroidClassifier().fit(FIVE[order], LABELS[order])
    np.testing.assert_allclose(shuffled.distances(FIVE), fitted.distances(FIVE))


def test_names_that_are_hard_to_write_come_back_unchanged():
    names = np.array(["Calanus finmarchicus", "Méduse<Cnidaria", "egg/фиш"])
    fitted = NearestCentroidClassifier().fit(np.eye(3), names)
    assert fitted.predict(np.eye(3)).tolist() == names.tolist()
    assert fitted.centroid_distances().index.tolist() == sorted(names)
