"""Reads the text of tables from any program: encodings, line ends, decimal commas, degrees, missing values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plankton_embed import spreadsheet
from plankton_embed.errors import InputError

SENTINEL = "a number of nines, which marks a missing value"
NINES = r"[-+]?(?:9{5,}(?:[.,][90]*)?|9{4}[.,]9[90]*)|-9{4}(?:[.,]0*)?"
DEGREES = re.compile(
    r"(?P<sign>[-+−]?)\s*(?P<degrees>\d+(?:[.,]\d+)?)\s*(?:[°º˚]\s*(?:(?P<minutes>\d+(?:[.,]\d+)?)\s*['′’]?\s*"
    r"(?:(?P<seconds>\d+(?:[.,]\d+)?)\s*(?:[\"″”]|''|′′)?)?)?)?\s*(?P<letter>[NSEW]?)"
)


def to_utf8(raw: bytes) -> bytes:
    """Return the text of a table in UTF-8 with line feeds; it may have any encoding that `spreadsheet.to_utf8` reads.

    Raises:
        InputError: it is empty, or not text.
    """
    raw = spreadsheet.to_utf8(raw)
    if not raw.strip():
        raise InputError("expected a table; the file is empty")
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def read_rows(
    lines: Sequence[str], delimiter: str, names: Sequence[str], index: NDArray[np.intp], dtype: Any = None
) -> pd.DataFrame:
    """Return lines of as many cells as there are names, all without quotes, as a table with an index."""
    options: dict[str, Any] = {"header": None, "quoting": csv.QUOTE_NONE, "low_memory": False, "dtype": dtype}
    table: pd.DataFrame = pd.read_csv(io.StringIO("\n".join(lines)), sep=delimiter, names=[*names], **options)
    table.index = pd.Index(index)
    return table


def to_numbers(text: pd.Series, decimal_comma: bool = True) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return text as numbers, and a mask of the values that are not numbers.

    Args:
        text: the values.
        decimal_comma: read commas as decimal signs, where all values are numbers that way.
    """
    text = text.astype(pd.StringDtype("pyarrow"))
    is_filled = text.notna().to_numpy()
    numbers = _convert(text)
    is_bad = is_filled & np.isnan(numbers)
    if (
        decimal_comma
        and is_bad.any()
        and text[is_bad].str.contains(",").all()
        and not text.str.contains(".", regex=False).any()
    ):
        with_points = _convert(text.str.replace(",", ".", regex=False))
        if not np.isnan(with_points[is_filled]).any():
            return with_points, np.zeros_like(is_bad)
    return numbers, is_bad


def find_sentinels(text: pd.Series, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which cells of a column mark a missing value: five or more nines and nothing else (999999), or -9999.

    `numbers` are the values of the cells, so that 9.99999e5 is found too.
    """
    is_nines = text.astype(pd.StringDtype("pyarrow")).str.fullmatch(NINES).fillna(False).to_numpy(dtype=bool)
    return np.asarray(is_nines | np.isin(np.abs(numbers), 10.0 ** np.arange(5, 16) - 1))


def to_degrees(text: pd.Series, letters: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return positions as decimal degrees, and a mask of the values that are not positions.

    Args:
        text: decimal degrees; or degrees, minutes and seconds as EcoTaxa reads them (`-1°30 0` is -1.5: the sign
            applies to the whole value), with or without marks, and with or without a letter of direction at the end.
        letters: the letters of the positive and of the negative direction, such as `NS`.
    """
    text = text.astype(pd.StringDtype("pyarrow"))
    is_marked = text.str.contains("[°º˚A-Za-z]").fillna(False).to_numpy(dtype=bool)
    numbers, is_bad = to_numbers(text.mask(is_marked))
    is_bad, numbers = is_bad | np.isinf(numbers), numbers.copy()
    codes, values = pd.factorize(text[is_marked])
    numbers[is_marked] = np.array([_to_decimal(str(value), letters) for value in values], dtype=np.float64)[codes]
    return numbers, is_bad | (is_marked & np.isnan(numbers))


def _to_decimal(text: str, letters: str) -> float:
    """Return degrees and minutes as decimal degrees; nan where the text is something else."""
    found = DEGREES.fullmatch(text.strip().upper())
    if found is None or (found["letter"] and (found["sign"] or found["letter"] not in letters)):
        return float("nan")
    parts = [float((found[name] or "0").replace(",", ".")) for name in ("degrees", "minutes", "seconds")]
    if max(parts[1:]) >= 60:
        return float("nan")
    value = parts[0] + parts[1] / 60 + parts[2] / 3600
    return -value if found["sign"] in ("-", "−") or found["letter"] == letters[1] else value


def to_objects(text: pd.Series) -> NDArray[np.object_]:
    """Return text as Python strings, None where it is missing."""
    objects: NDArray[np.object_] = text.to_numpy(dtype=object).copy()
    objects[text.isna().to_numpy()] = None
    return objects


def _convert(text: pd.Series) -> NDArray[np.float64]:
    try:
        return np.asarray(pc.cast(pa.array(text, pa.string()), pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return np.asarray(pd.to_numeric(pd.Series(to_objects(text)), errors="coerce"), dtype=np.float64)
