from __future__ import annotations

import os
import re
import unicodedata

import pytest

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.folder import read_folder
from plankton_embed.images.readers.source import read_source


def plant(root, *files):
    """Make empty files below a folder."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


def test_class_folders(tmp_path):
    catalog = read_folder(plant(tmp_path, "b/2.PNG", "a/1.jpg", "a/deep/er/3.tif"))
    assert catalog.frame["object_id"].tolist() == ["a/1.jpg", "a/deep/er/3.tif", "b/2.PNG"]
    assert catalog.labels == ["a", "a", "b"]
    assert catalog.paths == [str(tmp_path / i) for i in catalog.frame["object_id"]]
    assert not catalog.has_splits


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("val", ["val", "valid", "validate", "validation", "VAL"])
@pytest.mark.parametrize("test", ["test", "testing"])
def test_split_folders_under_all_their_names(tmp_path, train, val, test):
    catalog = read_folder(plant(tmp_path, f"{train}/a/1.png", f"{val}/a/1.png", f"{test}/b/1.png", f"{test}/2.png"))
    found = dict(zip(catalog.frame["object_id"], zip(catalog.frame["split"], catalog.labels, strict=True), strict=True))
    assert found == {
        f"{train}/a/1.png": ("train", "a"),
        f"{val}/a/1.png": ("val", "a"),
        f"{test}/b/1.png": ("test", "b"),
        f"{test}/2.png": ("test", None),
    }


def test_two_names_of_one_split_join(tmp_path):
    catalog = read_folder(plant(tmp_path, "val/a/1.png", "validation/a/1.png", "train/a/1.png"))
    assert catalog.frame["split"].tolist() == ["train", "val", "val"]


def test_a_folder_named_like_a_split_beside_classes_is_a_class(tmp_path):
    catalog = read_folder(plant(tmp_path, "test/1.png", "copepod/2.png"))
    assert catalog.labels == ["copepod", "test"]
    assert "split" not in catalog.frame


def test_an_image_beside_the_split_folders_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"overview\.png is beside the split folders \['test', 'train'\]"):
        read_folder(plant(tmp_path, "train/a/1.png", "test/a/2.png", "overview.png"))


def test_a_flat_folder_has_no_labels(tmp_path):
    catalog = read_folder(plant(tmp_path, "b.png", "a.png"))
    assert catalog.labels == [None, None]
    assert catalog.frame["object_id"].tolist() == ["a.png", "b.png"]


@pytest.mark.parametrize("label", ["NA", "nan", "None", "two words", "egg<other", "Ø-prøve", 'q"', "a,b", "1.0"])
def test_hard_class_names(tmp_path, label):
    assert read_folder(plant(tmp_path, f"{label}/1.png")).labels == [label]


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    one, other = (unicodedata.normalize(form, "Å-ø-é") for form in ("NFC", "NFD"))
    assert one != other
    catalog = read_folder(plant(tmp_path, f"{one}/1.png", f"{other}/2.png"))
    assert catalog.classes == [one]
    assert all(os.path.exists(path) for path in catalog.paths)  # noqa: PTH110


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    plant(tmp_path, "a/1.png", "a/._1.png", ".cache/2.png", "__MACOSX/a/1.png", "a/notes.txt", "a/Thumbs.db", "a/x")
    assert read_folder(tmp_path).frame["object_id"].tolist() == ["a/1.png"]


def test_links_are_followed_once_and_end(tmp_path):
    plant(tmp_path, "root/b/1.png", "outside/2.png")
    links = {"root/c": "outside", "root/a": "root/b", "root/b/again": "root"}
    for name, aim in links.items():
        (tmp_path / name).symlink_to(tmp_path / aim)
    catalog = read_folder(tmp_path / "root")
    assert catalog.frame["object_id"].tolist() == [
        "a/1.png",
        "c/2.png",
    ]  # the first name counts, whatever the order on the disk
    assert catalog.paths[1] == str(tmp_path / "root" / "c" / "2.png")


def test_the_folder_may_be_relative_and_is_kept_absolute(tmp_path, monkeypatch):
    plant(tmp_path, "in/a/1.png")
    monkeypatch.chdir(tmp_path)
    assert read_folder("in").paths == [str(tmp_path / "in" / "a" / "1.png")]


def test_nothing_to_read_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"contains no images \(.*\.png.*; found 1 \.txt"):
        read_folder(plant(tmp_path, "a/readme.txt"))


def test_a_file_name_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / "a").mkdir()
    try:
        with open(os.fsencode(tmp_path) + b"/a/\xe4.png", "wb"):  # noqa: PTH123
            pass
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    with pytest.raises(InputError, match=r"\\udce4\.png' is not UTF-8"):
        read_folder(tmp_path)


def test_a_real_folder_with_splits(data_folder):
    catalog = read_folder(data_folder / "zooscan")
    assert len(catalog) == 400
    assert catalog.classes == ["Cladocera", "Copepoda", "Siphonophorae", "detritus"]
    assert set(catalog.frame["split"]) == {"train", "test"}


def test_a_drawn_folder(drawn_folder):
    catalog = read_folder(drawn_folder)
    assert len(catalog.classes) == 12
    assert catalog.frame["label"].value_counts().unique().tolist() == [12]


# --- one level too high


@pytest.mark.parametrize(
    ("files", "given"),
    [
        (("dataset/copepod/1.png", "dataset/medusa/2.png"), "/dataset"),
        (("dataset/copepod/1.png", "dataset/medusa/deep/2.png", "stray.png"), "/dataset"),
        (("x/y/train/a/1.png", "x/y/test/a/2.png"), "/x/y"),
        (("train/a/b/1.png", "train/a/c/2.png", "test/a/b/3.png"), "/test/b"),  # where they belong
    ],
)
def test_a_folder_one_level_too_high_is_an_error_that_names_what_to_give(tmp_path, files, given, caplog):
    plant(tmp_path, *files)
    with pytest.raises(InputError, match=rf"{tmp_path}{given}\. If all of them are one class.*--format folder"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, is_stated=True).labels[0] in ("dataset", "x", "a")
    assert "one class" not in caplog.text
    if given in ("/dataset", "/x/y"):
        assert len(read_folder(str(tmp_path) + given).classes) == (2 if given == "/dataset" else 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ("c1/a/1.png", "c1/b/1.png", "c2/a/1.png", "c2/b/1.png"),
            r"2 of 2 .* c1 \(a, b\).*give .*/c1, and",
        ),
        (("c1/a/1.png", "c2/b/1.png"), "2 of 2 class folders"),
        (("dataset/a/1.png", "dataset/b/1.png", "extra/1.png"), r"1 of 2 class folders .* dataset \(a, b\).*/dataset$"),
        (("p/q/r/1.png",), r"1 of 1 class folders .* p \(q\).*give .*/p/q$"),
        (("a/1.png", "a/dead/1.png", "b/1.png", "b/dead/1.png"), r"2 class folders contain images and .* a \(dead\)"),
        (("d/1.png", "d/a/1.png", "d/b/1.png"), r"1 class folders contain images and folders .* d \(a, b\)"),
    ],
)
def test_what_may_be_a_level_too_high_is_reported(tmp_path, files, words, caplog):
    read_folder(plant(tmp_path, *files))
    assert re.search(words, caplog.messages[0])
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "files",
    [
        ("a/images/1.png", "b/images/2.png"),  # of which the lower ones are no classes
        ("a/1.png", "a/deep/er/3.png", "b/2.png"),
        ("a/1.png", "a/2.png"),
        ("1.png", "2.png"),
        ("train/a/1.png", "test/b/1.png"),
    ],
)
def test_class_folders_that_leave_no_doubt_are_read_without_a_word(tmp_path, files, caplog):
    assert len(read_folder(plant(tmp_path, *files))) == len(files)
    assert not caplog.messages


def test_other_folders_beside_split_folders_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"found extra beside the split folders test, train; move it"):
        read_folder(plant(tmp_path, "train/a/1.png", "test/a/2.png", "extra/3.png"))


def test_images_without_a_class_beside_class_folders_are_counted(tmp_path, caplog):
    assert read_folder(plant(tmp_path, "a/1.png", "x.png", "y.png")).labels == ["a", None, None]
    assert "2 images beside the class folders have no class, such as x.png" in caplog.text


@pytest.mark.parametrize(
    "foreign",
    ["@eaDir", "Thumbs", ".thumbnails", "__MACOSX", ".ipynb_checkpoints", "$RECYCLE.BIN", "System Volume Information",
     "lost+found", "My Catalog Previews.lrdata", "#recycle", "CaptureOne"],
)  # fmt: skip
def test_folders_of_other_programs_are_no_classes(tmp_path, foreign, caplog):
    plant(tmp_path, "a/1.png", f"a/{foreign}/1.png", f"{foreign}/b/2.png", "a/Thumbs.db", "desktop.ini", ".DS_Store")
    assert read_source(tmp_path).classes == ["a"]
    assert len(read_source(tmp_path)) == 1
    assert not caplog.messages


def test_names_with_line_ends_and_suffixes_in_capitals_are_read(tmp_path):
    catalog = read_folder(plant(tmp_path, "a/new\nline.PNG", "a/b.TiFF"))
    catalog.save(tmp_path / "c.csv")
    assert ImageCatalog.load(tmp_path / "c.csv").frame["object_id"].tolist() == ["a/b.TiFF", "a/new\nline.PNG"]


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path, monkeypatch, caplog):
    plant(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"/b: expected a folder that can be read; found Permission denied"):
        read_source(tmp_path)
    faults = Faults()
    assert read_source(tmp_path, keep_going=True, faults=faults).classes == ["a"]
    assert faults.to_frame()[["file", "outcome"]].to_numpy().tolist() == [[str(tmp_path / "b"), "lost"]]
    assert "left out: " in caplog.text
