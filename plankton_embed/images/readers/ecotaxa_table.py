"""Reads and checks one EcoTaxa table: its cells, the types of its columns, and its values."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass, field
from datetime import date, time
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import LARGEST_VOLUME, SMALLEST_VOLUME
from plankton_embed.images.readers.faults import Fault
from plankton_embed.images.readers.table_text import SENTINEL, find_sentinels, to_degrees, to_numbers, to_utf8
from plankton_embed.spreadsheet import find_delimiter

MANDATORY = ("object_id", "img_file_name")
STATUSES = ("predicted", "validated", "dubious", "discarded")
KNOWN_COLUMN = re.compile(r"(object|acq|process|sample|img)_.+")
EXPORT_COLUMN = re.compile(r"objid|processid_internal|classif_.+|complement_info")  # EcoTaxa's own, in its exports
TEXT_COLUMN = re.compile(  # even where all values are numbers
    r"img_file_name|object_(link|annotation_.+)|objid|complement_info|classif_.+|.+_(id|date|time)(_end)?"
)
POSITIONS = {  # column -> what is expected, the largest value, the letters of its directions
    "object_lat": ("a latitude, a number from -90 to 90 or degrees and minutes such as 43°30 0", 90.0, "NS"),
    "object_lon": ("a longitude, a number from -180 to 180 or degrees and minutes such as 17°30 0", 180.0, "EW"),
}
POSITIONS |= {f"{name}_end": rule for name, rule in POSITIONS.items()}
DEEPEST = 12_000.0  # m; no ocean is deeper
NUMBERS = {  # columns that are numbers, whatever type is declared -> what is expected
    "object_depth_min": "a depth in m, a number up to 12,000",
    "object_depth_max": "a depth in m, a number up to 12,000",
    "img_rank": "the rank of the image, a number",
}
AMOUNTS = {  # the same for numbers above 0
    "sample_tot_vol": "m³ of water, a number above 1e-9 and up to 1e6",
    "acq_sub_part": "the sub-sampling factor, a number above 0",
    "acq_imaged_volume": "ml imaged, a number above 0.001 and up to 1e12",
    "sample_concentrated_sample_volume": "ml of the concentrated sample, a number above 0.001 and up to 1e12",
    "sample_total_volume": "litres of water, a number above 1e-6 and up to 1e9",
    "sample_dilution_factor": "the dilution factor, a number above 0",
    "acq_volimage": "litres per image, a number above 0",
    "process_particle_pixel_size_mm": "mm per pixel, a number above 0",
    "process_pixel_size": "µm per pixel, a number above 0",
    "acq_pixel": "the size of a pixel, a number above 0",
    "process_pixel": "the size of a pixel, a number above 0",
}
VOLUMES = {  # column -> how many of its units are 1 m³
    "sample_tot_vol": 1.0,
    "acq_imaged_volume": 1e6,
    "sample_concentrated_sample_volume": 1e6,
    "sample_total_volume": 1e3,
}
PREDEFINED = re.compile(r"object_(id|lat|lon|date|time|link|depth_min|depth_max|annotation_.+)(_end)?")
QUOTES = "quotes in pairs around whole cells"
STRAY_QUOTE = r'"[^"]*|[^"°º˚]+"'  # after degrees it means seconds
THOUSANDS = r"[-+]?[1-9]\d{0,2},\d{3}"  # it may also be a number with three decimals
NEARLY_NUMBER = r"[-+]?[\d.,]*\d[\d.,]*"  # with any decimal sign
DECIMAL_POINT = r"[-+]?(?:\d+\.(?:\d{1,2}|\d{4,})|0\.\d+)"  # and not a separator of thousands
STRING = pd.StringDtype("pyarrow")


@dataclass
class Table:
    """A table while it is read; its cells are text, missing where empty."""

    file: str
    folder: str  # the paths of its images are relative to it
    text: pd.DataFrame
    rows: NDArray[np.int64]  # line in the file
    has_status: bool = False  # whether there is a column of annotation statuses
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    found: list[Fault] = field(default_factory=list)
    is_good: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    is_torn: NDArray[np.bool_] = field(
        default_factory=lambda: np.zeros(0, dtype=bool)
    )  # rows with too few or too many cells

    @cached_property
    def has_points(self) -> bool:
        """Whether some numbers have decimal points, so that 1,250 is unlikely to mean 1.25."""
        others = (text for name, text in self.text.items() if not TEXT_COLUMN.fullmatch(str(name)))
        return any(text.str.fullmatch(DECIMAL_POINT).any() for text in others)

    def to_numbers(self, column: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return a column as numbers, and a mask of other cells; 1,250 is doubtful where other numbers have points."""
        numbers, is_bad = to_numbers(self.text[column])
        cells = self.text[column].str.contains(",", regex=False).fillna(False).to_numpy(dtype=bool)
        if (cells & ~is_bad).any() and self.text[column][cells].str.fullmatch(THOUSANDS).all() and self.has_points:
            return np.where(cells, np.nan, numbers), is_bad | cells
        return numbers, is_bad

    def add(
        self, row: int, column: str | None, expected: str, found: str, *, kept: bool = False, remedy: str = ""
    ) -> None:
        """Add a fault; `row` is the line in the file."""
        self.found.append(Fault(self.file, expected, found, row, column, kept, remedy))

    def refuse(self, is_bad: NDArray[np.bool_], column: str, expected: str) -> None:
        """Add a fault for every row of the mask, with its value in the column; the rows are left out."""
        self._note(is_bad, column, expected, "", kept=False)
        self.is_good &= ~is_bad

    def empty(self, is_bad: NDArray[np.bool_], column: str, expected: str, why: str = "") -> None:
        """Add a fault for every row of the mask; the rows stay, and the cell becomes empty."""
        self._note(is_bad, column, expected, f"{why}; the cell is read as empty", kept=True)
        if is_bad.any():
            self.text[column] = self.text[column].mask(is_bad)
            if column in self.numbers:
                self.numbers[column] = np.where(is_bad, np.nan, self.numbers[column])

    def report(self, is_bad: NDArray[np.bool_], column: str, expected: str, what: str) -> None:
        """Add a fault for every row of the mask; the rows stay as they are."""
        self._note(is_bad, column, expected, f"; {what}", kept=True)

    def _note(self, is_bad: NDArray[np.bool_], column: str, expected: str, more: str, *, kept: bool) -> None:
        rows = np.flatnonzero(is_bad & ~self.is_torn)
        values = self.text[column].iloc[rows] if column in self.text else [pd.NA] * len(rows)
        for row, value in zip(self.rows[rows].tolist(), values, strict=True):
            shown = "nothing (empty, na or nan)" if pd.isna(value) else repr(value)
            self.add(row, column, expected, shown + more, kept=kept)


