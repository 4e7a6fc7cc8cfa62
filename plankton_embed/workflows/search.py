"""`search`: find the most similar images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.embedding import embed
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.vector_index import VectorIndex
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Source


def search(
    index: VectorIndex | str | Path,
    model: EmbeddingModel | str | Path,
    images: Source,
    k: int = 10,
    *,
    sheet: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Find the images of an index that are most like the given ones.

    Args:
        index: an index, its folder, or the folder of a run.
        model: the model that made the vectors of the index.
        images: files, a folder, or a catalog.
        k: neighbours an image.
        sheet: picture to draw: each image and its neighbours.
        device: where to embed.
        progress: show bars.

    Returns:
        One row a neighbour: `query`, `rank` (from 1), `object_id`, `label`, `distance`, `path`.

    Raises:
        MismatchError: the index was made by another model; both hashes are named.
    """
    if not isinstance(index, VectorIndex):
        index = VectorIndex.load(index)
    queries = embed(model, images, device=device, progress=progress)
    neighbors = index.search(queries, k)
    if sheet is not None:
        save_figure(draw_sheet(contact_sheets.neighbors_sheet(queries, index.table, neighbors)), sheet)
    rows = neighbors.rows.ravel()
    return pd.DataFrame(
        {
            "query": np.repeat(queries.object_id, k),
            "rank": np.tile(np.arange(1, k + 1), len(queries)),
            "object_id": index.table.object_id[rows],
            "label": index.table.label[rows],
            "distance": neighbors.distances.ravel(),
            "path": index.table.path[rows],
        }
    )
