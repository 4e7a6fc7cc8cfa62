"""Trunk, then a linear head, then the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plankton_embed.network.trunks import IMAGENET_MEAN, IMAGENET_STD, build_empty_trunk, build_trunk
from plankton_embed.settings import NetworkSettings


class EmbeddingNet(nn.Module):
    """Maps pixels (b, 1 or 3, T, T), 0-255, to unit vectors (b, d)."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, n_features: int, dimension: int, dropout: float = 0.0):
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_features, dimension)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed a batch; grey is copied to three channels."""
        images = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = self.dropout(self.trunk(images))
        return functional.normalize(self.head(features).float(), dim=1)


def build_net(settings: NetworkSettings, seed: int, *, empty: bool = False) -> EmbeddingNet:
    """Build a net with its starting weights, or with any weights (`empty`) when others will be loaded into it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        trunk, n_features = build_empty_trunk(settings.trunk) if empty else build_trunk(settings)
        net = EmbeddingNet(trunk, n_features, settings.dimension, settings.dropout)
    return net.to(memory_format=torch.channels_last)
