"""Corrections: into a catalog, out of it again, and what is wrong with a file of them."""

import json

import pandas as pd
import pytest

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.corrections import apply_corrections, is_corrections, read_corrections, undo_corrections


@pytest.fixture
def catalog():
    rows = {
        "object_id": ["a", "b", "c", "d", "e"],
        "path": [f"/images/{name}.png" for name in "abcde"],
        "label": ["copepod", "copepod", "medusa", None, "medusa"],
        "depth": [1.5, 2.5, 3.5, 4.5, 5.5],
    }
    return ImageCatalog.from_rows(rows)


def correct(*rows):
    return pd.DataFrame(rows, columns=["object_id", "action", "label", "reason"])


MANY = correct(
    ("a", "keep", "", ""), ("b", "delete", "", "blurred"), ("c", "relabel", "ephyra", "arms"),
    ("d", "relabel", "copepod", ""), ("e", "relabel", "medusa", "as before"),
)  # fmt: skip


LAST = correct(("e", "delete", "", ""), ("d", "delete", "", ""), ("c", "delete", "", ""))


def test_images_are_relabelled_and_left_out(catalog):
    before = catalog.frame.copy()
    done = apply_corrections(catalog, MANY)
    assert done.catalog.frame["object_id"].tolist() == ["a", "c", "d", "e"]
    assert done.catalog.labels == ["copepod", "ephyra", "copepod", "medusa"]
    assert done.catalog.frame["depth"].tolist() == [1.5, 3.5, 4.5, 5.5]
    assert done.changes["object_id"].tolist() == ["b", "c", "d"]
    assert done.changes["label"].fillna("-").tolist() == ["copepod", "medusa", "-"]
    assert done.changes["correction_label"].fillna("-").tolist() == ["-", "ephyra", "copepod"]
    assert done.changes["correction_place"].tolist() == [1, 2, 3]
    assert done.n_kept == 1
    pd.testing.assert_frame_equal(catalog.frame, before)


def test_undone_corrections_give_the_catalog_before(catalog, tmp_path):
    done = apply_corrections(catalog, MANY)
    pd.testing.assert_frame_equal(undo_corrections(done.catalog, done.changes).frame, catalog.frame)
    done.catalog.save(tmp_path / "new.csv")
    ImageCatalog(done.changes).save(tmp_path / "changes.csv")
    read = [ImageCatalog.load(tmp_path / name) for name in ("new.csv", "changes.csv")]
    pd.testing.assert_frame_equal(undo_corrections(read[0], read[1].frame).frame, catalog.frame, check_dtype=False)


def test_changes_of_another_catalog_are_refused(catalog):
    done = apply_corrections(catalog, MANY)
    with pytest.raises(InputError, match="the catalog does not match them"):
        undo_corrections(catalog, done.changes)
    with pytest.raises(InputError, match="place is missing"):
        undo_corrections(done.catalog, done.changes.drop(columns="correction_place"))


@pytest.mark.parametrize("later", [("c", "relabel", "zoea", ""), ("c", "delete", "", ""), ("e", "delete", "", "")])
def test_later_corrections_are_undone_first(catalog, later):
    first = apply_corrections(catalog, MANY)
    second = apply_corrections(first.catalog, correct(later))
    with pytest.raises(InputError, match="undo later corrections first"):
        undo_corrections(second.catalog, first.changes if later[0] == "c" else apply_corrections(catalog, LAST).changes)
    between = undo_corrections(second.catalog, second.changes)
    pd.testing.assert_frame_equal(undo_corrections(between, first.changes).frame, catalog.frame)


@pytest.mark.parametrize("label", ["012", "1.50", "12", "NA"])
@pytest.mark.parametrize("suffix", [".csv", ".PARQUET"])
def test_class_names_that_look_like_something_else_are_undone(catalog, tmp_path, label, suffix):
    done = apply_corrections(catalog, correct(("a", "relabel", label, ""), ("c", "delete", "", "")))
    done.catalog.save(tmp_path / f"new{suffix}")
    ImageCatalog(done.changes).save(tmp_path / "changes.csv")
    corrected, changes = (ImageCatalog.load(tmp_path / name) for name in (f"new{suffix}", "changes.csv"))
    assert corrected.labels[0] == label
    assert undo_corrections(corrected, changes.frame).labels == catalog.labels


