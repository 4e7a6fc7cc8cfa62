"""EcoTaxa tables, as they are imported and as they are exported: a folder of them, one, or a ZIP read in place.

Tables are files named `ecotaxa*.tsv` or `ecotaxa*.txt`, at any depth, in UTF-8 or Latin-1. Images are named in
`img_file_name`, relative to their table. `object_id` identifies an object over all tables of a source: a second image
of an object, in the same or another table, is one more row of the catalog; the same image twice is a fault.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_files import FEATURE_PREFIX
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.ecotaxa_table import MANDATORY, STRING, Table, read_header, read_table
from plankton_embed.images.readers.ecotaxa_units import UnitOptions, measure_sizes
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.feature_names import is_feature
from plankton_embed.images.readers.folder import IMAGE_SUFFIXES, list_images, list_other_files
from plankton_embed.images.readers.status import read_statuses, select_labels
from plankton_embed.images.readers.table_text import to_objects
from plankton_embed.images.workers import map_images

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".tsv", ".txt")
IMAGE_PREFIXES = ("img_", "acq_", "process_", "sample_")  # of columns that tables of predictions do not have
N_OPENED = 5_000  # up to so many images of a source are opened to find broken ones; later steps report the others
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

UNPACK = "give it as a source of its own, or unpack it"

ListFolder = Callable[[str], frozenset[str]]  # folder -> the names of its files


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Return whether a folder or a ZIP contains tables of EcoTaxa, or a file is one, by its name or its columns.

    A folder of images does not count if its files called ecotaxa*.tsv are other tables, such as exported predictions.
    A folder without images but with ZIPs of tables counts, so that an error can list the ZIPs.
    """
    if path.is_dir():
        tables = _list_tables(files)
        if not tables:
            return (
                bool(zips := _list_zips(files))
                and next(list_images(path), None) is None
                and any(recognize(path / name, ()) for name in zips)
            )
        holds_one = any(_is_meant(read_header(path / name)) for name in tables)
        return holds_one or (bool(tables) and next(list_images(path), None) is None)
    if _is_zip(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return bool(_list_tables(archive.namelist()))
        except ZIP_FAULTS:
            return False
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return False
    names = read_header(path)
    return "path" not in names and (bool(_list_tables([path.name])) or names.issuperset(MANDATORY))


def read(
    path: Path,
    faults: Faults,
    status: str | Sequence[str] | None = None,
    dilution: str | None = None,
    images_per_sample: float | str | Path | None = None,
    feature_unit: str | None = None,
) -> ImageCatalog:
    """Read tables of EcoTaxa: those of a folder, at any depth, of a ZIP, or a single one.

    Columns of the catalog:
    - `object_id`: for the first image of an object (by `img_rank`, then in order) the `object_id` of the table; further
      images have `/1`, `/2`, … after it. Where several samples or acquisitions use one `object_id`, that of the sample
      or acquisition is put before it. `ecotaxa_id` and `img_file_name` are as in the table.
    - `label`: the category as written (`Name<Parent` where one name has several parents). It is missing where the
      object has no category, only a category id (kept in `category_id`), or a status that is not in `status` (the
      category is then in `unvalidated_label`).
    - `time`: in UTC, as in EcoTaxa. `pixel_size`, `volume`, `subsample_factor`, `size_unit`: see `measure_sizes`.
    - Numbers in free `object_` columns are features, except positions, sequence numbers and tags (see `is_feature`).
      All other columns keep their names. Columns without any value are left out.

    Column names are lower-cased. Cells that are empty, `na` or `nan`, infinite numbers, and (except in features)
    numbers of five or more nines are missing. A comma is read as a decimal sign where all cells of a column are numbers
    that way. `[t]` and `[f]` below the header declare which free `object_` columns are text and which are numbers;
    without them, a column is numeric where all its values are numbers.

    Args:
        path: a folder, a ZIP or a table.
        faults: collects the faults. Up to N_OPENED images are opened, so that broken ones are reported; where there are
            more, only missing files are.
        status: statuses of the rows whose categories are labels (see `read_statuses`); by default `validated`. Tables
            without a column of statuses keep all their labels.
        dilution, images_per_sample, feature_unit: see `UnitOptions`.

    Raises:
        InputError: the source cannot be read, has no images, or has faults.
        SettingError: an option has a wrong value, or does not apply to these tables.
    """
    statuses = read_statuses(status)
    options = UnitOptions(dilution, images_per_sample, feature_unit)
    tables, list_folder = _read_zip(path, faults) if _is_zip(path) else _read_folder(path, faults)
    if not tables and not faults.found:
        raise InputError(f"{path}: expected tables named ecotaxa*.tsv or ecotaxa*.txt; found none")
    for table in tables:
        _find_images(table, list_folder)
    _name_rows(tables, faults)
    sizes = _open_images(tables)
    for table in tables:
        faults.found += sorted(table.found, key=lambda fault: fault.row or 0)
    _report_unnamed(path, tables, list_folder, faults)
    faults.report()
    frame, has_status = _join(tables)
    frame = _separate_classes(frame, faults)
    _report_null_island(frame, faults)
    vignettes = pd.DataFrame(
        [sizes.get(image, (np.nan, np.nan)) for image in frame["path"]], columns=["width", "height"]
    )
    frame = frame.assign(**measure_sizes(frame, faults, options, vignettes))
    faults.report()
    if "ecotaxa_id" in frame:
        n_objects = frame["_object"].nunique()
        logger.info("%s: %d images of %d objects; tables: %d", path, len(frame), n_objects, len(tables))
    frame = select_labels(_rename_columns(frame), statuses, str(path), has_status)
    return ImageCatalog.from_rows(frame, source=str(path), faults=faults)


def _is_meant(names: set[str]) -> bool:
    """Return whether a header may be that of a table of images, even one with missing names or without a header."""
    is_whole = names.issuperset(MANDATORY)
    return is_whole or names <= {"[t]", "[f]"} or any(name.startswith(IMAGE_PREFIXES) for name in names)


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file()


def _list_tables(names: Iterable[str]) -> list[str]:
    return sorted(
        name
        for name in names
        if (found := PurePosixPath(name)).suffix.lower() in TABLE_SUFFIXES
        and found.name.lower().startswith("ecotaxa")
        and not any(part.startswith((".", "__MACOSX")) for part in found.parts)
    )


def _list_zips(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.lower().endswith(".zip"))


def _read_zip(path: Path, faults: Faults) -> tuple[list[Table], ListFolder]:
    """Return the tables of a ZIP, and a function that lists a folder inside it."""
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_FAULTS as error:
        raise InputError(f"{path} cannot be read as a ZIP: {error}; is it complete? copy it again") from error
    with archive:
        members = _list_members(archive, path, faults)
        tables = _read_tables(path, _list_tables(members), archive.read, faults)
    if inner := _list_zips(members):
        found = f"{_name_some(inner)}, which is not read"
        faults.add(path, "tables and images outside of inner ZIPs", found, kept=True, remedy=UNPACK)
    folders: dict[str, set[str]] = {}
    for name in members:
        folder, file = os.path.split(os.path.abspath(path / name))  # noqa: PTH100  (keeps links)
        folders.setdefault(folder, set()).add(file)
    return tables, lambda folder: frozenset(folders.get(folder, ()))


def _read_folder(path: Path, faults: Faults) -> tuple[list[Table], ListFolder]:
    """Return the tables of a folder, or a single one, and a function that lists a folder."""
    files = list(list_other_files(path)) if path.is_dir() else [path.name]
    start = path if path.is_dir() else path.parent
    names = _list_tables(files) if path.is_dir() else files
    if zips := [name for name in _list_zips(files) if recognize(start / name, ())]:
        if not names:
            raise InputError(
                f"{path}: expected tables named ecotaxa*.tsv or ecotaxa*.txt; found {_name_some(zips)} with such tables"
                f"; {UNPACK}"
            )
        faults.add(path, "tables outside of ZIPs", f"{_name_some(zips)}, not read", kept=True, remedy=UNPACK)

    @cache
    def list_folder(folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder))  # noqa: PTH208
        except OSError:
            return frozenset()

    return _read_tables(start, names, lambda name: (start / name).read_bytes(), faults), list_folder


