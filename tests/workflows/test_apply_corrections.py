"""`apply-corrections`: suspects come back as a corrected catalog."""

import json

import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import OutputError


def read(folder, name):
    return pd.read_csv(folder / name)


def test_suspects_come_back_as_a_corrected_catalog(table, tmp_path):
    wrong = table.label.copy()
    wrong[[3, 20, 47]] = ["salp", "copepod", "Méduse"]
    swapped = pe.EmbeddingTable(table.vectors, table.object_id, wrong, table.path)
    out = tmp_path / "out"
    found = pe.suspects(swapped, out, n_folds=3, n_corrections=5, progress=False)
    assert set(found.ranking["object_id"][:3]) == {"image 3", "image 20", "image 47"}
    assert "loss" in found.ranking
    summary = json.loads((out / "summary.json").read_text())
    assert found.why_no_groups == summary["why_no_groups"]
    assert summary["why_no_groups"] == "8 classes of at least 20 different images are needed; found 0"
    corrections = read(out, "corrections.csv")
    assert len(corrections) == 5
    assert corrections["label"][:3].tolist() == [
        table.label[int(name.split()[1])] for name in corrections["object_id"][:3]
    ]
    catalog = pe.ImageCatalog.from_rows({"object_id": table.object_id, "path": table.path, "label": wrong})
    catalog.save(tmp_path / "c.csv")
    corrections.loc[:2, "action"] = "relabel"
    corrections.to_csv(out / "corrections.csv", index=False)
    dry = pe.apply_corrections(tmp_path / "c.csv", out / "corrections.csv")
    assert len(dry.changes) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "out"]  # nothing written
    pe.apply_corrections(tmp_path / "c.csv", out / "corrections.csv", tmp_path / "c2.csv")
    assert pe.ImageCatalog.load(tmp_path / "c2.csv").labels == table.label.tolist()
    pe.apply_corrections(tmp_path / "c2.csv", tmp_path / "c2_changes.csv", tmp_path / "c3.csv", undo=True)
    assert (tmp_path / "c3.csv").read_text(encoding="utf-8") == (tmp_path / "c.csv").read_text(encoding="utf-8")
    for wanted, place in ((out / "corrections.csv", "c.csv"), (tmp_path / "c2_changes.csv", "c2.csv")):
        with pytest.raises(OutputError, match="would be replaced"):
            pe.apply_corrections(tmp_path / "c.csv", wanted, tmp_path / place, overwrite=True)
    with pytest.raises(OutputError, match=r"c2_changes\.csv exists already"):
        (tmp_path / "c2.csv").unlink()
        pe.apply_corrections(tmp_path / "c.csv", out / "corrections.csv", tmp_path / "c2.csv")
    with pytest.raises(OutputError, match=r"corrections\.csv was filled in"):
        pe.suspects(swapped, out, n_folds=0, overwrite=True, progress=False)