def read_header(file: Path) -> set[str]:
    """Return the column names; empty where the first row is empty, or the file cannot be read or is not text."""
    try:
        with file.open("rb") as opened:
            line = to_utf8(opened.read(1 << 16)).split(b"\n", 1)[0].decode(errors="replace")
    except (OSError, InputError):
        return set()
    return {name.strip(' "').lower() for name in line.split(find_delimiter(line))} - {""}


def read_table(raw: bytes, file: Path) -> Table:
    """Read the cells of a table, find which columns are numbers, and check the values.

    Raises:
        InputError: it is not a table, or has no rows.
    """
    raw = to_utf8(raw)
    first = raw.split(b"\n", 1)[0].decode()
    delimiter = find_delimiter(first)
    table = Table(str(file), os.path.abspath(file.parent), pd.DataFrame(index=range(0)), np.zeros(0, dtype=np.int64))  # noqa: PTH100
    try:
        names = _read_names(table, first, delimiter)
        missing = [name for name in MANDATORY if name not in names]
        if missing:
            raise InputError(
                f"expected the columns {' and '.join(MANDATORY)} in row 1; found no {' and no '.join(missing)}"
            )
        cells = _read_cells(table, raw, delimiter, len(names))
    except (csv.Error, pa.ArrowInvalid) as error:
        raise InputError(f"cannot be read as a table: {error}") from error
    clean = [_clean(cells.columns.column(number)) for number in range(len(names))]
    kept: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name and clean[number].slice(1).null_count == len(cells.lines) - 1:
            continue  # a delimiter after the last cell of every row
        if not (KNOWN_COLUMN.fullmatch(name) or EXPORT_COLUMN.fullmatch(name)):
            expected = "a name that starts with object_, acq_, process_, sample_ or img_"
            table.add(1, name or f"number {number + 1}", expected, repr(name))
        elif name in kept:
            table.add(1, name, "each column name once", "a second column of this name")
        else:
            kept[name] = number
    columns = {name: clean[number].slice(1) for name, number in kept.items()}
    text = pa.table(columns).to_pandas(types_mapper={pa.string(): STRING}.get)
    types = _find_types(text)
    start = 2 if types else 1
    lines, is_lost = cells.lines[start:], cells.is_lost[start:]
    text = text.iloc[start - 1 :]
    filled = text.notna().any(axis="columns").to_numpy() | is_lost
    table.text, table.rows, table.is_torn = text[filled].reset_index(drop=True), lines[filled], is_lost[filled]
    table.is_good = ~table.is_torn
    if table.text.empty:
        raise InputError("expected rows below the header; found none")
    for name in kept:
        declared = types.get(name) if types else None
        if b'"' in raw:
            _drop_stray_quotes(table, name, declared)
        _read_column(table, name, declared, types_row=int(cells.lines[1]))
    _check_values(table)
    return table


