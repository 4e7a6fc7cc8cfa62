"""System A's first net: fully connected layers from the pixels to the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from plankton_embed.baselines.net_classifier import NetClassifier
from plankton_embed.errors import SettingError

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True, eq=False, repr=False)
class PixelMLP(NetClassifier):
    """Fully connected layers with ReLU on the flat pixels, trained with Adam.

    System A: one hidden layer of 100, or two of 60 and 40; Adam at 5e-4; training stops after five epochs in a row
    below the best macro F1. On grey images of 64×48 and 37 classes (100,) makes 311,037 parameters. A trained with
    targets as if an image could have several classes; here the classes exclude each other (softmax), as in its labels.

    Args:
        hidden: widths of the hidden layers.

    The other parameters are those of `NetClassifier`.
    """

    hidden: Sequence[int] = (100,)
    epochs: int = 200
    batch_size: int = 200
    learning_rate: float = 5e-4
    patience: int | None = 5

    def _check_settings(self) -> None:
        super()._check_settings()
        is_list = isinstance(self.hidden, Sequence)
        if not is_list or not all(isinstance(width, int) and width >= 1 for width in self.hidden):
            raise SettingError(f"hidden: expected a list of widths of at least 1; found {self.hidden!r}")

    def _design(self, shape: tuple[int, int, int], n_classes: int) -> list[nn.Module]:
        from torch import nn

        channels, height, width = shape
        *steps, last = pairwise([channels * height * width, *self.hidden, n_classes])
        inner = [layer for n_in, n_out in steps for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
        return [nn.Flatten(), *inner, nn.Linear(*last)]
