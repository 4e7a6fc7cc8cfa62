"""Finds straight lines of ink on a smooth background: the lines of scale bars and corner marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

CONTRAST = 60  # grey levels between ink and background, from one pixel to the next
SHORTEST_LINE, SHORTEST_BAR, SHORTEST_LONE_BAR = 5, 8, 20  # pixels; a lone bar has neither text nor corner marks
THICKEST_BAR, THICKEST_CORNER, THICKEST_FIBRE = 16, 5, 4  # pixels
PAD = 3  # pixels of background around the image, so that marks at its border have an outer edge too
Grey = NDArray[np.int16]
Mask = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Line:
    """A straight horizontal line of constant thickness and grey level, rows and columns half open.

    `arms`: lengths of the vertical lines from its ends: left up, left down, right up, right down.
    """

    top: int
    bottom: int
    left: int
    right: int
    ink: float
    ground: float
    arms: tuple[int, int, int, int]

    @property
    def length(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def thickness(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def contrast(self) -> float:
        """Grey levels between ink and background."""
        return abs(self.ink - self.ground)

    @property
    def is_bar(self) -> bool:
        """Whether it can be a scale bar, with or without short ticks at its ends."""
        most = max(2, self.length // 4)
        return self.length >= max(SHORTEST_BAR, 3 * self.thickness) and max(self.arms) <= most

    @property
    def corner(self) -> tuple[int, int] | None:
        """The corner of which it can be the horizontal arm: (0 left, 1 right; 0 top, 1 bottom), or None."""
        longest = int(np.argmax(self.arms))
        others = max(arm for number, arm in enumerate(self.arms) if number != longest)
        alike = self.length <= 3 * (self.arms[longest] + self.thickness) <= 9 * self.length
        if others > 1 or self.arms[longest] < 4 or not alike or self.thickness > THICKEST_CORNER:
            return None
        return longest // 2, (longest + 1) % 2  # an arm downwards belongs to a corner at the top

    def has_ink_of(self, other: Line) -> bool:
        """Whether both have the same grey level."""
        return abs(self.ink - other.ink) <= 0.25 * other.contrast

    def draw(self, mask: Mask) -> None:
        """Set its pixels in a mask."""
        mask[self.top : self.bottom, self.left : self.right] = True
        for number, arm in enumerate(self.arms):
            columns = slice(self.left, self.left + self.thickness)
            if number >= 2:
                columns = slice(self.right - self.thickness, self.right)
            rows = slice(self.bottom, self.bottom + arm) if number % 2 else slice(self.top - arm, self.top)
            mask[rows, columns] = True


def find_lines(pixels: NDArray[np.uint8]) -> list[Line]:
    """Return the drawn lines of an image, each once, those with the longest edges first."""
    height, width = pixels.shape
    corners = sorted([pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]])
    grey = np.full((height + 2 * PAD, width + 2 * PAD), corners[2], dtype=np.int16)
    grey[PAD:-PAD, PAD:-PAD] = pixels
    across = grey.shape[1]
    flat, step = grey.ravel(), (grey[1:] - grey[:-1]).ravel()
    edges = np.flatnonzero(np.abs(step) >= CONTRAST)
    # runs: adjacent edges in a row, of one direction, with ink of nearly one level
    ink, darker = flat[edges + across], step[edges] < 0
    is_next = (edges[1:] - edges[:-1] == 1) & (darker[1:] == darker[:-1]) & (np.abs(ink[1:] - ink[:-1]) <= 8)
    if not (is_next[:-2] & is_next[1:-1] & is_next[2:]).any():
        return []
    bounds = np.flatnonzero(~is_next) + 1
    firsts, ends = np.append(0, bounds), np.append(bounds, len(edges))
    long = ends - firsts >= SHORTEST_LINE - 1
    rows, starts = np.divmod(edges[firsts[long]], across)
    stops = starts + (ends - firsts)[long]
    likely = _find_likely(grey, rows, starts, stops)
    lines: list[Line] = []
    for run in likely[np.argsort((starts - stops)[likely], kind="stable")]:
        row, start, stop = int(rows[run]), int(starts[run]), int(stops[run])
        if any(line.top <= row + 1 <= line.bottom and line.left < stop and start < line.right for line in lines):
            continue  # the second row of an edge of two
        line = _measure_line(grey, row + 1, start, stop)
        if line is not None:
            lines.append(line)
    return [
        Line(line.top - PAD, line.bottom - PAD, line.left - PAD, line.right - PAD, line.ink, line.ground, line.arms)
        for line in lines
    ]


def _find_likely(
    grey: Grey, rows: NDArray[np.intp], starts: NDArray[np.intp], stops: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the numbers of the runs that can be the upper edge of a line, by five columns of each.

    In all five the opposite edge is at one distance below, and the first and the last row of ink have one level each.
    """
    columns = starts[:, None] + ((stops - starts - 1)[:, None] * np.array([0.3, 0.4, 0.5, 0.6, 0.7])).astype(np.intp)
    below = np.minimum(rows[:, None] + np.arange(THICKEST_BAR + 3), len(grey) - 1)
    levels = grey[below[:, :, None], columns[:, None, :]]
    steps = np.diff(levels, axis=1)
    opposite = (steps[:, 1:] * np.sign(steps[:, :1]) <= -CONTRAST).all(axis=2)
    found = np.flatnonzero(opposite.any(axis=1))
    if len(found) == 0:
        return found
    levels = levels[found]
    first, last = levels[:, 1], levels[np.arange(len(found)), opposite[found].argmax(axis=1) + 1]
    contrast = np.abs(first - levels[:, 0]).max(axis=1)
    spread = np.maximum(np.ptp(first, axis=1), np.ptp(last, axis=1))
    likely: NDArray[np.intp] = found[spread <= np.maximum(12, 0.15 * contrast)]
    return likely


