"""Reports the files of a folder that were not read, with their number and the command that reads them."""

from __future__ import annotations

import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import filterfalse
from pathlib import Path, PurePosixPath

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers import challenge, ecotaxa, ifcb
from plankton_embed.images.readers.arrays import ARRAY_SUFFIXES, LABEL_SUFFIXES
from plankton_embed.images.readers.flowcam import MASK
from plankton_embed.images.readers.folder import is_image

TABLES = frozenset({".csv", ".tsv", ".lst", ".parquet"})
SHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz"})
OTHER_PICTURES = frozenset(  # and films; no reader takes them
    {
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw", ".heic", ".heif", ".avif", ".jxl"),
        *(".svg", ".eps", ".psd", ".xcf", ".exr", ".tga", ".pcx", ".ico", ".ppm", ".pbm", ".pnm"),
        *(".jpe", ".jfif", ".j2k", ".jpx", ".jpf", ".apng", ".dcm", ".fits", ".fit", ".czi", ".nd2", ".lif", ".vsi"),
        *(".avi", ".mp4", ".mov", ".mkv", ".wmv", ".mpg", ".webm"),
    }
)
TEXTS = frozenset({"readme", "license", "licence", "changelog", "manifest", "makefile", "authors", "citation"})
MOST_COMMANDS = 3

logger = logging.getLogger(__name__)


def report_rest(path: Path, kind: str, files: Sequence[str], catalog: ImageCatalog, others: Iterable[str] = ()) -> None:
    """Warn about the files of a folder that the catalog does not use: one warning per kind, and how to read them.

    Args:
        path: the folder.
        kind: the format as which it was read.
        files: its visible files as relative paths with forward slashes (see `folder.list_files`).
        catalog: what was read.
        others: other formats that were recognized in it.
    """
    own, rest = _divide(kind, sorted(file for file in files if not is_image(file)))
    if kind != "folder":
        _report_images(path, kind, [file for file in files if is_image(file)], own, catalog)
    for other in others:
        found, rest = _divide(other, rest)
        command = _command(path, f"--format {other}", other)
        _warn(path, found, f"files of the format {other}", f"read them with {command}")
    kinds: dict[str, list[str]] = {}
    for file in rest:
        kinds.setdefault(_kind_of(file), []).append(file)
    if kind == "ecotaxa":
        kinds.pop("archives", None)  # that reader opens and reports them
    remedies = {
        "IFCB files whose names are not those of bins": "a bin has files like D20130526T092352_IFCB013.adc",
        "tables": "a table with the columns path and label is a catalog; read it with {command}",
        "sheets of a spreadsheet program": "save a sheet with the columns path and label as CSV: that is a catalog",
        "arrays": "read each separately: {command}",
        "archives": "unpack them, and read their contents separately",
        "pictures in formats that are not read": "save them as PNG or TIFF",
        "files without a suffix": "if they are images, add a suffix such as .png to their names",
    }
    for what, remedy in remedies.items():
        found = kinds.pop(what, [])
        if found:
            _warn(path, found, what, remedy.format(command=_command(path / found[0], "", Path(found[0]).stem)))
    texts = [PurePosixPath(file).suffix.lower() or "without suffix" for found in kinds.values() for file in found]
    if texts:
        named = ", ".join(f"{count:,} {suffix}" for suffix, count in Counter(texts).most_common(8))
        logger.info("%s: ignored other files: %s", path, named)


def _kind_of(file: str) -> str:
    place = PurePosixPath(file)
    suffix = place.suffix.lower()
    if not suffix:
        return "texts" if place.name.lower() in TEXTS else "files without a suffix"
    kinds = {
        "IFCB files whose names are not those of bins": ifcb.SUFFIXES,
        "tables": TABLES,
        "sheets of a spreadsheet program": SHEETS,
        "arrays": ARRAY_SUFFIXES,
        "archives": ARCHIVES,
        "pictures in formats that are not read": OTHER_PICTURES,
    }
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), "texts")


