"""P x K batches of one size: every image, no class twice; random triplets; and what reaches the device."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from plankton_embed.images.balance import EpochPlan, balance_epoch
from plankton_embed.settings import TrainingSettings
from plankton_embed.training.batches import BatchFeed, compose_batches, draw_triplets, plan_epoch


def numbered_plan(sizes):
    """Classes of these sizes whose rows are numbered through."""
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return EpochPlan(rows, [part % 8 for part in rows])


def count_classes(batches, class_index):
    """Return (batches, classes): how many images of each class a batch holds."""
    return np.array([np.bincount(class_index[rows], minlength=class_index.max() + 1) for rows, _ in batches])


@given(
    sizes=st.lists(st.integers(2, 20), min_size=2, max_size=30), p=st.integers(2, 40), k=st.integers(2, 8),
    seed=st.integers(0, 2**32),
)  # fmt: skip
@example(sizes=[100, 2, 2], p=2, k=2, seed=0)
def test_every_image_comes_and_all_batches_have_one_size(sizes, p, k, seed):
    batches = compose_batches(numbered_plan(sizes), p, k, np.random.default_rng(seed))
    assert all(np.array_equal(views, rows % 8) for rows, views in batches)
    shown = np.bincount(np.concatenate([rows for rows, _ in batches]))
    assert len(shown) == sum(sizes)
    assert shown.min() >= 1
    # a batch is made of groups of K images of a class; no more batches, and no larger ones, than these groups need
    n_groups = -(-np.array(sizes) // k)
    assert len(batches) == -(-n_groups.sum() // min(p, len(sizes)))
    size = -(-n_groups.sum() // len(batches))
    assert size <= min(p, len(sizes))
    assert {len(rows) for rows, _ in batches} == {size * k}
    counts = count_classes(batches, np.repeat(np.arange(len(sizes)), sizes))
    assert (counts % k == 0).all()
    added = counts.sum(axis=0) // k - n_groups
    assert added.min() >= 0
    assert added.sum() == len(batches) * size - n_groups.sum() < min(p, len(sizes))
    for part, of_class in zip(np.split(shown, np.cumsum(sizes)[:-1]), counts.sum(axis=0), strict=True):
        assert part.max() <= -(-of_class // len(part))  # the images that come again are spread over the class


@given(
    n_classes=st.integers(2, 30), n_images=st.integers(2, 20), p=st.integers(2, 40), k=st.integers(2, 8),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_no_class_comes_twice_in_a_batch_of_equal_classes(n_classes, n_images, p, k, seed):
    batches = compose_batches(numbered_plan([n_images] * n_classes), p, k, np.random.default_rng(seed))
    counts = count_classes(batches, np.repeat(np.arange(n_classes), n_images))
    assert counts.max() <= k
    assert set(counts[counts > 0]) == {k}


@given(
    sizes=st.lists(st.integers(2, 60), min_size=2, max_size=12), p=st.integers(2, 12), k=st.integers(2, 4),
    seed=st.integers(0, 2**32),
)  # fmt: skip
@example(sizes=[2, 2, 4], p=2, k=2, seed=2)  # not A with B, and C alone
def test_a_class_comes_twice_in_a_batch_only_when_it_has_more_groups_than_batches(sizes, p, k, seed):
    batches = compose_batches(numbered_plan(sizes), p, k, np.random.default_rng(seed))
    counts = count_classes(batches, np.repeat(np.arange(len(sizes)), sizes))
    n_groups = np.ceil(np.array(sizes) / k)
    assert (counts.max(axis=0) <= k * np.ceil(n_groups / len(batches))).all()  # more groups: as evenly as can be


def test_a_class_of_half_the_images_comes_in_every_batch_not_at_the_end():
    # 20 groups of the large class and 4 x 5 of the small ones, 4 a batch: 10 batches, each with 2 of the large class
    sizes = [40, 10, 10, 10, 10]
    batches = compose_batches(numbered_plan(sizes), 4, 2, np.random.default_rng(0))
    assert len(batches) == 10
    assert count_classes(batches, np.repeat(np.arange(5), sizes))[:, 0].tolist() == [4] * 10


@pytest.mark.parametrize(("n_classes", "p", "wanted"), [(40, 16, {16, 15}), (12, 16, {12}), (17, 16, {16, 15, 17})])
def test_no_batch_is_left_nearly_empty(n_classes, p, wanted):
    batches = compose_batches(numbered_plan([120] * n_classes), p, 4, np.random.default_rng(0))
    assert {len(rows) // 4 for rows, _ in batches} <= wanted


def test_five_classes_by_hand():
    # 5 classes x 2 groups = 10 groups, 4 a batch at most: 3 batches of 4 groups, of which 2 are added
    batches = compose_batches(numbered_plan([4] * 5), 4, 2, np.random.default_rng(0))
    assert [len(rows) for rows, _ in batches] == [8, 8, 8]
    counts = count_classes(batches, np.repeat(np.arange(5), 4))
    assert sorted(counts.sum(axis=0)) == [4, 4, 4, 6, 6]
    assert counts.max() == 2


def test_a_large_epoch_hardly_grows():
    # 121 classes x 120 images, 16 classes x 4 images a batch: 3,630 groups in 227 batches, 2 groups more
    batches = compose_batches(numbered_plan([120] * 121), 16, 4, np.random.default_rng(0))
    assert [len(rows) for rows, _ in batches] == [64] * 227


def test_chance_settles_which_classes_meet():
    plan = numbered_plan([4] * 9)
    first, again, other = (compose_batches(plan, 3, 2, np.random.default_rng(s))[0][0] for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_balanced_epoch_of_uneven_classes_stays_even():
    class_index = np.repeat([0, 1, 2], [30, 4, 1])
    rng = np.random.default_rng(0)
    batches = compose_batches(balance_epoch(class_index, 24, rng), 2, 4, rng)
    shown = class_index[np.concatenate([rows for rows, _ in batches])]
    assert np.bincount(shown).tolist() == [8, 8, 8]
    pictures = {(row, view) for rows, views in batches for row, view in zip(rows, views, strict=True)}
    assert len(pictures) == 24  # a class grown eightfold shows no picture twice


# ------------------------------------------------------------------------------------------ random triplets

UNEVEN = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [50, 10, 3, 1]))


@given(n_batches=st.integers(1, 5), n_triplets=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_triplets_lie_as_anchors_then_positives_then_negatives(n_batches, n_triplets, seed):
    batches = draw_triplets(UNEVEN, n_batches, n_triplets, np.random.default_rng(seed))
    assert len(batches) == n_batches
    for rows, views in batches:
        assert len(rows) == len(views) == 3 * n_triplets
        assert (views == 0).all()
        anchors, positives, negatives = UNEVEN[rows].reshape(3, n_triplets)
        assert (anchors == positives).all()
        assert (anchors != negatives).all()


def test_the_classes_of_triplets_are_uniform_and_so_are_the_images_in_a_class():
    (rows, _), *_ = draw_triplets(UNEVEN, 1, 20000, np.random.default_rng(1))
    anchors, positives, negatives = rows.reshape(3, -1)
    assert chisquare(np.bincount(UNEVEN[anchors])).pvalue > 0.01
    pairs = np.bincount(4 * UNEVEN[anchors] + UNEVEN[negatives], minlength=16).reshape(4, 4)
    assert (np.diag(pairs) == 0).all()
    assert chisquare(pairs[~np.eye(4, dtype=bool)]).pvalue > 0.01
    for part in (anchors, positives, negatives):
        for c in (0, 1, 2):
            members = np.flatnonzero(np.isin(UNEVEN, c))
            shown = np.bincount(part[UNEVEN[part] == c], minlength=len(UNEVEN))[members]
            assert chisquare(shown).pvalue > 0.001


def test_an_anchor_may_be_its_own_positive():
    (rows, _), *_ = draw_triplets(UNEVEN, 1, 20000, np.random.default_rng(2))
    anchors, positives, _ = rows.reshape(3, -1)
    twins = anchors == positives
    # uniform in its class: one in 50, 10, 3 and 1
    for c, size in enumerate([50, 10, 3, 1]):
        assert twins[UNEVEN[anchors] == c].mean() == pytest.approx(1 / size, abs=0.03)


# ------------------------------------------------------------------------------------------ an epoch

SIXTEEN = np.repeat(np.arange(8), [40, 20, 10, 5, 4, 3, 2, 1])


@pytest.mark.parametrize("sampling", ["balanced", "square_root", "natural"])
def test_an_epoch_shows_as_many_images_of_a_class_as_the_sampling_says(sampling):
    training = TrainingSettings(sampling=sampling, images_per_class=24, classes_per_batch=4, batch_images_per_class=4)
    batches = plan_epoch(SIXTEEN, training, np.random.default_rng(0))
    shown = np.bincount(SIXTEEN[np.concatenate([rows for rows, _ in batches])])
    weights = np.bincount(SIXTEEN) ** {"balanced": 0, "square_root": 0.5, "natural": 1}[sampling]
    wanted = np.maximum(8 * 24 * weights / weights.sum(), 2)
    # the last group of a class is filled up, and a few groups are added
    assert ((shown > wanted - 0.5) & (shown < wanted + 2 * 4)).all()
    assert shown.sum() < 8 * 24 + 8 * 4
    assert {len(rows) for rows, _ in batches} == {16}


def test_an_epoch_of_random_triplets_shows_about_images_per_class_of_each_class():
    training = TrainingSettings(
        sampling="random_triplets", images_per_class=24, classes_per_batch=5, batch_images_per_class=3
    )
    batches = plan_epoch(SIXTEEN, training, np.random.default_rng(0))
    assert [len(rows) for rows, _ in batches] == [15] * 13  # 8 x 24 = 192 images, 15 a batch: 12.8


@pytest.mark.parametrize("sampling", ["balanced", "square_root", "natural", "random_triplets"])
def test_the_same_chance_gives_the_same_epoch(sampling):
    training = TrainingSettings(sampling=sampling, images_per_class=6)
    first, again, other = (plan_epoch(SIXTEEN, training, np.random.default_rng(s)) for s in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=False))


@pytest.mark.parametrize(("sampling", "k"), [("balanced", 4), ("random_triplets", 3)])
def test_steps_per_epoch_is_the_number_of_batches(sampling, k):
    training = TrainingSettings(
        sampling=sampling, steps_per_epoch=6, images_per_class=99, classes_per_batch=4, batch_images_per_class=k
    )
    batches = plan_epoch(SIXTEEN, training, np.random.default_rng(0))
    assert [len(rows) for rows, _ in batches] == [4 * k] * 6


@pytest.mark.parametrize("sampling", ["balanced", "square_root", "natural"])
@pytest.mark.parametrize("p", [3, 8, 16])
def test_steps_per_epoch_is_nearly_the_number_of_batches_whatever_the_classes(sampling, p):
    training = TrainingSettings(sampling=sampling, steps_per_epoch=10, classes_per_batch=p, batch_images_per_class=4)
    # each of the 8 classes may end in a group that is not full
    assert abs(len(plan_epoch(SIXTEEN, training, np.random.default_rng(0))) - 10) <= -(-8 // min(p, 8))


# ------------------------------------------------------------------------------------------ on the way to the device


def test_a_batch_on_the_device_is_that_of_the_store(images):
    chosen = images.select(np.array([17, 3, 4, 11, 0, 9, 8]))  # the store's own order is another
    class_index = np.array([2, 0, 0, 1, 0, 1, 1])
    rows = np.array([6, 0, 0, 3])
    feed = BatchFeed(chosen, class_index, chosen.log_sides("pixels"), torch.device("cpu"))
    pixels, background, classes, sides = feed(rows)
    assert pixels.shape == (4, 1, 75, 75)
    assert pixels.dtype == background.dtype == torch.float32
    assert np.array_equal(pixels.numpy()[:, 0], images.pixels[[8, 17, 17, 11], :, :, 0])
    assert np.array_equal(background.numpy(), images.background[[8, 17, 17, 11]])
    assert classes.tolist() == [1, 2, 2, 1]
    long_and_short = np.sort(images.size[[8, 17, 17, 11]])[:, ::-1]
    assert sides.numpy() == pytest.approx(np.log(long_and_short / 100), abs=1e-6)


def test_a_part_of_a_batch_comes_with_the_classes_of_the_whole(images):
    feed = BatchFeed(images, np.arange(18) % 3, images.log_sides("pixels"), torch.device("cpu"))
    rows = np.array([6, 0, 0, 3, 17])
    whole, part = feed(rows), feed(rows, slice(1, None, 2))
    for position in (0, 1, 3):
        assert torch.equal(part[position], whole[position][1::2])
    assert torch.equal(part[2], whole[2])
