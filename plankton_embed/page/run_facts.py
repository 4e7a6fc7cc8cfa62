"""What the files of a run contain, beside its vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

METHODS = ("centroid", "knn", "mlp")


@dataclass(frozen=True)
class RunFacts:
    """What the files of a run contain; None or empty where a file is missing.

    Attributes:
        settings: name -> value, as `Settings.flat` returns them.
        model: `config.json` of the model.
        scores: `scores.json`.
        history: `history.csv`, a row an epoch.
        near_copies: `near_copies.csv`: images with a near-copy in another split.
        contradictions: object ids of images that have a copy with another label.
        n_lost: images, rows and files that could not be read.
        by_rank: `by_rank.csv` of the command `taxonomy`: the accuracy at each rank.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    near_copies: pd.DataFrame | None = None
    contradictions: Sequence[str] = ()
    n_lost: int = 0
    by_rank: pd.DataFrame | None = None

    @property
    def methods(self) -> dict[str, Mapping[str, Any]]:
        """The scores of each method."""
        return {name: self.scores[name] for name in METHODS if name in self.scores}
