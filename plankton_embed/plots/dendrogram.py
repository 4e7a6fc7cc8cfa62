"""Figure: the tree of the vectors, with images and classes at its leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.plots.figure import BLACK, BLUE, GREEN, GREY, ORANGE, TITLE_SIZE, VERMILION, new_axes
from plankton_embed.plots.sheet import fit_square
from plankton_embed.plots.text import shorten

if TYPE_CHECKING:
    from plankton_embed.analysis.dendrogram import Dendrogram

BRANCH_COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#56B4E9", ORANGE, "#8C6D1F", BLACK)
ROW = 0.36  # inches a leaf
WIDTH, TREE_WIDTH, TEXT_WIDTH = 10.0, 3.6, 3.9  # inches: whole, tree, text; the images have the rest
TEXT = 8.5  # points
PIXELS, GAP = 68, 2  # side of a thumbnail, and its white edge


def draw_dendrogram(
    dendrogram: Dendrogram,
    thumbnails: Mapping[int, Sequence[Image.Image | NDArray[np.uint8]]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a tree with its root on the left, and one row for each leaf: some images, their number, its classes.

    Args:
        dendrogram: each branch has its own colour.
        thumbnails: images of each leaf, by node.
        ax: where to draw; by default a new figure, taller for more leaves.

    Returns:
        The axes, in units of rows both ways; the scale of heights is above the tree.
    """
    leaves = dendrogram.leaves
    shown = thumbnails or {}
    n_thumbnails = min(max((len(images) for images in shown.values()), default=0), 6)
    ax = ax or new_axes(WIDTH, ROW * (len(leaves) + 2.5))
    tree_width, text_width = TREE_WIDTH / ROW, TEXT_WIDTH / ROW
    text_start = tree_width + 0.6 + n_thumbnails
    ax.set(xlim=(-0.3, text_start + text_width), ylim=(len(leaves), -2.2), aspect="equal")
    ax.set_axis_off()
    title = f"{len(dendrogram.table):,} {dendrogram.of} in {len(leaves)} leaves and {dendrogram.branch.max()} branches"
    title += f"; cophenetic correlation {dendrogram.cophenetic_correlation:.2f}"
    ax.set_title(title, loc="left", fontsize=TITLE_SIZE, parse_math=False)
    _draw_branches(ax, dendrogram, tree_width)
    if n_thumbnails:
        mosaic = _compose([shown.get(node, ())[:n_thumbnails] for node in leaves.index], n_thumbnails)
        left = tree_width + 0.3
        ax.imshow(mosaic, extent=(left, left + n_thumbnails, len(leaves), 0), interpolation="antialiased")
    for row, node in enumerate(leaves.index.tolist()):
        first, second = (shorten(line, TEXT_WIDTH * 72 - 6, TEXT) for line in describe_leaf(dendrogram, node))
        y = row + (0.32 if second else 0.5)
        ax.text(text_start, y, first, fontsize=TEXT, va="center", parse_math=False)
        ax.text(text_start, row + 0.72, second, fontsize=TEXT - 1, va="center", color=GREY, parse_math=False)
    ax.set(xlim=(-0.3, text_start + text_width), ylim=(len(leaves), -2.2))
    return ax


def _compose(rows: Sequence[Sequence[Image.Image | NDArray[np.uint8]]], n_columns: int) -> NDArray[np.uint8]:
    """Return one picture of rows of thumbnails, on opaque white."""
    mosaic = np.full((len(rows) * PIXELS, n_columns * PIXELS, 4), 255, dtype=np.uint8)
    side = PIXELS - 2 * GAP
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            y, x = row * PIXELS + GAP, column * PIXELS + GAP
            mosaic[y : y + side, x : x + side, :3] = fit_square(image, side)
    return mosaic


def describe_leaf(dendrogram: Dendrogram, node: int) -> tuple[str, str]:
    """Return two lines: how many images a leaf has, and its commonest class; the next, and how many more."""
    counts = {str(label): int(count) for label, count in dendrogram.counts.loc[node].items() if count}
    order = sorted(counts, key=lambda label: -counts[label])
    n_images = int(dendrogram.leaves["n_images"][node])
    if n_images == 1:
        return (order[0] if order else str(dendrogram.table.object_id[node])), ""
    shares = [f"{label} {counts[label] / sum(counts.values()):.0%}" for label in order]
    rest = [f"{len(order) - 2} more"] if len(order) > 2 else []
    return f"{n_images:,}: {shares[0] if order else 'unlabelled'}", ", ".join([*shares[1:2], *rest])


def _draw_branches(ax: Axes, dendrogram: Dendrogram, width: float) -> None:
    """Draw the lines of the tree, and the scale of its heights above it."""
    nodes = dendrogram.nodes
    top = float(nodes["height"].max()) or 1.0
    middle = {node: row + 0.5 for row, node in enumerate(dendrogram.leaves.index.tolist())}

    def across(height: float) -> float:
        return width * (1 - height / top)

    colours = {0: GREY} | {
        n: BRANCH_COLOURS[(n - 1) % len(BRANCH_COLOURS)] for n in range(1, nodes["branch"].max() + 1)
    }
    for node in nodes.index[~nodes["is_leaf"]].tolist():
        x = across(nodes.loc[node, "height"])
        children = dendrogram.tree.children[node].tolist()
        ends = [middle[child] for child in children]
        middle[node] = float(np.mean(ends))
        for child, y in zip(children, ends, strict=True):
            is_leaf = bool(nodes.loc[child, "is_leaf"])
            colour = colours[int(nodes.loc[child, "branch"])]
            ax.plot([x, width if is_leaf else across(nodes.loc[child, "height"])], [y, y], color=colour, linewidth=1.3)
        ax.plot([x, x], ends, color=colours[int(nodes.loc[node, "branch"])], linewidth=1.3)
    _draw_scale(ax, top, across)


def _draw_scale(ax: Axes, top: float, across: Callable[[float], float]) -> None:
    y = -0.5
    ticks = [tick for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, top) if 0 <= tick <= top]
    ax.plot([across(0), across(top)], [y, y], color=GREY, linewidth=0.8)
    for tick in ticks:
        ax.plot([across(tick)] * 2, [y, y - 0.15], color=GREY, linewidth=0.8)
        ax.text(across(tick), y - 0.25, f"{tick:g}", fontsize=TEXT, ha="center", va="bottom", color=GREY)
    ax.text(across(top / 2), y - 0.95, "height (Ward)", fontsize=TEXT, ha="center", va="bottom", color=GREY)
