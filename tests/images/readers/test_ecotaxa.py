"""Tables of EcoTaxa: every way to write one gives the same catalog, and every fault is named with its place."""

import csv
import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers import ecotaxa
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import read_source, recognize_format

HEADER = {  # name -> type
    **{"img_file_name": "[t]", "img_rank": "[f]", "object_id": "[t]", "object_lat": "[f]", "object_lon": "[f]"},
    **{"object_date": "[t]", "object_time": "[t]", "object_depth_min": "[f]", "object_area": "[f]"},
    **{"object_comment": "[t]", "object_annotation_category": "[t]", "object_annotation_status": "[t]"},
    **{"object_annotation_hierarchy": "[t]", "sample_id": "[t]", "sample_tot_vol": "[f]", "acq_sub_part": "[f]"},
    **{"process_particle_pixel_size_mm": "[f]"},
}
PLACE = ["45.5", "-7.25", "20200131", "123456", "10"]
SAMPLE = ["s1", "12.5", "4", "0.0106"]
ROWS = [
    ["a.png", "0", "o1", *PLACE, "1.5", "é µm", "Œuf<Copépode", "validated", "Biota>Copépode", *SAMPLE],
    ["b.png", "1", "o1", *PLACE, "-0.25", "", "egg (Copepoda)", "Dubious", "", *SAMPLE],
    ["b.png", "0", "o2", "45.5", "", "", "", "", "1e3", "x, y", "", "", "", "s2", "", "", ""],
]


