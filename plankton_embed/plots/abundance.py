"""Figure: how many images of each class there are, as predicted and as corrected."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from plankton_embed.analysis.counts import AMOUNTS, Abundance
from plankton_embed.plots.class_rows import add_legend_above, name_rows
from plankton_embed.plots.figure import BLUE, ORANGE, new_axes, title_axes
from plankton_embed.plots.profile import bounds_of, name_unit

MOST_CLASSES = 40  # the commonest
DECADES = 1e3  # of an axis of concentrations that is a logarithm
LINEAR_UP_TO = 12  # times the median that the largest count may be before the axis is a logarithm


def draw_abundance(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw one row for each class, over all samples: predicted images, and the corrected count with its interval.

    Where images have different sub-sampling factors, counts of images cannot be compared: then the corrected
    concentration is drawn with its interval, or individuals where a volume is missing.

    Args:
        found: the 40 commonest classes are shown, the most on top.
        ax: where to draw; by default a new figure, taller for more classes.

    Returns:
        The axes.
    """
    amount = _choose_amount(found)
    totals = found.totals.sort_values(amount, ascending=False, kind="stable")
    totals = totals[(totals["high"] > 0) | (totals["corrected"] > 0) | (totals["count"] > 0)]
    is_unknown = totals.index == found.unknown
    table = pd.concat([totals[~is_unknown].head(MOST_CLASSES), totals[is_unknown]])
    ax = ax or new_axes(9, 1.7 + 0.21 * max(len(table), 3))
    n_samples = len(found.samples)
    of = f" in {n_samples:,} samples" if n_samples > 1 else ""
    left_out = f"; the {MOST_CLASSES} commonest of {(~is_unknown).sum()} classes" if len(totals) > len(table) else ""
    unit = "images" if amount == "corrected" else name_unit(amount, found)
    n_bare = found.summary.get("n_uncorrected", 0)
    bare = f", {n_bare:,} sample{'s' * (n_bare > 1)} not corrected (no intervals)" if n_bare else ""
    title_axes(ax, f"{found.summary['n_images']:,} images{of}{bare}{left_out}", unit)
    rows = name_rows(ax, table.index)
    low, high = (table[name].fillna(table[amount]) for name in bounds_of(amount))  # a sample may have no interval
    least = 1.0 if amount == "corrected" else high.max() / DECADES
    if high.max() > LINEAR_UP_TO * max(table[amount].median(), least):
        ax.set_xscale("symlog", linthresh=least)
    if not n_bare:
        interval = f"{100 * found.summary['level']:.3g} % interval"
        ax.hlines(rows, low, high, color=ORANGE, linewidth=2.5, alpha=0.5, label=interval, zorder=1)
    if amount == "corrected":
        ax.scatter(table["count"], rows, s=24, color=BLUE, marker="s", label="predicted", zorder=2, clip_on=False)
    ax.scatter(table[amount], rows, s=28, color=ORANGE, marker="o", label="corrected", zorder=3, clip_on=False)
    ax.set_xlim(left=0)
    add_legend_above(ax)
    return ax


def _choose_amount(found: Abundance) -> str:
    """Return the amount that can be compared over all images: counts, unless their sub-sampling factors differ."""
    factors = found.samples.get("subsample_factor", pd.Series(1.0))
    if factors.notna().all() and factors.nunique() == 1:
        return "corrected"
    return next(name for name in AMOUNTS if name in found.totals and found.totals[name].notna().all())