def _list_members(archive: zipfile.ZipFile, path: Path, faults: Faults) -> list[str]:
    """Return the names of the files in a ZIP; names that point outside of it are faults."""
    members = []
    for name in archive.namelist():
        if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            faults.add(path, "names of files inside the ZIP", f"{name!r}, which points outside of it")
        elif not name.endswith("/"):
            members.append(name)
    return members


def _read_tables(start: Path, names: Iterable[str], load: Callable[[str], bytes], faults: Faults) -> list[Table]:
    tables = []
    for name in names:
        file = start / name
        try:
            raw = load(name)
        except ZIP_FAULTS as error:
            faults.add(file, "a table that can be read", str(error))
            continue
        try:
            tables.append(read_table(raw, file))
        except InputError as fault:
            faults.add(file, "a table of EcoTaxa", f"something else ({fault})")
    return tables


def _find_images(table: Table, list_folder: ListFolder) -> None:
    """Find the path of every image; a missing file is a fault."""
    names = table.text["img_file_name"].fillna("").str.replace("\\", "/", regex=False)
    is_absolute = names.str.match(r"/|[A-Za-z]:/").to_numpy(dtype=bool)
    table.refuse(is_absolute, "img_file_name", "a path relative to the table")
    paths = [os.path.normpath(posixpath.join(table.folder, name)) for name in names.tolist()]
    parts = [os.path.split(path) for path in paths]
    is_there = np.array([file in list_folder(folder) for folder, file in parts])
    is_missing = ~is_there & (names != "").to_numpy() & ~is_absolute
    table.refuse(is_missing, "img_file_name", "an existing image, relative to the table")
    table.text["path"] = pd.Series(paths, dtype=STRING)


