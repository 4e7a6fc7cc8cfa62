"""Tables as text, filled in by a person or written by any program."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError, OutputError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
SEPARATOR_LINE = re.compile(rb'\A"?sep=.?"?(?=[\r\n])', re.IGNORECASE)
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")  # in columns that the library does not define
WHOLE = r"-?\d+\.0"  # a whole number that became a float because its column has gaps
DECIMAL_COMMA = r"[-+]?(?:\d+,?\d*|,\d+)(?:[eE][-+]?\d+)?"
THOUSANDS = r"[-+]?[1-9]\d{0,2}(?:[,.]\d{3})+"  # or a decimal number with three decimals


def clean_label(label: str) -> str:
    """Return a class name without outer blanks, in Unicode's composed form, so that equal names compare equal."""
    return unicodedata.normalize("NFC", label.strip())


def simplify_label(label: str) -> str:
    """Return a class name without capitals, blanks, underscores and hyphens, so that similar names compare equal."""
    plain = unicodedata.normalize("NFKC", label).casefold()
    return "".join(c for c in plain if c.isprintable() and c not in " _-") or label


def to_text(values: Iterable[Any], clean: Callable[[str], str] = str.strip) -> list[str | None]:
    """Return values of any kind as text, None where missing or empty.

    If all floats are whole numbers (gaps make floats of integers), they are written without `.0`.

    Args:
        values: text, bytes of text, numbers or others.
        clean: applied to each text.
    """
    filled = [None if value is None or value is pd.NA or value != value else value for value in values]
    are_floats = all(isinstance(value, float | np.floating) for value in filled if value is not None)
    text = [
        None if value is None else to_utf8(value).decode() if isinstance(value, bytes) else str(value)
        for value in filled
    ]
    if are_floats and all(value.endswith(".0") for value in text if value is not None):
        text = [value and value.removesuffix(".0") for value in text]
    return [None if value is None else clean(value) or None for value in text]


def to_utf8(raw: bytes) -> bytes:
    """Return text in UTF-8 without byte-order mark, from UTF-8, UTF-16 with its mark, or Latin-1 (Windows-1252).

    A first line such as `sep=;`, by which Excel knows the delimiter, becomes an empty line.

    Raises:
        InputError: the bytes are not text.
    """
    if raw.startswith(UTF_16):
        try:
            raw = raw.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise InputError(f"expected text in UTF-16, by its byte-order mark; {error}; save it as UTF-8") from error
    if b"\0" in raw:
        raise InputError(f"expected text in UTF-8; found a zero byte at {raw.index(0)}; save it as UTF-8")
    raw = SEPARATOR_LINE.sub(b"", raw.removeprefix(codecs.BOM_UTF8), count=1)
    if raw.isascii():
        return raw
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding).encode()
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").encode()


def read_text(path: str | Path, what: str) -> str:
    """Return the text of a file (see `to_utf8`); errors call the file `what`.

    Raises:
        InputError: the file does not exist, cannot be read, or is not text.
    """
    return read_raw(path, what).decode()


