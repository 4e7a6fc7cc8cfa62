from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.images.balance import balance_epoch, draw_evenly, draw_per_class, shuffle_by_class
from plankton_embed.images.views import N_VIEWS

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)
SAMPLINGS = st.sampled_from(["balanced", "square_root", "natural"])


def draw(sizes, n_images, sampling="balanced", seed=0):
    """Draw an epoch from classes of these sizes, their rows shuffled."""
    rng = np.random.default_rng(seed)
    class_index = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return class_index, balance_epoch(class_index, n_images, rng, sampling)


def counts(plan):
    return [len(rows) for rows in plan.rows]


@given(sizes=SIZES, n=st.integers(1, 300), sampling=SAMPLINGS)
def test_every_class_gives_images_of_its_own_and_at_least_two(sizes, n, sampling):
    class_index, plan = draw(sizes, n, sampling)
    assert len(plan.rows) == len(plan.views) == len(sizes)
    for c, (rows, views) in enumerate(zip(plan.rows, plan.views, strict=True)):
        assert len(rows) == len(views) >= 2
        assert (class_index[rows] == c).all()
        assert views.min() >= 0
        assert views.max() < N_VIEWS


@given(sizes=SIZES, n=st.integers(1, 50))
def test_balanced_gives_exactly_as_many_of_every_class(sizes, n):
    _, plan = draw(sizes, n * len(sizes))
    assert counts(plan) == [max(n, 2)] * len(sizes)


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        ("balanced", [40, 40, 40]),
        ("square_root", [70, 35, 15]),  # roots 14, 7 and 3: 120 images in parts of 14/24, 7/24 and 3/24
        ("natural", [93, 23, 4]),  # 196, 49 and 9 of 254: 92.6, 23.1 and 4.3 of 120
    ],
)
def test_three_classes_by_hand(sampling, wanted):
    _, plan = draw([196, 49, 9], 120, sampling)
    assert counts(plan) == wanted


@pytest.mark.parametrize(("sampling", "ratio"), [("balanced", 1), ("square_root", 10), ("natural", 100)])
def test_the_largest_class_over_the_smallest(sampling, ratio):
    _, plan = draw([1000, 100, 10], 11100, sampling)
    assert counts(plan)[0] / counts(plan)[2] == pytest.approx(ratio, rel=0.01)
    assert sum(counts(plan)) == pytest.approx(11100, abs=2)


@pytest.mark.parametrize("sampling", ["square_root", "natural"])
def test_equal_classes_give_the_same_whatever_the_sampling(sampling):
    assert counts(draw([7] * 5, 60, sampling)[1]) == counts(draw([7] * 5, 60)[1]) == [12] * 5


def test_as_many_images_as_there_are_show_each_once_when_natural():
    class_index, plan = draw([30, 7, 4], 41, "natural")
    assert np.array_equal(np.sort(np.concatenate(plan.rows)), np.arange(len(class_index)))
    assert (np.concatenate(plan.views) == 0).all()


def test_a_rare_class_gives_two_where_its_due_is_less():
    assert counts(draw([10000, 1], 100, "natural")[1]) == [100, 2]


@given(sizes=SIZES, n=st.integers(1, 300), sampling=SAMPLINGS)
def test_a_large_class_is_capped_without_repeats_a_small_one_grows_evenly(sizes, n, sampling):
    _, plan = draw(sizes, n, sampling)
    for size, rows, views in zip(sizes, plan.rows, plan.views, strict=True):
        shown = Counter(rows)
        if size >= len(rows):
            assert set(shown.values()) == {1}
            assert (views == 0).all()
        else:
            assert len(shown) == size
            assert max(shown.values()) - min(shown.values()) <= 1
        if len(rows) <= N_VIEWS * size:
            assert len(set(zip(rows, views, strict=True))) == len(rows)


def test_eight_times_a_class_is_every_view_of_every_image():
    _, plan = draw([3], 24)
    assert sorted(zip(plan.rows[0], plan.views[0], strict=True)) == [(r, v) for r in range(3) for v in range(8)]


def test_beyond_eight_times_the_views_come_round_again():
    _, plan = draw([2], 40)
    assert set(Counter(zip(plan.rows[0], plan.views[0], strict=True)).values()) == {2, 3}


def test_same_state_same_epoch_and_the_next_is_another():
    class_index = np.repeat([0, 1], 50)
    first, again = (balance_epoch(class_index, 40, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.rows, again.rows)
    rng = np.random.default_rng(3)
    assert not np.array_equal(balance_epoch(class_index, 40, rng).rows, balance_epoch(class_index, 40, rng).rows)


@pytest.mark.parametrize("n", [5, 13])
def test_every_image_of_a_class_has_the_same_chance(n):
    class_index = np.zeros(10, dtype=int)
    rng = np.random.default_rng(0)
    shown = np.bincount(np.concatenate([balance_epoch(class_index, n, rng).rows[0] for _ in range(400)]), minlength=10)
    assert np.abs(shown - 400 * n / 10).max() < 50  # five times the spread


@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), n=st.integers(1, 70), seed=st.integers(0, 99))
def test_random_draws_by_class(labels, n, seed):
    sizes = Counter(labels)
    labels = np.array(labels)
    order, number = shuffle_by_class(labels, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))
    for label, size in sizes.items():
        assert number[labels[order] == label].tolist() == list(range(size))
    few, even = (draw(labels, n, np.random.default_rng(seed)) for draw in (draw_per_class, draw_evenly))
    assert few.tolist() == sorted(set(few.tolist()))
    assert even.tolist() == sorted(set(even.tolist()))
    assert Counter(labels[few].tolist()) == {label: min(n, size) for label, size in sizes.items()}
    drawn = Counter(labels[even].tolist())
    assert len(even) == min(n, len(labels))
    assert all(drawn[label] >= min(size, max(drawn.values()) - 1) for label, size in sizes.items())
