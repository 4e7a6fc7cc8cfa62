"""Systems C and D: a trunk of torchvision with a new head, fine-tuned or frozen."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.baselines.net_batches import Codes, Pixels
from plankton_embed.baselines.net_classifier import NetClassifier, Scaling, Watch, count_trained
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import shuffle_by_class
from plankton_embed.output import progress_bar
from plankton_embed.settings import NetworkSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

FEATURES_SHARE = 0.9  # of `seconds`, for the features of a frozen trunk; the rest is for the head

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class FineTunedNet(NetClassifier):
    """A trunk of torchvision with a new linear head: systems C (`resnet18`) and D (frozen `vgg19`).

    At first only the head learns, at `learning_rate`; then everything learns, at `body_share` of it. While only the
    head learns, no bit of the trunk changes: its batch normalisation uses the moments it came with, its dropout is off.
    One epoch and then twelve; training stops when the validation loss has not improved for three epochs, and the best
    epoch is kept. A trunk without pretrained weights should learn from the start, at the full rate:
    `FineTunedNet(weights="none", head_epochs=0, body_share=1.0)`.

    Args:
        trunk: a classification model of torchvision that ends in a linear layer, by name.
        weights: starting weights of the trunk: `imagenet` (downloaded once), `none`, a file of weights, a saved
            EmbeddingModel, a run folder, or the folder of a saved FineTunedNet with the same trunk and any classes.
        head_epochs: epochs in which only the head learns; 0: everything learns from the start.
        body_share: factor of the learning rate of trunk and head after those epochs.
        frozen: the trunk never learns. Its features of each image are computed once, without turned views, and the head
            learns from them: 4 bytes a value in memory, 16 KiB an image for VGG-19. Where that would take more than
            nine tenths of `seconds`, the images for which there is no time are left out, and warnings count the others.
            `head_epochs` and `body_share` are not used then and must keep their defaults.
        turn: as in `NetClassifier`; None: True, unless frozen.
        scaling: as in `NetClassifier`; a trunk takes three channels, so grey images need `imagenet`.

    The other parameters are those of `NetClassifier`; `seconds` and the seconds of the first epoch include the features
    of a frozen trunk. `layers_` has a row for each part of the trunk and one for the head.
    """

    trunk: str = "resnet18"
    weights: str | Path = "imagenet"
    head_epochs: int = 1
    body_share: float = 0.1
    frozen: bool = False
    epochs: int = 13
    batch_size: int = 64
    scaling: Scaling = "imagenet"
    turn: bool | None = None  # type: ignore[assignment]
    watch: Watch | None = "loss"
    patience: int | None = 3

    _block: ClassVar[int] = 64  # a trunk needs much more memory per image than the small nets

    def _check_settings(self) -> None:
        from plankton_embed.network.trunks import check_trunk

        super()._check_settings()
        check_trunk(self.trunk)
        if not self.head_epochs >= 0:
            raise SettingError(f"head_epochs: expected at least 0; found {self.head_epochs!r}")
        if not 0 < self.body_share <= 1:
            raise SettingError(f"body_share: expected above 0, at most 1; found {self.body_share!r}")
        if self.frozen and (self.turn or self.grow_rare):
            raise SettingError("turn and grow_rare: a frozen trunk embeds every image once, unturned; leave them out")
        if self.frozen and (self.head_epochs, self.body_share) != (FineTunedNet.head_epochs, FineTunedNet.body_share):
            raise SettingError("head_epochs and body_share: a frozen trunk never learns; leave them out")

    @property
    def _turns(self) -> bool:
        return not self.frozen if self.turn is None else self.turn

    def _design(self, shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        from torch import nn

        from plankton_embed.network.trunks import build_empty_trunk

        if shape[0] != 3:
            raise SettingError(
                f"scaling: {self.scaling!r} gives grey images one channel, but a trunk needs three; set it to imagenet"
            )
        trunk, n_features = build_empty_trunk(self.trunk)
        head = nn.Linear(n_features, n_classes)
        return nn.Sequential(OrderedDict(trunk=trunk.requires_grad_(not self.frozen), head=head))

    def _list_layers(self, net: nn.Sequential, shape: tuple[int, int, int]) -> pd.DataFrame:
        """Return the layer table: a row for each part of the trunk, and one for the head."""
        import torch
        from torch import nn

        trunk, head = net
        parts = {name: part for name, part in trunk.named_children() if not isinstance(part, nn.Identity)}
        layers = {f"trunk.{name}": part for name, part in parts.items()} | {"head": head}
        shapes: dict[nn.Module, str] = {}

        def record_shape(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
            shapes[layer] = "×".join(map(str, output.shape[1:]))

        hooks = [layer.register_forward_hook(record_shape) for layer in layers.values()]
        try:
            with torch.inference_mode():
                net.eval()(torch.zeros(1, *shape))
        except (RuntimeError, ValueError, AssertionError) as error:  # vision transformers assert their image size
            raise InputError(
                f"images of {shape[1]}×{shape[2]} pixels do not fit the trunk {self.trunk}; read them in a "
                f"larger size, or in the size that it needs ({error})"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        rows = [
            (name, type(layer).__name__, shapes.get(layer, ""), count_trained(layer)) for name, layer in layers.items()
        ]
        n_outside = count_trained(trunk) - sum(count_trained(part) for part in parts.values())
        if n_outside:  # parameters in no part, such as the class token of a transformer
            rows.insert(0, ("trunk", type(trunk).__name__, "", n_outside))
        return pd.DataFrame(rows, columns=["name", "kind", "output_shape", "parameters"])

    def _start_weights(self, net: nn.Sequential) -> None:
        from plankton_embed.network.trunks import start_trunk

        super()._start_weights(net[1:])
        start_trunk(net[0], NetworkSettings(trunk=self.trunk, weights=str(self.weights)))

    def _begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        super()._begin_epoch(epoch, optimizer)
        if self.frozen:
            return
        everything = epoch > self.head_epochs
        self.net_[0].train(everything).requires_grad_(everything)
        if epoch == self.head_epochs + 1:
            for group in optimizer.param_groups:
                group["lr"] *= self.body_share

    def _train(
        self,
        pixels: NDArray[Any],
        codes: Codes,
        watched: tuple[NDArray[Any], Codes] | None,
        started: float | None = None,
    ) -> None:
        """Train the whole net; or, with a frozen trunk, the head on its features."""
        from torch import nn

        if not self.frozen:
            super()._train(pixels, codes, watched, started)
            self.net_[0].requires_grad_(True)  # training may have stopped while only the head learned
            return
        started = time.perf_counter() if started is None else started
        time_left = np.inf if self.seconds is None else FEATURES_SHARE * self.seconds
        if watched is not None:
            share = len(watched[1]) / (len(watched[1]) + len(codes))
            watched = self._extract_features(*watched, "float32", started + share * time_left, "validation")
        learned = self._extract_features(pixels, codes, self.precision, started + time_left, "training")
        whole, self.net_ = self.net_, nn.Sequential(self.net_[1])
        try:
            super()._train(*learned, watched, started)
        finally:
            self.net_ = whole

    def _to_inputs(self, pixels: NDArray[Any]) -> torch.Tensor:
        """Return scaled pixels on the device of the net, or features (n, d) unchanged."""
        import torch

        return torch.from_numpy(pixels).to(self._device) if pixels.ndim == 2 else super()._to_inputs(pixels)

    def _extract_features(
        self, pixels: Pixels, codes: Codes, precision: Any, deadline: float, part: str
    ) -> tuple[NDArray[np.float32], Codes]:
        """Return features (m, d) and class codes of all images, or of those for which there is time."""
        rows = spread_classes(codes, self.seed)
        features = self._compute_features(pixels, rows, precision, len(np.unique(codes)), deadline)
        if len(features) < len(rows):
            logger.warning(
                "%s has time for %s of %s %s images in %s s; the others are left out",
                self.trunk, f"{len(features):,}", f"{len(rows):,}", part, self.seconds,
            )  # fmt: skip
        order = np.argsort(rows[: len(features)])
        return features[order], codes[rows[order]]

    def _compute_features(
        self, pixels: Pixels, rows: Codes, precision: Any, least: int, deadline: float
    ) -> NDArray[np.float32]:
        """Return the features (m, d) of the first rows: `least`, and as many as there is time for."""
        import torch

        from plankton_embed.network.device import autocast

        blocks: list[torch.Tensor] = []
        starts = range(0, len(rows), self._block)
        self.net_.eval()
        with torch.inference_mode(), autocast(self._device, precision):
            for start in progress_bar(starts, "features", "block", shown=self.progress):
                if start >= least and time.perf_counter() >= deadline:
                    break
                inputs = self._to_inputs(pixels[rows[start : start + self._block]])
                blocks.append(self.net_[0](inputs).float().cpu())
        return np.asarray(torch.cat(blocks).numpy())


def spread_classes(codes: Codes, seed: int) -> Codes:
    """Return all rows in random order: one of every class first, then every class evenly over the rest."""
    order, number = shuffle_by_class(codes, np.random.default_rng(seed))
    share = (number + 0.5) / np.bincount(codes)[codes[order]]
    return np.asarray(order[np.lexsort((share, number > 0))])
