"""ImageCatalog: one row per image, with its label, split and sample."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog_files import (
    FEATURE_PREFIX,
    METADATA_COLUMNS,
    NUMBER,
    TEXT_COLUMNS,
    clean_numbers,
    clean_text,
    from_arrow,
    holds_numbers,
    join_values,
    keep_whole,
    read_csv,
    read_parquet,
    to_arrow,
    write_csv,
)
from plankton_embed.images.preparation import DECODER_FAULTS, hash_pixels, open_image
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.workers import map_images
from plankton_embed.notebook import Shown
from plankton_embed.output import write_atomically
from plankton_embed.shards import is_shards
from plankton_embed.spreadsheet import clean_label, list_lines, read_raw, read_spreadsheet, simplify_label

if TYPE_CHECKING:
    from plankton_embed.images.catalog_summary import CatalogSummary

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"  # the label of rejected images; no class may have it
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# m³: a run of an IFCB that stopped after a second has 4e-9; the largest nets (RMT 25, towed for 5 km) filter about 1e5
SMALLEST_VOLUME, LARGEST_VOLUME = 1e-9, 1e6
LIMITS = {  # column -> lower limit (excluded), upper limit, and what is expected
    "volume": (SMALLEST_VOLUME, LARGEST_VOLUME, "m³ of water per sample, above 1e-9 (a microlitre) and up to 1e6"),
    "subsample_factor": (0.0, 1e9, "sample / imaged part, above 0 and up to 1e9"),
}


@dataclass(frozen=True, repr=False)
class ImageCatalog(Shown):
    """Images and their metadata.

    `frame` has one row per image and always the columns `object_id` (unique text), `path` (absolute; it may continue
    inside a file, see `images.containers`) and `label` (text, missing where unknown). Optional columns are `split`
    (train, val or test), `sample_id`, those of METADATA_COLUMNS, numeric features (`feature_…`), `lineage` (`A>B>C`),
    `annotation_status`, and any others. `summary` is what `pe.catalog` found in these rows.
    """

    frame: pd.DataFrame
    summary: CatalogSummary | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def paths(self) -> list[str]:
        """Absolute path of every image."""
        return list(map(str, self.frame["path"].to_numpy(dtype=object)))  # iterating over an Arrow column is slow

    @property
    def pixel_size(self) -> NDArray[np.float32] | None:
        """µm per pixel of every image, from the column `pixel_size` (nan where empty); None without that column.

        Raises:
            InputError: a value is not a number.
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
        return [str(name) if given else None for name, given in zip(names, label.notna().to_numpy(), strict=True)]

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
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), class_map: Mapping[str, str] | None = None
    ) -> ImageCatalog:
        """Rename, merge and drop classes.

        Args:
            include: keep only these classes, which drops unlabelled rows too; empty keeps all.
            exclude: drop these classes.
            class_map: old name -> new name, applied last. Two old names with one new name merge, an empty new name
                drops the class, names not in the map stay. Names in `unvalidated_label` are renamed too; if their class
                is dropped, their images stay without that name.

        Raises:
            SettingError: no image has one of the names.
        """
        classes = set(self.classes)
        unvalidated = set(self.frame["unvalidated_label"].dropna()) if "unvalidated_label" in self.frame else set()
        include, exclude = [clean_label(c) for c in include], [clean_label(c) for c in exclude]
        renames = {clean_label(old): clean_label(new) for old, new in (class_map or {}).items()}
        for option, names in (("include", include), ("exclude", exclude), ("class map", list(renames))):
            unknown = sorted(set(names) - classes - unvalidated)
            if unknown:
                raise SettingError(f"{option}: no image has the class {unknown}; the classes are {sorted(classes)}")
        label = self.frame["label"]
        dropped = [old for old, new in renames.items() if not new]
        keep = ~label.isin([*exclude, *dropped])
        if include:
            keep &= label.isin(include)
        frame = self.frame[keep].reset_index(drop=True)
        new = {name: renames.get(name, name) or None for name in classes | unvalidated}
        columns = [name for name in ("label", "unvalidated_label") if renames and name in frame]
        frame = frame.assign(**{name: pd.Series(frame[name].map(new).tolist(), dtype="str") for name in columns})
        return ImageCatalog(frame)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, root: str | Path = ".") -> ImageCatalog:
        """Make a catalog from a data frame; its columns are checked and cleaned as in `from_rows`."""
        return cls.from_rows(frame, "frame", root)

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
        """Make a catalog from columns, which are checked and cleaned.

        Args:
            rows: columns by name; `path` is required. A row without `object_id` gets its path, as given. Whole numbers
                that became floats because of empty cells become whole again, in columns of text and in those without a
                unit. Rows with empty cells only are left out.
            source: the source of the rows, for errors.
            root: folder from which relative paths start; by default the current one.
            allow_empty: accept a catalog without rows.
            faults: collects rows without a path, with an unknown split, with the `object_id` of an earlier row, or with
                text in place of numbers; by default they are an error. Impossible volumes and sub-sampling factors
                (LIMITS) are emptied with a warning.
            line_of: row (from 0) -> the line of the file on which it starts; by default rows are counted from 1.

        Raises:
            InputError: `path` is missing, a column is there twice, there are no rows, or there are faults.
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
                frame[column] = clean_text(frame[column], clean_label if column.endswith("label") else str.strip)
        is_bad = frame["path"].isna().to_numpy(dtype=bool, copy=True)
        is_empty = frame[is_bad].isna().all(axis=1)  # spreadsheets leave such rows below a table
        for row in is_empty.index[~is_empty]:
            faults.add(source, "the path of an image", "an empty cell", row=line_of(int(row)), column="path")
        for column in frame.columns.difference([*TEXT_COLUMNS]):
            dtype = frame[column].dtype
            if not holds_numbers(column):
                if pd.api.types.is_float_dtype(dtype):
                    frame[column] = keep_whole(frame[column])
            elif not pd.api.types.is_numeric_dtype(dtype):
                frame[column], wrong = clean_numbers(frame[column])
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
            raise InputError(f"{source}: expected images; found none")
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

        Also a folder of Parquet files with the same columns (shards; see `CatalogShards`).

        A comma is read as a decimal sign where it does not separate the columns and all cells of a column are numbers
        that way. Ambiguous cells (1.234 beside decimal commas) are an error; with `faults.keep_going` they are emptied
        and reported.

        Args:
            path: file with a column `path` and, optionally, `object_id`, `label`, `split`, `sample_id` and others; or a
                folder of such files.
            root: folder from which relative image paths start; by default the folder of the file.
            faults: collects wrong rows; by default they are an error.

        Raises:
            InputError: the file is missing, unreadable or without the columns of a catalog.
        """
        path = Path(path)
        if is_shards(path):
            from plankton_embed.images.catalog_shards import CatalogShards  # which needs this module

            return cls(CatalogShards.open(path, root).load(faults=faults))
        if not path.is_file():
            raise InputError(f"catalog {path} does not exist")
        if root is not None and not Path(root).is_dir():
            raise InputError(f"root folder {root} does not exist")
        is_parquet = path.suffix.lower() == ".parquet"
        faults = Faults(str(path)) if faults is None else faults
        try:
            frame = read_parquet(path) if is_parquet else read_csv(path, faults)
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

    def _describe(self) -> str:
        splits: Mapping[str, int] = dict(self.frame["split"].value_counts()) if "split" in self.frame else {}
        counts = [f"{splits[name]:,} {name}" for name in SPLITS if name in splits]
        return ", ".join([f"{len(self):,} images", f"{len(self.classes)} classes", *counts])

    def _preview(self) -> pd.DataFrame:
        shown = [name for name in ("path", "object_id", "label", "split", "sample_id") if name in self.frame]
        return self.frame[shown].dropna(axis=1, how="all")


