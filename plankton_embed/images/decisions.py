"""Decisions about images that a person made in the page of `review`: its journal, and what now holds for each image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from plankton_embed.errors import InputError

ACTIONS = ("keep", "relabel", "delete")
UNDO = "undo"
COLUMNS = ("object_id", "action", "label", "reason")
JOURNAL, VERSION = "plankton_embed", 1  # of the first line
FIRST_LINE = '{"journal": "plankton_embed", "version": 1, …}'
LONGEST_SHOWN = 80  # characters of a line in an error

Decision = dict[str, Any]


class Decisions:
    """Decisions in their order, undone ones too, and the one that now holds for each image.

    A decision is `{"n": 1, "action": "relabel", "object_ids": ["a"], "label": "copepod"}` with, optionally, `at`,
    `cluster` (the number of a group) and `request` (an id that its sender gave it); `keep` and `delete` have no label.
    `{"n": 2, "action": "undo", "of": 1}` takes decision 1 back. Of several decisions about an image, the last holds.

    Attributes:
        lines: all decisions.
    """

    def __init__(self, lines: Iterable[Decision] = ()) -> None:
        self.lines: list[Decision] = []
        self._numbers: dict[str, list[int]] = {}  # object id -> its decisions that are not undone
        self._in_force: dict[int, None] = {}  # an ordered set
        for line in lines:
            self.add(line)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def n_in_force(self) -> int:
        """The number of decisions that are not undone."""
        return len(self._in_force)

    @property
    def last(self) -> int | None:
        """The number of the last decision that is not undone; None if there is none."""
        return next(reversed(self._in_force), None)

    @property
    def object_ids(self) -> list[str]:
        """The images for which a decision holds."""
        return list(self._numbers)

    def add(self, decision: Decision) -> list[str]:
        """Add a decision; return the ids of its images, or of those of the decision that it takes back.

        Raises:
            InputError: it is not a decision, or not the next one.
        """
        self.check(decision)
        number = decision["n"]
        if decision["action"] == UNDO:
            undone = decision["of"]
            del self._in_force[undone]
            changed: list[str] = self.lines[undone - 1]["object_ids"]
            for object_id in changed:
                self._numbers[object_id].remove(undone)
                if not self._numbers[object_id]:
                    del self._numbers[object_id]
        else:
            self._in_force[number] = None
            changed = decision["object_ids"]
            for object_id in changed:
                self._numbers.setdefault(object_id, []).append(number)
        self.lines.append(decision)
        return list(changed)

    def check(self, decision: Decision) -> None:
        """Make sure that a value can be added; errors as `add`."""
        check_decision(decision, len(self.lines) + 1)
        if decision["action"] == UNDO and decision["of"] not in self._in_force:
            raise InputError(f"of: expected the number of a decision that is not undone; found {decision['of']}")

    def of(self, object_id: str) -> Decision | None:
        """Return the decision that holds for an image; None if there is none."""
        numbers = self._numbers.get(object_id)
        return self.lines[numbers[-1] - 1] if numbers else None

    def last_of(self, object_id: str) -> int:
        """Return the number of the decision that holds for an image; 0 if there is none."""
        numbers = self._numbers.get(object_id)
        return numbers[-1] if numbers else 0

    def is_undone(self, number: int) -> bool:
        """Return whether this is a decision that was taken back."""
        return (
            0 < number <= len(self.lines) and number not in self._in_force and self.lines[number - 1]["action"] != UNDO
        )

    def to_frame(self) -> pd.DataFrame:
        """Return what now holds, as rows of `corrections.csv`: `object_id`, `action`, `label` and `reason`."""
        rows = []
        for object_id, numbers in sorted(self._numbers.items(), key=lambda item: item[1][-1]):
            decision = self.lines[numbers[-1] - 1]
            reason = f"group {decision['cluster']}" if "cluster" in decision else ""
            rows.append((object_id, decision["action"], decision.get("label", ""), reason))
        return pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")


@dataclass(frozen=True)
class JournalText:
    """What a journal contains: its first line, its decisions, and the size of both in bytes.

    The bytes after `n_bytes` are a last line that was cut when its writer was killed, before it was answered.
    """

    header: Mapping[str, Any]
    decisions: Decisions
    n_bytes: int


def check_decision(decision: Any, number: int) -> None:
    """Make sure that a value is the decision of this number, and each of its fields of the right kind.

    Raises:
        InputError: it is not; the message shows what was expected and found.
    """
    if not isinstance(decision, dict):
        raise InputError(f'expected a decision, such as {{"n": {number}, …}}; found {_short(decision)}')
    found = decision.get("n")
    if type(found) is not int or found != number:
        raise InputError(f"expected the decision with the number {number}; found {_short(found)}")
    action = decision.get("action")
    if action == UNDO:
        if type(decision.get("of")) is not int:
            raise InputError(f"of: expected the number of a decision; found {_short(decision.get('of'))}")
        return
    if action not in ACTIONS:
        raise InputError(f"action: expected {', '.join(ACTIONS)} or {UNDO}; found {_short(action)}")
    ids = decision.get("object_ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
        raise InputError(f"object_ids: expected a list of texts, at least one; found {_short(ids)}")
    if len(set(ids)) < len(ids):
        raise InputError("object_ids: expected each image once; found one twice")
    label = decision.get("label")
    if action == "relabel" and not (isinstance(label, str) and label):
        raise InputError(f"label: expected the new class name; found {_short(label)}")
    if action != "relabel" and label is not None:
        raise InputError(f"label: it is for relabel only; found {_short(label)} with {action}")
    if type(decision.get("cluster", 0)) is not int:
        raise InputError(f"cluster: expected the number of a group; found {_short(decision['cluster'])}")
    if not isinstance(decision.get("request", ""), str):
        raise InputError(f"request: expected text; found {_short(decision['request'])}")


def is_journal(path: str | Path) -> bool:
    """Return whether a file is a journal, by its first line."""
    try:
        with Path(path).open("rb") as file:
            return _read_header(file.readline(1 << 16)) is not None
    except OSError:
        return False


def read_journal(path: str | Path) -> JournalText:
    """Read the journal of a page.

    Raises:
        InputError: it does not exist or is not a journal, or a line other than a last one that was cut is damaged.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"journal {path} does not exist") from error
    except OSError as error:
        raise InputError(f"journal {path} cannot be read: {error.strerror or error}") from error
    return parse_journal(raw, path)


