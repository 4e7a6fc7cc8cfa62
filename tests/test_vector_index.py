"""The FAISS door: exact distances, recall, saving, and what is said when something does not fit."""

import sys
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


@pytest.mark.parametrize("n", [1000, 6000])
def test_ivf_sq8_finds_nearly_all_of_clustered_vectors_with_exact_distances(n):
    table, queries = EmbeddingTable(unit_vectors(n, 64)), unit_vectors(200, 64, seed=1)
    index = VectorIndex.build(table, "ivf_sq8")
    found, wanted = index.search(queries), VectorIndex.build(table).search(queries)
    assert recall(found, wanted) > 0.9
    at_rows = np.linalg.norm(queries[:, None] - table.vectors[found.rows], axis=2)
    np.testing.assert_allclose(found.distances, at_rows, rtol=1e-5)
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_ivf_sq8_gives_k_neighbors_where_its_cells_hold_fewer():
    index = VectorIndex.build(EmbeddingTable(unit_vectors(1000)), "ivf_sq8")
    found = index.search(unit_vectors(3, seed=1), 1000)
    assert (np.sort(found.rows) == np.arange(1000)).all()


@pytest.mark.parametrize("kind", ["flat", "ivf_sq8"])
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
        assert list(loaded.table.label) == list(labels)


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
    [(5, "ivf_sq8", SettingError, "1,000.*found 5.*flat"), (5, "hnsw", SettingError, "flat or ivf_sq8.*hnsw"),
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


def test_copies_have_one_mean():
    means, counts, mean_of = compress_vectors(np.repeat(FIVE, 100, axis=0), 50)
    np.testing.assert_allclose(means[mean_of], np.repeat(FIVE, 100, axis=0), atol=1e-6)
    assert counts.tolist() == [100] * 5
