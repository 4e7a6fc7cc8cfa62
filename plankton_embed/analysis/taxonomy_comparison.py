"""Compare the learned tree of classes with a taxonomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.taxonomy import Taxonomy
from plankton_embed.analysis.tree import Tree
from plankton_embed.analysis.ward import ward_linkage
from plankton_embed.errors import InputError, SettingError
from plankton_embed.notebook import Shown
from plankton_embed.table import EmbeddingTable

N_PERMUTATIONS = 999


@dataclass(frozen=True, eq=False)
class TaxonomyComparison:
    """The learned tree of class means and a taxonomy, over the classes that are in both.

    Attributes:
        means: of these classes, sorted by name; rows and columns of the matrices are in this order.
        tree: Ward's tree over the means.
        taxonomy: with all its classes.
        only_in_table, only_in_taxonomy: classes that are not compared.
        distances: (n, n) between means; taxonomic: (n, n), see `Taxonomy.distances`.
        cophenetic_correlation, cophenetic_p: correlation between the heights at which the tree joins two classes and
            their taxonomic distance; nan if either does not vary.
        distance_correlation, distance_p: the same for the distances between means.
        n_permutations: number of permutations for the p-values.
        clades: one row per group of 2 to n - 1 classes in the taxonomy, groups before their subgroups: `clade`,
            `level`, `n_classes`, `classes` (tuple), `is_shared` (it is in the learned tree too), `node` (the most
            similar learned group), `nearest` (its classes, tuple), `jaccard` (similarity of the two).
        rf_distance: Robinson-Foulds distance, the number of groups that are in one of the trees only; rf_normalised:
            divided by the number of groups of both, 0 to 1. The learned tree is binary, so the distance to a taxonomy
            with larger forks is never 0.
        misplaced: one row per class, worst first: `label`; `misplacement`, the mean over the levels of its relatives of
            this share: of all pairs of a relative up to that level and another class, those in which the other class is
            nearer in space (0: as in the taxonomy, 0.5: by chance; nan if all classes are equally far in the taxonomy);
            `nearest_in_space` and its `distance`; `nearest_in_taxonomy` (of several the nearest in space), which is the
            `place`-th nearest in space.
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
        """Return the numbers and the classes that are not compared as plain values, ready for JSON."""
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

    The correlation is that of Sokal and Rohlf (1962, doi 10.2307/1217208), shared groups are counted as by Robinson and
    Foulds (1981, doi 10.1016/0025-5564(81)90043-2). The p-values are Mantel's (1967, Cancer Research 27, 209): if k of
    m permutations of the class names give a correlation as high, p = (k + 1) / (m + 1) (Phipson and Smyth 2010, doi
    10.2202/1544-6115.1585).

    Args:
        table: labelled vectors; a label may be the name of a leaf or an inner node of the taxonomy.
        taxonomy: see `read_taxonomy`.
        n_permutations: at least 1.
        seed: of the permutations.

    Raises:
        InputError: fewer than 3 classes are in both.
        SettingError: fewer than 1 permutation.
    """
    if n_permutations < 1:
        raise SettingError(f"permutations: expected at least 1; found {n_permutations}")
    classes = table.classes
    names = [name for name in classes if name in taxonomy.node_of]
    if len(names) < 3:
        raise InputError(
            f"a comparison needs at least 3 classes that the vectors and the taxonomy share; found {len(names)} of "
            f"{len(classes)} and {len(taxonomy.classes)}; names must be equal, such as {classes[:2]} and "
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
        only_in_table=tuple(name for name in classes if name not in taxonomy.node_of),
        only_in_taxonomy=tuple(sorted(set(taxonomy.classes) - set(classes))),
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
    """Return the correlations of some matrices, (k, n, n), with another, and their p-values."""
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
    """Return for each group of the taxonomy the most similar one in the learned tree."""
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
    """Return how well the neighbours of every class in space agree with the taxonomy."""
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


@dataclass(frozen=True, eq=False, repr=False)
class TaxonomyFindings(Shown):
    """A model compared with a taxonomy.

    `comparison` of the tree of class means; if images were predicted, `by_rank` (see `roll_up`) and, with a calibration
    set, `backed_off`: one row per image, `object_id`, `label` (the class or broader group of `back_off`), `level`,
    `probability`, `true_label`, `is_right` (the true class is in that group).
    """

    comparison: TaxonomyComparison
    by_rank: pd.DataFrame | None = None
    backed_off: pd.DataFrame | None = None

    def by_level(self) -> pd.DataFrame | None:
        """Return the result of `back_off` by level: `level`, number of `images`, and the share that is `right`."""
        if self.backed_off is None:
            return None
        levels = self.backed_off.groupby("level")["is_right"].agg(images="size", right="mean")
        return levels.reset_index()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        tables = {"by_rank": self.by_rank, "backed_off": self.by_level()}
        records = {name: table.to_dict("records") for name, table in tables.items() if table is not None}
        return self.comparison.to_dict() | records

    def _describe(self) -> str:
        return f"{len(self.comparison.misplaced)} classes, {len(self.comparison.clades)} groups compared"

    def _preview(self) -> pd.DataFrame:
        return self.comparison.misplaced if self.by_rank is None else self.by_rank
