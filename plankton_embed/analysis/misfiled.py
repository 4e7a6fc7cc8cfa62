"""Groups of similar images that may all have the same wrong label."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import ward
from scipy.spatial.distance import cdist
from sklearn.cluster import DBSCAN

from plankton_embed.images.balance import draw_per_class
from plankton_embed.images.workers import count_cores
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import Neighbors, VectorIndex

LEAST_IMAGES = 10  # of a group, and outside it in its class
MOST_SHARE = 2 / 3  # of a class: a larger group is the class itself
LEAST_EVIDENCE = 1.0  # approximately of 20 images with half their neighbours outside and their class twice as far
LEAST_CLASSES = 8  # for the usual evidence of the best groups
MOST_DRAWN = 2000  # images of a class in which groups are searched; the others join the group of their nearest one
MOST_EXACT = 50_000  # vectors; among more, neighbours are searched in the nearest cells only
SAME = 1e-3  # distance up to which two vectors count as those of one image, embedded twice
N_NEAREST, KTH = 10, 5  # for the share of neighbours outside, and for distances
N_SEARCHED = 50  # neighbours, including the nearest of other classes
TINY = np.finfo(np.float32).eps
COLUMNS = ["group", "code", "guess", "n_images", "n_of_class", "evidence"]

Rows = NDArray[np.intp]


def find_misfiled_groups(
    table: EmbeddingTable, codes: Rows, seed: int = 0
) -> tuple[pd.DataFrame, Rows, str | None, float | None]:
    """Find groups of similar images that are far from the rest of their class and near images of another class.

    The neighbours of a single wrong label have other labels. If many similar images have the same wrong label, their
    neighbours have it too. The images of each class are joined by Ward's method, and every branch (10 images to two
    thirds of its class) gets an evidence, the product of five numbers: the mean log ratio of the distance to the rest
    of its class and the distance to its own images and those of other classes (5th nearest of each; the mean of the
    latter two); the share of its images' 10 nearest neighbours that are outside the branch; the square root of the
    share of the commonest other class among their neighbours of other classes; the logarithm of its number of images;
    and how well the branch is mixed with that class: the distances within the branch and within the class over those
    between the two (geometric means; 1 at most), since wrongly labelled images are as near to the images of their true
    class as these are to each other.

    Groups are reported if their evidence is far above the best evidence of the other classes of 20 images or more:
    above their third quartile plus 3 interquartile ranges (far out; Tukey 1977, Exploratory Data Analysis), and above
    1. With fewer than 8 such classes groups are not searched. Copies of one image within a class count as one image.

    Args:
        table: labelled images, (n, d).
        codes: (n,) their classes.
        seed: seed of the draw from classes with more than 2,000 images.

    Returns:
        One row per group, the strongest evidence first: `group` (from 1), `code`, `guess` (the code of the commonest
        other class among its neighbours), `n_images`, `n_of_class`, `evidence`. The group of each image (n,), 0 for
        none. The reason why groups were not searched; None if they were. The recall of the neighbours (see
        `build_index`).
    """
    n_classes = int(codes.max()) + 1
    drawn = _draw(table.vectors, codes, seed)
    vectors, drawn_codes = table.vectors[drawn], codes[drawn]
    is_large = np.bincount(drawn_codes, minlength=n_classes) >= 2 * LEAST_IMAGES
    if (n := int(is_large.sum())) < LEAST_CLASSES:
        why = f"{LEAST_CLASSES} classes of at least {2 * LEAST_IMAGES} different images are needed; found {n}"
        return pd.DataFrame(columns=COLUMNS), np.zeros(len(codes), dtype=np.intp), why, None
    index, recall = build_index(EmbeddingTable(vectors))
    neighbors = _Neighbors(index.search_others(min(N_SEARCHED, len(drawn) - 1)), drawn_codes)
    judge = partial(_judge_branches, vectors, drawn_codes, neighbors)
    with ThreadPoolExecutor(min(count_cores(), 8)) as pool:  # each needs up to 100 MB
        branches = [branch for found in pool.map(judge, np.flatnonzero(is_large).tolist()) for branch in found]
    best = np.zeros(n_classes)
    for branch in branches:
        best[branch.code] = max(best[branch.code], branch.evidence)
    limit = [_limit(best[is_large & (np.arange(n_classes) != code)]) for code in range(n_classes)]
    group, chosen = np.zeros(len(drawn), dtype=np.intp), list[tuple[int, int, int, float]]()
    for branch in sorted(branches, key=lambda branch: -branch.evidence):
        if branch.evidence > limit[branch.code] and not group[branch.rows].any():
            chosen.append((len(chosen) + 1, branch.code, branch.guess, branch.evidence))
            group[branch.rows] = len(chosen)
    of_image = _join_rest(table.vectors, codes, drawn, group)
    counts, of_class = np.bincount(of_image, minlength=len(chosen) + 1), np.bincount(codes)
    rows = [(i, code, guess, counts[i], of_class[code], evidence) for i, code, guess, evidence in chosen]
    return pd.DataFrame(rows, columns=COLUMNS), of_image, None, recall


def build_index(table: EmbeddingTable) -> tuple[VectorIndex, float | None]:
    """Return an index of the vectors, exact up to 50,000 of them; and its measured recall, None if it is exact."""
    index = VectorIndex.build(table, "flat" if len(table) <= MOST_EXACT else "ivf_flat")
    return index, None if index.kind == "flat" else index.recall


def _draw(vectors: NDArray[np.float32], codes: NDArray[np.intp], seed: int) -> Rows:
    """Return the rows in which groups are searched, sorted; of the copies of an image within a class only one."""
    drawn, kept = draw_per_class(codes, MOST_DRAWN, np.random.default_rng(seed)), list[Rows]()
    for code in np.unique(codes):
        rows = drawn[codes[drawn] == code]
        image = DBSCAN(SAME, min_samples=1).fit_predict(vectors[rows])
        kept.append(rows[np.unique(image, return_index=True)[1]])
    return np.sort(np.concatenate(kept))


@dataclass(frozen=True)
class _Branch:
    code: int
    guess: int
    rows: Rows
    evidence: float


class _Neighbors:
    """Rows and classes (n, k) of the nearest images of each; distance to the 5th of its class, and of others (n,)."""

    def __init__(self, found: Neighbors, codes: NDArray[np.intp]) -> None:
        self.rows, self.codes = found.rows, codes[found.rows]
        self.is_other = self.codes != codes[:, None]
        self.to_own, self.to_others = _fifth(found.distances, ~self.is_other), _fifth(found.distances, self.is_other)


def _fifth(distances: NDArray[np.float32], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of the 5th neighbour that counts; with fewer, the (lower) distance of the last neighbour."""
    counted = counts.cumsum(axis=1)
    rank = np.where(counted[:, -1] >= KTH, (counted >= KTH).argmax(axis=1), -1)
    return np.maximum(distances[np.arange(len(rank)), rank].astype(np.float64), TINY)


