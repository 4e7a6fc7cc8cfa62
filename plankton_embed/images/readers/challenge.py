"""Challenge sets: one image per object, named after its `objid`, in a ZIP or a folder; tables of classes and features.

The FlowCam set is `imgs.zip` or `imgs/` with `meta.csv`; ZooScanNet and FlowCamNet are `imgs/<class>/` with
`taxa.csv.gz`. The tables of features are in the same folder: `features_*.csv` or `features_*.csv.gz`.
"""

from __future__ import annotations

import gzip
import logging
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_files import FEATURE_PREFIX
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.feature_names import is_feature
from plankton_embed.images.readers.folder import IMAGE_SUFFIXES, list_images
from plankton_embed.images.readers.status import read_statuses, select_labels
from plankton_embed.images.readers.table_text import SENTINEL, find_sentinels, to_numbers, to_utf8
from plankton_embed.spreadsheet import MISSING, parse_table, read_decimal_commas, read_header

TABLES = ("meta.csv", "meta.csv.gz", "taxa.csv", "taxa.csv.gz")
IMAGES = ("imgs.zip", "imgs")  # the first that exists
LABEL_COLUMNS = ("level2", "level1", "taxon_level2", "taxon_level1", "taxon", "unique_name")
RANGES = {
    "latitude": (-90, 90),
    "longitude": (-180, 180),
    "depth_min": (-12_000, 12_000),
    "depth_max": (-12_000, 12_000),
}
STATUS = {"v": "validated", "p": "predicted", "d": "dubious"}  # EcoTaxa's letters
KEPT = {
    "projid": "projid",
    "set": "split",
    "lineage": "lineage",
    "lineage_level1": "lineage",
}  # column -> its name in the catalog

