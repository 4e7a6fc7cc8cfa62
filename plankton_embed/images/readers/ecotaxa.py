"""EcoTaxa tables, as they are imported and as they are exported: a folder of them, one, or a ZIP read in place.

Tables are files named `ecotaxa*.tsv` or `ecotaxa*.txt`, at any depth, in UTF-8 or Latin-1. Images are named in
`img_file_name`, relative to their table. Objects are told apart by `object_id`, over all tables of a source: a second
image of an object, in the same table or in another, is one more row of the catalog, and the same image twice a fault.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import FEATURE_PREFIX, ImageCatalog, map_images
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.faults import Fault, Faults
from plankton_embed.images.readers.folder import list_images, list_other_files
from plankton_embed.images.readers.table_text import to_numbers, to_objects, to_utf8
from plankton_embed.spreadsheet import find_delimiter

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".tsv", ".txt")
N_OPENED = 5_000  # most images of a source that are opened to see whether they are whole; later steps tell the others
MANDATORY = ("object_id", "img_file_name")
STATUSES = ("predicted", "validated", "dubious", "discarded")
KNOWN_COLUMN = re.compile(r"(object|acq|process|sample|img)_.+")
EXPORT_COLUMN = re.compile(r"objid|processid_internal|classif_.+|complement_info")  # EcoTaxa's own, in its exports
METADATA_COLUMN = re.compile(r"object_(lat|lon|depth_min|depth_max)(_end)?|object_random_value")  # no features
TEXT_COLUMN = re.compile(  # even where all values are numbers
    r"img_file_name|object_(link|annotation_.+)|objid|complement_info|classif_.+|.+_(id|date|time)(_end)?"
)
NUMBER_RANGES = {
    "object_lat": ("a latitude, a number from -90 to 90", 90.0),
    "object_lon": ("a longitude, a number from -180 to 180", 180.0),
    "object_depth_min": ("a depth in m, a number", np.inf),
    "object_depth_max": ("a depth in m, a number", np.inf),
    "img_rank": ("the rank of the image, a number", np.inf),
}
RENAMED = {  # columns of EcoTaxa -> of the catalog
    "object_annotation_category": "label",
    "object_annotation_category_id": "category_id",
    "object_annotation_hierarchy": "lineage",
    "object_annotation_status": "annotation_status",
    "object_lat": "latitude",
    "object_lon": "longitude",
    "object_depth_min": "depth_min",
    "object_depth_max": "depth_max",
}
ZIP_FAULTS = (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error)
STRING = pd.StringDtype("pyarrow")


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Say whether a folder or a ZIP holds tables of EcoTaxa, or a file is one, by its name or by its columns.

    A folder of images in which all files called ecotaxa*.tsv are other tables, such as names to be sent there, is not.
    """
    if path.is_dir():
        tables = _list_tables(files)
        holds_one = any(not (names := _read_header(path / name)) or names.issuperset(MANDATORY) for name in tables)
        return holds_one or (bool(tables) and next(list_images(path), None) is None)
    if _is_zip(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return bool(_list_tables(archive.namelist()))
        except ZIP_FAULTS:
            return False
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return False
    names = _read_header(path)
    return "path" not in names and (bool(_list_tables([path.name])) or names.issuperset(MANDATORY))


def read(path: Path, faults: Faults) -> ImageCatalog:
    """Read tables of EcoTaxa: those of a folder, at any depth, of a ZIP, or a single one.

    Columns of the catalog: `object_id` is the `object_id` of the table for the first image of an object (by
    `img_rank`, then in order), with `/1`, `/2`, … for its further ones; `ecotaxa_id` and `img_file_name` are as in
    the table. `label` is the category as written, missing where the object has none or only its id, which
    `category_id` keeps. `time` is in UTC, as EcoTaxa has it. Numbers in `object_` columns are features; all other
    columns keep their names, and columns without any value are left out. `pixel_size` is from
    `process_particle_pixel_size_mm`, or from `acq_pixel` or `process_pixel` where their unit is known (see
    `_measure_pixels`), `volume` from `sample_tot_vol`, `subsample_factor` from `acq_sub_part`.

    Names of columns are lower-cased. Cells that are empty, `na` or `nan` are missing, and so are infinite numbers. A
    comma is decimal where all of a column are numbers with it. `[t]` and `[f]` below the header say which columns are
    text and which numbers; without them, those are numbers that can be.

    Args:
        path: a folder, a ZIP or a table.
        faults: where faults go. Up to N_OPENED images are opened, so that broken ones are told; of more than that,
            it is only seen whether they are there.

    Raises:
        InputError: the source cannot be read, has no images, or has faults.
    """
    tables, exists = _read_zip(path, faults) if _is_zip(path) else _read_folder(path, faults)
    if not tables and not faults.found:
        raise InputError(f"{path}: expected tables named ecotaxa*.tsv or ecotaxa*.txt; found none")
    for table in tables:
        _check_values(table)
        _find_images(table, exists)
    _name_rows(tables)
    _open_images(tables)
    for table in tables:
        faults.found += sorted(table.found, key=lambda fault: fault.row or 0)
    faults.report()
    frame = _join(tables)
    if "ecotaxa_id" in frame:
        n_objects = frame["ecotaxa_id"].nunique()
        logger.info("%s: %d images of %d objects; tables: %d", path, len(frame), n_objects, len(tables))
    return ImageCatalog.from_rows(frame, source=str(path))


@dataclass
class _Table:
    """A table that is being read; its cells are text, missing where empty."""

    file: str
    folder: str  # where the names of its images start
    text: pd.DataFrame
    rows: NDArray[np.int64]  # line of the file
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    found: list[Fault] = field(default_factory=list)
    is_good: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def add(
        self,
        row: int,
        column: str | None,
        expected: str,
        found: str,
        *,
        kept: bool = False,
        remedy: str = "",
    ) -> None:
        """Note a fault; `row` is the line of the file."""
        self.found.append(Fault(self.file, expected, found, row, column, kept, remedy))

    def refuse(self, is_bad: NDArray[np.bool_], column: str, expected: str) -> None:
        """Note a fault for every row of the mask, with the value that stands in the column."""
        found = self.text[column] if column in self.text else pd.Series(pd.NA, index=self.text.index)
        for row in np.flatnonzero(is_bad):
            value = found.iloc[row]
            shown = "nothing (empty, na or nan)" if pd.isna(value) else repr(value)
            self.add(int(self.rows[row]), column, expected, shown)
        self.is_good &= ~is_bad


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file()


def _read_header(file: Path) -> set[str]:
    """Return the names of the columns; none where the first row is empty, or the file cannot be read or is no text."""
    try:
        with file.open("rb") as opened:
            line = to_utf8(opened.read(1 << 16)).split(b"\n", 1)[0].decode(errors="replace")
    except (OSError, InputError):
        return set()
    return {name.strip(' "').lower() for name in line.split(find_delimiter(line))} - {""}


def _list_tables(names: Iterable[str]) -> list[str]:
    return sorted(
        name
        for name in names
        if (found := PurePosixPath(name)).suffix.lower() in TABLE_SUFFIXES
        and found.name.lower().startswith("ecotaxa")
        and not any(part.startswith((".", "__MACOSX")) for part in found.parts)
    )


def _read_zip(path: Path, faults: Faults) -> tuple[list[_Table], Callable[[str], bool]]:
    """Return the tables of a ZIP, and what says whether a path goes on to a file inside it."""
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_FAULTS as error:
        raise InputError(f"{path} cannot be read as a ZIP: {error}; is it whole? copy it again") from error
    with archive:
        members = _list_members(archive, path, faults)
        tables = _read_tables(path, _list_tables(members), archive.read, faults)
    return tables, {os.path.abspath(path / name) for name in members}.__contains__  # noqa: PTH100  (keeps links)


def _read_folder(path: Path, faults: Faults) -> tuple[list[_Table], Callable[[str], bool]]:
    """Return the tables of a folder, or a single one, and what says whether an image is there."""
    names = _list_tables(list_other_files(path)) if path.is_dir() else [path.name]
    start = path if path.is_dir() else path.parent

    @cache
    def list_folder(folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder))  # noqa: PTH208
        except OSError:
            return frozenset()

    def exists(image: str) -> bool:
        folder, name = os.path.split(image)
        return name in list_folder(folder)

    return _read_tables(start, names, lambda name: (start / name).read_bytes(), faults), exists


