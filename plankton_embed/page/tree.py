"""Ward's tree for the page: of the class means, or of images where there are no two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.dendrogram import N_LEAVES, Dendrogram, build_dendrogram
from plankton_embed.images.balance import split_by_class
from plankton_embed.page.images import PageImages

MOST_IMAGES = 3000  # of a tree of images; of more, so many are drawn at random
N_CENTRAL = 12  # images of a branch that are shown


def build_tree(images: PageImages) -> dict[str, Any] | None:
    """Build Ward's tree of the class means; without two classes, of the images.

    Returns:
        `of` (`classes` or `images`), `what` (the same in words), `correlation` (see `Dendrogram`), `leaves` (`class`,
        the class index, -1 in a tree of images, and `n`, the number of images), `members` (in a tree of images: their
        rows, leaf by leaf), and `nodes`, leaves first: `parent` (-1 at the root), `height`, `first` and `last` (its
        leaves), `branch` (1, 2, …; 0 above the branches) and `central` (the rows of the images nearest to its mean).
        None for fewer than two vectors.
    """
    labels = images.label_index
    labelled = np.flatnonzero(labels >= 0)
    codes = np.unique(labels[labelled])
    if len(codes) >= 2:
        means = average_classes(images.table.select(labelled))
        found = build_dendrogram(means, len(means), progress=False)
        members = split_by_class(np.searchsorted(codes, labels[labelled]))
        leaves = [labelled[members[code]] for code in found.tree.order]
        return {
            "of": "classes",
            "what": f"the means of {len(codes)} classes, from {len(labelled):,} labelled images",
            "leaves": {"class": codes[found.tree.order].tolist(), "n": [len(leaf) for leaf in leaves]},
            **_describe_nodes(images, found, leaves),
        }
    if len(images) < 2:
        return None
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[:MOST_IMAGES])
    found = build_dendrogram(images.table.select(rows), min(N_LEAVES, len(rows)), progress=False)
    leaves = [rows[found.tree.members(node)] for node in found.leaves.index.tolist()]
    of_all = f", drawn at random from {len(images):,}" if len(rows) < len(images) else ""
    return {
        "of": "images",
        "what": f"{len(rows):,} images{of_all}, cut to {len(leaves)} leaves",
        "leaves": {"class": [-1] * len(leaves), "n": [len(leaf) for leaf in leaves]},
        "members": np.concatenate(leaves).astype(np.int32),
        **_describe_nodes(images, found, leaves),
    }


def _describe_nodes(images: PageImages, found: Dendrogram, leaves: list[NDArray[np.intp]]) -> dict[str, Any]:
    """Return the nodes of the cut tree, given the rows of the images of every leaf, in order."""
    nodes, tree = found.nodes, found.tree
    numbers = nodes.index.to_numpy()
    position = {node: number for number, node in enumerate(numbers.tolist())}
    starts = tree.start[found.leaves.index.to_numpy()]
    first = np.searchsorted(starts, tree.start[numbers])
    last = np.searchsorted(starts, tree.start[numbers] + tree.size[numbers]) - 1
    correlation = found.cophenetic_correlation
    return {
        "correlation": correlation if np.isfinite(correlation) else None,
        "nodes": {
            "parent": [position.get(parent, -1) for parent in nodes["parent"].tolist()],
            "height": np.where(nodes["is_leaf"], 0.0, nodes["height"]).tolist(),
            "first": first.tolist(),
            "last": last.tolist(),
            "branch": nodes["branch"].tolist(),
            "central": _find_central(images.table.vectors, leaves, first, last),
        },
    }


def _find_central(
    vectors: NDArray[np.float32], leaves: list[NDArray[np.intp]], first: NDArray[np.intp], last: NDArray[np.intp]
) -> list[list[int]]:
    """Return for every range of leaves the rows of the images nearest to its mean, nearest first."""
    rows = np.concatenate(leaves)
    ends = np.cumsum([0, *map(len, leaves)])
    in_order = vectors[rows]  # so that a branch is a part of it, without a copy
    squares = np.einsum("nd,nd->n", in_order, in_order)
    central = []
    for low, high in zip(ends[first], ends[last + 1], strict=True):
        part = in_order[low:high]
        gap = squares[low:high] - 2 * (part @ part.mean(axis=0))  # the squared distance, but for a constant
        nearest = np.argpartition(gap, min(N_CENTRAL, high - low) - 1)[:N_CENTRAL]
        central.append(rows[low + nearest[np.argsort(gap[nearest], kind="stable")]].tolist())
    return central
