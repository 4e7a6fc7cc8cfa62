"""ImageCatalog: one row an image, with its label, split and sample; CSV and Parquet in and out; class map; summary."""

from __future__ import annotations

import csv
import logging
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.marks import find_marks
from plankton_embed.images.preparation import DECODER_FAULTS, hash_pixels, open_image, to_8bit
from plankton_embed.images.readers.faults import Faults
from plankton_embed.output import progress_bar, write_atomically
from plankton_embed.settings import PreparationSettings
from plankton_embed.spreadsheet import (
    DECIMAL_COMMA,
    THOUSANDS,
    drop_points,
    is_text,
    list_lines,
    parse_table,
    read_decimal_commas,
    read_header,
    read_raw,
    read_spreadsheet,
    to_text,
)
from plankton_embed.spreadsheet import MISSING as MISSING
from plankton_embed.spreadsheet import clean_label as clean_label

logger = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

UNKNOWN = "unknown"  # the label of a rejected image, so that no class may have it

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
TEXT_COLUMNS = (  # a class or a sample may be called NA or 007; the last column is of corrections
    *(
        "object_id",
        "path",
        "label",
        "unvalidated_label",
        "split",
        "sample_id",
        "lineage",
        "annotation_status",
        "ecotaxa_id",
    ),
    *("img_file_name", "category_id", "acq_id", "process_id", "objid", "ifcb_bin", "correction_label", "contradicts"),
)
METADATA_COLUMNS = {
    "latitude": "degrees north",
    "longitude": "degrees east",
    "time": "ISO 8601, in UTC where the source tells",
    "depth_min": "m",
    "depth_max": "m",
    "pixel_size": "µm per pixel",
    "volume": "m³ of water that the sample stands for",
    "volume_of": "what the volume is of: sea water, or fluid that was run",
    "subsample_factor": "times that the imaged part goes into the sample",
    "size_unit": "unit of areas and axes: px, um or unknown; without it pixels",
}
MOST_SEARCHED = 2000  # images of a catalog in which a summary looks for marks
NUMBER_COLUMNS = (*(name for name in METADATA_COLUMNS if name not in ("time", "volume_of", "size_unit")),)
NUMBER = "a number such as 1234.5"
# m³: a run of an IFCB that stopped after a second has 4e-9; the largest nets (RMT 25, towed for 5 km) filter about 1e5
SMALLEST_VOLUME, LARGEST_VOLUME = 1e-9, 1e6
LIMITS = {  # column -> least (not itself), most, and what is expected
    "volume": (SMALLEST_VOLUME, LARGEST_VOLUME, "m³ of water of a sample, above 1e-9 (a microlitre) and up to 1e6"),
    "subsample_factor": (0.0, 1e9, "times that the imaged part goes into the sample, above 0 and up to 1e9"),
}
FEATURE_PREFIX = "feature_"  # of the columns with numeric features, whatever their source calls them
STR = pd.Series(dtype="str").dtype  # object before pandas 3
ASCII_BLANKS = "".join(filter(str.isspace, map(chr, range(128))))
N_ROWS_AT_ONCE = 50_000  # written to a CSV


