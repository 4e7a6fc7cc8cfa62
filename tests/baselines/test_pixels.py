"""System A's net on flat pixels: parameters, layers, learning, stopping."""

import numpy as np
import pytest
import torch

from plankton_embed.baselines.pixels import PixelMLP


@pytest.mark.parametrize(("hidden", "n_parameters"), [((100,), 311_037), ((60, 40), 188_337)])
def test_parameters_are_those_of_system_a(hidden, n_parameters):
    images = np.random.default_rng(0).integers(0, 256, (74, 64, 48), dtype=np.uint8)
    net = PixelMLP(hidden=hidden, epochs=1).fit(images, np.arange(74) % 37)
    assert net.n_parameters_ == n_parameters == sum(p.numel() for p in net.net_.parameters())


def test_the_layer_table():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    table = PixelMLP(hidden=(5,), epochs=1).fit(images, np.arange(8) % 2).layers_
    assert table.values.tolist() == [
        ["flatten_1", "Flatten", "12", 0],
        ["linear_1", "Linear", "5", 65],
        ["relu_1", "ReLU", "5", 0],
        ["linear_2", "Linear", "2", 12],
    ]


def test_probabilities_are_a_softmax_of_two_layers():
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    net = PixelMLP(hidden=(7,), epochs=2, device="cpu").fit(images, np.arange(20) % 4)
    (w1, b1, w2, b2) = (value.detach().numpy() for value in net.net_.parameters())
    flat = (images.reshape(20, -1) - net.mean_) / net.scale_
    logits = np.maximum(flat @ w1.T + b1, 0) @ w2.T + b2
    np.testing.assert_allclose(net.predict_proba(images), torch.softmax(torch.from_numpy(logits), 1), atol=1e-5)


def test_it_learns_four_shapes(draw_shapes):
    images, labels = draw_shapes(320, 20)
    net = PixelMLP(epochs=40, batch_size=32, learning_rate=2e-3, device="cpu").fit(images[:240], labels[:240])
    assert net.score(images[240:], labels[240:]) > 0.9


def test_it_stops_after_five_epochs_below_the_best():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 8, 8), dtype=np.uint8)  # nothing to learn
    history = PixelMLP(learning_rate=1e-2, device="cpu").fit(images, rng.integers(0, 3, 200)).history_
    f1 = history["val_f1_macro"].to_numpy()
    best = len(f1) - 1 - f1[::-1].argmax()
    assert len(f1) == best + 1 + 5 < 200
    assert history["epoch"][history["kept"]].tolist() == [best + 1]
