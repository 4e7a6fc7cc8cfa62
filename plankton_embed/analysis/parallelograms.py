"""All parallelograms among points, exactly.

Two relations are similar, x₁ - y₁ ≈ x₂ - y₂, exactly if two sums are: x₁ + y₂ ≈ x₂ + y₁. So every parallelogram is a
pair of unordered pairs of points, its diagonals, with nearly the same sum: it is found once, in both directions and for
both ways to read it as relations. The search finds every two sums within ε of each other. The sums are in the cells of
a k-d tree; on the way down each node keeps the sums within ε of its box, a cell is compared with the few that are left,
by a matrix product in single precision, and the near ones are measured again in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from plankton_embed.images.workers import count_cores
from plankton_embed.output import progress_bar

CELL = 64  # sums at most
LEADING = 8  # axes that are compared first
LARGE = 16 * CELL  # sums of a node, above which all axes are compared: below, a full comparison is as cheap
PARTS, TASKS = 16, 256  # of the search: divided by one thread, and by all
CANCELLED = 1e-6  # of the largest squared norm; below, squared distances by scalar products are too inexact
BLOCK = 2**22  # distances in memory at a time, a thread
SAMPLED = 10**8  # pairs of sums for an estimate
ENOUGH = 2 * 10**6  # parallelograms found, after which the rest of the sample is left out
N_DESCENTS, LEAST_DESCENTS, DESCENT_SECONDS = 32, 8, 5.0  # for the estimate of the time

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]
Task = tuple[int, int, Rows]
SINGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Parallelograms:
    """Four different points each, (m,): a and b end one diagonal, c and d the other; ‖a + b - c - d‖ is `distance`."""

    a: Rows
    b: Rows
    c: Rows
    d: Rows
    distance: Floats

    def select(self, rows: Rows | NDArray[np.bool_]) -> Parallelograms:
        """Return some of them."""
        return Parallelograms(self.a[rows], self.b[rows], self.c[rows], self.d[rows], self.distance[rows])


Choose = Callable[[Parallelograms], NDArray[np.bool_]]


class ParallelogramSearch:
    """The sums of all pairs, in the order of a k-d tree whose nodes are ranges, each divided at its middle.

    Args:
        points: (n, d), finite.
        n_threads: by default one per core.
    """

    def __init__(self, points: NDArray[np.floating], n_threads: int | None = None):
        centered = np.asarray(points, dtype=np.float64)
        centered = centered - centered.mean(axis=0)
        self.points = centered @ np.linalg.svd(centered, full_matrices=False)[2].T  # widest axis first
        self.n_threads = n_threads or count_cores()
        first, second = np.triu_indices(len(points), 1)
        sums = (self.points[first] + self.points[second]).astype(np.float32)
        order = _order_by_halves(sums)
        self.sums, self.first, self.second = sums[order], first[order], second[order]
        self.leading = np.ascontiguousarray(self.sums[:, :LEADING])
        self.longest = float(np.linalg.norm(self.sums, axis=1).max(initial=0.0))
        self.gram = self.points @ self.points.T

    @property
    def samples_all(self) -> bool:
        """Whether an estimate compares every two sums."""
        return len(self.sums) ** 2 <= SAMPLED

    def find(self, epsilon: float, *, progress: bool = True) -> Iterator[Parallelograms]:
        """Yield all parallelograms whose sides differ by at most ε, block by block, each once (a < b, c < d, a < c).

        Args:
            epsilon: maximum ‖(x₁ - y₁) - (x₂ - y₂)‖.
            progress: show a bar.
        """
        n = len(self.sums)
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(self.n_threads) as pool,
            progress_bar(n, "relations", "pair", shown=progress) as bar,
        ):
            parts = self._divide((0, n, np.arange(n)), PARTS, epsilon)
            divided = pool.map(lambda part: self._divide(part, TASKS // PARTS, epsilon), parts)
            tasks = [task for part in divided for task in part]
            for start in range(0, len(tasks), 2 * self.n_threads):  # in blocks, to limit memory
                block = tasks[start : start + 2 * self.n_threads]
                compared = pool.map(lambda task: self._compare(task, epsilon), block)
                for (low, high, _), found in zip(block, compared, strict=True):
                    yield from found
                    bar.update(high - low)

    def bound_least(self, n: int, choose: Choose, rng: np.random.Generator) -> tuple[float, float]:
        """Return an ε within which n parallelograms, and a few more, are expected, by a random part of the sums.

        Args:
            n: number of parallelograms.
            choose: which of them are counted.
            rng: of the random part.

        Returns:
            The distance, inf if there are fewer or too few to be found in a sample; and the number expected within.
        """
        rows = self._draw(rng)
        expected = n * 2 * len(rows) / len(self.sums)
        n_kept = int(np.ceil(expected + 3 * np.sqrt(expected) + 5))
        reach, least, n_measured = np.inf, np.zeros(0), 0
        for block in self._blocks(rows):
            if np.isinf(reach) and not self.samples_all and n_measured > 4 * ENOUGH:
                break
            for found in self._measure_near(block, np.arange(len(self.sums)), reach):
                n_measured += len(found.a)
                least = np.concatenate([least, found.distance[choose(found)]])
                if len(least) >= n_kept:
                    least = np.partition(least, n_kept - 1)[:n_kept]
                    reach = float(least.max())
        return reach, len(least) * len(self.sums) / (2 * len(rows))

    def estimate_count(self, epsilon: float, choose: Choose, rng: np.random.Generator) -> float:
        """Estimate the number of parallelograms within ε from a random part of the sums."""
        n_found, n_seen = 0, 0
        for block in self._blocks(self._draw(rng)):
            for found in self._measure_near(block, np.arange(len(self.sums)), epsilon):
                n_found += int(choose(found).sum())
            n_seen += len(block)
            if n_found >= ENOUGH:
                break
        return n_found * len(self.sums) / (2 * max(n_seen, 1))

    def estimate_seconds(self, epsilon: float, rng: np.random.Generator) -> float:
        """Estimate the seconds of `find` by random descents of its tree (Knuth 1975, doi 10.2307/2005469)."""
        n, start = len(self.sums), perf_counter()
        with threadpool_limits(1, "blas"):
            parts = self._divide((0, n, np.arange(n)), PARTS, epsilon)
            divided = perf_counter()
            seconds: list[float] = []
            for part in rng.permutation(np.resize(np.arange(len(parts)), N_DESCENTS)):
                if len(seconds) >= LEAST_DESCENTS and perf_counter() - divided > DESCENT_SECONDS:
                    break
                task, weight, taken = parts[part], 1, 0.0
                while task[1] - task[0] > CELL:
                    before = perf_counter()
                    halves = self._divide(task, 2, epsilon)
                    taken += weight * (perf_counter() - before)
                    task, weight = halves[rng.integers(2)], 2 * weight
                before = perf_counter()
                self._compare(task, epsilon)
                seconds.append(taken + weight * (perf_counter() - before))
        return divided - start + float(np.mean(seconds)) * len(parts) / self.n_threads

    def _draw(self, rng: np.random.Generator) -> Rows:
        n = len(self.sums)
        return rng.permutation(n)[: max(1, SAMPLED // n)]

    def _blocks(self, rows: Rows) -> Iterator[Rows]:
        """Yield one row, and then larger and larger blocks: the first give an upper bound of the distance."""
        start, size = 0, 1
        while start < len(rows):
            yield rows[start : start + size]
            start, size = start + size, min(2 * size, CELL)

    def _divide(self, task: Task, n_parts: int, epsilon: float) -> list[Task]:
        """Return the ranges of a node's parts, each with the sums from its first on that are near its box."""
        low, high, near = task
        near = self._keep_near(low, high, near[np.searchsorted(near, low) :], epsilon)
        if n_parts == 1 or high - low <= CELL:
            return [(low, high, near)]
        middle = (low + high) // 2
        halves = (low, middle, near), (middle, high, near)
        return [part for half in halves for part in self._divide(half, n_parts // 2, epsilon)]

    def _compare(self, task: Task, epsilon: float) -> list[Parallelograms]:
        """Compare the sums of a node with those near it, cell by cell."""
        low, high, near = task
        if high - low > CELL:
            return [found for part in self._divide(task, 2, epsilon) for found in self._compare(part, epsilon)]
        return list(self._measure_near(np.arange(low, high), near, epsilon, once=True))

    def _keep_near(self, low: int, high: int, near: Rows, epsilon: float) -> Rows:
        """Keep the sums that are within reach of the box around a node: by the leading axes, of a large one by all."""
        reach = np.float32((epsilon + SINGLE * self.longest) ** 2 * (1 + 4 * self.sums.shape[1] * SINGLE))
        for sums in (self.leading, self.sums) if high - low > LARGE else (self.leading,):
            own = sums[low:high]
            others = sums[near]
            others -= np.clip(others, own.min(axis=0), own.max(axis=0))
            near = near[np.einsum("nd,nd->n", others, others) <= reach]
        return near

    def _measure_near(self, own: Rows, near: Rows, epsilon: float, once: bool = False) -> Iterator[Parallelograms]:
        """Yield the pairs of some sums and others within ε; `once`: only those with the lower sum first."""
        center = self.sums[own].mean(axis=0)  # close sums have short vectors from here, so little rounding
        left = self.sums[own] - center
        left_norms = np.einsum("nd,nd->n", left, left)
        step = max(1, BLOCK // max(len(own), 1))
        for start in range(0, len(near), step):
            others = near[start : start + step]
            right = self.sums[others] - center
            right_norms = np.einsum("nd,nd->n", right, right)
            largest = float(max(left_norms.max(), right_norms.max()))
            rounding = SINGLE * (self.longest + np.sqrt(largest)), 8 * left.shape[1] * SINGLE * largest
            reach = (epsilon + rounding[0]) ** 2 + rounding[1]
            squared = -2 * left @ right.T
            squared += right_norms
            p, q = np.nonzero(squared <= (reach - left_norms).astype(np.float32)[:, None])
            p, q = own[p], others[q]
            kept = p < q if once else p != q
            if kept.any():
                yield self._measure(p[kept], q[kept], epsilon)

    def _measure(self, p: Rows, q: Rows, epsilon: float) -> Parallelograms:
        """Return the pairs of sums of four different points whose distance, in double precision, is at most ε."""
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
        keep = (distance <= epsilon) & (a != c) & (b != d) & (b != c)
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
