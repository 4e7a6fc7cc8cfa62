"""Figure: the confusion matrix, which shows which classes are predicted as which."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, PowerNorm

from plankton_embed.classifiers.scoring import ClassificationScores
from plankton_embed.plots.figure import title_axes
from plankton_embed.plots.heat_map import draw_heat_map, new_heat_map_axes


def draw_confusion(
    scores: ClassificationScores, ax: Axes | None = None, *, shares: bool = True, log: bool = False
) -> Axes:
    """Draw the confusion matrix, true classes as rows and predicted ones as columns.

    Args:
        scores: of a classifier.
        ax: where to draw; by default a new figure, larger for more classes.
        shares: show the share of the row, else the count of images; a row without images is 0.
        log: colour on a logarithmic scale, where one image is visible beside thousands, and leave zeros blank
            (system D draws counts so: `shares=False, log=True`); by default on a square-root scale.

    Returns:
        The axes.
    """
    counts = scores.confusion
    ax = ax or new_heat_map_axes(counts)
    title_axes(ax, _title(scores), "predicted label (columns)", "true label (rows)")
    table = counts.div(counts.sum(axis=1).clip(lower=1), axis=0) if shares else counts
    values = table.to_numpy(dtype=float)
    top = 1.0 if shares else max(1.0, float(values.max()))
    if log:  # from the least value above 0; lower where all are equal, so that the scale has a length
        norm: Normalize = LogNorm(min(float(values[values > 0].min(initial=top)), top / 2), top)
    else:
        norm = PowerNorm(0.5, 0, top)  # the root, so that rare confusions are seen too
    draw_heat_map(
        table,
        ax,
        colour_map="viridis_r" if log else "Blues",  # its palest colour differs from blank; the palest blue does not
        norm=norm,
        write=_share_text if shares else _count_text,
        colour_label="share of the row" if shares else "images",
    )
    return ax


def _title(scores: ClassificationScores) -> str:
    title = f"accuracy {scores.metrics['accuracy']:.3f}"
    if "accuracy" in scores.intervals:
        low, high = scores.intervals["accuracy"]
        title += f" ({low:.3f}–{high:.3f})"
    return f"{title}, n = {scores.n_images:,}"


def _share_text(value: float) -> str:
    return f"{value:.2f}" if value else ""


def _count_text(value: float) -> str:
    return f"{value:,.0f}" if value else ""
