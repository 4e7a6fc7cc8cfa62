"""`apply-corrections`: suspects come back as a corrected catalog."""

import json

import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError
from plankton_embed.page.journal import Journal


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


def test_a_journal_is_applied_and_undone_by_its_changes(table, tmp_path):
    pe.ImageCatalog.from_rows({"object_id": table.object_id, "path": table.path, "label": table.label}).save(
        tmp_path / "c.csv"
    )
    journal = Journal(tmp_path / "journal.jsonl", "key")
    journal.append({"action": "relabel", "object_ids": ["image 3", "image 4"], "label": "NA"})
    journal.append({"action": "delete", "object_ids": ["image 4", "image 5"]})
    journal.append({"action": "delete", "object_ids": ["image 9"]})
    journal.append({"action": "undo", "of": 3})  # while the page is open
    done = pe.apply_corrections(tmp_path / "c.csv", tmp_path / "journal.jsonl", tmp_path / "c2.csv")
    assert len(done.catalog) == 58
    found = pe.ImageCatalog.load(tmp_path / "c2.csv")
    assert dict(zip(found.frame["object_id"], found.labels, strict=True))["image 3"] == "NA"
    with pytest.raises(InputError, match=r"undo expects the changes that apply-corrections wrote .* found a journal"):
        pe.apply_corrections(tmp_path / "c2.csv", tmp_path / "journal.jsonl", tmp_path / "c3.csv", undo=True)
    pe.apply_corrections(tmp_path / "c2.csv", tmp_path / "c2_changes.csv", tmp_path / "c3.csv", undo=True)
    assert (tmp_path / "c3.csv").read_text(encoding="utf-8") == (tmp_path / "c.csv").read_text(encoding="utf-8")
    journal.append({"action": "keep", "object_ids": ["elsewhere"]})
    journal.append({"action": "relabel", "object_ids": ["image 8"], "label": "UNKNOWN"})
    journal.close()
    with pytest.raises(InputError, match="1 images are not in the catalog, such as elsewhere"):
        pe.apply_corrections(tmp_path / "c.csv", tmp_path / "journal.jsonl", tmp_path / "c4.csv")
    assert not (tmp_path / "c4.csv").exists()
