"""Pixels for the comparison nets: images resized to one shape, grey, in colour, or in D's three channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.grey_levels import resolve_white_level
from plankton_embed.images.marks import remove_marks as without_marks
from plankton_embed.images.preparation import DECODER_FAULTS, open_image, to_8bit
from plankton_embed.images.workers import map_images
from plankton_embed.settings import PreparationSettings

Channels = Literal["grey", "three", "rgb"]
BLOCK = 2048  # images at a time
N_LISTED = 5  # unreadable images that an error lists


def read_pixels(
    images: ImageCatalog | Sequence[str | Path],
    height: int,
    width: int,
    channels: Channels = "grey",
    progress: bool = True,
    white_level: Literal["auto"] | int = "auto",
    remove_marks: Literal["auto", "off"] = "auto",
) -> NDArray[np.uint8]:
    """Read images as 8-bit pixels of one shape, by bicubic resampling.

    Width and height are resized independently, as in systems A (64×48) and B, D (64×64): a long animal becomes as wide
    as a round one, and size is lost. Interpolated values are clipped to 0-255.

    Args:
        images: a catalog, or paths, which may continue inside a file (see `images.containers`).
        height: rows of the result.
        width: columns of the result.
        channels: `grey` gives (n, height, width); `three` is grey, threshold and opening (see `three_channels`) and
            `rgb` colour, both (n, height, width, 3).
        progress: show a bar.
        white_level: the value of white in images of more than 8 bits; `auto` finds it over these images. Give the same
            number for images that are to be compared.
        remove_marks: `auto` first removes scale bars, their text and corner marks (see `images.marks`).

    Returns:
        uint8 (n, height, width[, 3]), in the order of the images.

    Raises:
        SettingError: a side below 1, or unknown channels.
        InputError: images that cannot be read; up to five are listed.
    """
    if channels not in get_args(Channels):
        raise SettingError(f"channels: expected one of {', '.join(get_args(Channels))}; found {channels!r}")
    if min(height, width) < 1:
        raise SettingError(f"height and width: expected at least 1 pixel; found {height!r} and {width!r}")
    paths = images.paths if isinstance(images, ImageCatalog) else [str(path) for path in images]
    color: Literal["color", "grey"] = "color" if channels == "rgb" else "grey"
    preparation = PreparationSettings(color=color, white_level_16bit=white_level, remove_marks=remove_marks)
    settings = resolve_white_level(preparation, paths, progress)

    def read(path: str) -> NDArray[np.uint8] | str:
        try:
            image = to_8bit(open_image(path), settings)
        except DECODER_FAULTS as error:  # InputError is a ValueError
            return f"{path}: {error}"
        image = without_marks(image) if settings.remove_marks == "auto" else image
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

    pictures = map_images(read, paths, "reading", progress)
    faults = [picture for picture in pictures if isinstance(picture, str)]
    if faults:
        more = f"\n  … and {len(faults) - N_LISTED} more" if len(faults) > N_LISTED else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:N_LISTED])
        raise InputError(f"{len(faults)} of {len(paths)} images cannot be read:{listed}{more}\nCorrect or drop them.")
    pixels = np.empty((len(paths), height, width, *([3] if channels == "rgb" else [])), dtype=np.uint8)
    for row in range(len(pictures)):
        pixels[row], pictures[row] = pictures[row], ""  # freed one by one, so that they are not in memory twice
    return three_channels(pixels) if channels == "three" else pixels


def three_channels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return D's three channels: grey, Otsu's threshold, and the morphological opening of that mask.

    The mask is white (255) on the side of the threshold that the median of the image's border is not on: the organism
    is white whether it was dark on light or light on dark. The opening (3×3) removes spots without a square of 3×3.

    Args:
        grey: uint8 (n, height, width).

    Returns:
        uint8 (n, height, width, 3).

    Raises:
        InputError: another shape or type.
    """
    grey = np.asarray(grey)
    if grey.ndim != 3 or grey.dtype != np.uint8 or 0 in grey.shape[1:]:
        raise InputError(f"expected grey images, uint8 (n, height, width); found {grey.dtype} {grey.shape}")
    channels = np.empty((*grey.shape, 3), dtype=np.uint8)
    for start in range(0, len(grey), BLOCK):
        block = grey[start : start + BLOCK]
        limit = find_thresholds(block)
        border = np.concatenate([block[:, 0], block[:, -1], block[:, 1:-1, 0], block[:, 1:-1, -1]], axis=1)
        light = np.median(border, axis=1) > limit
        mask = (block > limit[:, None, None]) ^ light[:, None, None]
        white = mask.astype(np.uint8) * np.uint8(255)
        opened = maximum_filter(minimum_filter(white, size=(1, 3, 3)), size=(1, 3, 3))
        channels[start : start + BLOCK] = np.stack([block, white, opened], axis=-1)
    return channels


def find_thresholds(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return Otsu's threshold of every image (n,): values above it are one part, the others the other.

    It is the grey at which the variance between the two parts is largest, the lowest of equals; an image of one grey
    has that grey (Otsu 1979, IEEE Trans. SMC 9:62).

    Args:
        grey: uint8 (n, height, width).
    """
    n_images = len(grey)
    values = grey.reshape(n_images, -1)
    codes = values + 256 * np.arange(n_images)[:, None]
    counts = np.bincount(codes.ravel(), minlength=256 * n_images).reshape(n_images, 256).astype(float)
    below = counts.cumsum(axis=1)
    above = below[:, -1:] - below
    sums = (counts * np.arange(256)).cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[:, -1:] - sums) / above) ** 2
    between[(below == 0) | (above == 0)] = -1
    flat = values.max(axis=1) == values.min(axis=1)
    return np.where(flat, values[:, 0], between.argmax(axis=1)).astype(np.uint8)