def _read_names(table: Table, first: str, delimiter: str) -> list[str]:
    """Return the names of the columns; a stray quote in them is a fault."""
    names = next(csv.reader([first], delimiter=delimiter))
    if any('"' in name or delimiter in name for name in names):
        found = "a stray quote; the names of the columns are read without quotes"
        table.add(1, None, QUOTES, found, kept=True)
        names = first.replace('"', "").split(delimiter)
    return [name.strip().lower() for name in names]


# ---------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True)
class _Cells:
    """Cells (n, k) as text, the line on which each row starts (n,), and whether it is left out (n,).

    `odd` holds the length and the text of each row that is too short or too long; such rows are padded or cut.
    """

    columns: pa.Table
    lines: NDArray[np.int64]
    odd: dict[int, tuple[int, str]]
    n_swallowed: int  # lines inside cells, or inside odd rows, that span several lines
    swallowing: NDArray[np.intp]  # rows with a cell that spans lines and has as many delimiters as a row
    is_lost: NDArray[np.bool_]


def _read_cells(table: Table, raw: bytes, delimiter: str, n_columns: int) -> _Cells:
    """Read the cells; where a quote swallows rows, quotes become plain characters. Rows of a wrong length are faults.

    A row that is too short is filled with empty cells, unless a quote makes it doubtful. A row that is too long is left
    out, unless its extra cells are all empty.
    """
    has_quotes = b'"' in raw
    try:
        cells = _split(raw, delimiter, n_columns, has_quotes)
    except pa.ArrowInvalid:
        if not has_quotes:
            raise
        cells = None
    if cells is None or (has_quotes and (cells.odd or len(cells.swallowing))):
        plain = _split(raw, delimiter, n_columns, False)
        if cells is None or len(plain.odd) < len(cells.odd) + cells.n_swallowed:
            row = 1 if cells is None else int(cells.lines[min([*cells.swallowing, *cells.odd])])
            found = "a stray quote; in this table quotes are plain characters, except for pairs around a cell"
            if not table.found:  # the header's is reported already
                table.add(row, None, QUOTES, found, kept=True)
            cells, has_quotes = plain, False
    for row in cells.swallowing:
        expected = "cells that do not hold other rows"
        found = "a cell that spans lines and has as many delimiters as a row"
        table.add(int(cells.lines[row]), None, expected, found, remedy="is there an unclosed quote?")
        cells.is_lost[row] = True
    for row, (length, text) in cells.odd.items():
        line, expected = int(cells.lines[row]), f"{n_columns} values, as in the header"
        values = _split_row(text, delimiter, has_quotes)
        extra = values[n_columns:]
        doubtful = any(delimiter in v or "\n" in v for v in values) if has_quotes else text.count('"') % 2 == 1
        if row and not doubtful and length < n_columns:
            ends = row == len(cells.lines) - 1 and not raw.endswith(b"\n")
            hint = "; the file ends in this row: is it complete?" if ends else ""
            n = n_columns - length
            found = f"{length}; the last {n} are read as empty" if n > 1 else f"{length}; the last is read as empty"
            if text.strip():
                table.add(line, None, expected, found + hint, kept=True)
            continue
        cells.is_lost[row] = row > 0 and any(value.strip() for value in extra or values)
        if cells.is_lost[row]:
            shown = ", ".join(repr(value[:40]) for value in extra[:5]) + (", …" if len(extra) > 5 else "")
            found = f"{length}" + (f"; the extra values are {shown}" if extra else "")
            table.add(line, None, expected, found, remedy="is there a stray quote?" if doubtful else "")
    return cells


