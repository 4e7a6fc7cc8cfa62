"""`index`: an index over vectors, in memory and in a folder."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import OutputError


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
