"""Repeated relations between images: x₁ is to y₁ as x₂ is to y₂."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.parallelograms import Parallelograms, ParallelogramSearch
from plankton_embed.errors import InputError, SettingError
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

LIMIT = 10_000
N_SHUFFLES = 99
MOST_SHUFFLED = 50_000_000  # relations counted in all shuffles together
BLOCK = 2**18  # relations gathered at a time
LONG = 180.0  # seconds: a longer search is announced as a warning
N_TRIES = 4  # searches, each with an epsilon 25 % larger, to reach the limit
SAME_POINT = 1e-6  # of the widest distance from the mean: images nearer than this are copies
ANALOGY_COLUMNS = ("x1", "y1", "x2", "y2", "n_classes", "support", "expected", "p_value", "p_any")
WINDOW = range(2, 11)  # steps in the order of length that the report of 2019 compares

Definition = Literal["exact", "window_2019"]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class Relations(Shown):
    """Pairs of similar relations.

    Attributes:
        table: the images compared.
        epsilon: maximum ‖(x₁ - y₁) - (x₂ - y₂)‖, as given or as chosen.
        n_found: number of pairs.
        best: the pairs with the smallest `relative` distance: `x1`, `y1`, `x2`, `y2` (rows of `table`), `distance`,
            `length` (mean of the two relations), `relative` (the distance over the length of the shorter of the two
            ways to read a parallelogram: x₁ → y₁ as x₂ → y₂, or x₁ → x₂ as y₁ → y₂; inf, so last, if that joins two
            copies).
        analogies: the pairs by class: `x1`, `y1`, `x2`, `y2` (class names), `n_classes` (number of different classes;
            with two, one relation is repeated), `support` (number of pairs), `expected` (mean support after shuffling
            the labels), `p_value` (share of shuffles, the true labels included, with a support as high), `p_any` (the
            same for the highest support of all analogies of as many classes); of very many relations a random part is
            shuffled.
    """

    table: EmbeddingTable
    epsilon: float
    n_found: int
    best: pd.DataFrame
    analogies: pd.DataFrame

    def _describe(self) -> str:
        return f"{self.n_found:,} repeated relations among {len(self.table):,} images, epsilon {self.epsilon:.3g}"

    def _preview(self) -> pd.DataFrame:
        return self.analogies


def find_relations(
    table: EmbeddingTable,
    epsilon: float | None = None,
    *,
    different_classes: bool | None = None,
    definition: Definition = "exact",
    limit: int = LIMIT,
    n_shuffles: int = N_SHUFFLES,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = True,
) -> Relations:
    """Find every pair of similar relations between four different images.

    The number of pairs and the time of the search are estimated from a sample and logged before it starts.

    Args:
        table: images; time and memory grow with the fourth and the second power of their number, so give at most 2,000.
            Images without label are left out if others have one.
        epsilon: maximum ‖(x₁ - y₁) - (x₂ - y₂)‖; by default the smallest with which `limit` relations are found (more,
            if that is below a millionth of the largest distance from the mean). In that case only one of the images
            with equal vectors is compared: copies alone could exceed every limit.
        different_classes: require two classes at the ends of both relations; by default if the images have labels.
        definition: `exact`, or `window_2019`: relations compared with the 2nd to 10th next in the order of their
            length, as the report of 2019 did, which misses nearly all.
        limit: number of best relations that are kept; all are counted.
        n_shuffles: number of shuffles of the labels.
        seed: of the shuffles and of the sample.
        n_threads: by default one per core.
        progress: show bars.

    Raises:
        InputError: fewer than four images; or with different classes, fewer than two classes, or, if ε is to be chosen,
            a single image outside the largest class.
        SettingError: ε, limit or definition cannot be used.
    """
    if epsilon is not None and not (np.isfinite(epsilon) and epsilon > 0):
        raise SettingError(f"epsilon: expected a distance above 0; found {epsilon}")
    if limit < 1 or n_shuffles < 0:
        raise SettingError(f"expected a limit of at least 1 and shuffles of at least 0; found {limit} and {n_shuffles}")
    if definition not in get_args(Definition):
        raise SettingError(f"definition: expected {' or '.join(get_args(Definition))}; found {definition!r}")
    if different_classes is None:
        different_classes = bool(table.is_labelled.any())
    table = keep_labelled(table)
    if epsilon is None:
        table = _drop_copies(table)
    if different_classes and len(table.classes) < 2:
        raise InputError(f"relations between classes need at least 2 of them; found {len(table.classes)}")
    if len(table) < 4:
        raise InputError(f"two relations need four images; found {len(table)}")
    if epsilon is None and different_classes and len(table) - np.unique(table.label, return_counts=True)[1].max() < 2:
        raise InputError("no relation between classes can be repeated: all images except one are of one class")
    points = table.vectors.astype(np.float64)
    classes = np.array(table.classes or ["unlabelled"])
    codes = np.searchsorted(classes, table.label.astype(str)) if table.is_labelled.all() else None
    ends = codes if different_classes else None
    least = SAME_POINT * float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())

    def start() -> tuple[_Gatherer, _AnalogyCounter | None]:
        counter = None if codes is None else _AnalogyCounter(codes, len(classes), n_shuffles, seed)
        return _Gatherer(points, ends, limit, least), counter

    found: Iterable[Parallelograms]
    if definition == "exact":
        search = _Search(ParallelogramSearch(points, n_threads), ends, np.random.default_rng(seed), progress)
        search.seconds_each = _time_gathering(*start(), len(points))
        epsilon, found = search.choose(limit, least) if epsilon is None else search.within(epsilon)
    else:
        found = [find_in_window(points, np.inf if epsilon is None else epsilon)]
        if epsilon is None:
            epsilon, found = _keep_nearest(found, limit, ends, least)
    gatherer, counter = start()
    for block in _gather_blocks(found):
        gatherer.add(block)
        if counter is not None:
            counter.add(block)
    analogies = pd.DataFrame(columns=ANALOGY_COLUMNS) if counter is None else counter.table(classes, progress)
    return Relations(table, epsilon, gatherer.n_found, gatherer.best, analogies)


def keep_labelled(table: EmbeddingTable) -> EmbeddingTable:
    """Leave out the images without label if others have one."""
    labelled = table.is_labelled
    if labelled.all() or not labelled.any():
        return table
    logger.warning("%d images have no label and are left out", int((~labelled).sum()))
    return table.select(labelled)


def _drop_copies(table: EmbeddingTable) -> EmbeddingTable:
    """Keep the first of images with equal vectors."""
    first = np.sort(np.unique(table.vectors, axis=0, return_index=True)[1])
    if len(first) == len(table):
        return table
    logger.warning(
        "%d of %d images have the same vector as an earlier one and are left out; give an epsilon to keep all",
        *(len(table) - len(first), len(table)),
    )
    return table.select(first)


class _Search:
    """Logs what is expected, then searches; chooses ε if none is given."""

    def __init__(self, search: ParallelogramSearch, codes: Rows | None, rng: np.random.Generator, progress: bool):
        self.search, self.codes, self.rng, self.progress = search, codes, rng, progress
        self.seconds_each = 0.0  # to gather one pair

    def within(self, epsilon: float) -> tuple[float, Iterable[Parallelograms]]:
        """Return ε, and all parallelograms within it."""
        self._announce(epsilon, self.search.estimate_count(epsilon, self._are_readable, self.rng))
        return epsilon, self.search.find(epsilon, progress=self.progress)

    def choose(self, limit: int, least: float) -> tuple[float, Iterable[Parallelograms]]:
        """Return the smallest ε, at least `least`, with which `limit` are found, and all parallelograms within it."""
        bound, expected = self.search.bound_least(limit, self._are_readable, self.rng)
        if np.isinf(bound) and not self.search.samples_all:  # few can be read: search as far as for any
            logger.warning("there are few relations between classes, so fewer than %d may be found", limit)
            bound, _ = self.search.bound_least(limit, lambda found: np.ones(len(found.a), dtype=bool), self.rng)
            return self.within(max(bound, least))
        if bound <= least:
            return self.within(least)
        widest = 2.001 * self.search.longest  # no two sums are farther apart
        bound = min(bound, widest)
        self._announce(bound, expected)
        for _ in range(N_TRIES):
            chosen, found = _keep_nearest(self.search.find(bound, progress=self.progress), limit, self.codes, least)
            n_found = sum(len(block.a) for block in found)
            if n_found >= limit or bound == widest:
                break
            bound, chosen = min(1.25 * bound, widest), bound  # the sample had more than the rest
        logger.info("epsilon: %.6g, chosen so that %d relations are found", chosen, n_found)
        return chosen, found

    def _are_readable(self, found: Parallelograms) -> NDArray[np.bool_]:
        return np.logical_or(*_are_readable(found, self.codes))

    def _announce(self, epsilon: float, expected: float) -> None:
        """Log the expected number of relations and the time of the search."""
        seconds = self.search.estimate_seconds(epsilon, self.rng) + expected * self.seconds_each
        logger.log(
            logging.WARNING if seconds > LONG else logging.INFO,
            "relations: of %d images, differences up to epsilon %.4g: approximately %s pairs, %s%s",
            *(len(self.search.points), epsilon, f"{float(f'{expected:.2g}'):,.0f}"),
            f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min",
            "; a smaller epsilon or fewer images take less" if seconds > LONG else "",
        )


def _time_gathering(gatherer: _Gatherer, counter: _AnalogyCounter | None, n_points: int) -> float:
    """Return the seconds that gathering takes per pair."""
    a, b, c, d = np.random.default_rng(0).integers(n_points, size=(4, BLOCK // 4))
    block = Parallelograms(a, b, c, d, np.ones(BLOCK // 4))
    before = perf_counter()
    gatherer.add(block)
    if counter is not None:
        counter.add(block)
    return (perf_counter() - before) / len(block.a)


def _keep_nearest(
    blocks: Iterable[Parallelograms], n: int, codes: Rows | None, least: float
) -> tuple[float, list[Parallelograms]]:
    """Return the distance of the n-th nearest that can be read (the last if there are fewer), and all up to it.

    The distance is at least `least`.
    """
    none = np.zeros(0, dtype=np.intp)
    nearest, reach = Parallelograms(none, none, none, none, np.zeros(0)), least
    for block in _gather_blocks(blocks):
        readable = np.logical_or(*_are_readable(block, codes))
        near = readable if len(nearest.a) < n else readable & (block.distance <= reach)
        nearest = _join_blocks([nearest, block.select(near)])
        last = min(n, len(nearest.a)) - 1
        if last >= 0:
            reach = max(float(np.partition(nearest.distance, last)[last]), least)
            nearest = nearest.select(nearest.distance <= reach)
    return reach, [nearest]


def find_in_window(points: NDArray[np.float64], epsilon: float) -> Parallelograms:
    """Compare relations with the 2nd to 10th next in the order of their length, as the report of 2019 did."""
    first, second = np.triu_indices(len(points), 1)
    gaps = points[first] - points[second]
    turned = gaps[:, 0] < 0
    gaps[turned] *= -1
    x, y = np.where(turned, second, first), np.where(turned, first, second)
    order = np.argsort(np.linalg.norm(gaps, axis=1), kind="stable")
    parts = []
    for step in WINDOW:
        p, q = order[:-step], order[step:]
        distance = np.linalg.norm(gaps[p] - gaps[q], axis=1)
        near = distance <= epsilon
        parts.append((x[p[near]], y[q[near]], y[p[near]], x[q[near]], distance[near]))
    return _sort_ends(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _sort_ends(a: Rows, b: Rows, c: Rows, d: Rows, distance: NDArray[np.float64]) -> Parallelograms:
    """Return the parallelograms of four different points, each once."""
    a, b, c, d = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    swap = a > c
    a, b, c, d = np.where(swap, c, a), np.where(swap, d, b), np.where(swap, a, c), np.where(swap, b, d)
    keep = (a != b) & (c != d) & (a != c) & (b != d) & (b != c)
    _, once = np.unique(np.column_stack([a, b, c, d])[keep], axis=0, return_index=True)
    rows = np.flatnonzero(keep)[once]
    return Parallelograms(a[rows], b[rows], c[rows], d[rows], distance[rows])


def _gather_blocks(found: Iterable[Parallelograms]) -> Iterator[Parallelograms]:
    """Join small blocks to larger ones."""
    waiting: list[Parallelograms] = []
    n_waiting = 0
    for block in found:
        waiting.append(block)
        n_waiting += len(block.a)
        if n_waiting >= BLOCK:
            yield _join_blocks(waiting)
            waiting, n_waiting = [], 0
    if n_waiting:
        yield _join_blocks(waiting)


def _join_blocks(blocks: list[Parallelograms]) -> Parallelograms:
    columns = [field.name for field in fields(Parallelograms)]
    return Parallelograms(*(np.concatenate([getattr(block, name) for block in blocks]) for name in columns))


class _Gatherer:
    """Counts the parallelograms found, and keeps the best."""

    def __init__(self, points: NDArray[np.float64], codes: Rows | None, limit: int, least: float):
        self.points, self.codes, self.limit, self.least = points, codes, limit, least
        self.n_found = 0
        self._best = pd.DataFrame(columns=["x1", "y1", "x2", "y2", "distance", "length", "relative"], dtype=float)

    def add(self, found: Parallelograms) -> None:
        """Add a block."""
        one, other = _are_readable(found, self.codes)
        self.n_found += int((one | other).sum())
        lengths = [
            (self._length(found.a, u) + self._length(v, found.b)) / 2
            for u, v in ((found.c, found.d), (found.d, found.c))
        ]
        # x1 → y1 as x2 → y2 is a → c as d → b, or a → d as c → b: the longer, if both can be read
        first = one & (~other | (lengths[0] >= lengths[1]))
        shorter = np.maximum(np.minimum(*lengths), np.finfo(float).tiny)
        frame = pd.DataFrame(
            {
                "x1": found.a,
                "y1": np.where(first, found.c, found.d),
                "x2": np.where(first, found.d, found.c),
                "y2": found.b,
                "distance": found.distance,
                "length": np.where(first, *lengths),
                "relative": np.where(shorter > self.least, found.distance / shorter, np.inf),
            }
        )[one | other]
        self._best = pd.concat([self._best, frame]) if len(self._best) else frame
        if len(self._best) > 4 * self.limit:
            self._best = self.best

    @property
    def best(self) -> pd.DataFrame:
        """The best so far, best first."""
        return self._best.nsmallest(self.limit, "relative").reset_index(drop=True)

    def _length(self, x: Rows, y: Rows) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(self.points[x] - self.points[y], axis=1))


def _are_readable(found: Parallelograms, codes: Rows | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each can be read as a → c like d → b, and as a → d like c → b; without classes always."""
    if codes is None:
        return np.ones(len(found.a), dtype=bool), np.ones(len(found.a), dtype=bool)
    return _lead_elsewhere(*(codes[ends] for ends in (found.a, found.b, found.c, found.d)))