@dataclass(frozen=True)
class ImageCatalog:
    """Images and what is known of them.

    `frame` has one row an image and always the columns `object_id` (unique text), `path` (absolute; it may go on
    inside a file, see `images.containers`) and `label` (text, missing where unknown). Optional are `split` (train, val
    or test), `sample_id`, the columns of METADATA_COLUMNS, numeric features, whose names start with `feature_`,
    `lineage` (`A>B>C`), `annotation_status`, and any others. `summary` is what `pipeline.catalog` found in these rows.
    """

    frame: pd.DataFrame
    summary: CatalogSummary | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def paths(self) -> list[str]:
        """Absolute path of every image."""
        return list(map(str, self.frame["path"].to_numpy(dtype=object)))  # an Arrow column is slow to walk

    @property
    def pixel_size(self) -> NDArray[np.float32] | None:
        """µm per pixel of every image, from the column `pixel_size` (nan where empty); None without that column.

        Raises:
            InputError: a value is no number.
        """
        if "pixel_size" not in self.frame:
            return None
        try:
            return self.frame["pixel_size"].to_numpy(dtype=np.float32, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise InputError(f"column pixel_size: expected µm per pixel; {error}") from error

    @property
    def labels(self) -> list[str | None]:
        """Class name of every image, None where unknown."""
        label = self.frame["label"]
        names = label.to_numpy(dtype=object)
        return [str(name) if known else None for name, known in zip(names, label.notna().to_numpy(), strict=True)]

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted(str(label) for label in self.frame["label"].dropna().unique())

    @property
    def features(self) -> pd.DataFrame:
        """The numeric features, one column each, named without `feature_`; float64, nan where empty."""
        columns = [name for name in self.frame if str(name).startswith(FEATURE_PREFIX)]
        numbers = self.frame[columns].rename(columns=lambda name: name.removeprefix(FEATURE_PREFIX))
        return numbers.astype("float64")

    @property
    def has_splits(self) -> bool:
        """Whether every row has its split."""
        return "split" in self.frame and bool(self.frame["split"].notna().all())

    def select(self, mask: Any) -> ImageCatalog:
        """Keep the rows of a boolean mask or of row numbers."""
        mask = np.asarray(mask) if np.size(mask) else np.zeros(0, dtype=np.intp)
        rows = self.frame[mask] if mask.dtype == bool else self.frame.iloc[mask]
        return ImageCatalog(rows.reset_index(drop=True))

    def split(self, name: str) -> ImageCatalog:
        """Keep one split: `train`, `val` or `test`."""
        if "split" not in self.frame:
            raise InputError("the catalog has no column split; divide it first")
        if name not in SPLITS:
            raise SettingError(f"split: expected one of {', '.join(SPLITS)}; found {name!r}")
        return self.select((self.frame["split"] == name).to_numpy())

    def with_classes(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        class_map: Mapping[str, str] | None = None,
    ) -> ImageCatalog:
        """Rename, merge and drop classes.

        Args:
            include: keep only these classes (unlabelled rows are dropped too); empty keeps all.
            exclude: drop these classes.
            class_map: old name -> new name, applied last; two old names with one new name merge, an empty new
                name drops the class, names not in the map stay. The names in `unvalidated_label` are renamed too; their
                images stay, where the class is dropped without that name.

        Raises:
            SettingError: a name that no image has.
        """
        known = set(self.classes)
        unvalidated = set(self.frame["unvalidated_label"].dropna()) if "unvalidated_label" in self.frame else set()
        include, exclude = [clean_label(c) for c in include], [clean_label(c) for c in exclude]
        renames = {clean_label(old): clean_label(new) for old, new in (class_map or {}).items()}
        for option, names in (("include", include), ("exclude", exclude), ("class map", list(renames))):
            strangers = sorted(set(names) - known - unvalidated)
            if strangers:
                raise SettingError(f"{option}: no image has the class {strangers}; the classes are {sorted(known)}")
        label = self.frame["label"]
        dropped = [old for old, new in renames.items() if not new]
        keep = ~label.isin([*exclude, *dropped])
        if include:
            keep &= label.isin(include)
        frame = self.frame[keep].reset_index(drop=True)
        new = {name: renames.get(name, name) or None for name in known | unvalidated}
        columns = [name for name in ("label", "unvalidated_label") if renames and name in frame]
        frame = frame.assign(**{name: pd.Series(frame[name].map(new).tolist(), dtype="str") for name in columns})
        return ImageCatalog(frame)

    @classmethod
    def from_rows(
        cls,
        rows: Mapping[str, Sequence[Any]] | pd.DataFrame,
        source: str = "catalog",
        root: str | Path = ".",
        allow_empty: bool = False,
        faults: Faults | None = None,
        line_of: Callable[[int], int] | None = None,
    ) -> ImageCatalog:
        """Build from columns, checking and cleaning them.

        Args:
            rows: columns by name; `path` is needed. A row without `object_id` has its path, as given, as id. Whole
                numbers that gaps have made floats of are whole: in columns of text, and in those of no unit. Rows in
                which all is empty are left out.
            source: what an error calls the rows.
            root: folder that relative paths start from; by default the current one.
            allow_empty: whether no rows are fine.
            faults: gathers rows without a path, with an unknown split, with the `object_id` of an earlier row, or with
                values that should be numbers; by default they are an error. Volumes and sub-sampling factors that
                cannot be (LIMITS) are emptied, which is a warning.
            line_of: the line of the file on which a row starts, counted from 0; by default rows are counted from 1.

        Raises:
            InputError: no `path`, a doubled column, no rows, or there are faults.
        """
        faults = Faults(source) if faults is None else faults
        line_of = line_of or (lambda row: row + 1)
        frame = pd.DataFrame(rows).reset_index(drop=True).rename(columns=lambda name: str(name).strip())
        if not frame.columns.is_unique:
            raise InputError(f"{source}: two columns are named {frame.columns[frame.columns.duplicated()][0]}")
        if "path" not in frame:
            raise InputError(f"{source}: expected a column named path; found {list(frame.columns)}")
        for column in TEXT_COLUMNS:
            if column in frame:
                frame[column] = _clean_text(frame[column], clean_label if column.endswith("label") else str.strip)
        is_bad = frame["path"].isna().to_numpy(dtype=bool, copy=True)
        is_empty = frame[is_bad].isna().all(axis=1)  # as spreadsheets leave them below a table
        for row in is_empty.index[~is_empty]:
            faults.add(source, "the path of an image", "an empty cell", row=line_of(int(row)), column="path")
        for column in frame.columns.difference([*TEXT_COLUMNS]):
            dtype = frame[column].dtype
            if not _holds_numbers(column):
                if pd.api.types.is_float_dtype(dtype):
                    frame[column] = _keep_whole(frame[column])
            elif not pd.api.types.is_numeric_dtype(dtype):
                frame[column], wrong = _clean_numbers(frame[column])
                is_bad[wrong.index] = True
                for row, text in zip(wrong.index.tolist(), wrong, strict=True):
                    unit = f", in {METADATA_COLUMNS[column]}" if column in METADATA_COLUMNS else ""
                    faults.add(source, NUMBER + unit, repr(text), row=line_of(row), column=column)
        _empty_absurd(frame, source, faults)
        frame["object_id"] = frame["object_id"].fillna(frame["path"]) if "object_id" in frame else frame["path"]
        is_bad |= _check_rows(frame, is_bad, source, faults, line_of)
        faults.report()
        if is_bad.any():
            frame = frame[~is_bad].reset_index(drop=True)
        if frame.empty and not allow_empty:
            raise InputError(f"{source}: expected images, found none")
        if "label" not in frame:
            frame["label"] = pd.Series([None] * len(frame), dtype="str")
        if "split" in frame:
            frame["split"] = _standard_splits(frame["split"])
        frame["path"] = _resolve_paths(frame["path"], root)
        first = [c for c in TEXT_COLUMNS if c in frame]
        return cls(frame[[*first, *[c for c in frame.columns if c not in first]]])

    @classmethod
    def load(cls, path: str | Path, root: str | Path | None = None, faults: Faults | None = None) -> ImageCatalog:
        """Read a CSV (comma, semicolon or tab; UTF-8, Latin-1, or UTF-16 with its mark) or Parquet catalog.

        A comma is decimal where it does not separate the columns and makes numbers of all that a column holds. Cells
        that leave it in doubt (1.234 beside it) are an error; with `faults.keep_going` they are emptied and reported.

        Args:
            path: file with a column `path` and, optionally, `object_id`, `label`, `split`, `sample_id` and others.
            root: folder that relative image paths start from; by default the folder of the file.
            faults: gathers rows that are wrong; by default they are an error.

        Raises:
            InputError: the file is missing, unreadable or lacks what a catalog needs.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"catalog {path} does not exist")
        if root is not None and not Path(root).is_dir():
            raise InputError(f"root folder {root} does not exist")
        is_parquet = path.suffix.lower() == ".parquet"
        faults = Faults(str(path)) if faults is None else faults
        try:
            frame = _read_parquet(path) if is_parquet else _read_csv(path, faults)
        except InputError:
            raise
        except (ValueError, OSError) as error:
            raise InputError(f"catalog {path} cannot be read: {error}") from error

        @cache
        def lines() -> list[int]:
            return list_lines(read_raw(path, "catalog"))

        return cls.from_rows(
            frame,
            source=str(path),
            root=path.parent if root is None else root,
            faults=faults,
            line_of=None if is_parquet else lambda row: lines()[row],
        )

    def save(self, path: str | Path) -> Path:
        """Write as CSV or Parquet by suffix; paths below the file's folder are written relative to it."""
        path = Path(path)
        start = os.path.abspath(path.parent) + os.sep  # noqa: PTH100
        below = pd.Series(self.paths, dtype="str", index=self.frame.index).str.removeprefix(start)
        frame = self.frame.assign(path=below if os.sep == "/" else below.str.replace(os.sep, "/", regex=False))
        with write_atomically(path) as temporary:
            if path.suffix.lower() == ".parquet":
                frame.to_parquet(temporary, index=False)
            else:
                write_csv(frame, temporary)
        return path


def is_unknown(name: str) -> bool:
    """Return whether a name is that of rejected images (`unknown`), or so but for capitals and outer blanks."""
    return unicodedata.normalize("NFKC", name).strip().casefold() == UNKNOWN


def refuse_unknown(classes: Iterable[str], where: str | Path, remedy: str = "") -> None:
    """Refuse classes that are called like rejected images (see `is_unknown`).

    Args:
        classes: class names.
        where: what an error calls their source.
        remedy: what to do; by default the class map that renames the class.

    Raises:
        InputError: there is one.
    """
    taken = list(filter(is_unknown, classes))
    if taken:
        found = (
            f"{where}: expected class names other than {UNKNOWN}, the label of rejected images (--unknown-rate); found "
            f"the class {taken[0]!r}. "
        )
        raise InputError(
            f"{found}{remedy}"
            if remedy
            else f"{found}Rename it: write the lines old,new and {taken[0]},unidentified into a file "
            "map.csv, and make a catalog with plankton-embed catalog SOURCE -o catalog.csv --class-map map.csv "
            f"(the line {taken[0]}, without a new name leaves its images out)"
        )


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a CSV with all text in quotes, so that line ends inside it come back; byte for byte as pandas does.

    Columns of text, numbers and truth values are written many times faster; a frame with others is left to pandas.
    """
    header = frame.iloc[:0].to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    with Path(path).open("wb") as file:
        file.write(header.encode())
        for start in range(0, len(frame), N_ROWS_AT_ONCE):
            rows = frame.iloc[start : start + N_ROWS_AT_ONCE]
            cells = [_to_cells(rows.iloc[:, number]) for number in range(rows.shape[1])]
            known = [cell for cell in cells if cell is not None]
            if not known or len(known) < len(cells):
                break
            lines = _join(_join(*known, between=","), os.linesep)
            whole = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), pa.scalar("", lines.type))
            file.write(whole[0].as_buffer())
        else:
            return
    frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


def warn_of_similar_classes(catalog: ImageCatalog) -> None:
    """Warn of class names that differ only in capitals, blanks, underscores or hyphens, and show how to join them."""
    counts = catalog.frame["label"].value_counts()
    similar: dict[str, list[str]] = {}
    for name in counts.index:  # the class with most images first
        plain = unicodedata.normalize("NFKC", name).casefold()
        similar.setdefault("".join(c for c in plain if c.isprintable() and c not in " _-") or name, []).append(name)
    groups = [names for names in similar.values() if len(names) > 1]
    if groups:
        pairs = pd.DataFrame([(old, names[0]) for names in groups for old in names[1:]], columns=["old", "new"])
        described = [" and ".join(f"{name!r} ({counts[name]:,} images)" for name in names) for names in groups]
        logger.warning(
            "class names that differ only in capitals, blanks, underscores or hyphens: %s; where they are one class, "
            "join them in a catalog with --class-map and a CSV of these lines:\n%s",
            "; ".join(described),
            pairs.to_csv(index=False, lineterminator="\n").rstrip(),
        )


def read_class_map(path: str | Path, classes: Iterable[str] = ()) -> dict[str, str]:
    """Read a class map: a CSV whose first two columns are old and new class name; an empty new name drops the class.

    Args:
        path: the CSV; its first line is a header, of any words but these:
        classes: the classes that are renamed, where they are known.

    Raises:
        InputError: as `read_spreadsheet`; there is no second column, a class has two new names, or is the header.
    """
    frame = read_spreadsheet(path, "class map")
    if frame.shape[1] < 2:
        raise InputError(f"class map {path}: expected two columns, old and new name; found {list(frame.columns)}")
    first = clean_label(str(frame.columns[0]))
    if first != "old" and first in classes:
        raise InputError(
            f"class map {path}, row 1: expected a header, such as old,new; found the class {first!r}, which would be "
            "lost; put the line old,new above it"
        )
    pairs = frame.iloc[:, :2].map(clean_label).drop_duplicates()
    doubled = pairs.iloc[:, 0].duplicated()
    if doubled.any():
        raise InputError(f"class map {path}: {pairs.iloc[:, 0][doubled].iloc[0]} has two new names")
    return dict(zip(pairs.iloc[:, 0], pairs.iloc[:, 1], strict=True))


def content_hashes(paths: Sequence[str], progress: bool = True) -> list[str | None]:
    """Return a hash of each image's decoded pixels (see `hash_pixels`); None where the image cannot be read."""
    hashes, reasons = hash_images(paths, progress)
    if paths and len(reasons) == len(paths):
        raise InputError(
            f"none of the {len(paths)} images can be read, the first being {paths[0]}: {reasons[0]}; is --root right?"
        )
    return hashes


def hash_images(paths: Sequence[str], progress: bool = True) -> tuple[list[str | None], dict[int, str]]:
    """Return the same hashes, and for each row whose image cannot be read the reason."""
    found = map_images(_hash_image, paths, "reading", progress)
    return [hashed for hashed, _ in found], {row: reason for row, (hashed, reason) in enumerate(found) if not hashed}


def map_images(function: Callable[[S], T], paths: Sequence[S], title: str, progress: bool = True) -> list[T]:
    """Apply a function to every path (or image) on all cores, in order, with a progress bar for what takes long."""
    chunks = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    results: list[T] = []
    bar = progress_bar(len(paths), title, "image", shown=progress)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(lambda chunk: [function(path) for path in chunk], chunks):
            results.extend(part)
            bar.update(len(part))
    return results


@dataclass(frozen=True)
class CatalogSummary:
    """What a catalog holds.

    `classes`: label, count, share (one row a class, largest first). `gaps`: column, missing, percent.
    `sizes`: width, height, area in pixels, one row a readable image. `size_quantiles`: the same at 0, 5, 25, 50,
    75, 95 and 100 %. `n_unreadable` counts images whose size could not be read. `grey_levels`: bits and white level
    (`GreyLevels.to_dict`), None where nobody looked. `marked`: rows of images with a scale bar, its text or corner
    marks burnt in (see `images.marks`), of the `n_searched` in which they were looked for.
    """

    n_images: int
    n_unlabelled: int
    n_unreadable: int
    classes: pd.DataFrame
    gaps: pd.DataFrame
    sizes: pd.DataFrame
    size_quantiles: pd.DataFrame
    grey_levels: dict[str, Any] | None = None
    marked: tuple[int, ...] = ()
    n_searched: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "n_images": self.n_images,
            "n_classes": len(self.classes),
            "n_unlabelled": self.n_unlabelled,
            "n_unreadable": self.n_unreadable,
            "n_marked": len(self.marked),
            "n_searched_for_marks": self.n_searched,
            "classes": self.classes.to_dict("records"),
            "gaps": self.gaps.to_dict("records"),
            "size_quantiles": self.size_quantiles.to_dict("index"),
            "grey_levels": self.grey_levels,
        }


