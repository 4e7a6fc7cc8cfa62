"""Suspect labels for the page: the images to check, each with its most similar labelled images."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.analysis.suspects import Suspects, find_suspects
from plankton_embed.errors import InputError
from plankton_embed.page.images import PageImages
from plankton_embed.vector_index import VectorIndex

logger = logging.getLogger(__name__)

N_SUSPECTS = 240  # images to check, as `suspects` writes
N_NEIGHBORS = 8  # similar images beside each


def build_suspects(
    images: PageImages, found: Suspects | None = None, *, n_suspects: int = N_SUSPECTS
) -> dict[str, Any] | None:
    """Return the images whose label is most suspect, contradictions first (see `Suspects.first`).

    Args:
        images: of the page.
        found: suspects among images of the page; by default those among the reference, without the signal of a head.
        n_suspects: images at most.

    Returns:
        `rows`, and for each `guess` (class index of the suggested label), `score` (nan for contradictions), `reason`
        (text, empty if it is the score) and `neighbors` (the rows of the most similar labelled images, `n_neighbors` of
        each, nearest first). None if there are no suspects, such as with fewer than two classes.
    """
    if found is None:
        try:
            others = images.table.is_labelled & ~images.reference
            found = find_suspects(images.table.select(images.reference), others=images.table.select(others))
        except InputError as error:
            logger.info("no suspects: %s", error)
            return None
    first = found.first(n_suspects)
    row_of = {object_id: row for row, object_id in enumerate(images.table.object_id)}
    first = first[first["object_id"].isin(row_of) & first["guess"].isin(images.classes)]
    if first.empty:
        return None
    rows = np.array([row_of[object_id] for object_id in first["object_id"]], dtype=np.intp)
    code_of = {name: code for code, name in enumerate(images.classes)}
    neighbors = _find_neighbors(images, rows)
    return {
        "rows": rows,
        "guess": np.array([code_of[name] for name in first["guess"]], dtype=np.intp),
        "score": first["score"].tolist(),
        "reason": ["" if text.startswith("score ") else text for text in first["reason"]],
        "n_neighbors": neighbors.shape[1],
        "neighbors": neighbors.ravel(),
    }


def _find_neighbors(images: PageImages, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the rows of the most similar other labelled images of each image, (m, k), nearest first."""
    labelled = np.flatnonzero(images.table.is_labelled)
    k = min(N_NEIGHBORS, len(labelled) - 1)
    found = VectorIndex.build(images.table.select(labelled)).search(images.table.vectors[rows], k + 1)
    near = labelled[found.rows]
    itself = near == rows[:, None]
    itself[~itself.any(axis=1), -1] = True  # among copies it may not find itself: then leave out the farthest
    return np.asarray(near[~itself].reshape(len(rows), k), dtype=np.intp)
