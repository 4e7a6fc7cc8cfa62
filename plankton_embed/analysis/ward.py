"""Ward's linkage of very many points, exactly.

Ward's distance is reducible: joining two mutual nearest neighbours brings them no nearer to any third cluster. So all
pairs of mutual nearest neighbours can be joined at once, in rounds, at the heights of the one-by-one algorithm (Murtagh
1983, doi 10.1093/comjnl/26.4.354). Every cluster keeps a list of its nearest others and a lower bound of the distances
to all that are not on the list. Both are kept between rounds: the lists of two joined clusters become one, and the
Lance-Williams formula gives its bound. Only a cluster whose nearest listed one is above its bound is compared with all
others again, by a blocked matrix product; the distances that decide are differences in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from plankton_embed.errors import InputError
from plankton_embed.images.workers import count_cores
from plankton_embed.output import progress_bar

N_LISTED = 16
BLOCK = 2**22  # distances in memory at a time, a thread
SLABS = 32  # distances of which only the smallest is compared first

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def ward_linkage(
    vectors: NDArray[np.floating],
    weights: NDArray[np.integer] | None = None,
    *,
    n_threads: int | None = None,
    progress: bool = True,
) -> Floats:
    """Join points one by one, each time the two clusters whose union grows least in its sum of squares.

    Args:
        vectors: (n, d), finite, n at least 2.
        weights: (n,) how often each point is counted, above 0, as if it were repeated; by default once.
        n_threads: by default one per core.
        progress: show a bar.

    Returns:
        (n - 1, 4) as `scipy.cluster.hierarchy.linkage(vectors, "ward")`: the two clusters joined, the height
        (sqrt(2 a b / (a + b)) times the distance of their means, of sizes a and b), the number of points of the union.
        Where heights are equal, the order may differ from scipy's. With weights, a size is the sum of weights.

    Raises:
        InputError: fewer than two points, a value that is not finite, or other weights.
    """
    points = np.asarray(vectors, dtype=np.float64)
    if points.ndim != 2 or len(points) < 2:
        raise InputError(f"a tree needs vectors (n, d) of at least 2 points; found an array {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InputError(f"a tree needs finite vectors; row {row} contains nan or infinity")
    each = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=np.float64)
    if each.shape != points.shape[:1] or not (np.isfinite(each) & (each > 0)).all():
        raise InputError(f"a tree needs a weight above 0 for each of the {len(points)} points; found other weights")
    distinct, first, which = np.unique(points, axis=0, return_index=True, return_inverse=True)
    joined = [_join_copies(first, which.ravel())]
    if len(distinct) > 1:
        sizes = np.bincount(which.ravel(), weights=each).astype(np.float64)
        clusters = _Clusters(distinct, sizes, n_threads or count_cores())
        joined += [(first[a], first[b], height) for a, b, height in clusters.join_all(progress)]
    a, b, height = (np.concatenate(part) for part in zip(*joined, strict=True))
    return _number_clusters(a, b, np.sqrt(height), len(points))


class _Clusters:
    """The present clusters, each in the slot of its first point; distances are squared heights over `scale` squared."""

    def __init__(self, points: Floats, sizes: Floats, n_threads: int):
        n = len(points)
        self.centers = points - points.mean(axis=0)
        self.scale = 2.0 ** np.ceil(np.log2(np.abs(self.centers).max()))  # a power of two: no digit changes
        self.centers /= self.scale  # float32 has no squares of very long vectors
        self.sizes = sizes
        self.active = np.arange(n)
        self.slot = np.arange(n)  # of the cluster that contains a former one
        self.listed = np.repeat(np.arange(n, dtype=np.int32)[:, None], min(N_LISTED, n - 1), axis=1)
        self.bound = np.zeros(n)  # lower bound of distances that are not listed
        self.nearest = np.arange(n)
        self.distance = np.zeros(n)  # to the nearest
        self.height = np.zeros(n)  # of the last joining
        self.n_threads = n_threads

    def join_all(self, progress: bool) -> list[tuple[Rows, Rows, Floats]]:
        """Join mutual nearest neighbours, round by round; return the slots joined, and at what height."""
        rounds = []
        stale = self.active
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(self.n_threads) as self.pool,
            progress_bar(len(self.active) - 1, "tree", "join", shown=progress) as bar,
        ):
            while len(self.active) > 1:
                self._find_nearest(stale)
                mutual = self.nearest[self.nearest[self.active]] == self.active
                a = self.active[mutual & (self.active < self.nearest[self.active])]
                b = self.nearest[a]
                rounds.append((a, b, self._join(a, b) * self.scale**2))
                touched = np.zeros(len(self.slot), dtype=bool)
                touched[a] = touched[b] = True
                stale = self.active[touched[self.active] | touched[self.nearest[self.active]]]
                bar.update(len(a))
        return rounds

    def _find_nearest(self, rows: Rows) -> None:
        """Find the nearest cluster of each row: on its list, or, if the list is not enough, among all."""
        rows = self._look_up(rows)
        for precision in (np.float32, np.float64):  # the second for distances below the precision of the first
            if len(rows):
                self._list_nearest(rows, precision)
                rows = self._look_up(rows)

    def _look_up(self, rows: Rows) -> Rows:
        """Take the nearest on the list, ties to the lowest slot; return the rows in which it is above the bound."""
        others, distance = self._measure_listed(rows, self.listed[rows])
        least = distance.min(axis=1)
        self.nearest[rows] = np.where(distance == least[:, None], others, len(self.slot)).min(axis=1)
        self.distance[rows] = least
        unsure: Rows = rows[least > self.bound[rows]]
        return unsure

    def _measure_listed(self, rows: Rows, listed: NDArray[np.int32]) -> tuple[Rows, Floats]:
        """Return the present clusters of the listed ones, and their distances; infinite to itself and duplicates."""
        others = self.slot[listed]
        distance = np.empty(others.shape)

        def measure(block: slice) -> None:
            gaps = self.centers[others[block]]
            gaps -= self.centers[rows[block], None]
            a, b = self.sizes[rows[block], None], self.sizes[others[block]]
            distance[block] = 2 * a * b / (a + b) * np.einsum("rkd,rkd->rk", gaps, gaps)
            order = np.argsort(others[block], axis=1, kind="stable")
            ordered = np.take_along_axis(others[block], order, axis=1)
            twin = np.zeros(ordered.shape, dtype=bool)
            np.put_along_axis(twin, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
            distance[block][twin | (others[block] == rows[block, None])] = np.inf

        self._in_blocks(measure, len(rows), others.shape[1] * self.centers.shape[1])
        return others, distance

    def _list_nearest(self, rows: Rows, precision: type[np.floating[Any]]) -> None:
        """Compare rows with all clusters; list the nearest and bound the others."""
        active, n_listed = self.active, min(self.listed.shape[1], len(self.active) - 1)
        n_groups = max(-(-len(active) // SLABS), min(len(active), 4 * n_listed))
        n_slabs = -(-len(active) // n_groups)
        width = n_groups * n_slabs
        centers = self.centers.astype(precision)
        norms = np.einsum("nd,nd->n", centers, centers)
        right = np.zeros((width, centers.shape[1] + 2), dtype=precision)  # |x|² + |y|² - 2 x·y as one product
        right[: len(active), :-2], right[: len(active), -2], right[:, -1] = centers[active], norms[active], 1
        right[len(active) :, -2] = np.finfo(precision).max / 2**70
        sizes = np.ones(width, dtype=precision)
        sizes[: len(active)] = self.sizes[active]
        position = np.empty(len(self.slot), dtype=np.intp)
        position[active] = np.arange(len(active))
        slack = 4 * right.shape[1] * np.finfo(precision).eps * float(norms[active].max())  # rounding of a product
        rows = rows[np.argsort(self.sizes[rows], kind="stable")]

        def compare(block: slice) -> None:
            own = rows[block]
            of, size = np.arange(len(own))[:, None], self.sizes[own].astype(precision)
            left = np.column_stack([-2 * centers[own], np.ones_like(size), norms[own]])
            distance = left @ right.T
            for start, stop in _runs(size):
                distance[start:stop] *= 2 * size[start] * sizes / (size[start] + sizes)
            distance[of[:, 0], position[own]] = np.inf
            least = distance.reshape(len(own), n_slabs, n_groups).min(axis=1)
            groups = _least(least, n_listed + 1)
            near = (groups[:, :, None] + n_groups * np.arange(n_slabs)).reshape(len(own), -1)
            near = near[of, _least(distance[of, near], n_listed + 1)]
            reach = distance[of, near]
            order = np.argsort(reach, axis=1)[:, : n_listed + 1]
            near, reach = near[of, order], reach[of, order].astype(np.float64)
            self.listed[own] = own[:, None]
            self.listed[own, :n_listed] = active[near[:, :n_listed]]
            most = sizes[: len(active)].max()
            self.bound[own] = np.inf
            if n_listed < len(active) - 1:
                self.bound[own] = reach[:, n_listed] - slack * 2 * size * most / (size + most)

        self._in_blocks(compare, len(rows), width)

    def _join(self, a: Rows, b: Rows) -> Floats:
        """Join clusters b to a; return the squared heights."""
        sizes_a, sizes_b, distance = self.sizes[a], self.sizes[b], self.distance[a]
        union = sizes_a + sizes_b
        # Lance-Williams: the least distance of the union to clusters, of any size, outside both lists
        small = (sizes_a * self.bound[a] + sizes_b * self.bound[b]) / union
        bound = np.minimum(small, self.bound[a] + self.bound[b] - distance)
        self.centers[a] += (sizes_b / union)[:, None] * (self.centers[b] - self.centers[a])
        self.sizes[a] = union
        self.slot[b] = a
        self.slot = self.slot[self.slot]
        others, reach = self._measure_listed(a, np.concatenate([self.listed[a], self.listed[b]], axis=1))
        order = np.argsort(reach, axis=1, kind="stable")
        n_listed = self.listed.shape[1]
        self.listed[a] = np.take_along_axis(others, order, axis=1)[:, :n_listed]
        self.bound[a] = np.minimum(bound, np.take_along_axis(reach, order, axis=1)[:, n_listed])
        self.active = self.active[self.slot[self.active] == self.active]
        self.height[a] = np.maximum(distance, np.maximum(self.height[a], self.height[b]))  # whatever the rounding
        return self.height[a]

    def _in_blocks(self, work: Callable[[slice], None], n: int, width: int) -> None:
        step = max(1, min(BLOCK // width, -(-n // self.n_threads)))
        list(self.pool.map(work, (slice(start, start + step) for start in range(0, n, step))))


def _runs(values: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the starts and stops of runs of equal values."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _least(values: NDArray[Any], n: int) -> NDArray[np.intp]:
    """Return the columns of the n smallest values of each row, in any order."""
    n = min(n, values.shape[1])
    return np.argpartition(values, n - 1, axis=1)[:, :n]


def _join_copies(first: Rows, which: Rows) -> tuple[Rows, Rows, Floats]:
    """Join points that are equal, at height 0, to the first of them."""
    copies = np.setdiff1d(np.arange(len(which)), first)
    return first[which[copies]], copies, np.zeros(len(copies))


def _number_clusters(a: Rows, b: Rows, height: Floats, n: int) -> Floats:
    """Sort the joins and number the clusters as scipy does."""
    linkage = np.empty((n - 1, 4))
    number, size = np.arange(n), np.ones(n)
    for row, joined in enumerate(np.argsort(height, kind="stable")):
        left, right = a[joined], b[joined]
        size[left] += size[right]
        low, high = sorted((number[left], number[right]))
        linkage[row] = low, high, height[joined], size[left]
        number[left] = n + row
    return linkage