def summarize(
    catalog: ImageCatalog,
    progress: bool = True,
    grey_levels: dict[str, Any] | None = None,
    n_unreadable: int | None = None,
) -> CatalogSummary:
    """Count classes and gaps, read every image's size from its header, look for marks burnt into images and log them.

    Marks are looked for in 2,000 images at most, spread over the catalog.

    Args:
        catalog: the images.
        progress: show a bar.
        grey_levels: passed on.
        n_unreadable: images that cannot be read, where all were decoded; by default those whose size cannot.
    """
    counts = catalog.frame["label"].value_counts()
    classes = pd.DataFrame(
        {
            "label": counts.index.astype(str),
            "count": counts.to_numpy(),
            "share": counts.to_numpy() / max(int(counts.sum()), 1),
        }
    ).sort_values(["count", "label"], ascending=[False, True], ignore_index=True)
    missing = catalog.frame.isna().sum()
    gaps = pd.DataFrame(
        {
            "column": missing.index,
            "missing": missing.to_numpy(),
            "percent": 100 * missing.to_numpy() / max(len(catalog), 1),
        }
    )
    measured = map_images(_image_size, catalog.paths, "measuring", progress)
    sizes = pd.DataFrame([s for s in measured if s], columns=["width", "height"], dtype="int64")
    sizes["area"] = sizes["width"] * sizes["height"]
    searched = np.unique(np.linspace(0, len(catalog) - 1, min(len(catalog), MOST_SEARCHED)).astype(int))
    has_marks = map_images(_has_marks, [catalog.paths[row] for row in searched], "looking for marks", progress)
    marked = tuple(int(row) for row in searched[np.array(has_marks, dtype=bool)])
    if marked:
        of = f"{len(searched)} images" if len(searched) == len(catalog) else f"{len(searched)} images looked at"
        logger.info(
            "marks: %d of %s have a scale bar, text or corner marks burnt in; preparation.remove_marks=auto (the "
            "default) takes them out before preparing and measuring",
            len(marked),
            of,
        )
    return CatalogSummary(
        n_images=len(catalog),
        n_unlabelled=int(catalog.frame["label"].isna().sum()),
        n_unreadable=len(catalog) - len(sizes) if n_unreadable is None else n_unreadable,
        classes=classes,
        gaps=gaps,
        sizes=sizes,
        size_quantiles=sizes.quantile([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]),
        grey_levels=grey_levels,
        marked=marked,
        n_searched=len(searched),
    )