def _lead_elsewhere(a: Rows, b: Rows, c: Rows, d: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether a → c and d → b, and whether a → d and c → b, both lead from one class to another."""
    return (a != c) & (d != b), (a != d) & (c != b)


class _AnalogyCounter:
    """Counts the parallelograms by class, and counts a random part of them again with shuffled labels.

    Of very many parallelograms a random part is kept; it is counted with the true labels and with shuffled ones, so
    that the two counts can be compared.
    """

    def __init__(self, codes: Rows, n_classes: int, n_shuffles: int, seed: int):
        self.codes, self.n_classes, self.n_shuffles = codes, n_classes, n_shuffles
        self.rng = np.random.default_rng(seed)
        self.share, self.most = 1.0, MOST_SHUFFLED // max(n_shuffles, 1)
        self.few = np.zeros((0, 4), dtype=np.int32)
        self.keys, self.support = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def add(self, found: Parallelograms) -> None:
        """Add a block."""
        corners = np.column_stack([found.a, found.b, found.c, found.d]).astype(np.int32)
        keys, counts = self._count(corners, self.codes)
        both, which = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        self.support = np.bincount(which, np.concatenate([self.support, counts]), len(both)).astype(np.int64)
        self.keys = both
        self.few = np.concatenate([self.few, self._draw(corners, self.share)])
        while len(self.few) > self.most:
            self.share /= 2
            self.few = self._draw(self.few, 0.5)

    def table(self, classes: NDArray[np.str_], progress: bool) -> pd.DataFrame:
        """Return the analogies, those between most classes first, then those with the lowest p-values."""
        kinds = _count_different(self.keys, self.n_classes)
        seen = self._align(*self._count(self.few, self.codes))
        total, as_high, any_as_high = np.zeros(len(seen)), np.ones(len(seen)), np.ones(len(seen))
        for _ in progress_bar(range(self.n_shuffles), "shuffled labels", "shuffle", shown=progress):
            keys, counts = self._count(self.few, self.rng.permutation(self.codes))
            most = np.zeros(5)
            np.maximum.at(most, _count_different(keys, self.n_classes), counts)
            drawn = self._align(keys, counts)
            total += drawn
            as_high += drawn >= seen
            any_as_high += most[kinds] >= seen
        a, b, c, d = _decode(self.keys, self.n_classes)
        one, _ = _lead_elsewhere(a, b, c, d)
        n = self.n_shuffles or np.nan  # nan without shuffles
        columns = [
            *(classes[a], classes[np.where(one, c, d)], classes[np.where(one, d, c)], classes[b], kinds, self.support),
            *(total / n / self.share, as_high / (n + 1), any_as_high / (n + 1)),
        ]
        table = pd.DataFrame(dict(zip(ANALOGY_COLUMNS, columns, strict=True)))
        order = ["n_classes", "p_any", "p_value", "support"]
        return table.sort_values(order, ascending=[False, True, True, False], ignore_index=True)

    def _count(self, corners: NDArray[np.int32], codes: Rows) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        keys = _encode_analogies(codes[corners], self.n_classes)
        return np.unique(keys[keys >= 0], return_counts=True)

    def _align(self, keys: NDArray[np.int64], counts: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the counts in the order of `self.keys`."""
        _, position, there = np.intersect1d(self.keys, keys, assume_unique=True, return_indices=True)
        aligned = np.zeros(len(self.keys), dtype=np.intp)
        aligned[position] = counts[there]
        return aligned

    def _draw(self, corners: NDArray[np.int32], share: float) -> NDArray[np.int32]:
        return corners if share == 1 else corners[self.rng.random(len(corners)) < share]


def _encode_analogies(corners: Rows, n_classes: int) -> NDArray[np.int64]:
    """Return one number for the classes of each parallelogram, however it is turned; -1 if it cannot be read."""
    a, b = corners[:, :2].min(axis=1), corners[:, :2].max(axis=1)
    c, d = corners[:, 2:].min(axis=1), corners[:, 2:].max(axis=1)
    one, other = _lead_elsewhere(a, b, c, d)
    first, second = a * n_classes + b, c * n_classes + d
    key = np.minimum(first, second) * n_classes**2 + np.maximum(first, second)
    return np.where(one | other, key, -1)


def _decode(keys: NDArray[np.int64], n_classes: int) -> tuple[Rows, Rows, Rows, Rows]:
    """Return the classes of the four corners."""
    return keys // n_classes**3, keys // n_classes**2 % n_classes, keys // n_classes % n_classes, keys % n_classes


def _count_different(keys: NDArray[np.int64], n_classes: int) -> Rows:
    """Return the number of different classes of the corners, 2 to 4."""
    corners = np.sort(np.column_stack(_decode(keys, n_classes)), axis=1)
    return np.asarray(1 + (np.diff(corners, axis=1) > 0).sum(axis=1))


def complete_analogy(table: EmbeddingTable, a: str, b: str, c: str, k: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer "a is to b as c is to ?": return the classes and images nearest to c + (b - a).

    Args:
        table: images.
        a, b, c: class names (of their means) if there are labels, or object ids.
        k: number of classes and of images.

    Returns:
        Two frames, nearest first: classes (`label`, `distance` of the mean), without a, b and c; and images
        (`object_id`, `label`, `path`, `distance`), without a, b and c.

    Raises:
        InputError: a name is neither a class nor an object id.
        SettingError: k is below 1.
    """
    if k < 1:
        raise SettingError(f"k: expected at least 1; found {k}")
    means = average_classes(table) if table.is_labelled.any() else table.select(np.zeros(0, dtype=np.intp))
    ids = {name: row for row, name in enumerate(table.object_id)}
    names = {name: row for row, name in enumerate(means.object_id)}
    corners = []
    for name in (a, b, c):
        if name not in names and name not in ids:
            classes = ", ".join(names) or "none, without labels"
            raise InputError(f"{name} is neither a class nor an object_id; the classes: {classes}")
        source, row = (means, names[name]) if name in names else (table, ids[name])
        corners.append(source.vectors[row].astype(np.float64))
    target = corners[2] + corners[1] - corners[0]
    to_classes = np.linalg.norm(means.vectors - target, axis=1)
    to_images = np.linalg.norm(table.vectors - target, axis=1)
    by_class = pd.DataFrame({"label": means.object_id, "distance": to_classes})
    by_image = pd.DataFrame(
        {"object_id": table.object_id, "label": table.label, "path": table.path, "distance": to_images}
    )
    by_class = by_class[~by_class["label"].isin([a, b, c])]
    by_image = by_image[~by_image["object_id"].isin([a, b, c])]
    return tuple(frame.nsmallest(k, "distance").reset_index(drop=True) for frame in (by_class, by_image))  # type: ignore[return-value]