def write(folder, rows=ROWS, header=HEADER, name="ecotaxa_a.tsv", images=("a.png", "b.png"), **variation):
    """Write a table and its images; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 5), 99).save(folder / image)
    (folder / name).write_bytes(as_bytes(rows, header, **variation))
    return folder


def as_bytes(
    rows=ROWS, header=HEADER, *, encoding="utf-8", line_end="\n", delimiter="\t", types=True, quoting=0, comma=False
):
    lines = [list(header), *([list(header.values())] if types else []), *rows]
    if comma:
        numeric = [kind == "[f]" for kind in header.values()]
        lines = [[c.replace(".", ",") if n else c for c, n in zip(line, numeric, strict=True)] for line in lines]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows(lines)
    return text.getvalue().replace("\n", line_end).encode(encoding)


def change(row, column, value):
    """Return ROWS with another value; `row` counts from 0."""
    rows = [list(values) for values in ROWS]
    rows[row][list(HEADER).index(column)] = value
    return rows


def faults_of(source):
    """Return the reported faults of a source, one per line, without its folder."""
    with pytest.raises(InputError) as error:
        read_source(source)
    assert recognize_format(source) == "ecotaxa"
    return [line.strip().replace(f"{source}/", "") for line in str(error.value).split("\n")[1:]]


def test_columns_become_those_of_a_catalog(tmp_path):
    catalog = read_source(write(tmp_path / "in"), status="validated,dubious")
    frame = catalog.frame
    assert list(frame["object_id"]) == ["o1", "o1/1", "o2"]
    assert list(frame["ecotaxa_id"]) == ["o1", "o1", "o2"]
    assert list(frame["img_file_name"]) == ["a.png", "b.png", "b.png"]
    assert catalog.paths == [str(tmp_path / "in" / name) for name in ("a.png", "b.png", "b.png")]
    assert catalog.labels == ["Œuf<Copépode", "egg (Copepoda)", None]
    assert list(frame["annotation_status"].dropna()) == ["validated", "dubious"]
    assert frame["lineage"][0] == "Biota>Copépode"
    assert list(frame["time"].dropna()) == ["2020-01-31T12:34:56Z"] * 2
    assert list(frame["latitude"]) == [45.5] * 3
    assert frame["longitude"][0] == -7.25
    assert list(frame["depth_min"][:2]) == [10, 10]
    assert list(frame["pixel_size"][:2]) == pytest.approx([10.6, 10.6])
    assert list(frame["volume"][:2]) == [12.5, 12.5]
    assert list(frame["subsample_factor"][:2]) == [4, 4]
    assert list(catalog.features) == ["area"]
    assert list(catalog.features["area"]) == [1.5, -0.25, 1000]
    assert list(frame["object_comment"].dropna()) == ["é µm", "x, y"]
    assert list(frame["sample_tot_vol"][:2]) == [12.5, 12.5]


@settings(max_examples=40)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from("\t;,"),
    types=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    comma=st.booleans(),
)
def test_every_way_to_write_a_table_reads_the_same(tmp_path_factory, **variation):
    rows = [[cell.replace("Œ", "Ö") for cell in row] for row in ROWS]  # which latin-1 has
    expected = read_source(write(tmp_path_factory.mktemp("plain"), rows)).frame.drop(columns="path")
    found = read_source(write(tmp_path_factory.mktemp("varied"), rows, **variation)).frame.drop(columns="path")
    pd.testing.assert_frame_equal(found, expected)


def test_blank_rows_are_ignored_and_lines_still_counted(tmp_path):
    lines = as_bytes(change(2, "object_area", "x")).split(b"\n")
    lines[3:3] = [b"", b"\t" * (len(HEADER) - 1)]
    folder = write(tmp_path / "in")
    (folder / "ecotaxa_a.tsv").write_bytes(b"\n".join(lines))
    assert faults_of(folder) == [
        "ecotaxa_a.tsv, row 7, column object_area: expected a number, as [f] declares; found 'x'"
    ]


def test_a_line_end_inside_a_value_is_kept_and_counted(tmp_path):
    rows = change(2, "object_area", "x")
    rows[0][list(HEADER).index("object_comment")] = "two\nlines"
    folder = write(tmp_path / "in", rows)
    assert faults_of(folder)[0].startswith("ecotaxa_a.tsv, row 6, column object_area")
    assert read_source(folder, keep_going=True).frame["object_comment"][0] == "two\nlines"


def test_a_single_table_is_known_by_its_name_or_its_columns(tmp_path):
    folder = write(tmp_path / "in")
    assert len(read_source(folder / "ecotaxa_a.tsv")) == 3
    (folder / "other.txt").write_bytes(as_bytes(encoding="utf-8-sig", quoting=csv.QUOTE_ALL))
    assert recognize_format(folder / "other.txt") == "ecotaxa"
    (folder / "ecotaxa_catalog.tsv").write_text("object_id\tpath\timg_file_name\no1\ta.png\ta.png\n")
    assert recognize_format(folder / "ecotaxa_catalog.tsv") == "catalog"
    assert recognize_format(write(tmp_path / "none", name="notes.tsv")) == "folder"


def test_a_folder_of_images_with_other_tables_of_that_name_is_none_of_ecotaxa(tmp_path):
    folder = write(tmp_path / "in", [["o", "copepod"]], {"object_id": "[t]", "object_annotation_category": "[t]"})
    assert recognize_format(folder) == "folder"
    (folder / "ecotaxa_b.txt").write_text("What the images are\n")
    assert recognize_format(folder) == "folder"
    (folder / "ecotaxa_c.tsv").write_text("\nobject_id\timg_file_name\n")  # one of EcoTaxa that is broken
    assert recognize_format(folder) == "ecotaxa"
    (folder / "ecotaxa_c.tsv").unlink()
    write(folder / "sub", name="ecotaxa_c.tsv")
    assert recognize_format(folder) == "ecotaxa"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("", "expected a table; the file is empty"),
        ("\ufeff\n", "expected a table; the file is empty"),
        ("\nobject_id\timg_file_name\no\ta.png\n", "in row 1; found no object_id and no img_file_name"),
        ("object_id\n", "in row 1; found no img_file_name"),
    ],
)
def test_a_table_without_its_header_is_reported(tmp_path, start, message):
    (tmp_path / "ecotaxa_a.tsv").write_text(start, encoding="utf-8")
    for source in (tmp_path, tmp_path / "ecotaxa_a.tsv"):
        with pytest.raises(InputError, match=rf"ecotaxa_a\.tsv: .*{message}"):
            read_source(source)


def test_tables_at_any_depth_and_an_object_in_two_of_them(tmp_path):
    write(tmp_path / "in" / "x", ROWS[:1], images=["a.png"])
    write(tmp_path / "in" / "y" / "z", ROWS[:1], images=["a.png"], types=False)
    frame = read_source(tmp_path / "in").frame
    assert list(frame["object_id"]) == ["o1", "o1/1"]  # of EcoTaxa's one object, two images
    assert len(set(frame["path"])) == 2


def test_images_are_numbered_by_rank_then_in_order(tmp_path):
    header = {"object_id": "[t]", "img_file_name": "[t]", "img_rank": "[f]"}
    rows = [["o", "a.png", "2"], ["p", "a.png", ""], ["o", "b.png", "0"], ["o", "c.png", "2"]]
    frame = read_source(write(tmp_path / "in", rows, header, images=["a.png", "b.png", "c.png"])).frame
    assert list(frame["object_id"]) == ["o/1", "p", "o", "o/2"]
    rows = [["o", "a.png", ""], ["o", "b.png", ""], ["o/1", "a.png", ""]]
    folder = write(tmp_path / "taken", rows, header)
    assert [line.partition(": ")[0] for line in faults_of(folder)] == ["ecotaxa_a.tsv, row 4, column object_id"]
    assert list(read_source(folder, keep_going=True).frame["object_id"]) == ["o", "o/1"]


def test_what_is_number_in_one_table_and_text_in_another_is_text(tmp_path):
    header = {"object_id": "[t]", "img_file_name": "[t]", "object_hue": "", "object_mean": "", "acq_z": ""}
    write(tmp_path / "in" / "1", [["o", "a.png", "1.50", "1,5", ""]], header, types=False)
    write(tmp_path / "in" / "2", [["p", "a.png", "high", "2.5", ""]], header, types=False)
    catalog = read_source(tmp_path / "in")
    assert list(catalog.frame["object_hue"]) == ["1.50", "high"]
    assert list(catalog.features["mean"]) == [1.5, 2.5]
    assert "acq_z" not in catalog.frame


def test_text_that_looks_like_numbers_stays_text_where_it_names_things(tmp_path):
    header = {"object_id": "", "img_file_name": "", "sample_id": "", "acq_id": "", "object_annotation_category_id": ""}
    header |= {"object_annotation_status": "", "process_date": "", "object_lat_end": "", "objid": "", "classif_id": ""}
    rows = [["007", "a.png", "01", "02", "84963", "discarded", "20200101", "5", "7", "9"]]
    catalog = read_source(write(tmp_path / "in", rows, header, types=False))
    row = catalog.frame.iloc[0]
    assert (row["object_id"], row["sample_id"], row["acq_id"], row["category_id"]) == ("007", "01", "02", "84963")
    assert (row["process_date"], row["objid"], row["classif_id"]) == ("20200101", "7", "9")
    assert row["annotation_status"] == "discarded"
    assert catalog.labels == [None]
    assert catalog.features.empty  # a position is none


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20140420", "420", "2014-04-20T04:20:00Z"),
        ("2014-04-20", "04:20:07", "2014-04-20T04:20:07Z"),
        ("20140420", "42007", "2014-04-20T04:20:07Z"),
        ("20160719", "020139.315", "2016-07-19T02:01:39.315Z"),
        ("20160719", "0", "2016-07-19T00:00:00Z"),
        ("20160719", "NaN", "2016-07-19"),
        ("na", "0420", None),
    ],
)
def test_dates_and_times(tmp_path, date, time, expected):
    header = {"object_id": "", "img_file_name": "", "object_date": "", "object_time": ""}
    frame = read_source(write(tmp_path / "in", [["o", "a.png", date, time]], header, types=False)).frame
    assert frame.get("time", [None])[0] == expected
    assert "object_date" not in frame


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"process_particle_pixel_size_mm": "0.0106", "process_pixel": "99"}, 10.6),
        ({"acq_instrument": "UVP5", "acq_pixel": "0.174", "process_pixel": "0.2"}, 174),
        ({"acq_instrument": "PlanktoScope v2.2", "process_pixel": "0.75"}, 0.75),
        ({"acq_instrument": "epson", "process_pixel": "10.6"}, 10.6),
        ({"acq_instrument": "epson", "process_pixel": "0.6"}, None),
        ({"process_pixel": "unknown"}, None),
        ({"process_pixel": "-1"}, None),
    ],
)
@pytest.mark.parametrize("types", [True, False])
def test_pixel_size_in_micrometres(tmp_path, caplog, columns, expected, types):
    header = dict.fromkeys(["object_id", "img_file_name", *columns], "[t]")
    frame = read_source(write(tmp_path / "in", [["o", "a.png", *columns.values()]], header, types=types)).frame
    assert frame.get("pixel_size", [None])[0] == (expected if expected is None else pytest.approx(expected))
    assert ("unknown unit" in caplog.text) == (columns.get("process_pixel") == "0.6")


def test_infinite_features_are_missing(tmp_path):
    rows = change(0, "object_area", "inf")
    assert np.isnan(read_source(write(tmp_path / "in", rows)).features["area"][0])


def pack(folder, path, **more):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder).as_posix())
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def test_a_zip_is_read_in_place(tmp_path):
    write(
        tmp_path / "in" / "sub" / "deep", [["im/" + row[0], *row[1:]] for row in ROWS], images=["im/a.png", "im/b.png"]
    )
    path = pack(tmp_path / "in", tmp_path / "x.zip", **{"__MACOSX/sub/._ecotaxa_a.tsv": b"\0"})
    before = sorted(tmp_path.rglob("*"))
    catalog = read_source(path)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked
    assert catalog.paths[0] == f"{path}/sub/deep/im/a.png"
    assert open_image(catalog.paths[0]).size == (4, 5)
    same = read_source(tmp_path / "in").frame
    pd.testing.assert_frame_equal(catalog.frame.drop(columns="path"), same.drop(columns="path"))


def test_names_that_lead_out_of_a_zip_are_faults(tmp_path):
    folder = write(tmp_path / "in" / "d", [*ROWS, *change(0, "img_file_name", "../../b.png")[:1]])
    path = pack(folder.parent, tmp_path / "x.zip", **{"../b.png": b"x", "/c.png": b"x", "d/e/../../f.png": b"x"})
    lines = faults_of(path)
    assert [line.rpartition("; found ")[2].split(",")[0] for line in lines[:3]] == [
        "'../b.png'",
        "'/c.png'",
        "'d/e/../../f.png'",
    ]
    assert "d/ecotaxa_a.tsv, row 6, column img_file_name" in lines[3]
    assert len(lines) == 4
    assert len(read_source(path, keep_going=True)) == 3


def test_broken_zips_are_reported(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as a ZIP"):
        read_source(tmp_path / "x.zip", source_format="ecotaxa")
    path = pack(write(tmp_path / "in"), tmp_path / "y.zip")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"validated", b"VALIDATED"))  # the checksum does not fit any more
    with pytest.raises(InputError, match=r"y\.zip/ecotaxa_a\.tsv: expected a table that can be read"):
        read_source(path)


@pytest.mark.parametrize(
    ("column", "value", "message", "expected"),
    [
        ("object_date", "20140433", "a date, YYYYMMDD or YYYY-MM-DD; found '20140433'; the image has no time", None),
        ("object_date", "2014-0420", "a date, YYYYMMDD or YYYY-MM-DD; found '2014-0420'; the image has no time", None),
        ("object_time", "9920", "found '9920'; the image has only its date; the cell is read as empty", "2020-01-31"),
        ("object_time", "5:31", "found '5:31'; the image has only its date; the cell is read as empty", "2020-01-31"),
    ],
)
def test_a_bad_date_or_time_empties_the_cell(tmp_path, caplog, column, value, message, expected):
    faults = Faults()
    catalog = read_source(write(tmp_path / "in", change(0, column, value)), faults=faults)
    assert (len(catalog), faults.n_lost, faults.n_kept) == (3, 0, 1)
    assert f"ecotaxa_a.tsv, row 3, column {column}: expected a" in caplog.text
    assert message in caplog.text
    assert catalog.frame["time"].fillna("").tolist() == [expected or "", "2020-01-31T12:34:56Z", ""]


def test_positions_of_zero_are_kept_and_reported_once(tmp_path, caplog):
    header = {"object_id": "", "img_file_name": "", "object_lat": "", "object_lon": ""}
    rows = [
        ["o", "a.png", "0", "0.0"],
        ["p", "a.png", "0°0 0", "-0"],
        ["q", "b.png", "0", "7"],
        ["r", "b.png", "", "0"],
    ]
    faults = Faults()
    frame = read_source(write(tmp_path / "in", rows, header, types=False), faults=faults).frame
    assert frame["latitude"].fillna(-9).tolist() == [0, 0, 0, -9]
    assert (faults.n_lost, faults.n_kept) == (0, 1)
    message = (
        "in, column object_lat, object_lon: expected measured positions; found 0°, 0° in 2 rows, kept as it is; empty"
    )
    assert caplog.text.count("0°, 0°") == caplog.text.count(message) == 1


BAD_VALUES = [
    ("object_area", "1.2.3", "object_area: expected a number, as [f] declares; found '1.2.3'"),
    ("object_area", "1,5", "object_area: expected a number"),  # the others have a point
    ("object_annotation_status", "predit", "object_annotation_status: expected one of predicted, validated"),
    ("object_annotation_category", "", "object_annotation_category: expected a category, as there is a status"),
    ("object_id", "na", "object_id: expected the id of the object; found nothing"),
    ("img_file_name", "", "img_file_name: expected the file of an image; found nothing"),
    ("img_file_name", "c.png", "img_file_name: expected an existing image, relative to the table; found 'c.png'"),
    ("img_file_name", "/a.png", "img_file_name: expected a path relative to the table; found '/a.png'"),
    (
        "img_file_name",
        "./b.png",
        "img_file_name: expected an image that no earlier row has for this object; found 'b.png'",
    ),
]


@pytest.mark.parametrize(("column", "value", "expected"), BAD_VALUES)
def test_a_bad_value_is_reported_with_its_place_and_the_other_rows_are_good(tmp_path, column, value, expected):
    folder = write(tmp_path / "in", change(0, column, value))
    row = 4 if value == "./b.png" else 3  # the second of the pair
    (line,) = faults_of(folder)
    assert line.startswith(f"ecotaxa_a.tsv, row {row}, column {expected}")
    assert len(read_source(folder, keep_going=True)) == 2


def test_faults_of_the_header_and_the_row_of_types(tmp_path):
    header = HEADER | {"note": "", "object_shape": "[h]"}
    folder = write(tmp_path / "in", [[*row, "n", "5"] for row in ROWS], header)
    assert faults_of(folder) == [
        "ecotaxa_a.tsv, row 1, column note: expected a name that starts with object_, acq_, process_, sample_ or img_; "
        "found 'note'",
        "ecotaxa_a.tsv, row 2, column object_shape: expected [t] or [f]; found '[h]'; the column is left out",
    ]
    frame = read_source(folder, keep_going=True).frame
    assert len(frame) == 3
    assert not {"note", "feature_shape", "object_shape"} & set(frame)
    raw = as_bytes().replace(b"object_comment", b"Object_Area ")
    (folder / "ecotaxa_a.tsv").write_bytes(raw)
    assert "row 1, column object_area: expected each column name once" in faults_of(folder)[0]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (as_bytes([]), "expected rows below the header; found none"),
        (as_bytes([], types=False), "expected rows below the header; found none"),
        (
            b"object_id\tobject_lat\no\t1\n",
            "expected the columns object_id and img_file_name in row 1; found no img_file_name",
        ),
        (as_bytes(encoding="utf-16-le"), "found a zero byte"),
    ],
)
def test_a_table_that_is_none_is_reported_and_the_others_are_read(tmp_path, raw, expected):
    folder = write(tmp_path / "in")
    (folder / "ecotaxa_b.tsv").write_bytes(raw)
    (line,) = faults_of(folder)
    assert line.startswith("ecotaxa_b.tsv: ")
    assert expected in line
    assert len(read_source(folder, keep_going=True)) == 3


def test_a_short_row_is_filled_and_a_long_one_shows_what_is_too_much(tmp_path, caplog):
    lines = as_bytes([ROWS[0], ROWS[1][:-2], [*ROWS[2], "more", "and more"]]).splitlines()
    folder = write(tmp_path / "in")
    (folder / "ecotaxa_a.tsv").write_bytes(b"\n".join(lines))
    assert faults_of(folder) == [
        "ecotaxa_a.tsv, row 5: expected 17 values, as in the header; found 19; the extra values are 'more', 'and more'",
    ]
    frame = read_source(folder, keep_going=True).frame
    assert list(frame["object_id"]) == ["o1", "o1/1"]
    assert list(frame["acq_sub_part"].isna()) == [False, True]
    assert "row 4: expected 17 values, as in the header; found 15; the last 2 are read as empty" in caplog.text
    (folder / "ecotaxa_a.tsv").write_bytes(b"\n".join(line + b"\t" for line in as_bytes().splitlines()))
    assert len(read_source(folder)) == 3  # nothing but an empty cell is too much


def test_an_image_that_cannot_be_decoded_is_reported_unless_there_are_many(tmp_path, monkeypatch):
    folder = write(tmp_path / "in")
    (folder / "b.png").write_bytes(b"no image")
    lines = faults_of(folder)
    assert [line.partition(": ")[0] for line in lines] == [
        f"ecotaxa_a.tsv, row {n}, column img_file_name" for n in (4, 5)
    ]
    assert "expected an image; found 'b.png', the file is not an image" in lines[0]
    monkeypatch.setattr(ecotaxa, "N_OPENED", 1)
    assert len(read_source(folder)) == 3


def test_no_tables_and_no_good_rows(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"expected tables named ecotaxa\*.tsv or ecotaxa\*.txt; found none"):
        read_source(tmp_path / "in", source_format="ecotaxa")
    folder = write(tmp_path / "bad", [["a.png", "0"]])
    with pytest.raises(InputError, match="expected images; found none"):
        read_source(folder, keep_going=True)


@pytest.fixture
def real(data_folder):
    folder = data_folder / "ecotaxa"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.mark.parametrize(
    ("folder", "n_rows", "n_objects", "n_files", "n_labelled"),
    [
        ("import", 17, 17, 14, 11),
        ("import/m106_mn01_n1_sml", 8, 8, 5, 8),
        ("import/m106_mn01_n2_sml", 3, 3, 3, 3),
        ("import/vpr_sparse", 6, 6, 6, 0),
        ("export", 24, 12, 24, 24),
        ("export/doi", 12, 11, 12, 12),
        ("export/tsv_by_taxon", 12, 12, 12, 12),
    ],
)
def test_real_tables(real, folder, n_rows, n_objects, n_files, n_labelled):
    catalog = read_source(real / folder)
    assert recognize_format(real / folder) == "ecotaxa"
    assert len(catalog) == n_rows
    assert catalog.frame["ecotaxa_id"].nunique() == n_objects
    assert len(set(catalog.paths)) == n_files
    assert catalog.frame["label"].notna().sum() == 0  # nothing is validated
    assert read_source(real / folder, status=["predicted"]).frame["label"].notna().sum() == n_labelled
    assert all(Path(path).is_file() for path in catalog.paths)


def test_both_real_exports_agree_of_the_same_objects(real):
    doi, by_taxon = (
        read_source(real / "export" / name).frame.set_index("object_id") for name in ("doi", "tsv_by_taxon")
    )
    shared = doi.index.intersection(by_taxon.index)
    assert len(shared) == 11
    for column in (
        "time",
        "latitude",
        "longitude",
        "depth_min",
        "depth_max",
        "sample_id",
        "feature_area",
        "feature_mean",
    ):
        assert list(doi.loc[shared, column]) == list(by_taxon.loc[shared, column]), column
    assert doi.loc["m106_mn01_n1_sml_821", "time"] == "2014-04-20T04:20:00Z"
    assert doi.loc["m106_mn01_n1_sml_821", "feature_area"] == 1401
    assert doi.loc["m106_mn01_n3_sml_1111/1", "img_file_name"] == "images/egg_other/13_1.jpg"
    assert doi["pixel_size"].unique() == [10.6]


def test_a_real_table_without_a_column_of_statuses_is_read(real, caplog):
    assert len(read_source(real / "malformed" / "classif_without_state")) == 1
    assert "expected a column object_annotation_status, as there are categories; found none" in caplog.text


@pytest.mark.parametrize(
    ("folder", "n_faults", "n_good", "expected"),
    [
        (
            "corrupted_img",
            4,
            0,
            ["row 3, column img_file_name: expected an image; found '20200108 080729", "0030.tif'"],
        ),
        (
            "duplicate_in_tsv",
            1,
            1,
            ["row 4, column img_file_name: expected an image that no earlier row has for this object"],
        ),
        (
            "empty_tsv2",
            1,
            0,
            ["expected a table of EcoTaxa; found something else (expected a table; the file is empty)"],
        ),
        ("tsv_issues", 9, 2, ["row 3, column object_buggy_float", "row 8, column object_id", "corrupted_image.jpg'"]),
    ],
)
def test_real_malformed_tables(real, folder, n_faults, n_good, expected, caplog):
    lines = faults_of(real / "malformed" / folder)
    assert len(lines) == n_faults
    for part in expected:
        assert any(part in line for line in lines), part
    with caplog.at_level(logging.WARNING):
        try:
            n_kept = len(read_source(real / "malformed" / folder, keep_going=True))
        except InputError as error:
            n_kept = 0
            assert "expected images; found none" in str(error)
    assert n_kept == n_good
    assert caplog.text.count("left out: ") == n_faults
