"""Figure: width and height of the images."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from plankton_embed.images.catalog_summary import CatalogSummary
from plankton_embed.plots.figure import BLUE, GREY, TEXT_SIZE, TITLE_SIZE, draw_message, new_axes, title_axes

N_BINS = 36
WIDTH_LABEL, HEIGHT_LABEL = "width (pixels)", "height (pixels)"


def draw_image_sizes(summary: CatalogSummary, ax: Axes | None = None) -> Axes:
    """Draw width against height as a two-dimensional histogram, with the density of each at the sides.

    Args:
        summary: of a catalog.
        ax: where to draw; by default a new figure.

    Returns:
        The axes of the joint histogram; the densities and the colour bar are insets of it.
    """
    ax = ax or new_axes(7.5, 6.8)
    width, height = (summary.sizes[side].to_numpy(dtype=float) for side in ("width", "height"))
    if len(width) == 0:
        title_axes(ax, _title(summary), WIDTH_LABEL, HEIGHT_LABEL)
        draw_message(ax, "no readable images")
        return ax
    title_axes(ax, "", WIDTH_LABEL, HEIGHT_LABEL)
    edges = _bin_edges(np.concatenate([width, height]))
    counts, _, _ = np.histogram2d(height, width, bins=(edges, edges))
    norm = LogNorm(0.4, max(10, counts.max()))  # below 1, so that a single image is not white
    mesh = ax.pcolormesh(edges, edges, np.ma.masked_equal(counts, 0), cmap="Blues", norm=norm)
    ax.plot(edges[[0, -1]], edges[[0, -1]], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    _draw_sides(ax, width, height, edges, _title(summary))
    _set_scales(ax, edges)
    _add_colour_bar(ax, mesh)
    return ax


def _title(summary: CatalogSummary) -> str:
    title = f"{len(summary.sizes):,} image{'s' * (len(summary.sizes) != 1)}"
    if len(summary.sizes):
        middle = summary.sizes[["width", "height"]].median()
        title += f", median {middle['width']:.0f} × {middle['height']:.0f} pixels"
    return title + (f", {summary.n_unreadable:,} unreadable" if summary.n_unreadable else "")


def _bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges in equal ratios from below the smallest to above the largest, halfway between whole pixels."""
    low, high = float(values.min()) / 1.2, float(values.max()) * 1.2
    widen = max(1.0, (8 * low / high) ** 0.5)
    return np.unique(np.floor(np.geomspace(low / widen, high * widen, N_BINS + 1))) + 0.5


def _draw_sides(
    ax: Axes, width: NDArray[np.float64], height: NDArray[np.float64], edges: NDArray[np.float64], title: str
) -> None:
    """Draw the densities over log size above and at the right, scaled to the same area."""
    top = ax.inset_axes((0.0, 1.02, 1.0, 0.18), sharex=ax)
    right = ax.inset_axes((1.02, 0.0, 0.18, 1.0), sharey=ax)
    top.stairs(_log_density(width, edges), edges, fill=True, color=BLUE)
    right.stairs(_log_density(height, edges), edges, fill=True, color=BLUE, orientation="horizontal")
    for side in (top, right):
        side.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        side.spines[:].set_visible(False)
    top.set_yticks([])
    right.set_xticks([])
    top.set_title(title, loc="left", fontsize=TITLE_SIZE)


def _log_density(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.histogram(np.log10(values), bins=np.log10(edges), density=True)[0]


def _set_scales(ax: Axes, edges: NDArray[np.float64]) -> None:
    """Make both axes logarithmic over the same range, with ticks at 1, 2 and 5 times the powers of ten."""
    ax.set(xscale="log", yscale="log", xlim=edges[[0, -1]], ylim=edges[[0, -1]])
    ticks = [digit * 10**power for power in range(8) for digit in (1, 2, 5)]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator([tick for tick in ticks if edges[0] <= tick <= edges[-1]]))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_locator(NullLocator())


def _add_colour_bar(ax: Axes, mesh: QuadMesh) -> None:
    bar = ax.figure.colorbar(mesh, cax=ax.inset_axes((1.24, 0.0, 0.03, 1.0)), format=StrMethodFormatter("{x:,.0f}"))
    bar.set_label("images", fontsize=TEXT_SIZE)
    bar.ax.set_ylim(bottom=1)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=TEXT_SIZE)
