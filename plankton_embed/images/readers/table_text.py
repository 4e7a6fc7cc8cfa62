"""The text of a table from any program: its encoding, its line ends and its decimal commas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plankton_embed.errors import InputError


def to_utf8(raw: bytes) -> bytes:
    """Return the text of a table in UTF-8 with line feeds, from UTF-8 or Latin-1 with line ends of any kind.

    Raises:
        InputError: it is empty, or no text.
    """
    if b"\0" in raw:
        raise InputError("expected text in UTF-8 or Latin-1; found a zero byte; save it as UTF-8")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        raise InputError("expected a table; the file is empty")
    try:
        raw.decode()
    except UnicodeDecodeError:
        raw = raw.decode("latin-1").encode()
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def to_numbers(text: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return text as numbers, and which values are none; a comma is decimal where it makes numbers of them all."""
    text = text.astype(pd.StringDtype("pyarrow"))
    is_filled = text.notna().to_numpy()
    numbers = _convert(text)
    is_bad = is_filled & np.isnan(numbers)
    if is_bad.any() and text[is_bad].str.contains(",").all() and not text.str.contains(".", regex=False).any():
        mended = _convert(text.str.replace(",", ".", regex=False))
        if not np.isnan(mended[is_filled]).any():
            return mended, np.zeros_like(is_bad)
    return numbers, is_bad


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
