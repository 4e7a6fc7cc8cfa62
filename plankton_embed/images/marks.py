"""Finds marks burnt into images (scale bars, their text, corner marks and codes), and fills them or cuts them off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from plankton_embed.images.mark_lines import (
    CONTRAST,
    SHORTEST_LINE,
    SHORTEST_LONE_BAR,
    THICKEST_FIBRE,
    Grey,
    Line,
    Mask,
    border_of,
    find_lines,
    middle_of,
)

SMALLEST_IMAGE = 12  # pixels per side; a smaller image has no room for marks
BLANK, NOISE, RINGING = (
    4,
    24,
    40,
)  # range of grey levels in a blank strip, in a clean background, and beside ink after JPEG
Kind = Literal["bar", "text", "corner", "code"]


@dataclass(frozen=True, eq=False)
class Marks:
    """The marks burnt into an image.

    Attributes:
        mask: bool (height, width), the pixels of marks and of the JPEG halo around them.
        kinds: the kinds found: `bar`, `text`, `corner`, `code`; empty if the image has no marks.
        box: left, top, right, bottom (exclusive) of the picture without the strips that hold only marks.
    """

    mask: Mask
    kinds: tuple[Kind, ...]
    box: tuple[int, int, int, int]


def find_marks(image: Image.Image | NDArray[np.uint8]) -> Marks:
    """Find scale bars, text beside them, corner marks and codes that software has drawn into an image.

    A drawn line differs from anything seen through a lens: it is exactly straight, has one thickness and one grey
    level, and an edge of one or two pixels all around. A bar counts if it is near the upper or lower border and has
    text or corner marks of the same ink, or if it is alone, black or white, in a blank strip. Corner marks count in
    pairs or with a bar. Text counts beside a bar or, as a code, at the upper or lower border of an image with other
    marks. Each image is judged by itself; doubtful marks are left in the image.

    Args:
        image: 8 bit, grey or colour, as a Pillow image (mode L or RGB) or an array (height, width[, 3]).
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    pixels = np.asarray(image if image.mode == "L" else image.convert("L"))
    height, width = pixels.shape
    blank = np.zeros(pixels.shape, dtype=bool)
    lines = [] if min(pixels.shape) < SMALLEST_IMAGE else find_lines(pixels)
    if not lines:
        return Marks(blank, (), (0, 0, width, height))
    corners = _pair_corners(lines)
    corner_marks = _draw(corners, pixels.shape)
    bars: list[Line] = []
    text = blank
    grey = pixels.astype(np.int16)
    for line in lines:
        if not line.is_bar or min(line.top, height - line.bottom) > height / 3:
            continue
        letters = _find_text(grey, line, corner_marks)
        if not _is_free(grey, line, letters | corner_marks):
            continue
        if letters.any() or any(line.has_ink_of(corner) for corner in corners) or _is_lone_bar(grey, line):
            bars.append(line)
            text = text | letters
    if not bars and not corners:
        return Marks(blank, (), (0, 0, width, height))
    inks = bars or corners
    corners += [line for line in lines if line.corner and line not in corners and line.has_ink_of(inks[0])]
    corner_marks = _draw(corners, pixels.shape)
    drawn = _draw(bars, pixels.shape)
    code = _find_codes(grey, inks[0], drawn | text | corner_marks)
    mask = _add_halo(grey, _dilate(drawn | text | code, 1)) | _add_halo(grey, corner_marks)
    there: dict[Kind, bool] = {
        "bar": bool(bars),
        "text": bool(text.any()),
        "corner": bool(corners),
        "code": bool(code.any()),
    }
    return Marks(mask, tuple(kind for kind in there if there[kind]), _find_box(grey, mask, bars))


def remove_marks(image: Image.Image) -> Image.Image:
    """Return the image without its marks: strips with only marks are cut off, other marks are filled.

    Where a strip is cut off, the picture keeps as much background beside its content as on the other side. Filled
    pixels are copies of the background nearby, with its noise. An image without marks is returned unchanged.

    Args:
        image: 8 bit, of mode L or RGB.
    """
    marks = find_marks(image)
    if not marks.kinds:
        return image
    left, top, right, bottom = marks.box
    pixels, mask = np.asarray(image)[top:bottom, left:right], marks.mask[top:bottom, left:right]
    return Image.fromarray(_fill(pixels, mask) if mask.any() else np.ascontiguousarray(pixels))


