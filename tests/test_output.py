from __future__ import annotations

import itertools
import json
import os
import re
import stat
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from plankton_embed import output
from plankton_embed.errors import OutputError
from plankton_embed.output import (
    progress_bar,
    refuse_overwrite,
    write_atomically,
    write_folder_atomically,
    write_frame,
    write_frames,
    write_json,
)


def names(folder):
    """Everything in the folder, hidden scratch included."""
    return sorted(path.name for path in folder.iterdir())


def fill(target, text, fail=False):
    """Write a folder of two files; `fail` breaks off between them."""
    with write_folder_atomically(target) as folder:
        (folder / "a.txt").write_text(text)
        if fail:
            raise KeyboardInterrupt
        (folder / "b.txt").write_text(text)


@pytest.mark.parametrize("make", [lambda p: p.write_text(""), lambda p: (p.mkdir(), (p / "x").write_text(""))])
def test_what_is_there_is_not_overwritten_unless_told(tmp_path, make):
    target = tmp_path / "taken"
    assert refuse_overwrite(target) == target
    make(target)
    with pytest.raises(OutputError, match=r"taken exists already.*--overwrite"):
        refuse_overwrite(str(target))
    assert refuse_overwrite(target, overwrite=True) == target


def test_an_empty_folder_is_free_to_use(tmp_path):
    assert refuse_overwrite(tmp_path) == tmp_path


def test_a_file_appears_whole_with_its_missing_folders_and_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "deep" / "vectors.npz"
    with write_atomically(target) as temporary:
        assert temporary.suffix == ".npz"  # numpy would add it otherwise
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["vectors.npz"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_no_half_file_is_left_after_an_exception(tmp_path, fault):
    target = tmp_path / "a.txt"
    with pytest.raises(fault), write_atomically(target) as temporary:
        temporary.write_text("half")
        raise fault
    assert names(tmp_path) == []


def test_the_old_file_stands_after_an_exception(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with write_atomically(tmp_path / "ours") as temporary:
        temporary.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("place", ["file/below.txt", "folder"], ids=["below a file", "onto a folder"])
def test_an_impossible_place_is_an_output_error_that_names_it(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=place), write_atomically(tmp_path / place) as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_appears_whole_and_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "model"
    fill(target, "1")
    (target / "left-over").write_text("")
    fill(target, "2")
    assert {p.name: p.read_text() for p in target.iterdir()} == {"a.txt": "2", "b.txt": "2"}
    assert names(tmp_path) == ["model"]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "old"  # a name that the scratch folder must not trip over
    fill(target, "1")
    with pytest.raises(KeyboardInterrupt):
        fill(target, "2", fail=True)
    assert {p.name: p.read_text() for p in target.iterdir()} == {"a.txt": "1", "b.txt": "1"}
    assert names(tmp_path) == ["old"]


def test_a_folder_that_cannot_take_its_place_gives_it_back_to_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "model"
    fill(target, "1")
    put, calls = output._put, []

    def fail_once(source, destination):
        calls.append(destination)
        if len(calls) == 2:  # the old folder is aside, the new one about to come
            raise OutputError("the disk is gone")
        put(source, destination)

    monkeypatch.setattr(output, "_put", fail_once)
    with pytest.raises(OutputError, match="disk is gone"):
        fill(target, "2")
    assert (target / "b.txt").read_text() == "1"
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_folder_is_replaced_and_its_aim_left_alone(tmp_path):
    fill(tmp_path / "aim", "1")
    os.symlink(tmp_path / "aim", tmp_path / "link")  # noqa: PTH211
    fill(tmp_path / "link", "2")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link" / "a.txt").read_text() == "2"
    assert (tmp_path / "aim" / "a.txt").read_text() == "1"


def test_a_folder_may_take_the_place_of_a_file(tmp_path):
    (tmp_path / "x").write_text("a file")
    fill(tmp_path / "x", "1")
    assert names(tmp_path / "x") == ["a.txt", "b.txt"]


def as_pandas_writes(frame, path):
    frame.to_csv(path, index=False, encoding="utf-8-sig", lineterminator="\n")
    return path.read_bytes()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.floats() | st.floats(-2, 2) | st.integers(-9, 10**17).map(float)))