def _hash_image(path: str) -> tuple[str | None, str]:
    """Return the hash of an image's pixels and nothing, or None and why it cannot be read."""
    try:
        return hash_pixels(open_image(path)), ""
    except DECODER_FAULTS as error:
        return None, str(error)


def _image_size(path: str) -> tuple[int, int] | None:
    """Return width and height, of a file from its header; None where it cannot be read."""
    try:
        with Image.open(path) if Path(path).is_file() else open_image(path) as image:
            return image.size
    except DECODER_FAULTS:
        return None


def _has_marks(path: str) -> bool:
    """Tell whether marks are burnt into an image; not, where it cannot be read."""
    try:
        return bool(find_marks(to_8bit(open_image(path), PreparationSettings(color="grey"))).kinds)
    except DECODER_FAULTS:  # InputError is a ValueError
        return False


def _clean_text(column: pd.Series, clean: Callable[[str], str] = str.strip) -> pd.Series:
    """Return a column as text, each value cleaned; empty text and every kind of missing value is missing.

    Args:
        column: values of any kind.
        clean: gives text without outer blanks, and leaves ASCII without outer blanks as it is.
    """
    text = _to_arrow(column)
    if text is None:
        values = column.astype(object)  # to_numpy makes 0.0 of a category 0 where another value is missing
        return pd.Series(to_text(values, clean), dtype="str")
    plain = pc.and_(pc.string_is_ascii(text), pc.equal(text, pc.ascii_trim(text, ASCII_BLANKS)))
    mended = pc.fill_null(pc.or_(pc.invert(plain), pc.equal(text, "")), False)
    new = [clean(value) or None for value in text.filter(mended).to_pylist()]
    return _from_arrow(pc.replace_with_mask(text, mended, pa.array(new, text.type)))


