"""Figure: how rejecting unknown images changes the count of every class."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from plankton_embed.plots.class_rows import add_legend_above, name_rows
from plankton_embed.plots.figure import BLACK, BLUE, ORANGE, new_axes, title_axes

MARKS = (("true", BLACK, "|", 90), ("forced", BLUE, "s", 26), ("kept", ORANGE, "o", 26))
NAMES = {"true": "true images", "forced": "predicted, none rejected", "kept": "predicted, some rejected"}


def draw_class_counts(counts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw one row for each class, the largest on top: its true images, and its counts before and after rejection.

    Args:
        counts: as `count_predictions` returns; the row `unknown` is the last.
        ax: where to draw; by default a new figure, taller for more classes.

    Returns:
        The axes.
    """
    classes, unknown = counts.iloc[:-1], counts.iloc[-1:]
    table = pd.concat([classes.sort_values(["true", "label"], ascending=[False, True]), unknown], ignore_index=True)
    ax = ax or new_axes(9, 1.6 + 0.21 * max(len(table), 3))
    n, n_rejected = int(table["true"].sum()), int(unknown["kept"].iloc[0])
    title_axes(ax, f"{n_rejected:,} of {n:,} images rejected", "images")
    rows = name_rows(ax, table["label"])
    ax.hlines(rows, table["forced"], table["kept"], color="0.75", linewidth=1.5, zorder=1)
    for column, colour, marker, area in MARKS:
        shown = rows if column == "kept" else rows[:-1]  # before rejection no image is unknown
        values = table[column].iloc[: len(shown)]
        ax.scatter(values, shown, s=area, color=colour, marker=marker, label=NAMES[column], zorder=2, clip_on=False)
    ax.set_xlim(left=0)
    add_legend_above(ax)
    return ax
