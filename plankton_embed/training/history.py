"""History: one record for each epoch, as a table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd

from plankton_embed.errors import InputError
from plankton_embed.output import write_atomically


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch; nan where one was not measured, such as accuracies in an epoch without validation.

    `loss`: mean over the steps that changed the weights, 0 without any. `active_share`: share of a batch's triplets
    that break the margin, mined or not. `score`: chooses the best epoch (`training.choose_by`), the mean of the
    scores of the centroid and of kNN. `within_distance`, `between_distance`: mean Euclidean distance of images of the
    same class, of different classes. `effective_rank`: how many directions the vectors use. `n_never_predicted`:
    classes that no validation image was predicted as (see `count_never_predicted`); 0 without validation.
    `n_empty_steps`: batches without anything to learn from; `n_broken_steps`: batches whose loss or gradient was not
    finite; neither changed a weight.
    """

    epoch: int
    loss: float
    active_share: float
    learning_rate: float
    centroid_accuracy: float = math.nan
    knn_accuracy: float = math.nan
    score: float = math.nan
    within_distance: float = math.nan
    between_distance: float = math.nan
    effective_rank: float = math.nan
    n_never_predicted: int = 0
    n_empty_steps: int = 0
    n_broken_steps: int = 0
    images_per_second: float = math.nan
    seconds: float = math.nan


@dataclass
class History:
    """The records of the epochs so far."""

    records: list[EpochRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def best(self) -> EpochRecord:
        """The epoch of the highest score, the later of equal ones; the last where there are no scores."""
        return max(self.records, key=lambda record: (_score(record), record.epoch))

    @property
    def has_scores(self) -> bool:
        """Whether an epoch was scored on validation images."""
        return any(_score(record) >= 0 for record in self.records)

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each epoch."""
        return pd.DataFrame([asdict(r) for r in self.records], columns=[f.name for f in fields(EpochRecord)])

    def save(self, path: str | Path) -> None:
        """Write as CSV."""
        with write_atomically(path) as temporary:
            self.frame.to_csv(temporary, index=False)

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what `save` wrote."""
        try:
            names = [f.name for f in fields(EpochRecord)]
            frame = pd.read_csv(path)
            if "score" not in frame:  # of an earlier release
                frame["score"] = math.nan
            return cls([EpochRecord(*row) for row in frame[names].itertuples(index=False)])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is not a training history: {error}") from error


def _score(record: EpochRecord) -> float:
    """Return the score of an epoch; the mean accuracy in a history of an earlier release; -1 without either."""
    scores = (record.score, (record.centroid_accuracy + record.knn_accuracy) / 2, -1.0)
    return next(score for score in scores if not math.isnan(score))