def read_raw(path: str | Path, what: str) -> bytes:
    """Return the text of a file as `read_text`, in UTF-8."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist")
    try:
        return to_utf8(path.read_bytes())
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def refuse_filled_in(path: str | Path, column: str, untouched: str) -> None:
    """Refuse to replace a table in which a person has filled in the column.

    Raises:
        OutputError: the table exists, and its column contains something else than `untouched`, as it was written.
    """
    if Path(path).is_file() and (read_spreadsheet(path, Path(path).name, (column,))[column] != untouched).any():
        raise OutputError(f"{path} was filled in, so it is not replaced; choose another folder, or delete it")


def find_delimiter(text: str) -> str:
    """Return the delimiter of a CSV: comma, semicolon or tab, the most frequent one in its first line."""
    return max(",;\t", key=text.lstrip(" \r\n").split("\n", 1)[0].count)


def read_header(raw: bytes) -> tuple[list[str], str]:
    """Return the names of a table's columns, as they are written, and its delimiter.

    Args:
        raw: the start of the table, in UTF-8.
    """
    text = raw[: 1 << 20].decode(errors="replace")
    delimiter = find_delimiter(text.replace("\r", "\n"))
    return next((cells for _, cells in _read_rows(text, delimiter)), []), delimiter


def parse_table(raw: bytes, path: Path | None = None, **options: Any) -> pd.DataFrame:
    """Read a table of text in UTF-8; empty columns without a name are left out.

    Args:
        raw: the table, with comma, semicolon or tab as delimiter.
        path: its file. pandas reads from it, with several threads, if it is UTF-8 without a byte-order mark.
        options: of `pandas.read_csv`.

    Raises:
        InputError: the header is missing, two columns have the same name, a row is longer than the header, or a quote
            spans several rows.
        ValueError: pandas cannot read the table.
    """
    names, delimiter = read_header(raw)
    if not names:
        raise InputError("expected a line with the names of the columns; found an empty file")
    given = [name.strip() for name in names if name.strip()]
    if len(set(given)) < len(given):
        raise InputError(f"two columns are named {next(name for name in given if given.count(name) > 1)}")
    source: Any = io.BytesIO(raw)
    if path is not None and path.stat().st_size == len(raw):
        with path.open("rb") as file:
            source = path if file.read(2) == raw[:2] else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame: pd.DataFrame = pd.read_csv(source, sep=delimiter, index_col=False, keep_default_na=False, **options)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        check_quotes(raw, delimiter)
        for row, cells in _read_rows(raw.decode(), delimiter):
            if len(cells) > len(names):
                raise InputError(
                    f"expected {len(names)} cells a row, as in the header; found {len(cells)} in row {row}; cells that "
                    "contain the delimiter need quotes"
                ) from error
        raise InputError(str(error)) from error
    if b'"' in raw and count_lines(raw) != len(frame) + 1:
        check_quotes(raw, delimiter)
    unnamed = [column for column, name in zip(frame.columns, names, strict=False) if not name.strip()]
    empty = [column for column in unnamed if (frame[column].isna() | (frame[column] == "")).all()]
    return frame.drop(columns=empty) if empty and len(frame) else frame


def count_lines(raw: bytes) -> int:
    """Return how many lines a text has, with any line endings; the last line may lack one."""
    n_ends = raw.count(b"\n") + (raw.count(b"\r") - raw.count(b"\r\n") if b"\r" in raw else 0)
    return n_ends + (not raw.endswith((b"\n", b"\r")))


def check_quotes(raw: bytes, delimiter: str) -> None:
    """Refuse a table in which a quote spans whole rows: a cell of several lines with as many delimiters as a row.

    A table that quotes all its text may have such cells: if they were rows by mistake, they would contain quotes.

    Args:
        raw: the table, in UTF-8.
        delimiter: between its columns.

    Raises:
        InputError: there is such a cell, or a quote that is not closed; the message contains its row.
    """
    n_quotes = raw.count(b'"')
    if n_quotes == 0:
        return
    text = raw.decode()
    rows = list(_read_rows(text, delimiter))
    is_quoted = n_quotes >= 2 * len(rows)
    most = len(rows[0][1]) - 1
    for start, cells in rows:
        for cell in cells:
            n_lines = count_lines(cell.encode())
            if n_lines > 1 and cell.count(delimiter) >= most and not (is_quoted and '"' not in cell):
                others = DELIMITERS["," if delimiter == "\t" else "\t"]
                raise InputError(
                    f"row {start}: expected a cell of one row; found a quote that takes in {n_lines} lines with as "
                    f"many {DELIMITERS[delimiter]} as a row; remove the quote, or, if the cell is right, save "
                    f"the table with {others} between its columns"
                )
    last = list(io.StringIO(text, newline=""))[rows[-1][0] - 1 :]
    try:
        list(csv.reader(last, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise InputError(f"row {rows[-1][0]}: found a quote that is not closed; close or remove it") from error


def list_lines(raw: bytes) -> list[int]:
    """Return the line on which each row of a table below its header starts."""
    _, delimiter = read_header(raw)
    lines = [line for line, cells in _read_rows(raw.decode(), delimiter) if len(cells) > 1 or cells[0].strip()]
    return lines[1:]


def _read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, and its first line; a row too long for the csv module becomes a single cell."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield start, [delimiter * text.count(delimiter) + "\n."]
            return
        if cells:
            yield start, cells


def is_text(column: pd.Series) -> bool:
    """Return whether a column contains text and nothing else."""
    return isinstance(column.dtype, pd.StringDtype) or (
        column.dtype == object and pd.api.types.infer_dtype(column) == "string"
    )


def read_decimal_commas(column: pd.Series, delimiter: str) -> NDArray[np.float64] | None:
    """Return a column of text as numbers with a comma as decimal mark; None if it is not one, or in doubt.

    Every filled cell must be such a number. In doubt are columns of a table with comma as delimiter, and, with tab as
    delimiter, columns in which all numbers look like thousands (`1,234`).
    """
    if delimiter == "," or not is_text(column):
        return None
    column = column.str.strip()
    filled = column[column.notna() & (column != "")]
    commas = filled[filled.str.contains(",", regex=False)]
    if commas.empty or not filled.str.fullmatch(DECIMAL_COMMA).all():
        return None
    if delimiter == "\t" and commas.str.fullmatch(THOUSANDS).all():
        return None
    text = column.where(column != "").str.replace(",", ".", regex=False)
    return pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def drop_points(column: pd.Series, raw: bytes) -> pd.Series:
    """Return a column of text without `.0`, if every filled cell is a whole number such as `1.0` and not quoted.

    Args:
        column: text.
        raw: the table that the column was read from.
    """
    first = next((value for value in column.iloc[:1000] if isinstance(value, str) and value), None)
    if first is not None and not first.endswith(".0"):
        return column
    filled = column[column.notna() & (column != "")]
    if filled.empty or not filled.str.fullmatch(WHOLE).all():
        return column
    if f'"{filled.iloc[0]}"'.encode() in raw:
        return column
    return column.str.removesuffix(".0")


def read_spreadsheet(path: str | Path, what: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV as text without outer blanks; empty rows are left out.

    Args:
        path: a file with comma, semicolon or tab as delimiter.
        what: the name of the file in errors.
        columns: columns that the file must have.

    Raises:
        InputError: as `read_text`; a row is longer than the header, or a column is missing.
    """
    raw = read_raw(path, what)
    try:
        frame = parse_table(raw, dtype=str)
    except (InputError, ValueError) as error:
        raise InputError(f"{what} {path} cannot be read as CSV: {error}") from error
    frame = frame.apply(lambda column: drop_points(column.str.strip(), raw))
    frame = frame.fillna("").rename(columns=str.strip)
    missing = [name for name in columns if name not in frame]
    if missing:
        raise InputError(
            f"{what} {path}: expected the columns {', '.join(columns)}; {', '.join(missing)} is missing; "
            f"found {', '.join(frame.columns)}"
        )
    filled: pd.DataFrame = frame.replace("", pd.NA).dropna(how="all").fillna("")
    return filled.reset_index(drop=True)