def parse_journal(raw: bytes, path: str | Path) -> JournalText:
    """Read the text of a journal; errors as `read_journal`."""
    *lines, rest = raw.split(b"\n")
    whole = bool(rest) and _parse(rest) is not None
    if whole:  # only its line end was cut
        lines.append(rest)
    header = _read_header(lines[0]) if lines else None
    if header is None:
        raise InputError(
            f"{path}: expected the journal of review, whose first line is {FIRST_LINE}; found "
            f"{_short((lines or [rest])[0].decode(errors='replace'))}"
        )
    version = header.get("version")
    if type(version) is not int or version > VERSION:
        raise InputError(
            f"{path}: expected a journal of version {VERSION}; found {_short(version)}; use a newer release"
        )
    decisions = Decisions()
    for number, line in enumerate(lines[1:], 2):
        try:
            decision = _parse(line)
            if decision is None:
                raise InputError(f"expected a decision as JSON; found {_short(line.decode(errors='replace'))}")
            decisions.add(decision)
        except InputError as error:
            raise InputError(
                f"{path}, line {number}: {error}; the decisions above that line can be used: copy them, with the first "
                "line, to another file"
            ) from error
    return JournalText(header, decisions, sum(len(line) + 1 for line in lines) - whole)


def read_decisions(path: str | Path) -> pd.DataFrame:
    """Return what now holds by a journal: `object_id`, `action` (keep, relabel, delete), `label` and `reason`.

    Raises:
        InputError: as `read_journal`.
    """
    return read_journal(path).decisions.to_frame()


def _read_header(line: bytes) -> dict[str, Any] | None:
    header = _parse(line)
    return header if header is not None and header.get("journal") == JOURNAL else None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
