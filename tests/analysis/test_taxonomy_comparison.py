"""A taxonomy against the learned space: five classes by hand, scipy, all groups by brute force."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.taxonomy_comparison import compare_taxonomy
from plankton_embed.analysis.taxonomy_files import parse_newick
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

FIVE = ["aurelia", "calanus", "detritus", "oithona", "paracalanus"]
POINTS = {"calanus": 0, "paracalanus": 1, "oithona": 3, "aurelia": 10, "detritus": 20}


def table_of(points, n=2):
    """Images of every class, spread by 0.1 around one point of a line."""
    names = [name for name in points for _ in range(n)]
    values = [[points[name] + 0.1 * (row % n - (n - 1) / 2)] for row, name in enumerate(names)]
    return EmbeddingTable(np.array(values, dtype=np.float32), label=names)


def leaves_of(part):
    return frozenset([part]) if isinstance(part, str) else frozenset().union(*map(leaves_of, part))


def groups_of(part):
    return set() if isinstance(part, str) else {leaves_of(part)}.union(*map(groups_of, part))


def test_five_classes_by_hand(read, ranks):
    found = compare_taxonomy(table_of(POINTS), read(ranks))
    assert found.classes == FIVE
    # Ward joins calanus and paracalanus, oithona to them, aurelia and detritus, and all
    assert found.clades["clade"].tolist() == ["Arthropoda", "Calanoida"]
    assert found.clades["level"].tolist() == ["phylum", "order"]
    assert found.clades["classes"].tolist() == [("calanus", "oithona", "paracalanus"), ("calanus", "paracalanus")]
    assert found.clades["is_shared"].all()
    assert found.rf_distance == 1  # aurelia with detritus
    assert found.rf_normalised == pytest.approx(1 / 5)
    assert found.only_in_table == found.only_in_taxonomy == ()


def test_a_class_in_the_wrong_place_by_hand(read, ranks):
    moved = POINTS | {"paracalanus": 12}  # 2 from aurelia
    found = compare_taxonomy(table_of(moved), read(ranks)).misplaced.set_index("label")
    assert found.index.tolist()[:3] == ["paracalanus", "calanus", "oithona"]
    # calanus: oithona and aurelia of three are nearer than paracalanus; of the pairs paracalanus, oithona with
    # aurelia, detritus one is the wrong way round
    assert found["misplacement"].tolist()[:3] == pytest.approx([1, (2 / 3 + 1 / 4) / 2, 1 / 4])
    assert found["misplacement"].isna().tolist() == [False] * 3 + [True] * 2
    worst = found.loc["paracalanus"]
    assert (worst["nearest_in_space"], worst["nearest_in_taxonomy"], worst["place"]) == ("aurelia", "calanus", 4)
    assert worst["distance"] == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_and_groups_agree_with_scipy_and_brute_force(seed, random_tree):
    rng = np.random.default_rng(seed)
    part, text = random_tree(rng, 12)
    names = sorted(leaves_of(part))
    table = EmbeddingTable(rng.normal(size=(60, 4)).astype(np.float32), label=np.repeat(names, 5))
    taxonomy = parse_newick(text)
    found = compare_taxonomy(table, taxonomy, n_permutations=9)
    means = average_classes(table).vectors.astype(float)
    ward, given = linkage(means, "ward"), squareform(taxonomy.distances(names))
    assert found.cophenetic_correlation == pytest.approx(pearsonr(cophenet(ward), given)[0])
    assert found.distance_correlation == pytest.approx(pearsonr(pdist(means), given)[0])

    learned, clusters = set(), [frozenset([name]) for name in names]
    for a, b in ward[:, :2].astype(int):
        clusters.append(clusters[a] | clusters[b])
        learned.add(clusters[-1])
    learned, groups = ({g for g in trees if 2 <= len(g) <= 11} for trees in (learned, groups_of(part)))
    assert found.rf_distance == len(learned ^ groups)
    assert found.rf_normalised == pytest.approx(len(learned ^ groups) / (len(learned) + len(groups)))
    assert set(map(frozenset, found.clades["classes"])) == groups
    for row in found.clades.itertuples():
        own = frozenset(row.classes)
        assert row.is_shared == (own in learned)
        best = max(len(own & other) / len(own | other) for other in learned)
        assert row.jaccard == pytest.approx(best)
        assert len(own & set(row.nearest)) / len(own | set(row.nearest)) == pytest.approx(best)
        assert set(np.array(names)[found.tree.members(row.node)]) == set(row.nearest)


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_of_two_trees_is_that_of_scikit_bio(seed, random_tree):
    skbio = pytest.importorskip("skbio")
    rng = np.random.default_rng(seed)
    part, text = random_tree(rng, 12)
    names = sorted(leaves_of(part))
    table = EmbeddingTable(rng.normal(size=(60, 4)).astype(np.float32), label=np.repeat(names, 5))
    found = compare_taxonomy(table, parse_newick(text), n_permutations=1)
    learned, given = (skbio.TreeNode.read(io.StringIO(tree)) for tree in (found.tree.newick(names), text))
    assert found.rf_distance == learned.compare_rfd(given, rooted=True)
    assert found.rf_normalised == pytest.approx(learned.compare_rfd(given, rooted=True, proportion=True))


def test_a_tree_agrees_with_itself():
    rng = np.random.default_rng(0)
    table = EmbeddingTable(rng.normal(size=(20, 3)).astype(np.float32), label=[f"c{i:02}" for i in range(20)])
    first = compare_taxonomy(table, parse_newick("(" + ",".join(table.classes) + ");"), n_permutations=1)
    own = compare_taxonomy(table, parse_newick(first.tree.newick(first.classes)))
    assert (own.rf_distance, own.rf_normalised) == (0, 0)
    assert own.clades["is_shared"].all()
    assert len(own.clades) == 18
    assert own.cophenetic_p == 0.001


def test_the_trees_we_write_are_read(read, ranks):
    compared = compare_taxonomy(table_of(POINTS), read(ranks))
    names = [f"{name}'s" for name in compared.classes]
    written = parse_newick(compared.tree.newick(names))
    assert sorted(written.classes) == names
    assert len(written.clades(names)) == 4


def test_a_taxonomy_without_groups_has_no_correlation():
    found = compare_taxonomy(table_of(POINTS), parse_newick("(" + ",".join(FIVE) + ");"))
    assert np.isnan([found.cophenetic_correlation, found.cophenetic_p, found.distance_p]).all()
    assert found.clades.empty
    assert found.rf_normalised == 1
    assert found.misplaced["misplacement"].isna().all()
    assert np.isnan(found.to_dict()["cophenetic_correlation"])


def test_the_order_of_rows_and_of_the_file_changes_nothing(read, ranks):
    table = table_of(POINTS | {"paracalanus": 12}, n=4)
    lines = ranks.strip().split("\n")
    one = compare_taxonomy(table, read(ranks), seed=3)
    order = np.random.default_rng(0).permutation(len(table))
    other = compare_taxonomy(table.select(order), read("\n".join([lines[0], *lines[:0:-1]])), seed=3)
    assert one.to_dict() == other.to_dict()
    assert set(one.clades["classes"]) == set(other.clades["classes"])
    pd.testing.assert_frame_equal(one.misplaced, other.misplaced)
    np.testing.assert_allclose(one.distances, other.distances, atol=1e-6)


def test_p_values_count_all_permutations():
    # of 24 orders of four classes, 8 keep ((a, b), (c, d)), so about a third of permutations reach the correlation
    table = table_of({"a": 0, "b": 1, "c": 10, "d": 11})
    found = compare_taxonomy(table, parse_newick("((a,b),(c,d));"), n_permutations=2000)
    assert found.cophenetic_correlation == pytest.approx(1)
    assert found.cophenetic_p == pytest.approx(1 / 3, abs=0.04)
    assert found.distance_p == pytest.approx(1 / 3, abs=0.04)


def test_p_values_are_uniform_for_random_names(random_tree):
    rng = np.random.default_rng(0)
    _, text = random_tree(rng, 9)
    taxonomy = parse_newick(text)
    vectors = (rng.normal(size=(9, 3)).astype(np.float32) for _ in range(60))
    tables = (EmbeddingTable(rows, label=sorted(taxonomy.classes)) for rows in vectors)
    p_values = [compare_taxonomy(table, taxonomy, n_permutations=19).distance_p for table in tables]
    assert np.mean(p_values) == pytest.approx(0.525, abs=0.08)
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.08)


def test_only_shared_classes_are_compared_and_inner_nodes_count(read, ranks):
    points = {"calanus": 0, "oithona": 1, "Cnidaria": 5, "unknown class": 3}
    found = compare_taxonomy(table_of(points), read(ranks))
    assert found.classes == ["Cnidaria", "calanus", "oithona"]
    assert found.only_in_table == ("unknown class",)
    assert found.only_in_taxonomy == ("aurelia", "detritus", "paracalanus")
    assert found.taxonomic.tolist() == [[0, 4, 4], [4, 0, 3], [4, 3, 0]]


def test_comparisons_that_cannot_be_made(read, ranks):
    with pytest.raises(InputError, match=r"at least 3 classes .* found 2 of 3 and 5"):
        compare_taxonomy(table_of({"calanus": 0, "oithona": 1, "x": 2}), read(ranks))
    with pytest.raises(SettingError, match="at least 1; found 0"):
        compare_taxonomy(table_of(POINTS), read(ranks), n_permutations=0)
