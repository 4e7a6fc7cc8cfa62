"""A given taxonomy against the learned space: agreement, errors by rank, and the lowest rank that is certain."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.tree import Tree
from plankton_embed.analysis.ward import ward_linkage
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

N_PERMUTATIONS = 999
CERTAINTY = 0.9
FINEST = "label"  # the level of the classes


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """A rooted tree over class names; a node may have one child or many, and a class may stand above others.

    Attributes:
        parent: (m,) of every node, -1 for the root, which is node 0; parents stand before their children.
        names: of every node, None where it has none.
        level: (m,) 0 for the root; grows on the way down, by more than 1 where a rank is left out.
        level_names: of the levels 0, 1, …: ranks where the source names them, else `level 1`, …; the last is `label`.
        classes: class name -> node.
    """

    parent: NDArray[np.intp]
    names: tuple[str | None, ...]
    level: NDArray[np.intp]
    level_names: tuple[str, ...]
    classes: dict[str, int]

    @cached_property
    def node_of(self) -> dict[str, int]:
        """Name -> node, of the classes and of the inner nodes whose name is no other's."""
        counts = Counter(self.names)
        return {name: node for node, name in enumerate(self.names) if name and counts[name] == 1} | self.classes

    @cached_property
    def height(self) -> NDArray[np.intp]:
        """(m,) the levels from a node down to the deepest one below it."""
        deepest = self.level.tolist()
        for node, above in zip(range(len(deepest) - 1, 0, -1), self.parent[:0:-1].tolist(), strict=True):
            deepest[above] = max(deepest[above], deepest[node])
        return np.array(deepest) - self.level

    def members(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of some names, all in `node_of`, every node holds, itself among them: (m, c)."""
        members = np.zeros((len(self.parent), len(names)), dtype=bool)
        members[[self.node_of[name] for name in names], np.arange(len(names))] = True
        for node in range(len(self.parent) - 1, 0, -1):
            members[self.parent[node]] |= members[node]
        return members

    def clades(self, names: Sequence[str]) -> dict[int, NDArray[np.bool_]]:
        """Return the groups of two or more of some names, as node -> (c,): each once, by the lowest node that holds it.

        Groups stand before those that they hold.
        """
        members = self.members(names)
        lowest = {members[node].tobytes(): node for node in np.flatnonzero(members.sum(axis=1) > 1).tolist()}
        return {node: members[node] for node in sorted(lowest.values())}

    def distances(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Return how far apart two names stand, (c, c): the height of their last common ancestor, in levels.

        Where all classes are at one level this is half the path along the tree, as Clarke and Warwick (1998, doi
        10.1046/j.1365-2664.1998.3540523.x) measure it. It is ultrametric, as the heights of a dendrogram are.
        """
        distances = np.zeros((len(names), len(names)), dtype=np.intp)
        for node, members in self.clades(names).items():
            distances[np.ix_(members, members)] = self.height[node]
        np.fill_diagonal(distances, 0)
        return distances

    def hang(self, names: Iterable[str]) -> Taxonomy:
        """Return the tree with these classes too: those it does not hold stand alone, right under the root."""
        strangers = [name for name in dict.fromkeys(names) if name not in self.node_of]
        first, finest = len(self.parent), len(self.level_names) - 1
        return Taxonomy(
            np.append(self.parent, np.zeros(len(strangers), dtype=np.intp)),
            (*self.names, *strangers),
            np.append(self.level, np.full(len(strangers), finest)),
            self.level_names,
            self.classes | dict(zip(strangers, range(first, first + len(strangers)), strict=True)),
        )

    def level_name(self, node: int) -> str:
        """Return what the level of a node is called; that of a node without children is `label`."""
        return self.level_names[self.level[node]] if node in self.parent else FINEST

    def name_node(self, node: int, below: Sequence[str]) -> str:
        """Return the name of a node, or, where it has none, two of the names below it."""
        more = f" + {len(below) - 2} more" if len(below) > 2 else ""
        return self.names[node] or (", ".join(below[:2]) + more if node else "root")


@dataclass(frozen=True, eq=False)
class TaxonomyComparison:
    """The learned tree of class means beside a taxonomy, over the classes that both hold.

    Attributes:
        means: of these classes, sorted by name; rows and columns of the matrices stand in this order.
        tree: Ward's over them.
        taxonomy: all of it.
        only_in_table, only_in_taxonomy: classes left aside.
        distances: (n, n) between means; taxonomic: (n, n), see `Taxonomy.distances`.
        cophenetic_correlation, cophenetic_p: of the heights at which the tree joins two classes with their taxonomic
            distance; nan where either does not vary.
        distance_correlation, distance_p: the same of the plain distances.
        n_permutations: that the p-values come from.
        clades: one row a group of the taxonomy of 2 to n - 1 classes, broader ones before those they hold: `clade`,
            `level`, `n_classes`, `classes` (tuple), `is_shared` (the learned tree has it too), `node` (the learned one
            most like it), `nearest` (its classes, tuple), `jaccard` (of the two).
        rf_distance: groups that one tree has and the other has not; rf_normalised: over the groups of both, 0 to 1. The
            learned tree forks in two everywhere, so a taxonomy that does not cannot come to 0.
        misplaced: one row a class, worst first: `label`; `misplacement`, the mean over the levels of its relatives of
            this share: of all pairs of a relative up to that level and another class, those in which the other is the
            nearer in space (0 as the taxonomy, 0.5 chance; nan where the taxonomy puts all classes equally far from
            it); `nearest_in_space` and its `distance`; `nearest_in_taxonomy` (of several the nearest in space), which
            is the `place`-th nearest in space.
    """

    means: EmbeddingTable
    tree: Tree
    taxonomy: Taxonomy
    only_in_table: tuple[str, ...]
    only_in_taxonomy: tuple[str, ...]
    distances: NDArray[np.float64]
    taxonomic: NDArray[np.intp]
    cophenetic_correlation: float
    cophenetic_p: float
    distance_correlation: float
    distance_p: float
    n_permutations: int
    clades: pd.DataFrame
    rf_distance: int
    rf_normalised: float
    misplaced: pd.DataFrame

    @property
    def classes(self) -> list[str]:
        """The classes compared, sorted."""
        return self.means.classes

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the classes left aside as plain values, ready for JSON."""
        numbers = ("cophenetic_correlation", "cophenetic_p", "distance_correlation", "distance_p")
        return {
            "n_classes": len(self.means),
            **{name: getattr(self, name) for name in numbers},
            "n_permutations": self.n_permutations,
            "n_clades": len(self.clades),
            "n_shared_clades": int(self.clades["is_shared"].sum()),
            "rf_distance": self.rf_distance,
            "rf_normalised": self.rf_normalised,
            "only_in_table": list(self.only_in_table),
            "only_in_taxonomy": list(self.only_in_taxonomy),
        }


def compare_taxonomy(
    table: EmbeddingTable, taxonomy: Taxonomy, *, n_permutations: int = N_PERMUTATIONS, seed: int = 0
) -> TaxonomyComparison:
    """Compare Ward's tree of the class means with a taxonomy.

    The correlation is that of Sokal and Rohlf (1962, doi 10.2307/1217208), shared groups are counted as Robinson and
    Foulds did (1981, doi 10.1016/0025-5564(81)90043-2). The p-values are Mantel's (1967, Cancer Research 27, 209): with
    the class names permuted k of m times to a correlation as high, p = (k + 1) / (m + 1) (Phipson and Smyth 2010, doi
    10.2202/1544-6115.1585).

    Args:
        table: labelled vectors; a label may name a leaf of the taxonomy or an inner node.
        taxonomy: see `read_taxonomy`.
        n_permutations: at least 1.
        seed: of the permutations.

    Raises:
        InputError: fewer than 3 classes are in both.
        SettingError: fewer than 1 permutation.
    """
    if n_permutations < 1:
        raise SettingError(f"permutations: expected at least 1; found {n_permutations}")
    known = table.classes
    names = [name for name in known if name in taxonomy.node_of]
    if len(names) < 3:
        raise InputError(
            f"a comparison needs at least 3 classes that the vectors and the taxonomy share; found {len(names)} of "
            f"{len(known)} and {len(taxonomy.classes)}; names must be equal, such as {known[:2]} and "
            f"{list(taxonomy.classes)[:2]}"
        )
    means = average_classes(table.select(np.isin(table.label.astype(str), names) & table.is_labelled))
    tree = Tree(ward_linkage(means.vectors, n_threads=1, progress=False))
    distances = squareform(pdist(means.vectors.astype(np.float64)))
    taxonomic = taxonomy.distances(names)
    learned = np.stack([tree.joining_heights(np.arange(len(names))), distances])
    correlation, p_value = _correlate(learned, taxonomic, n_permutations, seed)
    clades = _match_clades(tree, taxonomy, names)
    n_clades = len(clades) + len(names) - 2
    rf_distance = n_clades - 2 * int(clades["is_shared"].sum())
    return TaxonomyComparison(
        means,
        tree,
        taxonomy,
        only_in_table=tuple(name for name in known if name not in taxonomy.node_of),
        only_in_taxonomy=tuple(sorted(set(taxonomy.classes) - set(known))),
        distances=distances,
        taxonomic=taxonomic,
        cophenetic_correlation=correlation[0],
        cophenetic_p=p_value[0],
        distance_correlation=correlation[1],
        distance_p=p_value[1],
        n_permutations=n_permutations,
        clades=clades,
        rf_distance=rf_distance,
        rf_normalised=rf_distance / n_clades,
        misplaced=_find_misplaced(names, distances, taxonomic),
    )


def _correlate(
    learned: NDArray[np.float64], taxonomic: NDArray[np.intp], n_permutations: int, seed: int
) -> tuple[list[float], list[float]]:
    """Correlate each of some matrices, (k, n, n), with another; return the correlations and their p-values."""
    rows, columns = np.triu_indices(len(taxonomic), 1)

    def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = values - values.mean(axis=-1, keepdims=True)
        length = np.linalg.norm(centred, axis=-1, keepdims=True)
        length[length <= 1e-12 * np.abs(values).max()] = np.nan
        return np.asarray(centred / length)

    left, right = standardise(learned[:, rows, columns]), np.zeros(taxonomic.shape)
    right[rows, columns] = standardise(taxonomic[rows, columns].astype(np.float64))
    right += right.T
    correlation = left @ right[rows, columns]
    rng = np.random.default_rng(seed)
    n_as_high = np.zeros(len(learned))
    for _ in range(n_permutations):
        order = rng.permutation(len(taxonomic))
        n_as_high += left @ right[order[rows], order[columns]] >= correlation - 1e-12
    p_value = np.where(np.isnan(correlation), np.nan, (n_as_high + 1) / (n_permutations + 1))
    return correlation.tolist(), p_value.tolist()


def _match_clades(tree: Tree, taxonomy: Taxonomy, names: list[str]) -> pd.DataFrame:
    """Look for each group of the taxonomy in the learned tree."""
    nodes = np.arange(tree.n_points, tree.root)
    learned = np.array([np.isin(np.arange(len(names)), tree.members(node)) for node in nodes.tolist()])
    records = []
    for node, members in taxonomy.clades(names).items():
        if members.all():
            continue
        both = (learned & members).sum(axis=1)
        jaccard = both / (learned | members).sum(axis=1)
        best = int(jaccard.argmax())
        own, nearest = (tuple(np.array(names)[mask].tolist()) for mask in (members, learned[best]))
        name, level = taxonomy.name_node(node, own), taxonomy.level_name(node)
        records.append((name, level, len(own), own, own == nearest, int(nodes[best]), nearest, float(jaccard[best])))
    columns = ["clade", "level", "n_classes", "classes", "is_shared", "node", "nearest", "jaccard"]
    return pd.DataFrame(records, columns=columns).astype({"is_shared": bool})


def _find_misplaced(names: list[str], distances: NDArray[np.float64], taxonomic: NDArray[np.intp]) -> pd.DataFrame:
    """Say of every class how far its neighbours in space are those of the taxonomy."""
    records = []
    for row, name in enumerate(names):
        others = np.delete(np.arange(len(names)), row)
        space, given = distances[row, others], taxonomic[row, others]
        farther = (space[:, None] > space) + 0.5 * (space[:, None] == space)
        shares = [farther[given <= level][:, given > level].mean() for level in np.unique(given)[:-1]]
        relatives = np.flatnonzero(given == given.min())
        nearest, relative = int(space.argmin()), int(relatives[space[relatives].argmin()])
        records.append(
            {
                "label": name,
                "misplacement": float(np.mean(shares)) if shares else np.nan,
                "nearest_in_space": names[others[nearest]],
                "distance": float(space[nearest]),
                "nearest_in_taxonomy": names[others[relative]],
                "place": int((space < space[relative]).sum()) + 1,
            }
        )
    return pd.DataFrame(records).sort_values("misplacement", ascending=False, kind="stable", ignore_index=True)


def roll_up(truth: ArrayLike, predicted: ArrayLike, taxonomy: Taxonomy) -> pd.DataFrame:
    """Score names at every level of a taxonomy: a name is right where its group at that level is the true one.

    A class without a group at some level, and a name outside the taxonomy, stands there for itself.

    Args:
        truth: (n,) true class names.
        predicted: (n,) names given; inner nodes of the taxonomy may be named too (see `back_off`).
        taxonomy: see `read_taxonomy`.

    Returns:
        One row a level, finest first: `level`, `n_groups` (in the truth), `n`, `n_outside` (images whose true or given
        name the taxonomy does not hold), `accuracy`, `balanced_accuracy` (mean over the true groups).

    Raises:
        InputError: nothing to score, lengths differ, or a name is missing.
    """
    names = [np.asarray(values, dtype=object) for values in (truth, predicted)]
    if names[0].ndim != 1 or len(names[0]) == 0 or names[0].shape != names[1].shape:
        raise InputError(
            f"expected as many names as true labels, at least one; found {names[1].shape}, {names[0].shape}"
        )
    if any(pd.isna(values).any() for values in names):
        raise InputError("some labels or names are missing; score the images that have both")
    known, codes = np.unique(np.concatenate(names).astype(str), return_inverse=True)
    outside = ~np.isin(known, list(taxonomy.node_of))
    if outside.any():
        logger.warning("%d classes are not in the taxonomy: %s", outside.sum(), ", ".join(known[outside].tolist()))
    n_outside = int(outside[codes].reshape(2, -1).any(axis=0).sum())
    taxonomy = taxonomy.hang(known.tolist())
    parent = np.maximum(taxonomy.parent, 0)
    group = np.array([taxonomy.node_of[name] for name in known.tolist()])
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
    """Name every image by the lowest node of a taxonomy that is certain enough; the root always is.

    The probability of a node is the sum of those of its classes. Of several nodes that are certain, which needs a
    certainty of 0.5 or less, the lowest and then the most probable is taken. A class outside the taxonomy stands right
    under the root.

    Args:
        probabilities: (n, c) float; rows sum to 1.
        classes: (c,) names of the columns, each once.
        taxonomy: see `read_taxonomy`.
        certainty: least probability, above 0 and at most 1.

    Returns:
        One row an image: `label` (a class or a broader group), `level`, `probability`, and `node`, its number in
        `taxonomy.hang(classes)`, whose `members(classes)[node]` are the classes that the name leaves open.

    Raises:
        InputError: shapes do not fit, or a row is no distribution.
        SettingError: the certainty is out of its range.
    """
    if not 0 < certainty <= 1:
        raise SettingError(f"certainty: expected above 0 and at most 1; found {certainty}")
    values, names = np.asarray(probabilities, dtype=np.float64), [str(name) for name in classes]
    if values.ndim != 2 or values.shape[1] != len(names) or len(set(names)) < len(names) or not names:
        raise InputError(f"expected a column a class, each named once; found {values.shape} and {len(names)} names")
    bad = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-3))
    if bad.any():
        raise InputError(f"probabilities: expected rows of at least 0 that sum to 1; row {bad.argmax()} does not")
    taxonomy = taxonomy.hang(names)
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


@dataclass(frozen=True, eq=False)
class TaxonomyFindings:
    """The space beside a taxonomy.

    `comparison` of the tree of class means; where images were named, `by_rank` (see `roll_up`) and, with a calibration
    set, `backed_off`: one row an image, `object_id`, `label` (a class or a broader group, the lowest that is certain
    enough), `level`, `probability`, `true_label`, `is_right` (the truth is of that group).
    """

    comparison: TaxonomyComparison
    by_rank: pd.DataFrame | None = None
    backed_off: pd.DataFrame | None = None

    def by_level(self) -> pd.DataFrame | None:
        """Return what backing off came to: `level`, `images` that got a name there, and the share that is `right`."""
        if self.backed_off is None:
            return None
        levels = self.backed_off.groupby("level")["is_right"].agg(images="size", right="mean")
        return levels.reset_index()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        tables = {"by_rank": self.by_rank, "backed_off": self.by_level()}
        records = {name: table.to_dict("records") for name, table in tables.items() if table is not None}
        return self.comparison.to_dict() | records
