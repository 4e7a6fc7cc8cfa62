"""What a folder holds beside what was read: counted, named, and with the command that reads it."""

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

TABLES = frozenset({".csv", ".tsv", ".lst", ".adc", ".parquet"})
SHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz"})
OTHER_PICTURES = frozenset(  # and films, none of which is read
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
    """Warn of the files of a folder that its catalog does not use, one warning a kind, with the way to read them.

    Args:
        path: the folder.
        kind: the format it was read as.
        files: its visible files, as relative paths with forward slashes (see `folder.list_files`).
        catalog: what was read.
        others: further formats that were recognized in it.
    """
    rest = sorted(file for file in files if not is_image(file))
    own, rest = _part(kind, rest)
    if kind != "folder":
        _report_images(path, kind, [file for file in files if is_image(file)], own, catalog)
    for other in others:
        found, rest = _part(other, rest)
        way = _command(path, f"--format {other}", other)
        _warn(path, found, f"files of the format {other}", f"read them with {way}")
    kinds: dict[str, list[str]] = {}
    for file in rest:
        kinds.setdefault(_kind_of(file), []).append(file)
    if kind == "ecotaxa":
        kinds.pop("archives", None)  # which that reader looks into itself
    remedies = {
        "tables": "one with the columns path and label is a catalog, a source of its own: {command}",
        "sheets of a spreadsheet program": "save one with the columns path and label as CSV, which is a catalog then",
        "arrays": "each is a source of its own: {command}",
        "archives": "unpack them, and give what they hold as a source of its own",
        "pictures in formats that are not read": "save them as PNG or TIFF",
        "files without a suffix": "if they are images, give their names one, such as .png",
    }
    for what, remedy in remedies.items():
        found = kinds.pop(what, [])
        if found:
            _warn(path, found, what, remedy.format(command=_command(path / found[0], "", Path(found[0]).stem)))
    texts = [PurePosixPath(file).suffix.lower() or "without suffix" for found in kinds.values() for file in found]
    if texts:
        named = ", ".join(f"{count:,} {suffix}" for suffix, count in Counter(texts).most_common(8))
        logger.info("%s: passed over other files: %s", path, named)


def _kind_of(file: str) -> str:
    place = PurePosixPath(file)
    suffix = place.suffix.lower()
    if not suffix:
        return "texts" if place.name.lower() in TEXTS else "files without a suffix"
    kinds = {
        "tables": TABLES,
        "sheets of a spreadsheet program": SHEETS,
        "arrays": ARRAY_SUFFIXES,
        "archives": ARCHIVES,
        "pictures in formats that are not read": OTHER_PICTURES,
    }
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), "texts")


def _part(kind: str, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide files that are not images into those of a source of the format, and the others."""
    runs = {_folder(file) for file in files if file.lower().endswith(".lst")}

    def is_of_format(file: str) -> bool:
        place = PurePosixPath(file)
        suffix = place.suffix.lower()
        if kind == "ecotaxa":
            return place.name.lower().startswith("ecotaxa") and suffix in ecotaxa.TABLE_SUFFIXES
        if kind == "ifcb":
            return suffix in ifcb.SUFFIXES and ifcb.BIN.fullmatch(place.stem) is not None
        if kind == "flowcam":  # all that the instrument has written beside a list
            return _folder(file) in runs
        if kind == "challenge":
            is_known = place.name in (*challenge.TABLES, *challenge.IMAGES) or place.name.startswith("features_")
            return "/" not in file and is_known
        return kind == "arrays" and "/" not in file and suffix in (*ARRAY_SUFFIXES, *LABEL_SUFFIXES)

    return [*filter(is_of_format, files)], [*filterfalse(is_of_format, files)]


def _report_images(path: Path, kind: str, images: Sequence[str], own: Sequence[str], catalog: ImageCatalog) -> None:
    """Warn of images that no row of the catalog is from."""
    start = os.path.abspath(path) + os.sep  # noqa: PTH100  (keeps links as they are)
    used = {place.removeprefix(start).replace(os.sep, "/") for place in catalog.paths}
    if kind in ("ifcb", "flowcam", "arrays"):
        used = {_folder(place) for place in used}  # of a box, the file
    rest = [image for image in images if image not in used]
    if kind == "flowcam":
        rest = [image for image in rest if _strip_mask(image) not in used]
    if kind == "challenge":
        rest = [image for image in rest if not image.startswith("imgs/")]
    if kind == "ecotaxa":  # whose reader reports them in the folders of tables and of their images
        known = {_folder(file) for file in (*used, *own)}
        rest = [image for image in rest if _folder(image) not in known]
    if not rest:
        return
    taken = {parent for folder in {_folder(file) for file in (*used, *own)} for parent in _parents(folder)}
    places: dict[str, int] = {}  # the highest folder of its own, "" where there is none -> images
    for image in rest:
        place = next((parent for parent in _parents(_folder(image)) if parent not in taken), "")
        places[place] = places.get(place, 0) + 1
    n_loose = places.pop("", 0)
    ways = []
    if (
        len(places) > 1
        and not any("/" in place or "," in place for place in places)
        and {_folder(image) for image in rest} >= {*places}
    ):
        ways.append(_command(path, f"--format folder --include {shlex.quote(','.join(places))}", "classes"))
    else:
        ways += [_command(path / place, "", PurePosixPath(place).name) for place in [*places][:MOST_COMMANDS]]
    if len(places) > MOST_COMMANDS and len(ways) == MOST_COMMANDS:
        ways.append(f"and so on for {len(places) - MOST_COMMANDS} more folders")
    if n_loose:
        ways.append(f"for the {n_loose:,} beside the files of the format, a folder of their own")
    _warn(path, rest, f"images that are not of the {kind} data", f"read them with {', '.join(ways)}")


def _warn(path: Path, files: Sequence[str], what: str, remedy: str) -> None:
    if files:
        logger.warning("%s: not read: %s (%s), such as %s; %s", path, what, f"{len(files):,}", files[0], remedy)


def _command(source: Path, options: str, name: str) -> str:
    return " ".join(filter(None, ["plankton-embed catalog", shlex.quote(str(source)), options])) + (
        f" -o {shlex.quote(name)}.csv"
    )


def _strip_mask(image: str) -> str:
    """Return the collage whose mask an image would be, by its name."""
    stem, suffix = os.path.splitext(image)  # noqa: PTH122
    return stem.removesuffix(MASK) + suffix


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _parents(folder: str) -> list[str]:
    """Return a folder and those above it, the highest first."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