def test_columns_of_the_catalog_stay_its_own(catalog):
    frame = catalog.frame.assign(place=list("NSEWN"), action="net", reason=range(5), new_label="x")
    done = apply_corrections(ImageCatalog(frame), MANY)
    pd.testing.assert_frame_equal(undo_corrections(done.catalog, done.changes).frame, frame)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_file_from_a_spreadsheet(tmp_path, catalog, encoding, mark):
    lines = ["object_id,action,label,reason,score", "c, Relabel ,Méduse,,0.9", "b,keep,,fine,0.8", ",,,,"]
    (tmp_path / "c.csv").write_text("\r\n".join(lines).replace(",", mark), encoding=encoding, newline="")
    read = read_corrections(tmp_path / "c.csv")
    assert read.to_numpy().tolist() == [["c", "relabel", "Méduse", ""], ["b", "keep", "", "fine"]]
    assert apply_corrections(catalog, read).catalog.labels[2] == "Méduse"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("object_id,action\na,keep", "label is missing"),
        ("object_id,action,label\na,burn,", "row 2: action: expected keep, relabel, delete; found 'burn'"),
        (
            "object_id,action,label\na,keep,\nb,relabel, ",
            "row 3: expected the new label of b; found an empty cell",
        ),
        ("object_id,action,label\na,keep,\na,delete,", "a is in several rows"),
        ("object_id,action,label\nz,keep,", "such as z"),
        ("object_id,action,label\n" + "\n".join(f"{name},delete," for name in "abcde"), "every image"),
        ("", "cannot be read"),
        ("object_id,action,label\na,relabel,medusa, an ephyra", "cells that contain the delimiter need quotes"),
    ],
)
def test_corrections_that_cannot_be_used(tmp_path, catalog, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        apply_corrections(catalog, read_corrections(tmp_path / "c.csv"))
    with pytest.raises(InputError, match="does not exist"):
        read_corrections(tmp_path / "none.csv")


@pytest.mark.parametrize("suffix", [".csv", "in memory"])
def test_ids_and_labels_that_a_gap_made_floats_of_are_whole(tmp_path, suffix):
    catalog = ImageCatalog.from_rows({"path": ["a", "b"], "object_id": [101, 102], "label": [1, 2]})
    frame = pd.DataFrame({"object_id": [101.0, 102.0], "action": ["relabel", "delete"], "label": [2.0, None]})
    if suffix == ".csv":
        frame.to_csv(tmp_path / "c.csv", index=False)
        frame = read_corrections(tmp_path / "c.csv")
    assert apply_corrections(catalog, frame).catalog.labels == ["2"]


def test_rows_that_a_stray_quote_takes_in_are_reported(tmp_path):
    text = 'object_id,action,label,reason\na,delete,,"blurred\nb,delete,,2" wide\nc,keep,,\n'
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=r"c\.csv cannot be read as CSV: row 2: .* found a quote .* 2 lines"):
        read_corrections(tmp_path / "c.csv")


JOURNAL = [
    {"journal": "plankton_embed", "version": 1, "key": "k", "vectors": ""},
    {"n": 1, "action": "delete", "object_ids": ["a", "b"]},
    {"n": 2, "action": "undo", "of": 1},
    {"n": 3, "action": "relabel", "object_ids": ["b", "d"], "label": "medusa"},
    {"n": 4, "action": "keep", "object_ids": ["c"]},
]


def test_the_journal_of_a_page_is_corrections(catalog, tmp_path):
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in JOURNAL), encoding="utf-8")
    done = apply_corrections(catalog, read_corrections(tmp_path / "journal.jsonl"))
    assert done.catalog.labels == ["copepod", "medusa", "medusa", "medusa", "medusa"]
    assert done.n_kept == 1
    assert undo_corrections(done.catalog, done.changes).labels == catalog.labels


def test_corrections_are_known_by_what_is_in_them(tmp_path):
    for name, text, expected in (
        ("journal", json.dumps(JOURNAL[0]) + "\n", True),
        ("corrections.csv", "object_id;action;label\na;keep;\n", True),
        ("suspects.csv", "\ufeffrank,object_id,label,guess,action\n1,a,b,c,keep\n", True),
        ("vectors.csv", "object_id,action,v0,v1\na,1,2,3\n", False),
        ("catalog.csv", "object_id,path,label\na,a.png,b\n", False),
        ("empty.csv", "", False),
        ("vectors.parquet", "PAR1", False),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert is_corrections(tmp_path / name) == expected, name
    assert not is_corrections(tmp_path)
    assert not is_corrections(tmp_path / "none.csv")


def test_ids_stay_as_the_catalog_has_them(tmp_path):
    decomposed = "Me\u0301duse.png"  # as macOS writes the names of files
    catalog = ImageCatalog.from_rows({"path": [decomposed, "b.png"], "label": ["x", "y"]})
    frame = correct((decomposed, "relabel", "Me\u0301duse", ""))
    assert apply_corrections(catalog, frame).catalog.labels == ["M\u00e9duse", "y"]