def _split(raw: bytes, delimiter: str, n_columns: int, has_quotes: bool) -> _Cells:
    """Divide a text into cells, with or without quotes around them."""
    odd: dict[int, tuple[int, str]] = {}

    def keep(row: pv.InvalidRow) -> str:
        odd[row.number - 1] = row.actual_columns, row.text
        return "skip"

    names = [str(number) for number in range(n_columns)]
    cells = pv.read_csv(
        io.BytesIO(raw),
        read_options=pv.ReadOptions(use_threads=False, column_names=names, block_size=max(1 << 24, len(raw) + 1)),
        parse_options=pv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if has_quotes else False,
            newlines_in_values=has_quotes,
            ignore_empty_lines=False,
            invalid_row_handler=keep,
        ),
        convert_options=pv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    n_rows = len(cells) + len(odd)
    even = np.setdiff1d(np.arange(n_rows), list(odd))
    inside, swallowing, n_swallowed = np.zeros(n_rows, dtype=np.int64), np.zeros(0, dtype=np.intp), 0
    if has_quotes:
        n_lines = np.array([pc.count_substring(column, "\n").to_numpy() for column in cells.columns])
        n_delimiters = np.array([pc.count_substring(column, delimiter).to_numpy() for column in cells.columns])
        is_swallowing = ((n_lines > 0) & (n_delimiters >= n_columns - 1)).any(axis=0)
        inside[even] = n_lines.sum(axis=0)
        inside[list(odd)] = [text.count("\n") for _, text in odd.values()]
        swallowing = even[is_swallowing]
        n_swallowed = int(inside[swallowing].sum() + inside[list(odd)].sum())
    if odd:
        parts = [_split_row(text, delimiter, has_quotes) for _, text in odd.values()]
        added = pa.table({name: pa.array([dict(enumerate(row)).get(int(name), "") for row in parts]) for name in names})
        order = np.argsort(np.concatenate([even, list(odd)]))
        cells = pa.concat_tables([cells, added]).take(order)
    if not has_quotes and b'"' in raw:
        cells = pa.table({name: _unquote(cells.column(name)) for name in names})
    lines = 1 + np.arange(n_rows) + np.cumsum(inside) - inside
    return _Cells(cells, lines, odd, n_swallowed, swallowing, np.zeros(n_rows, dtype=bool))


def _split_row(text: str, delimiter: str, has_quotes: bool) -> list[str]:
    return next(csv.reader([text], delimiter=delimiter)) if has_quotes else text.split(delimiter)


