"""Figures: how many of each class there are, as named and as corrected; and what every sample is made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from plankton_embed.analysis.counts import AMOUNTS, Abundance
from plankton_embed.plots.class_rows import add_legend_above, name_rows
from plankton_embed.plots.figure import BLUE, GREY, ORANGE, TEXT_SIZE, new_axes, title_axes
from plankton_embed.plots.profile import bounds_of, name_unit
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten

MOST_CLASSES, MOST_COLUMNS = 40, 24  # the commonest, of all samples together and side by side
SMALLEST_ROW, LARGEST_ROW, TALLEST = 0.14, 0.3, 16.0  # inches of a row; of the picture of all
NUMBERS_UP_TO = 30  # samples whose cells are large enough to write in
DECADES = 1e3  # of an axis of concentrations that is a logarithm
LINEAR_UP_TO = 12  # times the median that the largest count may be before the axis is a logarithm


def draw_abundance(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw a row a class, over all samples: the names given, and the corrected count with its interval.

    Where images have different sub-sampling factors, counts of images do not compare: then the corrected concentration
    is drawn with its interval, or individuals where a volume is not known.

    Args:
        found: the 40 commonest classes are shown, the most on top.
        ax: where to draw; by default a new figure, the taller the more classes.

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
    bare = f", {n_bare:,} not corrected (no intervals)" if n_bare else ""
    title_axes(ax, f"{found.summary['n_images']:,} images{of}{bare}{left_out}", unit)
    rows = name_rows(ax, table.index)
    low, high = (table[name].fillna(table[amount]) for name in bounds_of(amount))  # a sample may have none
    least = 1.0 if amount == "corrected" else high.max() / DECADES
    if high.max() > LINEAR_UP_TO * max(table[amount].median(), least):
        ax.set_xscale("symlog", linthresh=least)
    if not n_bare:
        interval = f"{100 * found.summary['level']:.3g} % interval"
        ax.hlines(rows, low, high, color=ORANGE, linewidth=2.5, alpha=0.5, label=interval, zorder=1)
    if amount == "corrected":
        ax.scatter(table["count"], rows, s=24, color=BLUE, marker="s", label="named so", zorder=2, clip_on=False)
    ax.scatter(table[amount], rows, s=28, color=ORANGE, marker="o", label="corrected", zorder=3, clip_on=False)
    ax.set_xlim(left=0)
    add_legend_above(ax)
    return ax


def _choose_amount(found: Abundance) -> str:
    """Return what compares over all images: counts of them, unless their sub-sampling factors differ."""
    factors = found.samples.get("subsample_factor", pd.Series(1.0))
    if factors.notna().all() and factors.nunique() == 1:
        return "corrected"
    return next(name for name in AMOUNTS if name in found.totals and found.totals[name].notna().all())


def draw_composition(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw a row a sample and a column a class: the corrected shares as coloured cells.

    Args:
        found: the 24 commonest classes have columns of their own.
        ax: where to draw; by default a new figure, the taller the more samples. Of very many samples not every row has
            its name.

    Returns:
        The axes.
    """
    whole, shares = _gather_shares(found)
    height = len(shares) * float(np.clip(6.0 / len(shares), SMALLEST_ROW, LARGEST_ROW))
    ax = ax or new_axes(3.2 + max(0.28 * shares.shape[1], 2.5), 3.4 + float(np.clip(height, 0.5, TALLEST)))
    is_bare = found.samples["correction"] == "none" if "correction" in found.samples else [False] * len(shares)
    title_axes(ax, f"share of the {whole} of each sample, corrected{' (* not corrected)' if any(is_bare) else ''} (%)")
    values = shares.to_numpy(dtype=float)
    image = ax.imshow(values, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto")
    step = int(np.ceil(len(shares) * SMALLEST_ROW / TALLEST))
    n_shown = len(shares[::step])
    size = min(row_font_size(ax, n_shown), TEXT_SIZE)
    names = [
        f"{shorten(str(name), NAME_WIDTH / 1.5, size)} ({n:,}){'*' if bare else ''}"
        for name, n, bare in zip(shares.index, found.samples["n_images"], is_bare, strict=True)
    ]
    ax.set_yticks(range(0, len(shares), step), names[::step], fontsize=size, parse_math=False)
    columns = [shorten(str(name), NAME_WIDTH / 1.5, TEXT_SIZE) for name in shares.columns]
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=TEXT_SIZE, parse_math=False)
    ax.tick_params(length=2)
    ax.spines[:].set_visible(False)
    if len(shares) <= NUMBERS_UP_TO:
        for (row, column), value in np.ndenumerate(values):
            if round(100 * value):
                ink = "white" if value > 0.4 else "black"
                ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=ink)
    bar = ax.figure.colorbar(
        image, ax=ax, fraction=0.035, pad=0.02, shrink=min(1.0, 5 / float(np.clip(height, 1, TALLEST))), anchor=(0, 1)
    )
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1], labels=["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.ax.tick_params(labelsize=TEXT_SIZE)
    bar.outline.set_edgecolor(GREY)
    return ax


def _gather_shares(found: Abundance) -> tuple[str, pd.DataFrame]:
    """Return what the shares are of, and sample by class: the commonest first, all others as one, then `unknown`."""
    whole, shares = "images", found.by_sample().div(found.samples["n_images"].to_numpy(), axis=0)
    if "individuals" in found.table and found.table["individuals"].notna().all():
        individuals = found.by_sample("individuals")
        whole, shares = "individuals", individuals.div(individuals.sum(axis=1), axis=0)
    totals = found.totals
    seen = [str(name) for name in totals.index[(totals["corrected"] > 0) | (totals["count"] > 0)]]
    classes = [name for name in seen if name != found.unknown]
    table = shares[classes[:MOST_COLUMNS]].copy()
    others = classes[MOST_COLUMNS:]
    if others:
        table[f"{len(others)} other classes"] = shares[others].sum(axis=1)
    if found.unknown in seen:
        table[found.unknown] = shares[found.unknown]
    return whole, table
