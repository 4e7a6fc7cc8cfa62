"""`analogy`: a is to b as c is to which class?"""

from __future__ import annotations

import pandas as pd

from plankton_embed.analysis.relations import complete_analogy
from plankton_embed.workflows.inputs import Reference, load_split


def analogy(
    vectors: Reference, a: str, b: str, c: str, n_results: int = 10, *, split: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer "a is to b as c is to ?" with the nearest classes and the nearest images (see `complete_analogy`).

    Args:
        vectors: a table, its file, or the folder of a run.
        a, b, c: classes or object ids.
        n_results: images.
        split: as `pca`.
    """
    return complete_analogy(load_split(vectors, split)[0], a, b, c, n_results)