def _pair_corners(lines: list[Line]) -> list[Line]:
    """Return the lines that are corner marks: two or more of the same ink and size, each in its corner."""
    found = [line for line in lines if line.corner is not None]
    paired = set()
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            (x, y), (other_x, other_y) = one.corner or (0, 0), other.corner or (0, 0)
            alike = (
                abs(one.ink - other.ink) <= 0.15 * one.contrast
                and one.thickness == other.thickness
                and abs(one.length - other.length) <= 2
                and abs(max(one.arms) - max(other.arms)) <= 2
            )
            across, down = other.left - one.left, other.top - one.top
            placed = (
                across > one.length if other_x > x else across < -one.length if other_x < x else across == 0
            ) and (down > 0 if other_y > y else down < 0 if other_y < y else down == 0)
            if alike and placed and (x, y) != (other_x, other_y):
                paired |= {one, other}
    return [line for line in found if line in paired]


@dataclass(frozen=True, eq=False)
class _Pieces:
    """The pieces of ink in some rows of an image, in coordinates of these rows; (n,) each."""

    inked: NDArray[np.floating]
    labels: NDArray[np.integer]
    tops: NDArray[np.intp]
    bottoms: NDArray[np.intp]
    lefts: NDArray[np.intp]
    rights: NDArray[np.intp]
    is_drawn: Mask
    is_letter: Mask
    fill: NDArray[np.floating]

    @classmethod
    def find(cls, grey: Grey, like: Line, own: Mask, tallest: int) -> _Pieces | None:
        """Divide ink of a line's grey level, outside of known marks, into pieces; None if there is no such ink.

        Drawn pieces have sharp edges and are as dark as the line somewhere. Letters are drawn pieces 4 pixels high or
        more; dots and hyphens are lower.
        """
        inked = (grey - like.ground) / (like.ink - like.ground)
        labels, n = ndimage.label((inked >= 0.3) & ~_dilate(own, 1), np.ones((3, 3)))
        if n == 0:
            return None
        tops, bottoms, lefts, rights = np.array(
            [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(labels)]
        ).T
        heights, widths = bottoms - tops, rights - lefts
        sharp = np.bincount(labels[_is_sharp(inked)], minlength=n + 1)[1:] / np.bincount(labels.ravel())[1:]
        peak = np.zeros(n + 1)
        np.maximum.at(peak, labels.ravel(), inked.ravel())
        drawn = (sharp >= 0.4) & (peak[1:] >= 0.5) & (heights <= tallest) & (widths <= 12 * tallest)
        fill = np.bincount(labels[inked >= 0.5], minlength=n + 1)[1:] / (heights * widths)
        return cls(inked, labels, tops, bottoms, lefts, rights, drawn, drawn & (heights >= 4), fill)

    @property
    def heights(self) -> NDArray[np.intp]:
        return self.bottoms - self.tops

    def grow(self, line: Mask) -> Mask:
        """Add to a line of text the drawn pieces that continue it to either side, up to the width of a blank away."""
        size = self.heights[line].max()
        first, last = self.tops[line].min() - size // 3, self.bottoms[line].max() + size // 3
        while True:
            away = np.maximum(self.lefts - self.rights[line].max(), self.lefts[line].min() - self.rights)
            wider = line | (self.is_drawn & (self.tops >= first) & (self.bottoms <= last) & (away <= 1.5 * size + 2))
            if (wider == line).all():
                return line
            line = wider

    def box(self, line: Mask) -> tuple[slice, slice]:
        """Return rows and columns of a line of text and of two pixels around it."""
        rows = slice(max(0, self.tops[line].min() - 2), self.bottoms[line].max() + 2)
        return rows, slice(max(0, self.lefts[line].min() - 2), self.rights[line].max() + 2)

    def mask(self, line: Mask) -> Mask:
        """Return the pixels of these pieces."""
        pixels: Mask = np.append(False, line)[self.labels]
        return pixels

    def stands_alone(self, line: Mask) -> bool:
        """Return whether the box of a line of text holds no other ink."""
        box = self.box(line)
        return not ((self.labels > 0) & ~self.mask(line))[box].any()

    def count_letters(self, line: Mask) -> int:
        """Return how many letters of a line have the same base and height; 0 if they are solid like bodies."""
        letters = line & self.is_letter
        if not letters.any() or self.fill[letters].mean() > 0.75:
            return 0
        if self.bottoms[letters].max() - self.tops[letters].min() > 1.7 * self.heights[letters].max():
            return 0  # more than one line
        bottoms, heights = self.bottoms[letters], self.heights[letters]
        alike = (np.abs(bottoms[:, None] - bottoms) <= 1) & (np.abs(heights[:, None] - heights) <= 1)
        return int(alike.sum(axis=1).max())

    def has_strokes(self, line: Mask) -> bool:
        """Return whether the line may be a few words with joined letters: low, wide, three strokes or more per row."""
        inked = self.inked[self.box(line)] >= 0.5
        strokes = (np.diff(inked.astype(np.int8), axis=1, prepend=0) == 1).sum(axis=1)
        height, width = inked.shape
        return (
            line.sum() <= 3 and height <= 20 and width >= 1.5 * height and float(np.median(strokes[strokes > 0])) >= 3
        )


