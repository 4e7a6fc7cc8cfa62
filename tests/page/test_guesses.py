"""Guesses: class means that follow decisions, against means computed anew and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.errors import InputError
from plankton_embed.page.guesses import Guesses

POINTS = np.array([[0, 0], [2, 0], [10, 0], [14, 0], [4, 3]], dtype=np.float32)


def predict_slowly(vectors, names, classes):
    """Return the same from the definition: the mean of every class without the image itself."""
    found = []
    for row, vector in enumerate(vectors.astype(np.float64)):
        distances = []
        for code, name in enumerate(classes):
            others = [other for other, label in enumerate(names) if label == name and other != row]
            if others:
                distances.append((np.linalg.norm(vector - vectors[others].astype(np.float64).mean(axis=0)), code))
        distances = sorted(distances)[:2]
        first, second = [*distances, (np.nan, -1), (np.nan, -1)][:2]
        found.append((first[1], first[0], second[1], second[0] - first[0]))
    guess, distance, second, margin = zip(*found, strict=True)
    return guess, distance, second, margin


def check_same(guesses, vectors, names):
    expected = predict_slowly(vectors, names, guesses.classes)
    found = guesses.predict()
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(found[3], expected[3], atol=1e-6)
    clear = np.nan_to_num(np.array(expected[3]), nan=1.0) > 1e-6  # equal distances: either class is right
    np.testing.assert_array_equal(found[0][clear], np.array(expected[0])[clear])
    return found


def test_five_points_by_hand():
    guesses = Guesses(POINTS, np.array([0, 0, 1, 1, -1]), np.ones(5, dtype=bool), ["a", "b"])
    guess, distance, second, margin = guesses.predict()
    # the means are (1, 0) and (12, 0); without the image itself (2, 0), (0, 0), (14, 0) and (10, 0)
    assert guess.tolist() == [0, 0, 1, 1, 0]
    assert second.tolist() == [1, 1, 0, 0, 1]
    np.testing.assert_allclose(distance, [2, 2, 4, 4, np.hypot(3, 3)], rtol=1e-6)
    np.testing.assert_allclose(margin, [12 - 2, 10 - 2, 9 - 4, 13 - 4, np.hypot(8, 3) - np.hypot(3, 3)], rtol=1e-6)


def test_images_outside_the_reference_do_not_count():
    guesses = Guesses(POINTS, np.array([0, 0, 1, 1, 1]), np.array([True, True, True, False, False]), ["a", "b"])
    guess, distance, _, _ = guesses.predict()
    assert guess.tolist() == [0, 0, 0, 1, 0]  # the only b is left out of its own mean
    np.testing.assert_allclose(distance, [2, 2, 9, 4, np.hypot(3, 3)], rtol=1e-6)
    assert guesses.reference_class.tolist() == [0, 0, 1, -1, -1]


def test_without_a_reference_there_is_nothing_to_guess():
    guesses = Guesses(POINTS, np.full(5, -1), np.ones(5, dtype=bool), [])
    guess, distance, second, margin = guesses.predict()
    assert set(guess) == set(second) == {-1}
    assert np.isnan(distance).all()
    assert np.isnan(margin).all()
    guesses.change([3], ["a"])
    guess, distance, second, _ = guesses.predict()
    assert guess.tolist() == [0, 0, 0, -1, 0]
    assert set(second) == {-1}
    np.testing.assert_allclose(distance[:3], [14, 12, 4], rtol=1e-6)


CHANGES = st.lists(st.tuples(st.integers(0, 11), st.sampled_from([None, "a", "b", "new", "newer"])), max_size=20)


@given(changes=CHANGES, seed=st.integers(0, 99), together=st.booleans())
def test_changes_one_by_one_give_what_new_means_give(changes, seed, together):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 3)).astype(np.float32)
    labels = rng.integers(-1, 2, 12)
    reference = rng.random(12) < 0.7
    names = [["a", "b", None][code] if used else None for code, used in zip(labels, reference, strict=True)]
    guesses = Guesses(vectors, labels, reference, ["a", "b"])
    check_same(guesses, vectors, names)
    classes = ["a", "b"]
    for steps in [list(dict(changes).items())] if together else [[change] for change in changes]:
        guesses.change([row for row, _ in steps], [name for _, name in steps])
        for row, name in steps:
            names[row] = name
            if name not in (None, *classes):
                classes.append(name)
        while len(classes) > 2 and classes[-1] not in names:
            classes.pop()
    check_same(guesses, vectors, names)
    assert guesses.classes == classes


def test_more_images_than_a_block_and_unit_vectors(monkeypatch):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(150, 8)) + 4 * np.eye(8)[rng.integers(0, 8, 150)]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    labels = rng.integers(0, 8, 150)
    guesses = Guesses(vectors, labels, np.ones(150, dtype=bool), list("abcdefgh"))
    whole = check_same(guesses, vectors, list(np.array(list("abcdefgh"))[labels]))
    monkeypatch.setattr("plankton_embed.page.guesses.BLOCK", 64)
    for found, expected in zip(guesses.predict(), whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_copy_of_a_mean_has_the_distance_zero():
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32) * 1e3
    guesses = Guesses(vectors, np.array([0, 0, 0, 1]), np.ones(4, dtype=bool), ["a", "b"])
    np.testing.assert_allclose(guesses.predict()[1][:3], 0, atol=1e-9)


def test_vectors_far_from_zero_keep_their_digits():
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    near = rng.normal(size=(40, 4)) + 0.5 * labels[:, None]
    far = (near + 3000).astype(np.float32)
    guesses = Guesses(far, labels, np.ones(40, dtype=bool), ["a", "b"])
    expected = predict_slowly(far, np.array(["a", "b"])[labels], ["a", "b"])
    np.testing.assert_array_equal(guesses.predict()[0], expected[0])
    np.testing.assert_allclose(guesses.predict()[1], expected[1], rtol=1e-4)


def test_a_removed_class_has_no_mean():
    guesses = Guesses(POINTS, np.array([0, 0, 1, 1, -1]), np.ones(5, dtype=bool), ["a", "b"])
    guesses.change([2, 3], [None, None])
    assert set(guesses.predict()[0]) == {0}
    guesses.change([2], ["b"])
    assert guesses.predict()[0].tolist() == [0, 0, 0, 1, 0]


def test_a_name_that_no_image_has_any_more_is_gone_but_given_classes_stay():
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    guesses = Guesses(vectors, np.array([0, 1, -1, -1]), np.ones(4, dtype=bool), ["a", "b"])
    guesses.change([2, 3], ["typo", "c"])
    guesses.change([2], [None])
    assert guesses.classes == ["a", "b", "typo", "c"]  # c keeps its number
    guesses.change([3, 1], [None, None])
    assert guesses.classes == ["a", "b"]
    guesses.change([2], ["d"])
    assert guesses.classes == ["a", "b", "d"]
    check_same(guesses, vectors, ["a", None, "d", None])


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(InputError, match="expected 5 labels"):
        Guesses(POINTS, np.zeros(4, dtype=int), np.ones(5, dtype=bool), ["a"])
    with pytest.raises(InputError, match="class indices from -1 to 0"):
        Guesses(POINTS, np.array([0, 0, 0, 0, 1]), np.ones(5, dtype=bool), ["a"])
    guesses = Guesses(POINTS, np.zeros(5, dtype=int), np.ones(5, dtype=bool), ["a"])
    for rows, names in (([1, 1], ["a", "b"]), ([1], ["a", "b"])):
        with pytest.raises(InputError, match="different rows and one class name for each"):
            guesses.change(rows, names)