def _list_members(archive: zipfile.ZipFile, path: Path, faults: Faults) -> list[str]:
    """Return the names of the files in a ZIP; those that lead out of it are faults."""
    members = []
    for name in archive.namelist():
        if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            faults.add(path, "names of files inside the ZIP", f"{name!r}, which leads out of it")
        elif not name.endswith("/"):
            members.append(name)
    return members


def _read_tables(start: Path, names: Iterable[str], load: Callable[[str], bytes], faults: Faults) -> list[_Table]:
    tables = []
    for name in names:
        file = start / name
        try:
            raw = load(name)
        except ZIP_FAULTS as error:
            faults.add(file, "a table that can be read", str(error))
            continue
        try:
            tables.append(_read_table(raw, file))
        except InputError as fault:
            faults.add(file, "a table of EcoTaxa", f"none ({fault})")
    return tables


def _read_table(raw: bytes, file: Path) -> _Table:
    """Read the cells of a table, and find out which columns are numbers.

    Raises:
        InputError: it is no table, or has no rows.
    """
    raw = to_utf8(raw)
    first = raw.split(b"\n", 1)[0].decode()
    delimiter = find_delimiter(first)
    try:
        names = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter))]
        missing = [name for name in MANDATORY if name not in names]
        if missing:
            raise InputError(
                f"expected the columns {' and '.join(MANDATORY)} in row 1; found no {' and no '.join(missing)}"
            )
        cells, lines, ragged = _parse(raw, delimiter, len(names))
    except (csv.Error, pa.ArrowInvalid) as error:
        raise InputError(f"cannot be read as a table: {error}") from error

    table = _Table(str(file), os.path.abspath(file.parent), pd.DataFrame(index=range(0)), lines[1:])  # noqa: PTH100
    kept: dict[str, int] = {}
    for place, name in enumerate(names):
        if not (KNOWN_COLUMN.fullmatch(name) or EXPORT_COLUMN.fullmatch(name)):
            expected = "a name that starts with object_, acq_, process_, sample_ or img_"
            table.add(1, name or f"number {place + 1}", expected, repr(name))
        elif name in kept:
            table.add(1, name, "each column once", "a second one of this name")
        else:
            kept[name] = place
    columns = {name: cells.column(place).slice(1) for name, place in kept.items()}
    text = pa.table(columns).to_pandas(types_mapper={pa.string(): STRING}.get)
    is_ragged = ragged[1:]
    types = _find_types(table, text)
    if types:
        text, table.rows, is_ragged = text.iloc[1:], table.rows[1:], is_ragged[1:]
    filled = text.notna().any(axis="columns").to_numpy() | (is_ragged > 0)
    table.text, table.rows, is_ragged = text[filled].reset_index(drop=True), table.rows[filled], is_ragged[filled]
    if table.text.empty:
        raise InputError("expected rows below the header; found none")
    table.is_good = is_ragged == 0
    hint = "is there a quote that is not closed?" if b'"' in raw else ""
    for row in np.flatnonzero(is_ragged):
        expected = f"{len(names)} values, as in the header"
        table.add(int(table.rows[row]), None, expected, str(is_ragged[row]), remedy=hint)
    for name in kept:
        _read_numbers(table, name, types.get(name))
    return table


