"""Groups of images with a wrong label: only the planted ones are found."""

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.analysis import misfiled
from plankton_embed.analysis.misfiled import find_misfiled_groups
from plankton_embed.analysis.suspects import find_suspects
from plankton_embed.table import EmbeddingTable

N_CLASSES, N_CLUSTERS, N_EACH = 10, 3, 40


@pytest.fixture(scope="module")
def images():
    """Ten classes of three clusters of 40, which overlap a little."""
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(N_CLASSES * N_CLUSTERS), N_EACH)
    centres = np.repeat(2 * rng.normal(size=(N_CLASSES, 16)), N_CLUSTERS, axis=0)
    centres += 0.8 * rng.normal(size=centres.shape)
    vectors = centres[cluster] + 0.7 * rng.normal(size=(len(cluster), 16))
    return vectors.astype(np.float32), cluster


def find(vectors, codes, **options):
    return find_misfiled_groups(EmbeddingTable(vectors), codes, **options)[:2]


@pytest.mark.parametrize("n", [12, 20, 26])
def test_a_part_of_a_cluster_under_another_class_is_found(images, n):
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    moved = np.flatnonzero(cluster == 7)[:n]  # of class 2
    codes[moved] = 5
    groups, group = find(vectors, codes)
    assert groups[["group", "code", "guess", "n_images", "n_of_class"]].to_numpy().tolist() == [[1, 5, 2, n, 120 + n]]
    np.testing.assert_array_equal(np.flatnonzero(group), moved)


def test_the_order_of_images_and_the_number_of_classes_play_no_part(images):
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    codes[np.flatnonzero(cluster == 7)[:20]] = 5
    order = np.random.default_rng(1).permutation(len(codes))
    renamed = np.random.default_rng(2).permutation(N_CLASSES)
    groups, group = find(vectors, codes)
    again, again_group = find(vectors[order], renamed[codes][order])
    np.testing.assert_array_equal(again_group, group[order])
    assert again["guess"].tolist() == [renamed[2]]
    assert again["evidence"].tolist() == pytest.approx(groups["evidence"].tolist(), rel=1e-5)


def test_two_groups_come_with_the_clearer_one_first(images):
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    first, second = np.flatnonzero(cluster == 7)[:20], np.flatnonzero(cluster == 20)[:20]
    codes[first], codes[second] = 5, 0
    groups, group = find(vectors, codes)
    assert sorted(zip(groups["code"], groups["guess"], strict=True)) == [(0, 6), (5, 2)]
    assert groups["evidence"].is_monotonic_decreasing
    assert {frozenset(np.flatnonzero(group == number)) for number in (1, 2)} == {frozenset(first), frozenset(second)}


def test_right_labels_and_single_wrong_ones_are_not_groups(images):
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    assert len(find(vectors, codes)[0]) == 0
    rng = np.random.default_rng(3)
    swapped = rng.permutation(len(codes))[:60]
    codes[swapped] = (codes[swapped] + rng.integers(1, N_CLASSES, 60)) % N_CLASSES
    groups, group = find(vectors, codes)
    assert len(groups) == 0
    assert not group.any()


