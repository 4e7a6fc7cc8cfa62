"""`embed`: vectors of images by a saved model."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.jobs import read_log


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_saved_model_embeds_as_the_run_did(finished):
    table = pe.EmbeddingTable.load(finished.folder.vectors("test"))
    again = pe.embed(finished.folder.path, pe.ImageCatalog.load(finished.folder.catalog).split("test"), progress=False)
    assert again.model_hash == table.model_hash == finished.scores["model_hash"]
    assert (again.vectors == table.vectors).all()


def test_views_are_those_asked_for(images, finished, tmp_path):
    assert call("embed", finished.folder.path, images, "-o", tmp_path / "one.parquet").exit_code == 0
    done = call("embed", finished.folder.path, images, "-o", tmp_path / "eight.parquet", "--views", 8, "--json")
    assert (done.exit_code, json.loads(done.stdout)["n_images"]) == (0, 48)
    one, eight = (pe.EmbeddingTable.load(tmp_path / f"{name}.parquet") for name in ("one", "eight"))
    model = pe.EmbeddingModel.load(finished.folder.path, "cpu")
    np.testing.assert_allclose(one.vectors, model.embed(list(one.path), views=1), atol=1e-5)
    np.testing.assert_allclose(eight.vectors, model.embed(list(one.path), views=8), atol=1e-5)
    assert np.abs(one.vectors - eight.vectors).max() > 1e-3


@pytest.fixture
def damaged(images, tmp_path):
    """A catalog of the drawn images, three of which cannot be read."""
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    for path in sorted(folder.rglob("*.png"))[5:8]:
        path.write_bytes(b"no image")
    return pe.catalog(folder, progress=False)


def test_a_folder_contains_what_a_file_would(finished, damaged, tmp_path):
    wanted = pe.embed(finished.folder.path, damaged, progress=False)
    found = pe.embed(finished.folder.path, damaged, tmp_path / "out", part_size=10, progress=False)
    assert isinstance(found, pe.VectorShards) and found.counts == [7, 10, 10, 10, 8]
    pd.testing.assert_frame_equal(found.load().to_frame(), wanted.to_frame())
    assert found.provenance == wanted.provenance and len(wanted.provenance["faults"]) == 3
    faults = pd.read_csv(tmp_path / "out" / "faults.csv")
    assert sorted(faults["object_id"]) == sorted(set(damaged.frame["object_id"]) - set(wanted.object_id))
    assert set(faults["part"]) == {"part-000000.parquet"} and faults["found"].notna().all()
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert (job["complete"], job["n_vectors"], job["n_faults"]) == (True, 45, 3)


def test_shards_of_a_catalog_are_embedded_as_the_catalog(finished, damaged, tmp_path, write_shards):
    folder = write_shards(damaged, tmp_path / "catalog")
    wanted = pe.embed(finished.folder.path, damaged, progress=False)
    found = pe.embed(finished.folder.path, folder, tmp_path / "out", part_size=10, progress=False)
    pd.testing.assert_frame_equal(found.load().to_frame(), wanted.to_frame())
    in_memory = pe.embed(finished.folder.path, folder, progress=False)
    pd.testing.assert_frame_equal(in_memory.to_frame(), wanted.to_frame())


def test_a_stopped_job_is_continued(finished, damaged, tmp_path, monkeypatch):
    out, stopped = tmp_path / "out", []
    save = pe.EmbeddingTable.save

    def stop(table, path):
        if len(stopped) == 2:
            raise KeyboardInterrupt
        stopped.append(path)
        return save(table, path)

    monkeypatch.setattr(pe.EmbeddingTable, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        pe.embed(finished.folder.path, damaged, out, part_size=10, progress=False)
    monkeypatch.setattr(pe.EmbeddingTable, "save", save)
    with pytest.raises(InputError, match="not complete"):
        pe.EmbeddingTable.load(out)
    with pytest.raises(InputError, match="not complete"):
        pe.classify(finished.folder.path, out, progress=False)
    found = pe.embed(finished.folder.path, damaged, out, part_size=10, progress=False)
    assert len(found) == 45
    begun = [part for _, event, part, _ in read_log(out) if event == "begun"]
    assert sorted(begun) == sorted([f"part-{number:06d}.parquet" for number in (0, 1, 2, 2, 3, 4)])
    assert pe.embed(finished.folder.path, damaged, out, part_size=10, progress=False).counts == found.counts
    assert len(read_log(out)) == 11  # nothing was worked on again


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"part_size": 12}, "part_size"), ({"views": 2}, "views"), ({"precision": "float32"}, "precision")],
)
def test_a_job_with_other_inputs_is_refused(finished, damaged, tmp_path, changed, message):
    given = {"part_size": 24, "progress": False}
    pe.embed(finished.folder.path, damaged, tmp_path / "out", **given)
    with pytest.raises(OutputError, match=f"other inputs.*{message} .before"):
        pe.embed(finished.folder.path, damaged, tmp_path / "out", **(given | changed))
    other = pe.ImageCatalog(damaged.frame.assign(label="x"))
    with pytest.raises(OutputError, match=r"other inputs.*images .before"):
        pe.embed(finished.folder.path, other, tmp_path / "out", **given)
    assert pe.embed(finished.folder.path, other, tmp_path / "out", overwrite=True, **given).classes == ["x"]


def test_a_folder_that_is_something_else_is_refused(finished, images, damaged, tmp_path):
    kept = sorted(path.name for path in images.iterdir())
    for output in (images, images / "vectors"):
        with pytest.raises(OutputError, match="overlap"):
            pe.embed(finished.folder.path, images, output, progress=False, overwrite=True)
    with pytest.raises(OutputError, match=r"contains no job\.json"):
        pe.embed(finished.folder.path, damaged, images, progress=False, overwrite=True)
    assert sorted(path.name for path in images.iterdir()) == kept


def test_images_none_of_which_can_be_read(finished, damaged, tmp_path):
    bad = damaged.select(np.arange(5, 8))
    with pytest.raises(InputError, match="none of the 3 images can be read"):
        pe.embed(finished.folder.path, bad, tmp_path / "out", part_size=2, progress=False)
    with pytest.raises(InputError, match="not complete"):
        pe.VectorShards.open(tmp_path / "out")


def test_parts_have_the_column_seen_alike(finished, images, tmp_path):
    model = pe.EmbeddingModel.load(finished.folder.path, "cpu")
    assert len(model.seen)
    catalog = pe.catalog(images, progress=False)
    found = pe.embed(model, catalog, tmp_path / "out", part_size=1, progress=False)  # some parts without any
    wanted = pe.embed(model, catalog, progress=False)
    np.testing.assert_array_equal(found.columns["seen"], wanted.columns["seen"])
    assert set(np.unique(wanted.columns["seen"])) == {False, True}
    model.seen = model.seen[:0]
    assert "seen" not in pe.embed(model, catalog, tmp_path / "unseen", part_size=20, progress=False).columns


def test_a_changed_part_is_found(finished, damaged, tmp_path):
    out = tmp_path / "out"
    pe.embed(finished.folder.path, damaged, out, part_size=24, progress=False)
    part = pe.EmbeddingTable.load(out / "part-000001.parquet")
    replace(part.select(np.arange(20))).save(out / "part-000001.parquet")
    with pytest.raises(OutputError, match=r"part-000001\.parquet: expected 24 images; found 20 vectors and 0 faults"):
        pe.embed(finished.folder.path, damaged, out, part_size=24, progress=False)


def test_options_of_folders_on_the_command_line(finished, images, tmp_path):
    done = call("embed", finished.folder.path, images, "-o", tmp_path / "out", "--part-size", 20, "--json")
    assert (done.exit_code, json.loads(done.stdout)["n_images"]) == (0, 48)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3
    for options in (["--part-size", 20], ["--engine", "ray"]):
        done = call("embed", finished.folder.path, images, "-o", tmp_path / "v.parquet", *options)
        assert done.exit_code == 2 and "applies to a folder of shards" in done.stderr
    with pytest.raises(SettingError, match="workers"):
        pe.embed(finished.folder.path, images, tmp_path / "other", n_workers=2, progress=False)
