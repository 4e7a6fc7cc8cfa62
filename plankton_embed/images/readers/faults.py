"""Faults of a source: gathered while it is read, reported at once, and written to a table."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from plankton_embed.errors import InputError, OutputError
from plankton_embed.output import write_atomically

logger = logging.getLogger(__name__)

MOST_SHOWN = 20
MOST_EXAMPLES = 3  # files shown of one kind
COLUMNS = ("file", "row", "column", "expected", "found", "outcome")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a source.

    `row` is the line of the file, counted from 1. `kept` is true where only a cell was filled, corrected or emptied,
    and false where the row, the image or the file is left out. `remedy` says what to do.
    """

    file: str
    expected: str
    found: str
    row: int | None = None
    column: str | None = None
    kept: bool = False
    remedy: str = ""

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        column = "" if self.column is None else f", column {self.column}"
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.file}{row}{column}: expected {self.expected}; found {self.found}{remedy}"


@dataclass
class Faults:
    """What is wrong in a source.

    Args:
        source: what is read.
        keep_going: leave out faulty rows and files with a warning, instead of refusing the source.

    Attributes:
        found: the faults, in the order in which they were found.
    """

    source: str | Path = ""
    keep_going: bool = False
    found: list[Fault] = field(default_factory=list)
    _n_reported: int = 0

    def add(
        self,
        file: str | Path,
        expected: str,
        found: str,
        *,
        row: int | None = None,
        column: str | None = None,
        kept: bool = False,
        remedy: str = "",
    ) -> None:
        """Note a fault (see `Fault`)."""
        self.found.append(Fault(str(file), expected, found, row, column, kept, remedy))

    def add_unreadable(self, paths: Sequence[str], reasons: Mapping[int, str], *, kept: bool = False) -> None:
        """Note the images that cannot be read: of the paths those at some rows, each with its reason.

        Args:
            paths: of all images.
            reasons: row -> reason.
            kept: whether the images stay in the catalog.
        """
        for row, reason in reasons.items():
            remedy = "later commands leave it out; copy it again" if kept else ""
            self.add(paths[row], "an image that can be read", reason, kept=kept, remedy=remedy)

    @property
    def n_lost(self) -> int:
        """How many rows, images and files are left out."""
        return sum(not fault.kept for fault in self.found)

    @property
    def n_kept(self) -> int:
        """How many faults cost no row, image or file."""
        return len(self.found) - self.n_lost

    def report(self) -> None:
        """Report the faults found since the last call: as warnings, or as an error where something would be lost.

        Faults of one kind that lose nothing are one warning, with their count.

        Raises:
            InputError: rows, images or files would be lost, and `keep_going` is false.
        """
        new, self._n_reported = self.found[self._n_reported :], len(self.found)
        lost, kept = [fault for fault in new if not fault.kept], [fault for fault in new if fault.kept]
        kinds: dict[tuple[str | None, str | None, str, str], list[Fault]] = {}
        for fault in kept:
            table = None if fault.row is None else fault.file
            kinds.setdefault((table, fault.column, fault.expected, fault.remedy), []).append(fault)
        kept_lines = [_describe(same) for same in kinds.values()]
        lost_lines = [str(fault) for fault in lost]
        if lost and not self.keep_going:
            count = f"{len(lost)} faults" if len(lost) > 1 else "a fault"
            raise InputError(
                "\n  ".join([f"{self.source} has {count}; catalog --keep-going reads what is good:", *_cut(lost_lines)])
            )
        for line in _cut(lost_lines):
            logger.warning("left out: %s", line)
        for line in _cut(kept_lines):
            logger.warning("kept: %s", line)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a fault: `file`, `row`, `column`, `expected`, `found`, and `outcome`, `lost` or `kept`."""
        rows = [
            (
                *(fault.file, fault.row, fault.column, fault.expected),
                fault.found + (f"; {fault.remedy}" if fault.remedy else ""),
                "kept" if fault.kept else "lost",
            )
            for fault in self.found
        ]
        return pd.DataFrame(rows, columns=[*COLUMNS]).astype({"row": "Int64"})

    @staticmethod
    def refuse_foreign(path: str | Path) -> None:
        """Refuse to write where there is another table than one of faults.

        Raises:
            OutputError: there is one.
        """
        if not Path(path).is_file():
            return
        with Path(path).open("rb") as file:
            start = file.readline(1000)
        names = start.removeprefix(codecs.BOM_UTF8).strip().replace(b";", b",")  # as Excel may have saved it
        if names != ",".join(COLUMNS).encode():
            raise OutputError(
                f"{path} exists already and is not a table of faults, which would be written there; choose another "
                "name for the output, or move that file"
            )

    def save(self, path: str | Path) -> None:
        """Write the faults as CSV (see `to_frame`); without faults, an earlier table of that name is removed."""
        if not self.found:
            Path(path).unlink(missing_ok=True)
            return
        with write_atomically(path) as temporary:
            self.to_frame().to_csv(temporary, index=False, encoding="utf-8-sig")


def _describe(same: list[Fault]) -> str:
    """Return one line for faults of one kind: the first row of a table, or the first files, and how many more."""
    first, n_files = same[0], len({fault.file for fault in same})
    if n_files == 1:
        n_more = len(same) - 1
        return str(first) + (f" (and {n_more} more such row{'s' if n_more > 1 else ''})" if n_more else "")
    column = "" if first.column is None else f", column {first.column}"
    remedy = f"; {first.remedy}" if first.remedy else ""
    found = [f"{fault.file}: {fault.found}" for fault in same[:MOST_EXAMPLES]]
    more = [f"and {len(same) - len(found)} more"] if len(same) > len(found) else []
    return "\n  ".join([f"{len(same)} files{column}: expected {first.expected}{remedy}; found", *found, *more])


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_SHOWN:
        return lines
    return [*lines[:MOST_SHOWN], f"and {len(lines) - MOST_SHOWN} more"]
