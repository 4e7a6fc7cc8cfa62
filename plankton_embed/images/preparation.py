"""The definition of the pixels that the network sees, from image file to square uint8 array."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from plankton_embed.errors import InputError
from plankton_embed.images.containers import read_inside, split_path
from plankton_embed.images.marks import remove_marks
from plankton_embed.settings import PreparationSettings

SMALLEST_SIDE = 3  # pixels; smaller images show nothing
MOST_PIXELS = 89_478_485  # Pillow's own line, above which a small file can fill the memory
WHITE_LEVEL = 65535  # of a setting "auto" that no source has turned into a number
PHOTOMETRIC_TAG, WHITE_IS_ZERO = 262, 0  # of TIFF
REPORT_SIDE = 299  # the side for which the report states its limits of 100 and 200 pixels

DECODER_FAULTS = (
    OSError,
    SyntaxError,  # Pillow's word for a broken PNG
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

    A path may go on inside a file, such as a ZIP or a collage (see `images.containers`).

    Arrays are (height, width), (height, width, 1) or (height, width, 3), uint8, uint16, bool, or float in 0-1.

    Raises:
        InputError: it is no image, is cut short, is under 3 px a side or over 89 million pixels.
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
    """Turn an image into the square that the network sees.

    First marks that are burnt in, such as scale bars, are removed (`settings.remove_marks`; see `images.marks`).
    Portrait images are turned by 90°. An image whose longest side is under 100·T/299 grows four times, under
    200·T/299 twice (T: `target_size`); then it is shrunk, if need be, to T, and padded to T×T, centred. The growing
    and shrinking are one resampling. (Source: the report of INF368-VectorEmbedding, at T = 299.)

    Returns:
        pixels uint8 (T, T, channels), background uint8 (channels,), and the (width, height) of the image as it came,
        or without the strip that held nothing but marks, where one was cut off.

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
    original_size = image.size
    if image.height > image.width:
        image = image.transpose(Image.Transpose.ROTATE_90)
    side = settings.target_size
    longest = image.width
    growth = 4 if longest < 100 * side / REPORT_SIDE else 2 if longest < 200 * side / REPORT_SIDE else 1
    scale = min(growth, side / longest)
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


def _look_inside(path: str | Path) -> str | Path | bytes | NDArray[np.generic]:
    """Return the path of a plain file as it is, else the bytes or pixels that lie inside another file."""
    try:
        container, inside = split_path(path)
    except FileNotFoundError as error:
        raise InputError("the file does not exist") from error
    except OSError as error:
        raise InputError(f"the file cannot be opened: {error.strerror}") from error
    return read_inside(container, inside) if inside else path


def _decode(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Return an image with its pixels loaded and turned as its EXIF says; a file is opened, not read as a whole."""
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
        raise InputError("the file is no image of a known format") from error
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
        upright.info["white_is_zero"] = True  # Pillow inverts 1 to 8 bits alone
    return upright


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise InputError(f"expected an array (height, width), (…, 1) or (…, 3); found shape {array.shape}")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InputError("expected float pixels between 0 and 1; found others. Scale them, or pass uint8")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16 and array.ndim == 2:
        return Image.fromarray(array)
    elif array.dtype != np.uint8:
        raise InputError(f"expected pixels of uint8, uint16 (grey), bool or float; found {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def has_more_bits(image: Image.Image) -> bool:
    """Return whether an image of one channel holds more than 8 bits in each pixel."""
    return image.mode.startswith(("I", "F"))


def to_8bit(image: Image.Image, settings: PreparationSettings) -> Image.Image:
    """Return an image of any Pillow mode in 8-bit grey or colour; 16-bit values are scaled, transparency becomes white.

    More than 8 bits are divided by the setting's white level (`auto` counts as 65535 here: `images.grey_levels` finds
    the number over a source). Float images of at most 1 are 0-1; those of at most 255 are 0-255 where no white level
    below 65535 was found.
    """
    if has_more_bits(image):
        values: NDArray[np.floating[Any]] = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        values = values / _white(float(values.max()), image.mode == "F", settings)
        if settings.scaling_16bit == "source" and image.info.get("white_is_zero"):
            values = 1 - values
        image = Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
    return _lay_on_white(image).convert("L" if settings.n_channels == 1 else "RGB")


def _lay_on_white(image: Image.Image) -> Image.Image:
    """Return an image without transparency: on white where it has some, else as it is."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def hash_pixels(image: Image.Image) -> str:
    """Return a hash of all that preparation reads of a decoded image, 32 hexadecimal digits.

    Images with equal pixels have equal hashes, whatever their file format, compression, metadata and mode: grey values
    in three channels count as grey, palettes as the colours they mean, transparency as white.

    Raises:
        ValueError: it holds values that are not finite.
    """
    pixels: NDArray[Any]
    if image.mode.startswith(("I", "F")):
        pixels = np.asarray(image, dtype=np.float32 if image.mode == "F" else np.int32)
        if not np.isfinite(pixels).all():
            raise ValueError("it holds values that are not finite")
        kind = image.mode.partition(";")[0] + "16" * (";" in image.mode)  # both byte orders are I16
        kind += " white is zero" * bool(image.info.get("white_is_zero"))
    elif image.mode in ("YCbCr", "LAB"):  # their grey is not that of their colours
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


def _background(pixels: NDArray[np.uint8], settings: PreparationSettings) -> NDArray[np.uint8]:
    if settings.background == "border":
        border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
        return np.asarray(np.median(border, axis=0), dtype=np.uint8)
    return np.full(settings.n_channels, 255 if settings.background == "white" else 0, dtype=np.uint8)
