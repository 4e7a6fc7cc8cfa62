"""What charts with one row for each class share: the names beside the rows, and the legend above the axes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from plankton_embed.plots.figure import TEXT_SIZE
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten


def name_rows(
    ax: Axes, names: Iterable[object], counts: Iterable[float] | None = None, width: float = NAME_WIDTH
) -> NDArray[np.intp]:
    """Write a name beside every row, the first on top, and draw the grid; return the y of every row.

    Args:
        ax: where to write.
        names: (n,); long ones are shortened.
        counts: (n,) images, written after the names.
        width: points that a name may take.
    """
    texts = [str(name) for name in names]
    rows, size = np.arange(len(texts)), row_font_size(ax, len(texts))
    texts = [shorten(text, width, size) for text in texts]
    if counts is not None:
        texts = [f"{text} ({count:,.0f})" for text, count in zip(texts, counts, strict=True)]
    ax.set_yticks(rows, texts, fontsize=size, parse_math=False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    return rows


def add_legend_above(ax: Axes, n_columns: int = 3) -> None:
    """Write the legend in a line between the axes and their title."""
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=22)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=n_columns, frameon=False, fontsize=TEXT_SIZE, borderaxespad=0.1
    )