def _divide(kind: str, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide files that are not images into those that belong to a format, and the others."""
    runs = {_folder(file) for file in files if file.lower().endswith(".lst")}

    def is_of_format(file: str) -> bool:
        place = PurePosixPath(file)
        suffix = place.suffix.lower()
        if kind == "ecotaxa":
            return place.name.lower().startswith("ecotaxa") and suffix in ecotaxa.TABLE_SUFFIXES
        if kind == "ifcb":
            return suffix in ifcb.SUFFIXES and ifcb.BIN.fullmatch(place.stem) is not None
        if kind == "flowcam":  # all files in the folder of a list
            return _folder(file) in runs
        if kind == "challenge":
            belongs = place.name in (*challenge.TABLES, *challenge.IMAGES) or place.name.startswith("features_")
            return "/" not in file and belongs
        return kind == "arrays" and "/" not in file and suffix in (*ARRAY_SUFFIXES, *LABEL_SUFFIXES)

    return [*filter(is_of_format, files)], [*filterfalse(is_of_format, files)]


def _report_images(path: Path, kind: str, images: Sequence[str], own: Sequence[str], catalog: ImageCatalog) -> None:
    """Warn about images that are not in the catalog."""
    start = os.path.abspath(path) + os.sep  # noqa: PTH100  (keeps links as they are)
    used = {place.removeprefix(start).replace(os.sep, "/") for place in catalog.paths}
    if kind in ("ifcb", "flowcam", "arrays"):
        used = {_folder(place) for place in used}  # of an image inside a file: the file
    rest = [image for image in images if image not in used]
    if kind == "flowcam":
        rest = [image for image in rest if _strip_mask(image) not in used]
    if kind == "challenge":
        rest = [image for image in rest if not image.startswith("imgs/")]
    if kind == "ecotaxa":  # its reader reports those beside tables and beside their images
        reported = {_folder(file) for file in (*used, *own)}
        rest = [image for image in rest if _folder(image) not in reported]
    if not rest:
        return
    taken = {parent for folder in {_folder(file) for file in (*used, *own)} for parent in _parents(folder)}
    places = Counter(  # number of images by their highest folder without files of the format, "" if there is none
        next((parent for parent in _parents(_folder(image)) if parent not in taken), "") for image in rest
    )
    n_loose = places.pop("", 0)
    commands = []
    if (
        len(places) > 1
        and not any("/" in place or "," in place for place in places)
        and {_folder(image) for image in rest} >= {*places}
    ):
        commands.append(_command(path, f"--format folder --include {shlex.quote(','.join(places))}", "classes"))
    else:
        commands += [_command(path / place, "", PurePosixPath(place).name) for place in [*places][:MOST_COMMANDS]]
    if len(places) > MOST_COMMANDS and len(commands) == MOST_COMMANDS:
        commands.append(f"and so on for {len(places) - MOST_COMMANDS} more folders")
    if n_loose:
        commands.append(f"move the {n_loose:,} beside the files of the format into a separate folder")
    _warn(path, rest, f"images that are not of the {kind} data", f"read them with {', '.join(commands)}")


def _warn(path: Path, files: Sequence[str], what: str, remedy: str) -> None:
    if files:
        logger.warning("%s: not read: %s (%s), such as %s; %s", path, what, f"{len(files):,}", files[0], remedy)


def _command(source: Path, options: str, name: str) -> str:
    return " ".join(filter(None, ["plankton-embed catalog", shlex.quote(str(source)), options])) + (
        f" -o {shlex.quote(name)}.csv"
    )


def _strip_mask(image: str) -> str:
    """Return the name of the collage to which an image would be the mask."""
    stem, suffix = os.path.splitext(image)  # noqa: PTH122
    return stem.removesuffix(MASK) + suffix


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _parents(folder: str) -> list[str]:
    """Return a folder and those above it, the highest first."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
