"""Tables of analyses: what is read, and the one message for each damage."""

import logging

import numpy as np
import pandas as pd
import pytest

from plankton_embed.errors import InputError
from plankton_embed.output import write_frame
from plankton_embed.page.analysis_tables import find_rows, leave_out_damaged, list_values, read_table
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable


def test_a_table_comes_back_as_it_was_written(tmp_path):
    frame = pd.DataFrame({"name": ["a", "b, c", "d"], "size": [0.1, np.nan, 3], "size_low": [1e-9, 2, np.inf]})
    write_frame(tmp_path / "t.csv", frame)
    found = read_table(tmp_path / "t.csv", ["name"], ["size"], "size_low|size_high")
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\na\n", "t.csv: expected the columns name, size; size is missing"),
        ("name,size\na,1\nb,many\n", "t.csv, column size: expected numbers; found 'many' in row 3"),
        ("name,size\na,1,2,3\n", "row 2"),
        ("", "empty file"),
        ("name\0,size\n", "zero byte"),
    ],
)
def test_a_damaged_table_is_one_error_with_file_and_column(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "t.csv", ["name"], ["size"])
    assert "t.csv" in str(caught.value)
    assert message in str(caught.value)


def test_an_error_is_one_message(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert leave_out_damaged(lambda: read_table(tmp_path / "t.csv", ["name"])) is None
    assert len(caplog.records) == 1
    assert "t.csv does not exist" in caplog.text
    assert leave_out_damaged(lambda: {"a": 1}) == {"a": 1}


def test_images_are_found_by_their_ids(tmp_path):
    images = gather_images({"": EmbeddingTable(np.eye(3), ["a", "b", "c"])})
    assert find_rows(images, ["c", "x", "a"], tmp_path).tolist() == [2, -1, 0]
    assert find_rows(images, [], tmp_path).tolist() == []
    with pytest.raises(InputError, match=r"object_id of images of this page; found only others, such as x"):
        find_rows(images, ["x", "y"], tmp_path / "t.csv")


def test_values_are_plain():
    assert list_values(np.array([1, 2])) == [1, 2]
    assert list_values([np.float32(0.5), np.nan, np.inf, None, "a", pd.NA]) == [0.5, None, None, None, "a", None]
