"""Figure: a tanglegram, the learned tree opposite a taxonomy with a line for every class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from plankton_embed.plots.figure import GREEN, GREY, TITLE_SIZE, VERMILION, new_axes
from plankton_embed.plots.text import ELLIPSIS, shorten, text_width

if TYPE_CHECKING:
    from plankton_embed.analysis.taxonomy_comparison import TaxonomyComparison

ROW = 0.2  # inches of a class
LEARNED_WIDTH, NAME_WIDTH, LINE_WIDTH, TAXONOMY_WIDTH = 1.6, 1.9, 1.3, 3.0  # inches; names are on both sides
GAP = 0.35  # rows between the parts
TEXT, SMALL = 7.5, 6.5  # points
N_STARTS, N_ROUNDS = 20, 10  # random orders to start from; rounds of turning one tree and then the other
LINE_COLOURS = LinearSegmentedColormap.from_list("crossing", ["#C4C4C4", "#E8A87C", VERMILION])


@dataclass(frozen=True, eq=False)
class _Side:
    """A tree over the classes 0 to n - 1; its inner nodes in order from the lowest to the root."""

    children: dict[int, list[int]]
    height: dict[int, float]
    name: dict[int, str]
    shared: set[int]

    def order(self, position: NDArray[np.float64]) -> list[int]:
        """Return the classes in order: the children of every node by the mean position of their classes."""
        lines: dict[int, list[int]] = {}
        for node, children in self.children.items():
            parts = sorted(
                (lines.pop(child, [child]) for child in children), key=lambda part: float(position[part].mean())
            )
            lines[node] = [leaf for part in parts for leaf in part]
        return lines[next(reversed(self.children))]


def draw_taxonomy_comparison(comparison: TaxonomyComparison, ax: Axes | None = None) -> Axes:
    """Draw the learned tree on the left, the taxonomy on the right, and a line that joins each class in both.

    The branches of one tree and then of the other are turned: the children of every node are put in the order of the
    mean position of their classes in the other tree. This is repeated from several random orders, and the result with
    the fewest crossings is drawn. It is a heuristic: fewer crossings may be possible. Lines are redder the more lines
    they cross; a green dot marks a group that both trees have. Levels with the same classes are drawn as one.

    Args:
        comparison: see `compare_taxonomy`.
        ax: where to draw; by default a new figure, taller for more classes.

    Returns:
        The axes, in units of rows both ways.
    """
    names = comparison.classes
    learned, given = _learned_side(comparison), _taxonomy_side(comparison)
    left, right, n_crossed = _turn(learned, given, len(names))
    widths = np.array([LEARNED_WIDTH, NAME_WIDTH, LINE_WIDTH, NAME_WIDTH, TAXONOMY_WIDTH]) / ROW
    edges = np.concatenate([[0], np.cumsum(widths)])
    ax = ax or new_axes(edges[-1] * ROW + 0.3, ROW * (len(names) + 6))
    _draw_tree(ax, learned, left, edges[1], edges[0])
    _draw_tree(ax, given, right, edges[4], edges[5])
    for row, name in enumerate(names):
        colour = LINE_COLOURS(n_crossed[row] / max(1, n_crossed.max()))
        ends, order = (left[row] + 0.5, right[row] + 0.5), 1 + n_crossed[row] / len(names)
        ax.plot([edges[2], edges[3]], ends, color=colour, linewidth=1.3, zorder=order)
        text = shorten(name, (NAME_WIDTH - 2 * GAP * ROW) * 72, TEXT)
        for x, y, side in ((edges[2] - GAP, ends[0], "right"), (edges[3] + GAP, ends[1], "left")):
            ax.text(x, y, text, fontsize=TEXT, ha=side, va="center_baseline", parse_math=False)
    _draw_scale(ax, learned, edges[1], edges[0], "learned tree: height (Ward)")
    _draw_levels(ax, comparison, given, edges[4], edges[5])
    _write_legend(ax, comparison, n_crossed, edges)
    ax.set_axis_off()
    ax.set(xlim=(-0.5, edges[-1] + 0.5), ylim=(len(names) + 1.7, -2.6), aspect="equal")
    return ax


def _learned_side(comparison: TaxonomyComparison) -> _Side:
    tree = comparison.tree
    nodes = range(tree.n_points, tree.root + 1)
    shared = comparison.clades.loc[comparison.clades["is_shared"], "node"].tolist()
    return _Side(
        {node: tree.children[node].tolist() for node in nodes},
        {node: float(tree.height[node]) for node in nodes},
        {},
        set(shared),
    )


def _taxonomy_side(comparison: TaxonomyComparison) -> _Side:
    """Take the groups of the taxonomy, each once, from the narrowest to the one of all classes."""
    names = comparison.classes
    found = comparison.taxonomy.clades(names)
    groups = {len(names) + number: node for number, node in enumerate(reversed(found))}
    children: dict[int, list[int]] = {}
    top: dict[int, int] = {leaf: leaf for leaf in range(len(names))}  # the highest node so far above every class
    for number, node in groups.items():
        inside = np.flatnonzero(found[node]).tolist()
        children[number] = sorted({top[leaf] for leaf in inside})
        top |= dict.fromkeys(inside, number)
    shared = {frozenset(classes) for classes in comparison.clades.loc[comparison.clades["is_shared"], "classes"]}
    return _Side(
        children,
        {number: float(comparison.taxonomy.height[node]) for number, node in groups.items()},
        {number: name for number, node in groups.items() if (name := comparison.taxonomy.names[node])},
        {number for number, node in groups.items() if frozenset(np.array(names)[found[node]].tolist()) in shared},
    )


def _turn(
    learned: _Side, given: _Side, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return the position of every class on the left and on the right, and how many lines its line crosses."""
    rng = np.random.default_rng(0)
    orders = []
    for _ in range(N_STARTS):
        left = rng.permutation(n_classes).astype(np.float64)
        for _ in range(N_ROUNDS):
            right = np.argsort(given.order(left)).astype(np.float64)
            left = np.argsort(learned.order(right)).astype(np.float64)
            orders.append((left, right, ((left[:, None] - left) * (right[:, None] - right) < 0).sum(axis=1)))
    return min(orders, key=lambda found: int(found[2].sum()))