def _report_unnamed(path: Path, tables: Sequence[Table], list_folder: ListFolder, faults: Faults) -> None:
    """Report images in the folders of the tables or of their images that are not in any row."""
    named = {image for table in tables for image in table.text["path"]}
    folders = {table.folder for table in tables} | {os.path.dirname(image) for image in named}  # noqa: PTH120
    if not path.is_dir() and not _is_zip(path) and len(_list_tables(list_folder(str(path.absolute().parent)))) > 1:
        return  # they may be in the other tables
    spare = sorted(
        image
        for folder in folders
        for name in list_folder(folder)
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122
        and not name.startswith(".")
        and (image := os.path.join(folder, name)) not in named  # noqa: PTH118
    )
    if spare:
        found = f"{_name_some(spare)}, which no row lists, so not read"
        faults.add(
            path,
            "images that the tables list",
            found,
            kept=True,
            remedy="check whether a table is incomplete, or a quote in it is not closed",
        )


def _name_some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


def _name_rows(tables: Sequence[Table], faults: Faults) -> None:
    """Give every image its own `object_id`; the same image of an object twice is a fault.

    Objects of several samples, or of several acquisitions of one sample (fractions, runs), are different objects even
    if they share an `object_id`: the id of the sample or acquisition is put before it.
    """
    if not tables:
        return
    columns = {"object_id": "ecotaxa_id", "acq_id": "acq", "sample_id": "sample", "path": "path"}
    parts = [table.text.reindex(columns=[*columns]).astype(STRING) for table in tables]
    rows = pd.concat(parts, ignore_index=True).rename(columns=columns)
    rows["rank"] = np.concatenate([table.numbers.get("img_rank", np.zeros(len(table.rows))) for table in tables])
    doubled = rows.duplicated(["ecotaxa_id", "path"]) & rows["ecotaxa_id"].notna()
    _refuse(tables, doubled, "img_file_name", "an image that no earlier row has for this object")
    good = rows[np.concatenate([table.is_good for table in tables])].fillna({"rank": 0})
    own = good["ecotaxa_id"]
    for part, above, what in (("acq", ["sample"], "acquisitions of one sample"), ("sample", [], "samples")):
        n_parts = good.groupby(["ecotaxa_id", *above], dropna=False)[part].transform("nunique")
        shared = (n_parts > 1) & good[part].notna()
        if shared.any():
            first = good.loc[shared, "ecotaxa_id"].iloc[0]
            listed = " and ".join(map(str, good.loc[shared & (good["ecotaxa_id"] == first), part].unique()[:2]))
            n, name = good.loc[shared, "ecotaxa_id"].nunique(), "sample" if part == "sample" else "acquisition"
            found = (
                f"{n:,} in several {what}, such as {first} in {listed}; these are different objects, named "
                f"{name}/object"
            )
            faults.add(faults.source, f"each object_id in one {name} only", found, column="object_id", kept=True)
            own = own.where(~shared, good[part] + "/" + own)
    number = good.sort_values("rank", kind="stable").groupby(own, sort=False).cumcount().reindex(good.index)
    own_id = own.where(number == 0, own + "/" + number.astype(STRING))
    is_taken = (own_id.duplicated(keep=False) & ((number > 0) | (own != good["ecotaxa_id"]))).reindex(
        rows.index, fill_value=False
    )
    _refuse(tables, is_taken, "object_id", "an id other than those given to further images of an object, ID/1, ID/2")
    for table, ids, objects in zip(
        tables, _split(tables, own_id.reindex(rows.index)), _split(tables, own.reindex(rows.index)), strict=True
    ):
        index = table.text.index
        table.text = table.text.assign(
            ecotaxa_id=table.text["object_id"], object_id=ids.set_axis(index), _object=objects.set_axis(index)
        )


