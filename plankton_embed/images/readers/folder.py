"""Folders of images: one folder per class, the same below train/val/test, or flat and unlabelled."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import SPLIT_NAMES, ImageCatalog
from plankton_embed.images.readers.faults import Faults
from plankton_embed.run_folder import RunFolder

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".jp2"})
IMAGE_ENDS, LONGEST_SUFFIX = tuple(IMAGE_SUFFIXES), max(map(len, IMAGE_SUFFIXES))
FOREIGN_FOLDERS = frozenset(  # left by other programs, besides those whose names start with a dot; in lower case
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "@__thumb", "#recycle", "#snapshot", "~snapshot"),
        *("thumbs", "thumbnails", "captureone", "_vti_cnf", "__macosx", "__pycache__", "lost+found"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
        *("network trash folder", "temporary items", "thevolumesettingsfolder"),
    }
)
FOREIGN_ENDS = (".lrdata", ".lrcat-data")  # folders of Lightroom
FOREIGN_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "zbthumbnail.info", "icon\r"})
MOST_NAMED = 5

logger = logging.getLogger(__name__)


def read_folder(folder: str | Path, files: Sequence[str] | None = None, *, is_stated: bool = False) -> ImageCatalog:
    """Read `folder/<class>/<image>`, `folder/<split>/<class>/<image>` or `folder/<image>` (unlabelled).

    Split folders are train, val (valid, validate, validation) and test; they count as such if there is no other folder
    with images beside them. Deeper folders belong to their class. Hidden files, folders of other programs
    (FOREIGN_FOLDERS), and files without the suffix of an image are ignored. The object id is the path below `folder`,
    with forward slashes.

    Args:
        folder: the folder.
        files: the visible files in it, if they were listed before (see `list_files`).
        is_stated: whether the user gave this format; the only class folder may then contain folders with images, which
            is an error otherwise.

    Raises:
        InputError: the folder is missing, has no images, or its classes are a level deeper; or images or other folders
            are beside split folders.
    """
    root = os.path.abspath(folder)  # noqa: PTH100  (keeps links as they are)
    if not os.path.isdir(root):  # noqa: PTH112
        raise InputError(f"folder {folder} does not exist")
    files = list(list_files(root)) if files is None else files
    below = sorted(filter(is_image, files))
    if not below:
        others = Counter(os.path.splitext(file)[1].lower() or "without suffix" for file in files)  # noqa: PTH122
        found = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(MOST_NAMED)) or "no files"
        raise InputError(f"folder {folder} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}); found {found}")
    tops = {parts[0] for path in below if len(parts := path.split("/")) > 1}
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    split_below = bool(tops) and splits == tops
    strays = [path for path in below if "/" not in path]
    if split_below and strays:
        raise InputError(
            f"folder {folder}: {strays[0]} is beside the split folders {sorted(tops)}; move it into one of them"
        )
    if not split_below and len({SPLIT_NAMES[top.lower()] for top in splits}) > 1:
        raise InputError(
            f"folder {folder}: expected split folders or class folders; found {_name(tops - splits)} beside the split "
            f"folders {_name(splits)}; move it into one of them, or out of {folder}"
        )

    rows: dict[str, list[str | None]] = {"object_id": [], "path": [], "label": []}
    split_of: list[str] = []
    inner_folders: set[tuple[str, ...]] = set()  # of images, below the split
    start = root.rstrip(os.sep) + os.sep
    for path in below:
        *folders, _ = path.split("/")
        if split_below:
            split_of.append(folders.pop(0))
        inner_folders.add(tuple(folders))
        rows["object_id"].append(path)
        rows["path"].append(f"{start}{path.replace('/', os.sep)}")
        rows["label"].append(folders[0] if folders else None)
    if split_below:
        rows["split"] = [*split_of]
    _check_depth(str(folder), inner_folders, splits if split_below else set(), is_stated)
    n_strays = rows["label"].count(None)
    if 0 < n_strays < len(below):
        first = rows["object_id"][rows["label"].index(None)]
        logger.warning("%s: %d images beside the class folders have no class, such as %s", folder, n_strays, first)
    try:
        return ImageCatalog.from_rows(rows, source=str(folder))
    except UnicodeEncodeError as error:
        raise InputError(f"folder {folder}: the file name {error.object!a} is not UTF-8; rename it") from error


def list_other_files(folder: str | Path) -> Iterator[str]:
    """Yield the visible files below a folder that are not images, as relative paths with forward slashes."""
    return (path for path in list_files(folder) if not is_image(path))


def list_images(folder: str | Path) -> Iterator[str]:
    """Yield the visible images below a folder, as relative paths with forward slashes."""
    return filter(is_image, list_files(folder))


def is_image(path: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return path[-LONGEST_SUFFIX:].lower().endswith(IMAGE_ENDS)  # twenty times as fast as with Path.suffix


def list_files(folder: str | Path, faults: Faults | None = None) -> Iterator[str]:
    """Yield every visible file below a folder as a relative path with forward slashes; links are followed, once.

    Files and folders of other programs are ignored, and the folders of runs, whose pictures are figures.

    Args:
        folder: where to look.
        faults: collects the folders that cannot be read; by default they are ignored.
    """
    root, seen = str(folder), set()

    def note(error: OSError) -> None:
        if faults is not None:
            faults.add(error.filename, "a folder that can be read", error.strerror or str(error))

    for inside, folders, files in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(inside)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_foreign(name))
        for name in [name for name in folders if RunFolder(Path(inside, name)).exists()]:
            logger.warning("%s: it is the folder of a run, whose figures are not read as images", Path(inside, name))
            folders.remove(name)
        below = os.path.relpath(inside, root).replace(os.sep, "/")
        start = "" if below == "." else f"{below}/"
        yield from (start + name for name in files if not name.startswith(".") and name.lower() not in FOREIGN_FILES)


def _is_foreign(folder: str) -> bool:
    """Return whether a folder of this name is hidden, or left by another program."""
    name = folder.lower()
    return name.startswith((".", "__macosx")) or name in FOREIGN_FOLDERS or name.endswith(FOREIGN_ENDS)


def _check_depth(folder: str, inner_folders: set[tuple[str, ...]], splits: set[str], is_stated: bool) -> None:
    """Check that the class folders are not a level deeper than assumed.

    Args:
        folder: the folder given.
        inner_folders: the folders that contain images, part by part from the class on.
        splits: the split folders above them.
        is_stated: whether the user stated that one class may have several folders.

    Raises:
        InputError: there is one class folder, and it contains folders with images and nothing else.
    """
    classes: dict[str, set[tuple[str, ...]]] = {}  # class -> the folders in it that contain images, () being itself
    for place in filter(None, inner_folders):
        classes.setdefault(place[0], set()).add(place[1:])
    if len(classes) == 1:
        ((name, inner),) = classes.items()
        way, branches = _descend(inner)
        deeper = "/".join([name, *way])
        if branches and not is_stated:
            todo = f"give {folder}/{deeper}"
            if splits:
                todo = f"move them up, as in {folder}/{min(splits)}/{branches[0]}"
            raise InputError(
                f"folder {folder}: expected a folder for each class; found only the folder {deeper}, which contains "
                f"folders with images ({_name(branches)}): {todo}. If all of them are one class, {name}, use "
                "catalog --format folder"
            )
    holding = {name: sorted({place[0] for place in inner if place}) for name, inner in classes.items() if inner != {()}}
    hollow = {name: folders for name, folders in holding.items() if () not in classes[name]}
    names = {inside for folders in hollow.values() for inside in folders}
    if hollow and (len(names) > 1 or len(classes) == 1) and not is_stated:
        first = min(hollow)
        way, branches = _descend(classes[first])
        deeper = "/".join([folder, first, *(way if branches else way[:-1])])
        logger.warning(
            "%s: %d of %d class folders contain folders with images but no images themselves, such as %s (%s); each "
            "was read as one class. If the folders in them are the classes, give %s%s",
            *(folder, len(hollow), len(classes), first, _name(hollow[first]), deeper),
            ", and each of the others separately" if len(hollow) > 1 else "",
        )
    mixed = {name: folders for name, folders in holding.items() if name not in hollow}
    common = {inside for name in mixed for inside in mixed[name] if sum(inside in f for f in holding.values()) > 1}
    if not is_stated and (common or (len(classes) == 1 and any(len(folders) > 1 for folders in mixed.values()))):
        first = min(mixed)
        logger.warning(
            "%s: %d class folders contain images and folders with images, such as %s (%s); each class folder was read "
            "as one class with all its folders. If the folders in it are classes, move them up",
            *(folder, len(mixed), first, _name(mixed[first])),
        )


def _descend(inner: set[tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """Return the path down to the first folder with images or several folders, and these (empty with images)."""
    way: list[str] = []
    while () not in inner:
        folders = sorted({place[0] for place in inner})
        if len(folders) > 1:
            return way, folders
        way += folders
        inner = {place[1:] for place in inner}
    return way, []


def _name(folders: Sequence[str] | set[str]) -> str:
    """Return the names of some folders."""
    named = sorted(folders)
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more