logger = logging.getLogger(__name__)


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Return whether this is a folder with `imgs` or `imgs.zip` and one of TABLES, or such a table."""
    folder, names = (path, files) if path.is_dir() else (path.parent, [path.name])
    return any(name in TABLES for name in names) and any((folder / name).exists() for name in IMAGES)


def read(
    path: Path, faults: Faults, label_column: str | None = None, status: str | Sequence[str] | None = None
) -> ImageCatalog:
    """Read a challenge set: object id, class, place, time, depth, lineage and features of every labelled image.

    Rows without a class are dropped, and a warning counts them. Numbers of a table `features_native.csv` become
    `feature_<column>`, or `feature_native_<column>` where another table has the same column. Empty cells stay empty;
    infinite numbers count as empty. A comma is read as a decimal sign where it does not separate the columns and all
    cells of a column are numbers that way. Positions on the scan, sequence numbers and tags (see `is_feature`) become
    `<table>_<column>`. Where the table has a status, classes that are not validated go to the column
    `unvalidated_label`.

    Args:
        path: the folder, or its table of classes.
        faults: collects rows without an id or an image, and wrong cells.
        label_column: one of LABEL_COLUMNS, whose text is the class; by default the first that exists, `level2` in
            the FlowCam set and `taxon` in ZooScanNet.
        status: statuses of the rows whose classes are labels (see `read_statuses`); by default `validated`.

    Raises:
        InputError: a file or a column is missing, or there are faults.
        SettingError: the table has no such `label_column`, or there is no such status.
    """
    statuses = read_statuses(status)
    path = Path(path)
    table_path = _find_table(path) if path.is_dir() else path
    folder = table_path.parent
    table = _read_table(table_path)
    label_column = _choose_label(table, table_path, label_column)
    table = _check_ids(table, table_path, faults)
    rows = pd.DataFrame({"object_id": table["objid"], "label": table[label_column]})
    labelled = rows["label"].notna()
    if not labelled.any():
        raise InputError(
            f"{table_path}: expected classes in the column {label_column}; found none; choose another column"
        )
    if not labelled.all():
        logger.warning(
            "%s: dropped %s of %s rows, because they have no %s",
            table_path,
            f"{(~labelled).sum():,}",
            f"{len(table):,}",
            label_column,
        )
    ids, table, rows = table["objid"], table[labelled], rows[labelled].copy()
    rows["path"] = _find_images(folder, rows["object_id"], ids, table_path, faults)
    _add_metadata(rows, table, table_path, faults)
    features = _read_features(folder, ids, faults)
    faults.report()
    rows = rows[rows["path"].notna()]
    rows = rows.join(features, on="object_id") if features is not None else rows
    rows = select_labels(rows, statuses, str(table_path), pd.Series("status" in table, index=rows.index))
    return ImageCatalog.from_rows(rows, source=str(path), root=folder)


def _find_table(folder: Path) -> Path:
    found = [name for name in TABLES if (folder / name).is_file()]
    if len(found) != 1:
        raise InputError(f"{folder}: expected one of {', '.join(TABLES)}; found {', '.join(found) or 'none'}")
    return folder / found[0]


def _choose_label(table: pd.DataFrame, path: Path, label_column: str | None) -> str:
    """Return the column of the classes."""
    present = [name for name in LABEL_COLUMNS if name in table]
    if not present:
        raise InputError(
            f"{path}: expected a column with classes, {', '.join(LABEL_COLUMNS)}; found {', '.join(table.columns)}"
        )
    if label_column is not None and label_column not in present:
        raise SettingError(f"label_column: {path} has classes in {', '.join(present)}; found {label_column!r}")
    return label_column or present[0]


def _read_table(path: Path, as_text: bool = True) -> pd.DataFrame:
    """Read a CSV, which may be gzipped, without its empty rows; the index is the line of the file minus 2.

    Args:
        path: a table with a column `objid`, which is text.
        as_text: keep the other columns as text too; else a column of numbers only is read as numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        raw = to_utf8(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    options: dict[str, Any] = {"na_values": [*MISSING], "skip_blank_lines": False, "low_memory": False}
    try:
        table = parse_table(raw, dtype="str" if as_text else {"objid": "str"}, **options)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    _, delimiter = read_header(raw)
    for column in table:
        if read_decimal_commas(table[column], delimiter) is not None:
            table[column] = table[column].str.replace(",", ".", regex=False)
    table = table.rename(columns=str.strip)
    if "objid" not in table:
        raise InputError(f"{path}: expected a column objid; found {', '.join(table.columns)}")
    return table.dropna(how="all")


def _check_ids(table: pd.DataFrame, path: Path, faults: Faults) -> pd.DataFrame:
    """Return the rows with an objid that no earlier row has."""
    ids = table["objid"].str.strip()
    doubled = ids.duplicated() & ids.notna()
    for line, _ in _lines(ids[ids.isna()]):
        faults.add(path, "the id of an object", "an empty cell", row=line, column="objid")
    for line, objid in _lines(ids[doubled]):
        faults.add(path, "each objid once", f"{objid} again", row=line, column="objid")
    return table.assign(objid=ids)[ids.notna() & ~doubled]


def _lines(cells: pd.Series) -> Iterator[tuple[int, Any]]:
    """Yield each cell of a column with its line in the file."""
    return zip((cells.index.to_numpy() + 2).tolist(), cells.tolist(), strict=True)


def _find_images(folder: Path, wanted: pd.Series, ids: pd.Series, table_path: Path, faults: Faults) -> pd.Series:
    """Return the path of each wanted object's image below the folder; missing where it has no image."""
    place = next((name for name in IMAGES if (folder / name).exists()), None)
    if place is None:
        raise InputError(f"{folder}: expected images in {' or '.join(IMAGES)}; found neither")
    below = pd.Series(_list_images(folder / place), dtype="str")
    stem = below.str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]
    again = stem.duplicated()
    for second in below[again][stem[again].isin(wanted)]:
        faults.add(folder / place, "one image per object", f"a second image, {second}")
    found = below[~again].set_axis(stem[~again])
    paths: pd.Series = wanted.map(found)
    missing = wanted[paths.isna()]
    if len(missing) == len(wanted):
        raise InputError(
            f"{folder / place}: expected images named {wanted.iloc[0]}.jpg and so on, by objid; found none"
        )
    for line, objid in _lines(missing):
        faults.add(table_path, f"an image {objid}.jpg in {place}", "none", row=line, column="objid")
    n_spare = len(set(found.index) - set(ids))
    if n_spare:
        logger.warning("%s: ignored %s images that are not in %s", folder / place, f"{n_spare:,}", table_path.name)
    return f"{place}/" + paths


def _list_images(place: Path) -> list[str]:
    """Return the relative paths of the visible images in a ZIP or below a folder."""
    try:
        if place.is_dir():
            return list(list_images(place))
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{place} cannot be read: {error}") from error
    visible = [name for name in names if "/." not in f"/{name}" and not name.startswith("__MACOSX")]
    return [name for name in visible if f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES]


