"""Figure: the share of each class in each sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from plankton_embed.analysis.counts import Abundance
from plankton_embed.plots.figure import GREY, TEXT_SIZE, new_axes, title_axes
from plankton_embed.plots.text import NAME_WIDTH, row_font_size, shorten

MOST_COLUMNS = 24  # classes, the commonest
SMALLEST_ROW, LARGEST_ROW, TALLEST = 0.14, 0.3, 16.0  # inches of a row; of the picture of all
NUMBERS_UP_TO = 30  # samples whose cells are large enough to write in


def draw_composition(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw one row for each sample and one column for each class: the corrected shares as coloured cells.

    Args:
        found: the 24 commonest classes have columns of their own.
        ax: where to draw; by default a new figure, taller for more samples. With very many samples only some rows have
            their names.

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
    """Return what the shares are of, and the shares by sample and class: commonest, all others as one, `unknown`."""
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
