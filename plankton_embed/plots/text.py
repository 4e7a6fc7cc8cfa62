"""Fit text: measure it, shorten it in the middle, break it into lines."""

from __future__ import annotations

import re
from functools import cache

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font

ELLIPSIS = "…"
NOT_DRAWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # line breaks and control characters
NAME_WIDTH = 235.0  # points, of a class name beside an axis


def text_width(text: str, font_size: float) -> float:
    """Return the width of one line of text in the standard font, in points."""
    return font_size * sum(_advance(character) for character in NOT_DRAWN.sub(" ", text))


def shorten(text: str, width: float, font_size: float) -> str:
    """Return the text in one line; where it is wider than `width` points, … replaces its middle.

    Both ends are kept, as class names often differ in the last word only. What cannot be drawn becomes blank.
    """
    text = NOT_DRAWN.sub(" ", text)
    whole = text_width(text, font_size)
    if whole <= max(width, 0):
        return text
    for kept in range(min(len(text) - 1, int(2 * len(text) * width / whole) + 1), 0, -1):
        head = (kept * 3 + 4) // 5
        shorter = text[:head].rstrip() + ELLIPSIS + text[len(text) - (kept - head) :].lstrip()
        if text_width(shorter, font_size) <= width:
            return shorter
    return ELLIPSIS


def fit_lines(text: str, width: float, font_size: float, n_lines: int) -> str:
    """Return the text in at most `n_lines` lines no wider than `width` points.

    Its line breaks are kept; long lines are broken after blanks, _, >, / and - as far as there are spare lines.
    """
    own = text.split("\n")[:n_lines]
    fitted: list[str] = []
    for number, line in enumerate(own):
        spare = n_lines - len(fitted) - (len(own) - number)
        fitted += _break_line(line, width, font_size, 1 + spare)
    return "\n".join(shorten(line, width, font_size) for line in fitted)


def row_font_size(ax: Axes, n_rows: int, largest: float = 9.0) -> float:
    """Return the font size at which `n_rows` lines fit beside the axes, or columns below it."""
    inches = ax.get_window_extent().height / ax.figure.figure.dpi
    return max(2.0, min(largest, 0.72 * 72 * inches / max(n_rows, 1)))


def _break_line(line: str, width: float, font_size: float, n_lines: int) -> list[str]:
    """Fill lines word by word; the last one takes the rest."""
    words = re.findall(r"[^\s_>/-]*[\s_>/-]+|[^\s_>/-]+", line)
    lines = [""]
    for word in words:
        full = text_width((lines[-1] + word).rstrip(), font_size) > width
        if full and lines[-1] and len(lines) < n_lines:
            lines.append("")
        lines[-1] += word
    return [part.strip() for part in lines]


@cache
def _advance(character: str) -> float:
    """Return the width of a character, in units of the font size."""
    font = get_font(findfont(FontProperties()))
    font.set_size(100, 72)
    return font.load_char(ord(character)).linearHoriAdvance / 65536 / 100
