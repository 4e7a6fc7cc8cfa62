"""`report`: the page of a run or of a file of vectors, whatever of their files there is."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import DependencyError, InputError, OutputError
from plankton_embed.run_folder import RunFolder


def read_page(path):
    """Return the data in a page."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text.split("<script")[0])
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture
def own_run(finished, tmp_path):
    """A copy of a finished run, which a test may change."""
    return RunFolder(shutil.copytree(finished.folder.path, tmp_path / "own_run"))


@pytest.fixture
def page_of(tmp_path):
    """Return a function that writes a page and returns its data."""

    def write(vectors, **options):
        return read_page(pe.report(vectors, tmp_path / "page.html", progress=False, overwrite=True, **options))

    return write


def test_a_run_ends_with_its_page(finished):
    data = read_page(finished.folder.report)
    n = sum(map(len, finished.vectors.values()))
    assert data["images"]["n"] == n and len(data["thumbs"]["sheets"]) == 1
    assert data["classes"] == finished.vectors["train"].classes
    assert {"overview", "map", "confusion", "tree"} <= set(data["parts"])
    scores = data["parts"]["overview"]["scores"]["methods"]
    assert {row["method"]: row["accuracy"] for row in scores} == {
        method: finished.scores[method]["accuracy"] for method in ("centroid", "knn", "mlp")
    }
    assert len(data["parts"]["overview"]["history"]["epoch"]) == 2


def test_a_page_that_is_there_is_kept_by_a_run_that_goes_on(images, quick, own_run):
    own_run.report.write_text("kept")
    pe.run(images, own_run.path, settings=quick, progress=False)
    assert own_run.report.read_text() == "kept"


def test_without_the_extra_a_run_ends_well_with_one_line(images, quick, own_run, monkeypatch, caplog):
    own_run.report.unlink()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    pe.run(images, own_run.path, settings=quick, progress=False)
    assert not own_run.report.exists()
    lines = [record.message for record in caplog.records if "page" in record.message]
    assert lines == ["no page was written: a page needs the extra report: pip install 'plankton_embed[report]'"]
    with pytest.raises(DependencyError, match=r"plankton_embed\[report\]"):
        pe.report(own_run.path, own_run.report, progress=False)


def test_a_page_without_pictures_is_smaller(finished, tmp_path):
    path = pe.report(finished.folder.path, tmp_path / "small.html", images=False, progress=False)
    assert path.stat().st_size < finished.folder.report.stat().st_size
    assert read_page(path)["thumbs"] is None


def test_analyses_of_the_run_are_shown(own_run, page_of):
    assert "relations" not in page_of(own_run.path)["parts"]
    pe.relations(own_run.path, own_run.analysis("relations"), split="train")
    pe.pca(own_run.path, own_run.analysis("pca"))
    pe.clusters(own_run.path, own_run.analysis("clusters"), n_clusters=3, progress=False)
    parts = page_of(own_run.path)["parts"]
    assert "relations" in parts and len(parts["groups"]["name"]) == 3


def test_vectors_of_a_file_and_of_a_table(finished, page_of):
    path, table = finished.folder.vectors("test"), finished.vectors["test"]
    of_file, of_table = page_of(path), page_of(table)
    assert of_file["key"] == of_table["key"] and of_file["title"] == "test.parquet"
    assert of_file["parts"]["overview"]["scores"] is None
    assert "vectors of a file" in of_file["parts"]["overview"]["doubts"][0]["text"]


def test_unlabelled_vectors_without_pictures(page_of):
    table = pe.EmbeddingTable(np.random.default_rng(0).normal(size=(30, 5)))
    data = page_of(table)
    assert data["classes"] == [] and "confusion" not in data["parts"]
    assert data["thumbs"]["sheets"]  # grey squares


def test_one_image(page_of):
    data = page_of(pe.EmbeddingTable(np.ones((1, 5)), label=["copepod"]))
    assert data["images"]["n"] == 1 and "map" not in data["parts"]


@pytest.mark.parametrize("name", ["scores", "history", "settings", "predictions", "faults"])
def test_a_file_that_is_missing_or_damaged_is_left_out(own_run, page_of, name, caplog):
    path = getattr(own_run, name)
    path.write_bytes(b'{"a": \xff')
    data = page_of(own_run.path)
    assert data["images"]["n"] and "left out of the page" in caplog.text
    path.unlink()
    caplog.clear()
    assert page_of(own_run.path)["images"]["n"] and "left out" not in caplog.text


def test_groups_of_another_folder(own_run, page_of, tmp_path):
    pe.clusters(own_run.vectors("test"), tmp_path / "groups", n_clusters=2, progress=False)
    assert len(page_of(own_run.path, groups=tmp_path / "groups")["parts"]["groups"]["name"]) == 2
    with pytest.raises(InputError, match="groups: expected the folder that clusters wrote"):
        page_of(own_run.path, groups=tmp_path / "gone")


def test_a_run_without_vectors_is_refused(own_run, tmp_path):
    shutil.rmtree(own_run.path / "vectors")
    with pytest.raises(InputError, match="expected a run with vectors"):
        pe.report(own_run.path, tmp_path / "page.html", progress=False)


def test_other_names_and_files_that_exist_are_refused(finished, tmp_path):
    with pytest.raises(OutputError, match=r"ends in \.html"):
        pe.report(finished.folder.path, tmp_path / "page.pdf")
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        pe.report(finished.folder.path, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "mine"


def test_the_command_prints_where_the_page_is(finished, tmp_path):
    arguments = ["report", str(finished.folder.path), "-o", str(tmp_path / "page.html"), "--no-images", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["output"] == str(tmp_path / "page.html")
    assert read_page(tmp_path / "page.html")["thumbs"] is None


@pytest.mark.slow
def test_a_page_of_50_000_images_is_small(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 121, 50_000)
    vectors = rng.normal(size=(121, 64))[codes] + rng.normal(size=(50_000, 64))
    ids = [f"class_{code}/image_{row}.png" for row, code in enumerate(codes)]
    table = pe.EmbeddingTable(vectors, ids, np.array([f"class_{code}" for code in codes], dtype=object))
    assert pe.report(table, tmp_path / "page.html", images=False).stat().st_size <= 8e6
