"""Figure: how many images each class has."""

from __future__ import annotations

from matplotlib.axes import Axes

from plankton_embed.images.catalog_summary import CatalogSummary
from plankton_embed.plots.class_rows import name_rows
from plankton_embed.plots.figure import BLUE, draw_message, new_axes, title_axes
from plankton_embed.plots.text import row_font_size

LINEAR_BELOW = 100


def draw_class_sizes(summary: CatalogSummary, ax: Axes | None = None) -> Axes:
    """Draw one bar for each class, the largest on top, on an axis that is linear below 100 and logarithmic above.

    Args:
        summary: of a catalog.
        ax: where to draw; by default a new figure, taller for more classes.

    Returns:
        The axes.
    """
    labels, counts = summary.classes["label"], summary.classes["count"].to_numpy()
    ax = ax or new_axes(9, 1.4 + 0.2 * max(len(labels), 2))
    title_axes(ax, _title(summary), "images (linear below 100, logarithmic above)")
    if labels.empty:
        draw_message(ax, "no labelled images")
        return ax
    bars = ax.barh(name_rows(ax, labels), counts, height=0.72, color=BLUE)
    ax.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=row_font_size(ax, len(labels)))
    _scale_counts(ax, int(counts.max()))
    return ax


def _title(summary: CatalogSummary) -> str:
    n_classes = len(summary.classes)
    title = f"{summary.n_images:,} image{'s' * (summary.n_images != 1)}, {n_classes} class{'es' * (n_classes != 1)}"
    return title + (f", {summary.n_unlabelled:,} unlabelled" if summary.n_unlabelled else "")


def _scale_counts(ax: Axes, largest: int) -> None:
    """Set the scale and its ticks, and leave room for the number at the longest bar."""
    ax.set_xscale("symlog", linthresh=LINEAR_BELOW)
    ax.set_xlim(0, largest * (1.12 if largest < LINEAR_BELOW else 2))
    step = max(1, -(-min(largest, LINEAR_BELOW) // 5))
    decades = [digit * 10**power for power in range(2, 12) for digit in ((1, 2, 5) if largest < 2000 else (1,))]
    linear = list(range(0, LINEAR_BELOW, 25)) if largest >= LINEAR_BELOW else list(range(0, largest + 1, step))
    shown = [tick for tick in [*linear, *decades] if tick <= ax.get_xlim()[1]]
    ax.set_xticks(shown, [f"{tick:,}" for tick in shown])
    ax.grid(visible=False, axis="y")
