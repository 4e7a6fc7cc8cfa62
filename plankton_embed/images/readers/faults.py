"""Faults of a source: collected while it is read, reported together, and written to a table."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.errors import InputError, OutputError
from plankton_embed.output import write_atomically

logger = logging.getLogger(__name__)

MOST_SHOWN = 20
MOST_EXAMPLES = 3  # files shown per kind
COLUMNS = ("file", "row", "column", "expected", "found", "outcome")


@dataclass(frozen=True)
class Fault:
    """One fault in a source.

    `row` is the line of the file, counted from 1. `kept` is true where only a cell was filled, corrected or emptied,
    and false where the row, the image or the file is left out. `remedy` is what to do.
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
    """The faults of a source.

    Args:
        source: the source that is read.
        keep_going: leave out faulty rows and files with a warning, instead of refusing the source.

    Attributes:
        found: all faults, in the order in which they were found.
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
        """Add a fault (see `Fault`)."""
        self.found.append(Fault(str(file), expected, found, row, column, kept, remedy))

    def add_cells(self, file: Path, table: pd.DataFrame, is_bad: pd.DataFrame, expected: Mapping[str, str]) -> None:
        """Add a fault for each cell of a mask; the index of the table is the line in the file, `expected` by column."""
        is_empty = table.isna()
        for row, column in np.argwhere(is_bad.to_numpy()):
            name = table.columns[column]
            found = "nothing" if is_empty.iat[row, column] else repr(str(table.iat[row, column]))
            self.add(file, expected[name], found, row=int(table.index[row]), column=name)

    def add_unreadable(self, paths: Sequence[str], reasons: Mapping[int, str], *, kept: bool = False) -> None:
        """Add a fault for each image that cannot be read.

        Args:
            paths: the paths of all images.
            reasons: row in `paths` -> why that image cannot be read.
            kept: whether these images stay in the catalog.
        """
        for row, reason in reasons.items():
            remedy = "later commands leave it out; copy the file again" if kept else ""
            self.add(paths[row], "an image that can be read", reason, kept=kept, remedy=remedy)

    @property
    def n_lost(self) -> int:
        """The number of rows, images and files that are left out."""
        return sum(not fault.kept for fault in self.found)

    @property
    def n_kept(self) -> int:
        """The number of faults by which no row, image or file is lost."""
        return len(self.found) - self.n_lost

    def report(self) -> None:
        """Report the faults since the last call: as warnings, or as an error where rows, images or files would be lost.

        Faults of one kind by which nothing is lost are one warning, with their number.

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
        """Return one row per fault: `file`, `row`, `column`, `expected`, `found`, and `outcome` (`lost` or `kept`)."""
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
        """Refuse to overwrite a file that is not a table of faults.

        Raises:
            OutputError: the file is something else.
        """
        if not Path(path).is_file():
            return
        with Path(path).open("rb") as file:
            start = file.readline(1000)
        names = start.removeprefix(codecs.BOM_UTF8).strip().replace(b";", b",")  # as Excel may have saved it
        if names != ",".join(COLUMNS).encode():
            raise OutputError(
                f"{path} exists already and is not a table of faults, but the faults are written there; choose "
                "another name for the output, or move that file"
            )

    def save(self, path: str | Path) -> None:
        """Write the faults as CSV (see `to_frame`); without faults, an earlier table of that name is deleted."""
        if not self.found:
            Path(path).unlink(missing_ok=True)
            return
        with write_atomically(path) as temporary:
            self.to_frame().to_csv(temporary, index=False, encoding="utf-8-sig")


def _describe(same: list[Fault]) -> str:
    """Return one line for faults of one kind: the first row or the first files, and the number of the others."""
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
