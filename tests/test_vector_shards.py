"""Vectors in a folder of Parquet files are those of one table, however they are read."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plankton_embed import vector_shards as module
from plankton_embed.errors import InputError, MismatchError, OutputError
from plankton_embed.images.balance import split_by_class
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import GroupedVectors, VectorShards, take_rows


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return EmbeddingTable(
        rng.normal(size=(200, 5)),
        object_id=[f"id {row}" for row in range(200)],
        label=np.array([None, " Méduse ", "фиш, egg"], dtype=object)[rng.integers(3, size=200)],
        path=[f"/images/{row}.png" if row % 3 else None for row in range(200)],
        sample_id=np.array(["a", None, "b"], dtype=object)[rng.integers(3, size=200)],
        columns={"depth": rng.normal(size=200), "seen": rng.random(200) < 0.5},
        provenance={"model_hash": "m", "precision": "float32"},
    )


@pytest.fixture
def folder(table, write_shards, tmp_path):
    return write_shards(table, tmp_path / "shards")


def assert_same(found, wanted):
    assert type(found) is EmbeddingTable
    pd.testing.assert_frame_equal(found.to_frame(), wanted.to_frame())
    assert found.provenance == wanted.provenance


def test_a_folder_loads_as_its_table(folder, table):
    assert_same(EmbeddingTable.load(folder), table)
    assert_same(VectorShards.open(folder).load(), table)


def test_properties_are_those_of_the_table(folder, table):
    shards = VectorShards.open(folder)
    assert (len(shards), shards.dimension, shards.model_hash) == (200, 5, "m")
    for name in ("object_id", "label", "path", "sample_id", "is_labelled"):
        np.testing.assert_array_equal(getattr(shards, name), getattr(table, name))
    assert shards.classes == table.classes and shards.counts == [1, 0, 79, 10, 110]
    assert {name: values.tolist() for name, values in shards.columns.items()} == {
        name: values.tolist() for name, values in table.columns.items()
    }
    assert shards.read_ids().to_pylist() == table.object_id.tolist()
    assert repr(shards) == "VectorShards(200 images in 5 files, 5 dimensions, model m)"
    assert "id 0" in shards._repr_html_()
    table.check_same_model(shards)
    with pytest.raises(MismatchError, match="made by model other"):
        replace(table, provenance={"model_hash": "other"}).check_same_model(shards)


@pytest.mark.parametrize("n_rows", [1, 64, 199, 200, 500])
def test_blocks_are_those_of_the_table(folder, table, n_rows):
    shards = VectorShards.open(folder)
    blocks = list(shards.blocks(n_rows))
    assert {len(block) for block in blocks[:-1]} <= {n_rows}
    assert_same(EmbeddingTable.concat(blocks), table)
    for block, own in zip(shards.vector_blocks(n_rows), table.vector_blocks(n_rows), strict=True):
        np.testing.assert_array_equal(block, own)


def test_selected_rows_are_those_of_the_table(folder, table):
    shards = VectorShards.open(folder)
    mask = np.random.default_rng(1).random(200) < 0.4
    some, wanted = shards.select(mask), table.select(mask)
    assert_same(some.load(), wanted)
    assert_same(EmbeddingTable.concat(list(some.blocks(7))), wanted)
    assert some.label.tolist() == wanted.label.tolist()
    labelled = some.labelled  # the labels were read before
    assert labelled.label.tolist() == wanted.labelled.label.tolist()
    assert labelled.object_id.tolist() == wanted.labelled.object_id.tolist()
    assert np.concatenate(list(labelled.vector_blocks(9))).tolist() == wanted.labelled.vectors.tolist()
    assert labelled.labelled is labelled
    rows = np.random.default_rng(2).permutation(len(wanted))[:20]
    assert_same(take_rows(some, rows), take_rows(wanted, rows))
    assert_same(take_rows(some, rows[:0]), take_rows(wanted, rows[:0]))
    none = shards.select(np.zeros(200, dtype=bool))
    assert len(none) == 0 and [len(block) for block in none.blocks(10)] == [0] and none.classes == []


def test_one_file_alone(folder, table):
    shards = VectorShards.open(folder)
    assert [len(shards.of_file(number)) for number in range(5)] == shards.counts
    assert_same(next(shards.of_file(2).blocks(1000)), table.select(np.arange(1, 80)))


def test_without_ids_the_rows_are_numbered_over_all_files(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    for number, rows in enumerate((range(3), range(3, 5))):
        pd.DataFrame({"v0": [float(row) for row in rows], "v1": 0.5}).to_parquet(folder / f"{number}.parquet")
    shards = VectorShards.open(folder)
    assert [block.object_id.tolist() for block in shards.blocks(4)] == [["0", "1", "2", "3"], ["4"]]
    assert EmbeddingTable.load(folder).object_id.tolist() == ["0", "1", "2", "3", "4"]
    assert shards.of_file(1).object_id.tolist() == ["3", "4"]
    assert shards.select([False, True, False, False, True]).object_id.tolist() == ["1", "4"]
    assert [block.tolist() for block in shards.vector_blocks(4)] == [[[row, 0.5] for row in range(4)], [[4, 0.5]]]
    assert shards.label.tolist() == [None] * 5


def test_a_column_seen_without_a_true_value_does_not_count(table, write_shards, tmp_path):
    unseen = replace(table, columns={"seen": np.zeros(200, dtype=bool)})
    folder = write_shards(unseen, tmp_path / "unseen")
    assert VectorShards.open(folder).columns == EmbeddingTable.load(folder).columns == {}


def test_models_of_two_files_are_refused_and_faults_added_up(folder, table, caplog):
    path = folder / "004.parquet"
    part = EmbeddingTable.load(path)
    replace(part, provenance={**part.provenance, "faults": [["x", "/x.png", "gone"]]}).save(path)
    assert VectorShards.open(folder).provenance["faults"] == {"/x.png": "gone"}
    replace(part, provenance={**part.provenance, "precision": "bfloat16"}).save(path)
    VectorShards.open(folder)
    assert "--precision float32" in caplog.text
    replace(part, provenance={"model_hash": "k"}).save(path)
    for read in (VectorShards.open, EmbeddingTable.load):
        with pytest.raises(MismatchError, match=r"004\.parquet was made by model k, 000\.parquet by model m"):
            read(folder)


def test_ids_of_two_files_are_refused(folder, table):
    table.select([3]).save(folder / "005.parquet")
    with pytest.raises(InputError, match=r"'id 3' again, in 002\.parquet and 005\.parquet"):
        VectorShards.open(folder)
    with pytest.raises(InputError, match=r"id 3 is in 2 rows"):
        EmbeddingTable.load(folder)


def test_lengths_of_two_files_are_refused(folder, table):
    replace(table.select([3]), object_id=["new"], vectors=np.ones((1, 6))).save(folder / "005.parquet")
    for read in (VectorShards.open, EmbeddingTable.load):
        with pytest.raises(InputError, match=r"005\.parquet: expected columns of the same types.*vector"):
            read(folder)


def test_values_that_are_not_finite_are_reported_with_their_rows(folder, table):
    frame = table.to_frame().drop(columns=["depth", "seen"])
    frame.loc[25, "v1"] = np.nan
    other = folder.with_name("other")
    other.mkdir()
    frame.iloc[:23].to_parquet(other / "0.parquet")
    frame.iloc[23:].to_parquet(other / "1.parquet")
    shards = VectorShards.open(other)
    for blocks in (shards.blocks(8), shards.vector_blocks(8)):
        with pytest.raises(InputError, match=r"rows 24 to 32: .*finite"):
            list(blocks)


@pytest.mark.parametrize("in_memory", [False, True])
def test_groups_are_read_one_at_a_time(folder, table, tmp_path, in_memory, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 32)
    groups = split_by_class(np.random.default_rng(3).integers(6, size=200))
    vectors = table if in_memory else VectorShards.open(folder)
    grouped = GroupedVectors(vectors, groups, tmp_path / "new" / "place")
    assert len(grouped) == 6
    for number in (5, 0, 3, 3, 1, 2, 4):
        np.testing.assert_array_equal(grouped[number], table.vectors[groups[number]])
    assert not in_memory or not (tmp_path / "new").exists()
    assert in_memory or list((tmp_path / "new" / "place").iterdir()) == []  # the file has no name


def test_a_digest_changes_with_one_number(table, write_shards, tmp_path):
    changed = table.vectors.copy()
    changed[-1, -1] += 1e-3
    digests = {
        VectorShards.open(write_shards(one, tmp_path / name)).digest()
        for name, one in (("a", table), ("b", table), ("c", replace(table, vectors=changed)))
    }
    assert len(digests) == 2


def test_a_place_that_cannot_be_written_is_reported(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"temporary file of 0\.0 GB in"):
        GroupedVectors(VectorShards.open(folder), [np.arange(200)], tmp_path / "file")
