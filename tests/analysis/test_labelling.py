"""The images to label next: by hand, against every image measured again, and beside random order."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from plankton_embed.analysis import labelling
from plankton_embed.analysis.labelling import LEFT_OUT, NONE, LabellingQueue, choose_next
from plankton_embed.errors import InputError, SettingError

SIZES = (40, 25, 12)


@pytest.fixture(scope="module")
def blobs():
    """Three kinds of images, and one outlier (the last row)."""
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(len(SIZES)), SIZES)
    vectors = 10 * np.eye(16)[kind] + rng.normal(size=(len(kind), 16))
    return np.vstack([vectors, np.full(16, -9)]), np.append(kind, len(SIZES))


def without(n):
    return np.full(n, NONE)


def test_each_kind_once_its_typical_image_first_and_the_outlier_late(blobs):
    vectors, kind = blobs
    chosen = choose_next(vectors, without(len(vectors)), len(vectors))
    first = chosen.rows[np.unique(chosen.group, return_index=True)[1]]
    assert sorted(kind[first[:3]]) == [0, 1, 2]
    assert set(chosen.reason[:3]) == {"new"}
    for row in first[:3]:
        own = vectors[kind == kind[row]]
        distance = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(vectors[row] - own.mean(axis=0)) < np.median(distance)
    assert len(vectors) - 1 in first[3:]
    assert sorted(chosen.rows) == list(range(len(vectors)))
    assert (np.diff(chosen.group) >= 0).all()
    for number in np.unique(chosen.group)[:3]:
        assert len(np.unique(kind[chosen.rows[chosen.group == number]])) == 1


def test_a_kind_without_labels_comes_before_those_with_labels(blobs):
    vectors, kind = blobs
    labels = np.where((kind < 2) & (np.arange(len(kind)) % 4 == 0), kind, NONE)
    chosen = choose_next(vectors, labels, 5)
    assert (kind[chosen.rows[chosen.group == 1]] == 2).all()
    assert chosen.reason[0] == "new"
    assert set(chosen.guess) <= {0, 1}


def test_reasons_by_hand():
    """Every second image of a line is labelled, 0 on the left, 1 on the right, except in two stretches; 9 are far."""
    line = np.concatenate([np.arange(91) / 30, 9 + np.arange(9) / 30])
    labels = np.where(np.arange(100) % 2 == 0, np.where(line < 1.5, 0, 1), NONE)
    labels[11:18] = labels[43:48] = labels[91:] = NONE
    chosen = choose_next(line[:, None], labels, 100, most_together=1)
    found = dict(zip(chosen.rows.tolist(), zip(chosen.reason, chosen.guess, chosen.second, strict=True), strict=True))
    assert set(found) == set(np.flatnonzero(labels == NONE))
    assert chosen.rows[0] in range(91, 100) and chosen.reason[0] == "new"
    assert found[44] == ("unsure", 0, 1) and found[46] == ("unsure", 1, 0)
    assert found[14] == ("far", 0, 1)
    assert found[1] == ("few", 0, 1) and found[89] == ("few", 1, 0)
    text = dict(zip(chosen.rows.tolist(), chosen.describe_reasons(["copepod", "<b>shrimp</b>"]), strict=True))
    assert text[89] == "few labels of <b>shrimp</b>"
    assert text[46] == "unsure between <b>shrimp</b> and copepod"


def test_reasons_as_text():
    chosen = labelling.NextImages(
        np.arange(4), np.arange(4), np.array(labelling.REASONS, dtype=object), np.array([-1, 0, 1, 0]),
        np.array([-1, 1, 0, 1]),
    )  # fmt: skip
    texts = ["new kind", "unsure between copepod and shrimp", "far from labelled shrimp", "few labels of copepod"]
    assert chosen.describe_reasons(["copepod", "shrimp"]) == texts
    assert repr(chosen) == "NextImages(4 images in 4 groups)"


def measure_shortfalls(vectors, labels, chosen):
    """Return how much less each chosen image teaches than the best one, every image measured again at each choice."""
    distance, gone, shortfalls = cdist(vectors, vectors), [], []
    k = min(len(vectors) - 1, max(10, min(30, round(0.05 * len(vectors)))))
    similar = np.array([[other for other in np.argsort(row, kind="stable") if other != i][:k]
                        for i, row in enumerate(distance)])  # fmt: skip
    typical = np.median([distance[i, near[-1]] for i, near in enumerate(similar)])
    known = np.flatnonzero(labels >= 0)
    classes = np.unique(labels[known])
    need = np.where(labels == NONE, 1.0, 0)
    if len(classes):
        means = np.array([vectors[labels == code].mean(axis=0) for code in classes])
        to_means = cdist(vectors, means)
        order = np.argsort(to_means, axis=1)
        need /= 1 + np.array([(labels == classes[best]).sum() for best in order[:, 0]])
        if len(classes) > 1:
            nearest, second = np.take_along_axis(to_means, order[:, :2], axis=1).T
            need *= 1 + nearest / second
    for row in chosen:
        gap = np.minimum(distance[:, [*known, *gone]].min(axis=1, initial=np.inf), 1.5 * typical)
        worth = need * gap
        for i, near in enumerate(similar):
            worth[i] += (need[near] * np.maximum(gap[near] - distance[i, near], 0)).sum()
        worth[(labels != NONE)] = -1
        worth[gone] = -1
        shortfalls.append(worth.max() - worth[row])
        gone.append(row)
        need[row] = 0
    return np.array(shortfalls)


@hypothesis.given(seed=st.integers(0, 10_000), n=st.integers(8, 120), share=st.sampled_from([0, 0.1, 0.5]))
@hypothesis.settings(max_examples=30)
def test_the_image_that_teaches_most_is_found_without_measuring_all_again(seed, n, share):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    labels = np.where(rng.random(n) < share, rng.integers(0, 3, n), NONE)
    n_chosen = min(10, int((labels == NONE).sum()))
    chosen = choose_next(vectors, labels, n_chosen, most_together=1)
    assert measure_shortfalls(vectors.astype(float), labels, chosen.rows) == pytest.approx(0, abs=1e-4)
    assert len(set(chosen.rows)) == n_chosen
    assert chosen.group.tolist() == list(range(1, n_chosen + 1))


@hypothesis.given(seed=st.integers(0, 10_000))
@hypothesis.settings(max_examples=20)
def test_a_queue_that_follows_labels_is_that_of_the_labels(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    labels = rng.integers(LEFT_OUT, 3, 60)
    queue = LabellingQueue(vectors, labels)
    for _ in range(6):
        rows = rng.choice(60, rng.integers(1, 12), replace=False)
        given = rng.integers(LEFT_OUT, 4, len(rows))
        labels[rows] = given
        queue.change(rows, given)
    found, expected = queue.next(20), choose_next(vectors, labels, 20)
    for name in ("rows", "group", "reason", "guess", "second"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (labels[found.rows] == NONE).all()
    assert len(found) == min(20, int((labels == NONE).sum())) == len(set(found.rows))


def test_undoing_a_label_brings_the_queue_back(blobs):
    vectors, kind = blobs
    queue = LabellingQueue(vectors, without(len(kind)))
    before = queue.next(30)
    queue.change(before.rows[:5], kind[before.rows[:5]])
    assert not set(queue.next(100).rows) & set(before.rows[:5])
    queue.change(before.rows[:5], NONE)
    np.testing.assert_array_equal(queue.next(30).rows, before.rows)


def test_groups_grow_with_the_labels_of_their_class(blobs):
    vectors, kind = blobs
    queue = LabellingQueue(vectors, without(len(kind)), most_together=10)
    sizes = []
    while len(chosen := queue.next()):
        group = chosen.rows[chosen.group == 1]
        sizes.append(len(group))
        queue.change(group, kind[group])
    assert sizes[0] == labelling.FIRST_TOGETHER
    assert max(sizes) == 10
    assert sum(sizes) == len(kind)


def test_rare_kinds_are_found_sooner_than_in_random_order():
    rng = np.random.default_rng(3)
    kind = np.repeat(np.arange(20), [200, 150, 100, 100, 50, 50, *[8] * 14])
    vectors = 6 * rng.normal(size=(20, 16))[kind] + rng.normal(size=(len(kind), 16))
    chosen = choose_next(vectors, without(len(kind)), 30, most_together=1)
    assert len(np.unique(kind[chosen.rows])) == 20
    assert len(np.unique(kind[rng.permutation(len(kind))[:30]])) < 15


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_images(n):
    chosen = choose_next(np.arange(2 * n).reshape(n, 2), without(n))
    assert sorted(chosen.rows) == list(range(n))
    assert (chosen.guess == -1).all() and (chosen.second == -1).all()


def test_copies_and_one_class():
    labels = without(40)
    labels[0] = 7
    chosen = choose_next(np.ones((40, 3)), labels)
    assert sorted(chosen.rows) == list(range(1, 40))
    assert set(chosen.guess) == {7} and set(chosen.second) == {-1}
    assert len(choose_next(np.ones((5, 3)), np.zeros(5))) == 0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.ones((3, 2)), [0, 1]), {}, InputError, "expected 3 class indices"),
        ((np.ones((3, 2)), [0, 1, -3]), {}, InputError, "expected 3 class indices"),
        ((np.ones((3, 2)), without(3), 0), {}, SettingError, "n_images: expected at least 1; found 0"),
        ((np.ones((3, 2)), without(3)), {"most_together": 0}, SettingError, "most_together: expected at least 1"),
        ((np.full((3, 2), np.nan), without(3)), {}, InputError, "not finite"),
    ],
)
def test_what_cannot_be_chosen_from(arguments, options, error, message):
    with pytest.raises(error, match=message):
        choose_next(*arguments, **options)


@pytest.mark.parametrize(
    ("rows", "index"), [([0, 0], [1, 1]), ([5], [1]), ([-1], [1]), ([0, 1], [1, 2, 3]), ([0], [-3])]
)
def test_changes_that_do_not_fit(rows, index):
    queue = LabellingQueue(np.eye(4), without(4))
    with pytest.raises(InputError, match="expected"):
        queue.change(rows, index)
    assert len(queue.next()) == 4
