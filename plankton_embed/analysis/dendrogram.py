"""Ward's tree over images or class means, cut to a few leaves, with a description of every node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from plankton_embed.analysis.class_means import find_central
from plankton_embed.analysis.leaf_order import order_leaves
from plankton_embed.analysis.tree import Tree, quote_name
from plankton_embed.analysis.ward import ward_linkage
from plankton_embed.errors import InputError, SettingError
from plankton_embed.notebook import Shown
from plankton_embed.table import EmbeddingTable

N_LEAVES = 40
MOST_BRANCHES = 8  # by default: the number of colours that can be distinguished
MOST_COMPARED = 3000  # images, drawn once, for the cophenetic correlation
MOST_ORDERED = 1000  # leaves in optimal order, which takes time with the cube of their number


@dataclass(frozen=True, eq=False, repr=False)
class Dendrogram(Shown):
    """A tree over images or class means by Ward's method.

    Attributes:
        table: the images or class means.
        tree: the whole tree, which the numbers of nodes refer to.
        nodes: the tree cut to a few leaves, one row per node, indexed by its number: first the leaves in their order,
            then the inner nodes, lowest first. `parent` (-1 at the root), `is_leaf`, `height`, `n_images`,
            `branch` (1, 2, …; 0 above the branches), `label` (the commonest class), `purity` (its share of the labelled
            images), `n_classes`.
        counts: labelled images, one row per node, one column per class.
        central: node -> the rows of `table` nearest to its mean.
        leaf, branch: (n,) the number of the leaf, and of the branch, that each row of `table` is in.
        cuts: how well each number of branches separates the vectors: `n_branches`, `calinski_harabasz` (higher is
            better).
        cophenetic_correlation: between the distances of rows and the heights at which the tree joins them.
        n_compared: number of rows used for this correlation.
        of: `images`, or `classes`: what the rows of `table` are.
    """

    table: EmbeddingTable
    tree: Tree
    nodes: pd.DataFrame
    counts: pd.DataFrame
    central: dict[int, NDArray[np.intp]]
    leaf: NDArray[np.intp]
    branch: NDArray[np.intp]
    cuts: pd.DataFrame
    cophenetic_correlation: float
    n_compared: int
    of: Literal["images", "classes"] = "images"

    @property
    def leaves(self) -> pd.DataFrame:
        """The rows of `nodes` that are leaves."""
        return self.nodes[self.nodes["is_leaf"]]

    def shares(self) -> pd.DataFrame:
        """Return the classes of every node: `node`, `label`, `count`, and `share` of the node's labelled images."""
        row, column = self.counts.to_numpy().nonzero()
        shares = pd.DataFrame(
            {
                "node": self.counts.index[row],
                "label": self.counts.columns[column],
                "count": self.counts.to_numpy()[row, column],
            }
        ).sort_values(["node", "count"], ascending=[True, False], kind="stable", ignore_index=True)
        return shares.assign(share=shares["count"] / shares.groupby("node")["count"].transform("sum"))

    def classes_by_branch(self) -> pd.DataFrame:
        """Return the number of labelled images, one row per class, one column per branch."""
        labelled = self.table.is_labelled
        label = pd.Series(self.table.label[labelled].astype(str), name="label")
        return pd.crosstab(label, pd.Series(self.branch[labelled], name="branch"))

    def newick(self) -> str:
        """Return the cut tree in Newick format; the names of inner nodes are their numbers."""
        text: dict[int, str] = {}
        for node, row in zip(self.nodes.index.tolist(), self.nodes.to_dict("records"), strict=True):
            left, right = self.tree.children[node]
            inner = "" if row["is_leaf"] else f"({text[left]},{text[right]})"
            base = 0.0 if row["is_leaf"] else row["height"]
            above = "" if row["parent"] < 0 else f":{(self.tree.height[row['parent']] - base) / 2:.6g}"
            text[node] = f"{inner}{quote_name(self.name_leaf(node)) if row['is_leaf'] else node}{above}"
        return text[self.tree.root] + ";"

    def name_leaf(self, node: int) -> str:
        """Return the name of a leaf: its image, or its number, size and commonest class."""
        row = self.nodes.loc[node]
        if row["n_images"] == 1:
            return str(self.table.object_id[node])
        commonest = "unlabelled" if row["label"] is None else f"{row['label']} {row['purity']:.0%}"
        return f"{node}: {row['n_images']} {self.of}, {commonest}"

    def _describe(self) -> str:
        return f"{len(self.table):,} {self.of}, {len(self.leaves)} leaves, {self.branch.max()} branches"

    def _preview(self) -> pd.DataFrame:
        return self.leaves.reset_index()