def is_unknown(name: str) -> bool:
    """Return whether a name is `unknown`, the label of rejected images; capitals and outer blanks do not count."""
    return unicodedata.normalize("NFKC", name).strip().casefold() == UNKNOWN


def refuse_unknown(classes: Iterable[str], where: str | Path, remedy: str = "") -> None:
    """Reject classes whose name is the label of rejected images (see `is_unknown`).

    Args:
        classes: class names.
        where: their source, for the error.
        remedy: what to do; by default, how to rename the class with a class map.

    Raises:
        InputError: there is such a class.
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


def warn_of_similar_classes(labels: Any) -> None:
    """Warn about class names that differ only in capitals, blanks, underscores or hyphens; show how to merge them.

    Args:
        labels: of each image; None where there is none.
    """
    counts = pd.Series(labels, dtype=object).value_counts()
    similar: dict[str, list[str]] = {}
    for name in counts.index:  # the class with most images first
        similar.setdefault(simplify_label(name), []).append(name)
    groups = [names for names in similar.values() if len(names) > 1]
    if groups:
        pairs = pd.DataFrame([(old, names[0]) for names in groups for old in names[1:]], columns=["old", "new"])
        described = [" and ".join(f"{name!r} ({counts[name]:,} images)" for name in names) for names in groups]
        logger.warning(
            "class names that differ only in capitals, blanks, underscores or hyphens: %s; if they are one class, "
            "merge them with catalog --class-map and a CSV of these lines:\n%s",
            "; ".join(described),
            pairs.to_csv(index=False, lineterminator="\n").rstrip(),
        )


def read_class_map(path: str | Path, classes: Iterable[str] = ()) -> dict[str, str]:
    """Read a class map: a CSV whose first two columns are old and new class name; an empty new name drops the class.

    Args:
        path: the CSV; its first line is a header, which must not be a class.
        classes: the classes of the images, if known.

    Raises:
        InputError: as `read_spreadsheet`; or the second column is missing, a class has two new names or is the header.
    """
    frame = read_spreadsheet(path, "class map")
    if frame.shape[1] < 2:
        raise InputError(f"class map {path}: expected two columns, old and new name; found {list(frame.columns)}")
    first = clean_label(str(frame.columns[0]))
    if first != "old" and first in classes:
        raise InputError(
            f"class map {path}, row 1: expected a header, such as old,new; found the class {first!r}, which would be "
            "ignored; put the line old,new above it"
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
            f"none of the {len(paths)} images can be read; the first is {paths[0]}: {reasons[0]}; check --root"
        )
    return hashes


def hash_images(paths: Sequence[str], progress: bool = True) -> tuple[list[str | None], dict[int, str]]:
    """Return the same hashes, and the reason for each row whose image cannot be read."""
    found = map_images(_hash_image, paths, "reading", progress)
    return [hashed for hashed, _ in found], {row: reason for row, (hashed, reason) in enumerate(found) if not hashed}


def _hash_image(path: str) -> tuple[str | None, str]:
    """Return the hash of an image's pixels and empty text, or None and why it cannot be read."""
    try:
        return hash_pixels(open_image(path)), ""
    except DECODER_FAULTS as error:
        return None, str(error)


