"""The files of catalogs: hard labels, numbers, encodings and quotes of other programs, CSV as pandas writes it."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plankton_embed.errors import InputError
from plankton_embed.images import catalog_files
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_files import read_csv, write_csv
from plankton_embed.images.readers.faults import Faults
from plankton_embed.spreadsheet import clean_label

HARD_LABELS = [
    "NA",
    "nan",
    "None",
    "null",
    "1",
    "1.0",
    "true",
    "Calanus finmarchicus",
    "egg<other",
    "a/b",
    "comma, semicolon;",
    'quote "x"',
    "tab\tx",
    "line\nend",
    "Ø",
    "å",
    "=1+1",
]
TEXT = st.sampled_from(HARD_LABELS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
FORMATS = (".csv", ".parquet")


def build(labels, **columns):
    """Build a catalog of images that need not be there."""
    return ImageCatalog.from_rows({"path": [f"{i}.png" for i in range(len(labels))], "label": labels, **columns})


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\r"])
def test_the_line_that_gives_excel_the_delimiter_is_ignored(write, first):
    end = first.strip('SEPsep=;"')
    catalog = ImageCatalog.load(write(first + end.join(["path;label;depth_min", "a.png;x;1,5", ";;", ";;", ""])))
    assert (catalog.labels, catalog.frame["depth_min"].tolist()) == (["x"], [1.5])


@pytest.mark.parametrize("suffix", FORMATS)
def test_hard_labels_come_back(tmp_path, suffix):
    labels = [*map(clean_label, HARD_LABELS), None]
    catalog = build(labels)
    assert catalog.labels == labels
    assert ImageCatalog.load(catalog.save(tmp_path / f"c{suffix}")).labels == labels
    assert set(catalog.classes) == set(labels) - {None}


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(TEXT, st.none() | TEXT, st.sampled_from(["train", "val", "test"])), min_size=1, max_size=5),
    suffix=st.sampled_from(FORMATS),
)
def test_any_catalog_comes_back(tmp_path, rows, suffix):
    samples, labels, splits = zip(*rows, strict=True)
    catalog = build(labels, split=splits, sample_id=samples, depth=[i / 3 for i in range(len(rows))])
    loaded = ImageCatalog.load(catalog.save(tmp_path / f"c{suffix}"))
    pd.testing.assert_frame_equal(loaded.frame, catalog.frame)


@pytest.mark.parametrize("suffix", FORMATS)
def test_whole_numbers_with_a_gap_stay_whole(tmp_path, suffix):
    frame = pd.DataFrame({"path": ["i0.png", "i1.png", "i2.png", "i3.png"]})
    frame["label"], frame["object_id"] = [1, 2, np.nan, 1], [101, 102, np.nan, 104]
    frame["sample_id"], frame["station"], frame["feature_n"] = [np.nan, 7, 7, 7], [3, np.nan, 3, 4], [1, 2, np.nan, 4]
    if suffix == ".csv":
        frame.to_csv(tmp_path / "c.csv", index=False)
    else:
        frame.to_parquet(tmp_path / "c.parquet")
    first = ImageCatalog.load(tmp_path / f"c{suffix}")
    for catalog in (first, ImageCatalog.load(first.save(tmp_path / f"again{suffix}"))):
        assert catalog.labels == ["1", "2", None, "1"]
        assert catalog.frame["object_id"].tolist() == ["101", "102", "i2.png", "104"]
        assert catalog.frame["sample_id"].fillna("-").tolist() == ["-", "7", "7", "7"]
        assert catalog.frame["station"].astype(object).fillna("-").tolist() == [3, "-", 3, 4]
        assert catalog.frame["station"].dropna().astype(str).tolist() == ["3", "3", "4"]
        np.testing.assert_array_equal(catalog.features["n"], [1, 2, np.nan, 4])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0], ["1", "2"]),
        ([1.5, 2.0, np.nan], ["1.5", "2.0", None]),
        ([1e20, np.nan], ["1e+20", None]),
        ([True, None], ["True", None]),
        (pd.array([2**53 + 1, pd.NA], dtype="Int64"), [str(2**53 + 1), None]),
        (pd.array([1.0, pd.NA], dtype="Float64"), ["1", None]),
        (pd.array([2**53 + 1, None], dtype="int64[pyarrow]"), [str(2**53 + 1), None]),
        (pd.Categorical([1.0, 12.0, np.nan]), ["1", "12", None]),
        (["1.0", "2.0", None], ["1.0", "2.0", None]),
        (np.float32([3, np.nan]), ["3", None]),
    ],
)
def test_labels_of_every_kind_of_number(values, expected):
    assert build(values).labels == expected


@pytest.mark.parametrize("highest", [2**53 + 3, 2**53 + 4])  # a float holds the second
@pytest.mark.parametrize("name", ["object_id", "station"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_long_whole_numbers_with_a_gap_keep_their_digits(tmp_path, suffix, name, highest):
    numbers = [2**53 + 1, None, highest, -(2**60) - 1]
    table = pa.table({"path": ["a", "b", "c", "d"], name: pa.array(numbers, pa.int64())})
    if suffix == ".parquet":
        pq.write_table(table, tmp_path / "c.parquet")
    else:
        pa_csv.write_csv(table, tmp_path / "c.csv")
    found = ImageCatalog.load(tmp_path / f"c{suffix}").frame[name].astype(object)
    assert [str(found[row]) for row in (0, 2, 3)] == [str(numbers[row]) for row in (0, 2, 3)]


def test_whole_numbers_that_64_bits_hold_only_without_a_sign_or_not_at_all_keep_their_digits(tmp_path, write):
    numbers = pa.array([2**63 + 1, None, 5], pa.uint64())
    pq.write_table(pa.table({"path": ["a", "b", "c"], "object_id": numbers, "haul": numbers}), tmp_path / "c.parquet")
    catalog = ImageCatalog.load(tmp_path / "c.parquet")
    assert catalog.frame["object_id"].tolist() == [str(2**63 + 1), "b", "5"]
    again = ImageCatalog.load(catalog.save(tmp_path / "again.csv")).frame["haul"]
    assert str(again[0]) == str(2**63 + 1)
    text = f"path,haul\na,{10**22 + 1}\nb,\nc,5\n"
    assert ImageCatalog.load(write(text)).frame["haul"].map(str)[0] == str(10**22 + 1)


def test_text_that_parquet_has_as_bytes_is_text(tmp_path):
    columns = {"path": [b"a.png", b"b.png"], "label": ["Médusé".encode(), "Médusé".encode("latin-1")]}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    catalog = ImageCatalog.load(tmp_path / "c.parquet")
    assert catalog.labels == ["Médusé", "Médusé"]
    assert catalog.paths == [str(tmp_path / name) for name in ("a.png", "b.png")]


@pytest.mark.parametrize("text", ["1.0", "2.0"])
def test_a_class_that_is_called_like_a_whole_number_as_a_float_keeps_its_name(tmp_path, text):
    assert ImageCatalog.load(build([text]).save(tmp_path / "c.csv")).labels == [text]


def test_the_id_of_a_parquet_may_be_its_index(tmp_path):
    frame = pd.DataFrame({"path": ["a.png", "b.png"]}, index=pd.Index([7, 8], name="object_id"))
    frame.to_parquet(tmp_path / "c.parquet")
    assert ImageCatalog.load(tmp_path / "c.parquet").frame["object_id"].tolist() == ["7", "8"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_decimal_commas_are_numbers_where_commas_part_nothing(write, encoding, line_end):
    rows = ["path;label;feature_area;latitude;note", "i0.png;Méduse;1,5;43,68;1,5 m", "i1.png;Méduse;;-43,70;"]
    catalog = ImageCatalog.load(write(line_end.join(rows), encoding=encoding))
    np.testing.assert_array_equal(catalog.features["area"], [1.5, np.nan])
    assert catalog.frame["latitude"].tolist() == [43.68, -43.7]
    assert catalog.frame["note"].iloc[0] == "1,5 m"
    assert catalog.labels == ["Méduse"] * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('path,feature_a\na,"1,5"\nb,2\n', "row 2, column feature_a: expected a number .* found '1,5'"),
        ("path;feature_a\na;1,5\nb;1.5\n", "row 2, column feature_a: .* found '1,5'"),
        ("path;feature_a\na;0,5\nb;1.234,5\n", "row 3, column feature_a: .* found '1.234,5'"),
        ("path;depth_min\na;1,234,567\n", "row 2, column depth_min: .* in m; found '1,234,567'"),
        ("path\tdepth_min\na\t1,234\n", "row 2, column depth_min: .* found '1,234'"),
        ("path;feature_a;volume\na;0,5;1.234\n", "row 2, column volume: .* found '1.234' beside the decimal commas"),
        ("path;feature_a\na;1 234,5\n", "row 2, column feature_a: .* found '1 234,5'"),
        ("path;feature_a\na;#DIV/0!\n", "row 2, column feature_a: .* found '#DIV/0!'"),
    ],
)
def test_numbers_in_doubt_are_faults_with_row_and_column(write, text, reason):
    with pytest.raises(InputError, match=rf"(?s)c\.csv.*{reason}"):
        ImageCatalog.load(write(text))


@pytest.mark.parametrize(
    ("text", "expected", "n_kept"),
    [
        ("path;feature_b;feature_a\na;0,5;1.234\nb;0,7;2\n", [np.nan, 2], 1),
        ("path;feature_a\na;0,5\nb;1.234\nc;2,5\nd;3\n", [0.5, np.nan, 2.5, 3], 1),
        ("path;feature_a\na;0,5\nb;1.234,5\nc;2,5\nd;\n", [0.5, np.nan, 2.5, np.nan], 1),
        ("path;feature_a\na;0,5\nb;large\n\nc;2,5\nd;1 234,5\ne;7,5\n", [0.5, np.nan, 2.5, np.nan, 7.5], 2),
    ],
)
def test_numbers_in_doubt_beside_decimal_commas_empty_the_cell_on_request(write, text, expected, n_kept):
    path = write(text)
    with pytest.raises(InputError, match=r"catalog --keep-going reads what is good:\n.*beside the decimal commas"):
        ImageCatalog.load(path)
    faults = Faults(path, keep_going=True)
    np.testing.assert_array_equal(ImageCatalog.load(path, faults=faults).features["a"], expected)
    assert (faults.n_lost, faults.n_kept) == (0, n_kept)
    cells = [text.split("\n")[fault.row - 1] for fault in faults.found]
    assert all(fault.found.split("'")[1] in cell for fault, cell in zip(faults.found, cells, strict=True))


def test_tabs_part_decimal_commas_that_cannot_be_thousands(write):
    text = "path\tdepth_min\na\t1,234\nb\t2,5\n"
    assert ImageCatalog.load(write(text, encoding="utf-16")).frame["depth_min"].tolist() == [1.234, 2.5]


def test_rows_with_faults_are_left_out_on_request(write):
    faults = Faults(keep_going=True)
    path = write("path,label,feature_a\na.png,x,1\n,y,2\nc.png,z,?\n")
    catalog = ImageCatalog.load(path, faults=faults)
    assert (catalog.labels, catalog.features["a"].dtype) == (["x"], np.float64)
    assert [(fault.row, fault.column, fault.kept) for fault in faults.found] == [
        (3, "path", False),
        (4, "feature_a", False),
    ]
    with pytest.raises(InputError, match="expected images; found none"):
        ImageCatalog.load(write("path,feature_a\na.png,?\n"), faults=Faults(keep_going=True))


SWALLOWED = """path,label,note
a.png,x,calm
b.png,y,"big net
c.png,x,calm
d.png,y,5" mesh
e.png,x,calm
"""


@pytest.mark.parametrize(
    "text",
    [SWALLOWED, SWALLOWED.replace('5"', "5"), SWALLOWED.replace('5" mesh', 'mesh 5"')],
    ids=["in", "open", "end"],
)
@pytest.mark.parametrize("delimiter", ",;\t")
def test_a_stray_quote_that_takes_in_rows_is_reported_with_its_row(write, text, delimiter):
    with pytest.raises(InputError, match=r"c\.csv cannot be read: row 3: .* found a quote .* takes in \d lines"):
        ImageCatalog.load(write(text.replace(",", delimiter)))


def test_a_quote_in_the_last_row_that_is_not_closed_is_reported_with_its_row(write):
    with pytest.raises(InputError, match=r"c\.csv cannot be read: row 3: found a quote that is not closed"):
        ImageCatalog.load(write('path,label,note\na.png,x,calm\nb.png,y,"big net\n'))


def test_cells_of_several_lines_are_read(tmp_path, write):
    note = "one, two,\nthree, four"
    catalog = ImageCatalog.load(write('path,label,note\n\na.png,"x\ny","calm,\nthen ""wind"""\nb.png,z,5" mesh\n'))
    assert catalog.labels == ["x\ny", "z"]
    assert catalog.frame["note"].tolist() == ['calm,\nthen "wind"', '5" mesh']
    again = ImageCatalog.load(build(["x", "y"], note=[note, "calm"]).save(tmp_path / "again.csv"))
    assert again.frame["note"].tolist() == [note, "calm"]


