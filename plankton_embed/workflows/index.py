"""`index`: build a FAISS index over vectors."""

from __future__ import annotations

from pathlib import Path

from plankton_embed.output import refuse_overwrite
from plankton_embed.vector_index import INDEX_FILE, IndexKind, VectorIndex
from plankton_embed.workflows.inputs import Reference, load_vectors


def index(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    kind: IndexKind = "flat",
    overwrite: bool = False,
) -> VectorIndex:
    """Build a FAISS index over vectors; save it if `output` is given.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write.
        kind: `flat` (exact), `ivf_flat` (for millions), `ivf_sq8` (for many millions, one byte per number), or `auto`:
            one of these by the number of vectors. The recall of the last two is measured on a sample.
        overwrite: replace the output.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, made_of=INDEX_FILE)
    built = VectorIndex.build(load_vectors(vectors), kind)
    if output is not None:
        built.save(output)
    return built
