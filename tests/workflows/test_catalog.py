"""`catalog`: what it writes, and the copies, faults and names that it reports."""

import json
import re
import shutil
import sys

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.workflows import catalog as catalog_module


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_one_picture_in_two_formats_stays_in_one_split(tmp_path):
    for label in ("copepod", "medusa"):
        for number in range(6):
            picture = Image.effect_noise((20 + number, 25), 40 + number)
            (tmp_path / label).mkdir(exist_ok=True)
            picture.save(tmp_path / label / f"{number}.png")
            picture.save(tmp_path / label / f"{number}_again.bmp")
    for seed in range(5):
        frame = pe.catalog(tmp_path, split=(0.5, 0.25, 0.25), seed=seed, progress=False).frame
        pair = frame["object_id"].str.replace(r"(_again)?\.\w+$", "", regex=True)
        assert (frame.groupby(pair)["split"].nunique() == 1).all()
        assert (frame.groupby(pair).size() == 2).all()


def test_catalog_tells_of_copies_in_two_splits_and_of_images_that_cannot_be_read(tmp_path, caplog):
    for name in ("train/a/1.png", "train/b/2.png", "test/a/3.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((20, 20), 40).save(tmp_path / "images" / name)
    Image.open(tmp_path / "images/train/a/1.png").save(tmp_path / "images/test/a/again.bmp")
    (tmp_path / "images/test/a/cut.png").write_bytes((tmp_path / "images/test/a/3.png").read_bytes()[:99])
    made = pe.catalog(tmp_path / "images", tmp_path / "c.csv", progress=False)
    assert len(made) == 5
    assert "1 images have copies (equal pixels) in another split" in caplog.text
    row, copy = pd.read_csv(tmp_path / "c_faults.csv").to_dict("records")
    assert row["file"].endswith("cut.png") and row["outcome"] == "kept"
    assert row["found"].startswith("the image cannot be decoded")
    assert copy["file"].endswith("1.png") and copy["outcome"] == "kept"
    assert re.fullmatch(r"train here, test in .*again\.bmp, whose pixels are equal", copy["found"])
    caplog.clear()
    made = pe.catalog(tmp_path / "images", tmp_path / "c.csv", drop_duplicates=True, overwrite=True, progress=False)
    assert len(made) == 4
    assert "1 images have copies" in caplog.text and "they are left out" in caplog.text
    assert pd.read_csv(tmp_path / "c_faults.csv")["outcome"].tolist() == ["kept", "lost"]


def test_a_table_of_another_kind_is_not_replaced_by_faults(images, tmp_path):
    (tmp_path / "c_faults.csv").write_text("engine,fault\n2,oil\n")
    with pytest.raises(OutputError, match=r"c_faults\.csv exists already and is not a table of faults"):
        pe.catalog(images, tmp_path / "c.csv", overwrite=True, progress=False)
    assert (tmp_path / "c_faults.csv").read_text().startswith("engine")
    (tmp_path / "c_faults.csv").write_text("file;row;column;expected;found;outcome\n", encoding="utf-8-sig")
    pe.catalog(images, tmp_path / "c.csv", progress=False)
    assert not (tmp_path / "c_faults.csv").exists()


@pytest.mark.parametrize("name", ["unknown", "Unknown", "UNKNOWN "])
def test_a_class_called_unknown_is_refused_at_once_with_the_class_map(images, tmp_path, name):
    folder = shutil.copytree(images, tmp_path / "images")
    (folder / "detritus").rename(folder / name)
    message = rf"found the class '{name.strip()}'.*{name.strip()},unidentified.*--class-map"
    for verb in (pe.catalog, pe.train, pe.run, pe.seen_unseen):
        with pytest.raises(InputError, match=message):
            verb(folder, tmp_path / ("c.csv" if verb is pe.catalog else "run"), progress=False)
    assert "unidentified" in pe.catalog(folder, class_map={name: "unidentified"}, progress=False).classes
    assert len(pe.catalog(folder, exclude=[name], progress=False)) == 36
    with pytest.raises(InputError, match="other than unknown"):
        pe.catalog(images, class_map={"detritus": name}, progress=False)
    near = {"detritus": "unknown_unclassified"}
    assert "unknown_unclassified" in pe.catalog(images, class_map=near, progress=False).classes


def test_catalog_merges_splits_and_draws(images, tmp_path):
    made = pe.catalog(images, tmp_path / "c.csv", class_map={"detritus": "other", "фиш, egg": "other"},
                      split=(0.5, 0.25, 0.25), preview=True, progress=False)  # fmt: skip
    assert made.classes == ["Calanus finmarchicus", "Méduse<Cnidaria", "other"]
    loaded = pe.ImageCatalog.load(tmp_path / "c.csv")
    assert loaded.frame["path"].tolist() == made.frame["path"].tolist()
    pictures = {path.name for path in (tmp_path / "c_preview").iterdir()}
    assert pictures >= {"preview.png", "examples.png", "class_sizes.png", "image_sizes.png"}


def test_classes_whose_names_differ_in_capitals_are_reported_by_catalog_and_run(
    images, tmp_path, no_pictures, caplog, tiny
):
    frame = pe.catalog(images, progress=False).frame
    mixed = pe.ImageCatalog.from_rows(frame.assign(label=frame["label"].where(frame.index != 0, "DETRITUS")))
    pe.catalog(mixed, progress=False)
    assert caplog.text.count("differ only in capitals") == 1
    pe.run(mixed, tmp_path / "run", settings=tiny, progress=False)
    assert caplog.text.count("differ only in capitals") == 2
    assert "DETRITUS,detritus" in caplog.text


def test_catalog_says_the_bit_depth_and_shows_it(deep_images, tmp_path, caplog):
    with caplog.at_level("INFO"):
        pe.catalog(deep_images, tmp_path / "deep.csv", preview=True, progress=False)
    assert "48 of 48 images have more than 8 bits" in caplog.text
    summary = json.loads((tmp_path / "deep_preview" / "catalog_summary.json").read_text())
    assert summary["grey_levels"]["white_level"] == 4095


def test_names_that_are_not_validated_are_labels_if_the_status_is_given(tmp_path):
    lines = ["img_file_name\tobject_id\tobject_annotation_category\tobject_annotation_status"]
    for number in range(8):
        Image.new("L", (9, 9), 20 * number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png\to{number}\t{('egg', 'mysid')[number % 2]}\tpredicted")
    (tmp_path / "ecotaxa_a.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(
        InputError, match=r"8 images have names that nobody has validated; --status validated,predicted"
    ):
        pe.train(tmp_path, tmp_path.with_name("run"), progress=False)
    assert pe.catalog(tmp_path, progress=False).classes == []
    assert pe.catalog(tmp_path, status="predicted", progress=False).classes == ["egg", "mysid"]
    with pytest.raises(SettingError, match="dilution: it applies to volumes of a PlanktoScope"):
        pe.catalog(tmp_path, dilution="multiply", progress=False)


def test_catalog_counts_the_images_that_cannot_be_read_as_its_table_of_faults_does(images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "images")
    whole = next((folder / "detritus").iterdir()).read_bytes()
    (folder / "detritus" / "cut.png").write_bytes(whole[: len(whole) // 2])  # its header is whole
    (folder / "detritus" / "empty.png").write_bytes(b"")
    done = call("catalog", folder, "-o", tmp_path / "c.csv", "--preview")
    assert "50 images, 4 classes, 2 unreadable" in done.output
    assert "faults: 0 lost (rows, images, files), 2 kept" in done.output
    assert len(pd.read_csv(tmp_path / "c_faults.csv")) == 2
    assert json.loads((tmp_path / "c_preview" / "catalog_summary.json").read_text())["n_unreadable"] == 2


def test_catalog_looks_at_the_images_once(images, tmp_path, monkeypatch):
    calls = []

    def count(name, function):
        return lambda *args, **options: calls.append(name) or function(*args, **options)

    for name in ("find_grey_levels", "summarize"):
        function = getattr(catalog_module, name)
        for module in (catalog_module, sys.modules[function.__module__]):
            monkeypatch.setattr(module, name, count(name, function))
    done = call("catalog", images, "-o", tmp_path / "c.csv", "--preview", "--json", "-q")
    assert calls == ["find_grey_levels", "summarize"]
    printed = json.loads(done.stdout)
    drawn = json.loads((tmp_path / "c_preview" / "catalog_summary.json").read_text())
    assert {name: printed[name] for name in drawn} == drawn and drawn["n_images"] == 48