def test_a_column_without_name_and_values_is_left_out(write):
    catalog = ImageCatalog.load(write("path,label,\na.png,x,\nb.png,y,\n"))
    assert set(catalog.frame) == {"object_id", "path", "label"}


BLANKS = [chr(i) for i in range(0x3001) if chr(i).isspace()]
MESSY_TEXT = st.text(st.sampled_from([*"aB1-.", *BLANKS, "\u0301", "\u212b", "\u1100", "\u1161", "é", "𝒳"]), max_size=6)
MISSING_VALUE = st.sampled_from([None, np.nan, pd.NA, pd.NaT])
MESSY_VALUE = MESSY_TEXT | MISSING_VALUE | st.integers(-9, 9) | st.floats(width=32) | st.booleans() | st.just(b"x")


def test_numbers_that_are_categories_stay_whole_where_a_value_is_missing():
    assert build(pd.Series([None, 0, 12], dtype="category")).labels == [None, "0", "12"]


@settings(max_examples=80)
@given(values=st.lists(MESSY_TEXT | MISSING_VALUE, min_size=1) | st.lists(MESSY_VALUE, min_size=1), data=st.data())
def test_text_is_cleaned_as_one_by_one(values, data):
    kind = data.draw(st.sampled_from([None, "object", "category"]))
    label = pd.Series(values, dtype=kind)
    values = label.tolist()  # pandas may have made other numbers of them
    filled = [v for v in values if not (v is None or pd.isna(v))]
    are_whole = all(isinstance(v, float) and str(v).endswith(".0") for v in filled)
    shown = [v.decode() if isinstance(v, bytes) else v for v in values]
    text = [None if v is None or pd.isna(v) else str(v).removesuffix(".0" if are_whole else "") for v in shown]
    expected = [None if v is None else clean_label(v) or None for v in text]
    found = build(label, sample_id=label)
    assert found.labels == expected
    samples = [None if v is None else v.strip() or None for v in text]
    pd.testing.assert_series_equal(found.frame["sample_id"], pd.Series(samples, dtype="str"), check_names=False)


