"""Tables that a person filled in, as spreadsheet programs save them."""

import pytest

from plankton_embed.errors import InputError
from plankton_embed.spreadsheet import check_quotes, find_delimiter, list_lines, read_spreadsheet, to_text, to_utf8


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [("a;b;c\n1,5;2,5;x", ";"), ("\n a,b\n", ","), ("\tlabel\n0\ta", "\t"), ("label", ",")],
)
def test_what_parts_the_columns(text, delimiter):
    assert find_delimiter(text) == delimiter


def test_cells_are_text_without_blanks_and_empty_rows_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text('\ufeffid; name\n007;" a;b "\n;\n\nNA;Méduse\n', encoding="utf-8")
    read = read_spreadsheet(tmp_path / "t.csv", "table", ("id", "name"))
    assert read.to_dict("list") == {"id": ["007", "NA"], "name": ["a;b", "Méduse"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_the_encodings_of_spreadsheet_programs_are_read(encoding):
    text = "µ 5°, “é”" if encoding != "latin-1" else "µ 5°, é"
    assert to_utf8(text.encode(encoding)).decode() == text


@pytest.mark.parametrize("raw", ["ä".encode("utf-16")[:-1], "a".encode("utf-16-le"), "a".encode("utf-32"), b"PK\0"])
def test_what_is_no_text_is_refused_with_the_way_out(raw):
    with pytest.raises(InputError, match="save it as UTF-8"):
        to_utf8(raw)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, None, float("nan"), 2.0], ["1", None, None, "2"]),
        ([1.0, 1.5], ["1.0", "1.5"]),
        ([1.0, 1e20], ["1.0", "1e+20"]),
        ([1.0, "x"], ["1.0", "x"]),
        (["1.0", " "], ["1.0", None]),
        ([True, 2**53 + 1, ""], ["True", "9007199254740993", None]),
    ],
)
def test_values_as_text(values, expected):
    assert to_text(values) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n;x\n1.0;1.0\n2.0;1.5\n;2.0\n", {"n": ["1", "2", ""], "x": ["1.0", "1.5", "2.0"]}),
        ('n,x\n"1.0",1e5\n2.0,NA\n', {"n": ["1.0", "2.0"], "x": ["1e5", "NA"]}),
    ],
)
def test_whole_numbers_are_whole_where_they_were_not_quoted(tmp_path, text, expected):
    (tmp_path / "t.csv").write_text(text)
    assert read_spreadsheet(tmp_path / "t.csv", "table").to_dict("list") == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_have_the_line_they_start_on(end):
    text = 'a,b\n\n1,"x\ny"\n  \n2,z\n'.replace("\n", end)
    assert list_lines(text.encode()) == [3, 6]


def test_a_table_that_quotes_its_text_may_hold_delimiters_and_line_ends_in_a_cell():
    check_quotes(b'"a","b"\n"1, 2\n3, 4","x"\n', ",")
    with pytest.raises(InputError, match="row 2"):
        check_quotes(b'a,b\n1,"x\n2,5" y\n3,z\n4,"q"\n', ",")