def _open_images(tables: Sequence[Table]) -> dict[str, tuple[int, int]]:
    """Return the sizes of all images; one that cannot be decoded is a fault. Above N_OPENED images: none is opened."""
    images = pd.concat([table.text["path"][table.is_good] for table in tables] or [pd.Series(dtype=STRING)])
    paths = images.unique().tolist()
    if len(paths) > N_OPENED:
        return {}
    found = dict(zip(paths, map_images(_try_image, paths, "opening"), strict=True))
    broken = {path: what for path, what in found.items() if isinstance(what, str)}
    for table in tables:
        for row in np.flatnonzero(table.text["path"].isin(list(broken)).to_numpy() & table.is_good):
            shown = f"{table.text['img_file_name'].iloc[row]!r}, {broken[table.text['path'].iloc[row]]}"
            table.add(int(table.rows[row]), "img_file_name", "an image", shown)
            table.is_good[row] = False
    return {path: size for path, size in found.items() if not isinstance(size, str)}


def _try_image(path: str) -> tuple[int, int] | str:
    """Return the width and height of an image, or why it cannot be decoded."""
    try:
        return open_image(path).size
    except InputError as fault:
        return str(fault)


def _refuse(tables: Sequence[Table], is_bad: pd.Series, column: str, expected: str) -> None:
    for table, part in zip(tables, _split(tables, is_bad), strict=True):
        table.refuse(part.to_numpy(dtype=bool), column, expected)


def _split(tables: Sequence[Table], rows: pd.Series) -> list[pd.Series]:
    """Divide a value per row of all tables by table."""
    ends = np.cumsum([0, *(len(table.rows) for table in tables)])
    return [rows.iloc[start:end] for start, end in pairwise(ends)]


