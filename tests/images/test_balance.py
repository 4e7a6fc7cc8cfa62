from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.images.balance import N_VIEWS, balance_epoch

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def draw(sizes, n, seed=0):
    """Draw an epoch from classes of these sizes, their rows shuffled."""
    rng = np.random.default_rng(seed)
    class_index = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return class_index, balance_epoch(class_index, n, rng)


@given(sizes=SIZES, n=st.integers(1, 100))
def test_exactly_n_of_every_class_and_nothing_of_another(sizes, n):
    class_index, plan = draw(sizes, n)
    assert plan.rows.shape == plan.views.shape == (len(sizes), n)
    assert (class_index[plan.rows] == np.arange(len(sizes))[:, None]).all()
    assert plan.views.min() >= 0
    assert plan.views.max() < N_VIEWS


@given(sizes=SIZES, n=st.integers(1, 100))
def test_a_large_class_is_capped_without_repeats_a_small_one_grows_evenly(sizes, n):
    _, plan = draw(sizes, n)
    for size, rows, views in zip(sizes, plan.rows, plan.views, strict=True):
        shown = Counter(rows)
        if size >= n:
            assert set(shown.values()) == {1}
            assert (views == 0).all()
        else:
            assert len(shown) == size
            assert max(shown.values()) - min(shown.values()) <= 1
        if n <= N_VIEWS * size:
            assert len(set(zip(rows, views, strict=True))) == n


def test_eight_times_a_class_is_every_view_of_every_image():
    _, plan = draw([3], 24)
    assert sorted(zip(plan.rows[0], plan.views[0], strict=True)) == [(r, v) for r in range(3) for v in range(8)]


def test_beyond_eight_times_the_views_come_round_again():
    _, plan = draw([2], 40)
    assert set(Counter(zip(plan.rows[0], plan.views[0], strict=True)).values()) == {2, 3}


def test_same_state_same_epoch_and_the_next_is_another():
    class_index = np.repeat([0, 1], 50)
    first, again = (balance_epoch(class_index, 20, np.random.default_rng(3)) for _ in range(2))
    assert (first.rows == again.rows).all()
    rng = np.random.default_rng(3)
    assert (balance_epoch(class_index, 20, rng).rows != balance_epoch(class_index, 20, rng).rows).any()


@pytest.mark.parametrize("n", [5, 13])
def test_every_image_of_a_class_has_the_same_chance(n):
    class_index = np.zeros(10, dtype=int)
    rng = np.random.default_rng(0)
    shown = np.bincount(np.concatenate([balance_epoch(class_index, n, rng).rows[0] for _ in range(400)]), minlength=10)
    assert np.abs(shown - 400 * n / 10).max() < 50  # five times the spread
