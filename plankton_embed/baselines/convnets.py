"""The convolutional nets of systems A, B and D, with their layers, optimizers and first weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plankton_embed.baselines.net_classifier import NetClassifier, Optimizer, Scaling, count_outputs
from plankton_embed.errors import SettingError

if TYPE_CHECKING:
    from torch import nn

KERAS_EPSILON = 1e-3  # added to the variance in batch normalisation


@dataclass(kw_only=True, eq=False, repr=False)
class FourConvNet(NetClassifier):
    """System A's net of four convolutions, for grey images of 64×48.

    Twice two convolutions (32 of 5×5, 64 of 3×3, each with ReLU and then batch normalisation) and a pooling by 2,
    with dropout .25 after the first pooling; then 256 values with ReLU, batch normalisation and dropout .5. With 37
    classes 3,238,277 parameters are trained. RMSprop at 1e-3, halved after two epochs without a better validation
    accuracy, down to 1e-5; batches of 100; 15 epochs. A kept the last epoch; here the best is kept. The momentum of
    the batch normalisation is .1, not Keras's .01, with which it would not converge on small sets.

    The parameters are those of `NetClassifier`.
    """

    epochs: int = 15
    batch_size: int = 100
    optimizer: Optimizer = "rmsprop"
    plateau_factor: float = 0.5

    def _design(self, shape: tuple[int, int, int], n_classes: int) -> list[nn.Module]:
        from torch import nn

        def convolve(n_in: int, n_out: int, kernel: int) -> list[nn.Module]:
            convolution = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
            return [convolution, nn.ReLU(), nn.BatchNorm2d(n_out, eps=KERAS_EPSILON)]

        layers = [
            *convolve(shape[0], 32, 5),
            *convolve(32, 32, 5),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            *convolve(32, 64, 3),
            *convolve(64, 64, 3),
            nn.MaxPool2d(2),
            nn.Flatten(),
        ]
        n_values = count_outputs(layers, shape, type(self).__name__)
        dense = [nn.Linear(n_values, 256), nn.ReLU(), nn.BatchNorm1d(256, eps=KERAS_EPSILON), nn.Dropout(0.5)]
        return [*layers, *dense, nn.Linear(256, n_classes)]


@dataclass(kw_only=True, eq=False, repr=False)
class SmallNet(NetClassifier):
    """System B's nets of 8, 6 and 4 layers, for grey images of 64×64 with their raw values 0-255.

    8 layers: 32 convolutions of 3×3, 64 of 3×3, pooling by 2, dropout .25, flat, 64 values, dropout .5, classes. 6: no
    second convolution and no first dropout. 4: convolution, pooling, flat, classes. All with ReLU. For three classes
    they have 3,705,475, 1,968,707 and 92,579 parameters. Adadelta at 1e-3, batches of 128, 20 epochs; the best is kept
    (B kept the last). At that rate Adadelta is slow: more epochs, `learning_rate=1.0` or another optimizer learn more.
    B's rare class was never predicted: see `class_weight`, `sampling` and `grow_rare`.

    Args:
        n_layers: 8, 6 or 4.

    The other parameters are those of `NetClassifier`.
    """

    n_layers: int = 8
    optimizer: Optimizer = "adadelta"
    scaling: Scaling = "raw"

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.n_layers not in (8, 6, 4):
            raise SettingError(f"n_layers: expected 8, 6 or 4; found {self.n_layers!r}")

    def _design(self, shape: tuple[int, int, int], n_classes: int) -> list[nn.Module]:
        from torch import nn

        layers: list[nn.Module] = [nn.Conv2d(shape[0], 32, 3), nn.ReLU()]
        if self.n_layers == 8:
            layers += [nn.Conv2d(32, 64, 3), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        if self.n_layers == 8:
            layers.append(nn.Dropout(0.25))
        layers.append(nn.Flatten())
        n_values = count_outputs(layers, shape, type(self).__name__)
        if self.n_layers > 4:
            layers += [nn.Linear(n_values, 64), nn.ReLU(), nn.Dropout(0.5)]
            n_values = 64
        return [*layers, nn.Linear(n_values, n_classes)]


@dataclass(kw_only=True, eq=False, repr=False)
class LeNet(NetClassifier):
    """System D's LeNet, for images of 64×64 in three channels (`read_pixels(..., channels="three")`).

    Three times a convolution of 2×2 with ReLU and a pooling by 2, with 6, 16 and 16 filters; then 250 and 100 values
    with ReLU. 226,908 parameters for 40 classes. 30 epochs (D: 20 to 30), with images turned and mirrored in training;
    Adam at 1e-3 is our choice. D trained it with and without balanced weights: `class_weight`.

    The parameters are those of `NetClassifier`.
    """

    epochs: int = 30
    turn: bool = True

    def _design(self, shape: tuple[int, int, int], n_classes: int) -> list[nn.Module]:
        from torch import nn

        layers: list[nn.Module] = []
        for n_in, n_out in ((shape[0], 6), (6, 16), (16, 16)):
            layers += [nn.Conv2d(n_in, n_out, 2), nn.ReLU(), nn.MaxPool2d(2)]
        layers.append(nn.Flatten())
        n_values = count_outputs(layers, shape, type(self).__name__)
        dense = [nn.Linear(n_values, 250), nn.ReLU(), nn.Linear(250, 100), nn.ReLU()]
        return [*layers, *dense, nn.Linear(100, n_classes)]