def _parse(raw: bytes, delimiter: str, n_columns: int) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.int64]]:
    """Return the trimmed cells (missing where empty, nan or na), the line of each row, and its length if it is wrong.

    A row that is too short or too long is filled up or cut. The length is 0 where it is right.
    """
    odd: dict[int, tuple[int, str]] = {}

    def keep(row: pv.InvalidRow) -> str:
        odd[row.number - 1] = row.actual_columns, row.text
        return "skip"

    names = [str(place) for place in range(n_columns)]
    cells = pv.read_csv(
        io.BytesIO(raw),
        read_options=pv.ReadOptions(use_threads=False, column_names=names, block_size=1 << 24),
        parse_options=pv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=b'"' in raw,
            ignore_empty_lines=False,
            invalid_row_handler=keep,
        ),
        convert_options=pv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    n_rows = len(cells) + len(odd)
    lengths = np.zeros(n_rows, dtype=np.int64)
    if odd:
        filled = [(next(csv.reader([text], delimiter=delimiter)) + [""] * n_columns) for _, text in odd.values()]
        added = pa.table({name: pa.array([row[int(name)] for row in filled]) for name in names})
        order = np.argsort(np.concatenate([np.setdiff1d(np.arange(n_rows), list(odd)), list(odd)]))
        cells = pa.concat_tables([cells, added]).take(order)
        lengths[list(odd)] = [length for length, _ in odd.values()]
    lines = np.arange(1, n_rows + 1)
    if raw.count(b"\n") + (not raw.endswith(b"\n")) > n_rows:  # there are line ends inside quotes
        inside = sum(pc.count_substring(cells.column(name), "\n").to_numpy() for name in names)
        lines[1:] += np.cumsum(inside)[:-1]
    return pa.table({name: _clean(cells.column(name)) for name in names}), lines, lengths


