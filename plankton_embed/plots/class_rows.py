"""What charts with a row a class share: the names at the rows, and the legend above the axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from plankton_embed.plots.figure import TEXT_SIZE
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten


def name_rows(
    ax: Axes, names: Sequence[object], counts: Sequence[float] | None = None, width: float = NAME_WIDTH
) -> NDArray[np.intp]:
    """Write a name beside every row, the first on top, and draw the grid; return the place of every row on the y axis.

    Args:
        ax: where to write.
        names: (n,) shortened where they are too long.
        counts: (n,) images, written behind the names.
        width: points that a name may take.
    """
    rows, size = np.arange(len(names)), row_font_size(ax, len(names))
    texts = [shorten(str(name), width, size) for name in names]
    if counts is not None:
        texts = [f"{text} ({count:,.0f})" for text, count in zip(texts, counts, strict=True)]
    ax.set_yticks(rows, texts, fontsize=size, parse_math=False)
    ax.set_ylim(len(names) - 0.4, -0.6)
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