def _resolve_paths(paths: pd.Series, root: str | Path = ".") -> pd.Series:
    """Return paths (text, none missing) as absolute ones without `.`, `..` and doubled separators; links stay.

    Args:
        paths: those that are relative start from `root`.
        root: a folder; by default the current one.
    """
    start = os.path.abspath(root)  # noqa: PTH100  (keeps links as they are)
    text = _to_arrow(paths) if os.sep == "/" else None
    if text is None:
        joined = (os.path.join(start, path) for path in paths.to_numpy(dtype=object))  # noqa: PTH118
        return pd.Series([os.path.normpath(path) for path in joined], dtype="str")
    whole = pc.if_else(pc.starts_with(text, "/"), text, _join(f"{start.removesuffix('/')}/", text))
    odd = pc.match_substring_regex(whole, r"/\.{0,2}(/|$)")
    values = [os.path.normpath(path) for path in whole.filter(odd).to_pylist()]
    return _from_arrow(pc.replace_with_mask(whole, odd, pa.array(values, whole.type)))


def _empty_absurd(frame: pd.DataFrame, source: str, faults: Faults) -> None:
    """Empty volumes and factors that cannot be; each column with such is a fault."""
    for column, (least, most, expected) in LIMITS.items():
        if column not in frame:
            continue
        values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        is_absurd = ~np.isnan(values) & ~((values > least) & (values <= most))
        if is_absurd.any():
            row = int(is_absurd.argmax())
            name = next(name for name in ("sample_id", "object_id", "path") if name in frame)
            n_rows = f"{is_absurd.sum():,} row" + ("s" if is_absurd.sum() > 1 else "")
            found = f"{values[row]:g} in {n_rows}, such as that of {name} {frame[name].iloc[row]}"
            remedy = "is the unit right?"
            faults.add(source, expected, f"{found}; left out", column=column, kept=True, remedy=remedy)
            frame[column] = frame[column].astype("float64").mask(is_absurd)


