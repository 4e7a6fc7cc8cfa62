"""Figure: the share of the variance along each principal component."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from plankton_embed.errors import InputError
from plankton_embed.plots.figure import BLUE, TEXT_SIZE, VERMILION, new_axes, title_axes

if TYPE_CHECKING:
    from plankton_embed.analysis.projection import Projection

MOST_BARS = 30


def draw_explained(projection: Projection, ax: Axes | None = None) -> Axes:
    """Draw the share of the variance along every component, largest first, and the cumulative sum.

    Args:
        projection: by principal components; its axes are blue.
        ax: where to draw; by default a new figure.

    Returns:
        The axes.

    Raises:
        InputError: the projection is a map by UMAP or t-SNE.
    """
    if projection.spectrum is None:
        raise InputError(f"a map by {projection.method} has no shares of variance; choose the method pca")
    ax = ax or new_axes(8, 5)
    shares = projection.spectrum[: max(MOST_BARS, projection.n_components)]
    numbers, sums = np.arange(1, len(shares) + 1), np.cumsum(shares)
    kept = numbers <= projection.n_components
    title = f"The first {len(shares)} of" if len(shares) < len(projection.spectrum) else "All"
    title_axes(ax, f"{title} {len(projection.spectrum)} components", "component", "share of the variance")
    ax.bar(numbers[kept], shares[kept], color=BLUE, label=f"the {kept.sum()} axes: {sums[kept][-1]:.1%}")
    ax.bar(numbers[~kept], shares[~kept], color="#B9CFE0", label="_rest")
    ax.plot(numbers, sums, color=VERMILION, marker="o", markersize=3.5, label="sum so far")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlim=(0.4, len(shares) + 0.6), ylim=(0, 1.02))
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    ax.legend(fontsize=TEXT_SIZE, loc="center right", framealpha=0.9)
    return ax
