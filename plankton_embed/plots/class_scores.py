"""Figure: precision, recall and F1 of every class."""

from __future__ import annotations

from matplotlib.axes import Axes

from plankton_embed.classifiers.scoring import ClassificationScores
from plankton_embed.plots.class_rows import add_legend_above, name_rows
from plankton_embed.plots.figure import BLUE, ORANGE, TEXT_SIZE, new_axes, title_axes

MARKS = (("precision", BLUE, "<"), ("recall", ORANGE, ">"), ("f1", "black", "o"))


def draw_class_scores(scores: ClassificationScores, ax: Axes | None = None) -> Axes:
    """Draw one row for each class, the highest F1 on top, with precision, recall and F1 as marks.

    Args:
        scores: of a classifier.
        ax: where to draw; by default a new figure, taller for more classes.

    Returns:
        The axes.
    """
    table = scores.per_class.sort_values(["f1", "label"], ascending=[False, True], ignore_index=True)
    ax = ax or new_axes(9, 1.5 + 0.21 * max(len(table), 2))
    title_axes(ax, f"macro F1 {scores.metrics['f1_macro']:.3f}, n = {scores.n_images:,}", "score")
    rows = name_rows(ax, table["label"], table["support"])
    ax.hlines(rows, table["precision"], table["recall"], color="0.75", linewidth=1.5, zorder=1)
    for column, colour, marker in MARKS:
        label = "F1" if column == "f1" else column
        ax.scatter(table[column], rows, s=26, color=colour, marker=marker, label=label, zorder=2, clip_on=False)
    ax.set_ylabel("class (images)", fontsize=TEXT_SIZE)
    ax.set_xlim(0, 1)
    add_legend_above(ax)
    return ax
