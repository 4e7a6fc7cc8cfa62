"""Reads and writes the table of a catalog as CSV and Parquet."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plankton_embed.errors import InputError
from plankton_embed.images.readers.faults import Faults
from plankton_embed.spreadsheet import (
    DECIMAL_COMMA,
    MISSING,
    THOUSANDS,
    drop_points,
    is_text,
    list_lines,
    parse_table,
    read_decimal_commas,
    read_header,
    read_raw,
    to_text,
)

TEXT_COLUMNS = (  # a class or a sample may be called NA or 007
    *("object_id", "path", "label", "unvalidated_label", "split", "sample_id", "lineage", "annotation_status"),
    "ecotaxa_id",
    *("img_file_name", "category_id", "acq_id", "process_id", "objid", "ifcb_bin", "correction_label", "contradicts"),
)
METADATA_COLUMNS = {
    "latitude": "degrees north",
    "longitude": "degrees east",
    "time": "ISO 8601, in UTC where the source gives it",
    "depth_min": "m",
    "depth_max": "m",
    "pixel_size": "µm per pixel",
    "volume": "m³ of water that the sample represents",
    "volume_of": "what was measured: sea water, or fluid that was run",
    "subsample_factor": "sample / imaged part",
    "size_unit": "unit of areas and axes: px, um or unknown; pixels where the column is missing",
}
NUMBER_COLUMNS = (*(name for name in METADATA_COLUMNS if name not in ("time", "volume_of", "size_unit")),)
NUMBER = "a number such as 1234.5"
FEATURE_PREFIX = "feature_"  # of the names of all columns with numeric features
STR = pd.Series(dtype="str").dtype  # object before pandas 3
ASCII_BLANKS = "".join(filter(str.isspace, map(chr, range(128))))
N_ROWS_AT_ONCE = 50_000  # when a CSV is written


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a CSV with quotes around all text, so that line ends in it are kept; byte for byte the output of pandas.

    Columns of text, numbers and booleans are written much faster than by pandas, which writes frames with others.
    """
    header = frame.iloc[:0].to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    with Path(path).open("wb") as file:
        file.write(header.encode())
        for start in range(0, len(frame), N_ROWS_AT_ONCE):
            rows = frame.iloc[start : start + N_ROWS_AT_ONCE]
            cells = [_to_cells(rows.iloc[:, number]) for number in range(rows.shape[1])]
            if not cells or any(cell is None for cell in cells):
                break
            lines = join_values(join_values(*cells, between=","), os.linesep)
            whole = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), pa.scalar("", lines.type))
            file.write(whole[0].as_buffer())
        else:
            return
    frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


def clean_text(column: pd.Series, clean: Callable[[str], str] = str.strip) -> pd.Series:
    """Return a column as text, each value cleaned; empty text and every kind of missing value is missing.

    Args:
        column: values of any kind.
        clean: removes outer blanks; it must not change ASCII text without outer blanks.
    """
    text = to_arrow(column)
    if text is None:
        values = column.astype(object)  # to_numpy turns a category 0 into 0.0 where another value is missing
        return pd.Series(to_text(values, clean), dtype="str")
    plain = pc.and_(pc.string_is_ascii(text), pc.equal(text, pc.ascii_trim(text, ASCII_BLANKS)))
    to_clean = pc.fill_null(pc.or_(pc.invert(plain), pc.equal(text, "")), False)
    new = [clean(value) or None for value in text.filter(to_clean).to_pylist()]
    return from_arrow(pc.replace_with_mask(text, to_clean, pa.array(new, text.type)))


def holds_numbers(column: str) -> bool:
    """Return whether a column of this name contains measured numbers."""
    return column.strip() in NUMBER_COLUMNS or column.strip().startswith(FEATURE_PREFIX)


