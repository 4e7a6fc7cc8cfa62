"""Prepares images for the network: from an image file to a square uint8 array."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from plankton_embed.errors import InputError
from plankton_embed.images.containers import read_inside, split_path
from plankton_embed.images.mark_lines import border_of
from plankton_embed.images.marks import remove_marks
from plankton_embed.settings import PreparationSettings

SMALLEST_SIDE = 3  # pixels; smaller images are refused
MOST_PIXELS = 89_478_485  # the limit of Pillow; above it a small file can fill the memory
WHITE_LEVEL = 65535  # in place of "auto" where no white level was found
PHOTOMETRIC_TAG, WHITE_IS_ZERO = 262, 0  # of TIFF
MIDDLE, DARK = 128, 32  # grey levels: a background below the first may be dark, below the second it is
EXTREMES = (1, 99)  # percentiles that stand for the darkest and the lightest pixels of an image
SHARE_DARK = "share_dark"  # key of the share in `EmbeddingModel.training`
REPORT_SIDE = 299  # the limits of 100 and 200 pixels in the report are for this side

DECODER_FAULTS = (
    OSError,
    SyntaxError,  # raised by Pillow for a broken PNG
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

ImageSource = str | Path | bytes | Image.Image | NDArray[np.generic]


def open_image(source: ImageSource) -> Image.Image:
    """Return a decoded image from a path, the bytes of a file, a PIL image, or an array.

    A path may continue inside a file, such as a ZIP or a collage (see `images.containers`). Arrays are (height, width),
    (height, width, 1) or (height, width, 3), uint8, uint16, bool, or float in 0-1.

    Raises:
        InputError: it is not an image, is cut short, has a side under 3 px or over 89 million pixels.
    """
    if isinstance(source, str | Path):
        source = _look_inside(source)
    image = _from_array(source) if isinstance(source, np.ndarray) else _decode(source)
    width, height = image.size
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(f"{width}×{height} pixels: a side is under {SMALLEST_SIDE}")
    return image


def prepare_image(
    source: ImageSource, settings: PreparationSettings
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, int]]:
    """Turn an image into the square input of the network.

    First, burnt-in marks such as scale bars are removed (`settings.remove_marks`; see `images.marks`). Images of the
    other polarity are inverted (`settings.polarity`): light on dark are those whose border (its median) is under 128,
    and under the mean of the image. Portrait images are turned by 90°. With `settings.scaling` = report, an image whose
    longest side is under 100·T/299 (T: `target_size`) is enlarged four times, under 200·T/299 twice, and then reduced
    to T, if it is larger (source: the report of INF368-VectorEmbedding, at T = 299). With fill, the longest side
    becomes T. Enlarging and reducing are one resampling. The image is padded to T×T, centred.

    Returns:
        pixels uint8 (T, T, channels), background uint8 (channels,), and the original (width, height) of the image,
        without strips of marks that were cut off.

    Raises:
        InputError: see `open_image`.
    """
    image = open_image(source)
    try:
        image = to_8bit(image, settings)
    except DECODER_FAULTS as error:
        raise InputError(f"an image of mode {image.mode} cannot be converted: {error}") from error
    if settings.remove_marks == "auto":
        image = remove_marks(image)
    image = _invert_polarity(image, settings)
    original_size = image.size
    if image.height > image.width:
        image = image.transpose(Image.Transpose.ROTATE_90)
    side = settings.target_size
    scale = side / image.width
    if settings.scaling == "report":
        scale = min(scale, 4 if scale > REPORT_SIDE / 100 else 2 if scale > REPORT_SIDE / 200 else 1)
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(image.height, image.width, settings.n_channels)
    background = _background(pixels, settings)
    square = np.empty((side, side, settings.n_channels), dtype=np.uint8)
    square[:] = background
    top, left = (side - image.height) // 2, (side - image.width) // 2
    square[top : top + image.height, left : left + image.width] = pixels
    return square, background, original_size


@dataclass(frozen=True)
class PreparedBatch:
    """Prepared images: pixels uint8 (b, T, T, channels), background uint8 (b, channels), width and height int (b, 2).

    `faults`: position -> reason, for images that could not be read; they are blank. `hashes`: of their pixels (see
    `hash_pixels`), if wanted; None for faults.
    """

    pixels: NDArray[np.uint8]
    background: NDArray[np.uint8]
    size: NDArray[np.int_]
    faults: dict[int, str]
    hashes: list[str | None]


def prepare_batch(
    paths: Sequence[str | Path], settings: PreparationSettings, with_hashes: bool = False
) -> PreparedBatch:
    """Prepare some image files, by `prepare_image`; those that cannot be read are listed as faults."""
    n, side, channels = len(paths), settings.target_size, settings.n_channels
    pixels = np.zeros((n, side, side, channels), dtype=np.uint8)
    background, size = np.zeros((n, channels), dtype=np.uint8), np.ones((n, 2), dtype=int)
    faults: dict[int, str] = {}
    hashes: list[str | None] = [None] * n if with_hashes else []
    for position, path in enumerate(paths):
        try:
            image = open_image(path) if with_hashes else path
            pixels[position], background[position], size[position] = prepare_image(image, settings)
            if isinstance(image, Image.Image):
                hashes[position] = hash_pixels(image)
        except InputError as error:
            faults[position] = str(error)
    return PreparedBatch(pixels, background, size, faults, hashes)


def _look_inside(path: str | Path) -> str | Path | bytes | NDArray[np.generic]:
    """Return the path of a plain file, or the bytes or pixels of an image inside another file."""
    try:
        container, inside = split_path(path)
    except FileNotFoundError as error:
        raise InputError("the file does not exist") from error
    except OSError as error:
        raise InputError(f"the file cannot be opened: {error.strerror}") from error
    return read_inside(container, inside) if inside else path


def _decode(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Return an image with its pixels loaded and turned according to its EXIF; a file is not read as a whole."""
    try:
        if isinstance(source, Image.Image):
            return _load(source)
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            if not file.read(1):
                raise InputError("the file is empty")
            file.seek(0)
            with Image.open(file) as image:
                return _load(image)
    except InputError:
        raise
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"the file cannot be opened: {error.strerror}") from error
    except UnidentifiedImageError as error:
        raise InputError("the file is not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"too many pixels: over the limit of {MOST_PIXELS:,}") from error
    except DECODER_FAULTS as error:
        raise InputError(f"the image cannot be decoded: {error}") from error


def _load(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise InputError(f"{width}×{height} pixels: over the limit of {MOST_PIXELS:,}")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if has_more_bits(image) and getattr(image, "tag_v2", {}).get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO:
        upright.info["white_is_zero"] = True  # Pillow inverts only 1 to 8 bits
    return upright


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise InputError(f"expected an array (height, width), (…, 1) or (…, 3); found shape {array.shape}")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InputError("expected float pixels between 0 and 1; found others; scale them, or pass uint8")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16 and array.ndim == 2:
        return Image.fromarray(array)
    elif array.dtype != np.uint8:
        raise InputError(f"expected pixels of uint8, uint16 (grey), bool or float; found {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def has_more_bits(image: Image.Image) -> bool:
    """Return whether an image of one channel has more than 8 bits in each pixel."""
    return image.mode.startswith(("I", "F"))


def to_8bit(image: Image.Image, settings: PreparationSettings) -> Image.Image:
    """Return an image of any Pillow mode in 8-bit grey or colour; more bits are scaled, transparency becomes white.

    Values of more than 8 bits are divided by the white level of the settings (`auto` counts as 65535 here;
    `images.grey_levels` finds the number for a source). Float images of at most 1 are read as 0-1; those of at most 255
    as 0-255 if no white level below 65535 was found.
    """
    if has_more_bits(image):
        values: NDArray[np.floating[Any]] = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it has values that are not finite")
        values = values / _white(float(values.max()), image.mode == "F", settings)
        if settings.scaling_16bit == "source" and image.info.get("white_is_zero"):
            values = 1 - values
        image = Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
    return _lay_on_white(image).convert("L" if settings.n_channels == 1 else "RGB")


def _lay_on_white(image: Image.Image) -> Image.Image:
    """Return an image with its transparency, if any, replaced by white."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def hash_pixels(image: Image.Image) -> str:
    """Return a hash of everything in a decoded image that preparation uses, 32 hexadecimal digits.

    Images with equal pixels have equal hashes, whatever their file format, compression, metadata and mode: grey in
    three channels counts as grey, palettes count as their colours, and transparency as white.

    Raises:
        ValueError: it has values that are not finite.
    """
    pixels: NDArray[Any]
    if has_more_bits(image):
        pixels = np.asarray(image, dtype=np.float32 if image.mode == "F" else np.int32)
        if not np.isfinite(pixels).all():
            raise ValueError("it has values that are not finite")
        kind = "F" if image.mode == "F" else "I16"  # of integers, Pillow's mode depends on the file format
        kind += " white is zero" * bool(image.info.get("white_is_zero"))
    elif image.mode in ("YCbCr", "LAB"):  # their grey differs from the grey of their colours
        pixels, kind = np.asarray(image), image.mode
    else:
        image = _lay_on_white(image)
        pixels, kind = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")), "8"
        if pixels.ndim == 3 and (pixels == pixels[:, :, :1]).all():
            pixels = pixels[:, :, 0]
    digest = hashlib.blake2b(f"{kind} {pixels.shape} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _white(largest: float, is_float: bool, settings: PreparationSettings) -> int:
    """Return the value that becomes white in an image of more than 8 bits."""
    level = WHITE_LEVEL if settings.white_level_16bit == "auto" else settings.white_level_16bit
    if is_float and largest <= 1:
        return 1
    alone = settings.scaling_16bit == "image" or level == WHITE_LEVEL
    return 255 if is_float and largest <= 255 and alone else level


def _invert_polarity(image: Image.Image, settings: PreparationSettings) -> Image.Image:
    """Invert an 8-bit image if the polarity of the settings is not its own."""
    if settings.polarity == "as_is":
        return image
    grey = np.asarray(image.convert("L"))
    is_dark = _are_dark(np.array([np.median(border_of(grey))]), grey.reshape(1, -1))[0]
    return ImageOps.invert(image) if is_dark == (settings.polarity == "dark_on_light") else image


def _are_dark(background: NDArray[Any], pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether backgrounds are dark: nearly black, or dark and further from the lightest than the darkest pixels.

    With little light, a light background can be dark too; what is in front of it is then darker.

    Args:
        background: grey level of each image's, (n,).
        pixels: of each image, (n, pixels).
    """
    is_dark = np.asarray(background < DARK)
    doubtful = ~is_dark & (background < MIDDLE)  # rare: the percentiles of large images take long
    lowest, highest = np.percentile(pixels[doubtful], EXTREMES, axis=1)
    is_dark[doubtful] = highest - background[doubtful] > background[doubtful] - lowest
    return is_dark


def share_dark(pixels: NDArray[np.uint8], background: NDArray[np.uint8]) -> float:
    """Return the share of prepared images with a dark background.

    Args:
        pixels: uint8 (n, T, T, channels).
        background: their padding, uint8 (n, channels), which must be the median of the border (setting `background`).
    """
    return float(_are_dark(background.mean(axis=1), pixels.reshape(len(pixels), -1)).mean())


def _background(pixels: NDArray[np.uint8], settings: PreparationSettings) -> NDArray[np.uint8]:
    if settings.background == "border":
        return np.asarray(np.median(border_of(pixels), axis=0), dtype=np.uint8)
    return np.full(settings.n_channels, 255 if settings.background == "white" else 0, dtype=np.uint8)
