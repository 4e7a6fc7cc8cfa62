"""Class means as a table, and the images nearest to a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.balance import split_by_class
from plankton_embed.table import EmbeddingTable, class_means

N_CENTRAL = 8  # images


def average_classes(table: EmbeddingTable) -> EmbeddingTable:
    """Return a table of class means, one row per class; its path is that of the image nearest to the mean.

    Raises:
        InputError: no row has a label.
    """
    labelled = table.labelled
    if len(labelled) == 0:
        raise InputError("class means: expected labelled vectors; found none with a label")
    names, codes = np.unique(labelled.label.astype(str), return_inverse=True)
    central = [find_central(labelled.vectors, rows)[0] for rows in split_by_class(codes)]
    return EmbeddingTable(
        class_means(labelled.vectors, codes).astype(np.float32),
        object_id=names.astype(object),
        label=names.astype(object),
        path=labelled.path[central],
        provenance=table.provenance,
    )


def find_central(vectors: NDArray[np.float32], rows: NDArray[np.intp], n_images: int = N_CENTRAL) -> NDArray[np.intp]:
    """Return the rows that are nearest to the mean of all of them, nearest first."""
    own = vectors[rows].astype(np.float64)
    gap = np.linalg.norm(own - own.mean(axis=0), axis=1)
    return rows[np.argsort(gap, kind="stable")[:n_images]]
