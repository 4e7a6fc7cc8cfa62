"""Figures: the commonest classes over depth, and over time, one panel for each class."""

from __future__ import annotations

from textwrap import fill
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from plankton_embed.analysis.counts import AMOUNTS, Abundance
from plankton_embed.plots.figure import BLUE, GREY, TEXT_SIZE, draw_message, new_axes, title_axes
from plankton_embed.plots.text import shorten

UNITS = {"concentration": "m⁻³", "individuals": "individuals in the sample", "corrected": "images, corrected"}
WRAPPED = 24  # characters of a line under a panel of a profile
ABREAST = 4  # panels of a profile side by side
MOST_MEANS = {"depth": 15, "time": 60}  # points of the line


def draw_profile(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw the commonest classes over depth, which increases downwards.

    A point is a sample with its interval; the line connects their means. Where every image has its own depth, the line
    is the sum over samples in each bin of depth, or the mean of concentrations.

    Args:
        found: with a `profile`.
        ax: axes that the panels replace; by default a new figure.

    Returns:
        The axes of the first panel.
    """
    table = found.profile
    classes = [] if table is None else list(dict.fromkeys(_by_amount(table)))
    n_rows = -(-len(classes) // ABREAST) or 1
    n_columns = min(max(len(classes), 1), ABREAST)
    ax = ax or new_axes(1.2 + 2.2 * n_columns, 0.9 + 3.0 * n_rows)
    if table is None or not classes:
        draw_message(ax, "depths do not vary")
        return ax
    whole = fill(_name_whole(ax, table, found, "depth"), WRAPPED)
    binned = "depth_low" in table
    low, high = table["depth_low" if binned else "depth"].min(), table["depth_high" if binned else "depth"].max()
    margin = 0.0 if binned else 0.04 * (high - low)
    gap = 0.13 * (n_rows - 1)
    width, height = 1 / n_columns, (1 - gap) / n_rows
    panels = []
    for number, name in enumerate(classes):
        row, column = divmod(number, n_columns)
        panel = ax.inset_axes((column * width, 1 - height - row * (height + 0.13), 0.86 * width, height))
        title_axes(panel, "", whole if number >= len(classes) - n_columns else "", "depth (m)" if column == 0 else "")
        panel.set_title(shorten(str(name), 140, TEXT_SIZE), loc="left", fontsize=TEXT_SIZE, parse_math=False)
        _draw_class(panel, table[table["label"] == name], "depth")
        panel.set_ylim(high + margin, low - margin)
        if column:
            panel.set_yticklabels([])
        panels.append(panel)
    return panels[0]


def draw_time_series(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw the commonest classes over time: a point for each sample with its interval, and a line through their means.

    Args:
        found: with a `time_series`.
        ax: axes that the panels replace; by default a new figure.

    Returns:
        The axes of the first panel, on top.
    """
    table = found.time_series
    classes = [] if table is None else list(dict.fromkeys(_by_amount(table)))
    ax = ax or new_axes(9, 0.9 + 1.35 * max(len(classes), 1))
    if table is None or not classes:
        draw_message(ax, "too few times")
        return ax
    table = table.assign(time=pd.to_datetime(table["time"], utc=True, format="ISO8601").dt.tz_localize(None))
    whole = _name_whole(ax, table, found, "time")
    ax.set_ylabel(whole, fontsize=TEXT_SIZE, labelpad=34)
    panels: list[Axes] = []
    gap = 0.32 / len(classes)
    height = (1 - gap * (len(classes) - 1)) / len(classes)
    for number, name in enumerate(classes):
        box = (0, 1 - height - number * (height + gap), 1, height)
        panel = ax.inset_axes(box, sharex=panels[0] if panels else None)
        title_axes(panel, "")
        panel.set_title(shorten(str(name), 560, TEXT_SIZE), loc="left", fontsize=TEXT_SIZE, pad=2, parse_math=False)
        _draw_class(panel, table[table["label"] == name], "time")
        panel.tick_params(labelbottom=number == len(classes) - 1)
        panels.append(panel)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return panels[0]


def name_unit(amount: str, found: Abundance) -> str:
    """Return the unit of an amount; of a concentration, with the volume that it is in."""
    return UNITS[amount] + found.of_volume * (amount == "concentration")


def bounds_of(amount: str) -> tuple[str, str]:
    """Return the columns of an amount's interval."""
    return ("low", "high") if amount == "corrected" else (f"{amount}_low", f"{amount}_high")


def _by_amount(table: pd.DataFrame) -> pd.Index:
    """Return the classes, commonest first."""
    return table.groupby("label", sort=False)["corrected"].sum().sort_values(ascending=False, kind="stable").index


def _amount(table: pd.DataFrame) -> str:
    return next(name for name in AMOUNTS if name in table and table[name].notna().any())


def _name_whole(ax: Axes, table: pd.DataFrame, found: Abundance, along: str) -> str:
    """Write the title of all panels, and return the unit of their values."""
    n = table.dropna(subset=_amount(table))["sample"].nunique()
    n_bare = found.summary.get("n_uncorrected", 0)
    how, marked = f"with {100 * found.summary['level']:.3g} % intervals", "; hollow:"
    if "depth_low" in table:
        how, marked = f"bins of {(table['depth_high'] - table['depth_low']).iloc[0]:.4g} m", ";"
    how += f"{marked} {n_bare} not corrected" if n_bare else ""
    title_axes(ax, f"commonest classes over {along}: {n:,} {'sample' if n == 1 else 'samples'}, {how}")
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=26)  # leaves a line for the names of the upper panels
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return name_unit(_amount(table), found)


def _draw_class(panel: Axes, table: pd.DataFrame, along: Literal["depth", "time"]) -> None:
    """Draw one class: depth on the y axis, time on the x axis."""
    amount = _amount(table)
    if "depth_low" in table:
        of_bin = table.groupby("depth")[amount]
        means = of_bin.mean() if amount == "concentration" else of_bin.sum()
    else:
        low, high = bounds_of(amount)
        lines = panel.hlines if along == "depth" else panel.vlines
        lines(table[along], table[low], table[high], color=BLUE, alpha=0.3, linewidth=1.2)
        x, y = (amount, along) if along == "depth" else (along, amount)
        inside = np.where(table[low].isna(), "white", BLUE)  # a sample that is not corrected has no interval
        panel.scatter(table[x], table[y], s=14, c=inside, edgecolors=BLUE, alpha=0.8, linewidths=0.7, zorder=3)
        means = _average(table, amount, along)
    x_values, y_values = (means, means.index) if along == "depth" else (means.index, means)
    style = {"color": BLUE, "marker": "o", "markersize": 3.5} if "depth_low" in table else {"color": GREY}
    panel.plot(x_values, y_values, linewidth=1.2, zorder=2, **style)
    (panel.set_xlim if along == "depth" else panel.set_ylim)(0, None)
    panel.grid(color="0.92")
    panel.set_axisbelow(True)
    panel.locator_params(axis="x" if along == "depth" else "y", nbins=4)


def _average(table: pd.DataFrame, amount: str, along: Literal["depth", "time"]) -> pd.Series:
    """Return the mean amount at each depth or time; where there are many, in bins of equal width."""
    given = table.dropna(subset=amount)
    if given[along].nunique() > MOST_MEANS[along]:
        bins = pd.cut(given[along], MOST_MEANS[along], labels=False)
        means = given.groupby(bins).agg({along: "mean", amount: "mean"})
        return means.set_index(along)[amount]
    averaged: pd.Series = given.groupby(along)[amount].mean()
    return averaged
