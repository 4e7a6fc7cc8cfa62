"""Groups: by hand, against scikit-learn's scores, and the names a person gives them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from plankton_embed.analysis import clusters
from plankton_embed.analysis.clusters import apply_names, find_clusters, load_named
from plankton_embed.errors import InputError, MismatchError, SettingError
from plankton_embed.table import EmbeddingTable


def group(vectors, *arguments, **options):
    table = EmbeddingTable(np.asarray(vectors, dtype=np.float32))
    return find_clusters(table, *arguments, n_threads=1, progress=False, **options)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    sizes = [60, 30, 15]
    truth = np.repeat(np.arange(3), sizes)
    means = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]])
    return means[truth] + rng.normal(size=(105, 3)), truth


def test_six_points_by_hand():
    found = group([[0], [1], [2], [10], [11], [30]], "tree", n_clusters=3)
    assert found.cluster.tolist() == [1, 1, 1, 2, 2, 3]
    assert found.groups["n_images"].tolist() == [3, 2, 1]
    assert found.groups["radius"].tolist() == pytest.approx([2 / 3, 0.5, 0])
    assert found.central[1].tolist() == [1, 0, 2]
    assert found.odd[1].tolist()[-1] == 1
    assert found.images()["distance"].tolist() == pytest.approx([1, 0, 1, 0.5, 0.5, 0])


@pytest.mark.parametrize("options", [{"method": "hdbscan"}, {"method": "tree", "n_clusters": 3}])
def test_three_blobs_are_three_groups(blobs, options):
    vectors, truth = blobs
    found = group(vectors, **options)
    inside = found.cluster > 0
    assert inside.mean() > 0.8
    assert adjusted_mutual_info_score(truth[inside], found.cluster[inside]) == pytest.approx(1)
    assert found.groups["n_images"].is_monotonic_decreasing
    assert found.groups["n_images"].sum() == inside.sum()


@pytest.fixture
def few_means(monkeypatch):
    monkeypatch.setattr(clusters, "MOST_EXACT", 2000)
    monkeypatch.setattr(clusters, "MOST_MEANS", 400)


def squares_within(vectors, number):
    return sum(
        ((own - own.mean(axis=0)) ** 2).sum() for own in (vectors[number == group] for group in np.unique(number))
    )


def test_many_images_are_grouped_by_means_about_as_well(few_means):
    rng = np.random.default_rng(1)
    vectors = 2 * rng.normal(size=(50, 8))[rng.integers(50, size=2001)] + rng.normal(size=(2001, 8))
    exact, found = group(vectors[:-1]), group(vectors)
    assert exact.n_means is None
    assert 300 < found.n_means <= 400
    assert exact.share_kept == 1
    total = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    lost = squares_within(vectors, clusters.compress_vectors(found.table.vectors, 400)[2]) / total
    assert 0.05 < lost < 0.3
    assert found.share_kept == pytest.approx(1 - lost, abs=1e-5)
    assert f"by {found.n_means} means of similar images, which keep {1 - lost:.1%}" in repr(found)
    assert len(found.groups) == 45
    assert found.groups["n_images"].sum() == 2001
    assert found.groups["n_images"].is_monotonic_decreasing
    assert squares_within(vectors, found.cluster) < 1.02 * squares_within(vectors[:-1], exact.cluster)
    np.testing.assert_array_equal(group(vectors).cluster, found.cluster)
    own = found.cluster == 3
    assert found.distance[own] == pytest.approx(
        np.linalg.norm(vectors[own] - vectors[own].mean(axis=0), axis=1), abs=1e-4
    )


def test_dense_groups_of_means_have_the_least_number_of_images(few_means):
    rng = np.random.default_rng(2)
    sizes = [1000, 995, 6]  # the last is smaller than a group may be
    truth = np.repeat(np.arange(3), sizes)
    vectors = 40 * np.eye(3)[truth] + rng.normal(size=(2001, 3))
    found = group(vectors, "hdbscan", min_size=50)
    assert found.groups["n_images"].min() >= 50
    assert (found.cluster[truth == 2] == 0).all()
    inside = found.cluster > 0
    assert inside.mean() > 0.8
    assert adjusted_mutual_info_score(truth[inside], found.cluster[inside]) == pytest.approx(1)


def test_no_more_groups_than_means(few_means):
    vectors = np.random.default_rng(3).normal(size=(2001, 3))
    with pytest.raises(SettingError, match=r"at most \d+, the number of means .* found 500"):
        group(vectors, n_clusters=500)
    copies = group(np.repeat(vectors[:10], 300, axis=0))
    assert copies.n_means == len(copies.groups) == 10


@pytest.mark.parametrize("method", ["tree", "hdbscan"])
def test_many_copies_of_one_image_are_one_group(few_means, method):
    found = group(np.ones((2001, 3)), method)
    assert (found.groups["n_images"].tolist(), found.n_means, found.share_kept) == ([2001], 1, 1.0)
    with pytest.raises(SettingError, match=r"at most 1, the number of means .* found 2"):
        group(np.ones((2001, 3)), n_clusters=2)


def test_copies_of_few_images_are_grouped_as_exactly_as_the_images(few_means, monkeypatch):
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(400, 3))[rng.integers(400, size=2001)]
    found = group(vectors, n_clusters=30)
    monkeypatch.setattr(clusters, "MOST_EXACT", 10**6)
    exact = group(vectors, n_clusters=30)
    assert adjusted_mutual_info_score(exact.cluster, found.cluster) == pytest.approx(1)
    assert found.share_kept == 1


def test_the_nearest_reference_class(blobs):
    vectors, _ = blobs
    reference = EmbeddingTable(
        np.array([[0, 0, 1], [0, 0, 3], [9, 0, 0], [0, 0, 99]], dtype=np.float32), label=["a", "a", "b", None]
    )
    found = group(vectors, "tree", n_clusters=3, reference=reference)
    assert found.groups["nearest_class"].tolist() == ["a", "b", "a"]
    mean = vectors[:60].mean(axis=0)
    assert found.groups["nearest_distance"][0] == pytest.approx(np.linalg.norm(mean - [0, 0, 2]), abs=1e-4)
    with pytest.raises(MismatchError):
        group(
            vectors, reference=EmbeddingTable(reference.vectors, label=reference.label, provenance={"model_hash": "x"})
        )


def test_names_become_labels(blobs):
    vectors, truth = blobs
    found = group(vectors, "tree", n_clusters=3)
    names = pd.DataFrame({"cluster": [1, 2, 3], "name": ["Acartia", None, " Oithona "]})
    table = replace(found.table, columns={"row": np.arange(len(found.table))})
    named = apply_names(table, found.images(), names)
    assert len(named) == 75 and named.columns["row"].tolist() == np.flatnonzero(truth != 1).tolist()
    assert set(named.label) == {"Acartia", "Oithona"}
    assert named.object_id.tolist() == [str(row) for row in np.flatnonzero(truth != 1)]
    np.testing.assert_array_equal(named.vectors, found.table.vectors[truth != 1])


def test_images_that_are_pulled_out_get_no_name(blobs):
    found = group(blobs[0], "tree", n_clusters=3)
    pulled = ['["0", "59"]', "", None]
    named = apply_names(
        found.table,
        found.images(),
        pd.DataFrame({"cluster": [1, 2, 3], "name": ["Acartia", None, "Oithona"], "pulled_out": pulled}),
    )
    assert named.object_id.tolist() == [str(row) for row in [*range(1, 59), *range(90, 105)]]
    assert set(named.label[:58]) == {"Acartia"}


def test_names_and_images_pulled_out_are_read_from_the_folder(blobs, tmp_path):
    found = group(blobs[0], "tree", n_clusters=3)
    ids = ['a "quoted", id', "[b]", *found.table.object_id[2:]]
    table = replace(found.table, object_id=ids)
    table.save(tmp_path / "vectors.parquet")
    found.images().assign(object_id=ids).to_csv(tmp_path / "images.csv", index=False)
    names = {
        "cluster": [1, 2],
        "n_images": [60, 30],
        "name": ["Acartia", ""],
        "pulled_out": [json.dumps(ids[:2]), "[]"],
    }
    pd.DataFrame(names).to_csv(tmp_path / "cluster_names.csv", index=False)
    named = load_named(tmp_path)
    assert named.object_id.tolist() == ids[2:60]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"cluster": [1], "name": ["a"], "pulled_out": ["0, 1"]}, "pulled_out, cluster 1: expected ids as a JSON list"),
        ({"cluster": [1], "name": ["a"], "pulled_out": ["[0]"]}, "JSON list of texts; found '\\[0\\]'"),
        ({"cluster": [1], "name": ["a"], "pulled_out": ['{"0": 1}']}, "JSON list of texts"),
        ({"cluster": [2], "name": ["a"], "pulled_out": ['["0", "61"]']}, "cluster 2: 1 ids are not .* such as 0"),
        ({"cluster": [1, 1], "name": ["a", "b"]}, "cluster 1 is in several rows"),
        ({"cluster": [1, 2], "name": [None, " "]}, "expected a name for at least one cluster; found none"),
        ({"cluster": [None], "name": ["a"]}, "column cluster: expected 1 to .*; found an empty cell"),
        (
            {"cluster": [1], "name": ["a"], "n_images": [300]},
            "expected cluster 1 with .* images.*; found 300; ",
        ),
        ({"cluster": [7], "name": ["a"]}, "column cluster: expected 1 to .*; found 7"),
        ({"cluster": [1]}, "expected the columns cluster, name"),
    ],
)
def test_names_that_cannot_be_used(blobs, names, message):
    found = group(blobs[0], "tree", n_clusters=3)
    with pytest.raises(InputError, match=message):
        apply_names(found.table, found.images(), pd.DataFrame(names))


def test_names_of_other_images_are_refused(blobs):
    found = group(blobs[0], "tree", n_clusters=3)
    with pytest.raises(InputError, match="not among the vectors"):
        apply_names(found.table.select(range(50)), found.images(), pd.DataFrame({"cluster": [1], "name": ["a"]}))


def test_little_to_group():
    few = group([[0], [1], [2]], "hdbscan")  # fewer than make a group
    assert few.cluster.tolist() == [0, 0, 0]
    assert few.groups.empty
    assert few.images()["distance"].isna().all()
    copies = group(np.ones((30, 2)), "hdbscan")
    assert copies.groups["radius"].eq(0).all()
    assert group(np.ones((30, 2)), "tree", n_clusters=1).groups["n_images"].tolist() == [30]
    assert len(group(np.arange(25)[:, None]).groups) == 5


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (1, {}, InputError, "at least 2 images"),
        (5, {"method": "hdbscan", "n_clusters": 3}, SettingError, "with hdbscan, leave it out"),
        (5, {"n_clusters": 6}, SettingError, "expected 1 to 5"),
        (5, {"method": "hdbscan", "min_size": 1}, SettingError, "at least 2"),
        (5, {"min_size": 5}, SettingError, "hdbscan"),
        (5, {"method": "kmeans"}, SettingError, "hdbscan or tree"),
    ],
)
def test_what_cannot_be_grouped(n, options, error, message):
    with pytest.raises(error, match=message):
        group(np.arange(n)[:, None], **options)
