"""The embedding network: trunk, linear head, and scaling to unit length (or a sigmoid)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from plankton_embed.errors import SettingError
from plankton_embed.network.pretrained import HUB, choose_weights
from plankton_embed.network.timm_trunks import Normalization, build_timm_trunk, is_timm
from plankton_embed.network.trunks import IMAGENET_MEAN, IMAGENET_STD, build_empty_trunk, build_trunk, check_trunk
from plankton_embed.settings import NetworkSettings


class EmbeddingNet(nn.Module):
    """Maps pixels (b, 1 or 3, T, T), 0-255, to vectors (b, d): of length 1, or in 0-1 (`output` sigmoid).

    With `size_inputs` the input of the head is the features of the trunk and the log side lengths (b, 2) of the images.
    `normalization`: mean and standard deviation that the trunk expects, saved with it; by default those of ImageNet.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, trunk: nn.Module, n_features: int, settings: NetworkSettings, normalization: Normalization | None = None
    ):
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(settings.dropout)
        self.size_inputs = settings.size_inputs != "none"
        self.head = nn.Linear(n_features + 2 * self.size_inputs, settings.dimension)
        self.output: str = settings.output
        if settings.output == "sigmoid":  # first weights of a dense layer in Keras
            nn.init.xavier_uniform_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        mean, std = normalization or (IMAGENET_MEAN, IMAGENET_STD)
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=normalization is not None)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None], persistent=normalization is not None)

    def forward(
        self, pixels: Tensor, sides: Tensor | None = None, trunk: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Embed a batch, with a compiled `trunk` where given; grey images are copied to three channels."""
        features = self.extract_features(pixels, sides, trunk)
        with torch.autocast(pixels.device.type, enabled=False):
            return self.scale_output(self.head(features))

    def extract_features(
        self, pixels: Tensor, sides: Tensor | None = None, trunk: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the input of the head, float32 (b, features)."""
        images = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = self.dropout((trunk or self.trunk)(images)).float()
        return torch.cat([features, sides], dim=1) if self.size_inputs else features  # type: ignore[list-item]

    def scale_output(self, vectors: Tensor) -> Tensor:
        """Scale the output of the head to unit length, or to 0-1."""
        return vectors.sigmoid() if self.output == "sigmoid" else functional.normalize(vectors, dim=1)


def build_net(
    settings: NetworkSettings,
    seed: int,
    side: int | None = None,
    *,
    empty: bool = False,
    kind: type[EmbeddingNet] = EmbeddingNet,
) -> EmbeddingNet:
    """Build a network.

    Args:
        settings: its trunk, starting weights, and head.
        seed: seed of the random weights.
        side: side of the images, pixels; needed by trunks with a fixed input size (see `build_timm_trunk`).
        empty: leave the starting weights out, because others are loaded next.
        kind: class of the network.

    Raises:
        SettingError, InputError, DependencyError: see `build_trunk` and `build_timm_trunk`.
    """
    if not empty:
        settings = settings.model_copy(update={"weights": choose_weights(settings)})
        check_weights(settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if is_timm(settings.trunk):
            trunk, n_features, normalization = build_timm_trunk(settings, side, empty=empty)
            net = kind(trunk, n_features, settings, normalization)
        else:
            net = kind(*(build_empty_trunk(settings.trunk) if empty else build_trunk(settings)), settings)
    return net.to(memory_format=torch.channels_last)


def check_network(settings: NetworkSettings, side: int) -> None:
    """Make sure, before any long work, that the trunk exists and takes images of this side (pixels).

    Raises:
        SettingError: it does not, or its starting weights are for trunks of another library.
        DependencyError, InputError: see `build_timm_trunk`.
    """
    check_weights(settings)
    if is_timm(settings.trunk):
        build_timm_trunk(settings, side, empty=True)
    else:
        check_trunk(settings.trunk)


def check_weights(settings: NetworkSettings) -> None:
    """Raise a SettingError if `network.weights` names weights of another library: `imagenet` for timm, or `hub`."""
    trunk, weights = settings.trunk, settings.weights
    if is_timm(trunk) and weights == "imagenet":
        raise SettingError(f"network.weights: imagenet is for trunks of torchvision; for {trunk} set hub")
    if not is_timm(trunk) and (weights == "hub" or weights.startswith(HUB)):
        raise SettingError(f"network.weights: {weights} is for trunks of timm; for {trunk} of torchvision set imagenet")
