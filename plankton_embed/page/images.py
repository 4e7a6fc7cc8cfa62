"""The images of a page: their vectors, splits and labels, and the guess of the nearest class mean."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.page.guesses import Guesses
from plankton_embed.table import EmbeddingTable

UNFIT = re.compile("[\ud800-\udfff]")  # halves of a character, as in names of files that are not UTF-8


@dataclass(frozen=True, eq=False)
class PageImages:
    """All images of a page, row by row.

    Attributes:
        table: the images; the label is None where there is none.
        split: (n,) `train`, `val` or `test`; empty text for the vectors of a file.
        reference: (n,) the labelled images that guesses are made from: those of train, or all of a file.
        classes: the class names, sorted.
        guess: (n,) index of the class with the nearest mean, without the image itself; -1 without a reference.
        distance: (n,) to that mean; nan without a reference.
        second: (n,) the second nearest class, -1 if there is none.
        margin: (n,) the distance to the second mean minus `distance`; nan if there is none.
    """

    table: EmbeddingTable
    split: NDArray[np.object_]
    reference: NDArray[np.bool_]
    classes: list[str]
    guess: NDArray[np.intp]
    distance: NDArray[np.float64]
    second: NDArray[np.intp]
    margin: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def label_index(self) -> NDArray[np.intp]:
        """(n,) class index of the label, -1 where there is none."""
        return index_labels(self.table, self.classes)

    @property
    def key(self) -> str:
        """A hash of ids, vectors, labels and model: decisions about these images are kept under this name.

        Names of files recur (`0000.png` of every day), so ids alone are not enough; and decisions that were made, and
        applied, before labels changed must not come back.
        """
        table = self.table
        found = hashlib.sha256(str(table.model_hash).encode())
        found.update("\n".join(table.object_id).encode())
        found.update("\n".join(label or "" for label in table.label).encode())
        found.update(table.vectors.tobytes())
        return found.hexdigest()[:16]

    @property
    def guesses(self) -> Guesses:
        """New class means of the reference, which change with decisions."""
        return Guesses(self.table.vectors, self.label_index, self.reference, self.classes)


def gather_images(parts: Mapping[str, EmbeddingTable]) -> PageImages:
    """Return the images of several splits, or of a file (`{"": table}`), with a guess for each.

    Raises:
        InputError: there are no images, or an id is in two splits.
        MismatchError: the splits were made by different models.
    """
    parts = {name: table for name, table in parts.items() if len(table)}
    if not parts:
        raise InputError("a page needs the vectors of at least one image; found none")
    table = EmbeddingTable.concat(list(parts.values()))
    for object_id in table.object_id:
        if UNFIT.search(object_id):
            raise InputError(f"object_id: expected text that can be written as UTF-8; found {object_id!r}; rename it")
    split = np.repeat(np.array(list(parts), dtype=object), [len(part) for part in parts.values()])
    reference = table.is_labelled & (split == "train" if "train" in parts else np.ones(len(table), dtype=bool))
    classes = table.classes
    guesses = Guesses(table.vectors, index_labels(table, classes), reference, classes)
    return PageImages(table, split, reference, classes, *guesses.predict())


def index_labels(table: EmbeddingTable, classes: list[str]) -> NDArray[np.intp]:
    """Return the class index of every label (n,), -1 where there is none."""
    codes = {name: code for code, name in enumerate(classes)}
    return np.array([codes.get(label, -1) for label in table.label], dtype=np.intp)
