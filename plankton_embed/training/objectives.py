"""Objectives by name: most losses and miners are of pytorch-metric-learning (only this file imports it)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import (
    ArcFaceLoss,
    CrossBatchMemory,
    MultiSimilarityLoss,
    NormalizedSoftmaxLoss,
    ProxyAnchorLoss,
    SupConLoss,
    TripletMarginLoss,
)
from pytorch_metric_learning.miners import MultiSimilarityMiner, TripletMarginMiner
from torch import Tensor, nn
from torch.nn import functional

from plankton_embed.settings import Miner, ObjectiveName, TrainingSettings


class Objective(nn.Module):
    """A loss over a batch; its parameters (class proxies) train with the network, its state goes into checkpoints."""

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """Return the loss of vectors (b, d) with class codes (b,); `progress` is the share 0-1 of the training done.

        The loss is 0 where the batch has nothing to compare, and nan where vectors are nan.
        """
        raise NotImplementedError

    def place_proxies(self, means: Tensor) -> None:
        """Move the proxy of every class, where there are any, to the direction of its mean vector, (C, d)."""


class PairObjective(Objective):
    """A loss over pairs or triplets of a batch; with a memory, from a share of the training on, of earlier vectors too.

    triplet: see `triplet_loss`. multi_similarity: Wang et al. 2019, arXiv 1904.06627, with its miner. supcon: Khosla et
    al. 2020, arXiv 2004.11362. Cross-batch memory: Wang et al. 2020, arXiv 1912.06798, who also start it late: at first
    vectors change too fast for earlier ones to be of use.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None, memory: int, dimension: int, start: float):
        super().__init__()
        self.loss, self.miner, self.start = loss, miner, start
        self.memory = _Memory(loss, dimension, memory, miner) if memory else None

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        loss: Tensor
        if self.memory is not None and progress >= self.start:
            loss = self.memory(vectors, labels)
        else:
            loss = self.compare_batch(vectors, labels)
        # vectors that are nan make no pair and a loss of 0; the added zero makes it nan
        return loss + 0 * vectors.sum()

    def compare_batch(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch alone."""
        mined = self.miner(vectors, labels) if self.miner is not None else None
        loss: Tensor = self.loss(vectors, labels, mined)
        return loss


class TripletObjective(PairObjective):
    """`triplet_loss`; the memory compares by the loss and the miner of pytorch-metric-learning."""

    def __init__(self, margin: float, miner: Miner, memory: int, dimension: int, start: float):
        squared = LpDistance(power=2)
        mine = TripletMarginMiner(margin=margin, type_of_triplets=miner, distance=squared)
        super().__init__(TripletMarginLoss(margin=margin, distance=squared), mine, memory, dimension, start)
        self.margin, self.kind = margin, miner

    def compare_batch(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """See `PairObjective`."""
        return triplet_loss(vectors, labels, self.margin, self.kind)


def triplet_loss(vectors: Tensor, labels: Tensor, margin: float, miner: Miner) -> Tensor:
    """Return the mean of max(d²(anchor, positive) - d²(anchor, negative) + margin, 0) over the mined triplets above 0.

    d is the Euclidean distance of vectors (b, d), scaled to length 1, with class codes (b,). The loss is 0 where no
    triplet is mined. Semi-hard: the negative is farther than the positive, by less than the margin (Schroff et al.
    2015, arXiv 1503.03832). hard: it is not farther. all: both. Equal to TripletMarginMiner and TripletMarginLoss of
    pytorch-metric-learning, but counts the triplets instead of listing them, for which a GPU would be waited for.
    """
    unit = functional.normalize(vectors, dim=1)
    squares = torch.cdist(unit, unit).square()
    with torch.no_grad():
        same = labels[:, None] == labels
        positive = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).long()
        negatives, order = squares.masked_fill(same, torch.inf).sort(dim=1)  # of each anchor, the nearest first
        # those mined with a positive are neighbours in this order, from `first` on, and before `end`
        n_nearer = torch.searchsorted(negatives, squares, right=True)
        end = torch.searchsorted(negatives, squares + margin).maximum(n_nearer)
        if miner == "hard":
            end = n_nearer
        first = n_nearer if miner == "semihard" else torch.zeros_like(end)
        n_of_positive = positive * (end - first)
        changes = torch.zeros(len(labels), len(labels) + 1, dtype=torch.long, device=labels.device)
        changes.scatter_add_(1, first, positive).scatter_add_(1, end, -positive)
        n_of_negative = changes.cumsum(dim=1)[:, :-1]
        n_mined = n_of_positive.sum()
    # the sum of the losses, in which every distance counts once for each of its triplets
    total = (n_of_positive * squares).sum() - (n_of_negative * squares.gather(1, order)).sum() + margin * n_mined
    return total / n_mined.clamp(min=1)


class _Memory(CrossBatchMemory):  # type: ignore[misc]
    """A cross-batch memory that saves its position in the queue, and that a batch with nan cannot damage."""

    def add_to_memory(self, embeddings: Tensor, labels: Tensor, batch_size: int) -> None:
        super().add_to_memory(embeddings.nan_to_num(), labels, batch_size)

    def get_extra_state(self) -> dict[str, Any]:
        return {"queue_idx": self.queue_idx, "has_been_filled": self.has_been_filled}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.queue_idx, self.has_been_filled = state["queue_idx"], state["has_been_filled"]


class ProxyObjective(Objective):
    """A loss that compares every vector with one learned point for each class, its proxy.

    normalized_softmax: Zhai & Wu 2019, arXiv 1811.12649. arcface: Deng et al. 2019, arXiv 1801.07698. proxy_anchor:
    Kim et al. 2020, arXiv 2003.13911.
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss
        for name, proxies in loss.named_parameters():
            self.place_proxies(proxies.detach() if name == "proxies" else proxies.detach().T)

    @torch.no_grad()
    def place_proxies(self, means: Tensor) -> None:
        """See `Objective`; proxies have length 1, so that they turn as fast as the vectors."""
        unit = functional.normalize(means, dim=1)
        for name, proxies in self.loss.named_parameters():
            proxies.copy_(unit if name == "proxies" else unit.T)

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        loss: Tensor = self.loss(vectors, labels)
        return loss


class ScheduledObjective(Objective):
    """One objective for the first share of the training, another for the rest."""

    def __init__(self, first: Objective, then: Objective, share: float):
        super().__init__()
        self.first, self.then, self.share = first, then, share

    def place_proxies(self, means: Tensor) -> None:
        """See `Objective`."""
        self.first.place_proxies(means)

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        chosen = self.first if progress < self.share else self.then
        loss: Tensor = chosen(vectors, labels, progress)
        return loss


class Reference2019Objective(Objective):
    """The losses of plankton-siamese (2019) on batches of random triplets: first anchors, then positives, negatives.

    With d⁺ and d⁻ the squared Euclidean distances to the positive and the negative, the mean over the triplets of
    max(d⁺ - d⁻ + margin, 0) (standard), max(d⁺ + margin / d⁻, 0) (geometric) or d⁺ + max(margin - d⁻, 0) (alternative).
    """

    def __init__(self, form: str, margin: float):
        super().__init__()
        self.form, self.margin = form, margin

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        anchors, positives, negatives = vectors.chunk(3)
        to_positive = (anchors - positives).square().sum(dim=1)
        to_negative = (anchors - negatives).square().sum(dim=1)
        if self.form == "standard":
            losses = (to_positive - to_negative + self.margin).clamp(min=0)
        elif self.form == "geometric":
            losses = (to_positive + self.margin / to_negative).clamp(min=0)
        else:
            losses = to_positive + (self.margin - to_negative).clamp(min=0)
        return losses.mean()


class OwnObjective(Objective):
    """A loss of the user, called with the vectors (b, d) and class codes (b,) of a batch."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.loss = loss

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        return self.loss(vectors, labels)


def build_objective(
    settings: TrainingSettings, n_classes: int, dimension: int, name: ObjectiveName | None = None
) -> Objective:
    """Return the objective of the settings, or the one with this `name`."""
    chosen, temperature = name or settings.objective, settings.temperature
    pairs = partial(PairObjective, memory=settings.memory, dimension=dimension, start=settings.warmup)
    if chosen == "scheduled":
        first = build_objective(settings, n_classes, dimension, settings.proxy_objective)
        then = build_objective(settings, n_classes, dimension, "triplet")
        return ScheduledObjective(first, then, settings.proxy_share)
    if chosen == "triplet":
        return TripletObjective(settings.margin, settings.miner, settings.memory, dimension, settings.warmup)
    if chosen == "multi_similarity":
        return pairs(MultiSimilarityLoss(), MultiSimilarityMiner())
    if chosen == "supcon":
        return pairs(SupConLoss(temperature=temperature), None)
    if chosen == "normalized_softmax":
        return ProxyObjective(NormalizedSoftmaxLoss(n_classes, dimension, temperature=temperature))
    if chosen == "arcface":
        degrees = math.degrees(settings.angular_margin)
        return ProxyObjective(ArcFaceLoss(n_classes, dimension, margin=degrees, scale=1 / temperature))
    if chosen == "proxy_anchor":
        return ProxyObjective(ProxyAnchorLoss(n_classes, dimension))
    return Reference2019Objective(settings.form, settings.margin)
