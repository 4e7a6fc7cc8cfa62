"""Guesses: the nearest class means of every image, which follow each decision without training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError

BLOCK = 2**14  # images at a time
NONE = -1  # index of a class that there is not
Prediction = tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]


class Guesses:
    """The means of the classes of a reference, to which images are added, moved and removed one by one.

    Args:
        vectors: float32 (n, d), all images.
        label_index: (n,) class index of each image, -1 if it has none.
        reference: (n,) images that the means are made of; those without a label are left out.
        classes: class names; those that `change` adds come after them, and go when no image has them any more.

    Raises:
        InputError: the lengths differ, or an index has no class.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        label_index: NDArray[np.integer],
        reference: NDArray[np.bool_],
        classes: Sequence[str],
    ) -> None:
        n = len(vectors)
        index = np.asarray(label_index, dtype=np.intp)
        used = np.asarray(reference, dtype=bool)
        if index.shape != (n,) or used.shape != (n,):
            raise InputError(f"guesses: expected {n} labels and {n} flags; found {index.shape} and {used.shape}")
        if n and (index.min() < NONE or index.max() >= len(classes)):
            raise InputError(f"guesses: expected class indices from -1 to {len(classes) - 1}; found others")
        self.classes = list(classes)
        self._n_given = len(classes)
        self._index_of = {name: number for number, name in enumerate(self.classes)}
        middle = vectors.mean(axis=0, dtype=np.float64) if n else 0.0  # far from 0, distances lose digits in float32
        self._vectors = (vectors - middle).astype(np.float32)
        self._squares = np.einsum("nd,nd->n", self._vectors, self._vectors)
        self._class_of = np.where(used, index, NONE)  # of each image of the reference
        rows = np.flatnonzero(self._class_of != NONE)
        self._counts = np.bincount(self._class_of[rows], minlength=len(classes)).astype(np.intp)
        self._sums = np.zeros((len(classes), self._vectors.shape[1]))
        for column, values in enumerate(self._vectors[rows].T):
            self._sums[:, column] = np.bincount(self._class_of[rows], values, minlength=len(classes))

    def change(self, rows: Sequence[int] | NDArray[np.integer], class_names: Sequence[str | None]) -> None:
        """Give images new labels; they join the reference, or leave it where the label is None.

        A new class is added to `classes`.

        Raises:
            InputError: an image is twice in `rows`, or the lengths differ.
        """
        changed = np.asarray(rows, dtype=np.intp)
        if len(changed) != len(class_names) or len(np.unique(changed)) < len(changed):
            raise InputError(
                f"guesses: expected different rows and one class name for each; found {len(changed)} rows, "
                f"{len(np.unique(changed))} different, and {len(class_names)} names"
            )
        for name in class_names:
            if name is not None and name not in self._index_of:
                self._index_of[name] = len(self.classes)
                self.classes.append(name)
        n_new = len(self.classes) - len(self._counts)
        if n_new:
            self._counts = np.concatenate([self._counts, np.zeros(n_new, dtype=np.intp)])
            self._sums = np.concatenate([self._sums, np.zeros((n_new, self._sums.shape[1]))])
        new = np.array([NONE if name is None else self._index_of[name] for name in class_names], dtype=np.intp)
        for indices, sign in ((self._class_of[changed], -1), (new, 1)):
            given = indices != NONE
            np.add.at(self._counts, indices[given], sign)
            np.add.at(self._sums, indices[given], sign * self._vectors[changed[given]].astype(np.float64))
        self._class_of[changed] = new
        self._sums[self._counts == 0] = 0  # no rounding error of removed images stays
        while len(self.classes) > self._n_given and self._counts[-1] == 0:  # a name that was taken back, such as a typo
            del self._index_of[self.classes.pop()]
            self._counts, self._sums = self._counts[:-1], self._sums[:-1]

    @property
    def reference_class(self) -> NDArray[np.intp]:
        """(n,) the class of each image of the reference, -1 for the other images."""
        return self._class_of.copy()

    def predict(self) -> Prediction:
        """Return the nearest and second nearest class mean of every image.

        An image of the reference is left out of the mean of its own class.

        Returns:
            `guess` (n,) class index, -1 without a class; `distance` (n,) to that mean, nan without a class; `second`
            (n,) the second nearest class, -1 if there is none; `margin` (n,) distance to the second minus `distance`,
            nan if there is none.
        """
        n = len(self._vectors)
        guess, second = np.full(n, NONE, dtype=np.intp), np.full(n, NONE, dtype=np.intp)
        distance, further = np.full(n, np.nan), np.full(n, np.nan)
        present = np.flatnonzero(self._counts)
        if len(present):
            column_of = np.full(len(self._counts), NONE, dtype=np.intp)
            column_of[present] = np.arange(len(present))
            means = self._sums[present] / self._counts[present, None]
            for start in range(0, n, BLOCK):
                block = slice(start, start + BLOCK)
                columns, distances = self._nearest_two(block, means, self._counts[present], column_of)
                for number, (index, values) in enumerate(((guess, distance), (second, further))):
                    found = columns[:, number] != NONE
                    index[block] = np.where(found, present[columns[:, number]], NONE)
                    values[block] = np.where(found, distances[:, number], np.nan)
        return guess, distance, second, further - distance

    def _nearest_two(
        self, block: slice, means: NDArray[np.float64], counts: NDArray[np.intp], column_of: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the columns (rows, 2) of the two nearest means, -1 where there is none, and their distances."""
        vectors, own = self._vectors[block], self._class_of[block]
        near = means.astype(np.float32)
        squares = np.einsum("cd,cd->c", near, near) - 2 * (vectors @ near.T)
        squares += self._squares[block, None]
        rows = np.flatnonzero(own != NONE)
        columns = column_of[own[rows]]
        scale = counts[columns] / np.maximum(counts[columns] - 1, 1)  # x - mean without x = scale * (x - mean with x)
        own_squares = np.maximum(squares[rows, columns], 0) * scale**2
        squares[rows, columns] = np.where(counts[columns] == 1, np.inf, own_squares)
        found = np.empty((len(vectors), 2), dtype=np.intp)
        distances = np.full((len(vectors), 2), np.inf)
        every = np.arange(len(vectors))
        for number in range(2):
            nearest = squares.argmin(axis=1)
            exists = np.isfinite(squares[every, nearest])
            distances[exists, number] = np.linalg.norm(vectors[exists] - means[nearest[exists]], axis=1)
            squares[every, nearest] = np.inf
            found[:, number] = np.where(exists, nearest, NONE)
        mine = found[rows] == columns[:, None]
        distances[rows] *= np.where(mine, scale[:, None], 1)
        swapped = distances[:, 1] < distances[:, 0]  # float32 chose the two, float64 their order
        found[swapped], distances[swapped] = found[swapped][:, ::-1], distances[swapped][:, ::-1]
        return found, distances
