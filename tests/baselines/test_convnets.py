"""The nets of systems A, B and D: parameters, layers, first weights, learning."""

import numpy as np
import pytest
import torch
from torch import nn

from plankton_embed.baselines.convnets import FourConvNet, LeNet, SmallNet
from plankton_embed.baselines.fine_tuned import FineTunedNet
from plankton_embed.baselines.inputs import three_channels
from plankton_embed.baselines.pixels import PixelMLP
from plankton_embed.errors import SettingError


@pytest.mark.parametrize(
    ("net", "shape", "n_classes", "n_parameters"),
    [
        (FourConvNet(epochs=1), (64, 48), 37, 3_238_277),
        (SmallNet(epochs=1), (64, 64), 3, 3_705_475),
        (SmallNet(n_layers=6, epochs=1), (64, 64), 3, 1_968_707),
        (SmallNet(n_layers=4, epochs=1), (64, 64), 3, 92_579),
        (LeNet(epochs=1), (64, 64, 3), 40, 226_908),
    ],
    ids=["A", "B8", "B6", "B4", "D"],
)
def test_parameters_are_those_of_the_systems(net, shape, n_classes, n_parameters):
    images = np.random.default_rng(0).integers(0, 256, (n_classes, *shape), dtype=np.uint8)
    net.set_params(device="cpu").fit(images, np.arange(n_classes))
    assert net.n_parameters_ == n_parameters
    assert n_parameters == sum(p.numel() for p in net.net_.parameters() if p.requires_grad)
    assert net.layers_["parameters"].sum() == n_parameters


def test_the_layers_of_four_conv_net():
    net = FourConvNet(epochs=1, device="cpu").fit(np.zeros((4, 64, 48), np.uint8), list("abab"))
    block = ["Conv2d", "ReLU", "BatchNorm2d"]
    dense = ["Flatten", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    assert net.layers_["kind"].tolist() == [
        *block, *block, "MaxPool2d", "Dropout", *block, *block, "MaxPool2d", *dense,
    ]  # fmt: skip
    table = net.layers_.set_index("name")["output_shape"]
    assert table["conv2d_2"] == "32×64×48"
    assert table["maxpool2d_1"] == "32×32×24"
    assert table["flatten_1"] == "12288"
    assert [net.net_.dropout_1.p, net.net_.dropout_2.p] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("n_layers", "kinds"),
    [
        (8, "Conv2d ReLU Conv2d ReLU MaxPool2d Dropout Flatten Linear ReLU Dropout Linear"),
        (6, "Conv2d ReLU MaxPool2d Flatten Linear ReLU Dropout Linear"),
        (4, "Conv2d ReLU MaxPool2d Flatten Linear"),
    ],
)
def test_the_layers_of_small_net(n_layers, kinds):
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12), dtype=np.uint8)
    net = SmallNet(n_layers=n_layers, epochs=1, device="cpu").fit(images, np.arange(6) % 3)
    assert " ".join(net.layers_["kind"]) == kinds
    counted = net.layers_["kind"].isin(["Conv2d", "MaxPool2d", "Dropout", "Flatten", "Linear"])
    assert counted.sum() == n_layers


def test_first_weights_are_glorots_and_biases_zero():
    net = LeNet(epochs=1, device="cpu", learning_rate=1e-12).fit(np.zeros((4, 64, 64, 3), np.uint8), list("abab"))
    layers = [layer for layer in net.net_ if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        n_out, n_in = layer.weight.shape[:2]
        area = layer.weight[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        bound = (6 / ((n_in + n_out) * area)) ** 0.5
        weights = layer.weight.detach()
        assert 0.8 * bound < weights.abs().max() <= bound * 1.0001
        assert weights.std() == pytest.approx(bound / 3**0.5, rel=0.25)
        assert layer.bias.detach().abs().max() < 1e-9


@pytest.mark.parametrize(
    ("net", "optimizer", "settings"),
    [
        (FourConvNet(epochs=1), torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7}),
        (SmallNet(epochs=1), torch.optim.Adadelta, {"lr": 1e-3, "rho": 0.95, "eps": 1e-7}),
        (LeNet(epochs=1), torch.optim.Adam, {"lr": 1e-3, "eps": 1e-7}),
        (PixelMLP(epochs=1), torch.optim.Adam, {"lr": 5e-4, "eps": 1e-7}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_optimizers_are_those_of_the_systems(net, optimizer, settings):
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 20), dtype=np.uint8)
    built = net.fit(images, list("abab"))._build_optimizer()
    assert type(built) is optimizer
    assert {name: built.defaults[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("net", "settings"),
    [
        (PixelMLP(), {"hidden": (100,), "watch": "f1_macro", "patience": 5, "scaling": "standard"}),
        (FourConvNet(), {"epochs": 15, "batch_size": 100, "plateau_factor": 0.5, "plateau_patience": 2}),
        (FourConvNet(), {"least_rate": 1e-5, "patience": None, "turn": False, "scaling": "standard"}),
        (SmallNet(), {"n_layers": 8, "epochs": 20, "batch_size": 128, "scaling": "raw", "turn": False}),
        (SmallNet(), {"class_weight": None, "sampling": "natural", "grow_rare": False}),
        (LeNet(), {"epochs": 30, "turn": True, "class_weight": None}),
        (FineTunedNet(), {"trunk": "resnet18", "head_epochs": 1, "epochs": 13, "body_share": 0.1, "watch": "loss"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_settings_are_those_of_the_systems(net, settings):
    found = net.get_params()
    assert {name: found[name] for name in settings} == settings


def test_other_numbers_of_layers_are_refused():
    with pytest.raises(SettingError, match="n_layers: expected 8, 6 or 4; found 5"):
        SmallNet(n_layers=5).fit(np.zeros((4, 20, 20), np.uint8), list("abab"))


@pytest.mark.parametrize(
    ("net", "channels"),
    [
        (FourConvNet(epochs=6, batch_size=32), 1),
        (SmallNet(epochs=4, batch_size=32, learning_rate=0.5, scaling="standard"), 1),
        (SmallNet(n_layers=6, epochs=6, batch_size=32, learning_rate=0.5, scaling="standard"), 1),
        (SmallNet(n_layers=4, epochs=6, batch_size=32, learning_rate=0.5), 1),
        (LeNet(epochs=20, batch_size=32, learning_rate=2e-3), 3),
    ],
    ids=["A", "B8", "B6", "B4", "D"],
)
def test_each_net_learns_four_shapes(net, channels, draw_shapes):
    images, labels = draw_shapes(400, 20)
    images = three_channels(images) if channels == 3 else images
    net.set_params(device="cpu").fit(images[:320], labels[:320])
    assert net.score(images[320:], labels[320:]) > 0.9
    assert len(net.history_) == net.epochs
