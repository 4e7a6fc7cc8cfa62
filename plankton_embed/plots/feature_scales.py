"""Figure: means and standard deviations of the features, before and after they are scaled."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from plankton_embed.images.features import FeatureSummary
from plankton_embed.plots.figure import BLUE, GREY, PALE, TEXT_SIZE, TITLE_SIZE, draw_message, new_axes, title_axes

N_BINS = 31  # odd, so that the mean 0 and the sd 1 are in the middle of a bin
MOST_DECADES = 7  # of each sign; smaller values are drawn near 0
MOST_TICKS = 7
NARROW = 100  # largest ratio of two values on a linear axis


def draw_feature_scales(summary: FeatureSummary, ax: Axes | None = None) -> Axes:
    """Draw four histograms: means and sds before scaling, on axes linear near 0 and logarithmic beyond, and after it.

    Args:
        summary: of a catalog with features.
        ax: axes that the four panels replace; by default a new figure.

    Returns:
        The axes of the upper left panel, the means before scaling.
    """
    ax = ax or new_axes(9, 6.5)
    ax.set_axis_off()
    columns = summary.columns
    n_dropped = int((columns["dropped"] != "").sum())
    title = f"{len(columns):,} feature{'s' * (len(columns) != 1)} of {summary.n_images:,} images"
    ax.set_title(title, loc="left", fontsize=TITLE_SIZE)
    few = summary.n_fitted < summary.n_images
    before = f"of the {summary.n_fitted:,} training images" if few else "of all images"
    after = "after z-score" + ", all images" * few
    panels = [ax.inset_axes((x, y, 0.45, 0.4)) for y in (0.57, 0.0) for x in (0.0, 0.55)]
    for panel, name in zip(panels, ("mean", "sd", "mean_scaled", "sd_scaled"), strict=True):
        statistic, _, is_scaled = name.partition("_")
        title_axes(panel, "", f"{statistic} {after if is_scaled else before}", "features" * (statistic == "mean"))
        with_value = columns[columns[name].notna()]
        if with_value.empty:
            draw_message(panel, "nothing to scale")
            continue
        low, high = _scale_axis(panel, with_value[name], name)
        _draw_histogram(panel, with_value, name, low, high)
    if n_dropped:
        handles = [Patch(facecolor=BLUE), Patch(facecolor=PALE, edgecolor=GREY)]
        names = [f"{len(columns) - n_dropped:,} kept", f"{n_dropped:,} dropped"]
        ax.legend(handles, names, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=TEXT_SIZE)
    return panels[0]


def _scale_axis(ax: Axes, values: pd.Series, name: str) -> tuple[float, float]:
    """Choose the scale of the x axis; return the ends of its bins."""
    if name == "mean_scaled":
        reach = max(1.0, float(values.abs().max()))
        return -reach, reach
    if name == "sd_scaled":
        return 0.0, max(2.0, float(values.max()))
    sizes = values.abs()[values != 0]
    low, high = float(values.min()), float(values.max())
    if len(sizes) and sizes.max() > NARROW * sizes.min():
        ax.set_xscale("symlog", linthresh=_power_of_ten(max(sizes.min(), sizes.max() / 10**MOST_DECADES)), linscale=0.5)
    margin = (0.5 * abs(high) or 1.0) if low == high else 0.0
    return low - margin, high + margin


def _power_of_ten(value: float) -> float:
    return float(10.0 ** np.floor(np.log10(value)))


def _draw_histogram(ax: Axes, columns: pd.DataFrame, name: str, low: float, high: float) -> None:
    """Draw how many features are in each bin, the dropped ones on top; bins are equally wide on the axis."""
    transform = ax.xaxis.get_transform()
    start, end = transform.transform(np.array([low, high]))
    edges = transform.inverted().transform(np.linspace(start, end, N_BINS + 1))
    edges[[0, -1]] = low, high
    is_kept = columns["dropped"] == ""
    kept, dropped = (np.histogram(columns.loc[which, name], edges)[0] for which in (is_kept, ~is_kept))
    ax.stairs(kept, edges, fill=True, color=BLUE)
    ax.stairs(kept + dropped, edges, baseline=kept, fill=True, facecolor=PALE, edgecolor=GREY, linewidth=0.6)
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.05 * max(1, (kept + dropped).max()))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.xaxis.set_minor_locator(NullLocator())
    ticks = ax.get_xticks()
    step = -(-len(ticks) // MOST_TICKS)
    if ax.get_xscale() == "symlog" and step > 1:  # every other power of ten, counted from 0 or from the smallest
        ax.set_xticks(ticks[int(np.abs(ticks).argmin()) % step :: step])