def _draw_tree(ax: Axes, side: _Side, position: NDArray[np.float64], leaf_x: float, root_x: float) -> None:
    """Draw a tree from its leaves to its root, with the names of nodes on their stems where there is room."""
    middle = {leaf: y + 0.5 for leaf, y in enumerate(position.tolist())}
    root = next(reversed(side.children))
    top = side.height[root] or 1.0

    def across(node: int) -> float:
        return leaf_x + (root_x - leaf_x) * 0.97 * side.height.get(node, 0.0) / top

    for node, children in side.children.items():
        x, ends = across(node), [middle[child] for child in children]
        middle[node] = (min(ends) + max(ends)) / 2
        for child, y in zip(children, ends, strict=True):
            ax.plot([across(child), x], [y, y], color=GREY, linewidth=1, zorder=1, solid_capstyle="projecting")
            _name_stem(ax, side.name.get(child, ""), across(child), x, y)
        ax.plot([x, x], [min(ends), max(ends)], color=GREY, linewidth=1, zorder=1)
        if node in side.shared:
            ax.plot(x, middle[node], "o", color=GREEN, markersize=5, zorder=3)


def _name_stem(ax: Axes, name: str, start: float, stop: float, y: float) -> None:
    room = (abs(stop - start) - GAP) * ROW * 72
    text = shorten(name, room, SMALL)
    if text not in ("", ELLIPSIS) and (text == name or len(text) > 4):
        x = (start + stop) / 2
        ax.text(x, y - 0.08, text, fontsize=SMALL, ha="center", va="bottom", color=GREY, parse_math=False)


def _draw_scale(ax: Axes, side: _Side, leaf_x: float, root_x: float, title: str) -> None:
    """Draw a scale of heights above a tree."""
    top = max(side.height.values()) or 1.0
    ticks = [tick for tick in MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(0, top) if 0 <= tick <= top]
    _draw_ticks(ax, [(leaf_x + (root_x - leaf_x) * 0.97 * tick / top, f"{tick:g}") for tick in ticks], title)


def _draw_ticks(ax: Axes, ticks: list[tuple[float, str]], title: str) -> None:
    y = -0.2
    ends = [min(x for x, _ in ticks), max(x for x, _ in ticks)]
    ax.plot(ends, [y, y], color=GREY, linewidth=0.8)
    for x, text in ticks:
        ax.plot([x, x], [y, y - 0.15], color=GREY, linewidth=0.8)
        ax.text(x, y - 0.25, text, fontsize=SMALL, ha="center", va="bottom", color=GREY, parse_math=False)
    ax.text(sum(ends) / 2, y - 1.2, title, fontsize=TEXT, ha="center", va="bottom", color=GREY)


def _draw_levels(ax: Axes, comparison: TaxonomyComparison, side: _Side, leaf_x: float, root_x: float) -> None:
    """Write the ranks above the taxonomy, or the numbers of its levels."""
    levels = comparison.taxonomy.level_names
    top = int(max(side.height.values()))
    spread = (root_x - leaf_x) * 0.97 / top
    ranks = [levels[len(levels) - 1 - height] for height in range(top + 1)]
    texts = [shorten(rank, 0.9 * spread * ROW * 72, SMALL) for rank in ranks]
    if levels[1:2] == ("level 1",) or ELLIPSIS in texts:
        _draw_scale(ax, side, leaf_x, root_x, "taxonomy: levels above the lowest")
    else:
        _draw_ticks(ax, [(leaf_x + spread * height, text) for height, text in enumerate(texts)], "taxonomy")


def _write_legend(
    ax: Axes, comparison: TaxonomyComparison, n_crossed: NDArray[np.intp], edges: NDArray[np.float64]
) -> None:
    n_shared = int(comparison.clades["is_shared"].sum())
    title = f"{len(comparison.classes)} classes; cophenetic correlation {comparison.cophenetic_correlation:.2f}"
    title += (
        f" (p = {comparison.cophenetic_p:.2g}); {n_shared} of the taxonomy's {len(comparison.clades)} groups shared"
    )
    ax.set_title(title, loc="left", fontsize=TITLE_SIZE, parse_math=False)
    y, x = len(comparison.classes) + 1.1, 0.0
    ax.plot(x + 0.3, y, "o", color=GREEN, markersize=5)
    text = "group of both trees"
    ax.text(x + 0.8, y, text, fontsize=TEXT, va="center_baseline")
    x += 2.5 + text_width(text, TEXT) / 72 / ROW
    ramp = np.linspace(0, 4, 33)
    for start, stop in pairwise(ramp.tolist()):
        ax.plot([x + start, x + stop], [y, y], color=LINE_COLOURS(start / 4), linewidth=2, antialiased=False)
    text = f"line that crosses 0 to {n_crossed.max()} others; {n_crossed.sum() // 2} crossings in all"
    ax.text(x + 4.4, y, text, fontsize=TEXT, va="center_baseline")