def _judge_branches(vectors: NDArray[np.float32], codes: Rows, neighbors: _Neighbors, code: int) -> list[_Branch]:
    """Return the branches of one class, with their evidence."""
    rows = np.flatnonzero(codes == code)
    n, distance = len(rows), cdist(vectors[rows], vectors[rows])
    members: list[Rows] = [np.array([number]) for number in range(n)]
    inside, found = np.zeros(len(vectors), dtype=bool), []
    for one, two, _, size in ward(vectors[rows].astype(np.float64)):
        members.append(np.concatenate([members[int(one)], members[int(two)]]))
        if not LEAST_IMAGES <= size <= min(n - LEAST_IMAGES, MOST_SHARE * n):
            continue
        branch = rows[members[-1]]
        others = np.bincount(neighbors.codes[branch][neighbors.is_other[branch]], minlength=1)
        guess = int(others.argmax())
        near = np.unique(neighbors.rows[branch, :N_NEAREST][neighbors.codes[branch, :N_NEAREST] == guess])
        if not (others.any() and len(near)):
            continue
        inside[branch] = True
        outside = (~inside[neighbors.rows[branch, :N_NEAREST]]).mean()
        rest = np.flatnonzero(~inside[rows])
        inside[branch] = False
        to_rest, to_others = _kth(distance[np.ix_(members[-1], rest)], KTH - 1), neighbors.to_others[branch]
        to_own = _kth(distance[np.ix_(members[-1], members[-1])], KTH)  # the nearest is itself
        farther = np.log(2 * to_rest / (to_own + to_others)).mean()
        to_branch = _kth(cdist(vectors[near], vectors[branch]), KTH - 1)
        apart = np.log(to_others / to_own).mean() + np.log(to_branch / neighbors.to_own[near]).mean()
        evidence = farther * outside * np.sqrt(others.max() / others.sum()) * np.log(size) * np.exp(-max(apart, 0))
        found.append(_Branch(code, guess, branch, float(evidence)))
    return found


def _kth(distance: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Return the distance of that rank in each row, counted from 0; never 0."""
    return np.asarray(np.maximum(np.partition(distance, rank, axis=1)[:, rank], TINY))


def _limit(best: NDArray[np.float64]) -> float:
    """Return the evidence that a group must exceed, given the best evidence of each other class."""
    low, high = np.quantile(best, [0.25, 0.75])
    return max(float(high + 3 * (high - low)), LEAST_EVIDENCE)


def _join_rest(vectors: NDArray[np.float32], codes: NDArray[np.intp], drawn: Rows, group: Rows) -> Rows:
    """Return the group of every image: that of the nearest drawn one of its class."""
    of_image = np.zeros(len(vectors), dtype=np.intp)
    of_image[drawn] = group
    rest = np.setdiff1d(np.arange(len(vectors)), drawn)
    for code in np.unique(codes[rest]):
        mine, own = rest[codes[rest] == code], np.flatnonzero(codes[drawn] == code)
        near = VectorIndex.build(EmbeddingTable(vectors[drawn[own]])).search(vectors[mine], 1).rows[:, 0]
        of_image[mine] = group[own[near]]
    return of_image