COLUMNS = {
    "str": st.none() | TEXT | MESSY_TEXT,
    "float64": st.floats()
    | st.integers(-(10**17), 10**17)
    | st.sampled_from([*(s * 10.0**i for i in range(-6, 18) for s in (1, -2.5)), -0.0]),
    "float32": st.floats(width=32),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "Int64": st.none() | st.integers(-9, 9),
    "object": st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | MESSY_TEXT,
    "datetime64[us]": st.none() | st.datetimes(),
}


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dtypes=st.lists(st.sampled_from(list(COLUMNS)), max_size=4), n=st.integers(0, 7), data=st.data())
def test_a_csv_is_written_as_by_pandas(tmp_path, monkeypatch, dtypes, n, data):
    monkeypatch.setattr(catalog_files, "N_ROWS_AT_ONCE", 3)
    values = [data.draw(st.lists(COLUMNS[dtype], min_size=n, max_size=n)) for dtype in dtypes]
    frame = pd.DataFrame(
        {f'"{i}", {d}': pd.Series(v, dtype=d) for i, (d, v) in enumerate(zip(dtypes, values, strict=True))}
    )
    write_csv(frame, tmp_path / "ours.csv")
    frame.to_csv(tmp_path / "pandas.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("1", ["2.5", ""], [1.0, 2.5, np.nan]),
        ("1", ["x", "NA"], ["1", "x", np.nan]),
        ("", ["True", ""], [np.nan, True, np.nan]),
        ("1", [str(2**63 + 1)], [1, 2**63 + 1]),
        ("-1", [str(2**53 + 1)], [-1, 2**53 + 1]),
        ("True", ["x", "False"], ["True", "x", "False"]),
    ],
)
def test_a_long_csv_whose_last_rows_differ_is_read_as_a_short_one(write, first, last, expected):
    wide = "," * 2000  # pandas reads a wide table in pieces of few rows
    rows = [f"{row}.png,{value}{wide}" for row, value in enumerate([first] * 600 + last)]
    header = "path,n," + ",".join(f"empty{i}" for i in range(2000))
    found = read_csv(write("\n".join([header, *rows])), Faults())["n"].iloc[599:]
    pd.testing.assert_series_equal(
        found.astype(object), pd.Series(expected, dtype=object), check_index=False, check_names=False
    )
