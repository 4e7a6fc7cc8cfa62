"""A binary tree over points, from a scipy linkage: members, cuts, cophenetic distances, Newick."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Tree:
    """Which nodes are joined, and at what height.

    Points are the nodes 0 to n - 1; row i of the linkage is node n + i. The left child comes before the right one.

    Args:
        linkage: (n - 1, 4) as `scipy.cluster.hierarchy.linkage` returns: two nodes, height, number of points.
    """

    linkage: NDArray[np.float64]

    @property
    def n_points(self) -> int:
        """Number of points."""
        return len(self.linkage) + 1

    @property
    def root(self) -> int:
        """The node that contains all points."""
        return 2 * len(self.linkage)

    @cached_property
    def children(self) -> NDArray[np.intp]:
        """(2n - 1, 2) the left and the right child of every node, -1 for points."""
        return np.concatenate([np.full((self.n_points, 2), -1), self.linkage[:, :2].astype(np.intp)])

    @cached_property
    def parent(self) -> NDArray[np.intp]:
        """(2n - 1,) the parent of every node, -1 for the root."""
        parent = np.full(self.root + 1, -1)
        parent[self.linkage[:, :2].astype(np.intp)] = np.arange(self.n_points, self.root + 1)[:, None]
        return parent

    @cached_property
    def height(self) -> NDArray[np.float64]:
        """(2n - 1,) the height of every node, 0 for points."""
        return np.concatenate([np.zeros(self.n_points), self.linkage[:, 2]])

    @cached_property
    def size(self) -> NDArray[np.intp]:
        """(2n - 1,) the number of points of every node."""
        return np.concatenate([np.ones(self.n_points), self.linkage[:, 3]]).astype(np.intp)

    @cached_property
    def start(self) -> NDArray[np.intp]:
        """(2n - 1,) the position of a node's first point in the order of the leaves, in which no branches cross."""
        start = [0] * (self.root + 1)
        size = self.size.tolist()
        for node in range(self.root, self.n_points - 1, -1):
            left, right = self.children[node].tolist()
            start[left] = start[node]
            start[right] = start[node] + size[left]
        return np.array(start)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """(n,) the points in the order of the leaves."""
        return np.argsort(self.start[: self.n_points])

    def members(self, node: int) -> NDArray[np.intp]:
        """Return the points of a node, in order."""
        return self.order[self.start[node] : self.start[node] + self.size[node]]

    def roots(self, n_parts: int) -> NDArray[np.intp]:
        """Return the top nodes of the parts when the tree is cut into `n_parts`, in order."""
        first = self.root + 1 - (n_parts - 1)  # the first of the nodes above the cut
        below = np.append(self.children[first:].ravel(), self.root) if n_parts > 1 else np.array([self.root])
        roots = below[below < first]
        return roots[np.argsort(self.start[roots])]

    def cut(self, n_parts: int) -> NDArray[np.intp]:
        """Return the part of every point, (n,), 0 to `n_parts` - 1, in order."""
        part = np.empty(self.n_points, dtype=np.intp)
        for number, node in enumerate(self.roots(n_parts)):
            part[self.members(node)] = number
        return part

    def joining_heights(self, points: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the heights at which the tree joins pairs of some points, (m, m): their cophenetic distances."""
        gaps = np.zeros(self.n_points)  # the height at which a leaf is joined to the leaf before it
        gaps[self.start[self.linkage[:, 1].astype(np.intp)]] = self.linkage[:, 2]
        positions = self.start[points]
        sequence = np.argsort(positions)
        edges = positions[sequence]
        steps = np.array([gaps[a + 1 : b + 1].max() for a, b in pairwise(edges.tolist())])
        heights = np.zeros((len(points), len(points)))
        for row in range(len(points) - 1):
            reach = np.maximum.accumulate(steps[row:])
            heights[sequence[row], sequence[row + 1 :]] = reach
            heights[sequence[row + 1 :], sequence[row]] = reach
        return heights

    def newick(self, names: list[str]) -> str:
        """Return the tree in Newick format; the path between two points is as long as the height that joins them."""
        text = [quote_name(name) for name in names]
        lengths = (self.height[self.parent] - self.height) / 2
        for left, right in self.children[self.n_points :].tolist():
            text.append(f"({text[left]}:{lengths[left]:.6g},{text[right]}:{lengths[right]:.6g})")
            text[left] = text[right] = ""
        return text[-1] + ";"


def quote_name(name: str) -> str:
    """Return a name quoted for Newick."""
    return "'" + name.replace("'", "''") + "'"
