"""The journal: on the disk before it is answered, cut anywhere, locked, and about one set of vectors."""

import errno
import json
import os
import subprocess
import sys

import pytest

from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.decisions import read_journal
from plankton_embed.page.journal import Journal

KEEP = {"action": "keep", "object_ids": ["a"]}
RELABEL = {"action": "relabel", "object_ids": ["b", "c"], "label": "Méduse\u2028", "request": "r1"}


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "review" / "journal.jsonl", "key", "vectors.parquet")
    yield opened
    opened.close()


def reopen(journal):
    journal.close()
    return Journal(journal.path, "key")


def test_decisions_are_numbered_and_read_again(journal):
    first, second = journal.append(KEEP), journal.append(RELABEL)
    third = journal.append({"action": "undo", "of": 1})
    assert [line["n"] for line in (first, second, third)] == [1, 2, 3]
    assert first["at"].endswith("+00:00")
    lines = journal.path.read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[0]) == {
        "journal": "plankton_embed", "version": 1, "key": "key", "vectors": "vectors.parquet",
    }  # fmt: skip
    assert [json.loads(line) for line in lines[1:-1]] == [first, second, third]
    again = reopen(journal)
    assert again.decisions.lines == [first, second, third]
    assert again.append(KEEP)["n"] == 4
    again.close()


def test_a_line_is_on_the_disk_before_it_is_returned(journal, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append(read_journal(journal.path).decisions.lines[-1:]))
    line = journal.append(KEEP)
    assert synced == [[line]]  # the whole line had been written, and was not yet returned


def test_a_journal_cut_anywhere_goes_on_with_its_whole_lines(journal):
    for decision in (KEEP, RELABEL, {"action": "undo", "of": 2}):
        journal.append(decision)
    raw, lines = journal.path.read_bytes(), journal.decisions.lines
    ends = [position + 1 for position, byte in enumerate(raw) if byte == 10]
    journal.close()
    for length in range(len(raw)):
        journal.path.write_bytes(raw[:length])
        again = Journal(journal.path, "key")
        n_whole = sum(length >= end - 1 for end in ends[1:])
        assert again.decisions.lines == lines[:n_whole]
        again.append({"action": "delete", "object_ids": ["z"]})
        again.close()
        found = read_journal(journal.path)
        assert len(found.decisions) == n_whole + 1
        assert found.n_bytes == journal.path.stat().st_size


def test_a_second_review_is_refused_until_the_first_ends(journal):
    with pytest.raises(OutputError, match="open in another review; use its page or stop it"):
        Journal(journal.path, "key")
    code = "import sys; from plankton_embed.page.journal import Journal; Journal(sys.argv[1], 'key')"
    other = subprocess.run([sys.executable, "-c", code, str(journal.path)], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "open in another review" in other.stderr
    journal.append(KEEP)
    again = reopen(journal)
    assert len(again.decisions) == 1
    again.close()


def test_decisions_about_other_vectors_are_refused_and_kept(journal):
    journal.append(KEEP)
    journal.close()
    before = journal.path.read_bytes()
    with pytest.raises(InputError, match=r"1 decisions about other vectors \(key key, of vectors\.parquet\).*Rename"):
        Journal(journal.path, "other")
    assert journal.path.read_bytes() == before


def test_a_journal_without_decisions_takes_other_vectors(journal):
    journal.close()
    Journal(journal.path, "other key", "other").close()
    assert read_journal(journal.path).header["key"] == "other key"


def test_a_file_of_something_else_is_not_touched(tmp_path):
    for content in (b"object_id,action\n", b"notes without a line end", b"{}", b'{"journal": "other"}\n'):
        (tmp_path / "mine").write_bytes(content)
        with pytest.raises(InputError, match="whose first line is"):
            Journal(tmp_path / "mine", "key")
        assert (tmp_path / "mine").read_bytes() == content
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path, "key")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal.jsonl", "key")


def test_what_is_not_a_decision_is_not_written(journal):
    before = journal.path.read_bytes()
    for decision in (
        {"action": "burn", "object_ids": ["a"]}, {"action": "keep"}, {"action": "undo", "of": 1}, {"action": "undo"},
        {"action": "relabel", "object_ids": ["a"]},
    ):  # fmt: skip
        with pytest.raises(InputError, match="expected"):
            journal.append(decision)
    assert journal.path.read_bytes() == before
    assert len(journal.decisions) == 0


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_loses_the_decision_and_nothing_else(journal, monkeypatch, fails):
    journal.append(KEEP)
    before, write = journal.path.read_bytes(), os.write

    def fill(*given):
        if fails == "write":
            write(given[0], given[1][:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(f"os.{fails}", fill)
        with pytest.raises(OutputError, match="No space left on device; nothing was saved"):
            journal.append(RELABEL)
    assert journal.path.read_bytes() == before
    assert journal.append(RELABEL)["n"] == 2
    assert len(read_journal(journal.path).decisions) == 2


def test_a_journal_that_was_deleted_meanwhile_takes_no_decisions(journal):
    journal.path.rename(journal.path.with_name("moved"))
    with pytest.raises(OutputError, match="was moved or deleted; nothing was saved"):
        journal.append(KEEP)
    journal.path.write_text("another file")
    with pytest.raises(OutputError, match="was moved or deleted; nothing was saved"):
        journal.append(KEEP)
    assert len(read_journal(journal.path.with_name("moved")).decisions) == 0
