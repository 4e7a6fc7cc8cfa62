"""Figure: which samples differ from the calibration images?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from plankton_embed.analysis.shift import ALIKE, APPEARANCE, CLASS_MIX, TOO_FEW, UNLIKE, Shift
from plankton_embed.plots.figure import BLUE, GREEN, GREY, ORANGE, TEXT_SIZE, VERMILION, new_axes, title_axes
from plankton_embed.plots.text import row_font_size, shorten

MOST_SAMPLES = 60  # rows; of more samples, the most different are shown
NAME_WIDTH = 170.0  # points
BAND = "#C8C8C8"
MARKS = {  # verdict: colour, marker, in words
    APPEARANCE: (VERMILION, "D", "other appearance"),
    UNLIKE: (ORANGE, "^", "unlike, cause unclear"),
    CLASS_MIX: (GREEN, "s", "other class mix"),
    ALIKE: (BLUE, "o", "alike"),
    TOO_FEW: (GREY, "x", "too few images"),
}
PANELS = (  # comparison, title, label of its axis
    ("vectors", "all differences", "0: like calibration images,\n1: nothing in common"),
    ("appearance", "appearance within classes", "0: novelty like calibration,\n1: always above calibration"),
)
STARTS, WIDTHS = (0.0, 0.38, 0.76), (0.32, 0.32, 0.24)  # of the three panels


def draw_shift(shift: Shift, ax: Axes | None = None) -> Axes:
    """Draw one row for each sample: two effects beside those of null draws, and the share of rejected images.

    Args:
        shift: all images together are on top, then the samples that differ most, at most 60.
        ax: axes that the three panels replace; by default a new figure, taller for more samples.

    Returns:
        The axes of the panel on the left.
    """
    table = shift.samples.head(1 + MOST_SAMPLES)
    if len(table) == 2 and table["n_images"].nunique() == 1:
        table = table.tail(1)  # the only sample is all images
    ax = ax or new_axes(10, 2.2 + 0.24 * max(len(table), 2))
    ax.set_axis_off()
    title_axes(ax, _title(shift))
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=60)  # leaves lines for legend and titles of the panels
    rows = np.arange(len(table)) + 0.5 * (np.arange(len(table)) > 0)  # a gap below all images together
    left, middle, right = (ax.inset_axes((x, 0.0, width, 1.0)) for x, width in zip(STARTS, WIDTHS, strict=True))
    for panel, (name, title, label) in zip((left, middle), PANELS, strict=True):
        title_axes(panel, title, label)
        draws, effects = table[f"{name}_draws"], table[f"{name}_effect"]
        low = -draws if name == "appearance" else 0 * draws
        panel.barh(rows, draws - low, left=low, height=0.86, color=BAND)
        panel.axvline(0, color=GREY, linewidth=0.8)
        _draw_marks(panel, effects, rows, table["verdict"])
        farthest = np.fmax(effects.max(), draws.max()) if name == "vectors" else 1.0
        farthest = 1.03 * np.fmax(farthest, 0.01)
        panel.set_xlim(np.fmin(-farthest / 30, 1.1 * effects.min()), farthest)
    label = "share of the images"
    if shift.unknown_rate is not None:
        label += f";\ndashed: {100 * shift.unknown_rate:.3g} % of known classes"
        right.axvline(shift.unknown_rate, color=GREY, linestyle="--", linewidth=1)
    title_axes(right, "rejected as unknown", label)
    _draw_marks(right, table["refused"], rows, table["verdict"])
    right.set_xlim(-0.02, 1.02)
    right.xaxis.set_major_formatter(PercentFormatter(1))
    size = row_font_size(ax, len(table) + 1)
    for panel in (left, middle, right):
        panel.set_yticks(
            rows, _names(table, size) if panel is left else [""] * len(rows), fontsize=size, parse_math=False
        )
        panel.set_ylim(rows[-1] + 0.7, -0.7)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color="0.92")
        panel.set_axisbelow(True)
    _draw_legend(ax, shift)
    return left


def _draw_marks(panel: Axes, values: pd.Series, rows: NDArray[np.float64], verdicts: pd.Series) -> None:
    for verdict, (colour, marker, _) in MARKS.items():
        chosen = (verdicts == verdict).to_numpy()
        if chosen.any():
            panel.scatter(values[chosen], rows[chosen], s=34, color=colour, marker=marker, zorder=3, clip_on=False)


def _draw_legend(ax: Axes, shift: Shift) -> None:
    """Write what the marks mean and how many samples have each, with the samples that are not shown."""
    verdicts = shift.samples["verdict"]
    for verdict, (colour, marker, words) in MARKS.items():
        if (verdicts == verdict).any():
            label = words if len(verdicts) == 1 else f"{words}: {(verdicts.iloc[1:] == verdict).sum():,}"
            ax.scatter([], [], s=34, color=colour, marker=marker, label=label)
    ax.bar([0], [0], color=BAND, label="null draws of calibration images")
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        frameon=False,
        fontsize=TEXT_SIZE,
        borderaxespad=2.4,
        handletextpad=0.4,
        columnspacing=1.4,
    )


def _names(table: pd.DataFrame, size: float) -> list[str]:
    names = ["all images" if pd.isna(name) else str(name) for name in table["sample_id"]]
    return [f"{shorten(name, NAME_WIDTH, size)} ({n:,})" for name, n in zip(names, table["n_images"], strict=True)]


def _title(shift: Shift) -> str:
    n_single = len(shift.samples) - 1
    if n_single == 0:
        return f"{shift.samples['n_images'].iloc[0]:,} images against the calibration images"
    shown = f"; the {MOST_SAMPLES} most different are shown" if n_single > MOST_SAMPLES else ""
    return f"{n_single:,} {'sample' if n_single == 1 else 'samples'} against the calibration images{shown}"
