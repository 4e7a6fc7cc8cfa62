"""Ward's linkage: by hand, against scipy, and where distances are equal or tiny."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_valid_linkage, linkage

from plankton_embed.analysis import ward
from plankton_embed.analysis.ward import ward_linkage
from plankton_embed.errors import InputError


def join(points):
    return ward_linkage(points, n_threads=2, progress=False)


def sum_of_squares(points):
    return float(((points - points.mean(axis=0)) ** 2).sum())


def test_five_points_on_a_line():
    tree = join(np.array([[0.0], [1.0], [10.0], [12.0], [30.0]]))
    heights = [1, 2, np.sqrt(2 * 2 * 2 / 4) * (11 - 0.5), np.sqrt(2 * 4 * 1 / 5) * (30 - 5.75)]
    assert tree[:, :2].tolist() == [[0, 1], [2, 3], [5, 6], [4, 7]]
    assert tree[:, 2] == pytest.approx(heights)
    assert tree[:, 3].tolist() == [2, 2, 4, 5]


@settings(max_examples=60)
@given(n=st.integers(2, 200), dimension=st.integers(1, 8), n_groups=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_the_tree_is_scipys(n, dimension, n_groups, seed):
    rng = np.random.default_rng(seed)
    points = (
        rng.normal(size=(n, dimension)) + 5 * rng.normal(size=(n_groups, dimension))[rng.integers(n_groups, size=n)]
    )
    tree, expected = join(points), linkage(points, "ward")
    np.testing.assert_allclose(tree[:, 2:], expected[:, 2:], rtol=1e-9)
    np.testing.assert_array_equal(tree[:, :2], expected[:, :2])


@pytest.mark.parametrize("n_listed", [1, 2, 5, 400])
def test_short_lists_and_small_blocks_change_nothing(monkeypatch, n_listed):
    points = np.random.default_rng(1).gamma(2, size=(300, 6))
    monkeypatch.setattr(ward, "N_LISTED", n_listed)
    monkeypatch.setattr(ward, "BLOCK", 700)
    np.testing.assert_allclose(join(points), linkage(points, "ward"), rtol=1e-9)


def test_groups_tighter_than_single_precision():
    rng = np.random.default_rng(2)
    points = 10 * rng.normal(size=(4, 16))[rng.integers(4, size=400)] + 1e-4 * rng.normal(size=(400, 16))
    np.testing.assert_allclose(join(points), linkage(points, "ward"), rtol=1e-6)


@pytest.mark.parametrize("scale", [2.0**-120, 2.0**50, 2.0**400])
def test_points_whose_squares_single_precision_lacks(scale):
    points = np.random.default_rng(6).normal(size=(300, 3))
    tree, wanted = join(scale * points), join(points)
    np.testing.assert_array_equal(tree[:, [0, 1, 3]], wanted[:, [0, 1, 3]])
    np.testing.assert_allclose(tree[:, 2] / scale, wanted[:, 2], rtol=1e-12)


def test_copies_join_at_zero():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 3))[rng.integers(40, size=200)]
    tree = join(points)
    assert is_valid_linkage(tree)
    np.testing.assert_allclose(tree[:, 2], linkage(points, "ward")[:, 2], atol=1e-9)
    assert (tree[:, 2] == 0).sum() == 200 - len(np.unique(points, axis=0))
    assert (join(np.ones((5, 2)))[:, 2] == 0).all()


@settings(max_examples=40)
@given(n=st.integers(2, 60), seed=st.integers(0, 2**32 - 1))
def test_a_weighted_point_counts_as_that_many_copies(n, seed):
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(n, 4)), rng.integers(1, 9, size=n)
    tree, copied = ward_linkage(points, weights, progress=False), join(np.repeat(points, weights, axis=0))
    assert is_valid_linkage(tree)
    np.testing.assert_allclose(tree[:, 2], copied[1 - n :, 2], rtol=1e-9)
    assert (tree[:, 2] ** 2).sum() / 2 == pytest.approx(sum_of_squares(np.repeat(points, weights, axis=0)))


def test_weights_by_hand():
    tree = ward_linkage(np.array([[0.0], [2.0], [5.0]]), np.array([1, 9, 1]), progress=False)
    assert tree.tolist() == [[0, 1, pytest.approx(np.sqrt(2 * 9 / 10) * 2), 2],
                             [2, 3, pytest.approx(np.sqrt(2 * 10 / 11) * (5 - 1.8)), 3]]  # fmt: skip


@pytest.mark.parametrize("weights", [[1, 1], [1, 0, 1], [1, -1, 1], [1, np.nan, 1], [[1, 1, 1]]])
def test_other_weights_are_errors(weights):
    with pytest.raises(InputError, match="a weight above 0 for each of the 3 points"):
        ward_linkage(np.arange(3.0)[:, None], np.array(weights), progress=False)


@settings(max_examples=40)
@given(n=st.integers(2, 60), dimension=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_equal_distances_give_a_tree_that_adds_up(n, dimension, seed):
    points = np.random.default_rng(seed).integers(0, 4, size=(n, dimension)).astype(float)
    tree = join(points)
    assert is_valid_linkage(tree)
    assert (np.diff(tree[:, 2]) >= 0).all()
    assert (tree[:, 2] ** 2).sum() / 2 == pytest.approx(sum_of_squares(points), abs=1e-9)


@settings(max_examples=20)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 100))
def test_heights_follow_the_scale_and_not_the_place(scale, seed):
    points = np.random.default_rng(seed).normal(size=(80, 5))
    np.testing.assert_allclose(join(points * scale)[:, 2], join(points)[:, 2] * scale, rtol=1e-9)
    np.testing.assert_allclose(join(points + 100)[:, 2], join(points)[:, 2], rtol=1e-9)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((1, 3)), "at least 2 points"),
        (np.zeros(4), "at least 2 points"),
        (np.array([[0.0], [np.nan]]), "row 1"),
    ],
)
def test_what_makes_no_tree(points, message):
    with pytest.raises(InputError, match=message):
        join(points)