def clean_numbers(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return a column of text as numbers, and the values that are not numbers, indexed by row."""
    text = clean_text(column)
    text = text.mask(text.isin(MISSING))
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers.astype("float64"), text[numbers.isna() & text.notna()]


def keep_whole(column: pd.Series) -> pd.Series:
    """Return a column as whole numbers if all its numbers are whole and some cells are empty; any other unchanged."""
    if not column.isna().any():
        return column
    values = column.dropna().to_numpy(dtype=np.float64)
    is_whole = len(values) > 0 and bool(((values == np.trunc(values)) & (np.abs(values) < 2**53)).all())
    return column.astype("Int64") if is_whole else column


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table (see `to_frame`)."""
    return to_frame(pq.read_table(path))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table of Arrow; whole numbers keep all digits beside empty cells, where pandas would make floats."""
    table = table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])  # of pandas
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for field in table.schema:
        if pa.types.is_integer(field.type) and table[field.name].null_count and not holds_numbers(field.name):
            column = table[field.name].cast(pa.uint64() if pa.types.is_unsigned_integer(field.type) else pa.int64())
            missing = np.array(column.is_null().to_numpy())
            frame[field.name] = pd.arrays.IntegerArray(np.array(column.fill_null(0).to_numpy()), missing)
    return frame


def read_csv(path: Path, faults: Faults) -> pd.DataFrame:
    """Read text columns as text (a class may be called NA), the others with the types that pandas finds."""
    raw = read_raw(path, "catalog")
    try:
        frame = _parse_csv(raw, path)
    except InputError as error:
        raise InputError(f"catalog {path} cannot be read: {error}") from error
    return _read_numbers(frame, raw, path, faults)


def _parse_csv(raw: bytes, path: Path) -> pd.DataFrame:
    columns, _ = read_header(raw)
    as_text: dict[Any, Any] = {c: str for c in columns if c.strip() in TEXT_COLUMNS}
    options: dict[str, Any] = {"na_values": {c: MISSING for c in columns if c not in as_text}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.DtypeWarning)
        try:  # in pieces: fast, and right where a column has one type in all pieces
            frame = parse_table(raw, path, dtype=as_text, **options)
            numbers = frame.select_dtypes("number")
            if not ((numbers.max() >= 2**53) | (numbers.min() <= -(2**53))).any():
                return frame
        except pd.errors.DtypeWarning:
            pass
    frame = parse_table(raw, dtype=as_text, low_memory=False, **options)
    floats = frame.select_dtypes("float").abs().max() >= 2**53  # whole numbers beside empty cells may have lost digits
    longest = [column for column in floats.index[floats] if not holds_numbers(column)]
    if longest:
        text = parse_table(raw, dtype=str, **options)
        for column in longest:
            if text[column].dropna().str.fullmatch(r"-?\d+").all():
                frame[column] = text[column]
                with suppress(ValueError, OverflowError):  # longer than 64 bits: keep the text
                    frame[column] = text[column].astype("Int64")
    return frame


def _read_numbers(frame: pd.DataFrame, raw: bytes, path: Path, faults: Faults) -> pd.DataFrame:
    """Read whole numbers written as floats in columns of text, and numbers with a decimal comma in the others.

    Beside decimal commas, numbers such as 1.234 are faults, and so are the cells of such a column that are not numbers
    with a comma; the cells are emptied.
    """
    _, delimiter = read_header(raw)
    with_commas: list[str] = []
    doubtful: dict[str, pd.Series] = {}
    for column in map(str, frame):
        if column.strip() in TEXT_COLUMNS:
            frame[column] = drop_points(frame[column], raw)
            continue
        numbers = read_decimal_commas(frame[column], delimiter)
        if numbers is None and holds_numbers(column) and delimiter != "," and is_text(frame[column]):
            filled = frame[column].dropna().str.strip()
            odd = filled[(filled != "") & ~filled.str.fullmatch(DECIMAL_COMMA)]
            if len(odd) < filled.drop(odd.index).str.contains(",", regex=False).sum():
                numbers = read_decimal_commas(frame[column].mask(frame.index.isin(odd.index)), delimiter)
                doubtful |= {} if numbers is None else {column: odd}
        if numbers is not None:
            frame[column] = numbers
            with_commas.append(column)
    if with_commas:  # 1.234 may mean 1234 there
        points = [str(c) for c in frame.select_dtypes("float") if c not in with_commas]
        text = parse_table(raw, dtype=str)[points]
        for column in points:
            filled = text[column][text[column].str.contains(".", regex=False)].str.strip()
            if len(filled) and filled.str.fullmatch(THOUSANDS).all():
                doubtful[column] = filled
    lines = list_lines(raw) if doubtful else []
    for column, cells in doubtful.items():
        beside = (
            f"beside the decimal commas of the column {(column if column in with_commas else with_commas[0]).strip()}"
        )
        beside += "; the cell is read as empty" * faults.keep_going
        for row, cell in cells.items():
            faults.add(
                *(path, NUMBER, f"{cell!r} {beside}"),
                row=lines[int(str(row))],
                column=column.strip(),
                kept=faults.keep_going,
                remedy="use one decimal sign for all numbers",
            )
        frame[column] = frame[column].mask(frame.index.isin(cells.index))
    faults.report()
    return frame


def to_arrow(column: pd.Series) -> Any:
    """Return a column as Arrow text; None if it is not text."""
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        return None
    try:
        text = pa.Array.from_pandas(column)
    except (TypeError, ValueError, OverflowError, pa.ArrowException):  # mixed types, or text that is not UTF-8
        return None
    text = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    return text.cast(pa.large_string()) if text.type in (pa.string(), pa.large_string(), pa.null()) else None


def from_arrow(text: Any) -> pd.Series:
    """Return Arrow text as a column of the pandas type `str`."""
    column: pd.Series = text.to_pandas(types_mapper=lambda _: STR if isinstance(STR, pd.StringDtype) else None)
    return column


def join_values(*parts: Any, between: str = "") -> Any:
    """Concatenate columns of Arrow text, and constant pieces of text, row by row."""
    parts = tuple(pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in (*parts, between))
    return pc.binary_join_element_wise(*parts)


def _to_cells(column: pd.Series) -> Any:
    """Return a column as Arrow text in the form of a CSV; None for a rare type."""
    text = to_arrow(column)
    if text is not None:
        cells = join_values('"', pc.replace_substring(text, '"', '""'), '"')
    elif isinstance(column.dtype, pd.Int64Dtype):
        cells = pc.cast(pa.array(column), pa.large_string())
    elif not isinstance(column.dtype, np.dtype) or (column.dtype.kind not in "biu" and column.dtype != np.float64):
        return None
    elif column.dtype.kind == "f":
        values = column.to_numpy()
        cells = pc.cast(pa.array(values, from_pandas=True), pa.large_string())
        size = np.abs(values)
        exponent = pc.fill_null(pc.match_substring(cells, "e"), False).to_numpy(zero_copy_only=False)
        odd = exponent | (size >= 1e15) | ((size > 0) & (size < 1e-4))  # Arrow uses exponents for other sizes
        cells = pc.if_else(pa.array((values == np.trunc(values)) & ~odd), join_values(cells, ".0"), cells)
        cells = pc.replace_with_mask(cells, pa.array(odd), pa.array(map(repr, values[odd].tolist()), cells.type))
    elif column.dtype.kind == "b":
        cells = pc.utf8_capitalize(pc.cast(pa.array(column.to_numpy()), pa.large_string()))
    else:
        cells = pc.cast(pa.array(column.to_numpy()), pa.large_string())
    return pc.fill_null(cells, '""')