def _clean(column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    is_empty = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(["", "nan", "na"]))
    return pc.if_else(is_empty, pa.scalar(None, pa.string()), trimmed)


def _find_types(table: _Table, text: pd.DataFrame) -> dict[str, str]:
    """Return [t] or [f] by column, from the first row if it is one of types; what else stands there is a fault."""
    first = text.head(1).apply(lambda cells: cells.str.lower()).iloc[0].fillna("").to_dict() if len(text) else {}
    if not {"[t]", "[f]"} & set(first.values()):
        return {}
    for name, kind in first.items():
        if kind not in ("[t]", "[f]"):
            table.add(int(table.rows[0]), str(name), "[t] or [f]", repr(text[name].iloc[0]))
    return {str(name): kind for name, kind in first.items()}


def _read_numbers(table: _Table, name: str, kind: str | None) -> None:
    """Read a column as numbers where it must, says to, or without a row of types can, be."""
    if name in NUMBER_RANGES:
        expected, most = NUMBER_RANGES[name]
    elif TEXT_COLUMN.fullmatch(name) or kind == "[t]":
        return
    else:
        expected, most = "a number, as [f] says", np.inf
    numbers, is_bad = to_numbers(table.text[name])
    is_bad |= np.abs(numbers) > most
    if kind == "[f]" or name in NUMBER_RANGES:
        table.refuse(is_bad, name, expected)
    elif is_bad.any():
        return
    table.numbers[name] = np.where(np.isfinite(numbers), numbers, np.nan)


def _check_values(table: _Table) -> None:
    """Check ids, names of images, annotations, dates and times; dates and times become ISO 8601."""
    text = table.text
    nothing = pd.Series(pd.NA, index=text.index, dtype=STRING)
    table.refuse(text["object_id"].isna().to_numpy(), "object_id", "the id of the object")
    table.refuse(text["img_file_name"].isna().to_numpy(), "img_file_name", "the file of an image")

    status = text.get("object_annotation_status", nothing).str.lower()
    category = text.get("object_annotation_category", nothing)
    has_category = (category.notna() | text.get("object_annotation_category_id", nothing).notna()).to_numpy()
    has_status = status.notna().to_numpy()
    table.refuse(
        has_status & ~status.isin(STATUSES).to_numpy(), "object_annotation_status", f"one of {', '.join(STATUSES)}"
    )
    table.refuse(has_category & ~has_status, "object_annotation_status", "a status, as there is a category")
    table.refuse(has_status & ~has_category, "object_annotation_category", "a category, as there is a status")
    if "object_annotation_status" in text:
        text["object_annotation_status"] = status

    for name, expected, parse in (
        ("date", "a date, YYYYMMDD or YYYY-MM-DD", _to_iso_date),
        ("time", "a time, HHMM, HHMMSS or HH:MM:SS", _to_iso_time),
    ):
        for column in (f"object_{name}", f"object_annotation_{name}"):
            if column in text:
                codes, values = pd.factorize(text[column])
                parsed = np.array([*(parse(value) for value in values), None], dtype=object)[codes]
                table.refuse(text[column].notna().to_numpy() & (parsed == None), column, expected)  # noqa: E711
                text[column] = pd.Series(parsed, dtype=STRING)


