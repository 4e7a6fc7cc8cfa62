"""Choose the images to label next: those whose labels teach most, with images of the same kind beside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plankton_embed.analysis.misfiled import build_index
from plankton_embed.errors import InputError, SettingError
from plankton_embed.notebook import Shown
from plankton_embed.table import EmbeddingTable, class_means
from plankton_embed.vector_index import VectorIndex

NONE, LEFT_OUT = -1, -2  # class index of an image without a label, and of one that is never chosen
N_IMAGES = 100
MOST_TOGETHER = 20  # images of a group: more do not fit on a screen
FIRST_TOGETHER = 2  # images of a group whose kind has no label yet
LEAST_SIMILAR, MOST_SIMILAR, SIMILAR_SHARE = 10, 30, 0.05  # similar images of each that it can teach about
REACH = 1.5  # typical distances up to which a label teaches
AT_ONCE = 128  # images whose worth is computed again at a time
REASONS = ("new", "unsure", "far", "few")
UNSURE_FROM = 0.85  # distance to the nearest class mean over that to the second, from which a guess is unsure

Rows = NDArray[np.intp]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class NextImages(Shown):
    """Images to label, in order; the images of a group are next to each other, the one that teaches most first.

    Attributes:
        rows: (m,) rows of the vectors.
        group: (m,) number of the group, from 1; its images are probably of one kind.
        reason: (m,) why the group was chosen: `new` (its kind has no label yet), `unsure` (two classes are equally
            near), `far` (far from all labelled images, though near the mean of a class) or `few` (its class has few
            labels).
        guess, second: (m,) index of the nearest and the second nearest class mean; -1 if there is none.
    """

    rows: Rows
    group: Rows
    reason: NDArray[np.object_]
    guess: Rows
    second: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def describe_reasons(self, classes: Sequence[str]) -> list[str]:
        """Return the reasons as text, such as `unsure between copepod and shrimp`, given the class names."""
        texts = {"new": "new kind", "unsure": "unsure between {} and {}", "far": "far from labelled {}",
                 "few": "few labels of {}"}  # fmt: skip
        names = [*classes, "none"]  # the last for -1
        triples = zip(self.reason, self.guess.tolist(), self.second.tolist(), strict=True)
        return [texts[reason].format(names[guess], names[second]) for reason, guess, second in triples]

    def _describe(self) -> str:
        return f"{len(self):,} images in {len(np.unique(self.group)):,} groups"


class LabellingQueue:
    """Chooses images to label, again after each label, within a fraction of a second.

    An image teaches about itself and about the images similar to it: about each the more, the farther this image is
    from all labelled ones, the fewer labels the class of its guess has, and the less sure the guess is. Distances count
    up to `REACH` times the typical distance to a similar image. The image that teaches most in all is chosen, as if it
    were labelled then the next one, and so on. So typical images of kinds without label come first (as in TypiClust,
    Hacohen et al. 2022, arXiv 2202.02794), and each kind once (as in k-centre, Sener and Savarese 2018, arXiv
    1708.00489); an outlier, which has no similar images, comes late; and unsure guesses count more where much is
    labelled. A group is the chosen image with the images of the same guess that are nearest to it.

    Args:
        vectors: float32 (n, d), finite.
        label_index: (n,) class index of each label; -1 without label, -2 for images never to choose (deleted ones).
        most_together: images of a group; 1: each kind only once.

    Raises:
        InputError: another shape, or an index below -2.
        SettingError: less than one image of a group.
    """

    def __init__(self, vectors: ArrayLike, label_index: ArrayLike, *, most_together: int = MOST_TOGETHER) -> None:
        if most_together < 1:
            raise SettingError(f"most_together: expected at least 1 image; found {most_together}")
        table = EmbeddingTable(np.asarray(vectors, dtype=np.float32))
        n = len(table)
        self.most_together = most_together
        self._class_of = np.array(label_index, dtype=np.intp)
        if self._class_of.shape != (n,) or (n and self._class_of.min() < LEFT_OUT):
            raise InputError(
                f"label_index: expected {n} class indices, one a vector, -1 without label and -2 if never to choose; "
                f"found shape {self._class_of.shape}"
            )
        k = min(n - 1, max(LEAST_SIMILAR, min(MOST_SIMILAR, round(SIMILAR_SHARE * n))))
        if k > 0:
            found = build_index(table)[0].search_others(k)
            self._similar, self._distance = found.rows, found.distances
        else:
            self._similar, self._distance = np.zeros((n, 0), dtype=np.int64), np.zeros((n, 0), dtype=np.float32)
        self._typical = float(np.median(self._distance[:, -1])) if k > 0 else 1.0  # distance to a similar image
        middle = table.vectors.sum(axis=0, dtype=np.float64) / max(n, 1)  # expanded squares round less around it
        self._vectors: Floats = table.vectors - middle.astype(np.float32)
        self._squares: Floats = np.einsum("nd,nd->n", self._vectors, self._vectors)
        self._gap = np.full(n, np.inf, dtype=np.float32)  # distance to the nearest labelled image
        self._nearest = np.full(n, NONE, dtype=np.intp)  # its row
        labelled = np.flatnonzero(self._class_of > NONE)
        self._gap[labelled], self._nearest[labelled] = 0, labelled
        self._find_nearest(np.flatnonzero(self._class_of <= NONE))

    def change(self, rows: ArrayLike, label_index: ArrayLike) -> None:
        """Give images another class index: -1 takes a label away, -2 leaves an image out.

        Args:
            rows: different rows.
            label_index: one for all rows, or one a row.

        Raises:
            InputError: a row is out of range or there twice, an index is below -2, or the lengths differ.
        """
        changed = np.atleast_1d(np.asarray(rows, dtype=np.intp))
        given = np.asarray(label_index, dtype=np.intp)
        n, n_changed = len(self._class_of), len(changed)
        is_row = (changed >= 0) & (changed < n)
        if not is_row.all() or len(np.unique(changed)) < n_changed or given.shape not in ((), (n_changed,)):
            raise InputError(
                f"expected different rows from 0 to {n - 1}, and a class index for each; found rows "
                f"{changed[:5].tolist()} and {given.size} class indices"
            )
        if given.size and given.min() < LEFT_OUT:
            raise InputError(f"label_index: expected -2 or more; found {given.min()}")
        was_labelled = self._class_of[changed] > NONE
        self._class_of[changed] = given
        is_labelled = self._class_of[changed] > NONE
        for row in changed[is_labelled & ~was_labelled]:
            self._bring_near(self._gap, row, self._nearest)
        removed = changed[was_labelled & ~is_labelled]
        if len(removed):
            self._find_nearest(np.flatnonzero(np.isin(self._nearest, removed)))

    def next(self, n_images: int = N_IMAGES) -> NextImages:
        """Return the images to label next, fewer if fewer have no label; the last group may be cut.

        Raises:
            SettingError: less than one image.
        """
        if n_images < 1:
            raise SettingError(f"n_images: expected at least 1; found {n_images}")
        is_free = self._class_of == NONE
        n_labels = np.bincount(self._class_of[self._class_of > NONE], minlength=1)
        guess, second, unsure = self._guess(is_free)
        n_of_guess = np.where(guess == NONE, 0, n_labels[guess])
        need = np.where(is_free, (1 + unsure) / (1 + n_of_guess), 0).astype(np.float32)
        gap = np.minimum(self._gap, REACH * self._typical)
        most = np.empty(len(need), dtype=np.float32)  # what each image can teach at most: later it is less
        for start in range(0, len(most), 4096):
            block = np.arange(start, min(start + 4096, len(most)))
            most[block] = self._measure(block, need, gap)
        most[~is_free] = -np.inf
        chosen: list[Rows] = []
        reasons: list[str] = []
        n_left = min(n_images, int(is_free.sum()))
        while n_left > 0:
            first = self._find_best(most, need, gap)
            is_new = guess[first] == NONE or gap[first] > self._typical
            n_together = FIRST_TOGETHER + (0 if is_new else n_of_guess[first])
            group = self._gather(first, is_free & (guess == guess[first]), min(self.most_together, n_together))
            is_far = bool(self._gap[first] > self._distance[first].sum() / max(self._distance.shape[1], 1))
            reasons.append(
                "new" if is_new else "unsure" if unsure[first] >= UNSURE_FROM else "far" if is_far else "few"
            )
            is_free[group], need[group], most[group] = False, 0, -np.inf
            for row in group:
                self._bring_near(gap, row)
            chosen.append(group[:n_left])
            n_left -= len(chosen[-1])
        sizes = [len(group) for group in chosen]
        rows = np.concatenate([*chosen, np.zeros(0, dtype=np.intp)])
        number = np.repeat(np.arange(1, len(sizes) + 1), sizes)
        reason = np.repeat(np.array(reasons, dtype=object), sizes)
        return NextImages(rows, number, reason, guess[rows], second[rows])

    def _guess(self, is_free: NDArray[np.bool_]) -> tuple[Rows, Rows, Floats]:
        """Return the nearest and second nearest class of each image, -1 if there is none, and how unsure this is."""
        n = len(self._class_of)
        guess, second, unsure = np.full(n, NONE), np.full(n, NONE), np.zeros(n, dtype=np.float32)
        labelled, free = np.flatnonzero(self._class_of > NONE), np.flatnonzero(is_free)
        if not (len(labelled) and len(free)):
            return guess, second, unsure
        present, codes = np.unique(self._class_of[labelled], return_inverse=True)
        means = class_means(self._vectors[labelled], codes).astype(np.float32)
        squares = np.einsum("cd,cd->c", means, means) - 2 * (self._vectors[free] @ means.T)
        every, distances = np.arange(len(free)), []
        for found in (guess, second)[: len(present)]:
            nearest = squares.argmin(axis=1)
            found[free] = present[nearest]
            distances.append(np.sqrt(np.maximum(squares[every, nearest] + self._squares[free], 0)))
            squares[every, nearest] = np.inf
        if len(present) > 1:
            unsure[free] = distances[0] / np.maximum(distances[1], np.finfo(np.float32).tiny)
        return guess, second, unsure

    def _measure(self, rows: Rows, need: Floats, gap: Floats) -> Floats:
        """Return how much the labels of these images would teach."""
        similar = self._similar[rows]
        about_others = need[similar] * np.maximum(gap[similar] - self._distance[rows], 0)
        return np.asarray(need[rows] * gap[rows] + about_others.sum(axis=1), dtype=np.float32)

    def _find_best(self, most: Floats, need: Floats, gap: Floats) -> int:
        """Return the image that teaches most, given what each teaches at most; lower this where it is less."""
        n = min(AT_ONCE, len(most) - 1)
        while True:
            order = np.argpartition(-most, n)  # the first n teach at most as much as before, the others less than these
            first, next_best = order[:n], most[order[n]]
            first = first[most[first] > -np.inf] if n else order
            most[first] = self._measure(first, need, gap)
            best = first[most[first].argmax()]
            if most[best] >= next_best:
                return int(best)

    def _gather(self, first: int, is_alike: NDArray[np.bool_], n: int) -> Rows:
        """Return an image and the nearest of those that are alike, n in all, nearest first."""
        if n == 1:
            return np.array([first])
        rows = np.flatnonzero(is_alike)
        distance = self._measure_distances(first, rows)
        distance[rows == first] = -1
        n = min(n, len(rows))
        nearest = np.argpartition(distance, n - 1)[:n]
        return rows[nearest[np.lexsort((rows[nearest], distance[nearest]))]]

    def _measure_distances(self, row: int, others: Rows) -> Floats:
        squares = self._squares[others] + self._squares[row] - 2 * (self._vectors[others] @ self._vectors[row])
        return np.asarray(np.sqrt(np.maximum(squares, 0)))

    def _bring_near(self, gap: Floats, row: int, nearest: Rows | None = None) -> None:
        """Lower the distances to the nearest labelled image where a newly labelled one is nearer."""
        squares = self._squares + self._squares[row] - 2 * (self._vectors @ self._vectors[row])
        squares[row] = 0
        distances = np.sqrt(np.maximum(squares, 0))
        if nearest is not None:
            nearest[distances < gap] = row
        np.minimum(gap, distances, out=gap)

    def _find_nearest(self, rows: Rows) -> None:
        """Find the nearest labelled image of these images."""
        labelled = np.flatnonzero(self._class_of > NONE)
        if len(labelled) == 0:
            self._gap[rows], self._nearest[rows] = np.inf, NONE
        elif len(rows):
            index = VectorIndex.build(EmbeddingTable(self._vectors[labelled]))
            found = index.search(self._vectors[rows], 1)
            self._gap[rows], self._nearest[rows] = found.distances[:, 0], labelled[found.rows[:, 0]]


def choose_next(
    vectors: ArrayLike, label_index: ArrayLike, n_images: int = N_IMAGES, *, most_together: int = MOST_TOGETHER
) -> NextImages:
    """Choose the images whose labels teach most (see `LabellingQueue`, which also follows new labels).

    Args:
        vectors: float32 (n, d), finite.
        label_index: (n,) class index of each label; -1 without label, -2 for images never to choose.
        n_images: number of images to choose.
        most_together: images of a group at most; 1: each kind only once.

    Raises:
        InputError, SettingError: see `LabellingQueue`; or less than one image to choose.
    """
    return LabellingQueue(vectors, label_index, most_together=most_together).next(n_images)
