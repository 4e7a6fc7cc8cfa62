"""The text of a table from any program: its encoding, its line ends and its decimal commas."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plankton_embed import spreadsheet
from plankton_embed.errors import InputError

NINES = r"[-+]?(?:9{5,}(?:[.,][90]*)?|9{4}[.,]9[90]*)|-9{4}(?:[.,]0*)?"
DEGREES = re.compile(
    r"(?P<sign>[-+−]?)\s*(?P<degrees>\d+(?:[.,]\d+)?)\s*(?:[°º˚]\s*(?:(?P<minutes>\d+(?:[.,]\d+)?)\s*['′’]?\s*"
    r"(?:(?P<seconds>\d+(?:[.,]\d+)?)\s*(?:[\"″”]|''|′′)?)?)?)?\s*(?P<letter>[NSEW]?)"
)


def to_utf8(raw: bytes) -> bytes:
    """Return the text of a table in UTF-8 with line feeds, from line ends and encodings as `spreadsheet.to_utf8`.

    Raises:
        InputError: it is empty, or no text.
    """
    raw = spreadsheet.to_utf8(raw)
    if not raw.strip():
        raise InputError("expected a table; the file is empty")
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def to_numbers(text: pd.Series, decimal_comma: bool = True) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return text as numbers, and which values are none.

    Args:
        text: the values.
        decimal_comma: a comma is decimal where it makes numbers of them all.
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
        mended = _convert(text.str.replace(",", ".", regex=False))
        if not np.isnan(mended[is_filled]).any():
            return mended, np.zeros_like(is_bad)
    return numbers, is_bad


def find_sentinels(text: pd.Series, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which cells of a column hold five or more nines and nothing else, such as 999999: nothing was measured.

    -9999 is one too. `numbers` are those of the cells, in which 9.99999e5 is seen.
    """
    is_nines = text.astype(pd.StringDtype("pyarrow")).str.fullmatch(NINES).fillna(False).to_numpy(dtype=bool)
    return np.asarray(is_nines | np.isin(np.abs(numbers), 10.0 ** np.arange(5, 16) - 1))


def to_degrees(text: pd.Series, letters: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return positions as decimal degrees, and which values are none.

    Args:
        text: decimal degrees; or degrees, minutes and seconds as EcoTaxa reads them (`-1°30 0` is -1.5: the sign holds
            for the whole value), with or without marks and a letter of direction behind.
        letters: the positive and the negative direction, such as `NS`.
    """
    text = text.astype(pd.StringDtype("pyarrow"))
    is_marked = text.str.contains("[°º˚A-Za-z]").fillna(False).to_numpy(dtype=bool)
    numbers, is_bad = to_numbers(text.mask(is_marked))
    is_bad, numbers = is_bad | np.isinf(numbers), numbers.copy()
    codes, values = pd.factorize(text[is_marked])
    numbers[is_marked] = np.array([_to_decimal(str(value), letters) for value in values], dtype=np.float64)[codes]
    return numbers, is_bad | (is_marked & np.isnan(numbers))


def _to_decimal(text: str, letters: str) -> float:
    """Return degrees and minutes as decimal degrees; nan where they are none."""
    found = DEGREES.fullmatch(text.strip().upper())
    if found is None or (found["letter"] and (found["sign"] or found["letter"] not in letters)):
        return float("nan")
    parts = [float((found[name] or "0").replace(",", ".")) for name in ("degrees", "minutes", "seconds")]
    if max(parts[1:]) >= 60:
        return float("nan")
    value = parts[0] + parts[1] / 60 + parts[2] / 3600
    return -value if found["sign"] in ("-", "−") or found["letter"] == letters[1] else value


def to_objects(text: pd.Series) -> NDArray[np.object_]:
    """Return text as Python's, None where empty."""
    objects: NDArray[np.object_] = text.to_numpy(dtype=object).copy()
    objects[text.isna().to_numpy()] = None
    return objects


def _convert(text: pd.Series) -> NDArray[np.float64]:
    try:
        return np.asarray(pc.cast(pa.array(text, pa.string()), pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return np.asarray(pd.to_numeric(pd.Series(to_objects(text)), errors="coerce"), dtype=np.float64)