def _to_iso_date(text: str) -> str | None:
    found = re.fullmatch(r"(\d{4})(-?)(\d\d)\2(\d\d)", text, re.ASCII)
    try:
        return date(int(found[1]), int(found[3]), int(found[4])).isoformat() if found else None
    except ValueError:
        return None


def _to_iso_time(text: str) -> str | None:
    """Return HH:MM:SS with the fraction as written; leading zeros may be lost (420 is 04:20, 42000 is 04:20:00)."""
    found = re.fullmatch(r"(?:(\d\d):(\d\d):(\d\d)|(\d{5,6}))(\.\d+)?|\d{1,4}", text, re.ASCII)
    if not found:
        return None
    digits = "".join(found.group(1, 2, 3)) if found[1] else (found[4] or f"{text:0>4}00").zfill(6)
    try:
        return time(int(digits[:2]), int(digits[2:4]), int(digits[4:])).isoformat() + (found[5] or "")
    except ValueError:
        return None


def _find_images(table: _Table, exists: Callable[[str], bool]) -> None:
    """Find the path of every image; a file that is not there is a fault."""
    names = table.text["img_file_name"].fillna("").str.replace("\\", "/", regex=False)
    is_absolute = names.str.match(r"/|[A-Za-z]:/").to_numpy(dtype=bool)
    table.refuse(is_absolute, "img_file_name", "a path relative to the table")
    paths = [os.path.normpath(posixpath.join(table.folder, name)) for name in names.tolist()]
    is_missing = np.array([not exists(path) for path in paths]) & (names != "").to_numpy() & ~is_absolute
    table.refuse(is_missing, "img_file_name", "an image that is there, relative to the table")
    table.text["path"] = pd.Series(paths, dtype=STRING)


def _name_rows(tables: Sequence[_Table]) -> None:
    """Give every image its own `object_id`; the same image of an object twice is a fault."""
    if not tables:
        return
    rows = pd.DataFrame(
        {
            "ecotaxa_id": pd.concat([table.text["object_id"] for table in tables], ignore_index=True),
            "path": pd.concat([table.text["path"] for table in tables], ignore_index=True),
            "rank": np.concatenate([table.numbers.get("img_rank", np.zeros(len(table.rows))) for table in tables]),
        }
    )
    doubled = rows.duplicated(["ecotaxa_id", "path"]) & rows["ecotaxa_id"].notna()
    _refuse(tables, doubled, "img_file_name", "an image that no earlier row gives this object")
    good = rows[np.concatenate([table.is_good for table in tables])].fillna({"rank": 0})
    number = good.sort_values("rank", kind="stable").groupby("ecotaxa_id", sort=False).cumcount().reindex(good.index)
    own_id = good["ecotaxa_id"].where(number == 0, good["ecotaxa_id"] + "/" + number.astype(STRING))
    is_taken = (own_id.duplicated(keep=False) & (number > 0)).reindex(rows.index, fill_value=False)
    _refuse(
        tables, is_taken, "object_id", "an id that differs from those of further images, which are called ID/1, ID/2"
    )
    for table, part in zip(tables, _split(tables, own_id.reindex(rows.index)), strict=True):
        table.text = table.text.assign(ecotaxa_id=table.text["object_id"], object_id=part.set_axis(table.text.index))


def _open_images(tables: Sequence[_Table]) -> None:
    """Note a fault for every image that cannot be decoded, unless there are too many to look at."""
    images = pd.concat([table.text["path"][table.is_good] for table in tables] or [pd.Series(dtype=STRING)])
    paths = images.unique().tolist()
    if len(paths) > N_OPENED:
        return
    broken = {path: what for path, what in zip(paths, map_images(_try_image, paths, "opening"), strict=True) if what}
    for table in tables:
        for row in np.flatnonzero(table.text["path"].isin(list(broken)).to_numpy() & table.is_good):
            found = f"{table.text['img_file_name'].iloc[row]!r}, {broken[table.text['path'].iloc[row]]}"
            table.add(int(table.rows[row]), "img_file_name", "an image", found)
            table.is_good[row] = False


def _try_image(path: str) -> str:
    """Return why an image cannot be decoded; empty where it can."""
    try:
        open_image(path)
    except InputError as fault:
        return str(fault)
    return ""


