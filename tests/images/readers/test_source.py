"""Which reader a source gets, and the error where none fits."""

import zipfile

import pytest

from plankton_embed.errors import InputError
from plankton_embed.images.readers.source import read_source, recognize_format


def test_a_zip_that_is_no_source_is_reported_with_what_to_do(tmp_path):
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("copepod/a.png", b"")
    with pytest.raises(
        InputError, match=r"set\.zip: expected a ZIP with tables of EcoTaxa.* found none; unpack folders"
    ):
        read_source(file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=r"set\.zip: .* because it is not a ZIP, or incomplete: copy it again"):
        read_source(file)


def test_a_folder_named_as_a_file_is_a_folder(drawn_folder, tmp_path):
    for name in ("x.zip", "x.npy", "x.tsv", "ecotaxa.tsv", "x.adc", "x.lst"):
        (tmp_path / name).symlink_to(drawn_folder)
        assert recognize_format(tmp_path / name) == "folder"


def test_a_named_format_that_cannot_be_is_reported(drawn_folder, tmp_path):
    (tmp_path / "c.csv").write_text("path\na.png\n")
    with pytest.raises(InputError, match="expected a catalog file; found a folder"):
        read_source(drawn_folder, source_format="catalog")
    with pytest.raises(InputError, match=r"c\.csv: expected a folder of images; found a file"):
        read_source(tmp_path / "c.csv", source_format="folder")


@pytest.mark.parametrize("stray", ["notes.csv", "copepod/v.npz", "v.npy", "copepod/files.lst", "x.zip", "meta.csv"])
def test_class_folders_with_a_stray_file_are_class_folders(tmp_path, drawn_folder, stray):
    (tmp_path / "copepod").mkdir()
    for image in (drawn_folder / "copepod").iterdir():
        (tmp_path / "copepod" / image.name).symlink_to(image)
    (tmp_path / stray).write_bytes(b"copepod/0.png\n")
    assert read_source(tmp_path).classes == ["copepod"]
