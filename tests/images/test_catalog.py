"""Catalogs in memory and in files: paths, labels, classes, rows, content, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog, content_hashes, read_class_map, warn_of_similar_classes
from plankton_embed.images.catalog_summary import summarize
from plankton_embed.images.preparation import hash_pixels, prepare_image
from plankton_embed.images.readers.faults import Faults
from plankton_embed.settings import PreparationSettings

FORMATS = (".csv", ".parquet")


def build(labels, **columns):
    """Build a catalog of images that need not be there."""
    return ImageCatalog.from_rows({"path": [f"{i}.png" for i in range(len(labels))], "label": labels, **columns})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"], ids=["plain", "BOM"])
def test_a_csv_of_any_delimiter(tmp_path, write, delimiter, encoding):
    rows = ["path|label|split|sample_id", "a.png|Æ æ|train|7", "sub/b.png||val|", "../c.png|x|test|007"]
    catalog = ImageCatalog.load(write("\n".join(rows).replace("|", delimiter), encoding=encoding))
    assert catalog.paths == [
        str(p) for p in (tmp_path / "a.png", tmp_path / "sub" / "b.png", tmp_path.parent / "c.png")
    ]
    assert catalog.labels == ["Æ æ", None, "x"]
    assert catalog.frame["split"].tolist() == ["train", "val", "test"]
    assert catalog.frame["sample_id"].fillna("-").tolist() == ["7", "-", "007"]
    assert catalog.frame["object_id"].tolist() == ["a.png", "sub/b.png", "../c.png"]


def test_blanks_around_names_and_values_do_not_count(write):
    catalog = ImageCatalog.load(write("path, label ,split\n a.png , copepod ,Training \nb.png,  ,VALID\n"))
    assert catalog.labels == ["copepod", None]
    assert catalog.frame["split"].tolist() == ["train", "val"]


def test_paths_start_at_the_root_when_one_is_given(tmp_path, write):
    root = tmp_path / "pictures"
    root.mkdir()
    catalog = ImageCatalog.load(write(f"path\na.png\n{tmp_path}/b.png\n"), root=root)
    assert catalog.paths == [str(root / "a.png"), str(tmp_path / "b.png")]


def test_paths_start_here_when_built_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    catalog = ImageCatalog.from_rows({"path": ["x/a.png"]})
    assert catalog.paths == [str(tmp_path / "x" / "a.png")]
    assert catalog.frame["object_id"].tolist() == ["x/a.png"]
    (tmp_path / "deep").mkdir()
    assert ImageCatalog.load(catalog.save(tmp_path / "deep" / "c.csv")).paths == catalog.paths


@pytest.mark.parametrize("suffix", FORMATS)
def test_paths_below_the_file_move_with_it(tmp_path, suffix):
    (tmp_path / "one").mkdir()
    paths = [tmp_path / "one" / "a" / "x.png", tmp_path / "elsewhere.png"]
    ImageCatalog.from_rows({"path": paths}).save(tmp_path / "one" / f"c{suffix}")
    (tmp_path / "one").rename(tmp_path / "two")
    moved = ImageCatalog.load(tmp_path / "two" / f"c{suffix}")
    assert moved.paths == [str(tmp_path / "two" / "a" / "x.png"), str(tmp_path / "elsewhere.png")]


def test_a_parquet_of_others_with_categories_numbers_and_gaps(tmp_path):
    frame = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": pd.Categorical(["x", None, "NA"])})
    frame["sample_id"] = pd.array([5, pd.NA, 7], dtype="Int64")
    frame["depth"] = [1.5, np.nan, 3.0]
    frame.to_parquet(tmp_path / "c.parquet")
    catalog = ImageCatalog.load(tmp_path / "c.parquet")
    assert catalog.labels == ["x", None, "NA"]
    assert catalog.frame["sample_id"].fillna("-").tolist() == ["5", "-", "7"]
    assert catalog.frame["depth"].isna().tolist() == [False, True, False]


def test_other_columns_are_kept_and_read_as_numbers_with_gaps(write):
    catalog = ImageCatalog.load(write("depth,path,taxon\n1.5,a.png,x\nNA,b.png,\n,c.png,None\n"))
    assert set(catalog.frame) == {"object_id", "path", "label", "depth", "taxon"}
    assert catalog.frame["depth"].isna().tolist() == [False, True, True]
    assert catalog.frame["taxon"].isna().tolist() == [False, True, True]


def test_similar_class_names_are_reported_once_with_the_class_map_that_joins_them(caplog):
    labels = ["Copepod", "copepod", "Copepod", "cope\u00a0pod", "a, b", "A,_b", "other", None]
    warn_of_similar_classes(labels)
    (record,) = caplog.records
    assert "'Copepod' (2 images) and 'copepod' (1 images) and 'cope\\xa0pod' (1 images)" in record.message
    assert record.message.endswith('\nold,new\ncopepod,Copepod\ncope\u00a0pod,Copepod\n"A,_b","a, b"')
    warn_of_similar_classes(["copepod", "copepods", None])
    assert len(caplog.records) == 1


# --- pixel size


def test_a_catalog_without_pixel_sizes_has_none(write):
    assert ImageCatalog.load(write("path,label\na.png,x\n")).pixel_size is None
    assert build(["a"]).pixel_size is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.5", "2"], [1.5, 2]),
        (["1.5", ""], [1.5, np.nan]),
        ([" 2 ", "NA"], [2, np.nan]),
        (["", ""], [np.nan, np.nan]),
        (["1e-1", "0"], [0.1, 0]),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_pixel_sizes_are_read_and_empty_ones_are_nan(tmp_path, write, values, expected, suffix):
    rows = "\n".join(f"{number}.png,{value}" for number, value in enumerate(values))
    first = ImageCatalog.load(write(f"path,pixel_size\n{rows}\n"))
    for catalog in (first, ImageCatalog.load(first.save(tmp_path / f"again{suffix}"))):
        assert catalog.pixel_size.dtype == np.float32
        np.testing.assert_array_equal(catalog.pixel_size, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(
    "values",
    [[2, None], [2.0, np.nan], ["2", None], [2, pd.NA], pd.array([2, pd.NA], dtype="Int64"), pd.Categorical([2, None])],
    ids=["none", "nan", "text", "NA", "Int64", "category"],
)
def test_pixel_sizes_come_in_every_type(values):
    found = build(["a", "b"], pixel_size=values).pixel_size
    np.testing.assert_array_equal(found, np.array([2, np.nan], dtype=np.float32))


def test_pixel_sizes_follow_their_rows():
    catalog = build(["a", "b", "c"], pixel_size=[1, 2, 3], split=["train", "test", "train"])
    assert catalog.split("train").pixel_size.tolist() == [1, 3]
    assert catalog.select([2, 0]).pixel_size.tolist() == [3, 1]
    assert catalog.with_classes(exclude=["a"]).pixel_size.tolist() == [2, 3]


@pytest.mark.parametrize("value", ["abc", "0.5 µm", "0,5"])
def test_a_pixel_size_that_is_no_number_is_refused_and_shown(write, value):
    text = f"path;pixel_size\na.png;1.5\nb.png;{value}\n"
    with pytest.raises(
        InputError, match=f"row 3, column pixel_size: expected a number .* µm per pixel; found '{value}'"
    ):
        ImageCatalog.load(write(text))


# --- what is refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a line with the names of the columns; found an empty file"),
        ("path,label\n", "expected images; found none"),
        ("file,label\na.png,x\n", r"expected a column named path; found \['file', 'label'\]"),
        ("path,label\na.png,x\n,y\n", "row 3, column path: expected the path of an image; found an empty cell"),
        (
            "object_id,path\no1,a.png\no2,b.png\no1,c.png\n",
            "row 4, column object_id: .*; found 'o1' again",
        ),
        ("path\na.png\na.png\n", "row 3, column object_id.*found 'a.png' again; if several objects share an image"),
        ("path,split\na.png,train\nb.png,holdout\n", "row 3, column split: expected train, val, test; found 'holdout'"),
        ("path,label\na.png,x,\nb.png,y,\n", "expected 2 cells a row.*found 3 in row 2"),  # pandas would shift them
        ("path,label\na.png,x\nb.png,y,z\n", "expected 2 cells a row.*found 3 in row 3"),
        ("path,label,label \na.png,x,y\n", "two columns are named label"),
        ("path,label,label\na.png,x,y\n", "two columns are named label"),
        ("path,feature_a\n\na.png,1\nb.png,x\n", "row 4, column feature_a: expected a number .* found 'x'"),
        ("path,split,label\na.png,train,x\n,,\n,,\n,,y\n", "has a fault.*row 5, column path"),  # empty rows are none
        ("sep=;\npath;split\na.png;train\nb.png;no\n", "row 4, column split: .* found 'no'"),
        ("path,volume\na.png,'1'000\n", "row 2, column volume: .* m³ of water .* found \"'1'000\""),
    ],
)
def test_a_faulty_catalog_is_refused_by_name_with_what_is_wrong(write, text, reason):
    with pytest.raises(InputError, match=rf"(?s)c\.csv.*{reason}"):
        ImageCatalog.load(write(text))


def test_missing_files_roots_and_other_formats_are_refused(tmp_path, write):
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        ImageCatalog.load(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"root folder .*nowhere does not exist"):
        ImageCatalog.load(write("path\na.png\n"), root=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"bad\.parquet cannot be read"):
        ImageCatalog.load(write("path\na.png\n", "bad.parquet"))
    with pytest.raises(InputError, match=r"bare\.csv: expected text .* zero byte at 1; save it as UTF-8"):
        ImageCatalog.load(write("path,label\na.png,Ø\n", "bare.csv", "utf-16-le"))


# --- classes


CLASSES = build(["a", "b", "b", None, "c", "NA"])


@pytest.mark.parametrize(
    ("choice", "labels"),
    [
        ({}, ["a", "b", "b", None, "c", "NA"]),
        ({"include": ["b", "NA"]}, ["b", "b", "NA"]),
        ({"exclude": ["b"]}, ["a", None, "c", "NA"]),
        ({"include": ["a", "b"], "exclude": ["b"]}, ["a"]),
        ({"class_map": {"a": "ab", "b": "ab"}}, ["ab", "ab", "ab", None, "c", "NA"]),
        ({"class_map": {"a": "b", "b": "a"}}, ["b", "a", "a", None, "c", "NA"]),
        ({"class_map": {"b": "", "c": "d"}}, ["a", None, "d", "NA"]),
        ({"class_map": {"NA": "b"}, "include": ["NA"]}, ["b"]),
        ({"include": [" a "]}, ["a"]),
    ],
)
def test_classes_are_kept_dropped_merged_and_swapped(choice, labels):
    chosen = CLASSES.with_classes(**choice)
    assert chosen.labels == labels
    assert chosen.classes == sorted({label for label in labels if label})


@pytest.mark.parametrize("choice", [{"include": ["x"]}, {"exclude": ["a", "x"]}, {"class_map": {"x": "a"}}])
def test_a_class_that_no_image_has_is_refused_and_the_classes_named(choice):
    with pytest.raises(SettingError, match=r"the class \['x'\]; the classes are \['NA', 'a', 'b', 'c'\]"):
        CLASSES.with_classes(**choice)


def test_a_catalog_without_labels_stays_without():
    assert build([None, None]).with_classes().labels == [None, None]


def test_a_class_map_is_read_as_text(write):
    path = write("old;new\nNA;none\n 1 ;one\na,b;\n", encoding="utf-8-sig")
    assert read_class_map(path) == {"NA": "none", "1": "one", "a,b": ""}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("old\na\n", "two columns"), ("", "cannot be read"), ("o,n\na,b\na,c\n", "a has two new names")],
)
def test_a_faulty_class_map_is_refused_by_name(write, text, reason):
    with pytest.raises(InputError, match=rf"(?s)c\.csv.*{reason}"):
        read_class_map(write(text))


def test_a_class_map_without_a_header_is_refused_as_its_first_line_would_be_lost(write):
    path = write("copepod,a\nmedusa,b\n")
    with pytest.raises(InputError, match="row 1: expected a header, such as old,new; found the class 'copepod'"):
        read_class_map(path, ["copepod", "medusa"])
    assert read_class_map(path, ["medusa"]) == {"medusa": "b"}
    assert read_class_map(write("old,new\nold,b\n"), ["old"]) == {"old": "b"}


# --- rows


def test_rows_are_chosen_by_mask_number_and_split():
    catalog = build(["a", "b", "c"], split=["train", "test", "train"])
    assert catalog.select([True, False, True]).labels == ["a", "c"]
    assert catalog.select([2, 0]).labels == ["c", "a"]
    assert catalog.select([]).labels == []
    assert catalog.split("train").labels == ["a", "c"]
    assert catalog.split("val").labels == []
    assert catalog.select([2]).frame.index.tolist() == [0]


def test_a_split_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no column split"):
        build(["a"]).split("train")
    with pytest.raises(SettingError, match="found 'validation'"):
        build(["a"], split=["val"]).split("validation")


@pytest.mark.parametrize(("splits", "expected"), [(["train", "val"], True), (["train", None], False)])
def test_splits_are_there_when_every_row_has_one(splits, expected):
    assert build(["a", "b"], split=splits).has_splits is expected
    assert not build(["a", "b"]).has_splits


def test_empty_labels_are_none():
    assert build(["a", "", "  "]).labels == ["a", None, None]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_every_kind_of_missing_label_is_none(missing):
    assert build(["a", missing]).labels == ["a", None]
    frame = pd.DataFrame({"path": ["x", "y"], "label": pd.Series(["a", missing], dtype=object)})
    assert ImageCatalog(frame).labels == ["a", None]


# --- content


def grey_picture(seed=0, size=(9, 7)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))


def test_content_hashes_are_of_the_pixels_and_not_of_the_name(tmp_path):
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        grey_picture(seed).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    a, b, c, cut, missing, folder = content_hashes(
        [str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "cut.png", "d.png", ".")]
    )
    assert a == b != c
    assert len(a) == 32
    assert cut is missing is folder is None


def test_one_picture_has_one_hash_in_every_format_and_mode(tmp_path):
    grey = grey_picture()
    described = PngInfo()
    described.add_text("comment", "another file")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter when shown
    transparent = Image.merge("LA", (grey, grey.point(lambda _: 255)))
    files = {
        "grey.bmp": (grey, {}),
        "small.png": (grey, {"compress_level": 9, "pnginfo": described}),
        "colour.png": (grey.convert("RGB"), {}),
        "palette.gif": (grey, {}),
        "alpha.png": (transparent, {}),
        "packed.tif": (grey, {"compression": "tiff_lzw"}),
        "turned.png": (grey.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
    }
    for name, (image, options) in files.items():
        image.save(tmp_path / name, **options)
    hashes = content_hashes([str(tmp_path / name) for name in files], progress=False)
    assert hashes == [hashes[0]] * len(files)


def test_a_picture_of_16_bits_has_one_hash_in_every_format(tmp_path):
    values = np.arange(0, 63000, 1000).reshape(9, 7)
    names = ("a.png", "b.tif", "c.pgm", "d.tif")
    for name, kind in zip(names, (np.uint16, np.uint16, np.uint16, np.int32), strict=True):
        Image.fromarray(values.astype(kind)).save(tmp_path / name)
    hashes = content_hashes([str(tmp_path / name) for name in names], progress=False)
    assert hashes == [hashes[0]] * 4
    settings = PreparationSettings(target_size=32)
    first, *others = (prepare_image(str(tmp_path / name), settings)[0] for name in names)
    assert all(np.array_equal(first, other) for other in others)


def test_images_that_prepare_differently_have_their_own_hashes(tmp_path):
    grey = grey_picture()
    values = np.asarray(grey)
    faint = Image.merge("LA", (grey, grey.point(lambda _: 128)))
    tinted = Image.merge("RGB", (grey, grey, grey.point(lambda v: 255 - v)))
    files = {
        "grey.png": grey,
        "mirror.png": grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "wide.png": Image.fromarray(values.reshape(7, 9)),  # the same bytes in another shape
        "faint.png": faint,
        "tinted.png": tinted,
        "deep.png": Image.fromarray(values.astype(np.uint16)),
        "float.tif": Image.fromarray(values.astype(np.float32)),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    assert len(set(content_hashes([str(tmp_path / name) for name in files], progress=False))) == len(files)


@pytest.mark.parametrize("color", ["grey", "color"])
def test_images_with_one_hash_prepare_to_the_same_pixels(tmp_path, color):
    rng = np.random.default_rng(3)
    few = Image.fromarray(rng.integers(0, 256, (4, 3), dtype=np.uint8).repeat(3, 0)[:, [0, 1, 2] * 3])
    colours = Image.fromarray(np.array([[[200, 10, 30], [3, 90, 250]] * 4] * 5, dtype=np.uint8))
    settings, prepared = PreparationSettings(target_size=32, color=color), {}
    for number, image in enumerate((few, colours)):
        for mode in ("RGB", "RGBA", "P", "PA", "LA", "L", "1", "I;16", "F", "CMYK", "HSV", "YCbCr"):
            if mode in ("LA", "I;16", "F") and image.mode != "L":
                continue
            made = image.convert(mode)
            found = prepared.setdefault(hash_pixels(made), prepare_image(made, settings)[0])
            assert np.array_equal(found, prepare_image(made, settings)[0]), (number, mode)
    assert 2 < len(prepared) < 20


def test_no_image_at_all_is_an_error_that_names_one(tmp_path):
    with pytest.raises(InputError, match=r"none of the 2 images.*x\.png: the file does not exist; check --root"):
        content_hashes([str(tmp_path / "x.png"), str(tmp_path / "y.png")])


def test_content_hashes_keep_the_order_of_many_files(tmp_path):
    paths = [str(tmp_path / f"{i}.bmp") for i in range(140)]  # more than two chunks
    for number, path in enumerate(paths):
        Image.new("L", (3, 3), number).save(path)
    hashes = content_hashes(paths)
    assert hashes == [content_hashes([path])[0] for path in paths]
    assert len(set(hashes)) == 140


MESSY_PATH = st.lists(st.sampled_from(["a", "b c.png", "..", ".", "", "...", ".x", "é", "x.roi/3x2+7", "\\", "l\nf"]))


@settings(max_examples=80)
@given(
    paths=st.lists(MESSY_PATH.map("/".join).filter(str.strip), min_size=1, unique_by=str.strip),
    root=st.sampled_from([".", "/", "//", "/a/../b", "x/é/"]),
)
def test_paths_are_made_whole_as_one_by_one(paths, root):
    start = os.path.abspath(root)  # noqa: PTH100
    expected = [os.path.normpath(os.path.join(start, path.strip())) for path in paths]  # noqa: PTH118
    assert ImageCatalog.from_rows({"path": paths}, root=root).paths == expected


# --- large and real


MILLION = """
import sys
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.workflows.compare_trial import measure_peak_memory
n = 1_000_000
rows = {"path": [f"sub/{i}.png" for i in range(n)], "label": [f"c {i % 100}" for i in range(n)], "split": ["train"] * n}
catalog = ImageCatalog.from_rows(rows)
assert len(ImageCatalog.load(catalog.save(sys.argv[1]))) == n
print(measure_peak_memory() / 1e3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_million_rows_are_written_and_read_in_2_gb(tmp_path, suffix):
    command = [sys.executable, "-c", MILLION, str(tmp_path / f"c{suffix}")]
    assert float(subprocess.run(command, capture_output=True, check=True).stdout) < 2


def test_the_real_benchmark_catalog(data_folder, ndsb_folder):
    catalog = ImageCatalog.load(data_folder / "ndsb40.csv", root=ndsb_folder)
    assert len(catalog.classes) == 40
    counts = catalog.frame.groupby(["label", "split"]).size().unstack()
    assert (counts == [36, 120, 18]).all(axis=None)  # test, train, val
    summary = summarize(catalog.split("val"), progress=False)
    assert summary.n_unreadable == 0
    assert summary.sizes["width"].min() > 10


def test_good_rows_of_a_faulty_catalog_are_kept_on_request(write):
    text = "object_id,path,split\no1,a.png,train\n,,test\no3,c.png,holdout\no1,d.png,val\no3,e.png,val\n,f.png,\n"
    path = write(text)
    faults = Faults(keep_going=True)
    frame = ImageCatalog.load(path, faults=faults).frame
    assert frame["object_id"].tolist() == ["o1", "o3", "f.png"]  # the second o3, for the first has no good split
    assert frame["split"].fillna("").tolist() == ["train", "val", ""]
    listed = faults.to_frame()
    assert listed[["row", "column"]].to_numpy().tolist() == [[3, "path"], [4, "split"], [5, "object_id"]]
    assert listed["outcome"].eq("lost").all()
    with pytest.raises(InputError, match="has 3 faults"):
        ImageCatalog.load(path)


@pytest.mark.parametrize(("volume", "is_kept"), [(1e-8, True), (1e6, True), (1e-9, False), (5e8, False), (0, False),
                                                 (-2, False), (np.inf, False)])  # fmt: skip
def test_volumes_that_cannot_be_are_left_out(volume, is_kept, caplog):
    faults = Faults()
    rows = {"path": ["a.png", "b.png"], "volume": [volume, 2]}
    frame = ImageCatalog.from_rows(rows, faults=faults).frame
    assert frame["volume"].tolist() == pytest.approx([volume if is_kept else np.nan, 2], nan_ok=True)
    assert (faults.n_lost, faults.n_kept) == (0, 0 if is_kept else 1)
    assert ("in 1 row, such as that of path a.png; left out" in caplog.text) is not is_kept