def _refuse(tables: Sequence[_Table], is_bad: pd.Series, column: str, expected: str) -> None:
    for table, part in zip(tables, _split(tables, is_bad), strict=True):
        table.refuse(part.to_numpy(dtype=bool), column, expected)


def _split(tables: Sequence[_Table], rows: pd.Series) -> list[pd.Series]:
    """Part what holds for the rows of all tables by table."""
    ends = np.cumsum([0, *(len(table.rows) for table in tables)])
    return [rows.iloc[start:end] for start, end in pairwise(ends)]


def _join(tables: Sequence[_Table]) -> pd.DataFrame:
    """Put the good rows of the tables below one another, and name their columns as a catalog does.

    A column is numeric where every table with values in it has them as numbers. Columns without values are left out.
    """
    joined: dict[str, pd.Series] = {"path": pd.Series(dtype="str")}
    for name in dict.fromkeys(str(name) for table in tables for name in table.text):
        filled = [table for table in tables if name in table.text and table.text[name].notna().any()]
        parts: list[NDArray[Any]] = []
        for table in tables:
            if filled and all(name in other.numbers for other in filled):
                part: NDArray[Any] = table.numbers.get(name, np.full(len(table.rows), np.nan))
            elif name in table.text:
                part = to_objects(table.text[name])
            else:
                part = np.full(len(table.rows), None, dtype=object)
            parts.append(part[table.is_good])
        values = np.concatenate(parts)
        column = pd.Series(values, dtype="float64" if values.dtype == np.float64 else "str")
        if column.notna().any():
            joined[name] = column
    frame = pd.DataFrame(joined)
    time_known = {"time": _join_time(frame)} if "object_date" in frame else {}
    sizes = {
        "pixel_size": _measure_pixels(frame),
        "volume": _positive_numbers(frame, "sample_tot_vol"),
        "subsample_factor": _positive_numbers(frame, "acq_sub_part"),
    }
    frame = frame.assign(**time_known, **{name: size for name, size in sizes.items() if np.isfinite(size).any()})
    features = {
        name: FEATURE_PREFIX + name.removeprefix("object_")
        for name in map(str, frame)
        if name.startswith("object_") and frame[name].dtype == np.float64 and not METADATA_COLUMN.fullmatch(name)
    }
    return frame.drop(columns=["object_date", "object_time"], errors="ignore").rename(columns=features | RENAMED)


def _join_time(frame: pd.DataFrame) -> pd.Series:
    """Return the date, with the time where there is one; EcoTaxa's instructions for imports ask for UTC."""
    if "object_time" not in frame:
        return frame["object_date"]
    with_time = frame["object_date"] + "T" + frame["object_time"] + "Z"
    return with_time.where(frame["object_time"].notna(), frame["object_date"])


def _measure_pixels(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return µm per pixel, nan where not known.

    `process_particle_pixel_size_mm` (ZooScan) is in mm, and so are `acq_pixel` and `process_pixel` of a UVP, while
    `process_pixel` of a PlanktoScope is in µm. With other instruments either occurs: 1 or more can only be µm, and
    less is left out. (Sources: Picheral & Mériguet 2025, doi:10.5281/zenodo.14704251; PlanktoScope's documentation.)
    """
    size = _positive_numbers(frame, "process_particle_pixel_size_mm") * 1000
    instrument = (
        frame["acq_instrument"].fillna("").str.lower() if "acq_instrument" in frame else pd.Series("", frame.index)
    )
    is_uvp, is_planktoscope = (instrument.str.startswith(name).to_numpy(bool) for name in ("uvp", "planktoscope"))
    n_left_out = 0
    for column in ("acq_pixel", "process_pixel"):
        value = _positive_numbers(frame, column)
        in_um = np.where((value >= 1) | is_planktoscope, value, np.where(is_uvp, value * 1000, np.nan))
        n_left_out = max(n_left_out, int((np.isnan(in_um) & np.isfinite(value) & np.isnan(size)).sum()))
        size = np.where(np.isnan(size), in_um, size)
    if n_left_out:
        logger.warning("pixel_size: %d images have acq_pixel or process_pixel in an unknown unit; left out", n_left_out)
    return size


def _positive_numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return a column as numbers; nan where there is none, or none above zero."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)
