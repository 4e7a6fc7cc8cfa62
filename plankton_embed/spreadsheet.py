"""Tables that a person has filled in, as a spreadsheet program saves them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from plankton_embed.errors import InputError, OutputError


def read_text(path: str | Path, what: str) -> str:
    """Return the text of a file in UTF-8 or Latin-1; `what` is what an error calls it.

    Raises:
        InputError: there is no such file, it cannot be read, or it is no text.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    if b"\0" in raw:
        raise InputError(f"{path}: expected text in UTF-8; found a zero byte at {raw.index(0)}; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def refuse_filled_in(path: str | Path, column: str, untouched: str) -> None:
    """Refuse to replace a table, where it is there, in which a person has filled in the column.

    Raises:
        OutputError: the column holds something else than `untouched`, as it was written.
    """
    if Path(path).is_file() and (read_spreadsheet(path, Path(path).name, (column,))[column] != untouched).any():
        raise OutputError(f"{path} was filled in, so it is not replaced; choose another folder, or delete it")


def find_delimiter(text: str) -> str:
    """Return what parts the columns of a CSV: comma, semicolon or tab, whichever its first line has most of."""
    return max(",;\t", key=text.lstrip(" \r\n").split("\n", 1)[0].count)


def read_spreadsheet(path: str | Path, what: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV, all of it as text without outer blanks; empty rows are left out.

    Args:
        path: a file whose columns are parted by comma, semicolon or tab.
        what: what an error calls it.
        columns: that it must have.

    Raises:
        InputError: as `read_text`; a row is longer than the first, or a column is missing.
    """
    text = read_text(path, what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                io.StringIO(text), dtype=str, sep=find_delimiter(text), keep_default_na=False, index_col=False
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        raise InputError(
            f"{what} {path} cannot be read as CSV: {error}; cells that hold the delimiter take quotes"
        ) from error
    frame = frame.fillna("").rename(columns=str.strip).apply(lambda column: column.str.strip())
    missing = [name for name in columns if name not in frame]
    if missing:
        raise InputError(
            f"{what} {path}: expected the columns {', '.join(columns)}; {', '.join(missing)} is missing; "
            f"found {', '.join(frame.columns)}"
        )
    filled: pd.DataFrame = frame.replace("", pd.NA).dropna(how="all").fillna("")
    return filled.reset_index(drop=True)
