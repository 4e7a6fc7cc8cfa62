"""All parallelograms among points, exactly.

Two relations are alike, x₁ - y₁ ≈ x₂ - y₂, just where two sums are: x₁ + y₂ ≈ x₂ + y₁. So every parallelogram is a pair
of unordered pairs of points, its diagonals, with nearly one sum: it is met once, in both directions, and both ways to
read it as relations are the same find. What is sought is every two sums within ε of each other. They are laid into
the cells of a k-d tree; on the way down each node keeps the sums that lie within ε of its box, a cell is compared with
the few that are left, as a matrix product in single precision, and what is near enough is measured again in double.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from plankton_embed.output import progress_bar

CELL = 64  # sums at most
LEADING = 8  # axes that are looked at first
TASKS = 256  # parts of the search
CANCELLED = 1e-6  # of the largest squared norm; below, squared distances by scalar products have lost their digits
BLOCK = 2**22  # distances held in memory at a time, a thread

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parallelograms:
    """Four different points each, (m,): a and b end one diagonal, c and d the other; ‖a + b - c - d‖ is `distance`."""

    a: Rows
    b: Rows
    c: Rows
    d: Rows
    distance: Floats


def find_parallelograms(
    points: NDArray[np.floating], epsilon: float, *, n_threads: int | None = None, progress: bool = True
) -> Iterator[Parallelograms]:
    """Yield all parallelograms whose sides differ by at most ε, block by block, each once (a < b, c < d, a < c).

    Args:
        points: (n, d), finite.
        epsilon: largest ‖(x₁ - y₁) - (x₂ - y₂)‖.
        n_threads: by default one a core.
        progress: show a bar.
    """
    centered = np.asarray(points, dtype=np.float64)
    centered = centered - centered.mean(axis=0)
    centered = centered @ np.linalg.svd(centered, full_matrices=False)[2].T  # widest axis first
    search = _Search(centered, epsilon)
    n_threads = n_threads or os.cpu_count() or 1
    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(n_threads) as pool,
        progress_bar(len(search.sums), "relations", "pair", shown=progress) as bar,
    ):
        tasks = search.divide(0, len(search.sums), np.arange(len(search.sums)), TASKS)
        for start in range(0, len(tasks), 2 * n_threads):  # in blocks, so that what is found does not pile up
            block = tasks[start : start + 2 * n_threads]
            for (low, high, _), found in zip(block, pool.map(search.compare, block), strict=True):
                yield from found
                bar.update(high - low)


class _Search:
    """The sums of all pairs, in the order of a k-d tree whose nodes are ranges, each divided at its middle."""

    def __init__(self, points: Floats, epsilon: float):
        first, second = np.triu_indices(len(points), 1)
        sums = (points[first] + points[second]).astype(np.float32)
        order = _order_by_halves(sums)
        self.sums, self.first, self.second = sums[order], first[order], second[order]
        self.leading = np.ascontiguousarray(self.sums[:, :LEADING])
        self.norms = np.einsum("nd,nd->n", self.sums, self.sums)
        self.points, self.gram = points, points @ points.T
        self.epsilon = epsilon
        rounding = 8 * points.shape[1] * np.finfo(np.float32).eps * float(self.norms.max(initial=0.0))
        self.reach = np.float32(epsilon**2 + rounding)

    def divide(self, low: int, high: int, near: Rows, n_parts: int) -> list[tuple[int, int, Rows]]:
        """Return the ranges of a node's parts, each with the sums from its first on that lie near its box."""
        near = self._keep_near(low, high, near[np.searchsorted(near, low) :])
        if n_parts == 1 or high - low <= CELL:
            return [(low, high, near)]
        middle = (low + high) // 2
        return self.divide(low, middle, near, n_parts // 2) + self.divide(middle, high, near, n_parts // 2)

    def compare(self, task: tuple[int, int, Rows]) -> list[Parallelograms]:
        """Compare the sums of a node with those near it, cell by cell."""
        low, high, near = task
        if high - low > CELL:
            return [found for part in self.divide(low, high, near, 2) for found in self.compare(part)]
        found = []
        step = max(1, BLOCK // max(high - low, 1))
        for start in range(0, len(near), step):
            other = near[start : start + step]
            squared = self.norms[low:high, None] + self.norms[other] - 2 * (self.sums[low:high] @ self.sums[other].T)
            p, q = np.nonzero(squared <= self.reach)
            p, q = p + low, other[q]
            once = p < q
            found.append(self._measure(p[once], q[once]))
        return found

    def _keep_near(self, low: int, high: int, near: Rows) -> Rows:
        """Keep the sums that lie within reach of the box around a node: by the leading axes, then by all."""
        for sums in (self.leading, self.sums):
            own = sums[low:high]
            others = sums[near]
            others -= np.clip(others, own.min(axis=0), own.max(axis=0))
            near = near[np.einsum("nd,nd->n", others, others) <= self.reach]
        return near

    def _measure(self, p: Rows, q: Rows) -> Parallelograms:
        """Keep pairs of sums of four different points whose distance, in double precision, is at most ε."""
        swap = self.first[p] > self.first[q]
        p, q = np.where(swap, q, p), np.where(swap, p, q)
        a, b, c, d = self.first[p], self.second[p], self.first[q], self.second[q]
        gram, own = self.gram, self.gram.diagonal()
        squared = own[a] + own[b] + own[c] + own[d] + 2 * (gram[a, b] + gram[c, d])
        squared -= 2 * (gram[a, c] + gram[a, d] + gram[b, c] + gram[b, d])
        near = np.flatnonzero(squared < CANCELLED * own.max(initial=0.0))
        sides = self.points[a[near]] + self.points[b[near]] - self.points[c[near]] - self.points[d[near]]
        squared[near] = np.einsum("nd,nd->n", sides, sides)
        distance = np.sqrt(squared)
        keep = (distance <= self.epsilon) & (a != c) & (b != d) & (b != c)
        return Parallelograms(a[keep], b[keep], c[keep], d[keep], distance[keep])


def _order_by_halves(sums: NDArray[np.float32]) -> Rows:
    """Return the order in which every range, divided at its middle, is divided along its widest axis."""
    order, waiting = np.arange(len(sums)), [(0, len(sums))]
    while waiting:
        low, high = waiting.pop()
        if high - low > CELL:
            rows, middle = order[low:high], (low + high) // 2
            some = sums[rows[:: max(1, len(rows) // 4096)]]
            axis = int(np.ptp(some, axis=0).argmax())
            order[low:high] = rows[np.argpartition(sums[rows, axis], middle - low)]
            waiting += [(low, middle), (middle, high)]
    return order
