"""Pictures for the page: small ones of all images, packed into sheets, or one of an image for the server."""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.images.mark_lines import border_of
from plankton_embed.images.preparation import DECODER_FAULTS, has_more_bits, open_image, to_8bit
from plankton_embed.output import progress_bar
from plankton_embed.settings import PreparationSettings

logger = logging.getLogger(__name__)

PER_ROW = 20
PER_SHEET = PER_ROW * PER_ROW
MOST_BYTES = 20_000_000  # of all sheets as text; the whole page then has at most 25 MB
SIZES = ((128, 75), (96, 70), (64, 65), (48, 55))  # side in pixels, quality of WebP: the first that fits is used
N_SAMPLE = 100  # pictures from which the size of all is estimated
GREY = 200  # of a picture that cannot be read
COLOR = PreparationSettings(color="color")


def pack_thumbnails(
    paths: Sequence[str | None] | NDArray[np.object_],
    side: int = SIZES[0][0],
    max_bytes: int = MOST_BYTES,
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """Pack pictures of images into sheets of 20 × 20, WebP in data addresses.

    If all sheets would be larger than `max_bytes`, pictures get smaller, and then some images, drawn evenly, get none.

    Args:
        paths: (n,) image files; None, or a file that cannot be read, gives a grey square.
        side: the largest side of a picture, px.
        max_bytes: the largest size of all sheets, as text.
        progress: show a bar.

    Returns:
        `side`, `per_row`, `per_sheet`, `sheets` (texts), and `rows`: (n,) the position of each image's picture, -1
        if it has none.
    """
    paths = list(paths)
    sizes = [(side, SIZES[0][1])] + [size for size in SIZES if size[0] < side]
    chosen = np.arange(len(paths))
    sample = [_draw(paths[row], side) for row in _spread(len(paths), N_SAMPLE)]
    expected = 0.0
    for size in sizes:
        expected = _estimate(sample, *size) * len(paths)
        if expected > max_bytes:
            continue
        sheets, n_missing = _pack(paths, *size, progress)
        if sum(map(len, sheets)) <= max_bytes:
            break
    else:
        share = max_bytes / expected
        while True:
            chosen = _spread(len(paths), int(len(chosen) * min(share, 0.95)))
            sheets, n_missing = _pack([paths[row] for row in chosen], *size, progress)
            share = max_bytes / sum(map(len, sheets))
            if share >= 1 or len(chosen) == 1:
                break
    rows = np.full(len(paths), -1, dtype=np.int32)
    rows[chosen] = np.arange(len(chosen))
    if n_missing:
        logger.warning("%d of %d images cannot be read; the page shows them as grey squares", n_missing, len(paths))
    if len(chosen) < len(paths):
        logger.warning(
            "the page shows pictures of %d of %d images, %d px each, to stay under %d MB",
            *(len(chosen), len(paths), size[0], round(max_bytes / 1e6)),
        )
    return {"side": size[0], "per_row": PER_ROW, "per_sheet": PER_SHEET, "sheets": sheets, "rows": rows}


def read_thumbnail(path: str | None, side: int, *, square: bool = True) -> bytes:
    """Return the picture of an image as WebP.

    Args:
        path: the image file; None, or a file that cannot be read, gives a grey picture.
        side: px; the longest side of the picture.
        square: fill up to a square with the colour of the image's border, and enlarge small images.
    """
    if square:
        return _to_webp(_draw(path, side), SIZES[0][1])
    image = open_picture(path)
    if image is None:
        return _to_webp(_grey(side), SIZES[0][1])
    image.thumbnail((side, side), Image.Resampling.BOX)
    return _to_webp(image, 90)


def _spread(n: int, most: int) -> NDArray[np.intp]:
    """Return the numbers of some of n images, evenly spaced; at least one, if there is one."""
    return np.unique(np.linspace(0, n - 1, min(n, max(most, 1))).astype(np.intp))


def _estimate(sample: Sequence[Image.Image], side: int, quality: int) -> float:
    """Return the size of a picture as text, the mean of a sample."""
    if not sample:
        return 0.0
    smaller = [tile if tile.width == side else tile.resize((side, side), Image.Resampling.BOX) for tile in sample]
    return len(_encode_sheet(smaller, side, quality)) / len(sample)


def _pack(paths: Sequence[str | None], side: int, quality: int, progress: bool) -> tuple[list[str], int]:
    """Return the sheets of some images, and how many of these cannot be read."""
    sheets, n_missing = [], 0
    starts = range(0, len(paths), PER_SHEET)
    for start in progress_bar(starts, "pictures", "sheet", shown=progress):
        tiles = []
        for path in paths[start : start + PER_SHEET]:
            image = open_picture(path)
            n_missing += image is None
            tiles.append(_grey(side) if image is None else _fit(image, side))
        sheets.append(_encode_sheet(tiles, side, quality))
    return sheets, n_missing


def _encode_sheet(tiles: Sequence[Image.Image], side: int, quality: int) -> str:
    is_color = any(tile.mode != "L" for tile in tiles)
    n_rows = max(math.ceil(len(tiles) / PER_ROW), 1)
    sheet = Image.new(
        "RGB" if is_color else "L", (PER_ROW * side, n_rows * side), GREY if not is_color else (GREY,) * 3
    )
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % PER_ROW * side, number // PER_ROW * side))
    return "data:image/webp;base64," + base64.b64encode(_to_webp(sheet, quality)).decode()


def _to_webp(image: Image.Image, quality: int) -> bytes:
    written = io.BytesIO()
    image.save(written, "WEBP", quality=quality, method=2)
    return written.getvalue()


def _draw(path: str | None, side: int) -> Image.Image:
    image = open_picture(path)
    return _grey(side) if image is None else _fit(image, side)


def _grey(side: int) -> Image.Image:
    return Image.new("L", (side, side), GREY)


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Return an image scaled to fit a square, which its border's colour fills."""
    scale = side / max(image.size)
    width, height = (max(1, round(scale * length)) for length in image.size)
    border = border_of(np.asarray(image))
    tile = Image.new(image.mode, (side, side), _median(border))
    small = image.resize((width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    tile.paste(small, ((side - width) // 2, (side - height) // 2))
    return tile


def _median(border: NDArray[Any]) -> Any:
    values = np.median(border.reshape(-1, border.shape[-1]) if border.ndim > 1 else border, axis=0)
    return int(values) if np.ndim(values) == 0 else tuple(int(value) for value in values)


def open_picture(path: str | None) -> Image.Image | None:
    """Return an image in 8 bits, grey (L) or colour (RGB); None if it cannot be read.

    One of more bits is stretched from its darkest to its brightest pixel.
    """
    if path is None:
        return None
    try:
        image = open_image(path)
        if has_more_bits(image):
            values = np.nan_to_num(np.asarray(image, dtype=np.float64))
            low, high = float(values.min()), float(values.max())
            stretched = (values - low) / (high - low if high > low else 1) * 255
            return Image.fromarray(np.rint(stretched).astype(np.uint8))
        return image if image.mode == "L" else to_8bit(image, COLOR)
    except (InputError, *DECODER_FAULTS):
        return None