def test_copies_of_one_image_are_not_a_group(images):
    vectors, cluster = images[0].copy(), images[1]
    vectors[:15] = vectors[0]
    assert len(find(vectors, cluster // N_CLUSTERS)[0]) == 0


@pytest.mark.parametrize("noise", [0, 1e-5])
def test_copies_of_a_few_images_are_not_a_group(images, noise):
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    moved = np.flatnonzero(cluster == 7)[:5]
    codes[moved] = 5
    copies = np.repeat(vectors[moved], 3, axis=0)
    copies += noise * np.random.default_rng(4).normal(size=copies.shape).astype(np.float32)
    groups, group = find(np.concatenate([vectors, copies]), np.concatenate([codes, np.full(15, 5)]))
    assert len(groups) == 0
    assert not group.any()


def test_copies_join_the_group_of_their_image(images):
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    moved = np.flatnonzero(cluster == 7)[:20]
    codes[moved] = 5
    groups, group = find(np.concatenate([vectors, vectors[moved[:3]]]), np.concatenate([codes, [5, 5, 5]]))
    assert groups[["n_images", "n_of_class"]].to_numpy().tolist() == [[23, 143]]
    assert set(np.flatnonzero(group)) == {*moved, len(codes), len(codes) + 1, len(codes) + 2}


@pytest.mark.parametrize("n_small", [0, 3])
def test_few_large_classes_do_not_show_what_is_common(images, n_small):
    vectors, cluster = images
    few = (cluster < 7 * N_CLUSTERS) | ((cluster < (7 + n_small) * N_CLUSTERS) & (np.arange(len(cluster)) % 7 == 0))
    codes = cluster[few] // N_CLUSTERS
    codes[np.flatnonzero(cluster[few] == 7)[:20]] = 5
    assert np.bincount(codes)[7:].tolist() == [18, 17, 17][:n_small]
    groups, group, why, recall = find_misfiled_groups(EmbeddingTable(vectors[few]), codes)
    assert len(groups) == 0
    assert not group.any()
    assert why == "8 classes of at least 20 different images are needed; found 7"
    assert recall is None


def test_images_that_are_not_drawn_join_the_group_of_their_nearest_one(images, monkeypatch):
    monkeypatch.setattr(misfiled, "MOST_DRAWN", 100)
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    moved = np.flatnonzero(cluster == 7)[:20]
    codes[moved] = 5
    groups, group = find(vectors, codes)
    np.testing.assert_array_equal(np.flatnonzero(group), moved)
    assert groups["n_images"].tolist() == [20]


def test_suspects_begin_with_the_group_after_the_copies(images):
    vectors, cluster = images[0].copy(), images[1]
    codes = cluster // N_CLUSTERS
    moved = np.flatnonzero(cluster == 7)[:20]
    codes[moved] = 5
    vectors[1000] = vectors[0]  # of two classes
    label = np.array([f"class {code}" for code in codes], dtype=object)
    found = find_suspects(EmbeddingTable(vectors, label=label))
    assert set(found.ranking["row"].head(20)) == set(moved)
    assert found.ranking["group"].tolist() == [1] * 20 + [0] * (len(codes) - 20)
    assert found.ranking["guess"].head(20).eq("class 2").all()
    assert found.ranking["score"][20:].is_monotonic_decreasing
    first = found.first(30)
    assert set(first["object_id"][:2]) == {"0", "1000"}
    assert first["reason"][2:22].eq("group 1 of 20, labelled class 5").all()
    assert first["reason"][22].startswith("score ")
    expected = {"group": [1], "label": ["class 5"], "guess": ["class 2"], "n_images": [20], "n_of_class": [140]}
    pd.testing.assert_frame_equal(found.groups.drop(columns="evidence"), pd.DataFrame(expected), check_dtype=False)


def test_suspects_draw_images_of_large_classes_by_their_seed(images, monkeypatch):
    monkeypatch.setattr(misfiled, "MOST_DRAWN", 60)
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    codes[np.flatnonzero(cluster == 7)[:30]] = 5
    table = EmbeddingTable(vectors, label=np.array([f"class {code}" for code in codes], dtype=object))
    for seed in (0, 1):
        expected = find(vectors, codes, seed=seed)[0]["evidence"].tolist()
        assert pe.suspects(table, n_folds=0, seed=seed, progress=False).groups["evidence"].tolist() == expected
    assert find(vectors, codes, seed=0)[0]["evidence"].tolist() != expected


@pytest.mark.parametrize(("shift", "found"), [(0, True), (1, True), (2, False)])
def test_a_group_beside_another_class_is_not_one_within_it(images, shift, found):
    vectors, cluster = images[0].copy(), images[1]
    codes = cluster // N_CLUSTERS
    moved = np.flatnonzero(cluster == 7)[:20]
    codes[moved] = 5
    vectors[moved, 0] += shift
    assert find(vectors, codes)[0]["n_images"].tolist() == ([20] if found else [])


def test_classes_too_small_for_groups_play_no_part(images, monkeypatch):
    monkeypatch.setattr(misfiled, "LEAST_EVIDENCE", 0)
    vectors, cluster = images
    codes = cluster // N_CLUSTERS
    rng = np.random.default_rng(3)
    swapped = rng.permutation(len(codes))[:200]
    codes[swapped] = (codes[swapped] + rng.integers(1, N_CLASSES, 200)) % N_CLASSES
    assert len(find(vectors, codes)[0]) == 0
    small = 50 + np.repeat(np.arange(40), 5)[:, None] + rng.normal(size=(200, 16))
    vectors = np.concatenate([vectors, small.astype(np.float32)])
    codes = np.concatenate([codes, N_CLASSES + np.repeat(np.arange(40), 5)])
    assert len(find(vectors, codes)[0]) == 0
