"""Chooses the reader of a source, and reads it."""

from __future__ import annotations

import importlib
import inspect
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers import FORMATS, READERS
from plankton_embed.images.readers.beside import report_rest
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.folder import IMAGE_SUFFIXES, is_image, list_files, read_folder
from plankton_embed.run_folder import RunFolder
from plankton_embed.shards import is_shards

CATALOG_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def read_source(
    source: ImageCatalog | str | Path | Sequence[str | Path],
    root: str | Path | None = None,
    *,
    source_format: str | None = None,
    keep_going: bool = False,
    faults: Faults | None = None,
    **options: Any,
) -> ImageCatalog:
    """Return the catalog of a source of any kind.

    Args:
        source: EcoTaxa tables, IFCB bins, a FlowCam run, a challenge set, arrays, a folder of images, a CSV or Parquet
            catalog, a folder of Parquet catalogs (shards), or a list of image files; a catalog is returned as it is.
        root: folder from which the relative paths of a catalog file start; by default the folder of that file.
        source_format: one of FORMATS; by default it is recognized.
        keep_going: leave out faulty rows and files with a warning, instead of refusing the source.
        faults: collects the faults of the source; its `source` and `keep_going` are replaced.
        options: options of some readers; None means not given.

    Files of a folder that were not read are reported, with the command that reads them.

    Raises:
        InputError: the source is missing, of an unknown format, the folder of a run, or has faults, which are listed.
        SettingError: `root`, `source_format` or an option is given where it does not apply.
    """
    faults = Faults() if faults is None else faults
    faults.keep_going = keep_going
    options = {name: value for name, value in options.items() if value is not None}
    if source_format is not None and source_format not in FORMATS:
        raise SettingError(f"format: expected one of {', '.join(FORMATS)}; found {source_format!r}")
    files: list[str] = []
    if isinstance(source, str | Path):
        path = faults.source = Path(source)
        if not path.exists():
            raise InputError(f"{path} does not exist")
        if (run := RunFolder(path)).exists():
            raise InputError(
                f"{path} is the folder of a run, whose pictures are figures; give its catalog, {run.catalog}"
            )
        files = list(list_files(path, faults)) if path.is_dir() and not is_shards(path) else []
        kind = source_format or recognize_format(path, files)
        described = f"{path}, of the format {kind}"
    else:
        path, kind, described = None, source_format or "catalog", "a catalog or a list of images"
    for name in options:
        formats = [reader for reader in READERS if name in _list_options(reader)]
        if kind not in formats:
            whose, hint = " and ".join(formats), ""
            if kind == "catalog":
                hint = f"; give `catalog --{name.replace('_', '-')}` when the catalog is made from its source"
            raise SettingError(f"{name}: it applies to the format {whose}; the source is {described}{hint}")
    if root is not None and (path is None or kind != "catalog"):
        raise SettingError(f"root: it applies to a catalog file (CSV or Parquet); the source is {described}")
    if isinstance(source, ImageCatalog):
        return source
    if path is None:
        return ImageCatalog.from_rows({"path": [str(path) for path in source]}, "list of images", faults=faults)  # type: ignore[union-attr]
    if kind == "catalog" and is_shards(path):
        return ImageCatalog.load(path, root, faults)
    if kind in ("catalog", "folder") and path.is_dir() != (kind == "folder"):
        found = "a folder" if path.is_dir() else "a file"
        raise InputError(
            f"{path}: expected a {'folder of images' if kind == 'folder' else 'catalog file'}; found {found}"
        )
    if kind == "catalog":
        return ImageCatalog.load(path, root, faults)
    catalog: ImageCatalog
    if kind == "folder":
        faults.report()
        catalog = read_folder(path, files, is_stated=source_format == "folder")
    else:
        catalog = _reader(kind).read(path, faults, **options)
    if path.is_dir():
        others = [other for other in _recognize_instruments(path, files) if other != kind]
        report_rest(path, kind, files, catalog, others)
    return catalog


def recognize_format(path: Path, files: Sequence[str] | None = None) -> str:
    """Return the format of a file or a folder.

    Args:
        path: the file or the folder.
        files: the visible files of a folder, if they were listed before (see `list_files`).

    Raises:
        InputError: the format is unknown.
    """
    if is_shards(path):
        return "catalog"
    for kind in _recognize_instruments(path, files):
        return kind
    if path.is_dir():
        return "folder"
    if path.suffix.lower() in CATALOG_SUFFIXES:
        return "catalog"
    if path.suffix.lower() == ".zip":
        raise InputError(
            f"{path}: expected a ZIP with tables of EcoTaxa, named ecotaxa*.tsv or ecotaxa*.txt; found none"
            + _describe_zip(path)
            + "; unpack folders of images; for a challenge set, give the folder that contains its imgs.zip"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path}: expected a folder of images, or a catalog; found an image; give images as a list")
    raise InputError(
        f"{path}: expected a folder of images, a catalog ({', '.join(CATALOG_SUFFIXES)}), or a source of the formats "
        f"{', '.join(READERS)}; if it is one of them, give it with --format"
    )


def _describe_zip(path: Path) -> str:
    """Return the part of an error that describes a ZIP without tables."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = [name for name in archive.namelist() if name.lower().endswith(".zip")]
    except (zipfile.BadZipFile, OSError):
        return ", because it is not a ZIP, or incomplete: copy it again"
    return f", but {len(inner)} inner ZIPs, such as {inner[0]}: unpack it and give these" if inner else ""


def _recognize_instruments(path: Path, files: Sequence[str] | None) -> Iterator[str]:
    """Yield the instrument formats of a file or a folder; the first is the one that is read."""
    if files is None:
        files = list(list_files(path)) if path.is_dir() else []
    names = [file for file in files if not is_image(file)] if path.is_dir() else [path.name]
    for kind in READERS:
        if _reader(kind).recognize(path, names):
            yield kind


def _reader(kind: str) -> Any:
    return importlib.import_module(f"{__package__}.{kind}")


def _list_options(kind: str) -> list[str]:
    """Return the options of a reader: its arguments after the path and the faults."""
    return list(inspect.signature(_reader(kind).read).parameters)[2:]