def _find_text(grey: Grey, bar: Line, known: Mask) -> Mask:
    """Return the pixels of text above, below or beside a bar: small sharp pieces of its ink in a separate line."""
    found = np.zeros(grey.shape, dtype=bool)
    tallest = max(24, bar.length // 4)
    start, stop = max(0, bar.top - 2 * tallest), min(len(grey), bar.bottom + 2 * tallest)
    known = known | _draw([bar], grey.shape)
    pieces = _Pieces.find(grey[start:stop], bar, known[start:stop], tallest)
    if pieces is None:
        return found
    top, bottom = bar.top - start, bar.bottom - start
    near = pieces.is_letter & (
        np.maximum(pieces.tops - bottom, top - pieces.bottoms) <= np.maximum(6, 0.8 * pieces.heights)
    )
    near &= np.maximum(pieces.lefts - bar.right, bar.left - pieces.rights) <= 2 * pieces.heights
    above, below = pieces.bottoms <= top + 1, pieces.tops >= bottom - 1
    seeds = [near & side for side in (above, below, ~above & ~below) if (near & side).any()]
    lines = [line for line in map(pieces.grow, seeds) if pieces.stands_alone(line)]
    texts = [line for line in lines if pieces.count_letters(line) >= 2]
    if not texts:  # words with joined letters, unless the picture shows nothing else
        shown = (np.abs(grey - bar.ground) > CONTRAST) & ~_dilate(known, 1)
        for line in lines:
            rest = shown.copy()
            rest[start:stop] &= ~pieces.mask(line)
            if pieces.has_strokes(line) and rest.any():
                texts.append(line)
    for line in texts:
        found[start:stop] |= pieces.mask(line)
    return found


def _find_codes(grey: Grey, like: Line, own: Mask) -> Mask:
    """Return the pixels of lines of four letters or more near the upper and the lower border, in the ink of a mark."""
    found = np.zeros(grey.shape, dtype=bool)
    depth = min(max(24, len(grey) // 5), len(grey) // 2)
    for band in (slice(0, depth), slice(len(grey) - depth, len(grey))):
        pieces = _Pieces.find(grey[band], like, own[band], 24)
        if pieces is None:
            continue
        rest = pieces.is_letter.copy()
        while rest.any():
            line = np.zeros(len(rest), dtype=bool)
            line[rest.argmax()] = True
            line = pieces.grow(line)
            if pieces.count_letters(line) >= 4 and pieces.stands_alone(line):
                found[band] |= pieces.mask(line)
            rest &= ~line
    return found


def _is_sharp(inked: NDArray[np.floating]) -> Mask:
    """Return which pixels differ by more than a third of the ink from a neighbour above, below or beside."""
    sharp = np.zeros(inked.shape, dtype=bool)
    down, across = np.abs(np.diff(inked, axis=0)) >= 0.35, np.abs(np.diff(inked, axis=1)) >= 0.35
    sharp[1:] |= down
    sharp[:-1] |= down
    sharp[:, 1:] |= across
    sharp[:, :-1] |= across
    return sharp


def _is_free(grey: Grey, bar: Line, known: Mask) -> bool:
    """Return whether only known marks are between a bar and the border, and the picture shows something else.

    A short bar must have nothing around it either, because it may be a piece of a body that was thresholded.
    """
    own = _dilate(_draw([bar], grey.shape) | known, 1)
    inked = (grey - bar.ground) / (bar.ink - bar.ground) >= 0.5
    inked &= ~own
    columns = slice(max(0, bar.left - 2), bar.right + 2)
    outside = slice(bar.bottom, None) if bar.top + bar.bottom > len(grey) else slice(0, bar.top)
    if inked[outside, columns].any():
        return False
    if bar.length < SHORTEST_LONE_BAR and inked[max(0, bar.top - 3) : bar.bottom + 3, columns].any():
        return False
    return int((np.abs(grey - bar.ground)[~own] > NOISE / 2).sum()) >= SHORTEST_LINE


def _is_lone_bar(grey: Grey, bar: Line) -> bool:
    """Return whether a line alone can be a scale bar: black or white, in a blank strip, with a picture beside it."""
    if bar.length < SHORTEST_LONE_BAR and bar.thickness < 2:
        return False
    if bar.thickness < THICKEST_FIBRE and NOISE < bar.ink < 255 - NOISE:
        return False
    away = np.abs(grey - bar.ground)
    first, last = bar.top - max(bar.arms[0::2]) - 2, bar.bottom + max(bar.arms[1::2]) + 2
    away[max(0, first) : last, max(0, bar.left - 2) : bar.right + 2] = 0
    below, above = away[max(0, first) :], away[:last]
    strip, rest = (below, away[: max(0, first)]) if len(below) <= len(above) else (above, away[last:])
    return len(strip) <= len(grey) / 2 and strip.max() <= NOISE < rest.max(initial=0)


def _draw(lines: list[Line], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for line in lines:
        line.draw(mask)
    return mask


def _add_halo(grey: Grey, mask: Mask) -> Mask:
    """Return the mask extended by up to three pixels: the lighter edge of letters, and the JPEG halo around ink."""
    for _ in range(3 if mask.any() else 0):
        wider = _dilate(mask, 1)
        ring, beyond = wider & ~mask, _dilate(wider, 2) & ~wider
        if not ring.any() or not beyond.any():
            break
        ground = np.median(grey[beyond])
        if np.quantile(np.abs(grey[ring] - ground), 0.8) <= np.quantile(np.abs(grey[beyond] - ground), 0.8) + 3:
            break
        mask = wider
    return mask


def _find_box(grey: Grey, mask: Mask, bars: list[Line]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the picture without the blank strips that hold a bar and its text."""
    height, width = grey.shape
    left, top, right, bottom = 0, 0, width, height
    for bar in bars:
        at_bottom = bar.top + bar.bottom > height
        rows = slice(bar.top, None) if at_bottom else slice(0, bar.bottom)
        columns = slice(max(0, bar.left - 8), bar.right + 8)
        noise = int(2 * (np.abs(grey - bar.ground) * ~mask)[rows, columns].max(initial=0))  # of JPEG around it
        if at_bottom:
            kept = _find_strip(grey[:bottom], mask[:bottom], bar.top, noise)
            was_cut, bottom = kept < bottom, kept
        else:
            kept = _find_strip(grey[top:][::-1], mask[top:][::-1], height - bar.bottom, noise)
            was_cut, top = kept < height - top, height - kept
        if was_cut and abs(bar.left - (width - bar.right)) <= 2:  # the picture was widened to hold the bar
            first, last = _find_columns(grey[top:bottom], mask[top:bottom])
            margin = max(2, min(first, width - 1 - last))
            left, right = max(0, first - margin), min(width, last + 1 + margin)
    return left, top, right, bottom


def _find_columns(grey: Grey, mask: Mask) -> tuple[int, int]:
    """Return the first and last column that shows more than background and marks."""
    away = np.where(mask, 0, np.abs(grey - int(middle_of(border_of(grey)))))
    shown = np.flatnonzero(away.max(axis=0) > 2)
    return (int(shown[0]), int(shown[-1])) if len(shown) else (0, grey.shape[1] - 1)


def _find_strip(grey: Grey, mask: Mask, bar_top: int, noise: int) -> int:
    """Return how many rows above a strip with a bar belong to the picture; all if there is no such strip."""
    height = len(grey)
    clear = ~mask
    if not clear[bar_top:].any():
        return height
    level = np.median(grey[bar_top:][clear[bar_top:]])
    away = np.where(mask, 0, np.abs(grey - level))
    limit = np.where(_dilate(mask, 7), min(BLANK + noise, RINGING), BLANK)  # JPEG spreads ink over 8 px
    blank: Mask = np.asarray((away <= limit).all(axis=1))
    if not blank[bar_top:].all() or blank.all():
        return height
    last = int(np.flatnonzero(~blank)[-1])  # row of the picture
    if (
        np.mean(~mask[last] & (away[last] > limit[last])) >= 0.5
    ):  # the background of the strip differs from that of the picture
        step = np.abs(np.median(grey[: max(1, last - 7)]) - level)
        halo = (away[max(0, last - 7) : last + 1] <= min(2 * NOISE, step / 3)).mean(axis=1) > 0.9
        return last + 1 - int(halo[::-1].cumprod().sum())  # without the rows in which JPEG blurs the step
    margin = max(2, int((~blank).argmax()))
    first_mark = int(mask[last + 1 :].any(axis=1).argmax())
    return last + 1 + min(margin, first_mark)


def _fill(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """Return the pixels with those of the mask replaced by their mirror image in the nearest edge of the mask.

    Where the mirror image differs from that edge (such as a body), the edge itself is copied; where a thick mark ends
    at a body, the background around the mark.
    """
    grey = (pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))).astype(np.int16)
    rows, columns = np.nonzero(mask)
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    near_rows, near_columns = nearest[:, rows, columns]
    far_rows = np.clip(2 * near_rows - rows, 0, mask.shape[0] - 1)
    far_columns = np.clip(2 * near_columns - columns, 0, mask.shape[1] - 1)
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    mark = labels[rows, columns]
    near, far = grey[near_rows, near_columns], grey[far_rows, far_columns]
    ground = ndimage.median(near, mark, np.arange(n + 1))[mark]
    noise = ndimage.median(np.abs(near - ground), mark, np.arange(n + 1))[mark]
    limit = np.maximum(8, 4 * noise)
    alike = (np.abs(far - near) <= limit) & ~mask[far_rows, far_columns]
    source_rows, source_columns = np.where(alike, far_rows, near_rows), np.where(alike, far_columns, near_columns)
    distance = np.maximum(np.abs(near_rows - rows), np.abs(near_columns - columns))
    filled = pixels.copy()
    filled[rows, columns] = pixels[source_rows, source_columns]
    body = (distance > 3) & (np.abs(near - ground) > limit)
    for number in np.unique(mark[body]):
        chosen = body & (mark == number)
        level = np.median(pixels[near_rows[mark == number], near_columns[mark == number]], axis=0)
        filled[rows[chosen], columns[chosen]] = level.astype(np.uint8)
    return filled


def _dilate(mask: Mask, reach: int) -> Mask:
    """Return the pixels within `reach` rows and columns of a mask."""
    grown = mask.view(np.uint8)
    for axis in (0, 1):
        grown = ndimage.maximum_filter1d(grown, 2 * reach + 1, axis=axis, mode="constant")
    return grown.view(np.bool_)