def _measure_line(grey: Grey, top: int, start: int, stop: int) -> Line | None:
    """Measure a line from its first row of ink, over the columns start to stop; None if it was not drawn."""
    ground = middle_of(grey[top - 1, start:stop])
    bottom = top
    levels: list[float] = []
    while bottom < len(grey) and bottom - top <= THICKEST_BAR + 1:
        row = grey[bottom, start:stop]
        middle = middle_of(row)
        if abs(middle - ground) < CONTRAST / 2 or (levels and (middle - ground) * (levels[0] - ground) < 0):
            break
        if np.mean(np.abs(row - middle) > max(10, 0.12 * abs(middle - ground))) > 0.1:
            return None
        levels.append(middle)
        bottom += 1
    thickness = bottom - top
    if not 0 < thickness <= THICKEST_BAR:
        return None
    profile = np.array(levels)
    ink = float(profile[np.abs(profile - ground).argmax()])
    contrast = abs(ink - ground)
    tolerance = max(10, 0.12 * contrast)
    if contrast < CONTRAST or (np.abs(profile[1:-1] - ink) > tolerance).any():  # only the outer rows may be lighter
        return None
    same = (np.abs(grey[top:bottom] - profile[:, None]) <= max(tolerance, 0.3 * contrast)).all(axis=0)
    left, right = _extend(same, start, stop)
    if right - left < max(SHORTEST_LINE, 2 * thickness) or left < PAD or right > grey.shape[1] - PAD:
        return None
    for column in (left - 2, right + 1):  # one lighter column is an edge of two pixels
        if (np.abs(grey[top:bottom, column] - ink) < contrast / 2).any():
            return None
    edges = np.abs(np.stack([grey[top - 1, left:right], grey[bottom, left:right]]) - ink) >= contrast / 2
    arms = [
        _measure_arm(grey, start_row, step, column, thickness, ink, contrast)
        for column in (left, right - thickness)
        for start_row, step in ((top - 1, -1), (bottom, 1))
    ]
    for row, (at_left, at_right) in zip(edges, (arms[0::2], arms[1::2]), strict=True):
        free = row[thickness * (at_left > 0) : len(row) - thickness * (at_right > 0)]
        if len(free) == 0 or free.mean() < 0.9:
            return None
    return Line(top, bottom, left, right, ink, ground, (arms[0], arms[1], arms[2], arms[3]))


def _extend(same: Mask, start: int, stop: int) -> tuple[int, int]:
    """Return the run of true columns around the middle of start and stop."""
    middle = (start + stop) // 2
    if not same[middle]:
        return middle, middle
    before, after = np.flatnonzero(~same[:middle]), np.flatnonzero(~same[middle:])
    return int(before[-1]) + 1 if len(before) else 0, middle + int(after[0]) if len(after) else len(same)


def _measure_arm(grey: Grey, row: int, step: int, column: int, width: int, ink: float, contrast: float) -> int:
    """Return the length of a vertical line of the same ink and thickness that starts at a row and goes by steps."""
    rows = np.arange(row, -1, -1) if step < 0 else np.arange(row, len(grey))
    inked = (np.abs(grey[rows, column : column + width] - ink) <= max(12, 0.25 * contrast)).all(axis=1)
    length = len(rows) if inked.all() else int(inked.argmin())
    if length >= 3:  # it must be a separate line, not the side of a body
        beside = np.abs(grey[rows[:length]][:, [column - 2, column + width + 1]] - ink) >= contrast / 3
        if beside.mean() < 0.8:
            return len(rows)
    return length


def middle_of(values: NDArray[np.integer]) -> float:
    """Return the median, the upper one of two; for a few values this is ten times as fast as `np.median`."""
    return float(np.sort(values)[len(values) // 2])


def border_of(pixels: NDArray[T]) -> NDArray[T]:
    """Return the outermost pixels of an image (height, width[, channels]), (n[, channels])."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