def build_dendrogram(
    table: EmbeddingTable,
    n_leaves: int = N_LEAVES,
    n_branches: int | None = None,
    *,
    n_threads: int | None = None,
    progress: bool = True,
) -> Dendrogram:
    """Join all rows of a table into a tree, cut it to a few leaves, and describe every node.

    Args:
        table: images, labelled or not, or class means (see `average_classes`).
        n_leaves: of the cut tree, at least 2; a table with fewer rows gets one leaf per row. Up to 1,000 leaves are in
            the order with the smallest sum of distances between the means of neighbours (exact, see `order_leaves`);
            more stay in the order in which the tree joined them.
        n_branches: main branches; by default the number up to `MOST_BRANCHES` with the highest Calinski-Harabasz index
            (Caliński and Harabasz 1974, doi 10.1080/03610927408827101).
        n_threads: by default one per core.
        progress: show a bar.

    Raises:
        InputError: fewer than two rows.
        SettingError: fewer than 2 leaves, fewer than 2 branches, or more branches than leaves.
    """
    if n_leaves < 2:
        raise SettingError(f"leaves: expected at least 2; found {n_leaves}")
    if len(table) < 2:
        raise InputError(f"a tree needs at least 2 vectors; found {len(table)}")
    n_leaves = min(n_leaves, len(table))
    if n_branches is not None and not 2 <= n_branches <= n_leaves:
        raise SettingError(f"branches: expected 2 to {n_leaves}, the number of leaves; found {n_branches}")
    tree = Tree(ward_linkage(table.vectors, n_threads=n_threads, progress=progress))
    tree = _order_leaves(tree, table.vectors, n_leaves)
    cuts = _score_cuts(tree, n_leaves)
    chosen = n_branches or 2 + int(np.nanargmax(cuts["calinski_harabasz"][: MOST_BRANCHES - 1]))
    leaves = tree.roots(n_leaves)
    nodes = np.append(leaves, np.arange(tree.root + 2 - n_leaves, tree.root + 1))
    branches = tree.roots(chosen)
    members = {node: tree.members(node) for node in nodes.tolist()}
    counts = _count_classes(table, members)
    n_labelled = counts.sum(axis=1)
    correlation, n_compared = _compare_distances(tree, table.vectors)
    frame = pd.DataFrame(
        {
            "parent": tree.parent[nodes],
            "is_leaf": np.arange(len(nodes)) < n_leaves,
            "height": tree.height[nodes],
            "n_images": tree.size[nodes],
            "branch": [_branch_of(tree, node, branches) for node in nodes.tolist()],
            "label": counts.idxmax(axis=1).where(n_labelled > 0, None) if len(counts.columns) else None,
            "purity": counts.max(axis=1) / n_labelled.where(n_labelled > 0),
            "n_classes": (counts > 0).sum(axis=1),
        },
        index=pd.Index(nodes, name="node"),
    )
    return Dendrogram(
        table,
        tree,
        frame,
        counts,
        {node: find_central(table.vectors, rows) for node, rows in members.items()},
        leaf=leaves[tree.cut(n_leaves)],
        branch=tree.cut(chosen) + 1,
        cuts=cuts,
        cophenetic_correlation=correlation,
        n_compared=n_compared,
    )


def _order_leaves(tree: Tree, vectors: NDArray[np.float32], n_leaves: int) -> Tree:
    """Turn branches so that the sum of distances between the means of neighbouring leaves is smallest."""
    if not 2 < n_leaves <= MOST_ORDERED:
        return tree
    leaves = tree.roots(n_leaves)
    means = np.stack([vectors[tree.members(node)].mean(axis=0, dtype=np.float64) for node in leaves])
    top = tree.linkage[tree.n_points - n_leaves :].copy()
    first = tree.root + 2 - n_leaves  # the first node above the leaves
    position = {int(node): number for number, node in enumerate(leaves)}
    n_below = {int(node): 1 for node in leaves}
    for node, (left, right) in enumerate(top[:, :2].astype(int).tolist(), first):
        n_below[node] = n_below[left] + n_below[right]
    small = [
        [
            *(position.get(child, child - first + n_leaves) for child in (int(row[0]), int(row[1]))),
            row[2],
            n_below[node],
        ]
        for node, row in enumerate(top, first)
    ]
    turned = order_leaves(np.array(small, dtype=float), squareform(pdist(means)))
    back = np.append(leaves, np.arange(first, tree.root + 1)).astype(float)
    top[:, :2] = back[turned[:, :2].astype(np.intp)]
    return Tree(np.concatenate([tree.linkage[: tree.n_points - n_leaves], top]))


def _score_cuts(tree: Tree, most: int) -> pd.DataFrame:
    """Return the Calinski-Harabasz index of every cut, from Ward's heights, which are the sums of squares it saves."""
    n = tree.n_points
    n_parts = np.arange(2, most + 1)
    saved = np.cumsum(tree.linkage[::-1, 2] ** 2 / 2)
    between = saved[n_parts - 2]
    within = np.maximum(saved[-1] - between, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = (between / (n_parts - 1)) / (within / (n - n_parts))
    index[within <= 1e-12 * saved[-1]] = np.nan  # as many parts as different points
    if np.isnan(index).all():
        index[0] = np.inf
    return pd.DataFrame({"n_branches": n_parts, "calinski_harabasz": index})


def _branch_of(tree: Tree, node: int, branches: NDArray[np.intp]) -> int:
    """Return the number of the branch that contains a node, 0 above the branches."""
    if node > branches.max() and node not in branches:
        return 0
    return int(np.searchsorted(tree.start[branches], tree.start[node], side="right"))


def _count_classes(table: EmbeddingTable, members: dict[int, NDArray[np.intp]]) -> pd.DataFrame:
    """Return the number of labelled images of every class in every node."""
    classes = table.classes
    codes = np.searchsorted(classes, table.label.astype(str))
    labelled = table.is_labelled
    counts = [np.bincount(codes[rows[labelled[rows]]], minlength=len(classes)) for rows in members.values()]
    return pd.DataFrame(
        np.array(counts).reshape(len(members), len(classes)), pd.Index(list(members), name="node"), classes
    )


def _compare_distances(tree: Tree, vectors: NDArray[np.float32]) -> tuple[float, int]:
    """Correlate distances with the joining heights of the tree (Sokal and Rohlf 1962, doi 10.2307/1217208)."""
    rows = np.random.default_rng(0).permutation(tree.n_points)[:MOST_COMPARED]
    distances = pdist(vectors[rows].astype(np.float64))
    heights = squareform(tree.joining_heights(rows), checks=False)
    varied = len(rows) > 2 and distances.std() > 0 and heights.std() > 0
    return (float(np.corrcoef(distances, heights)[0, 1]) if varied else float("nan")), len(rows)
