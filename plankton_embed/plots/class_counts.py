"""Figure: what refusing does to the count of every class."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from plankton_embed.plots.figure import BLACK, BLUE, ORANGE, TEXT_SIZE, new_axes, title_axes
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten

MARKS = (("true", BLACK, "|", 90), ("forced", BLUE, "s", 26), ("kept", ORANGE, "o", 26))
NAMES = {"true": "true images", "forced": "named so, all images named", "kept": "named so, some refused"}


def draw_class_counts(counts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw a row a class, the most images on top: its true images, and its counts before and after refusing.

    Args:
        counts: as `count_predictions` returns; the row `unknown` stands last.
        ax: where to draw; by default a new figure, the taller the more classes.

    Returns:
        The axes.
    """
    classes, unknown = counts.iloc[:-1], counts.iloc[-1:]
    table = pd.concat([classes.sort_values(["true", "label"], ascending=[False, True]), unknown], ignore_index=True)
    ax = ax or new_axes(9, 1.6 + 0.21 * max(len(table), 3))
    n, n_refused = int(table["true"].sum()), int(unknown["kept"].iloc[0])
    title_axes(ax, f"{n_refused:,} of {n:,} images refused", "images")
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=22)  # leaves a line for the legend
    size = row_font_size(ax, len(table))
    rows = np.arange(len(table))
    ax.hlines(rows, table["forced"], table["kept"], color="0.75", linewidth=1.5, zorder=1)
    for column, colour, marker, area in MARKS:
        shown = rows if column == "kept" else rows[:-1]  # before refusing nothing is unknown
        values = table[column].iloc[: len(shown)]
        ax.scatter(values, shown, s=area, color=colour, marker=marker, label=NAMES[column], zorder=2, clip_on=False)
    ax.set_yticks(
        rows, [shorten(str(name), NAME_WIDTH, size) for name in table["label"]], fontsize=size, parse_math=False
    )
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=TEXT_SIZE, borderaxespad=0.1)
    return ax
