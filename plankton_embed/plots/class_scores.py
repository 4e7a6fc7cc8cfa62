"""Figure: precision, recall and F1 of every class."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from plankton_embed.classifiers.scoring import ClassificationScores
from plankton_embed.plots.figure import BLUE, ORANGE, TEXT_SIZE, new_axes, title_axes
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten

MARKS = (("precision", BLUE, "<"), ("recall", ORANGE, ">"), ("f1", "black", "o"))


def draw_class_scores(scores: ClassificationScores, ax: Axes | None = None) -> Axes:
    """Draw a row a class, the highest F1 on top, with precision, recall and F1 as marks.

    Args:
        scores: of a classifier.
        ax: where to draw; by default a new figure, the taller the more classes.

    Returns:
        The axes.
    """
    table = scores.per_class.sort_values(["f1", "label"], ascending=[False, True], ignore_index=True)
    ax = ax or new_axes(9, 1.5 + 0.21 * max(len(table), 2))
    title_axes(ax, f"macro F1 {scores.metrics['f1_macro']:.3f}, n = {scores.n_images:,}", "score")
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=22)  # leaves a line for the legend
    size = row_font_size(ax, len(table))
    rows = np.arange(len(table))
    ax.hlines(rows, table["precision"], table["recall"], color="0.75", linewidth=1.5, zorder=1)
    for column, colour, marker in MARKS:
        label = "F1" if column == "f1" else column
        ax.scatter(table[column], rows, s=26, color=colour, marker=marker, label=label, zorder=2, clip_on=False)
    names = [
        f"{shorten(str(name), NAME_WIDTH, size)} ({support:,.0f})"
        for name, support in zip(table["label"], table["support"], strict=True)
    ]
    ax.set_yticks(rows, names, fontsize=size, parse_math=False)
    ax.set_ylabel("class (images)", fontsize=TEXT_SIZE)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.tick_params(axis="y", length=0)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=TEXT_SIZE, borderaxespad=0.1)
    return ax