def _unquote(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return cells without the quotes that enclose a whole cell."""
    is_whole = pc.match_substring_regex(column, r'^".*"$')
    inner = pc.replace_substring(pc.replace_substring_regex(column, r'^"(.*)"$', r"\1"), '""', '"')
    return pc.if_else(is_whole, inner, column)


def _clean(column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    is_empty = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(["", "nan", "na"]))
    return pc.if_else(is_empty, pa.scalar(None, pa.string()), trimmed)


# ---------------------------------------------------------------------------------------------- columns


def _find_types(text: pd.DataFrame) -> dict[str, str]:
    """Return the type that the first row declares for each column, [t] or [f]; empty if it is not a row of types."""
    if text.empty:
        return {}
    first = {str(name): str(kind) for name, kind in text.iloc[0].fillna("").items()}
    kinds = {kind.lower() for kind in first.values()} - {""}
    is_types = bool({"[t]", "[f]"} & kinds) or (bool(kinds) and all(re.fullmatch(r"\[.?\]", kind) for kind in kinds))
    return first if is_types else {}


def _drop_stray_quotes(table: Table, name: str, declared: str | None) -> None:
    """Remove a stray quote at one end of ids, names, annotations and numbers; other text keeps it."""
    text = table.text[name]
    if not text.str.contains('"', regex=False).any():
        return
    is_stray = text.str.fullmatch(STRAY_QUOTE).fillna(False).to_numpy(dtype=bool)
    if not is_stray.any():
        return
    bare = text.mask(is_stray, text.str.strip('" '))
    bare = bare.mask(bare == "")
    is_measured = name in POSITIONS or name in NUMBERS or name in AMOUNTS or (declared or "").lower() == "[f]"
    if is_measured or TEXT_COLUMN.fullmatch(name) or not to_numbers(bare)[1].any():
        table.report(is_stray, name, QUOTES, "it is read without the stray quote")
        table.text[name] = bare


def _read_column(table: Table, name: str, declared: str | None, types_row: int) -> None:
    """Read a column as numbers where its name, its declared type or, without a type, its values require it.

    EcoTaxa uses declared types in free `object_` columns alone; all other columns have a fixed type.
    """
    kind = None if declared is None else declared.lower()
    is_free = name.startswith("object_") and not PREDEFINED.fullmatch(name)
    if kind not in (None, "[t]", "[f]"):
        shown = repr(declared) if declared else "nothing"
        if is_free:
            table.add(types_row, name, "[t] or [f]", shown, remedy="the column is left out")
            table.text = table.text.drop(columns=name)
            return
        table.add(types_row, name, "[t] or [f]", f"{shown}; the column is read as its own type", kept=True)
        kind = None
    if name in POSITIONS:
        expected, most, letters = POSITIONS[name]
        table.numbers[name], is_bad = to_degrees(table.text[name], letters)
        table.empty(is_bad | (np.abs(table.numbers[name]) > most), name, expected)
    elif name in NUMBERS or name in AMOUNTS:
        _read_measured(table, name)
    elif TEXT_COLUMN.fullmatch(name) or kind == "[t]":
        return
    else:
        numbers, is_bad = table.to_numbers(name)
        if kind == "[f]" and is_free:
            table.refuse(is_bad, name, "a number, as [f] declares")
        elif is_bad.any():
            filled = table.text[name].dropna()
            if kind == "[f]" or (is_free and filled.str.fullmatch(NEARLY_NUMBER).mean() > 0.5):
                row = int(is_bad.argmax())
                found = f"{table.text[name].iloc[row]!r}; the column is read as text"
                expected = "numbers, as [f] declares" if kind == "[f]" else "numbers, as most cells are"
                table.add(int(table.rows[row]), name, expected, found, kept=True)
            return
        table.numbers[name] = np.where(np.isfinite(numbers), numbers, np.nan)
        is_nines = find_sentinels(table.text[name], numbers)
        if not is_free:
            _empty_sentinels(table, name, is_nines)
        elif (
            is_nines.sum() > 1 and np.nanmax(np.abs(table.numbers[name])) == np.abs(table.numbers[name][is_nines]).max()
        ):
            row = int(is_nines.argmax())
            n, value = int(is_nines.sum()), table.text[name].iloc[row]
            found = f"{value!r} in {n:,} rows, which often means that nothing was measured"
            remedy = "it is kept as a number; empty the cells if nothing was measured"
            table.add(int(table.rows[row]), name, "measured values", found, kept=True, remedy=remedy)


def _read_measured(table: Table, name: str) -> None:
    """Read a column of depths, ranks, volumes, factors or pixel sizes; impossible values become empty."""
    numbers, is_bad = table.to_numbers(name)
    table.numbers[name] = np.where(np.isfinite(numbers), numbers, np.nan)
    is_nines = find_sentinels(table.text[name], numbers)
    is_bad |= np.isinf(numbers)
    if name in VOLUMES:
        volumes = numbers / VOLUMES[name]
        is_bad |= (volumes <= SMALLEST_VOLUME) | (volumes > LARGEST_VOLUME)
    elif name in AMOUNTS:
        is_bad |= numbers <= 0
    elif name != "img_rank":
        is_bad |= np.abs(numbers) > DEEPEST
    _empty_sentinels(table, name, is_nines)
    table.empty(is_bad & ~is_nines, name, AMOUNTS.get(name) or NUMBERS[name])


def _empty_sentinels(table: Table, name: str, is_nines: NDArray[np.bool_]) -> None:
    table.empty(is_nines, name, "a measured value", f", {SENTINEL}")


# ---------------------------------------------------------------------------------------------- values


def _check_values(table: Table) -> None:
    """Check ids, image names, annotations, depths, factors, dates and times; dates and times become ISO 8601."""
    text = table.text
    nothing = pd.Series(pd.NA, index=text.index, dtype=STRING)
    table.refuse(text["object_id"].isna().to_numpy(), "object_id", "the id of the object")
    table.refuse(text["img_file_name"].isna().to_numpy(), "img_file_name", "the file of an image")

    table.has_status = "object_annotation_status" in text
    status = text.get("object_annotation_status", nothing).str.lower()
    category = text.get("object_annotation_category", nothing)
    has_category = (category.notna() | text.get("object_annotation_category_id", nothing).notna()).to_numpy()
    has_status = status.notna().to_numpy()
    table.refuse(
        has_status & ~status.isin(STATUSES).to_numpy(), "object_annotation_status", f"one of {', '.join(STATUSES)}"
    )
    if table.has_status:
        table.report(
            has_category & ~has_status,
            *("object_annotation_status", "a status, as there is a category", "the label does not count as validated"),
        )
        text["object_annotation_status"] = status
    elif has_category.any():
        found = "none; all labels are used as if they were validated"
        table.add(1, None, "a column object_annotation_status, as there are categories", found, kept=True)
    table.refuse(has_status & ~has_category, "object_annotation_category", "a category, as there is a status")
    is_nameless = has_category & category.isna().to_numpy()
    expected = "the name of the category, as there is its id"
    table.report(is_nameless, "object_annotation_category", expected, "the image has no label")

    if {"object_depth_min", "object_depth_max"} <= table.numbers.keys():
        is_turned = table.numbers["object_depth_min"] > table.numbers["object_depth_max"]
        what = "it is larger than object_depth_max; both are kept"
        table.report(is_turned, "object_depth_min", "the smaller of the two depths", what)
    if "acq_sub_part" in table.numbers:
        what = "it is kept as it is; is it the fraction that was imaged (1/factor)?"
        table.report(table.numbers["acq_sub_part"] < 1, "acq_sub_part", "a sub-sampling factor of 1 or more", what)

    for name, expected, parse, left in (
        ("date", "a date, YYYYMMDD or YYYY-MM-DD", _to_iso_date, "no time"),
        ("time", "a time, HHMM, HHMMSS or HH:MM:SS", _to_iso_time, "only its date"),
    ):
        for column in (f"object_{name}", f"object_annotation_{name}"):
            if column in text:
                codes, values = pd.factorize(text[column])
                parsed = np.array([*(parse(value) for value in values), None], dtype=object)[codes]
                is_bad = text[column].notna().to_numpy() & (parsed == None)  # noqa: E711
                table.empty(is_bad, column, expected, "" if "annotation" in column else f"; the image has {left}")
                text[column] = pd.Series(parsed, dtype=STRING)


def _to_iso_date(text: str) -> str | None:
    found = re.fullmatch(r"(\d{4})(-?)(\d\d)\2(\d\d)", text, re.ASCII)
    try:
        return date(int(found[1]), int(found[3]), int(found[4])).isoformat() if found else None
    except ValueError:
        return None


def _to_iso_time(text: str) -> str | None:
    """Return HH:MM:SS with the fraction as written; leading zeros may be missing (420 is 04:20, 42000 is 04:20:00)."""
    found = re.fullmatch(r"(?:(\d\d):(\d\d):(\d\d)|(\d{5,6}))(\.\d+)?|\d{1,4}", text, re.ASCII)
    if not found:
        return None
    digits = "".join(found.group(1, 2, 3)) if found[1] else (found[4] or f"{text:0>4}00").zfill(6)
    try:
        return time(int(digits[:2]), int(digits[2:4]), int(digits[4:])).isoformat() + (found[5] or "")
    except ValueError:
        return None