def _add_metadata(rows: pd.DataFrame, table: pd.DataFrame, path: Path, faults: Faults) -> None:
    """Add position, depth, time, status and lineage to `rows`; a wrong cell is read as empty."""

    def note(bad: pd.Series, column: str, expected: str, outcome: str = "the cell is read as empty") -> None:
        for line, found in _lines(table.loc[bad, column]):
            faults.add(path, expected, f"{found!r}; {outcome}", row=line, column=column, kept=True)

    for column, (low, high) in RANGES.items():
        if column in table:
            numbers, _ = to_numbers(table[column], decimal_comma=False)
            is_nines = pd.Series(find_sentinels(table[column], numbers), index=rows.index)
            is_inside = pd.Series(numbers, index=rows.index).between(low, high) & ~is_nines
            rows[column] = np.where(is_inside, numbers, np.nan)
            note(is_nines, column, "a measured value", f"{SENTINEL}; the cell is read as empty")
            outside = ~is_inside & table[column].notna() & ~is_nines
            note(outside, column, f"a number from {low:,} to {high:,}")
    if {"depth_min", "depth_max"} <= set(rows):
        is_turned = rows["depth_min"] > rows["depth_max"]
        note(is_turned, "depth_min", "the smaller of the two depths", "it is larger than depth_max; both are kept")
    if "objdate" in table:
        rows["time"], bad_date, bad_time = _join_times(table)
        note(bad_date, "objdate", "a date, YYYY-MM-DD or YYYYMMDD", "the object has no time")
        note(bad_time, "objtime", "a time, HH:MM:SS or HHMMSS", "the object has only its date")
    if "status" in table:
        rows["annotation_status"] = table["status"].str.strip().str.lower().replace(STATUS)
    for column, name in KEPT.items():
        if column in table:
            rows[name] = table[column]


def _join_times(table: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return times as ISO 8601 (UTC, as in EcoTaxa), and masks of the wrong dates and of the wrong times."""
    digits = table["objdate"].str.replace("-", "")
    day = pd.to_datetime(digits.where(digits.str.fullmatch(r"\d{8}", na=False)), format="%Y%m%d", errors="coerce")
    text = day.dt.strftime("%Y-%m-%d")
    bad_date = day.isna() & table["objdate"].notna()
    if "objtime" not in table:
        return text, bad_date, bad_date & False
    digits = table["objtime"].str.replace(":", "").str.split(".").str[0]
    digits = digits.where(~digits.str.fullmatch(r"\d{4}", na=False), digits + "00")
    clock = pd.to_datetime(digits.where(digits.str.fullmatch(r"\d{6}", na=False)), format="%H%M%S", errors="coerce")
    bad_time = clock.isna() & table["objtime"].notna()
    return text.where(clock.isna(), text + clock.dt.strftime("T%H:%M:%SZ")), bad_date, bad_time


def _read_features(folder: Path, ids: pd.Series, faults: Faults) -> pd.DataFrame | None:
    """Return the features of all tables, indexed by objid; None without a table."""
    paths = sorted(
        file for file in folder.glob("features_*.csv*") if file.name.endswith((".csv", ".csv.gz")) and file.is_file()
    )
    tables: dict[str, pd.DataFrame] = {}
    for path in paths:
        name = path.name.removeprefix("features_").split(".csv")[0]
        if name in tables:
            raise InputError(
                f"{folder}: expected one table features_{name}; found one with .gz and one without; remove one of them"
            )
        tables[name] = _read_numbers(path, ids, faults)
    n_tables = Counter(column for table in tables.values() for column in table)
    named = []
    for name, table in tables.items():
        columns = {}
        for column in map(str, table):
            full = f"{name}_{column}" if n_tables[column] > 1 or not is_feature(column) else column
            columns[column] = f"{FEATURE_PREFIX}{full}" if is_feature(column) else full
        named.append(table.rename(columns=columns))
    return pd.concat(named, axis=1) if named else None


def _read_numbers(path: Path, ids: pd.Series, faults: Faults) -> pd.DataFrame:
    """Return the numeric columns of a table, indexed by objid; empty cells are nan."""
    table = _check_ids(_read_table(path, as_text=False), path, faults)
    in_set, given = set(ids), set(table["objid"])
    if not in_set & given:
        first = f"none; the first row is of {min(given)!r}" if given else "no rows"
        raise InputError(f"{path}: expected features of the set's objects; found {first}")
    for n_rows, what in (
        (len(given - in_set), "rows do not belong to an object of the set"),
        (len(in_set - given), "objects have no row"),
    ):
        if n_rows:
            logger.warning("%s: %s %s", path, f"{n_rows:,}", what)
    numbers = {}
    for column in table.columns.drop("objid"):
        cells = table[column]
        if pd.api.types.is_numeric_dtype(cells):
            values, bad = cells.to_numpy("float64"), np.zeros(len(cells), dtype=bool)
        else:
            values, bad = to_numbers(cells, decimal_comma=False)
        if bad.any() and np.isnan(values).all():
            logger.warning("%s: ignored the column %s, because it holds text", path, column)
            continue
        for line, found in _lines(table.loc[bad, column]):
            what = f"{found!r}; the cell is read as empty"
            faults.add(path, "a number", what, row=line, column=column, kept=True)
        numbers[column] = np.where(np.isfinite(values), values, np.nan)
    return pd.DataFrame(numbers).set_axis(table["objid"])
