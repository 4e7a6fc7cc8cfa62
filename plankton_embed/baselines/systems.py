"""The systems of a comparison: their classifiers, origins and inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from plankton_embed.baselines.convnets import FourConvNet, LeNet, SmallNet
from plankton_embed.baselines.fine_tuned import FineTunedNet
from plankton_embed.baselines.inputs import Channels
from plankton_embed.baselines.pixels import PixelMLP
from plankton_embed.baselines.tabular import BoostedTreesClassifier


@dataclass(frozen=True)
class System:
    """A classifier of a comparison.

    `origin`: the system that it comes from, A to D, or `ours`. `build` returns its classifier with its settings, from
    the weights of a trunk where it is `pretrained`; it is not used for an embedding, nor for `softmax`. `pixels`:
    height, width and channels of the input of a net, None: the padded squares of an embedding.
    `grow`: small classes of the training part are grown by A's passes. `trunk`: the pretrained trunk, None: that of the
    settings.
    """

    origin: str
    kind: Literal["net", "trees", "embedding", "softmax"]
    build: Callable[..., Any] = dict
    pixels: tuple[int, int, Channels] | None = None
    grow: bool = False
    pretrained: bool = False
    trunk: str | None = None


_A: dict[str, Any] = {"origin": "A", "kind": "net", "pixels": (64, 48, "grey")}
_B: dict[str, Any] = {"origin": "B", "kind": "net", "pixels": (64, 64, "grey")}
_B_ADAM: dict[str, Any] = {"optimizer": "adam", "scaling": "standard"}
_D: dict[str, Any] = {"origin": "D", "kind": "net", "pixels": (64, 64, "three")}


def _fine_tune(weights: str) -> FineTunedNet:
    """Return C's net; without pretrained weights all of it learns from the start."""
    return (
        FineTunedNet(head_epochs=0, body_share=1.0, weights=weights)
        if weights == "none"
        else FineTunedNet(weights=weights)
    )


SYSTEMS: dict[str, System] = {
    "pixel_mlp": System(**_A, build=PixelMLP),
    "pixel_mlp_60_40": System(**_A, build=lambda: PixelMLP(hidden=(60, 40))),
    "pixel_mlp_grown": System(**_A, build=PixelMLP, grow=True),
    "four_conv": System(**_A, build=FourConvNet),
    "four_conv_grown": System(**_A, build=FourConvNet, grow=True),
    "small_net_8": System(**_B, build=SmallNet),
    "small_net_6": System(**_B, build=lambda: SmallNet(n_layers=6)),
    "small_net_4": System(**_B, build=lambda: SmallNet(n_layers=4)),
    "small_net_8_weighted": System(**_B, build=lambda: SmallNet(class_weight="balanced")),
    "small_net_8_balanced": System(**_B, build=lambda: SmallNet(sampling="balanced")),
    "small_net_8_rare_grown": System(**_B, build=lambda: SmallNet(grow_rare=True)),
    "small_net_8_adam": System(**_B, build=lambda: SmallNet(**_B_ADAM)),
    "small_net_8_adam_weighted": System(**_B, build=lambda: SmallNet(**_B_ADAM, class_weight="balanced")),
    "small_net_8_adam_balanced": System(**_B, build=lambda: SmallNet(**_B_ADAM, sampling="balanced")),
    "small_net_8_adam_rare_grown": System(**_B, build=lambda: SmallNet(**_B_ADAM, grow_rare=True)),
    "fine_tuned": System("C", "net", _fine_tune, pretrained=True, trunk="resnet18"),
    "lenet": System(**_D, build=LeNet),
    "lenet_weighted": System(**_D, build=lambda: LeNet(class_weight="balanced")),
    "vgg19_frozen": System(
        **_D,
        build=lambda weights: FineTunedNet(trunk="vgg19", weights=weights, frozen=True),
        pretrained=True,
        trunk="vgg19",
    ),
    "boosted_trees": System("D", "trees", BoostedTreesClassifier),
    "boosted_trees_lightgbm": System("D", "trees", lambda: BoostedTreesClassifier(kind="lightgbm")),
    "softmax": System("ours", "softmax"),
    "softmax_pretrained": System("ours", "softmax", pretrained=True),
    "embedding": System("ours", "embedding"),
    "embedding_pretrained": System("ours", "embedding", pretrained=True),
}
DEFAULT_SYSTEMS = (  # one of each kind; the others are variants of these
    "pixel_mlp",
    "four_conv",
    "small_net_8",
    "small_net_6",
    "small_net_4",
    "fine_tuned",
    "lenet",
    "lenet_weighted",
    "vgg19_frozen",
    "boosted_trees",
    "softmax",
    "softmax_pretrained",
    "embedding",
    "embedding_pretrained",
)
