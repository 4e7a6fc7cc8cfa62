"""Loss and miner by name, from pytorch-metric-learning (the only file that imports it)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import Tensor

from plankton_embed.settings import TrainingSettings


@dataclass
class TripletObjective:
    """Triplet margin loss over the mined triplets of a batch of unit vectors.

    The loss of a triplet is max(d²(anchor, positive) - d²(anchor, negative) + margin, 0), d being the Euclidean
    distance, averaged over the triplets in which it is above 0. Semi-hard: the negative is farther than the positive,
    by less than the margin (Schroff et al. 2015, arXiv 1503.03832).
    """

    margin: float
    miner: str

    def __post_init__(self) -> None:
        squared = LpDistance(power=2)
        self._loss = TripletMarginLoss(margin=self.margin, distance=squared)
        self._miner = TripletMarginMiner(margin=self.margin, type_of_triplets=self.miner, distance=squared)

    def __call__(self, vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and which share of the batch's triplets was mined."""
        triplets = self._miner(vectors, labels)
        n_mined = torch.tensor(float(len(triplets[0])))
        same = (labels[:, None] == labels).sum(dim=1).float()
        n_valid = ((same - 1) * (len(labels) - same)).sum().cpu().clamp(min=1)
        # vectors that are nan give no triplet, hence a loss of 0; the added zero turns nan then
        return self._loss(vectors, labels, triplets) + 0 * vectors.sum(), n_mined / n_valid


def build_objective(settings: TrainingSettings) -> TripletObjective:
    """Return the objective that the settings name."""
    return TripletObjective(settings.margin, settings.miner)
