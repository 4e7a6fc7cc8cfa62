"""Faults: one warning a kind, lost ones refused, all in one table."""

import pandas as pd
import pytest

from plankton_embed.errors import InputError
from plankton_embed.images.readers.faults import Faults


def test_faults_of_files_are_one_warning_with_a_count_and_a_few_of_them(caplog):
    faults = Faults()
    for number in range(5):
        faults.add(f"{number}.png", "an image that can be read", f"reason {number}", kept=True, remedy="copy it")
    faults.report()
    (message,) = caplog.messages
    lines = message.splitlines()
    assert lines[0] == "kept: 5 files: expected an image that can be read; copy it; found"
    assert lines[1:] == ["  0.png: reason 0", "  1.png: reason 1", "  2.png: reason 2", "  and 2 more"]
    faults.report()
    assert len(caplog.messages) == 1  # reported once


def test_rows_of_one_table_are_one_warning_and_other_columns_another(caplog):
    faults = Faults()
    for row in (2, 3, 4):
        faults.add("t.tsv", "a number", repr("x"), row=row, column="a", kept=True)
    faults.add("t.tsv", "a number", repr("y"), row=2, column="b", kept=True)
    faults.report()
    assert caplog.messages == [
        "kept: t.tsv, row 2, column a: expected a number; found 'x' (and 2 more such rows)",
        "kept: t.tsv, row 2, column b: expected a number; found 'y'",
    ]


def test_what_would_be_lost_is_an_error_and_listed(tmp_path, caplog):
    faults = Faults("source")
    faults.add("a.png", "an image", "nothing")
    faults.add("b.png", "an image", "text", kept=True)
    with pytest.raises(InputError, match=r"source has a fault; catalog --keep-going reads what is good:\n  a\.png"):
        faults.report()
    assert (faults.n_lost, faults.n_kept) == (1, 1)
    faults.save(tmp_path / "f.csv")
    assert pd.read_csv(tmp_path / "f.csv")["outcome"].tolist() == ["lost", "kept"]
    Faults().save(tmp_path / "f.csv")
    assert not (tmp_path / "f.csv").exists()
