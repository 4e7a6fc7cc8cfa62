"""P x K batches: every image once, no class twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.images.balance import EpochPlan, balance_epoch
from plankton_embed.training.batches import compose_batches


def numbered_plan(n_classes, n_images):
    rows = np.arange(n_classes * n_images).reshape(n_classes, n_images)
    return EpochPlan(rows, rows % 8)


@given(
    n_classes=st.integers(2, 30), n_images=st.integers(2, 20), p=st.integers(2, 40), k=st.integers(2, 8),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_every_image_comes_once_and_no_class_twice_in_a_batch(n_classes, n_images, p, k, seed):
    batches = compose_batches(numbered_plan(n_classes, n_images), p, k, np.random.default_rng(seed))
    rows = np.concatenate([rows for rows, _ in batches])
    assert np.array_equal(np.sort(rows), np.arange(n_classes * n_images))
    assert all(np.array_equal(views, rows % 8) for rows, views in batches)
    sizes = []
    for rows, _ in batches:
        classes, counts = np.unique(rows // n_images, return_counts=True)
        assert counts.max() <= k  # a second group of a class would exceed K, or tear the count below
        assert set(counts) <= {k, n_images % k, n_images} if n_images > k else set(counts) == {n_images}
        sizes.append(len(classes))
    assert max(sizes) <= min(p, n_classes)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n_classes", "p", "wanted"), [(40, 16, {16, 15}), (12, 16, {12}), (17, 16, {16, 15, 17})])
def test_no_batch_is_left_nearly_empty(n_classes, p, wanted):
    batches = compose_batches(numbered_plan(n_classes, 120), p, 4, np.random.default_rng(0))
    assert {len(rows) // 4 for rows, _ in batches} <= wanted


def test_five_classes_by_hand():
    # 5 classes x 2 groups = 10 groups, 4 a batch at most: 3 batches, of 4, 3 and 3 classes
    batches = compose_batches(numbered_plan(5, 4), 4, 2, np.random.default_rng(0))
    assert [len(rows) for rows, _ in batches] == [8, 6, 6]


def test_chance_settles_which_classes_meet():
    plan = numbered_plan(9, 4)
    first, again, other = (compose_batches(plan, 3, 2, np.random.default_rng(s))[0][0] for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_balanced_epoch_of_uneven_classes_stays_even():
    class_index = np.repeat([0, 1, 2], [30, 4, 1])
    rng = np.random.default_rng(0)
    batches = compose_batches(balance_epoch(class_index, 8, rng), 2, 4, rng)
    shown = class_index[np.concatenate([rows for rows, _ in batches])]
    assert np.bincount(shown).tolist() == [8, 8, 8]
    pictures = {(row, view) for rows, views in batches for row, view in zip(rows, views, strict=True)}
    assert len(pictures) == 24  # a class grown eightfold shows no picture twice
