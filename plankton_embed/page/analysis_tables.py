"""Tables of a run's analyses, read for the page: a damaged one gives one warning and is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.page.images import PageImages
from plankton_embed.spreadsheet import read_spreadsheet

logger = logging.getLogger(__name__)


def leave_out_damaged(read: Callable[[], dict[str, Any] | None], level: int = logging.WARNING) -> dict[str, Any] | None:
    """Return what `read` returns; None, with one log message, if a table it reads is damaged or of other images."""
    try:
        return read()
    except InputError as error:
        logger.log(level, "left out of the page: %s", error)
        return None


def read_table(path: Path, text: Sequence[str], numbers: Sequence[str] = (), optional: str = "") -> pd.DataFrame:
    """Read a table that a command wrote.

    Args:
        path: a CSV.
        text: columns that it must have.
        numbers: further columns that it must have, as float64; empty cells are nan.
        optional: a regular expression; columns with such a name are numbers too, where they exist.

    Raises:
        InputError: the file or a column is missing, or a cell is not a number.
    """
    frame = read_spreadsheet(path, path.name, (*text, *numbers))
    chosen = [*numbers, *(frame.columns[frame.columns.str.fullmatch(optional)] if optional else ())]
    for name in dict.fromkeys(chosen):
        values = pd.to_numeric(frame[name].replace("", np.nan), errors="coerce").astype("float64")
        wrong = (values.isna() & ~frame[name].str.casefold().isin(["", "nan"])).to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{path}, column {name}: expected numbers; found {frame[name].iloc[row]!r} in row {row + 2}; write the "
                "table again with its command"
            )
        frame[name] = values
    return frame


def find_rows(images: PageImages, object_ids: Iterable[str], path: Path) -> NDArray[np.intp]:
    """Return the rows of images by their ids, -1 where an image is not on the page.

    Raises:
        InputError: there are ids, and none is on the page.
    """
    ids = pd.Index(list(object_ids), dtype=object)
    rows = pd.Index(images.table.object_id).get_indexer(ids)
    if len(rows) and (rows < 0).all():
        raise InputError(
            f"{path}: expected the object_id of images of this page; found only others, such as {ids[0]}; write the "
            "table again from these images"
        )
    return np.asarray(rows, dtype=np.intp)


def list_values(values: Iterable[Any]) -> list[Any]:
    """Return numbers and text as plain values; None for missing ones and for infinite numbers."""
    found = [value.item() if isinstance(value, np.generic) else value for value in values]
    return [
        None if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value for value in found
    ]
