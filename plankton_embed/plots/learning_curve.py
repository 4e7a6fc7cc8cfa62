"""Figure: accuracy against the number of examples of a new class."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from plankton_embed.plots.figure import BLACK, BLUE, GREEN, TEXT_SIZE, VERMILION, new_axes, title_axes

SCORES = (
    ("new_only", "new classes, among themselves", BLUE),
    ("new", "new classes, among all", VERMILION),
    ("known", "known classes, among all", GREEN),
    ("all", "all classes", BLACK),
)
STYLES = {"centroid": ("-", "o"), "knn": ("--", "s")}


def draw_learning_curve(summary: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw balanced accuracy against examples per new class: mean and standard deviation over the draws.

    Args:
        summary: as `summarize_learning` returns.
        ax: where to draw; by default a new figure.

    Returns:
        The axes.
    """
    ax = ax or new_axes(8, 5.5)
    title_axes(ax, "Classes enrolled without training", "examples of each new class", "balanced accuracy")
    for method, table in summary.groupby("method", sort=False):
        style, marker = STYLES[str(method)]
        for column, name, colour in SCORES:
            mean = table[f"{column}_mean"]
            if mean.notna().any():
                ax.errorbar(
                    table["n_examples"],
                    mean,
                    table[f"{column}_std"].fillna(0),
                    color=colour,
                    linestyle=style,
                    marker=marker,
                    markersize=4,
                    capsize=2,
                    label=f"{name}, {method}",
                )
    ax.set_xscale("log")
    numbers = sorted(summary["n_examples"].unique())
    ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
    ax.minorticks_off()
    ax.set_ylim(0, 1)
    ax.grid(color="0.92")
    ax.legend(fontsize=TEXT_SIZE, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return ax