def _check_rows(
    frame: pd.DataFrame, is_bad: NDArray[np.bool_], source: str, faults: Faults, line_of: Callable[[int], int]
) -> NDArray[np.bool_]:
    """Note rows with an unknown split or with the `object_id` of an earlier good row; return which these are."""
    wrong = np.zeros(len(frame), dtype=bool)
    if "split" in frame:
        codes, names = pd.factorize(frame["split"])
        wrong = np.array([*(name.lower() not in SPLIT_NAMES for name in names), False])[codes]
        for row in np.flatnonzero(wrong & ~is_bad):
            found = repr(str(frame["split"].iloc[row]))
            faults.add(source, ", ".join(SPLITS), found, row=line_of(int(row)), column="split")
    good = frame["object_id"][~(is_bad | wrong)]
    doubled = good.index[good.duplicated()]
    for row in doubled:
        faults.add(
            source,
            "an object_id of its own in every row",
            f"{frame['object_id'].iloc[row]!r} again",
            row=line_of(int(row)),
            column="object_id",
            remedy="where several objects share an image, give each an id",
        )
    wrong[doubled] = True
    return wrong


def _standard_splits(column: pd.Series) -> pd.Series:
    codes, names = pd.factorize(column)
    standard = np.array([*(SPLIT_NAMES[n.lower()] for n in names), None], dtype=object)
    return pd.Series(standard[codes], dtype="str")  # a missing one has code -1, the last


