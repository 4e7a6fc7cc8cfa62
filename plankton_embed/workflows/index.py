"""`index`: build a FAISS index over vectors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from plankton_embed.errors import OutputError, SettingError
from plankton_embed.index_shards import is_sharded_index, refuse_index
from plankton_embed.jobs import refuse_overlap
from plankton_embed.output import refuse_overwrite
from plankton_embed.sharded_index import SHARD_SIZE, ShardedIndex
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import INDEX_FILE, VectorIndex
from plankton_embed.vector_shards import VectorShards
from plankton_embed.workflows.inputs import Reference, open_vectors

IndexKind = Literal["flat", "ivf_flat", "ivf_sq8", "auto", "sharded"]

logger = logging.getLogger(__name__)


def index(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    kind: IndexKind | None = None,
    shard_size: int = SHARD_SIZE,
    add: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> VectorIndex | ShardedIndex:
    """Build a FAISS index over vectors; save it if `output` is given.

    Args:
        vectors: a table, its file, a folder of Parquet files, or the folder of a run (its training vectors). With
            `add` also a sharded index.
        output: folder to write; needed for a sharded index.
        kind: `flat` (exact), `ivf_flat` (for millions), `ivf_sq8` (for many millions, one byte per number), or `auto`:
            one of these by the number of vectors. The recall of the last two is measured on a sample. `sharded`: an
            `ivf_sq8` in parts, for more vectors than memory holds (see `ShardedIndex`). By default `sharded` for a
            folder of Parquet files, else `flat`.
        shard_size: vectors in each part of a sharded index.
        add: add the vectors to the sharded index in `output`.
        overwrite: replace the output.
        progress: show a bar while a sharded index is built.

    Raises:
        SettingError: an option that this kind of index does not use.
    """
    opened = _open_sharded(vectors, add) or open_vectors(vectors)
    if output is not None and isinstance(opened, VectorShards):
        refuse_overlap(output, [opened.folder])
    chosen = kind or ("sharded" if add or isinstance(opened, VectorShards) else "flat")
    if chosen != "sharded" and (add or shard_size != SHARD_SIZE):
        name = "add (--add)" if add else "shard_size (--shard-size)"
        raise SettingError(f"{name} is for a sharded index; leave it out, or set kind sharded; found {chosen}")
    if chosen == "sharded":
        return _index_shards(opened, output, shard_size, add, overwrite, progress)
    if output is not None:
        refuse_overwrite(output, overwrite, made_of=INDEX_FILE)
    table = opened.load() if isinstance(opened, VectorShards) else opened
    built = VectorIndex.build(table, chosen)  # type: ignore[arg-type]
    if output is not None:
        built.save(output)
    return built


def _open_sharded(vectors: Reference, add: bool) -> ShardedIndex | None:
    """Return the sharded index that is to be added to another."""
    is_path = isinstance(vectors, str | Path)
    return ShardedIndex.load(vectors) if add and is_path and is_sharded_index(vectors) else None  # type: ignore[arg-type]


def _index_shards(
    opened: EmbeddingTable | VectorShards | ShardedIndex,
    output: str | Path | None,
    shard_size: int,
    add: bool,
    overwrite: bool,
    progress: bool,
) -> ShardedIndex:
    """Build a sharded index, or add to one."""
    if output is None:
        raise SettingError("output: a sharded index is written to a folder; give one")
    if not add:
        refuse_index(output, overwrite)
        return ShardedIndex.build(opened, output, shard_size=shard_size, overwrite=overwrite, progress=progress)  # type: ignore[arg-type]
    if overwrite:
        raise SettingError("add keeps an index, overwrite replaces it; use only one of them")
    if not is_sharded_index(output):
        raise OutputError(f"{output} is not a sharded index to add to; to build one, leave --add out")
    index = ShardedIndex.load(output)
    if isinstance(opened, ShardedIndex):
        index.merge(opened, progress=progress)
    else:
        index.add(opened, shard_size=shard_size, progress=progress)
    return index
