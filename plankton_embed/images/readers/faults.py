"""Faults of a source: gathered while it is read, then told at once, or passed over."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from plankton_embed.errors import InputError

logger = logging.getLogger(__name__)

MOST_TOLD = 20


@dataclass
class Faults:
    """What is wrong in a source.

    Args:
        source: what is read.
        keep_going: pass over faulty rows and files with a warning, instead of refusing the source.
    """

    source: str | Path
    keep_going: bool = False
    found: list[str] = field(default_factory=list)

    def add(self, file: str | Path, what: str, row: int | None = None, column: str | None = None) -> None:
        """Note a fault; `row` is the line of the file, from 1, `what` says what was expected and found."""
        place = f"{file}" + (f", row {row}" if row is not None else "") + (f", column {column}" if column else "")
        self.found.append(f"{place}: {what}")

    def settle(self) -> None:
        """Tell the faults: as warnings where the good rows are wanted, else as an error.

        Raises:
            InputError: there are faults, and `keep_going` is false.
        """
        if not self.found:
            return
        told = self.found[:MOST_TOLD]
        if len(self.found) > MOST_TOLD:
            told.append(f"and {len(self.found) - MOST_TOLD} more")
        if not self.keep_going:
            count = f"{len(self.found)} faults" if len(self.found) > 1 else "a fault"
            raise InputError(
                "\n  ".join([f"{self.source} has {count}; catalog --keep-going reads what is good:", *told])
            )
        for line in told:
            logger.warning("passed over: %s", line)