def _holds_numbers(column: str) -> bool:
    """Say whether a column of this name holds measured numbers."""
    return column.strip() in NUMBER_COLUMNS or column.strip().startswith(FEATURE_PREFIX)


def _clean_numbers(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return a column of text as numbers, and the values that are not numbers by row."""
    text = _clean_text(column)
    text = text.mask(text.isin(MISSING))
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers.astype("float64"), text[numbers.isna() & text.notna()]


def _keep_whole(column: pd.Series) -> pd.Series:
    """Return a column of numbers that are all whole, but for gaps, as whole numbers; any other as it is."""
    if not column.isna().any():
        return column
    values = column.dropna().to_numpy(dtype=np.float64)
    is_whole = len(values) > 0 and bool(((values == np.trunc(values)) & (np.abs(values) < 2**53)).all())
    return column.astype("Int64") if is_whole else column


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a table in which whole numbers with gaps keep all their digits, which pandas would make floats of."""
    table = pq.read_table(path)
    table = table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])  # of pandas
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for field in table.schema:
        if pa.types.is_integer(field.type) and table[field.name].null_count and not _holds_numbers(field.name):
            kind = "UInt64" if pa.types.is_unsigned_integer(field.type) else "Int64"
            frame[field.name] = table[field.name].to_pandas(types_mapper=pd.ArrowDtype).astype(kind)
    return frame


def _read_csv(path: Path, faults: Faults) -> pd.DataFrame:
    """Read text columns as text (a class may be called NA), the rest as pandas finds it."""
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
        try:  # in pieces, which is fast, where a column has one type in all of them
            frame = parse_table(raw, path, dtype=as_text, **options)
            numbers = frame.select_dtypes("number")
            if not ((numbers.max() >= 2**53) | (numbers.min() <= -(2**53))).any():
                return frame
        except pd.errors.DtypeWarning:
            pass
    frame = parse_table(raw, dtype=as_text, low_memory=False, **options)
    floats = frame.select_dtypes("float").abs().max() >= 2**53  # whole numbers with gaps may have lost digits
    longest = [column for column in floats.index[floats] if not _holds_numbers(column)]
    if longest:
        text = parse_table(raw, dtype=str, **options)
        for column in longest:
            if text[column].dropna().str.fullmatch(r"-?\d+").all():
                frame[column] = text[column]
                with suppress(ValueError, OverflowError):  # longer than 64 bits: they stay text
                    frame[column] = text[column].astype("Int64")
    return frame