def _join(tables: Sequence[Table]) -> tuple[pd.DataFrame, pd.Series]:
    """Return the good rows of all tables as one frame, and a mask of those from a table with statuses.

    A column is numeric where it is so in every table that has values in it. Columns without values are left out.
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
    has_status = [np.full(int(table.is_good.sum()), table.has_status) for table in tables]
    return pd.DataFrame(joined), pd.Series(np.concatenate(has_status or [np.zeros(0, dtype=bool)]))


def _separate_classes(frame: pd.DataFrame, faults: Faults) -> pd.DataFrame:
    """Return the rows with the category `Name<Parent` wherever one name has several parents or is written both ways.

    The parent is taken from the category, else from the hierarchy (its second last name).
    """
    columns = ["object_annotation_category", "object_annotation_hierarchy"]
    if columns[0] not in frame:
        return frame
    given = frame.reindex(columns=columns).astype(object)
    pairs = given.drop_duplicates().dropna(subset=columns[0])
    parents: dict[str, set[str]] = {}
    forms: dict[tuple[str, str], set[str]] = {}
    named = []
    for category, hierarchy in pairs.itertuples(index=False):
        name, _, parent = (part.strip() for part in category.partition("<"))
        above = [] if pd.isna(hierarchy) else [part.strip() for part in hierarchy.split(">")]
        if not parent and len(above) > 1 and above[-1].lower() == name.lower():
            parent = above[-2]
        named.append((category, hierarchy, name, parent))
        if parent:
            parents.setdefault(name, set()).add(parent)
            forms.setdefault((name, parent), set()).add(category)
    renamed = {
        (category, hierarchy): f"{name}<{parent}"
        for category, hierarchy, name, parent in named
        if parent and (len(parents[name]) > 1 or len(forms[name, parent]) > 1)
    }
    changed = {old: new for old, new in renamed.items() if old[0] != new}
    if not changed:
        return frame
    keys = pd.MultiIndex.from_frame(given.fillna(""))
    new = pd.Series({(old[0], "" if pd.isna(old[1]) else old[1]): name for old, name in changed.items()})
    found = new.reindex(keys).to_numpy(dtype=object)
    is_new = pd.notna(found)
    names = sorted(set(new))
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    expected = "each class name under one parent, in one form"
    found_names = f"others, which are read as the classes {shown}"
    faults.add(faults.source, expected, found_names, column=columns[0], kept=True)
    return frame.assign(**{columns[0]: frame[columns[0]].mask(is_new, pd.Series(found, dtype="str"))})


def _report_null_island(frame: pd.DataFrame, faults: Faults) -> None:
    """Report positions of exactly 0°, 0°, which are kept: a mooring is there, but most mean a missing position."""
    if not {"object_lat", "object_lon"} <= {*frame}:
        return
    n = int(((frame["object_lat"] == 0) & (frame["object_lon"] == 0)).sum())
    if n:
        found = f"0°, 0° in {n:,} row{'s' if n > 1 else ''}, kept as it is"
        remedy = "empty the cells if there was no position"
        expected = "measured positions"
        faults.add(faults.source, expected, found, column="object_lat, object_lon", kept=True, remedy=remedy)


def _rename_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of EcoTaxa with the names they have in a catalog."""
    if "object_date" in frame:
        frame = frame.assign(time=_join_time(frame))
    features = {
        name: FEATURE_PREFIX + name.removeprefix("object_")
        for name in map(str, frame)
        if name.startswith("object_")
        and frame[name].dtype == np.float64
        and name not in RENAMED
        and is_feature(name.removeprefix("object_"))
    }
    return frame.drop(columns=["object_date", "object_time", "_object"], errors="ignore").rename(
        columns=features | RENAMED
    )


def _join_time(frame: pd.DataFrame) -> pd.Series:
    """Return the date, with the time where there is one; EcoTaxa's instructions for imports ask for UTC."""
    if "object_time" not in frame:
        return frame["object_date"]
    with_time = frame["object_date"] + "T" + frame["object_time"] + "Z"
    return with_time.where(frame["object_time"].notna(), frame["object_date"])
