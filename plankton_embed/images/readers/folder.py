"""Folders of images: one folder a class, the same below train/val/test, or flat and unlabelled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import SPLIT_NAMES, ImageCatalog

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".jp2"})


def read_folder(folder: str | Path) -> ImageCatalog:
    """Read `folder/<class>/<image>`, `folder/<split>/<class>/<image>` or `folder/<image>` (unlabelled).

    Split folders are train, val (valid, validate, validation) and test, and are taken as such when no other folder
    with images lies beside them. Deeper folders belong to their class. Hidden files and files that are no images by
    their suffix are passed over. The object id is the path below `folder`, with forward slashes.

    Raises:
        InputError: the folder is missing, or there is no image in it.
    """
    root = os.path.abspath(folder)  # noqa: PTH100  (keeps links as they are)
    if not os.path.isdir(root):  # noqa: PTH112
        raise InputError(f"folder {folder} does not exist")
    below = sorted(list_images(root))
    if not below:
        raise InputError(f"folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    tops = {parts[0] for path in below if len(parts := path.split("/")) > 1}
    split_below = bool(tops) and all(top.lower() in SPLIT_NAMES for top in tops)
    strays = [path for path in below if "/" not in path]
    if split_below and strays:
        raise InputError(f"folder {folder}: {strays[0]} lies beside the split folders {sorted(tops)}; move it into one")

    rows: dict[str, list[str | None]] = {"object_id": [], "path": [], "label": []}
    splits: list[str] = []
    for path in below:
        *folders, _ = path.split("/")
        if split_below:
            splits.append(folders.pop(0))
        rows["object_id"].append(path)
        rows["path"].append(os.path.join(root, *path.split("/")))  # noqa: PTH118
        rows["label"].append(folders[0] if folders else None)
    if split_below:
        rows["split"] = [*splits]
    try:
        return ImageCatalog.from_rows(rows, source=str(folder))
    except UnicodeEncodeError as error:
        raise InputError(f"folder {folder}: the file name {error.object!a} is not UTF-8; rename it") from error


def list_other_files(folder: str | Path) -> Iterator[str]:
    """Yield the visible files below a folder that are no images, as relative paths with forward slashes."""
    return (path for path in _visible_files(str(folder)) if Path(path).suffix.lower() not in IMAGE_SUFFIXES)


def list_images(folder: str | Path) -> Iterator[str]:
    """Yield the visible images below a folder, as relative paths with forward slashes."""
    return (path for path in _visible_files(str(folder)) if Path(path).suffix.lower() in IMAGE_SUFFIXES)


def _visible_files(root: str) -> Iterator[str]:
    """Yield every file below root as a relative path with forward slashes; links are followed, once."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        start = "" if below == "." else f"{below}/"
        yield from (start + name for name in files if not name.startswith("."))