def _read_numbers(frame: pd.DataFrame, raw: bytes, path: Path, faults: Faults) -> pd.DataFrame:
    """Read whole numbers that are written as floats in columns of text, and numbers with a decimal comma elsewhere.

    Beside decimal commas, numbers such as 1.234, and in such a column all that is no number with a comma, are faults,
    which cost the cell.
    """
    _, delimiter = read_header(raw)
    with_commas: list[str] = []
    doubtful: dict[str, pd.Series] = {}
    for column in map(str, frame):
        if column.strip() in TEXT_COLUMNS:
            frame[column] = drop_points(frame[column], raw)
            continue
        numbers = read_decimal_commas(frame[column], delimiter)
        if numbers is None and _holds_numbers(column) and delimiter != "," and is_text(frame[column]):
            filled = frame[column].dropna().str.strip()
            odd = filled[(filled != "") & ~filled.str.fullmatch(DECIMAL_COMMA)]
            if len(odd) < filled.drop(odd.index).str.contains(",", regex=False).sum():
                numbers = read_decimal_commas(frame[column].mask(frame.index.isin(odd.index)), delimiter)
                doubtful |= {} if numbers is None else {column: odd}
        if numbers is not None:
            frame[column] = numbers
            with_commas.append(column)
    if with_commas:  # 1.234 may be a thousand there
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
                remedy="write all numbers alike",
            )
        frame[column] = frame[column].mask(frame.index.isin(cells.index))
    faults.report()
    return frame


def _to_arrow(column: pd.Series) -> Any:
    """Return a column as Arrow's text, None where it is something else."""
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        return None
    try:
        text = pa.Array.from_pandas(column)
    except (TypeError, ValueError, OverflowError, pa.ArrowException):  # mixed types, or text that is not UTF-8
        return None
    text = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    return text.cast(pa.large_string()) if text.type in (pa.string(), pa.large_string(), pa.null()) else None


def _from_arrow(text: Any) -> pd.Series:
    """Return Arrow's text as a column of the type that pandas calls `str`."""
    column: pd.Series = text.to_pandas(types_mapper=lambda _: STR if isinstance(STR, pd.StringDtype) else None)
    return column


def _join(*parts: Any, between: str = "") -> Any:
    """Join columns of Arrow's text, and pieces of text that are the same for all rows, row by row."""
    parts = tuple(pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in (*parts, between))
    return pc.binary_join_element_wise(*parts)


def _to_cells(column: pd.Series) -> Any:
    """Return a column as Arrow's text, as it stands in a CSV; None where its type is a rare one."""
    text = _to_arrow(column)
    if text is not None:
        cells = _join('"', pc.replace_substring(text, '"', '""'), '"')
    elif isinstance(column.dtype, pd.Int64Dtype):
        cells = pc.cast(pa.array(column), pa.large_string())
    elif not isinstance(column.dtype, np.dtype) or (column.dtype.kind not in "biu" and column.dtype != np.float64):
        return None
    elif column.dtype.kind == "f":
        values = column.to_numpy()
        cells = pc.cast(pa.array(values, from_pandas=True), pa.large_string())
        size = np.abs(values)
        exponent = pc.fill_null(pc.match_substring(cells, "e"), False).to_numpy(zero_copy_only=False)
        odd = exponent | (size >= 1e15) | ((size > 0) & (size < 1e-4))  # Arrow's exponents begin elsewhere
        cells = pc.if_else(pa.array((values == np.trunc(values)) & ~odd), _join(cells, ".0"), cells)
        cells = pc.replace_with_mask(cells, pa.array(odd), pa.array(map(repr, values[odd].tolist()), cells.type))
    elif column.dtype.kind == "b":
        cells = pc.utf8_capitalize(pc.cast(pa.array(column.to_numpy()), pa.large_string()))
    else:
        cells = pc.cast(pa.array(column.to_numpy()), pa.large_string())
    return pc.fill_null(cells, '""')
