"""`suspects`: groups and single images that may have a wrong label."""

import json

import numpy as np
import pytest

import plankton_embed as pe
from plankton_embed import console
from plankton_embed.errors import SettingError


@pytest.mark.parametrize(("n_corrections", "n_rows", "enough"), [(15, 15, 35), (35, 20, 55), (40, None, None)])
def test_groups_that_leave_few_rows_for_single_images_are_reported(tmp_path, caplog, n_corrections, n_rows, enough):
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(10), 60)
    vectors = (3 * rng.normal(size=(10, 16))[codes] + rng.normal(size=(600, 16))).astype(np.float32)
    codes[np.flatnonzero(codes == 2)[:20]] = 5
    many = pe.EmbeddingTable(vectors, label=[f"class {code}" for code in codes])
    found = pe.suspects(many, tmp_path / "out", n_folds=0, n_corrections=n_corrections, progress=False)
    assert found.groups["n_images"].tolist() == [20]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_group_images"] == 20
    if n_rows is None:
        assert "images of groups" not in caplog.text
    else:
        assert f"{n_rows} of the {n_corrections} rows of corrections.csv are images of groups" in caplog.text
        assert f"--corrections {enough} writes all of them, and {n_corrections} others" in caplog.text
        reason = found.corrections(enough)["reason"]
        assert reason.str.startswith("group 1 of 20").sum() == 20
        assert reason.str.startswith("score").sum() == n_corrections


def test_classes_of_one_image_are_suspects_without_a_head(caplog):
    lone = pe.EmbeddingTable(np.eye(4, dtype=np.float32), label=list("abcd"))
    found = pe.suspects(lone, n_folds=5, progress=False)
    assert "loss" not in found.ranking
    assert "every class has one image" in caplog.text


def test_a_class_of_one_image_is_no_suspect_of_the_head(table):
    label = table.label.copy()
    label[0] = "lone"
    found = pe.suspects(pe.EmbeddingTable(table.vectors, label=label), n_folds=3, progress=False)
    lone = found.ranking.set_index("object_id").loc["0"]
    assert lone["loss"] == pytest.approx(np.log(5))


def test_the_recall_of_the_neighbours_of_many_images_is_reported(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(3)
    codes = rng.integers(9, size=1200)
    many = pe.EmbeddingTable(rng.normal(size=(9, 8))[codes] + rng.normal(size=(1200, 8)), label=codes.astype(str))

    def summarize(folder):
        console.suspects(pe.suspects(many, folder, n_folds=0, progress=False), {"output": folder, "json": False})
        return json.loads((folder / "summary.json").read_text())["recall"], capsys.readouterr().out

    recall, shown = summarize(tmp_path / "exact")
    assert recall is None and "nearest cells" not in shown
    monkeypatch.setattr("plankton_embed.analysis.misfiled.MOST_EXACT", 1100)
    recall, shown = summarize(tmp_path / "many")
    assert 0.98 <= recall <= 1
    assert f"nearest cells of an index, which finds {recall:.1%} of the 10 nearest" in shown


@pytest.mark.parametrize("folds", [1, -1])
def test_folds_that_are_none(table, folds):
    with pytest.raises(SettingError, match="folds"):
        pe.suspects(table, n_folds=folds)


def test_every_suspect_is_shown(table, tmp_path):
    pe.suspects(table, tmp_path / "doubts", n_folds=0, n_corrections=50, progress=False)
    assert sorted(path.name for path in (tmp_path / "doubts").glob("suspects*.png")) == [
        "suspects.png",
        "suspects_2.png",
    ]
