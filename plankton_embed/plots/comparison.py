"""Figure: macro F1, accuracy and speed of every system."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from plankton_embed.plots.class_rows import add_legend_above, name_rows
from plankton_embed.plots.figure import BLACK, BLUE, GREEN, new_axes, title_axes
from plankton_embed.plots.text import NAME_WIDTH

MARKS = (("accuracy", "accuracy", BLUE, "o"), ("f1_macro", "macro F1", BLACK, "D"))
SHARE = 0.62  # of the width, for the scores


def draw_comparison(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw one row for each classifier, the highest macro F1 on top: scores with one mark for each seed, and speed.

    Args:
        runs: `runs` of a `Comparison`.
        ax: axes that the two panels replace; by default a new figure, taller for more rows.

    Returns:
        The axes of the scores.
    """
    means = runs.groupby("name", sort=False)["f1_macro"].mean()
    order = means.sort_values(ascending=False, kind="stable").index
    ax = ax or new_axes(10, 1.6 + 0.3 * max(len(order), 2))
    ax.set_axis_off()
    scores = ax.inset_axes((0.0, 0.0, SHARE, 1.0))
    speeds = ax.inset_axes((SHARE + 0.04, 0.0, 0.96 - SHARE, 1.0), sharey=scores)
    rows = runs["name"].map({name: row for row, name in enumerate(order)})
    n_seeds = runs.groupby("name").size()
    seeds = f"{n_seeds.min()}" + (f" to {n_seeds.max()}" if n_seeds.min() < n_seeds.max() else "")
    counted = f"{len(order)} classifier{'s' * (len(order) > 1)}"
    title_axes(scores, f"{counted}, seeds of each: {seeds}", "score on test images")
    for column, label, colour, marker in MARKS:
        scores.scatter(
            runs[column], rows, s=28, marker=marker, facecolor="none", color=colour, label=label, clip_on=False
        )
    speeds.scatter(runs["images_per_second"], rows, s=28, marker="s", facecolor="none", color=GREEN)
    speeds.set_xscale("log")
    few_decades = runs["images_per_second"].max() < 100 * runs["images_per_second"].min()
    speeds.xaxis.set_major_locator(LogLocator(subs=(1, 3) if few_decades else (1,)))
    speeds.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    speeds.xaxis.set_minor_formatter(NullFormatter())
    title_axes(speeds, "", "images predicted per second (log)")
    starts = runs.drop_duplicates("name").set_index("name")
    names = [f"{name} ({starts['origin'][name]}, {_shorten_start(starts['start'][name])})" for name in order]
    name_rows(scores, names, width=1.25 * NAME_WIDTH)
    scores.set_xlim(0, 1)
    speeds.grid(color="0.92")
    speeds.set_axisbelow(True)
    speeds.tick_params(axis="y", length=0, labelleft=False)
    add_legend_above(scores, 2)
    return scores


def _shorten_start(start: str) -> str:
    """Return `scratch` or `pretrained`; the table of the comparison has the full name of the weights."""
    return "scratch" if start == "scratch" else "pretrained"
