"""The cut tree: six points by hand, scikit-learn and scipy, and where there is little to cut."""

from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist
from sklearn.metrics import calinski_harabasz_score

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.dendrogram import build_dendrogram
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable


def build(vectors, *arguments, label=None, **options):
    table = EmbeddingTable(np.asarray(vectors, dtype=np.float32), label=label)
    return build_dendrogram(table, *arguments, n_threads=1, progress=False, **options)


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    centers = 4 * rng.normal(size=(5, 3))
    codes = rng.integers(5, size=120)
    labels = [None if row % 10 == 0 else "abcde"[code] for row, code in enumerate(codes)]
    return build(centers[codes] + rng.normal(size=(120, 3)), 12, label=labels)


def test_six_points_by_hand():
    found = build([[0], [1], [10], [12], [11.5], [30]], 3, 2, label=["a", "a", "b", None, "c", "c"])
    leaves = found.leaves
    assert leaves["n_images"].tolist() in ([2, 3, 1], [1, 3, 2])  # either way round
    pair, three = leaves[leaves["n_images"] == 2].iloc[0], leaves[leaves["n_images"] == 3].iloc[0]
    assert (pair["label"], pair["purity"], pair["n_classes"], pair["height"]) == ("a", 1.0, 1, 1.0)
    assert (three["label"], three["purity"], three["n_classes"]) == ("b", 0.5, 2)  # of the labelled two
    assert found.central[int(three.name)].tolist() == [4, 3, 2]  # the mean is 11.17
    root = found.nodes.iloc[-1]
    assert (root["n_images"], root["branch"], root["parent"]) == (6, 0, -1)
    assert found.counts.loc[root.name].to_dict() == {"a": 2, "b": 1, "c": 2}
    assert sorted(np.bincount(found.branch)[1:]) == [1, 5]  # 30 stands alone
    assert found.branch[5] == found.leaves["branch"][5]


def test_every_image_is_in_one_leaf_and_counts_add_up(blobs):
    assert len(blobs.leaves) == 12
    assert len(blobs.nodes) == 23
    assert pd.Series(blobs.leaf).value_counts().to_dict() == blobs.leaves["n_images"].to_dict()
    np.testing.assert_array_equal(blobs.counts.loc[blobs.leaves.index].sum(), blobs.counts.loc[blobs.tree.root])
    for node in blobs.nodes.index[12:]:
        children = blobs.tree.children[node]
        np.testing.assert_array_equal(blobs.counts.loc[node], blobs.counts.loc[children].sum())
    shares = blobs.shares()
    assert shares.groupby("node")["share"].sum().to_numpy() == pytest.approx(1)
    assert shares["count"].sum() == blobs.counts.to_numpy().sum()
    np.testing.assert_array_equal(blobs.classes_by_branch().sum(axis=1), blobs.counts.loc[blobs.tree.root])
    for node, branch in blobs.leaves["branch"].items():
        assert set(blobs.branch[blobs.leaf == node]) == {branch}


def test_cuts_are_scored_as_scikit_learn_does(blobs):
    vectors = blobs.table.vectors.astype(float)
    for n_branches, score in blobs.cuts.itertuples(index=False):
        parts = blobs.tree.cut(n_branches)
        assert score == pytest.approx(calinski_harabasz_score(vectors, parts))
    assert blobs.branch.max() == 2 + blobs.cuts["calinski_harabasz"][:7].argmax()


def test_turning_branches_keeps_the_tree_and_brings_like_leaves_together(blobs):
    vectors = blobs.table.vectors.astype(float)
    plain = linkage(vectors, "ward")
    expected = cophenet(plain)
    heights = blobs.tree.joining_heights(np.arange(120))
    np.testing.assert_allclose(heights[np.triu_indices(120, 1)], expected)
    assert blobs.cophenetic_correlation == pytest.approx(np.corrcoef(pdist(vectors), expected)[0, 1])

    leaves = blobs.leaves.index.tolist()
    means = {node: vectors[blobs.tree.members(node)].mean(axis=0) for node in leaves}

    def orders(node):
        if node in means:
            return [[node]]
        pairs = product(*map(orders, blobs.tree.children[node].tolist()))
        return [order for one, other in pairs for order in (one + other, other + one)]

    walks = [sum(np.linalg.norm(means[a] - means[b]) for a, b in pairwise(order)) for order in orders(blobs.tree.root)]
    assert len(walks) == 2**11
    assert walks[0] == pytest.approx(min(walks))  # the first is the order of the tree itself
    assert orders(blobs.tree.root)[0] == leaves


def test_newick_of_a_cut_tree():
    text = build([[0], [1], [10]], label=["a", "b", "c"]).newick()
    height = np.sqrt(2 * 2 / 3) * 9.5
    assert text in (
        f"(('0':0.5,'1':0.5)3:{height / 2 - 0.5:.6g},'2':{height / 2:.6g})4;",
        f"('2':{height / 2:.6g},('0':0.5,'1':0.5)3:{height / 2 - 0.5:.6g})4;",
        f"(('1':0.5,'0':0.5)3:{height / 2 - 0.5:.6g},'2':{height / 2:.6g})4;",
        f"('2':{height / 2:.6g},('1':0.5,'0':0.5)3:{height / 2 - 0.5:.6g})4;",
    )


def test_class_means():
    table = EmbeddingTable(
        np.array([[0, 0], [2, 0], [1, 3], [5, 5], [9, 9]], dtype=np.float32),
        label=["a", "a", "a", "b", None],
        path=["p0", "p1", "p2", "p3", "p4"],
    )
    means = average_classes(table)
    assert means.object_id.tolist() == means.label.tolist() == ["a", "b"]
    np.testing.assert_allclose(means.vectors, [[1, 1], [5, 5]])
    assert means.path.tolist() == ["p0", "p3"]
    with pytest.raises(InputError, match="none with a label"):
        average_classes(table.select([4]))


def test_little_to_cut():
    two = build([[0], [1]])
    assert (len(two.leaves), two.branch.tolist()) == (2, [1, 2])
    assert np.isnan(two.cophenetic_correlation)
    copies = build(np.ones((6, 2)), 3, label=["a"] * 6)
    assert copies.leaves["n_images"].sum() == 6
    assert np.isnan(copies.cophenetic_correlation)
    unlabelled = build(np.arange(9)[:, None] ** 2, 4)
    assert unlabelled.nodes["label"].isna().all()
    assert unlabelled.shares().empty
    assert unlabelled.classes_by_branch().empty
    assert "unlabelled" in unlabelled.newick()


@pytest.mark.parametrize(
    ("n", "arguments", "error", "message"),
    [
        (1, (), InputError, "at least 2 vectors"),
        (5, (1,), SettingError, "leaves"),
        (5, (4, 5), SettingError, "branches: expected 2 to 4"),
        (5, (4, 1), SettingError, "branches"),
    ],
)
def test_what_cannot_be_cut(n, arguments, error, message):
    with pytest.raises(error, match=message):
        build(np.arange(n)[:, None], *arguments)


def test_classes_named_as_our_columns():
    vectors = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    found = build_dendrogram(EmbeddingTable(vectors, label=["count", "node", "label"] * 4), 4, progress=False)
    shares = found.shares()
    assert shares.groupby("node")["share"].sum().to_numpy() == pytest.approx(1)
    assert set(shares["label"]) == {"count", "node", "label"}
