"""An index in shards: it finds what a flat index finds, keeps ids, and survives whatever stops its writer."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

from plankton_embed import index_shards, sharded_index
from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError
from plankton_embed.index_shards import IndexShard, is_sharded_index
from plankton_embed.output import LOCK_FILE, write_alone
from plankton_embed.sharded_index import ShardedIndex, compress_blocks
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex, compress_vectors
from plankton_embed.vector_shards import VectorShards

N = 4000


def make_table(n=N, seed=0, prefix="image ", **more):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    ids = [f"{prefix}{row}" for row in range(n)]
    label = [f"class {row % 3}" if row % 5 else None for row in range(n)]
    path = [f"/images/{row}.png" if row % 2 else None for row in range(n)]
    return EmbeddingTable(vectors, object_id=ids, label=label, path=path, **more)


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def built(table, tmp_path_factory):
    """Of four shards: three of 1,200 and one of 400 vectors."""
    return ShardedIndex.build(table, tmp_path_factory.mktemp("index") / "index", shard_size=1200)


@pytest.fixture
def index(built, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(built.folder, tmp_path / "index")
    return ShardedIndex.load(tmp_path / "index")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.name != LOCK_FILE)


def search_all(index, queries, k=10):
    """Search in every cell, which is exact but for the codes."""
    index.n_probes = index.n_cells
    return index.search(queries, k)


# ------------------------------------------------------------------------------------------ what it finds


@pytest.mark.parametrize("k", [1, 10, 500])
def test_it_finds_what_a_flat_index_finds(built, table, queries, k):
    wanted, found = VectorIndex.build(table).search(queries, k), search_all(built, queries, k)
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_allclose(found.distances, wanted.distances, rtol=1e-5)


def test_shards_of_files_are_independent_of_the_sizes_of_the_files(table, queries, tmp_path):
    (tmp_path / "v").mkdir()
    for number, rows in enumerate(np.split(np.arange(N), [100, 2700, 2701])):
        table.select(rows).save(tmp_path / "v" / f"{number}.parquet")
    index = ShardedIndex.build(VectorShards.open(tmp_path / "v"), tmp_path / "index", shard_size=1500)
    assert [shard.n_vectors for shard in index._shards] == [1500, 1500, 1000]
    wanted = VectorIndex.build(table).search(queries, 5)
    found = search_all(ShardedIndex.load(tmp_path / "index"), queries, 5)
    np.testing.assert_array_equal(found.rows, wanted.rows)
    assert index.take(found.rows[0]).object_id.tolist() == table.object_id[wanted.rows[0]].tolist()


def test_the_stated_recall_is_that_of_other_queries(built, table, queries):
    index = ShardedIndex.load(built.folder)
    assert index.recall >= 0.98 and 1 <= index.n_probes < index.n_cells
    farthest = VectorIndex.build(table).search(queries, 10).distances[:, -1:]
    recall = (index.search(queries, 10).distances <= farthest).mean()
    assert recall == pytest.approx(index.recall, abs=0.03)
    assert 0 < index.bytes_per_vector < 40  # 8 of the codes, 8 of an id in FAISS, and the cells


def test_cells_with_too_few_vectors_are_searched_on(built, table, queries):
    index = ShardedIndex.load(built.folder)
    index.n_probes = 1
    found = index.search(queries, 300)
    wanted = VectorIndex.build(table).search(queries, 300)
    short = found.rows[:, -1] == wanted.rows[:, -1]
    assert (found.rows >= 0).all() and short.any()


def test_of_equal_vectors_the_first_comes_first(tmp_path, queries):
    vectors = np.repeat(make_table(500).vectors, 3, axis=0)
    index = ShardedIndex.build(EmbeddingTable(vectors), tmp_path / "i", shard_size=1000)
    found = search_all(index, queries, 6)
    np.testing.assert_array_equal(np.diff(found.rows.reshape(-1, 2, 3)), 1)


def test_rows_are_read_in_the_order_that_is_asked_for(built, table):
    rows = np.array([3999, 0, 1199, 1200, 3600, 7])
    taken = built.take(rows)
    for name in ("object_id", "label", "path", "sample_id"):
        assert getattr(taken, name).tolist() == getattr(table, name)[rows].tolist()
    np.testing.assert_array_equal(taken.vectors, table.vectors[rows])
    assert len(built.take(np.array([], dtype=int))) == 0
    with pytest.raises(InputError, match="expected 0 to 3999; found -1 to 5"):
        built.take(np.array([5, -1]))


def test_only_the_groups_of_rows_that_are_asked_for_are_read(table, tmp_path, monkeypatch):
    monkeypatch.setattr(index_shards, "GROUP_ROWS", 100)
    index = ShardedIndex.build(table, tmp_path / "i", shard_size=1500)
    rows = np.random.default_rng(0).permutation(N)[:50]
    assert index.take(rows).object_id.tolist() == table.object_id[rows].tolist()


def test_labels_and_vectors_are_read_a_shard_at_a_time(built, table):
    classes, codes = built.read_labels()
    assert classes == table.classes
    assert [classes[code] if code >= 0 else None for code in codes] == table.label.tolist()
    blocks = list(built.vector_blocks(500))
    assert max(map(len, blocks)) == 500
    np.testing.assert_array_equal(np.concatenate(blocks), table.vectors)


def test_one_shard_is_in_memory_unless_more_may_be(built, queries):
    index = ShardedIndex.load(built.folder)
    index.search(queries)
    assert len(index._opened) == 1
    index.n_open = 4
    first = index.search(queries)
    opened = dict(index._opened)
    second = pickle.loads(pickle.dumps(index)).search(queries)
    index.search(queries)
    assert len(opened) == 4 and all(index._opened[name] is codes for name, codes in opened.items())
    np.testing.assert_array_equal(first.rows, second.rows)


@pytest.mark.parametrize(("given", "k", "message"), [
    (np.zeros((2, 7)), 3, r"expected shape \(q, 8\), found \(2, 7\)"),
    (np.full((2, 8), np.nan), 3, "finite"),
    (np.full((2, 8), 1e19), 3, "1e\\+18"),
    (np.zeros((2, 8)), 0, "expected 1 to 4000"),
    (np.zeros((2, 8)), 4001, "expected 1 to 4000"),
])  # fmt: skip
def test_queries_that_cannot_be_searched_are_refused(built, given, k, message):
    with pytest.raises(InputError, match=message):
        built.search(given.astype(np.float32), k)


def test_vectors_of_another_model_are_refused(built):
    other = make_table(1500, prefix="b", provenance={"model_hash": "other"})
    with pytest.raises(MismatchError, match=r"\(not stated\).*other"):
        built.search(other)
    with pytest.raises(MismatchError, match="other"):
        built.add(other)


def test_a_table_that_is_too_small_or_shards_that_are_too_small_are_refused(table, tmp_path):
    with pytest.raises(SettingError, match=r"at least 1,000 vectors, found 999; use flat"):
        ShardedIndex.build(table.select(np.arange(999)), tmp_path / "i")
    with pytest.raises(SettingError, match="shard size: expected at least 1,000 vectors; found 10"):
        ShardedIndex.build(table, tmp_path / "i", shard_size=10)
    long = EmbeddingTable(np.full((1000, 2), 1e19))
    with pytest.raises(InputError, match="1e"):
        ShardedIndex.build(long, tmp_path / "i")
    assert not list(tmp_path.glob("i/shard*"))


# ------------------------------------------------------------------------------------------ how it grows


def test_added_and_merged_vectors_are_found_under_their_ids(index, table, queries, tmp_path):
    more, others = make_table(700, 2, "added "), make_table(1100, 3, "other ")
    index.add(more)
    assert index.recall is None and len(index) == N + 700
    other = ShardedIndex.build(others, tmp_path / "other")
    index.merge(other)
    whole = EmbeddingTable.concat([table, more, others])
    for opened in (index, ShardedIndex.load(index.folder)):
        assert len(opened) == len(whole) and opened.n_shards == 6
        assert opened.tune(0.999) >= 0.999
        found, wanted = opened.search(queries), VectorIndex.build(whole).search(queries)
        assert (found.distances <= wanted.distances[:, -1:]).mean() > 0.99
        assert opened.take(np.arange(len(whole))).object_id.tolist() == whole.object_id.tolist()
    assert len(ShardedIndex.load(other.folder)) == 1100
    assert ShardedIndex.load(index.folder).recall >= 0.999


def test_an_id_that_is_there_already_is_refused_and_nothing_changes(index, table, tmp_path):
    before = names(index.folder)
    twice = make_table(1500, 5, "new ").join(table.select(np.array([17, 3999])))
    with pytest.raises(InputError, match="are in the index already, such as image 17"):
        index.add(twice, shard_size=1000)  # in its second shard
    other = ShardedIndex.build(make_table(1200), tmp_path / "other")
    with pytest.raises(InputError, match="are in the index already, such as image"):
        index.merge(other)
    assert names(index.folder) == before
    assert len(ShardedIndex.load(index.folder)) == N


def test_ids_with_the_same_hash_are_told_apart(index, monkeypatch):
    monkeypatch.setattr(sharded_index, "hash_text", lambda values: np.zeros(len(values), dtype=np.uint64))
    for shard in index._shards:
        np.save(index.folder / shard.name / index_shards.IDS_FILE, np.zeros(shard.n_vectors, dtype=np.uint64))
    index.add(make_table(1000, 2, "added "))
    with pytest.raises(InputError, match="such as image 0"):
        index.add(make_table(1000, 3))


def test_an_index_that_another_program_has_changed_is_not_changed_blindly(index):
    other = ShardedIndex.load(index.folder)
    other.add(make_table(1000, 2, "added "))
    with pytest.raises(InputError, match="was changed by another program; open it again"):
        index.add(make_table(1000, 3, "more "))
    assert len(ShardedIndex.load(index.folder)) == N + 1000


def test_two_programs_do_not_write_at_the_same_time(index):
    with write_alone(index.folder), pytest.raises(OutputError, match="is being written by another program"):
        index.add(make_table(1000, 2, "added "))


def test_only_an_index_is_replaced_and_only_if_wanted(index, tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        ShardedIndex.build(make_table(1000, 2), index.folder)
    replaced = ShardedIndex.build(make_table(1000, 2), index.folder, overwrite=True)
    assert names(index.folder) == sorted([replaced._shards[0].name, "shards.json"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"contains no shards\.json"):
        ShardedIndex.build(make_table(1000, 2), tmp_path / "mine", overwrite=True)


# ------------------------------------------------------------------------------------------ what stops the writer


class StopError(Exception):
    """Stands for a plug that is pulled."""


def stop_after(monkeypatch, n_shards):
    """Stop when so many shards are written; return the list of the tables that were."""
    written, write = [], IndexShard.write.__func__

    def stopped(cls, folder, table, cells):
        if len(written) == n_shards:
            raise StopError
        written.append(table)
        return write(cls, folder, table, cells)

    monkeypatch.setattr(IndexShard, "write", classmethod(stopped))
    return written


@pytest.fixture
def folder_of_vectors(table, tmp_path):
    (tmp_path / "vectors").mkdir()
    for number in range(4):
        table.select(np.arange(number * 1000, (number + 1) * 1000)).save(tmp_path / "vectors" / f"{number}.parquet")
    return tmp_path / "vectors"


def test_a_build_that_was_stopped_is_continued_by_the_same_call(folder_of_vectors, queries, tmp_path, monkeypatch):
    shards, folder = VectorShards.open(folder_of_vectors), tmp_path / "index"
    stop_after(monkeypatch, 2)
    with pytest.raises(StopError):
        ShardedIndex.build(shards, folder, shard_size=1000)
    with pytest.raises(InputError, match="was stopped while it was built: run the same command again"):
        ShardedIndex.load(folder)
    assert is_sharded_index(folder) and not is_sharded_index(folder_of_vectors)  # so that commands report this
    monkeypatch.undo()
    written = stop_after(monkeypatch, 9)
    index = ShardedIndex.build(VectorShards.open(folder_of_vectors), folder, shard_size=1000)
    assert [len(table) for table in written] == [1000, 1000]  # the other two are kept
    assert written[0].object_id[0] == "image 2000"
    whole = ShardedIndex.build(shards, tmp_path / "whole", shard_size=1000)
    np.testing.assert_array_equal(index.search(queries).rows, whole.search(queries).rows)
    assert len(names(folder)) == 5


def test_another_build_removes_what_a_stopped_one_left(folder_of_vectors, tmp_path, monkeypatch):
    stop_after(monkeypatch, 2)
    with pytest.raises(StopError):
        ShardedIndex.build(VectorShards.open(folder_of_vectors), tmp_path / "index", shard_size=1000)
    monkeypatch.undo()
    (tmp_path / "index" / ".shard-ab12.x7y").mkdir()
    index = ShardedIndex.build(VectorShards.open(folder_of_vectors), tmp_path / "index", shard_size=2000)
    assert names(tmp_path / "index") == sorted([*(shard.name for shard in index._shards), "shards.json"])
    assert index.n_shards == 2


@pytest.mark.parametrize(("library", "name", "error"), [(np, "save", OSError), (faiss, "write_index", RuntimeError)])
def test_a_full_disk_is_an_error_and_the_same_call_continues(
    folder_of_vectors, tmp_path, monkeypatch, library, name, error
):
    save, n_saved = getattr(library, name), []

    def fail(*arguments):
        n_saved.append(1)
        if len(n_saved) > 2:
            raise error("no space left")
        return save(*arguments)

    monkeypatch.setattr(library, name, fail)
    shards = VectorShards.open(folder_of_vectors)
    with pytest.raises(OutputError, match=r"cannot write .*/shard-\w+: no space left; .* run the same command again"):
        ShardedIndex.build(shards, tmp_path / "index", shard_size=1000)
    monkeypatch.undo()
    n_kept = len(list((tmp_path / "index").glob("shard-*")))
    assert n_kept and not list((tmp_path / "index").glob(".shard-*"))
    written = stop_after(monkeypatch, 9)
    assert len(ShardedIndex.build(shards, tmp_path / "index", shard_size=1000)) == N
    assert len(written) == 4 - n_kept


def test_a_folder_that_cannot_be_written_is_an_error(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .*file/index: Not a directory"):
        ShardedIndex.build(table, tmp_path / "file" / "index")


@pytest.mark.parametrize("change", ["add", "overwrite"])
def test_whoever_reads_while_a_change_is_stopped_sees_the_index_before(
    index, folder_of_vectors, queries, tmp_path, monkeypatch, change
):
    before = index.search(queries)
    for path in folder_of_vectors.glob("*"):
        table = EmbeddingTable.load(path)
        EmbeddingTable(table.vectors + 1, object_id=[f"new {name}" for name in table.object_id]).save(path)
    shards = VectorShards.open(folder_of_vectors)

    def make():
        if change == "add":
            ShardedIndex.load(index.folder).add(shards, shard_size=1000)
        else:
            ShardedIndex.build(shards, index.folder, shard_size=1000, overwrite=True)

    stop_after(monkeypatch, 3)
    with pytest.raises(StopError):
        make()
    for opened in (index, ShardedIndex.load(index.folder)):
        after = opened.search(queries)
        np.testing.assert_array_equal(after.rows, before.rows)
        np.testing.assert_array_equal(after.distances, before.distances)
    monkeypatch.undo()
    written = stop_after(monkeypatch, 9)
    make()
    assert len(written) == 1
    assert len(ShardedIndex.load(index.folder)) == (2 * N if change == "add" else N)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda folder: (folder / "shards.json").write_text("{"), "contains no complete sharded index"),
    (lambda folder: (folder / "shards.json").unlink(), "contains no complete sharded index"),
    (lambda folder: shutil.rmtree(next(folder.glob("shard-*"))), "1 of 4 shards are missing, such as shard-"),
    (lambda folder: change_list(folder, format_version=9), "expected format_version 1, found 9"),
    (lambda folder: change_list(folder, shards=[{"n": 1}]), "contains no complete sharded index"),
])  # fmt: skip
def test_an_index_that_is_not_whole_is_refused(index, damage, message):
    damage(index.folder)
    with pytest.raises(InputError, match=message):
        ShardedIndex.load(index.folder)


@pytest.mark.parametrize("name", ["index.faiss", "vectors.npy", "rows.parquet"])
def test_a_damaged_file_of_a_shard_is_named(index, queries, name):
    path = index.folder / index._shards[1].name / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=rf"{index._shards[1].name}/{name} cannot be read"):
        index.take(index.search(queries).rows[0])


def change_list(folder, **changes):
    path = folder / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


KILLED = """
import sys
from plankton_embed.sharded_index import ShardedIndex
from plankton_embed.vector_shards import VectorShards
print("adding", flush=True)
ShardedIndex.load(sys.argv[1]).add(VectorShards.open(sys.argv[2]), shard_size=1000)
print("written", flush=True)
"""


def start_to_add(folder, added):
    """Add 60 shards in a process of its own; return when it has begun."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder, added], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "adding\n"
    return process


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_index_as_it_was(built, queries, tmp_path):
    """Vectors are added in 60 shards by writers that are killed at random; between them the index answers as before."""
    folder, added = tmp_path / "index", tmp_path / "added"
    shutil.copytree(built.folder, folder)
    before = ShardedIndex.load(folder).search(queries)
    added.mkdir()
    for number in range(60):
        make_table(1000, number, f"added {number} ").save(added / f"{number:02d}.parquet")
    chance, counts = np.random.default_rng(0), [4]
    for _ in range(8):
        process = start_to_add(folder, added)
        while len(list(folder.glob("shard-*"))) <= counts[-1] and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.communicate()[0] == ""
        after = ShardedIndex.load(folder).search(queries)
        np.testing.assert_array_equal(after.rows, before.rows)
        np.testing.assert_array_equal(after.distances, before.distances)
        counts.append(len(list(folder.glob("shard-*"))))
    assert counts == sorted(counts) and len(set(counts)) >= 4  # each goes on where the one before was killed
    assert start_to_add(folder, added).communicate()[0] == "written\n"
    index = ShardedIndex.load(folder)
    assert len(index) == N + 60_000 and index.n_shards == 64
    whole = EmbeddingTable.concat([make_table(), *(make_table(1000, n, f"added {n} ") for n in range(60))])
    index.tune(1.0)
    np.testing.assert_array_equal(index.search(queries).rows, VectorIndex.build(whole).search(queries).rows)
    assert index.take(np.arange(len(whole))).object_id.tolist() == whole.object_id.tolist()


