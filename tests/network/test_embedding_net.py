"""The net: grey and colour, unit length or sigmoid, the size beside the pixels, and its starting weights."""

import math

import pytest
import torch
from torch import nn

from plankton_embed.network.embedding_net import EmbeddingNet, build_net
from plankton_embed.settings import NetworkSettings

SMALL = NetworkSettings(trunk="resnet18", dimension=8)
SIGMOID = NetworkSettings(trunk="resnet18", dimension=8, output="sigmoid")
SIZED = NetworkSettings(trunk="resnet18", dimension=8, size_inputs="pixels")


@pytest.fixture(scope="module")
def net():
    return build_net(SMALL, seed=0).eval()


@pytest.fixture
def grey():
    return 255 * torch.rand(3, 1, 75, 75, generator=torch.Generator().manual_seed(0))


def test_grey_is_the_same_image_in_three_channels(net, grey):
    assert torch.equal(net(grey), net(grey.expand(-1, 3, -1, -1)))


def test_pixels_are_normalised_as_for_imagenet(net, grey):
    seen = []
    hook = net.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(grey)
    hook.remove()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(seen[0], (grey / 255 - mean) / std)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_vectors_have_unit_length(net, grey, dtype):
    vectors = net(grey.to(dtype))
    assert (vectors.shape, vectors.dtype) == ((3, 8), torch.float32)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_vectors_have_unit_length_in_bfloat16_too(net, grey):
    with torch.autocast("cpu", torch.bfloat16):
        vectors = net(grey)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("settings", [SMALL, SIGMOID, SIZED], ids=["unit", "sigmoid", "sized"])
def test_the_head_computes_in_float32_whatever_the_trunk_does(settings):
    features = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    net = EmbeddingNet(Fixed(features.bfloat16()), 5, settings)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = net(torch.zeros(3, 1, 4, 4), torch.zeros(3, 2))
        assert net.trunk(None).dtype == (net.trunk(None) @ torch.ones(5, 1)).dtype == torch.bfloat16
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, net(torch.zeros(3, 1, 4, 4), torch.zeros(3, 2)))


class Fixed(nn.Module):
    """A trunk that finds the same features in any image."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, images):
        return self.features


def with_head(settings, features, weight, bias):
    """A net whose trunk finds these features, and whose head is this one."""
    features = torch.tensor(features)
    net = EmbeddingNet(Fixed(features), features.shape[1], settings)
    with torch.no_grad():
        net.head.weight.copy_(torch.tensor(weight))
        net.head.bias.copy_(torch.tensor(bias))
    return net


def test_the_outputs_by_hand():
    features, weight, bias = [[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [4.0, math.log(3)]], [0.0, 0.0]
    pixels = torch.zeros(2, 1, 4, 4)
    unit = with_head(NetworkSettings(dimension=2), features, weight, bias)(pixels)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    sigmoid = with_head(NetworkSettings(dimension=2, output="sigmoid"), features, weight, bias)(pixels)
    torch.testing.assert_close(sigmoid[1], torch.tensor([0.5, 0.75]))  # 1 / (1 + exp(-log 3)) = 3 / 4


def test_the_sides_come_after_the_features_by_hand():
    settings = NetworkSettings(dimension=2, size_inputs="micrometres", output="sigmoid")
    net = with_head(settings, [[1.0], [1.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], [0.0, 0.0])
    vectors = net(torch.zeros(2, 1, 4, 4), torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]]))
    torch.testing.assert_close(vectors, torch.tensor([[0.75, 0.5], [0.5, 0.9]]))  # 2 log 3 = log 9


def test_a_sigmoid_gives_numbers_between_0_and_1(grey):
    vectors = build_net(SIGMOID, seed=0).eval()(grey)
    assert (vectors.shape, vectors.dtype) == ((3, 8), torch.float32)
    assert 0 < vectors.min() < vectors.max() < 1
    assert not torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=0.01)


def test_the_head_of_a_sigmoid_starts_glorot_uniform_with_zero_bias():
    net = build_net(NetworkSettings(trunk="resnet18", dimension=64, output="sigmoid"), seed=0)
    weight, bias = net.head.weight.detach(), net.head.bias.detach()
    limit = math.sqrt(6 / (512 + 64))
    assert weight.shape == (64, 512)
    assert 0.99 * limit < weight.max() <= limit
    assert -limit <= weight.min() < -0.99 * limit
    # of 32,768 uniform numbers; the bounds are about five standard errors
    assert weight.mean().abs() < 5 * limit / math.sqrt(3 * weight.numel())
    assert weight.std() == pytest.approx(limit / math.sqrt(3), rel=0.015)
    assert not bias.any()


def test_the_size_is_two_more_inputs_of_the_head(net):
    assert build_net(SIZED, seed=0).head.in_features == net.head.in_features + 2 == 514


@pytest.mark.parametrize("output", ["unit", "sigmoid"])
def test_another_size_is_another_vector(grey, output):
    settings = NetworkSettings(trunk="resnet18", dimension=8, size_inputs="pixels", output=output)
    net = build_net(settings, seed=0).eval()
    sides = torch.tensor([[0.1, 0.0], [0.2, 0.1], [0.3, 0.3]])
    first = net(grey, sides)
    assert torch.equal(net(grey, sides), first)
    for column in (0, 1):
        changed = sides.clone()
        changed[1, column] += 0.5
        assert ((net(grey, changed) - first).abs().amax(dim=1) > 1e-3).tolist() == [False, True, False]


def test_a_net_without_size_inputs_looks_at_no_size(net, grey):
    assert torch.equal(net(grey, torch.full((3, 2), 7.0)), net(grey))


def test_the_size_inputs_learn(grey):
    net = build_net(SIZED, seed=0)
    net(grey, torch.rand(3, 2, generator=torch.Generator().manual_seed(0)))[:, 0].sum().backward()
    assert net.head.weight.grad[:, -2:].abs().min() > 0


def test_the_seed_settles_the_starting_weights_and_nothing_else():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build_net(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["trunk.conv1.weight"], other["trunk.conv1.weight"])


def test_dropout_comes_before_the_head_while_training(grey):
    net = build_net(NetworkSettings(trunk="resnet18", dimension=8, dropout=0.5), seed=0)
    assert not torch.equal(net.train()(grey), net(grey))
    assert torch.equal(net.eval()(grey), net(grey))
