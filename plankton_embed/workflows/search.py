"""`search`: find the most similar images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.embedding import embed_source
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.readers.folder import IMAGE_SUFFIXES
from plankton_embed.index_shards import is_sharded_index
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import refuse_overwrite, write_frame
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.sharded_index import ShardedIndex
from plankton_embed.vector_index import Neighbors, VectorIndex
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Source, find_run


def search(
    index: VectorIndex | ShardedIndex | str | Path,
    images: Source,
    *older: Any,
    model: EmbeddingModel | str | Path | None = None,
    n_results: int = 10,
    output: str | Path | None = None,
    sheet: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
    k: int | None = None,
) -> pd.DataFrame:
    """Find the images of an index that are most similar to the given images.

    Args:
        index: the folder of a run, an index, or the folder of an index, also of a sharded one.
        images: files, a folder, or a catalog.
        older: arguments of earlier releases: `search(index, model, images, k)`.
        model: the model that made the vectors of the index; by default the model of the run.
        n_results: images to find for each given image.
        output: CSV to write.
        sheet: figure to draw: each given image and the images found.
        overwrite: replace existing files.
        device: where to embed.
        progress: show bars.
        k: `n_results` in earlier releases.

    Returns:
        One row per image found: `query`, `rank` (from 1), `object_id`, `label`, `distance`, `path`.

    Raises:
        MismatchError: the index was made by another model; both hashes are given.
        InputError: the index is not in a run, and no model is given.
    """
    if len(older) > 2 or (older and model is not None):
        raise SettingError("search: expected search(index, images, model=, n_results=); found more arguments")
    if older or k is not None:
        warnings.warn("search(index, model, images, k) is now search(index, images, model=, n_results=)", stacklevel=2)
        model, images = (images, older[0]) if older else (model, images)  # type: ignore[assignment]
        n_results = next((n for n in (k, *older[1:]) if n is not None), n_results)
    for path, suffixes in ((output, (".csv",)), (sheet, (".png", ".jpg", ".pdf", ".svg"))):
        if path is not None:
            refuse_overwrite(path, overwrite, suffixes)
    if model is None:
        run = find_run(index) if isinstance(index, str | Path) else None
        if run is None:
            raise InputError(f"{index} is not a run; give the model that made its vectors (model=, --model MODEL)")
        model = run.model
    if isinstance(index, str | Path):
        index = ShardedIndex.load(index) if is_sharded_index(index) else VectorIndex.load(index)
    images = _open_one(images)
    queries = embed_source(model, images, device=device, progress=progress)
    neighbors = index.search(queries, n_results)
    if isinstance(index, VectorIndex):
        gallery = index.table
    else:
        rows, places = np.unique(neighbors.rows, return_inverse=True)
        gallery = index.take(rows)
        neighbors = Neighbors(neighbors.distances, places.reshape(neighbors.rows.shape))
    if sheet is not None:
        save_figure(draw_sheet(contact_sheets.neighbors_sheet(queries, gallery, neighbors)), sheet)
    rows = neighbors.rows.ravel()
    found = pd.DataFrame(
        {
            "query": np.repeat(queries.object_id, n_results),
            "rank": np.tile(np.arange(1, n_results + 1), len(queries)),
            "object_id": gallery.object_id[rows],
            "label": gallery.label[rows],
            "distance": neighbors.distances.ravel(),
            "path": gallery.path[rows],
        }
    )
    if output is not None:
        write_frame(Path(output), found)
    return found


def _open_one(images: Source) -> Source:
    """Return the only path of a list if it is a catalog or a folder, else the list."""
    if isinstance(images, list) and len(images) == 1:
        path = Path(images[0])
        if path.exists() and path.suffix.lower() not in IMAGE_SUFFIXES:
            return path
    return images
