"""`enroll`: a class added without training."""

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.page.journal import Journal


def test_an_enrolled_class_is_predicted_and_the_curve_is_drawn(vector_files, asked, tmp_path, make_table):
    new = make_table(30, 9, classes=("Calanus", "larva", "nauplius"))
    new.save(tmp_path / "new.npz")
    both = pe.enroll(
        vector_files["train"],
        tmp_path / "new.npz",
        tmp_path / "both.parquet",
        curve=True,
        query=vector_files["asked"],
        n_draws=2,
        progress=False,
    )
    assert both.classes == sorted({*asked.classes, "larva", "nauplius"})
    again = pe.EmbeddingTable.load(tmp_path / "both.parquet")
    np.testing.assert_array_equal(again.vectors, both.vectors)
    assert "larva" in set(pe.classify(tmp_path / "both.parquet", new, progress=False)["label"])
    folder = tmp_path / "both_curve"
    assert {p.name for p in folder.iterdir()} == {"draws.csv", "learning_curve.csv", "learning_curve.png"}
    assert pd.read_csv(folder / "learning_curve.csv")["n_examples"].unique().tolist() == [1, 2, 5, 10, 20]


def test_enrolling_overwrites_nothing_and_refuses_what_it_would_not_use(vector_files, known, tmp_path, make_table):
    new = make_table(3, 9, classes=("larva",))
    pe.enroll(known, new, tmp_path / "both.parquet", progress=False)
    with pytest.raises(OutputError, match="exists already"):
        pe.enroll(known, new, tmp_path / "both.parquet", progress=False)
    with pytest.raises(SettingError, match="curve needs an output"):
        pe.enroll(known, new, curve=True, progress=False)
    for unused in ({"query": known}, {"n_neighbors": 3}, {"n_draws": 3}):
        with pytest.raises(SettingError, match="for the learning curve"):
            pe.enroll(known, new, progress=False, **unused)
    folder = tmp_path / "more_curve"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"more_curve exists already"):
        pe.enroll(known, new, tmp_path / "more.parquet", curve=True, progress=False)
    assert not (tmp_path / "more.parquet").exists()


def test_classes_and_copies_that_would_contradict_the_reference_are_warned_of(known, make_table, caplog):
    pe.enroll(known, make_table(3, 9, classes=("larva",)), progress=False)
    assert not caplog.messages
    labels = [label.upper() if label == "Calanus" else label for label in known.label]
    copy = pe.EmbeddingTable(known.vectors, [f"copy {name}" for name in known.object_id], labels)
    pe.enroll(known, copy, progress=False)
    n = labels.count("CALANUS")
    assert "class names that differ only in capitals" in caplog.text
    assert f"{n} of the {len(copy)} new images have a copy (an equal vector) with another label" in caplog.text


def test_a_journal_corrects_the_vectors_that_were_reviewed(known, tmp_path):
    mixed = pe.EmbeddingTable(known.vectors, known.object_id, [*known.label[:-20], *[None] * 20])
    mixed.save(tmp_path / "v.parquet")
    journal = Journal(tmp_path / "v_journal.jsonl", "key")
    ids = known.object_id
    journal.append({"action": "relabel", "object_ids": [ids[0], ids[-1]], "label": "larva"})
    journal.append({"action": "delete", "object_ids": [ids[1], ids[-2]]})
    journal.append({"action": "keep", "object_ids": [ids[2], ids[-3]]})
    found = pe.enroll(tmp_path / "v.parquet", tmp_path / "v_journal.jsonl", tmp_path / "r.parquet")
    assert found.object_id.tolist() == [name for name in ids if name not in (ids[1], ids[-2])]
    labels = dict(zip(found.object_id, found.label, strict=True))
    assert [labels[ids[row]] for row in (0, -1, 2, -3)] == ["larva", "larva", known.label[2], None]
    np.testing.assert_array_equal(pe.EmbeddingTable.load(tmp_path / "r.parquet").label, found.label)
    journal.close()
    frame = pd.DataFrame({"object_id": [ids[0]], "action": ["relabel"], "label": ["zoea"], "reason": ""})
    frame.to_csv(tmp_path / "corrections.csv", index=False)
    assert pe.enroll(mixed, tmp_path / "corrections.csv").label[0] == "zoea"
    with pytest.raises(SettingError, match="curve and status: they are for new images"):
        pe.enroll(mixed, tmp_path / "corrections.csv", tmp_path / "c.parquet", curve=True)
    with pytest.raises(InputError, match=r"4 images are not in the reference, such as .*that was reviewed"):
        pe.enroll(mixed.select(np.arange(1, 200)), tmp_path / "v_journal.jsonl")


def test_a_journal_of_a_run_adds_what_was_decided_about_val_and_test(run_of_three, known, held, asked, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", "key")
    journal.append({"action": "relabel", "object_ids": [held.object_id[0]], "label": "larva"})
    journal.append({"action": "keep", "object_ids": [asked.object_id[0]]})
    journal.append({"action": "delete", "object_ids": [asked.object_id[1], known.object_id[0]]})
    journal.close()
    found = pe.enroll(run_of_three.path, tmp_path / "journal.jsonl")
    expected = [*known.object_id[1:], held.object_id[0], asked.object_id[0]]
    assert found.object_id.tolist() == expected
    assert found.label[-2:].tolist() == ["larva", asked.label[0]]
