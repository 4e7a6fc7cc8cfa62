"""The best order of leaves: enumeration of all orders, and trees of any shape."""

from itertools import product

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage, to_tree
from scipy.spatial.distance import pdist, squareform

from plankton_embed.analysis import leaf_order as module
from plankton_embed.analysis.leaf_order import order_leaves


def enumerate_orders(node):
    """Every order of the leaves that the tree allows, 2 ** (n - 1)."""
    if node.is_leaf():
        return [[node.id]]
    pairs = product(enumerate_orders(node.left), enumerate_orders(node.right))
    return [order for one, other in pairs for order in (one + other, other + one)]


def walk(orders, distances):
    orders = np.atleast_2d(orders)
    return distances[orders[:, :-1], orders[:, 1:]].sum(axis=1)


@pytest.mark.parametrize("method", ["ward", "single", "complete", "average"])
def test_no_order_is_better(method):
    rng = np.random.default_rng(0)
    for tree in range(100):
        n = 4 + tree % 6
        points = rng.normal(size=(n, rng.integers(1, 5)))
        if rng.random() < 0.3:
            points = np.round(points)  # ties, and copies
        distances = squareform(pdist(points))
        plain = linkage(points, method)
        ordered = order_leaves(plain, distances)
        orders = enumerate_orders(to_tree(plain))
        assert len(orders) == 2 ** (n - 1)
        assert walk(leaves_list(ordered), distances)[0] == pytest.approx(walk(orders, distances).min(), abs=1e-12)
        np.testing.assert_array_equal(np.sort(ordered[:, :2], axis=1), np.sort(plain[:, :2], axis=1))  # the same tree
        np.testing.assert_array_equal(ordered[:, 2:], plain[:, 2:])


def test_distances_need_not_be_those_of_the_tree():
    rng = np.random.default_rng(1)
    plain = linkage(rng.normal(size=(8, 2)), "average")
    distances = squareform(rng.random(28))  # no triangle inequality
    ordered = order_leaves(plain, distances)
    assert walk(leaves_list(ordered), distances)[0] == pytest.approx(
        walk(enumerate_orders(to_tree(plain)), distances).min()
    )


def test_two_leaves_and_small_blocks(monkeypatch):
    assert leaves_list(order_leaves(np.array([[0, 1, 2.0, 2]]), np.array([[0, 2.0], [2, 0]]))).tolist() == [0, 1]
    points = np.random.default_rng(2).normal(size=(40, 3))
    distances = squareform(pdist(points))
    whole = order_leaves(linkage(points, "ward"), distances)
    monkeypatch.setattr(module, "BLOCK", 1)
    np.testing.assert_array_equal(order_leaves(linkage(points, "ward"), distances), whole)


def test_a_chain():
    """Every join adds one leaf; on a line the best order goes along it."""
    points = np.cumsum(np.arange(1, 31.0))[:, None]
    order = leaves_list(order_leaves(linkage(points, "single"), squareform(pdist(points))))
    assert order.tolist() in (list(range(30)), list(range(29, -1, -1)))
