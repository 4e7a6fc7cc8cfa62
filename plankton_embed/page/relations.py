"""Repeated relations for the page: x1 is to y1 as x2 is to y2, as pictures and by class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.relations import ANALOGY_COLUMNS, Relations
from plankton_embed.page.analysis_tables import find_rows, leave_out_damaged, list_values, read_table
from plankton_embed.page.images import PageImages

logger = logging.getLogger(__name__)

N_BEST = 100  # relations that are shown
N_BEST_OF_CLASS = 20  # of each class, so that a filter finds some
N_ANALOGIES = 500
ENDS = ("x1", "y1", "x2", "y2")
MEASURES = ("distance", "length", "relative")


def build_relations(images: PageImages, found: str | Path | Relations | None) -> dict[str, Any] | None:
    """Return the best relations between images of the page, and the analogies between classes.

    Args:
        images: of the page.
        found: the folder that `relations` wrote, such as RUN/analysis/relations, or its result.

    Returns:
        `n_best` (relations shown without a filter), `relations` (`x1`, `y1`, `x2`, `y2`, rows of images, best first;
        then the best of every class; `distance`, `length`, `relative`), `analogies` (`x1` to `y2`, class names,
        `n_classes`, `support`, `expected`, `p_value`, `p_any`) and `n_analogies` (of all). None if there is no
        relation, or if the folder does not exist, is damaged, or is of other images.
    """
    if isinstance(found, Relations):
        corners = np.stack([found.table.object_id[found.best[end].to_numpy(dtype=np.intp)] for end in ENDS], axis=1)
        source = Path("relations")
        return leave_out_damaged(lambda: _describe(images, corners, found.best, found.analogies, source))
    if found is None or not Path(found).is_dir():
        return None
    return leave_out_damaged(lambda: _read(images, Path(found)))


def _read(images: PageImages, folder: Path) -> dict[str, Any] | None:
    names = [f"object_id_{end}" for end in ENDS]
    best = read_table(folder / "relations.csv", names, MEASURES)
    analogies = read_table(folder / "analogies.csv", ENDS, ANALOGY_COLUMNS[4:])
    return _describe(images, best[names].to_numpy(dtype=object), best, analogies, folder / "relations.csv")


def _describe(
    images: PageImages, corners: NDArray[np.object_], best: pd.DataFrame, analogies: pd.DataFrame, path: Path
) -> dict[str, Any] | None:
    rows = find_rows(images, corners.ravel(), path).reshape(-1, len(ENDS))
    there = np.asarray(rows.min(axis=1, initial=len(images)) >= 0)
    if not there.any():
        return None
    if not there.all():
        logger.warning(
            "%s: %d of %d relations have images that are not on this page, and are left out",
            *(path, int((~there).sum()), len(there)),
        )
    rows = rows[there]
    chosen = _choose(images.label_index[rows])
    first = analogies.head(N_ANALOGIES)
    return {
        "n_best": min(N_BEST, len(rows)),
        "n_found": len(rows),
        "relations": {
            **{end: rows[chosen, number].astype(np.int32) for number, end in enumerate(ENDS)},
            **{name: list_values(best[name].to_numpy(dtype=float)[there][chosen]) for name in MEASURES},
        },
        "analogies": {
            **{end: list_values(first[end].astype(str)) for end in ENDS},
            **{name: list_values(first[name].to_numpy(dtype=float)) for name in ANALOGY_COLUMNS[4:]},
        },
        "n_analogies": len(analogies),
    }


def _choose(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the rows of the best relations, and of the best of every class, in order; labels are (n, 4)."""
    kept = np.zeros(len(labels), dtype=bool)
    kept[:N_BEST] = True
    for code in np.unique(labels[labels >= 0]):
        kept[np.flatnonzero((labels == code).any(axis=1))[:N_BEST_OF_CLASS]] = True
    return np.flatnonzero(kept)
