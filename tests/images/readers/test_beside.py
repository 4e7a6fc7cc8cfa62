"""What lies beside what was read is counted and named, with the command that reads it."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from plankton_embed.images.readers.source import read_source

BIN = "D20130526T095207_IFCB013"
FIELDS = dict.fromkeys(("id", "image_w", "image_h", "image_x", "image_y"), "int32") | {"collage_file": "string"}


def plant(root, *files):
    """Make files: small images by their suffix, else empty ones."""
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".tif", ".jpg"):
            Image.fromarray(np.full((9, 9), number, dtype=np.uint8)).save(path)
        else:
            path.write_text("")
    return root


def write_flowcam(folder, run="run"):
    """Write a run of two particles in one collage."""
    folder.mkdir(parents=True, exist_ok=True)
    head = ["017", f"num-fields|{len(FIELDS)}", *(f"{name}|{kind}" for name, kind in FIELDS.items())]
    rows = [f"{number}|5|5|{number}|0|{run}_000001.tif" for number in (1, 2)]
    (folder / f"{run}.lst").write_text("\n".join([*head, *rows]) + "\n")
    plant(folder, f"{run}_000001.tif", f"{run}_000001_bin.tif")


def write_ifcb(folder):
    folder.mkdir(parents=True, exist_ok=True)
    row = ",".join(["1", *["0"] * 14, "4", "4", "0", *["0"] * 6])
    (folder / f"{BIN}.adc").write_text(row + "\n")
    (folder / f"{BIN}.hdr").write_text("runTime: 60\ninhibitTime: 1\n")
    (folder / f"{BIN}.roi").write_bytes(bytes(16))


def write_ecotaxa(folder):
    plant(folder, "1.png")
    (folder / "ecotaxa_x.tsv").write_text("object_id\timg_file_name\n[t]\t[t]\no1\t1.png\n")


WRITERS = {"flowcam": write_flowcam, "ifcb": write_ifcb, "ecotaxa": write_ecotaxa}


def follow(messages):
    """Read what the commands of the warnings name; return how many images each gives."""
    found = [command for text in messages for command in re.findall(r"plankton-embed catalog (.*?) -o ", text)]
    counts = []
    for command in found:
        source, *options = shlex.split(command)
        given = dict(zip(options[::2], options[1::2], strict=True))
        catalog = read_source(source, source_format=given.get("--format"))
        wanted = given.get("--include")
        counts.append(len(catalog.with_classes(include=wanted.split(",") if wanted else ())))
    return counts


@pytest.mark.parametrize("kind", WRITERS)
def test_sorted_images_beside_an_instrument_are_counted_with_the_command_that_reads_them(tmp_path, kind, caplog):
    WRITERS[kind](tmp_path / "run")
    plant(tmp_path, *(f"sorted pictures/{place}.png" for place in ("copepod/0", "copepod/1", "medusa/2", "medusa/3")))
    read_source(tmp_path)
    (message,) = [text for text in caplog.messages if "images that are not" in text]
    assert f"not read: images that are not of the {kind} data (4), such as sorted pictures/copepod/0.png" in message
    assert f"'{tmp_path}/sorted pictures'" in message
    assert follow([message]) == [4]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_instrument_alone_is_read_without_a_word(tmp_path, kind, caplog):
    WRITERS[kind](tmp_path / "run")
    read_source(tmp_path)
    assert not [text for text in caplog.messages if "not read" in text]


def test_class_folders_beside_a_run_are_read_as_such(tmp_path, caplog):
    write_flowcam(tmp_path / "run")
    plant(tmp_path, "copepod/1.png", "medusa, large/2.png", "salp/3.png")
    read_source(tmp_path)
    assert "(3), such as copepod/1.png" in caplog.text
    assert follow(caplog.messages) == [1, 1, 1]  # a comma in a name would divide it
    plant(tmp_path, "copepod/4.png")
    (tmp_path / "medusa, large" / "2.png").unlink()
    caplog.clear()
    read_source(tmp_path)
    assert follow(caplog.messages) == [3]


def test_loose_pictures_beside_a_collage_are_counted(tmp_path, caplog):
    write_flowcam(tmp_path)
    plant(tmp_path, "overview.tif", "extra/deep/a.png")
    read_source(tmp_path)
    assert "images that are not of the flowcam data (2)" in caplog.text
    assert (
        f"plankton-embed catalog {tmp_path}/extra -o extra.csv, move the 1 beside the files of the format"
        in caplog.text
    )


def test_two_instruments_in_one_folder_are_both_named(tmp_path, caplog):
    write_flowcam(tmp_path / "flowcam")
    write_ifcb(tmp_path / "ifcb")
    assert len(read_source(tmp_path)) == 1
    assert f"flowcam (1), such as flowcam/run.lst; read them with plankton-embed catalog {tmp_path} " in (caplog.text)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "labels.csv",
            r"tables \(1\), such as labels.csv; a table with the columns path and .* catalog.*labels.csv -o",
        ),
        ("a/notes.xlsx", r"sheets of a spreadsheet program \(1\), such as a/notes.xlsx; save a sheet .* as CSV"),
        ("x/y.tsv", r"tables \(1\), such as x/y.tsv"),
        ("old.lst", r"tables \(1\)"),
        ("old.adc", r"IFCB files whose names are not those of bins \(1\)"),
        ("a/raw.dng", r"pictures in formats that are not read \(1\), such as a/raw.dng; save them as PNG or TIFF"),
        ("a/b.HEIC", r"pictures in formats"),
        ("a/b.svg", r"pictures in formats"),
        ("a/b.avif", r"pictures in formats"),
        ("a/b.exr", r"pictures in formats"),
        ("a/v.npy", r"arrays \(1\), such as a/v.npy"),
        ("more.zip", r"archives \(1\), such as more.zip; unpack"),
        ("a/00012", r"files without a suffix \(1\), such as a/00012"),
    ],
)
def test_files_beside_class_folders_is_counted_and_named(tmp_path, file, words, caplog):
    plant(tmp_path, "a/1.png", "b/2.png", file)
    assert len(read_source(tmp_path)) == 2
    (message,) = caplog.messages
    assert re.search("not read: " + words, message)


def test_one_warning_a_kind_and_texts_are_no_warning(tmp_path, caplog):
    plant(tmp_path, "a/1.png", "b/2.png", *(f"{n}.csv" for n in range(40)), "README", "notes.txt", "a/paper.pdf")
    with caplog.at_level("INFO"):
        read_source(tmp_path)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1 and "tables (40), such as 0.csv" in warned[0]
    assert "ignored other files: 1 without suffix, 1 .pdf, 1 .txt" in caplog.text


def test_a_challenge_set_has_its_own_files(tmp_path, caplog):
    plant(tmp_path, "imgs/a/1.png", "imgs/a/2.png", "own/b/3.png")
    (tmp_path / "taxa.csv").write_text("objid,taxon\n1,a\n2,\n")
    (tmp_path / "features_native.csv").write_text("objid,area\n1,5\n2,6\n")
    assert len(read_source(tmp_path)) == 1
    message = [text for text in caplog.messages if "not read" in text]
    assert len(message) == 1 and "(1), such as own/b/3.png" in message[0]
