"""`index`: an index over vectors, in memory and in a folder."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import OutputError, SettingError


@pytest.mark.parametrize("as_file", [False, True])
def test_an_index_finds_the_nearest_as_brute_force_does(reference, query, tmp_path, as_file):
    vectors = reference.save(tmp_path / "v.parquet") if as_file else reference
    built = pe.index(vectors, tmp_path / "index")
    distances = np.linalg.norm(query.vectors[:, None] - reference.vectors, axis=2)
    for index in (built, pe.VectorIndex.load(tmp_path / "index")):
        found = index.search(query, 3)
        np.testing.assert_array_equal(found.rows, np.argsort(distances, axis=1)[:, :3])
        np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :3], rtol=1e-4)


def test_an_index_of_a_run_holds_its_training_vectors(run_of_three, reference):
    assert len(pe.index(run_of_three.path)) == len(reference)


def test_only_an_index_is_overwritten_and_only_when_asked(reference, calibration, tmp_path):
    pe.index(reference, tmp_path / "index")
    with pytest.raises(OutputError, match="exists already"):
        pe.index(calibration, tmp_path / "index")
    pe.index(calibration, tmp_path / "index", overwrite=True)
    assert len(pe.VectorIndex.load(tmp_path / "index")) == len(calibration)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"contains no index\.faiss"):
        pe.index(calibration, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_an_index_with_cells_states_its_recall(tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    pe.EmbeddingTable(vectors).save(tmp_path / "v.parquet")
    monkeypatch.setattr("plankton_embed.vector_index.MOST_FLAT", 1999)
    command = ["index", str(tmp_path / "v.parquet"), "--kind", "auto", "-o"]
    shown = CliRunner().invoke(app, [*command, str(tmp_path / "a")]).stdout
    printed = json.loads(CliRunner().invoke(app, [*command, str(tmp_path / "b"), "--json"]).stdout)
    index = pe.VectorIndex.load(tmp_path / "a")
    assert f"ivf_flat: a search looks through {index.n_probes} of {index.n_cells} cells" in shown
    assert f"finds {index.recall:.1%} of the 10 nearest" in shown
    for name in ("kind", "n_probes", "n_cells", "recall", "bytes_per_vector"):
        assert printed[name] == getattr(index, name)
    assert pe.index(tmp_path / "v.parquet").kind == "flat"  # exact by default


@pytest.fixture
def folder(tmp_path, write_shards):
    """2,500 vectors in five Parquet files, with ids."""
    vectors = np.random.default_rng(0).normal(size=(2500, 8)).astype(np.float32)
    table = pe.EmbeddingTable(vectors, object_id=[f"image {row}" for row in range(2500)])
    return table, write_shards(table, tmp_path / "vectors")


def test_a_folder_of_files_becomes_a_sharded_index_which_is_added_to(folder, tmp_path):
    table, vectors = folder
    out = tmp_path / "index"
    printed = CliRunner().invoke(app, ["index", str(vectors), "-o", str(out), "--shard-size", "1000"])
    assert printed.exit_code == 0 and "index of 2500 vectors in 3 shards" in printed.stdout, printed.output
    index = pe.ShardedIndex.load(out)
    assert index.n_shards == 3 and index.take(np.array([2499])).object_id.tolist() == ["image 2499"]

    more = pe.EmbeddingTable(table.vectors[:50] + 1, object_id=[f"new {row}" for row in range(50)])
    more.save(tmp_path / "more.parquet")
    command = ["index", str(tmp_path / "more.parquet"), "-o", str(out), "--add"]
    added = CliRunner().invoke(app, command)
    assert "the recall was not measured after the addition" in added.stdout and "in 4 shards" in added.stdout
    assert CliRunner().invoke(app, command).exit_code == 1  # these ids are there already
    other = pe.EmbeddingTable(table.vectors[:1500] - 1, object_id=[f"other {row}" for row in range(1500)])
    pe.index(other, tmp_path / "other", kind="sharded")
    result = json.loads(
        CliRunner().invoke(app, ["index", str(tmp_path / "other"), "-o", str(out), "--add", "--json"]).stdout
    )
    assert (result["kind"], result["n_vectors"], result["n_shards"], result["recall"]) == ("sharded", 4050, 5, None)


def test_a_kind_may_be_chosen_for_a_folder_of_files(folder, tmp_path):
    table, vectors = folder
    flat = pe.index(vectors, tmp_path / "flat", kind="flat")
    assert isinstance(flat, pe.VectorIndex) and flat.table.object_id.tolist() == table.object_id.tolist()


@pytest.mark.parametrize("kind", ["flat", "sharded"])
def test_an_index_is_not_written_into_its_vectors(folder, kind):
    _, vectors = folder
    with pytest.raises(OutputError, match="does not overlap with the inputs"):
        pe.index(vectors, vectors / "index", kind=kind)
    assert len(list(vectors.iterdir())) == 5


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"kind": "flat", "add": True}, SettingError, "add .* is for a sharded index"),
    ({"kind": "ivf_sq8", "shard_size": 2000}, SettingError, r"shard_size .* is for a sharded index"),
    ({"kind": "sharded", "output": None}, SettingError, "is written to a folder; give one"),
    ({"add": True, "overwrite": True}, SettingError, "use only one of them"),
    ({"add": True}, OutputError, "is not a sharded index to add to; to build one, leave --add out"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(folder, tmp_path, options, error, message):
    table, _ = folder
    with pytest.raises(error, match=message):
        pe.index(table, **({"output": tmp_path / "index"} | options))
    assert not (tmp_path / "index").exists()
