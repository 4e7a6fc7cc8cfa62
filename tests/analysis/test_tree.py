"""Trees against scipy and scikit-bio."""

import io

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, cut_tree, leaves_list, linkage
from scipy.spatial.distance import squareform

from plankton_embed.analysis.tree import Tree


@pytest.fixture(params=range(5))
def tree(request):
    n = [2, 3, 10, 57, 200][request.param]
    return Tree(linkage(np.random.default_rng(n).normal(size=(n, 3)), "ward"))


def test_leaves_are_in_the_order_of_scipy(tree):
    np.testing.assert_array_equal(tree.order, leaves_list(tree.linkage))
    for node in range(tree.n_points, tree.root + 1):
        left, right = tree.children[node]
        np.testing.assert_array_equal(tree.members(node), np.append(tree.members(left), tree.members(right)))
        assert tree.parent[left] == tree.parent[right] == node
    assert tree.parent[tree.root] == -1


def test_joining_heights_are_cophenetic_distances(tree):
    expected = squareform(cophenet(tree.linkage))
    np.testing.assert_allclose(tree.joining_heights(np.arange(tree.n_points)), expected)
    some = np.random.default_rng(0).permutation(tree.n_points)[:20]
    np.testing.assert_allclose(tree.joining_heights(some), expected[np.ix_(some, some)])


def test_a_cut_gives_scipys_parts_in_order(tree):
    for n_parts in {1, 2, min(3, tree.n_points), tree.n_points}:
        parts = tree.cut(n_parts)
        expected = cut_tree(tree.linkage, n_parts).ravel()
        assert len(set(zip(parts, expected, strict=True))) == n_parts == len(set(parts))
        assert (np.diff(parts[tree.order]) >= 0).all()


def test_newick_of_three_points():
    tree = Tree(np.array([[0, 1, 2.0, 2], [2, 3, 10.0, 3]]))
    assert tree.newick(["a", "b's", "c d"]) == "('c d':5,('a':1,'b''s':1):4);"


def test_scikit_bio_reads_our_newick_and_finds_the_joining_heights(tree):
    skbio = pytest.importorskip("skbio")
    names = [f"it's_image {number}" for number in range(tree.n_points)]
    read = skbio.TreeNode.read(io.StringIO(tree.newick(names)), convert_underscores=False)
    found = read.cophenet().filter(names)
    np.testing.assert_allclose(found.data, tree.joining_heights(np.arange(tree.n_points)), rtol=1e-4)
