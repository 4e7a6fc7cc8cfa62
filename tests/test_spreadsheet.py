"""Tables that a person filled in, as spreadsheet programs save them."""

import pytest

from plankton_embed.spreadsheet import find_delimiter, read_spreadsheet


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
