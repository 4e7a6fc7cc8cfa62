"""Figures: images as points on two or three axes, each class with its own colour and marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, ScaledTranslation
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.plots.figure import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    TEXT_SIZE,
    TITLE_SIZE,
    VERMILION,
    new_axes,
    title_axes,
)
from plankton_embed.plots.text import NAME_WIDTH, shorten, text_width

if TYPE_CHECKING:
    from plankton_embed.analysis.projection import Projection
    from plankton_embed.table import EmbeddingTable

Marker = tuple[str, str]  # colour, shape

COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", ORANGE, "#56B4E9", BLACK)  # Okabe and Ito's; yellow is too pale on white
MARKERS = ("o", "^", "s", "X", "D", "v", "P", "*")
SIDES = {"X": 1.15, "D": 0.85, "P": 1.15, "*": 1.5}  # factors that make the markers look equally large
UNLABELLED, UNLABELLED_MARKER = "(unlabelled)", ("#A6A6A6", "o")
WIDTH, PLOT_HEIGHT = 10.0, 7.2  # inches; the legend is below the plot
LEGEND_SIZE, LEGEND_ROW, LEGEND_PAD = 8.0, 12.5, 22.0  # points: text, a line, a marker with the gaps beside it
LEGEND_GAP = 40.0  # points, for the numbers and the name of the axis
MOST_COLUMNS = 8
METHOD_NAMES = {"pca": "principal components", "umap": "UMAP", "tsne": "t-SNE"}


def draw_projection(projection: Projection, axes: tuple[int, int] = (0, 1), ax: Axes | None = None) -> Axes:
    """Draw images as points on two axes of the same scale; each class has its own colour and marker.

    Args:
        projection: of any method; images without label are grey.
        axes: which two, counted from 0.
        ax: where to draw; by default a new figure, taller for more classes.

    Returns:
        The axes, with the legend below.

    Raises:
        SettingError: the projection has no such axes.
    """
    check_axes(projection, axes)
    markers = class_markers(projection.table)
    ax = ax or new_axes(WIDTH, PLOT_HEIGHT + legend_height(markers))
    scatter_points(ax, projection.coordinates[:, axes], projection.table, markers)
    title_axes(ax, _title(projection), *(name_axis(projection, axis) for axis in axes))
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    draw_legend(ax, markers)
    return ax


def draw_projection_3d(projection: Projection, axes: tuple[int, int, int] = (0, 1, 2), ax: Axes | None = None) -> Axes:
    """Draw images as points on three axes of the same scale; each class has its own colour and marker.

    Args:
        projection: of any method, on three axes or more; images without label are grey.
        axes: which three, counted from 0.
        ax: where to draw, made with `projection="3d"`; by default a new figure, taller for more classes.

    Returns:
        The axes, with the legend below.

    Raises:
        SettingError: the projection has no such axes.
        InputError: the given axes have two dimensions.
    """
    check_axes(projection, axes)
    markers = class_markers(projection.table)
    if ax is None:
        flat = new_axes(WIDTH, PLOT_HEIGHT + legend_height(markers))
        ax = flat.figure.add_subplot(projection="3d")
        flat.remove()
    if ax.name != "3d":
        raise InputError('expected axes of three dimensions; make them with add_subplot(projection="3d")')
    space: Any = ax  # matplotlib's type hints have no third dimension
    points = projection.coordinates[:, axes]
    names = name_rows(projection.table)
    for name, (colour, marker) in markers.items():
        own = points[names == name]
        space.scatter(
            *own.T,
            color=colour,
            marker=marker,
            s=point_area(len(points)) * SIDES.get(marker, 1) ** 2,
            linewidths=0,
            alpha=0.85,
        )
    ax.set_title(_title(projection), loc="left", fontsize=TITLE_SIZE, parse_math=False)
    for letter, axis in zip("xyz", axes, strict=True):
        getattr(space, f"set_{letter}label")(name_axis(projection, axis), fontsize=TEXT_SIZE)
    ax.tick_params(labelsize=TEXT_SIZE - 1)
    space.set_aspect("equal")
    draw_legend(ax, markers)
    return ax


def class_markers(table: EmbeddingTable) -> dict[str, Marker]:
    """Return a colour and a marker for every class; after 56 classes they repeat.

    Neighbours in the alphabet differ in both. Images without label come first, to be drawn below the others.
    """
    markers = {} if table.is_labelled.all() else {UNLABELLED: UNLABELLED_MARKER}
    for number, name in enumerate(table.classes):
        turn, colour = divmod(number, len(COLOURS))
        markers[name] = (COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)])
    return markers


def name_rows(table: EmbeddingTable) -> NDArray[np.object_]:
    """Return the class of every row (n,), as in the legend."""
    return np.where(table.is_labelled, table.label, UNLABELLED)


def name_axis(projection: Projection, axis: int) -> str:
    """Return the name of an axis, with the share of the variance along it."""
    if projection.explained is None:
        return f"{METHOD_NAMES[projection.method]} {axis + 1}"
    return f"component {axis + 1} ({projection.explained[axis]:.1%} of the variance)"


def check_axes(projection: Projection, axes: Sequence[int]) -> None:
    """Raise SettingError where a projection does not have all of these axes, or one is given twice."""
    if len(set(axes)) < len(axes) or not all(0 <= axis < projection.n_components for axis in axes):
        raise SettingError(
            f"axes: expected {len(axes)} different ones of 0 to {projection.n_components - 1}; found {tuple(axes)}"
        )


def scatter_points(
    ax: Axes, points: NDArray[np.float64], table: EmbeddingTable, markers: dict[str, Marker]
) -> PathCollection:
    """Draw points (n, 2) in one collection, in the order of `mix_rows(table)`."""
    rows = mix_rows(table)
    own = [markers[name] for name in name_rows(table)[rows]]
    paths = {marker: _outline(marker) for _, marker in own}
    collection = ax.scatter(
        points[rows, 0], points[rows, 1], s=point_area(len(points)), linewidths=0.3, edgecolors="white"
    )
    collection.set_paths([paths[marker] for _, marker in own])
    collection.set_facecolor([to_rgba(colour, 0.85) for colour, _ in own])
    return collection


def _outline(marker: str) -> Path:
    style = MarkerStyle(marker)
    return style.get_path().transformed(style.get_transform() + Affine2D().scale(SIDES.get(marker, 1)))


def mix_rows(table: EmbeddingTable) -> NDArray[np.intp]:
    """Return the rows in random order, so that no class covers the others; unlabelled ones first."""
    rows = np.random.default_rng(0).permutation(len(table))
    return rows[np.argsort(table.is_labelled[rows], kind="stable")]


def point_area(n_points: int) -> float:
    """Return the area of a point, in square points: smaller for more points."""
    return float(np.clip(30_000 / max(n_points, 1), 6, 40))


def draw_legend(ax: Axes, markers: dict[str, Marker]) -> Legend:
    """Write a legend of all classes below the axes, in as many columns as fit."""
    below = ax.transAxes + ScaledTranslation(0, -LEGEND_GAP / 72, ax.figure.figure.dpi_scale_trans)
    n_columns, name_width = _lay_out_legend(markers, ax.figure.figure.get_size_inches()[0])
    handles = [
        Line2D(
            [], [], color=colour, marker=marker, linestyle="", markersize=6 * SIDES.get(marker, 1), markeredgewidth=0
        )
        for colour, marker in markers.values()
    ]
    n_markers, n_classes = len(COLOURS) * len(MARKERS), len(markers) - (UNLABELLED in markers)
    legend = ax.legend(
        handles,
        [shorten(name, name_width, LEGEND_SIZE) for name in markers],
        title=f"{n_classes} classes share {n_markers} markers" if n_classes > n_markers else None,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=n_columns,
        fontsize=LEGEND_SIZE,
        title_fontsize=LEGEND_SIZE,
        frameon=False,
        handlelength=1.0,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
        borderaxespad=0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def legend_height(markers: dict[str, Marker], width: float = WIDTH) -> float:
    """Return the height in inches of a legend below a figure of that width."""
    n_columns, _ = _lay_out_legend(markers, width)
    return (-(-len(markers) // n_columns) + 1) * LEGEND_ROW / 72


def _lay_out_legend(markers: dict[str, Marker], width: float) -> tuple[int, float]:
    """Return the number of columns, and the width of a name in points."""
    space = 72 * (width - 0.3)
    widths = [min(text_width(name, LEGEND_SIZE), NAME_WIDTH) + LEGEND_PAD for name in markers]
    for n_columns in range(min(len(widths), MOST_COLUMNS), 1, -1):
        if sum(max(column) for column in np.array_split(widths, n_columns)) <= space:
            return n_columns, NAME_WIDTH
    return 1, max(space - LEGEND_PAD, 0)


def _title(projection: Projection) -> str:
    table, method = projection.table, METHOD_NAMES[projection.method]
    n_classes = len(table.classes)
    classes = f" of {n_classes} class{'es' * (n_classes != 1)}" if n_classes else ""
    return f"{len(table):,} images{classes}: {method}"
