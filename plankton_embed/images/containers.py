"""Images inside another file: the path of the image continues inside that file.

imgs.zip/imgs/123.jpg              a file in a ZIP
D20130526T095207_IFCB013.roi/96x45+1       raw grey pixels, WIDTHxHEIGHT+FIRST BYTE
IFCB5_2012_028_081515.roi/180x86+36927+0+0&113x45+52407+150+25
                                   several boxes joined, each WIDTHxHEIGHT+FIRST BYTE+LEFT+TOP in the whole image: later
                                   boxes cover earlier ones, and gaps get the median of their edges
collage.tif/59x63+843+1633         a box of a picture, WIDTHxHEIGHT+LEFT+TOP
collage.tif/59x63+843+1633&mask.tif        the same, white where that box of the mask in the same folder is black
images.npy/17                      a row of an array (N, height, width[, channels])
images.npz/images/17               a row of one of several arrays
"""

from __future__ import annotations

import os
import re
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.errors import InputError

N_KEPT_OPEN = 8  # containers per kind; images are usually read container by container
RAW = re.compile(r"(\d+)x(\d+)\+(\d+)(?:\+(\d+)\+(\d+))?")
BOX = re.compile(r"(\d+)x(\d+)\+(\d+)(?:\+(\d+))?(?:&(.+))?")


def split_path(path: str | Path) -> tuple[Path, str]:
    """Return the file on the disk, and the path inside it (empty for a plain file).

    Raises:
        FileNotFoundError: the file does not exist.
    """
    whole = Path(path)
    if whole.exists():
        return whole, ""
    container = next((parent for parent in whole.parents if parent.exists()), None)
    if container is None or not container.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return container, whole.relative_to(container).as_posix()


def read_image(path: str | Path) -> bytes | NDArray[np.generic]:
    """Return the bytes of an image file, or the pixels (height, width[, channels]) of an image inside another file.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: there is no such image inside the file.
    """
    container, inside = split_path(path)
    if not inside:
        return container.read_bytes()
    return read_inside(container, inside)


def image_exists(path: str | Path) -> bool:
    """Return whether the file of an image, or the file that contains it, exists."""
    try:
        split_path(path)
    except OSError:
        return False
    return True


def read_inside(container: Path, inside: str) -> bytes | NDArray[np.generic]:
    """Return the bytes or the pixels of an image inside a file; see the top of this module for the paths.

    Raises:
        InputError: there is no such image inside.
    """
    suffix = container.suffix.lower()
    stamp = container.stat().st_mtime_ns  # a file that was rewritten is opened again
    try:
        if suffix == ".zip":
            return _open_zip(container, stamp, os.getpid()).read(inside)
        if suffix in (".npy", ".npz"):
            name, _, row = inside.rpartition("/")
            return _as_pixels(*open_array(container, stamp, name), int(row))
        if suffix == ".roi":
            return _read_raw(container, inside)
        width, height, left, top, mask = _parse_box(inside)
        box = _cut(_open_picture(container, stamp), left, top, width, height)
        if mask is None:
            return box
        beside = container.with_name(mask)
        drawn = _cut(_open_picture(beside, beside.stat().st_mtime_ns), left, top, width, height)
        is_body = np.asarray(drawn.reshape(height, width, -1).astype(bool).any(axis=2))
        white = box.dtype.type(np.iinfo(box.dtype).max)  # type: ignore[type-var]
        return np.asarray(np.where(is_body if box.ndim == 2 else is_body[..., None], box, white))
    except (ValueError, LookupError, OSError, RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(f"{container} has no image {inside}: {error}") from error


@lru_cache(N_KEPT_OPEN)
def open_array(path: Path, stamp: int, name: str = "") -> tuple[NDArray[np.generic], float]:
    """Return the array of a .npy file (memory-mapped) or a named one of a .npz file (in memory), and its largest value.

    Nothing is unpickled. The largest value (nan for uint8 and bool) distinguishes 0-1 from 0-255, and 8 bits in a wider
    type from more bits.
    """
    if path.suffix.lower() == ".npy":
        array = np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    else:
        with np.load(path, allow_pickle=False) as arrays:
            array = np.asarray(arrays[name])
    is_8bit = array.dtype in (np.uint8, np.bool_)
    return array, np.nan if is_8bit or array.size == 0 else float(array.max())


def _as_pixels(array: NDArray[np.generic], largest: float, row: int) -> NDArray[np.generic]:
    """Return a row, as uint8 where the array contains 0-255 in a wider type."""
    pixels = np.array(array[row])
    is_float = pixels.dtype.kind == "f"
    if (is_float and 1 < largest <= 255) or (pixels.dtype.kind in "iu" and largest <= 255):
        if not np.isfinite(pixels).all() or pixels.min() < 0:
            raise ValueError("expected pixels of 0 to 255; found others")
        return np.asarray(np.rint(pixels), dtype=np.uint8)
    return pixels


@lru_cache(N_KEPT_OPEN)
def _open_zip(path: Path, stamp: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@lru_cache(N_KEPT_OPEN)
def _open_picture(path: Path, stamp: int) -> NDArray[np.generic]:
    with Image.open(path) as image:
        return np.array(image if image.mode in ("L", "RGB", "I;16") else image.convert("RGB"))


def _parse_box(text: str) -> tuple[int, int, int, int, str | None]:
    found = BOX.fullmatch(text)
    if found is None:
        raise ValueError("expected WIDTHxHEIGHT+LEFT+TOP")
    width, height, left, top, mask = found.groups()
    return int(width), int(height), int(left), int(top or 0), mask


def _read_raw(file: Path, inside: str) -> NDArray[np.uint8]:
    """Return raw pixels, or several boxes of them joined."""
    found = [RAW.fullmatch(part) for part in inside.split("&")]
    boxes = [[int(number or 0) for number in box.groups()] for box in found if box is not None]
    if len(boxes) < len(found):
        raise ValueError("expected WIDTHxHEIGHT+FIRST BYTE, or several WIDTHxHEIGHT+FIRST BYTE+LEFT+TOP joined by &")
    pieces = [
        np.fromfile(file, dtype=np.uint8, count=width * height, offset=start).reshape(height, width)
        for width, height, start, _, _ in boxes
    ]
    if len(pieces) == 1:
        return pieces[0]
    edges = np.concatenate([edge for piece in pieces for edge in (piece[0], piece[-1], piece[:, 0], piece[:, -1])])
    size = max(top + height for _, height, _, _, top in boxes), max(left + width for width, _, _, left, _ in boxes)
    joined = np.full(size, np.median(edges), dtype=np.uint8)
    for piece, (width, height, _, left, top) in zip(pieces, boxes, strict=True):
        joined[top : top + height, left : left + width] = piece
    return joined


def _cut(picture: NDArray[np.generic], left: int, top: int, width: int, height: int) -> NDArray[np.generic]:
    if top + height > picture.shape[0] or left + width > picture.shape[1] or min(width, height) < 1:
        raise ValueError(f"the box reaches beyond the picture of {picture.shape[1]}×{picture.shape[0]} pixels")
    return picture[top : top + height, left : left + width]