def _resolve_paths(paths: pd.Series, root: str | Path = ".") -> pd.Series:
    """Return paths (text, none missing) as absolute paths without `.`, `..` and double separators; links stay.

    Args:
        paths: relative ones start from `root`.
        root: a folder; by default the current one.
    """
    start = os.path.abspath(root)  # noqa: PTH100  (keeps links as they are)
    text = to_arrow(paths) if os.sep == "/" else None
    if text is None:
        joined = (os.path.join(start, path) for path in paths.to_numpy(dtype=object))  # noqa: PTH118
        return pd.Series([os.path.normpath(path) for path in joined], dtype="str")
    whole = pc.if_else(pc.starts_with(text, "/"), text, join_values(f"{start.removesuffix('/')}/", text))
    odd = pc.match_substring_regex(whole, r"/\.{0,2}(/|$)")
    values = [os.path.normpath(path) for path in whole.filter(odd).to_pylist()]
    return from_arrow(pc.replace_with_mask(whole, odd, pa.array(values, whole.type)))


def _empty_absurd(frame: pd.DataFrame, source: str, faults: Faults) -> None:
    """Empty impossible volumes and factors; each column with such values is a fault."""
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
            remedy = "check the unit"
            faults.add(source, expected, f"{found}; left out", column=column, kept=True, remedy=remedy)
            frame[column] = frame[column].astype("float64").mask(is_absurd)


def _check_rows(
    frame: pd.DataFrame, is_bad: NDArray[np.bool_], source: str, faults: Faults, line_of: Callable[[int], int]
) -> NDArray[np.bool_]:
    """Report rows with an unknown split or with the `object_id` of an earlier good row; return their mask."""
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
            "a different object_id in every row",
            f"{frame['object_id'].iloc[row]!r} again",
            row=line_of(int(row)),
            column="object_id",
            remedy="if several objects share an image, give each object an id",
        )
    wrong[doubled] = True
    return wrong


def _standard_splits(column: pd.Series) -> pd.Series:
    codes, names = pd.factorize(column)
    standard = np.array([*(SPLIT_NAMES[n.lower()] for n in names), None], dtype=object)
    return pd.Series(standard[codes], dtype="str")  # missing values have the code -1, the last entry
