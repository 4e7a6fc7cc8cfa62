"""The FAISS door: exact distances, recall, saving, and what is said when something does not fit."""

import multiprocessing
import os
import sys
import threading
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import plankton_embed.vector_index as door
from plankton_embed.errors import DependencyError, InputError, MismatchError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex, compress_vectors, fixing_command, import_faiss

IVF = ["ivf_flat", "ivf_sq8"]
KINDS = ["flat", *IVF]
FIVE = np.array([[0, 0], [3, 4], [0, 1], [6, 8], [-1, 0]], dtype=np.float32)


def unit_vectors(n, dimension=16, seed=0, n_groups=20, spread=0.3):
    rng = np.random.default_rng(seed)
    groups = np.random.default_rng(99).normal(size=(n_groups, dimension))
    vectors = groups[rng.integers(n_groups, size=n)] + spread * rng.normal(size=(n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall(found, wanted):
    return np.mean([np.isin(f, w).mean() for f, w in zip(found.rows, wanted.rows, strict=True)])


def test_five_points_by_hand():
    found = VectorIndex.build(EmbeddingTable(FIVE)).search(np.array([[0, 0], [6, 7]], dtype=np.float32), 4)
    assert found.rows.tolist() == [[0, 2, 4, 1], [3, 1, 2, 0]]  # equals in the order of their rows
    assert found.distances[0].tolist() == [0, 1, 1, 5]
    np.testing.assert_allclose(found.distances[1], np.sqrt([1, 18, 72, 85]), rtol=1e-6)
    assert found.distances.dtype == np.float32
    assert found.rows.dtype == np.int64


def test_the_nearest_others_of_five_points():
    found = VectorIndex.build(EmbeddingTable(FIVE)).search_others(2)
    assert found.rows.tolist() == [[2, 4], [2, 0], [0, 4], [1, 2], [0, 2]]
    np.testing.assert_allclose(found.distances, np.sqrt([[1, 1], [18, 25], [1, 2], [25, 85], [1, 2]]), rtol=1e-6)


def test_among_many_copies_each_finds_others_only_and_as_many():
    copies = VectorIndex.build(EmbeddingTable(np.repeat(FIVE, 30, axis=0)))
    found = copies.search_others(3)
    assert (found.rows != np.arange(150)[:, None]).all()
    assert (found.rows // 30 == np.arange(150)[:, None] // 30).all()
    assert not found.distances.any()


@pytest.mark.parametrize("k", [0, 5])
def test_there_are_so_many_others_and_no_more(k):
    with pytest.raises(InputError, match=f"k: expected 1 to 4 .*, found {k}"):
        VectorIndex.build(EmbeddingTable(FIVE)).search_others(k)


@settings(max_examples=30)
@given(
    n=st.integers(1, 60),
    n_queries=st.integers(0, 30),
    dimension=st.integers(1, 9),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_flat_is_exact(n, n_queries, dimension, scale, seed, data):
    k = data.draw(st.integers(1, n))
    rng = np.random.default_rng(seed)
    vectors = (scale * rng.normal(size=(n, dimension))).astype(np.float32)
    queries = (scale * rng.normal(size=(n_queries, dimension))).astype(np.float32)
    found = VectorIndex.build(EmbeddingTable(vectors)).search(queries, k)
    wanted = np.sort(cdist(queries, vectors), axis=1)[:, :k] if n_queries else np.empty((0, k))
    np.testing.assert_allclose(found.distances, wanted, rtol=1e-5, atol=1e-6 * scale)
    at_rows = np.linalg.norm(queries[:, None] - vectors[found.rows], axis=2)
    np.testing.assert_allclose(found.distances, at_rows, rtol=1e-5, atol=1e-6 * scale)
    assert all(len(set(row)) == k for row in found.rows)


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5])
def test_every_vector_finds_itself_at_exactly_zero_in_a_crowded_space(spread, k):
    rng = np.random.default_rng(0)
    vectors = (1 / 8 + spread * rng.normal(size=(2000, 64))).astype(np.float32)
    found = VectorIndex.build(EmbeddingTable(vectors)).search(vectors, k)
    assert (found.distances[:, 0] == 0).all()
    assert (found.rows[:, 0] == np.arange(2000)).all()
    wanted = np.partition(cdist(vectors[:50], vectors), k - 1, axis=1)[:, k - 1]
    np.testing.assert_allclose(found.distances[:50, -1], wanted, rtol=1e-3)


def test_identical_vectors_come_in_the_order_of_their_rows():
    vectors = np.repeat(unit_vectors(10), 5, axis=0)
    found = VectorIndex.build(EmbeddingTable(vectors)).search(vectors[::5], 5)
    assert (found.distances == 0).all()
    assert (found.rows == np.arange(50).reshape(10, 5)).all()


def test_a_query_is_answered_the_same_alone_and_in_a_crowd():
    index = VectorIndex.build(EmbeddingTable(unit_vectors(3000)))
    queries = unit_vectors(5000, seed=1)
    together = index.search(queries, 3)
    alone = index.search(queries[4500:4501], 3)
    np.testing.assert_array_equal(together.rows[4500], alone.rows[0])
    np.testing.assert_array_equal(together.distances[4500], alone.distances[0])


@pytest.mark.parametrize("kind", IVF)
@pytest.mark.parametrize("n", [1000, 6000])
def test_cells_find_nearly_all_of_clustered_vectors_with_exact_distances(n, kind):
    table, queries = EmbeddingTable(unit_vectors(n, 64)), unit_vectors(200, 64, seed=1)
    index = VectorIndex.build(table, kind)
    found, wanted = index.search(queries), VectorIndex.build(table).search(queries)
    assert recall(found, wanted) > 0.95
    at_rows = np.linalg.norm(queries[:, None] - table.vectors[found.rows], axis=2)
    np.testing.assert_allclose(found.distances, at_rows, rtol=1e-5)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    others, exact = index.search_others(10), VectorIndex.build(table).search_others(10)
    assert recall(others, exact) > 0.95
    assert (others.rows != np.arange(n)[:, None]).all()


@pytest.mark.parametrize("kind", IVF)
def test_k_neighbors_are_found_where_the_searched_cells_contain_fewer(kind):
    index = VectorIndex.build(EmbeddingTable(unit_vectors(1000)), kind)
    queries = unit_vectors(3, seed=1)
    found = index.search(queries, 1000)
    assert (np.sort(found.rows) == np.arange(1000)).all()
    np.testing.assert_allclose(found.distances, np.sort(cdist(queries, index.table.vectors), axis=1), rtol=1e-5)


@pytest.mark.parametrize("kind", IVF)
def test_the_recall_is_that_of_a_search_of_the_fewest_cells_that_reach_it(kind):
    index = VectorIndex.build(EmbeddingTable(unit_vectors(4000, n_groups=400, spread=0.6)), kind)
    vectors, (chosen, trained_on) = index.table.vectors, door._draw_tuning(4000)
    distances = cdist(vectors[chosen].astype(float), vectors)
    distances[np.arange(len(chosen)), chosen] = np.inf
    nearest = np.argsort(distances, axis=1)[:, :10]
    reached = {}
    for share in (0.98, 0.5, 1.0):
        index.tune(share)
        found = index.search(vectors[chosen], 11).rows
        hits = [np.isin(found[i][found[i] != row], nearest[i]).mean() for i, row in enumerate(chosen)]
        assert index.recall == pytest.approx(np.mean(hits), abs=1e-3)
        assert index.recall >= share
        reached[share] = index.n_probes
    assert 1 <= reached[0.5] < reached[0.98] < reached[1.0] <= index.n_cells == 90
    assert len(chosen) == 400 and not set(chosen) & set(trained_on)
    index._index.nprobe = reached[0.98] // 2
    half = index.search(vectors[chosen], 11).rows
    assert np.mean([np.isin(nearest[i], half[i]).mean() for i in range(400)]) < 0.98


@pytest.mark.parametrize("offset", [1e3, 1e4])
@pytest.mark.parametrize("kind", IVF)
def test_the_recall_is_true_of_vectors_far_from_zero(kind, offset):
    """Squares of such vectors, which FAISS expands, have errors larger than the distances between neighbours."""
    vectors = (offset + 10 * unit_vectors(4000, spread=0.6)).astype(np.float32)
    index = VectorIndex.build(EmbeddingTable(vectors[:3000]), kind)
    distances = cdist(vectors[3000:].astype(float), index.table.vectors)
    farthest = np.sort(distances, axis=1)[:, 9:10] * (1 + 1e-6)
    together, alone = index.search(vectors[3000:]), [index.search(vectors[row : row + 1]) for row in range(3000, 3100)]
    assert (together.distances <= farthest).mean() == pytest.approx(index.recall, abs=0.02)
    single = np.concatenate([found.distances for found in alone]) <= farthest[:100]
    assert single.mean() > index.recall - 0.02
    whole = index.search(vectors[3000:3003], 3000).distances  # more than the searched cells contain
    np.testing.assert_allclose(whole, np.sort(distances[:3], axis=1), rtol=1e-5)


def test_a_recall_that_no_number_of_cells_reaches_is_warned_of(caplog):
    index = VectorIndex.build(EmbeddingTable(unit_vectors(1500)), "ivf_sq8")
    index.add(EmbeddingTable(50 + unit_vectors(500, seed=1), object_id=[f"far {row}" for row in range(500)]))
    assert not caplog.text
    assert index.tune() == index.recall < 0.9
    assert index.n_probes == index.n_cells
    assert f"finds {100 * index.recall:.1f} % of the 10 nearest, less than 98.0 %" in caplog.text
    assert "ivf_flat" in caplog.text


def test_copies_of_a_vector_count_as_one_another():
    index = VectorIndex.build(EmbeddingTable(np.repeat(unit_vectors(100), 30, axis=0)), "ivf_sq8")
    assert (index.recall, index.n_probes) == (1.0, 1)


@pytest.mark.parametrize("share", [0, -1, 1.1, 98])
def test_a_recall_out_of_range_is_refused(share):
    with pytest.raises(SettingError, match=f"above 0, at most 1; found {share}"):
        VectorIndex.build(EmbeddingTable(FIVE)).tune(share)


def test_auto_goes_by_the_number_of_vectors(monkeypatch):
    monkeypatch.setattr(door, "MOST_FLAT", 1000)
    monkeypatch.setattr(door, "MOST_IVF_FLAT", 1500)
    for n, kind in ((1, "flat"), (1000, "flat"), (1001, "ivf_flat"), (1500, "ivf_flat"), (1501, "ivf_sq8")):
        index = VectorIndex.build(EmbeddingTable(unit_vectors(n)), "auto")
        assert index.kind == kind
        assert index.recall == 1.0 if kind == "flat" else 0.98 <= index.recall <= 1
        assert ("recall@10" in repr(index)) == (kind != "flat")


def test_bytes_per_vector_are_those_of_the_file(tmp_path):
    table = EmbeddingTable(unit_vectors(8000, 64))
    for kind, expected in (("flat", 256), ("ivf_flat", 269.8), ("ivf_sq8", 77.8)):  # with 181 means of 256 bytes
        index = VectorIndex.build(table, kind)
        index.save(tmp_path / kind)
        assert index.bytes_per_vector == pytest.approx(expected, abs=0.05)
        assert (tmp_path / kind / "index.faiss").stat().st_size / 8000 == pytest.approx(expected, rel=0.01)


def named(names, seed, **more):
    """Return a table of vectors with these object ids, labelled by them."""
    return EmbeddingTable(
        unit_vectors(len(names), seed=seed), object_id=names, label=[f"of {n}" for n in names], **more
    )


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_added_removed_and_merged_with_their_vectors(kind, tmp_path):
    index = VectorIndex.build(named([f"a{i}" for i in range(1200)], seed=0), kind)
    index.tune(1.0)
    more, others = named([f"b{i}" for i in range(50)], seed=1), named([f"c{i}" for i in range(30)], seed=2)
    index.add(more)
    index.remove(["b0", "a1199", *(f"a{i}" for i in range(0, 300, 2))])
    index.merge(VectorIndex.build(others))
    index.remove("c3")
    wanted = [*(f"a{i}" for i in range(1, 300, 2)), *(f"a{i}" for i in range(300, 1199)), *more.object_id[1:]]
    wanted += [name for name in others.object_id if name != "c3"]
    assert list(index.table.object_id) == wanted and len(index) == len(wanted) == 1127
    assert list(index.table.label) == [f"of {name}" for name in wanted]
    assert index.recall == (1.0 if kind == "flat" else None)
    index.save(tmp_path / "index")
    if kind != "flat":
        assert "recall@10 not measured" in repr(index)
    assert index.tune(1.0) == 1.0
    queries = unit_vectors(40, seed=3)
    exact = np.argsort(cdist(queries, index.table.vectors), axis=1)[:, :20]
    loaded = VectorIndex.load(tmp_path / "index")
    for changed in (index, loaded):
        assert (changed.search(index.table.vectors, 1).rows[:, 0] == np.arange(1127)).all()
        assert np.isin(changed.search(queries, 20).rows, exact).mean() > 0.97
    np.testing.assert_array_equal(index.search(queries, 20).rows, exact)
    assert len(others) == 30 and len(more) == 50


@pytest.mark.parametrize("kind", IVF)
def test_cells_answer_with_few_vectors_left(kind):
    index = VectorIndex.build(named([str(i) for i in range(1000)], seed=0), kind)
    for n in (15, 3, 1):
        index.remove(list(index.table.object_id[n:]))
        assert index.tune() == 1.0
        assert (np.sort(index.search(FIVE[:1].repeat(8, axis=1), n).rows[0]) == np.arange(n)).all()


def test_an_index_of_the_same_array_does_not_change_with_another():
    table = EmbeddingTable(FIVE)
    first, second = VectorIndex.build(table), VectorIndex.build(table)
    second.add(EmbeddingTable(FIVE + 20, object_id=list("abcde")))
    second.remove(["0"])
    for index in (first, VectorIndex.build(table)):
        assert len(index) == 5
        assert (index.search(FIVE, 1).rows[:, 0] == np.arange(5)).all()
    assert second.search(FIVE, 9).rows[0].tolist() == [1, 3, 0, 2, 8, 4, 6, 5, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_added_and_nothing_removed_keep_the_recall(kind):
    index = VectorIndex.build(EmbeddingTable(unit_vectors(1000)), kind)
    recall = index.recall
    index.add(EmbeddingTable(np.zeros((0, 16), dtype=np.float32)))
    index.remove([])
    assert index.recall == recall is not None
    assert len(index) == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_whose_squared_distances_exceed_float32_are_refused(kind, tmp_path):
    vectors = unit_vectors(1000)
    index = VectorIndex.build(EmbeddingTable(vectors), kind)
    vectors = np.concatenate([vectors, 9.96921e36 * np.ones((1, 16), dtype=np.float32)])  # the fill value of netCDF
    message = r"lengths up to 1e\+18.*found a value of 9.96921e\+36 in row {}; is it a fill value"
    with pytest.raises(InputError, match="vectors: .*" + message.format(1000)):
        VectorIndex.build(EmbeddingTable(vectors), kind)
    with pytest.raises(InputError, match="the table to add: .*" + message.format(0)):
        index.add(EmbeddingTable(vectors[-1:], object_id=["far"]))
    with pytest.raises(InputError, match="queries: .*" + message.format(0)):
        index.search(vectors[-1:])
    assert len(index) == index._index.ntotal == 1000
    long = VectorIndex.build(EmbeddingTable(1e17 * vectors[:1000]), "flat")
    assert (long.search(long.table.vectors, 3).rows[:, 0] == np.arange(1000)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_added_or_removed_is_said_and_changes_nothing(kind):
    table = EmbeddingTable(unit_vectors(1000), provenance={"model_hash": "aaa"})
    index = VectorIndex.build(table, kind)
    of_model = {"provenance": {"model_hash": "aaa"}}
    with pytest.raises(MismatchError, match=r"(?s)aaa.*bbb"):
        index.add(named(["x"], 1, provenance={"model_hash": "bbb"}))
    with pytest.raises(MismatchError, match=r"(?s)aaa.*not stated"):
        index.merge(VectorIndex.build(named(["x"], 1)))
    with pytest.raises(InputError, match=r"2 object_ids of the table to add are in the index already, such as 7"):
        index.add(named(["x", "7", "8"], 1, **of_model))
    with pytest.raises(InputError, match=r"2 object_ids to remove are not in the index, such as x"):
        index.remove(["1", "x", "y", 2])
    with pytest.raises(InputError, match="all 1000 vectors would be removed"):
        index.remove(table.object_id)
    assert index.table is table and index._index.ntotal == 1000


class OnGpu:
    """Stands in for an index on a GPU: a copy, with the limits that FAISS has there."""

    def __init__(self, index):
        self.copy = import_faiss().clone_index(index)
        self.n_searches = 0

    def search(self, queries, k):
        assert k <= 2048 and getattr(self.copy, "nprobe", 1) <= 2048
        self.n_searches += 1
        return self.copy.search(queries, k)


@pytest.fixture
def two_gpus(monkeypatch):
    made = []
    monkeypatch.setattr(import_faiss(), "get_num_gpus", lambda: 2, raising=False)
    monkeypatch.setattr(import_faiss(), "StandardGpuResources", object, raising=False)

    def copy(resources, index):
        assert len(resources) == 2
        made.append(OnGpu(index))
        return made[-1]

    monkeypatch.setattr(import_faiss(), "index_cpu_to_gpu_multiple_py", copy, raising=False)
    door._gpu_resources.cache_clear()
    yield made
    door._gpu_resources.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_answers_as_the_processor_does_and_follows_every_change(kind, two_gpus, tmp_path):
    table, queries = EmbeddingTable(unit_vectors(3000)), unit_vectors(20, seed=1)
    index = VectorIndex.build(table, kind)
    assert len(two_gpus) == 1  # only the tuned index goes there
    changes = [
        lambda: None,
        lambda: index.tune(1.0),
        lambda: index.add(named(["x", "y"], 2)),
        lambda: index.remove("5"),
    ]
    for change in changes:
        change()
        before = two_gpus[-1].n_searches
        found = index.search(queries)
        assert two_gpus[-1].n_searches == before + 1
        _, rows = index._index.search(queries, index._count_candidates(10))
        wanted = index._rank(queries, rows)
        np.testing.assert_array_equal(found.rows, wanted[1][:, :10])
        np.testing.assert_array_equal(found.distances, wanted[0][:, :10])
    before = two_gpus[-1].n_searches
    assert (np.sort(index.search(queries[:2], 3000).rows) < 3001).all()  # more than a GPU gives
    assert two_gpus[-1].n_searches == before
    index.save(tmp_path / "index")
    np.testing.assert_array_equal(VectorIndex.load(tmp_path / "index").search(queries).rows, index.search(queries).rows)


def test_more_cells_than_a_gpu_searches_are_left_to_the_processor(two_gpus, monkeypatch):
    monkeypatch.setattr(door, "GPU_MOST", 30)
    index = VectorIndex.build(EmbeddingTable(unit_vectors(3000)), "ivf_flat")
    n_made = len(two_gpus)
    index._index.nprobe = 31
    index._set(index.table, index._index)
    assert len(two_gpus) == n_made
    assert index.search(unit_vectors(2, seed=1)).rows.shape == (2, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_answers_the_same(tmp_path, kind):
    labels = np.array(["a b", None, "<Méduse>"] * 400, dtype=object)
    table = EmbeddingTable(unit_vectors(1200), label=labels, provenance={"model_hash": "m"})
    index, queries = VectorIndex.build(table, kind), unit_vectors(50, seed=1)
    index.save(tmp_path / "run" / "index")
    wanted = index.search(queries)
    for folder in ("run/index", "run"):
        loaded = VectorIndex.load(tmp_path / folder)
        found = loaded.search(queries)
        np.testing.assert_array_equal(found.rows, wanted.rows)
        np.testing.assert_array_equal(found.distances, wanted.distances)
        assert (len(loaded), loaded.kind, loaded.table.model_hash) == (1200, kind, "m")
        assert (loaded.recall, loaded.n_probes, repr(loaded)) == (index.recall, index.n_probes, repr(index))
        assert list(loaded.table.label) == list(labels)


def test_an_index_of_an_earlier_release_is_loaded_without_its_recall(tmp_path):
    index = VectorIndex.build(EmbeddingTable(unit_vectors(1200)), "ivf_sq8")
    index.save(tmp_path / "index")
    (tmp_path / "index" / "config.json").write_text('{"kind": "ivf_sq8", "n_vectors": 1200, "model_hash": null}')
    loaded = VectorIndex.load(tmp_path / "index")
    assert (loaded.recall, loaded.n_probes) == (None, index.n_probes)


def damage_config(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe")


def damage_config_kind(folder):
    (folder / "config.json").write_text("{}")


def damage_config_shape(folder):
    (folder / "config.json").write_text("[]")


def damage_index(folder):
    (folder / "index.faiss").write_bytes((folder / "index.faiss").read_bytes()[:40])


def damage_table(folder):
    (folder / "vectors.parquet").write_bytes(b"no parquet")


def damage_lengths(folder):
    VectorIndex.build(EmbeddingTable(FIVE[:3])).table.save(folder / "vectors.parquet")


@pytest.mark.parametrize(
    "damage",
    [damage_config, damage_config_kind, damage_config_shape, damage_index, damage_table, damage_lengths,
     lambda folder: (folder / "vectors.parquet").unlink(), lambda folder: (folder / "config.json").unlink()],
)  # fmt: skip
def test_a_damaged_index_is_an_error_that_names_its_folder(tmp_path, damage):
    VectorIndex.build(EmbeddingTable(FIVE)).save(tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(InputError, match=str(tmp_path / "index")):
        VectorIndex.load(tmp_path / "index")


@pytest.mark.parametrize("k", [0, -1, 6])
def test_k_out_of_range_is_refused_with_the_range(k):
    with pytest.raises(InputError, match=rf"1 to 5.*found {k}"):
        VectorIndex.build(EmbeddingTable(FIVE)).search(FIVE, k)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.full((1, 2), np.nan), "finite"),
        (np.full((1, 2), np.inf), "finite"),
        (np.zeros((1, 3)), r"\(q, 2\), found \(1, 3\)"),
        (np.zeros(2), r"\(q, 2\)"),
    ],
)
def test_unfit_queries_are_refused(queries, message):
    with pytest.raises(InputError, match=message):
        VectorIndex.build(EmbeddingTable(FIVE)).search(queries, 1)


@pytest.mark.parametrize(("of_query", "named"), [({"model_hash": "bbb"}, "bbb"), ({}, "not stated")])
def test_a_query_of_another_model_is_refused_with_both_hashes(of_query, named):
    index = VectorIndex.build(EmbeddingTable(FIVE, provenance={"model_hash": "aaa"}))
    with pytest.raises(MismatchError, match=rf"(?s)aaa.*{named}"):
        index.search(EmbeddingTable(FIVE, provenance=of_query), 1)


def test_a_query_of_the_same_model_is_answered():
    table = EmbeddingTable(FIVE, provenance={"model_hash": "aaa"})
    assert (VectorIndex.build(table).search(table, 1).rows[:, 0] == np.arange(5)).all()


@pytest.mark.parametrize(
    ("n", "kind", "error", "message"),
    [(5, "ivf_sq8", SettingError, "1,000.*found 5.*flat"),
     (5, "ivf_flat", SettingError, "ivf_flat.*1,000"),
     (5, "hnsw", SettingError, "flat, ivf_flat, ivf_sq8 or auto.*hnsw"),
     (0, "flat", InputError, "at least one")],
)  # fmt: skip
def test_what_cannot_be_built_is_said(n, kind, error, message):
    with pytest.raises(error, match=message):
        VectorIndex.build(EmbeddingTable(np.zeros((n, 2), dtype=np.float32)), kind)


def test_missing_faiss_names_both_ways_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(DependencyError, match=r"plankton_embed\[cpu\].*plankton_embed\[gpu\]"):
        VectorIndex.build(EmbeddingTable(FIVE))


def test_broken_faiss_names_the_fixing_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", types.ModuleType("faiss"))
    with pytest.raises(DependencyError, match=r"pip uninstall -y .*&& pip install faiss-cpu"):
        import_faiss()


def test_two_builds_of_faiss_give_a_warning_with_the_fixing_command(monkeypatch, caplog):
    monkeypatch.setattr(door, "installed_faiss", lambda: {"faiss-cpu": "1.15", "faiss-gpu": "1.14"})
    VectorIndex.build(EmbeddingTable(FIVE))
    assert "more than once" in caplog.text
    assert "pip uninstall -y faiss-cpu faiss-gpu faiss-gpu-cuvs && pip install faiss-gpu" in caplog.text


@pytest.mark.parametrize(
    ("found", "kept"),
    [(["faiss-cpu"], "faiss-cpu"), (["faiss-cpu", "faiss-gpu"], "faiss-gpu"), ([], "faiss-cpu"),
     (["faiss-cpu", "faiss-gpu-cuvs"], "faiss-gpu-cuvs")],
)  # fmt: skip
def test_the_fixing_command_keeps_the_build_for_gpus(found, kept):
    assert fixing_command(dict.fromkeys(found, "1")).endswith(f"pip install {kept}")


def test_the_limit_of_faiss_is_put_back_after_a_search_and_after_an_error():
    variables = import_faiss().cvar
    before = variables.distance_compute_blas_threshold
    index, seen = VectorIndex.build(EmbeddingTable(unit_vectors(100))), []

    def fail(queries, k):
        seen.append(variables.distance_compute_blas_threshold)
        raise MemoryError

    index._searcher = types.SimpleNamespace(search=fail)
    with pytest.raises(MemoryError):
        index.search(unit_vectors(30))
    assert seen == [min(before, 20 * 16)]
    assert variables.distance_compute_blas_threshold == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_a_forked_process_searches_while_a_thread_of_its_parent_does():
    index, begun, may_end = VectorIndex.build(EmbeddingTable(unit_vectors(100))), threading.Event(), threading.Event()
    searcher = index._searcher

    def search_long(queries, k):
        begun.set()
        may_end.wait(60)
        return searcher.search(queries, k)

    index._searcher = types.SimpleNamespace(search=search_long)
    thread = threading.Thread(target=index.search, args=(unit_vectors(1),))
    thread.start()
    begun.wait(60)
    index._searcher = searcher
    threading.Timer(0.5, may_end.set).start()
    child = multiprocessing.get_context("fork").Process(target=index.search, args=(unit_vectors(1),), daemon=True)
    child.start()
    child.join(30)
    thread.join()
    child.kill()
    assert child.exitcode == 0


def test_one_index_serves_all_who_search_the_same_array(monkeypatch):
    rng = np.random.default_rng(5)
    table, built = EmbeddingTable(rng.normal(size=(50, 4)), label=["a", "b"] * 25), []
    inner = import_faiss().IndexFlatL2
    monkeypatch.setattr(import_faiss(), "IndexFlatL2", lambda d: built.append(d) or inner(d))
    first = VectorIndex.build(table)
    assert table.labelled is table
    second = VectorIndex.build(EmbeddingTable(table.vectors))
    assert len(built) == 1
    assert second.table is not table
    VectorIndex.build(EmbeddingTable(table.vectors.copy()))
    assert len(built) == 2
    table.vectors[:] = table.vectors[::-1].copy()  # whoever changes vectors gets an index of the new ones
    changed = VectorIndex.build(table)
    assert len(built) == 3
    assert (changed.search(table.vectors, 1).rows[:, 0] == np.arange(50)).all()
    del first, second, changed


def test_compressed_vectors_are_the_means_of_near_ones():
    vectors = unit_vectors(3000)
    means, counts, mean_of = compress_vectors(vectors, 200, seed=1)
    assert 180 < len(means) <= 200
    assert counts.tolist() == np.bincount(mean_of).tolist()
    np.testing.assert_allclose(means[7], vectors[mean_of == 7].mean(axis=0), atol=1e-6)
    error = ((vectors - means[mean_of]) ** 2).sum()
    drawn = vectors[np.random.default_rng(0).choice(3000, 200, replace=False)]
    assert error < 0.7 * (cdist(vectors, drawn).min(axis=1) ** 2).sum()
    again = compress_vectors(vectors, 200, seed=1)
    np.testing.assert_array_equal(again[2], mean_of)


@pytest.mark.parametrize("n_means", [5, 50, 499])
def test_copies_have_one_mean(n_means):
    means, counts, mean_of = compress_vectors(np.repeat(FIVE, 100, axis=0), n_means)
    np.testing.assert_allclose(means[mean_of], np.repeat(FIVE, 100, axis=0), atol=1e-6)
    assert counts.tolist() == [100] * 5


def test_many_copies_of_a_few_vectors_take_no_means_from_the_others():
    vectors = np.concatenate([np.repeat(unit_vectors(3), 3000, axis=0), unit_vectors(1000, seed=1)])
    means, counts, mean_of = compress_vectors(vectors, 200)
    assert len(means) > 180 and len(counts) == len(means)
    np.testing.assert_allclose(means[mean_of[-1]], vectors[mean_of == mean_of[-1]].mean(axis=0), atol=1e-6)
    for start in (0, 3000, 6000):
        assert len(set(mean_of[start : start + 3000])) == 1
    assert len(compress_vectors(vectors, 1003)[0]) == 1003


def test_vectors_far_from_zero_have_as_good_means():
    vectors = 10 * unit_vectors(3000, 64)
    squares = []
    for offset in (0, 1e4):
        moved = (offset + vectors).astype(np.float32)
        means, _, mean_of = compress_vectors(moved, 200)
        squares.append(((moved - means[mean_of]) ** 2).sum())
    assert squares[1] == pytest.approx(squares[0], rel=0.03)
    with pytest.raises(InputError, match="found a value of 1e\\+30 in row 3"):
        compress_vectors(np.where(np.arange(9)[:, None] == 3, 1e30, vectors[:9]), 2)