# ------------------------------------------------------------------------------------------ means of similar vectors


def test_means_in_blocks_are_as_good_as_means_in_memory(folder_of_vectors):
    rng = np.random.default_rng(0)
    centres = 5 * rng.normal(size=(30, 8))
    for path in folder_of_vectors.glob("*"):
        vectors = centres[rng.integers(30, size=1000)] + 0.3 * rng.normal(size=(1000, 8))
        EmbeddingTable(vectors, object_id=[f"{path.stem} {row}" for row in range(1000)]).save(path)
    shards = VectorShards.open(folder_of_vectors)
    vectors = shards.load().vectors
    squares = []
    for means, counts, mean_of in (compress_vectors(vectors, 200), compress_blocks(shards, 200)):
        assert len(means) == len(counts) <= 200 and counts.sum() == N
        for number in (0, len(means) - 1):
            np.testing.assert_allclose(means[number], vectors[mean_of == number].mean(axis=0), atol=1e-5)
        squares.append(float(((vectors - means[mean_of]) ** 2).sum()))
    assert squares[1] < 1.1 * squares[0]


def test_copies_have_one_mean(tmp_path):
    vectors = np.repeat(make_table(40).vectors, 50, axis=0)
    means, counts, mean_of = compress_blocks(EmbeddingTable(vectors), 100)
    assert len(means) == 40 and set(counts) == {50}
    np.testing.assert_allclose(means[mean_of], vectors, atol=1e-6)
