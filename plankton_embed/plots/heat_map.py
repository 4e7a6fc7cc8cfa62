"""A square table as coloured cells: what confusion, centroid distances and feature correlations share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from plankton_embed.plots.figure import TEXT_SIZE, new_axes
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten, text_width

NUMBERS_UP_TO = 20  # classes; the cells of larger tables are too small to write in
SMALLEST_NUMBER = 4.0  # points; smaller ones are left out


def new_heat_map_axes(table: pd.DataFrame) -> Axes:
    """Return new axes for a table, large enough to read every class name."""
    names = [str(name) for name in [*table.index, *table.columns]]
    margin = min(NAME_WIDTH, max((text_width(name, 9) for name in names), default=0)) / 72
    cell = float(np.clip(8.0 / max(len(table), 1), 0.16, 0.55))
    side = max(3.0, cell * len(table))
    return new_axes(side + margin + 1.4, side + margin + 0.9)


def draw_heat_map(
    table: pd.DataFrame, ax: Axes, *, colour_map: str, norm: Normalize, write: Callable[[float], str], colour_label: str
) -> None:
    """Draw every cell of a square table in colour, with names, a colour bar and, in small tables, the values.

    Args:
        table: square, with names of rows and columns; its first row is on top.
        ax: where to draw.
        colour_map: name in matplotlib.
        norm: value -> position in the colour map.
        write: value -> the text in its cell.
        colour_label: beside the colour bar.
    """
    values = table.to_numpy(dtype=float)
    image = ax.imshow(values, cmap=colour_map, norm=norm, interpolation="nearest", aspect="equal")
    _name_axes(ax, table, row_font_size(ax, len(table)))
    if len(table) <= NUMBERS_UP_TO:
        _write_numbers(ax, image, values, write)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.035, pad=0.02, shrink=0.6)
    bar.set_label(colour_label, fontsize=TEXT_SIZE)
    bar.ax.tick_params(labelsize=TEXT_SIZE)


def _write_numbers(ax: Axes, image: AxesImage, values: NDArray[np.float64], write: Callable[[float], str]) -> None:
    """Write the value in every cell, as large as fits."""
    room = ax.get_window_extent()
    cell = min(room.width, room.height) / ax.figure.figure.dpi * 72 / len(values)
    texts = [write(value) for value in values.flat]
    size = min(8.0, 0.85 * cell / max(text_width(text, 1) for text in [*texts, "0"]))
    if size < SMALLEST_NUMBER:
        return
    for (row, column), text in zip(np.ndindex(values.shape), texts, strict=True):
        ink = _ink(image, float(values[row, column]))
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)


def _ink(image: AxesImage, value: float) -> str:
    """Return black or white, whichever contrasts with the colour of a value."""
    red, green, blue, _ = image.to_rgba(np.array([value]))[0]
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"


def _name_axes(ax: Axes, table: pd.DataFrame, size: float) -> None:
    rows, columns = (
        [shorten(str(name), NAME_WIDTH * size / 9, size) for name in names] for names in (table.index, table.columns)
    )
    ax.set_yticks(range(len(rows)), rows, fontsize=size, parse_math=False)
    ax.set_xticks(range(len(columns)), columns, fontsize=size, rotation=90, parse_math=False)
    ax.tick_params(length=2)
    ax.spines[:].set_visible(False)
