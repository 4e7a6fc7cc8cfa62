"""`analogy`: complete "a is to b as c is to which?"."""

from __future__ import annotations

import pandas as pd

from plankton_embed.analysis.relations import complete_analogy
from plankton_embed.workflows.inputs import Reference, load_split


def analogy(
    vectors: Reference, a: str, b: str, c: str, n_results: int = 10, *, split: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Complete an analogy, "a is to b as c is to which?" (see `complete_analogy`).

    Args:
        vectors: a table, its file, or the folder of a run.
        a, b, c: class names or object ids.
        n_results: number of images to find.
        split: see `pca`.

    Returns:
        The nearest classes, and the nearest images.
    """
    return complete_analogy(load_split(vectors, split)[0], a, b, c, n_results)