def test_a_csv_has_the_bytes_that_pandas_writes(tmp_path, numbers):
    values = np.array(numbers, dtype=float)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32).astype(float)
        frame = pd.DataFrame({"x": values, "y": single, "label": "é", "sum": values + single})
    write_frame(tmp_path / "t.csv", frame)
    assert (tmp_path / "t.csv").read_bytes() == as_pandas_writes(frame, tmp_path / "wanted.csv")


@pytest.mark.parametrize(
    "columns",
    [
        {"a": ["x", None, ""], "b": [None] * 3, "c": [1.5, np.nan, 2.0]},
        {"a": ['"x"', "x,y", "x\ny"], "b": [1.5, 2, 1e-7]},
        {"a": ["x", "y", "z"], "b": [1, 2, 3], "c": [True, False, True], "p(a,b)": np.float32([0.1, 0.2, 0.3])},
        {
            "a": pd.to_datetime(["2020-01-01", None, "2021-02-03"]),
            "b": [1, "x", None],
            "c": pd.Categorical(list("aba")),
        },
        {"a": ["", "x", None]},
        {"a": [], "b": []},
    ],
)
def test_a_csv_of_any_columns_is_that_of_pandas_also_in_parts(tmp_path, columns):
    frame = pd.DataFrame(columns)
    write_frame(tmp_path / "t.csv", frame)
    wanted = as_pandas_writes(frame, tmp_path / "wanted.csv")
    assert (tmp_path / "t.csv").read_bytes() == wanted
    with write_frames(tmp_path / "parts.csv") as write:
        write(frame.iloc[:2])
        write(frame.iloc[2:])
        assert not (tmp_path / "parts.csv").exists()
    assert (tmp_path / "parts.csv").read_bytes() == wanted


def test_json_round_trips_and_keeps_letters_readable(tmp_path):
    values = {"größe": [1, 2.5, None, "Æ <x>"]}
    write_json(tmp_path / "a.json", values)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == values
    assert "größe" in text


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"x": [float("nan"), (np.float64("inf"), 1.0)], "y": {"z": float("-inf")}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [None, [None, 1.0]], "y": {"z": None}}


def test_json_of_an_impossible_value_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert names(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_what_is_written_has_the_rights_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "weights.safetensors") as file:
            save_file({"w": np.zeros(2)}, file)  # makes files that only their owner can read
        with write_folder_atomically(tmp_path / "model") as folder:
            (folder / "deep").mkdir(mode=0o700)
            save_file({"w": np.zeros(2)}, folder / "deep" / "weights.safetensors")
        write_json(tmp_path / "new" / "a.json", 1)
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(found) == 6
    assert found == {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in found}


def show(capsys, monkeypatch, *, terminal, **options):
    """Go through five steps of a second each; return what stderr has."""
    clock = itertools.count(0, 30)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    assert list(progress_bar(range(5), "folds", "fold", **options)) == [0, 1, 2, 3, 4]
    return capsys.readouterr().err


def test_progress_is_a_bar_on_a_terminal_and_elsewhere_a_line_a_minute(capsys, monkeypatch):
    assert "\r" in show(capsys, monkeypatch, terminal=True)
    lines = show(capsys, monkeypatch, terminal=False)
    assert "\r" not in lines and 1 <= len(lines.splitlines()) <= 4
    assert all(re.fullmatch(r"folds: \d of 5 folds, .*folds?, .* gone, .* left", line) for line in lines.splitlines())


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_that_is_not_shown_writes_nothing(capsys, monkeypatch, terminal):
    assert show(capsys, monkeypatch, terminal=terminal, shown=False) == ""


def test_a_loop_that_is_gone_on_with_counts_what_was_done(capsys, monkeypatch):
    assert "of 12 folds" in show(capsys, monkeypatch, terminal=False, done=7)


def test_a_quick_loop_writes_no_line(capsys):
    with progress_bar(3, "embedding", "image") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
