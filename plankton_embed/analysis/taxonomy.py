"""A taxonomy: ranks and groups; accuracy at each rank, and the lowest rank with enough probability."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from plankton_embed.errors import InputError, SettingError

logger = logging.getLogger(__name__)

CERTAINTY = 0.9
FINEST = "label"  # the level of the classes


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """A rooted tree of class names; a node may have one or several children, and a class may be an inner node.

    Attributes:
        parent: (m,) of every node, -1 for the root, which is node 0; parents come before their children.
        names: of every node, None if it has none.
        level: (m,) 0 for the root; higher towards the leaves, by more than 1 where a rank is left out.
        level_names: of the levels 0, 1, …: ranks if the source has their names, otherwise `level 1`, …; the last is
            `label`.
        classes: class name -> node.
    """

    parent: NDArray[np.intp]
    names: tuple[str | None, ...]
    level: NDArray[np.intp]
    level_names: tuple[str, ...]
    classes: dict[str, int]

    @cached_property
    def node_of(self) -> dict[str, int]:
        """Name -> node, of the classes and of the inner nodes whose name is unique."""
        counts = Counter(self.names)
        return {name: node for node, name in enumerate(self.names) if name and counts[name] == 1} | self.classes

    @cached_property
    def height(self) -> NDArray[np.intp]:
        """(m,) the number of levels from a node to the deepest one below it."""
        deepest = self.level.tolist()
        for node, above in zip(range(len(deepest) - 1, 0, -1), self.parent[:0:-1].tolist(), strict=True):
            deepest[above] = max(deepest[above], deepest[node])
        return np.array(deepest) - self.level

    def members(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of some names, all in `node_of`, are at or below every node: (m, c)."""
        members = np.zeros((len(self.parent), len(names)), dtype=bool)
        members[[self.node_of[name] for name in names], np.arange(len(names))] = True
        for node in range(len(self.parent) - 1, 0, -1):
            members[self.parent[node]] |= members[node]
        return members

    def clades(self, names: Sequence[str]) -> dict[int, NDArray[np.bool_]]:
        """Return the groups of two or more of some names, as node -> (c,): each once, by its lowest node.

        Groups come before their subgroups.
        """
        members = self.members(names)
        lowest = {members[node].tobytes(): node for node in np.flatnonzero(members.sum(axis=1) > 1).tolist()}
        return {node: members[node] for node in sorted(lowest.values())}

    def distances(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Return the distances between names, (c, c): the height of their last common ancestor, in levels.

        If all classes are at one level this is half the path along the tree, as in Clarke and Warwick (1998, doi
        10.1046/j.1365-2664.1998.3540523.x). It is ultrametric, like the heights of a dendrogram.
        """
        distances = np.zeros((len(names), len(names)), dtype=np.intp)
        for node, members in self.clades(names).items():
            distances[np.ix_(members, members)] = self.height[node]
        np.fill_diagonal(distances, 0)
        return distances

    def add_classes(self, names: Iterable[str]) -> Taxonomy:
        """Return the tree with these classes: those that are not in it are added as children of the root."""
        added = [name for name in dict.fromkeys(names) if name not in self.node_of]
        first, finest = len(self.parent), len(self.level_names) - 1
        return Taxonomy(
            np.append(self.parent, np.zeros(len(added), dtype=np.intp)),
            (*self.names, *added),
            np.append(self.level, np.full(len(added), finest)),
            self.level_names,
            self.classes | dict(zip(added, range(first, first + len(added)), strict=True)),
        )

    def level_name(self, node: int) -> str:
        """Return the name of the level of a node; that of a node without children is `label`."""
        return self.level_names[self.level[node]] if node in self.parent else FINEST

    def name_node(self, node: int, below: Sequence[str]) -> str:
        """Return the name of a node, or, if it has none, two of the names below it."""
        more = f" + {len(below) - 2} more" if len(below) > 2 else ""
        return self.names[node] or (", ".join(below[:2]) + more if node else "root")


def roll_up(truth: ArrayLike, predicted: ArrayLike, taxonomy: Taxonomy) -> pd.DataFrame:
    """Score predictions at every level of a taxonomy: one is right if its group at that level is the true group.

    A class without a group at some level, and a name that is not in the taxonomy, is a group of its own.

    Args:
        truth: (n,) true class names.
        predicted: (n,) predicted names: classes, or inner nodes of the taxonomy (see `back_off`).
        taxonomy: see `read_taxonomy`.

    Returns:
        One row per level, finest first: `level`, `n_groups` (in the truth), `n`, `n_outside` (images whose true or
        predicted name is not in the taxonomy), `accuracy`, `balanced_accuracy` (mean over the true groups).

    Raises:
        InputError: nothing to score, lengths differ, or a name is missing.
    """
    names = [np.asarray(values, dtype=object) for values in (truth, predicted)]
    if names[0].ndim != 1 or len(names[0]) == 0 or names[0].shape != names[1].shape:
        raise InputError(
            f"expected as many predictions as true labels, at least one; found {names[1].shape}, {names[0].shape}"
        )
    if any(pd.isna(values).any() for values in names):
        raise InputError("some labels or predictions are missing; score the images that have both")
    all_names, codes = np.unique(np.concatenate(names).astype(str), return_inverse=True)
    outside = ~np.isin(all_names, list(taxonomy.node_of))
    if outside.any():
        logger.warning("%d classes are not in the taxonomy: %s", outside.sum(), ", ".join(all_names[outside].tolist()))
    n_outside = int(outside[codes].reshape(2, -1).any(axis=0).sum())
    taxonomy = taxonomy.add_classes(all_names.tolist())
    parent = np.maximum(taxonomy.parent, 0)
    group = np.array([taxonomy.node_of[name] for name in all_names.tolist()])
    records = []
    for level in range(len(taxonomy.level_names) - 1, 0, -1):
        above = parent[group]
        group = np.where(taxonomy.level[above] == level, above, group)
        true, given = group[codes].reshape(2, -1)
        _, groups = np.unique(true, return_inverse=True)
        right = np.bincount(groups, true == given) / np.bincount(groups)
        records.append(
            (taxonomy.level_names[level], len(right), len(true), n_outside, (true == given).mean(), right.mean())
        )
    return pd.DataFrame(records, columns=["level", "n_groups", "n", "n_outside", "accuracy", "balanced_accuracy"])


def back_off(
    probabilities: ArrayLike, classes: Sequence[str], taxonomy: Taxonomy, certainty: float = CERTAINTY
) -> pd.DataFrame:
    """Predict for every image the lowest node of a taxonomy whose probability is at least the certainty.

    The probability of a node is the sum over its classes; that of the root is 1. If there are several such nodes, which
    needs a certainty of 0.5 or less, the lowest and then the most probable is chosen. A class that is not in the
    taxonomy is a child of the root.

    Args:
        probabilities: (n, c) float; rows sum to 1.
        classes: (c,) names of the columns, without duplicates.
        taxonomy: see `read_taxonomy`.
        certainty: minimum probability, above 0 and at most 1.

    Returns:
        One row per image: `label` (a class or a broader group), `level`, `probability`, and `node`, its number in
        `taxonomy.add_classes(classes)`, whose `members(classes)[node]` are the classes of the group.

    Raises:
        InputError: shapes do not fit, or a row is not a distribution.
        SettingError: the certainty is out of its range.
    """
    if not 0 < certainty <= 1:
        raise SettingError(f"certainty: expected above 0 and at most 1; found {certainty}")
    values, names = np.asarray(probabilities, dtype=np.float64), [str(name) for name in classes]
    if values.ndim != 2 or values.shape[1] != len(names) or len(set(names)) < len(names) or not names:
        raise InputError(f"expected one column per class, each class once; found {values.shape} and {len(names)} names")
    bad = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-3))
    if bad.any():
        raise InputError(f"probabilities: expected rows of at least 0 that sum to 1; row {bad.argmax()} does not")
    taxonomy = taxonomy.add_classes(names)
    members = taxonomy.members(names)
    chosen, probability = np.zeros(len(values), dtype=np.intp), values.sum(axis=1)
    for node in np.argsort(taxonomy.level, kind="stable")[1:].tolist():
        if members[node].any():
            own = values[:, members[node]].sum(axis=1)
            lower = taxonomy.level[node] > taxonomy.level[chosen]
            taken = (own >= certainty - 1e-6) & (lower | (own > probability))  # float32 has seven digits
            chosen[taken], probability[taken] = node, own[taken]
    found, codes = np.unique(chosen, return_inverse=True)
    labels = [taxonomy.name_node(node, np.array(names)[members[node]].tolist()) for node in found.tolist()]
    levels = [taxonomy.level_name(node) for node in found.tolist()]
    return pd.DataFrame(
        {
            "label": np.array(labels, dtype=object)[codes],
            "level": np.array(levels, dtype=object)[codes],
            "probability": np.minimum(probability, 1),
            "node": chosen,
        }
    )
