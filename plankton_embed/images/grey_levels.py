"""Grey levels of a source: the bits that its images use, and the white level that is the same for all of them."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.images.containers import read_inside, split_path
from plankton_embed.images.preparation import (
    DECODER_FAULTS,
    WHITE_LEVEL,
    ImageSource,
    has_more_bits,
    open_image,
    to_8bit,
)
from plankton_embed.images.workers import map_images
from plankton_embed.settings import PreparationSettings

BITS = {255: 8, 1023: 10, 4095: 12, 16383: 14, 65535: 16}  # by white level
MOST_DECODED = 2000  # number of images of more than 8 bits that are decoded, evenly spaced over the source
MOST_COLOURED = 1000  # number of images with several channels that are checked for colour
HOT_PIXELS = 2  # number of the brightest pixels of an image that may be camera faults
FEW = 100  # at most one image in so many has hot pixels
NEARLY_BLACK = 16  # an image so many times darker than the white level (four bits) is nearly black
NEARLY_FULL = 0.9  # share of the white level from which on it is certain

SETTING = "preparation.white_level_16bit"
PAGED_FORMATS = ("TIFF", "GIF", "WEBP", "PNG")
BITS_TAG, LARGEST_TAGS, TEXT_TAGS = 258, (281, 341), (270, 51123)  # of TIFF; the last is Micro-Manager's
BITS_IN_TEXT = re.compile(r'(?:SignificantBits="|"BitDepth(?:-\w+)?":\s*"?)(\d{1,2})\b')  # OME, Micro-Manager

TYPES = {"kind": str, "declared": int, "is_float": bool} | dict.fromkeys(("smallest", "largest", "bulk"), float)
TYPES |= {"example": str}

logger = logging.getLogger(__name__)


class _Header(NamedTuple):
    """What is known of an image before it is decoded; `declared`: the white level stated in the file, 0 for none."""

    kind: str
    size: tuple[int, ...]  # width and height
    has_more_bits: bool = False
    has_channels: bool = False
    is_cut: bool = False  # Pillow cuts it to 8 bits per channel
    has_pages: bool = False
    declared: int = 0


@dataclass(frozen=True)
class GreyLevels:
    """The grey levels of the images of a source.

    `kinds`: number of images by format and Pillow mode; `n_more_bits`: number with more than 8 bits. `looked` has one
    row for each of the latter that was decoded: `kind`, `declared`, `is_float`, `smallest`, `largest`, `bulk` (the
    largest value without the HOT_PIXELS brightest pixels), `example` (its path or number). `n_coloured` is an estimate
    unless `colour_counted`. `several_pages`: images with more than one page; `cut`: images whose channels have 16 bits,
    of which Pillow keeps the upper 8. `sizes`: width and height of every image, None if its header
    cannot be read.
    """

    kinds: dict[str, int]
    n_more_bits: int
    looked: pd.DataFrame
    n_coloured: int
    colour_counted: bool
    several_pages: list[str]
    cut: list[str]
    sizes: list[tuple[int, ...] | None]

    @property
    def n_images(self) -> int:
        """Number of images that could be opened."""
        return sum(self.kinds.values())

    @cached_property
    def scaled(self) -> pd.DataFrame:
        """The rows of `looked` that need a white level: all but float images of 0 to 1."""
        return self.looked[~(self.looked["is_float"] & (self.looked["largest"] <= 1))]

    @cached_property
    def white_level(self) -> int | None:
        """The smallest of 255, 1023, 4095, 16383 and 65535 that no image exceeds; None if no image needs one.

        Up to HOT_PIXELS pixels per image, in at most one image in a hundred, do not count. It is at least the level
        declared in a file: 10, 12 or 14 bits in a TIFF's BitsPerSample, MaxSampleValue, SMaxSampleValue or the text of
        OME and Micro-Manager (16 bits there are the width of the format, not of the camera), and a PGM's largest value.
        """
        if self.scaled.empty:
            return None
        found = next((level for level in BITS if self.exceeding(level).empty), WHITE_LEVEL)
        return max(found, int(self.scaled["declared"].max()))

    @property
    def bits(self) -> int:
        """The bit depth of the white level: 8, 10, 12, 14 or 16."""
        return BITS[self.white_level or 255]

    def exceeding(self, level: int) -> pd.DataFrame:
        """Return the rows of `scaled` with values above a white level; empty if these are a few hot pixels."""
        above = self.scaled[self.scaled["largest"] > level]
        are_hot = len(above) * FEW <= len(self.scaled) and bool((above["bulk"] <= level).all())
        return above[:0] if are_hot else above

    def resolve(self, preparation: PreparationSettings) -> PreparationSettings:
        """Return a preparation with a number as white level: its own or, for `auto`, the one found (else 65535)."""
        if preparation.white_level_16bit != "auto":
            return preparation
        return preparation.model_copy(update={"white_level_16bit": self.white_level or WHITE_LEVEL})

    def report(self, preparation: PreparationSettings) -> None:
        """Log the white level and warn about doubts, given the user's settings."""
        if self.white_level is not None and preparation.white_level_16bit == "auto":
            n = len(self.looked)
            logger.info(
                "%s of %s images have more than 8 bits%s; their largest value is %s: %d bits, white is %d (%s)",
                f"{self.n_more_bits:,}",
                f"{self.n_images:,}",
                "" if n == self.n_more_bits else f" ({n:,} of them decoded, evenly spaced)",
                _number(self.scaled["largest"].max()),
                self.bits,
                self.white_level,
                SETTING,
            )
        for line in self.warnings(preparation):
            logger.warning("%s", line)

    def report_for_model(self, preparation: PreparationSettings) -> None:
        """Warn if the images do not fit the preparation of a model; the model's white level is used.

        A model trained on images of 8 bits alone has the white level 65535, whatever the bits of later images.
        """
        level = preparation.white_level_16bit
        if level != "auto":
            remedy = f"convert the images so that {level} is white, or use a model trained on images like these"
            if level == WHITE_LEVEL:
                remedy = "adapt the model to these images (plankton-embed adapt), which finds their white level"
            misfits = self._misfits(level, "the model's white level", remedy, of_model=True)
            for line in (*misfits, *self._faults()):
                logger.warning("%s", line)

    def warnings(self, preparation: PreparationSettings) -> list[str]:
        """Return the warnings, one line each, given the user's settings."""
        level = preparation.white_level_16bit
        remedy = f"leave {SETTING} out, then the white level is found"
        doubts = self._doubts() if level == "auto" else self._misfits(level, SETTING, remedy)
        lines = [*doubts, *self._mixtures(), *self._faults()]
        if self.n_coloured and preparation.color == "grey":
            about = "" if self.colour_counted else "approximately "
            lines.append(
                f"{about}{self.n_coloured:,} of {self.n_images:,} images are in colour and will be converted to grey; "
                "--set preparation.color=color keeps it"
            )
        return lines

    def to_dict(self, preparation: PreparationSettings | None = None) -> dict[str, Any]:
        """Return plain values, ready for JSON; the warnings are for the user's settings (default: none given)."""
        return {
            "white_level": self.white_level,
            "bits": self.bits,
            "largest_value": None if self.scaled.empty else float(self.scaled["largest"].max()),
            "kinds": self.kinds,
            "n_more_than_8_bits": self.n_more_bits,
            "n_decoded": len(self.looked),
            "n_coloured": self.n_coloured,
            "n_several_pages": len(self.several_pages),
            "warnings": self.warnings(preparation or PreparationSettings()),
        }

    def _doubts(self) -> Iterator[str]:
        """Yield a warning where the white level found may be wrong."""
        level, scaled = self.white_level, self.scaled
        if level is None:
            return
        largest, is_declared = scaled["largest"].max(), scaled["declared"].max() == level
        if is_declared and largest * NEARLY_BLACK <= level:
            yield (
                f"the files declare {self.bits} bits, and the largest value is {_number(largest)}: with the white "
                f"level {level} the images become nearly black. If they use fewer bits, give --set "
                f"{SETTING}={_level_for(largest)}"
            )
        if not is_declared and level != WHITE_LEVEL and scaled["bulk"].max() < NEARLY_FULL * level:
            yield (
                f"the largest value of the images of more than 8 bits is {_number(largest)}, so {self.bits} bits are "
                f"assumed: white is {level}. If the camera has more bits and all images are dark, give its white level "
                f"(--set {SETTING}=65535 for 16 bits)"
            )
        hot = scaled[(scaled["largest"] > level) & (scaled["largest"] <= WHITE_LEVEL)]
        if len(hot):
            yield (
                f"{_of(hot, scaled)} have one or two pixels above the white level {level} (up to "
                f"{_number(hot['largest'].max())}): these count as camera faults and become white. If they are "
                f"not, give --set {SETTING}={_level_for(hot['largest'].max())}"
            )
        below = max((lower for lower in BITS if lower < level), default=0)
        above = scaled[scaled["largest"] > below]
        are_few = len(above) * FEW <= len(scaled) or (len(above) == 1 and above["bulk"].iloc[0] <= below)
        if not is_declared and are_few and len(above) < len(scaled):
            largest = scaled.drop(above.index)["largest"].max()
            yield (
                f"only {_of(above, scaled)} have values above {_number(largest)}; because of them white is {level}. If "
                f"these values are faults, give --set {SETTING}={_level_for(largest)}"
            )

    def _misfits(self, level: int, whose: str, remedy: str, of_model: bool = False) -> Iterator[str]:
        """Yield a warning where a given white level cannot be right: any above the one found, if that is certain."""
        scaled, found = self.scaled, self.white_level
        if level == WHITE_LEVEL:  # then the white of these is 255 (see `to_8bit`)
            scaled = scaled[~(scaled["is_float"] & (scaled["largest"] <= 255))]
        if found is None or scaled.empty:
            return
        above, largest = self.exceeding(level), scaled["largest"].max()
        is_stated = bool((scaled["declared"] == found).any()) or int((scaled["largest"] == found).sum()) > 1
        is_certain = is_stated or (of_model and level == WHITE_LEVEL)  # that of a model of 8 bits says nothing
        if len(above):
            yield (
                f"{_of(above, scaled)} have values above {whose} {level} (up to {_number(above['largest'].max())}), "
                f"which become white: they have {self.bits} bits. {remedy}"
            )
        elif largest * NEARLY_BLACK <= level or (found < level and is_certain):
            yield (
                f"the largest value of the images of more than 8 bits is {_number(largest)} ({self.bits} bits), far "
                f"below {whose} {level}, so they become dark. Unless they really are so dark: {remedy}"
            )

    def _mixtures(self) -> Iterator[str]:
        """Yield a warning where a source has several bit depths."""
        level, scaled = self.white_level, self.scaled
        n_others = self.n_images - self.n_more_bits
        if level is None:
            return
        if n_others:
            yield (
                f"bit depths are mixed: {n_others:,} images of 8 bits, which keep their values, and "
                f"{self.n_more_bits:,} images of more bits, whose white is {level} ({SETTING})"
            )
        darkest = scaled.groupby("kind")["largest"].max()
        darkest = darkest[darkest * NEARLY_BLACK <= level]
        for kind, largest in darkest.items() if len(darkest) < scaled["kind"].nunique() else ():
            yield (
                f"bit depths are mixed: {self.kinds[str(kind)]:,} images ({kind}) have values of at most "
                f"{_number(largest)}, others "
                f"up to {_number(scaled['largest'].max())}; all have the white level {level} ({SETTING}), which "
                f"makes the first nearly black. Convert them, or make separate catalogs"
            )
        for lower in (lower for lower in BITS if lower < level):
            full = scaled[(scaled["largest"] == lower) | (scaled["declared"] == lower)]
            below, above = scaled[scaled["largest"] <= lower], scaled[scaled["largest"] > lower]
            if _are_apart(below["largest"], above["largest"], lower):
                full = below
            full = full[~full["kind"].isin(darkest.index)]
            if len(full) >= max(2, len(scaled) // FEW):
                end = lower if (full["largest"] == lower).any() else full["largest"].max()
                yield (
                    f"bit depths may be mixed: {_of(full, scaled)} end at {end:.0f} ({BITS[lower]} bits), others at "
                    f"{_number(scaled['largest'].max())}; all have the white level {level} ({SETTING}). "
                    "Convert them, or make separate catalogs"
                )
        small = scaled[scaled["is_float"] & (scaled["largest"] <= 255)]
        if len(small) and level == WHITE_LEVEL:
            yield (
                f"{_of(small, scaled)} are floats of at most 255, read as 0 to 255; others reach "
                f"{_number(scaled['largest'].max())}; save all images on one scale, such as uint16"
            )

    def _faults(self) -> Iterator[str]:
        """Yield a warning where a part of some images is lost."""
        beyond = self.scaled[self.scaled["largest"] > WHITE_LEVEL]
        if len(beyond):
            yield (
                f"{_of(beyond, self.looked)} have values above {WHITE_LEVEL} (up to "
                f"{_number(beyond['largest'].max())}), which become white: expected at most 16 bits; scale them"
            )
        negative = self.looked[self.looked["smallest"] < 0]
        if len(negative):
            yield (
                f"{_of(negative, self.looked)} have values below 0 (down to {_number(negative['smallest'].min())}), "
                "which become black; add an offset to the images if these values matter"
            )
        if self.cut:
            yield (
                f"{len(self.cut):,} of {self.n_images:,} images have 16 bits in each of several channels, such as "
                f"{self.cut[0]}; only the upper 8 bits are used, so 10, 12 or 14 bits become nearly black. Save "
                "such images with 8 bits per channel, or as 16-bit grey"
            )
        if self.several_pages:
            yield (
                f"{len(self.several_pages):,} of {self.n_images:,} images have several pages or frames, such as "
                f"{self.several_pages[0]}: the first of each is used. Save the others as files of their own to use them"
            )


def find_grey_levels(images: Sequence[ImageSource], progress: bool = True, *, with_colour: bool = True) -> GreyLevels:
    """Find how many bits the images of a source use, which value is white, and how many are in colour.

    The headers of all images are read. Up to MOST_DECODED of the images with more than 8 bits, and up to MOST_COLOURED
    of those with several channels, are decoded, evenly spaced. Images that cannot be read are ignored.

    Args:
        images: paths, the bytes of files, PIL images, or arrays, as for `preparation.open_image`.
        progress: show progress bars.
        with_colour: check for colour too.
    """
    headers = map_images(_read_header, images, "reading headers", progress)
    deep = [row for row, header in enumerate(headers) if header and header.has_more_bits]
    chosen = _spread(deep, MOST_DECODED)
    values = map_images(_measure, [images[row] for row in chosen], "finding grey levels", progress)
    looked = [
        (header.kind, header.declared, *measured, _name(images[row], row))
        for row, measured in zip(chosen, values, strict=True)
        if measured and (header := headers[row])
    ]
    channels = [row for row, header in enumerate(headers) if with_colour and header and header.has_channels]
    shown = [images[row] for row in _spread(channels, MOST_COLOURED)]
    n_coloured = sum(map_images(_is_coloured, shown, "looking for colour", progress))
    return GreyLevels(
        kinds=dict(Counter(header.kind for header in headers if header)),
        n_more_bits=len(deep),
        looked=pd.DataFrame(looked, columns=list(TYPES)).astype(TYPES),
        n_coloured=round(n_coloured * len(channels) / max(len(shown), 1)),
        colour_counted=len(shown) == len(channels),
        several_pages=[_name(images[row], row) for row, header in enumerate(headers) if header and header.has_pages],
        cut=[_name(images[row], row) for row, header in enumerate(headers) if header and header.is_cut],
        sizes=[header and header.size for header in headers],
    )


def resolve_white_level(
    preparation: PreparationSettings, images: Sequence[ImageSource], progress: bool = True
) -> PreparationSettings:
    """Return a preparation with a number as white level; `auto` is found from the images and reported."""
    if preparation.white_level_16bit != "auto":
        return preparation
    levels = find_grey_levels(images, progress, with_colour=False)
    levels.report(preparation)
    return levels.resolve(preparation)


def _read_header(source: ImageSource) -> _Header | None:
    """Return the header of an image; None if it cannot be opened."""
    try:
        if isinstance(source, str | Path):
            container, inside = split_path(source)
            source = read_inside(container, inside) if inside else container
        if isinstance(source, np.ndarray):
            channels = source.ndim == 3 and source.shape[2] == 3
            return _Header(
                f"array {source.dtype}", source.shape[1::-1], source.dtype == np.uint16 and not channels, channels
            )
        if isinstance(source, Image.Image):
            return _describe(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return _describe(image)
    except DECODER_FAULTS:
        return None


def _describe(image: Image.Image) -> _Header:
    more_bits = has_more_bits(image)
    kind = f"{image.format or 'PIL'} {image.mode}"
    channels = not more_bits and image.mode not in ("1", "L", "LA", "La")
    is_cut = (
        channels and image.format in ("PNG", "TIFF") and any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    )
    has_pages, declared = False, 0
    try:
        has_pages = image.format in PAGED_FORMATS and getattr(image, "is_animated", False)
        declared = _declared_level(image) if more_bits else 0
    except DECODER_FAULTS:  # a broken tag or second page; the first page may be intact
        pass
    return _Header(kind, image.size, more_bits, channels, is_cut, has_pages, declared)


def _declared_level(image: Image.Image) -> int:
    """Return the white level stated in the file, 0 for none."""
    if image.format == "PPM":  # Pillow stretches values of fewer bits to 16
        arguments = image.tile[0].args  # type: ignore[attr-defined]
        return WHITE_LEVEL if isinstance(arguments, tuple) and arguments[1] < WHITE_LEVEL else 0
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 0
    text = " ".join(str(tags.get(tag, "")) for tag in TEXT_TAGS)
    bits = {*map(int, BITS_IN_TEXT.findall(text)), *np.ravel(tags.get(BITS_TAG, 16)).tolist()}
    largest = {value for tag in LARGEST_TAGS for value in np.ravel(tags.get(tag, 0)).tolist()}
    return max((level for level, n in BITS.items() if 8 < n < 16 and (n in bits or level in largest)), default=0)


def _measure(source: ImageSource) -> tuple[bool, float, float, float] | None:
    """Return whether an image has floats, its smallest and largest value, and the largest without hot pixels."""
    try:
        image = open_image(source)
        values: NDArray[np.generic] = np.asarray(image).ravel()
    except DECODER_FAULTS:
        return None
    if not np.isfinite(values).all():
        return None
    last = np.partition(values, (0, len(values) - 1 - HOT_PIXELS, len(values) - 1))
    return image.mode == "F", float(last[0]), float(last[-1]), float(last[-1 - HOT_PIXELS])


def _is_coloured(source: ImageSource) -> bool:
    """Return whether the channels of an image differ in more than one pixel per thousand."""
    try:
        pixels = np.asarray(to_8bit(open_image(source), PreparationSettings(color="color"))).astype(np.int16)
    except DECODER_FAULTS:
        return False
    return bool((np.ptp(pixels, axis=2) > 16).mean() > 0.001)


def _spread(rows: Sequence[int], most: int) -> list[int]:
    """Return at most `most` rows, evenly spaced from the first to the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[position] for position in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _are_apart(below: pd.Series, above: pd.Series, level: int) -> bool:
    """Return whether the largest values form two groups, the lower of which nearly reaches its white level."""
    if len(below) == 0 or len(above) < 2 or len(above) * FEW <= len(below):  # so few are reported elsewhere
        return False
    return bool(above.min() >= 2 * below.max() and below.quantile(0.1) > level / 2)


def _level_for(largest: float) -> int:
    return next((level for level in BITS if largest <= level), WHITE_LEVEL)


def _of(rows: pd.DataFrame, all_rows: pd.DataFrame) -> str:
    return f"{len(rows):,} of {len(all_rows):,} images, such as {rows['example'].iloc[0]},"


def _name(source: ImageSource, row: int) -> str:
    return str(source) if isinstance(source, str | Path) else f"image {row}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
