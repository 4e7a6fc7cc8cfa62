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

Sign = tuple[str, str]  # colour, marker

COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", ORANGE, "#56B4E9", BLACK)  # Okabe and Ito's; yellow is too pale on white
MARKERS = ("o", "^", "s", "X", "D", "v", "P", "*")
SIDES = {"X": 1.15, "D": 0.85, "P": 1.15, "*": 1.5}  # that make the markers look equally large
UNLABELLED, UNLABELLED_SIGN = "(unlabelled)", ("#A6A6A6", "o")
WIDTH, PLOT_HEIGHT = 10.0, 7.2  # inches; the legend stands below the plot
LEGEND_SIZE, LEGEND_ROW, LEGEND_PAD = 8.0, 12.5, 22.0  # points: text, a line, a sign with the gaps beside it
LEGEND_GAP = 40.0  # points; the axis has its numbers and its name there
MOST_COLUMNS = 8
METHOD_NAMES = {"pca": "principal components", "umap": "UMAP", "tsne": "t-SNE"}


def draw_projection(projection: Projection, axes: tuple[int, int] = (0, 1), ax: Axes | None = None) -> Axes:
    """Draw images as points on two axes in one scale, so that distances compare; classes differ in colour and sign.

    Args:
        projection: of any method; images without label are grey.
        axes: which two, counted from 0.
        ax: where to draw; by default a new figure, the taller the more classes.

    Returns:
        The axes; their legend stands below.

    Raises:
        SettingError: the projection has no such axes.
    """
    check_axes(projection, axes)
    signs = class_markers(projection.table)
    ax = ax or new_axes(WIDTH, PLOT_HEIGHT + legend_height(signs))
    scatter_points(ax, projection.coordinates[:, axes], projection.table, signs)
    title_axes(ax, _title(projection), *(name_axis(projection, axis) for axis in axes))
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    draw_legend(ax, signs)
    return ax


def draw_projection_3d(projection: Projection, axes: tuple[int, int, int] = (0, 1, 2), ax: Axes | None = None) -> Axes:
    """Draw images as points on three axes in one scale; classes differ in colour and sign.

    Args:
        projection: of any method, on three axes or more; images without label are grey.
        axes: which three, counted from 0.
        ax: where to draw, made with `projection="3d"`; by default a new figure, the taller the more classes.

    Returns:
        The axes; their legend stands below.

    Raises:
        SettingError: the projection has no such axes.
        InputError: the given axes are flat.
    """
    check_axes(projection, axes)
    signs = class_markers(projection.table)
    if ax is None:
        flat = new_axes(WIDTH, PLOT_HEIGHT + legend_height(signs))
        ax = flat.figure.add_subplot(projection="3d")
        flat.remove()
    if ax.name != "3d":
        raise InputError('expected axes of three dimensions; make them with add_subplot(projection="3d")')
    space: Any = ax  # matplotlib's hints know nothing of the third dimension
    points = projection.coordinates[:, axes]
    names = name_rows(projection.table)
    for name, (colour, marker) in signs.items():
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
    draw_legend(ax, signs)
    return ax


def class_markers(table: EmbeddingTable) -> dict[str, Sign]:
    """Return a colour and a marker for every class; after 56 they come again.

    Neighbours in the alphabet differ in both. Images without label come first, to lie below the others.
    """
    signs = {} if table.is_labelled.all() else {UNLABELLED: UNLABELLED_SIGN}
    for number, name in enumerate(table.classes):
        turn, colour = divmod(number, len(COLOURS))
        signs[name] = (COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)])
    return signs


def name_rows(table: EmbeddingTable) -> NDArray[np.object_]:
    """Return (n,) the class of every row as the legend names it."""
    return np.where(table.is_labelled, table.label, UNLABELLED)


def name_axis(projection: Projection, axis: int) -> str:
    """Return what an axis is called, with the share of the variance along it."""
    if projection.explained is None:
        return f"{METHOD_NAMES[projection.method]} {axis + 1}"
    return f"component {axis + 1} ({projection.explained[axis]:.1%} of the variance)"


def check_axes(projection: Projection, axes: Sequence[int]) -> None:
    """Raise SettingError where a projection has not all of these axes, or one is named twice."""
    if len(set(axes)) < len(axes) or not all(0 <= axis < projection.n_components for axis in axes):
        raise SettingError(
            f"axes: expected {len(axes)} different ones of 0 to {projection.n_components - 1}; found {tuple(axes)}"
        )


def scatter_points(
    ax: Axes, points: NDArray[np.float64], table: EmbeddingTable, signs: dict[str, Sign]
) -> PathCollection:
    """Draw points (n, 2) in one collection, mixed, so that no class lies on top of the others; unlabelled ones first.

    Its offsets are the points in that order, `mix_rows(table)`.
    """
    rows = mix_rows(table)
    own = [signs[name] for name in name_rows(table)[rows]]
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
    """Return the rows in the order they are drawn in."""
    rows = np.random.default_rng(0).permutation(len(table))
    return rows[np.argsort(table.is_labelled[rows], kind="stable")]


def point_area(n_points: int) -> float:
    """Return the area of a point, in square points: the smaller, the more there are."""
    return float(np.clip(30_000 / max(n_points, 1), 6, 40))


def draw_legend(ax: Axes, signs: dict[str, Sign]) -> Legend:
    """Name every class below the axes, in as many columns as the figure is wide."""
    below = ax.transAxes + ScaledTranslation(0, -LEGEND_GAP / 72, ax.figure.figure.dpi_scale_trans)
    n_columns, name_width = _lay_out_legend(signs, ax.figure.figure.get_size_inches()[0])
    handles = [
        Line2D(
            [], [], color=colour, marker=marker, linestyle="", markersize=6 * SIDES.get(marker, 1), markeredgewidth=0
        )
        for colour, marker in signs.values()
    ]
    n_signs, n_classes = len(COLOURS) * len(MARKERS), len(signs) - (UNLABELLED in signs)
    legend = ax.legend(
        handles,
        [shorten(name, name_width, LEGEND_SIZE) for name in signs],
        title=f"{n_classes} classes share {n_signs} signs" if n_classes > n_signs else None,
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


def legend_height(signs: dict[str, Sign], width: float = WIDTH) -> float:
    """Return the inches that a legend takes below a figure of that width."""
    n_columns, _ = _lay_out_legend(signs, width)
    return (-(-len(signs) // n_columns) + 1) * LEGEND_ROW / 72


def _lay_out_legend(signs: dict[str, Sign], width: float) -> tuple[int, float]:
    """Return the number of columns, and the points that a name may take."""
    space = 72 * (width - 0.3)
    widths = [min(text_width(name, LEGEND_SIZE), NAME_WIDTH) + LEGEND_PAD for name in signs]
    for n_columns in range(min(len(widths), MOST_COLUMNS), 1, -1):
        if sum(max(column) for column in np.array_split(widths, n_columns)) <= space:
            return n_columns, NAME_WIDTH
    return 1, max(space - LEGEND_PAD, 0)


def _title(projection: Projection) -> str:
    table, method = projection.table, METHOD_NAMES[projection.method]
    n_classes = len(table.classes)
    classes = f" of {n_classes} class{'es' * (n_classes != 1)}" if n_classes else ""
    return f"{len(table):,} images{classes}: {method}"
