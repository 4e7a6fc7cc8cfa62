"""History: one record an epoch, kept as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd

from plankton_embed.errors import InputError
from plankton_embed.output import write_atomically


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did; accuracies are nan where there are no validation images."""

    epoch: int
    loss: float
    mined_share: float
    learning_rate: float
    centroid_accuracy: float
    knn_accuracy: float
    images_per_second: float
    seconds: float


@dataclass
class History:
    """The epochs so far."""

    records: list[EpochRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def best(self) -> EpochRecord:
        """The epoch whose mean of centroid and kNN accuracy is highest, the later of equals; without any, the last."""
        return max(self.records, key=lambda r: (_or_zero(r.centroid_accuracy + r.knn_accuracy), r.epoch))

    @property
    def frame(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.DataFrame([asdict(r) for r in self.records], columns=[f.name for f in fields(EpochRecord)])

    def save(self, path: str | Path) -> None:
        """Write as CSV."""
        with write_atomically(path) as temporary:
            self.frame.to_csv(temporary, index=False)

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what `save` wrote."""
        try:
            frame, names = pd.read_csv(path), [f.name for f in fields(EpochRecord)]
            return cls([EpochRecord(*row) for row in frame[names].itertuples(index=False)])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is no training history: {error}") from error


def _or_zero(value: float) -> float:
    return value if value == value else 0.0
