"""The net: grey and colour, unit length, and its starting weights."""

import pytest
import torch

from plankton_embed.network.embedding_net import build_net
from plankton_embed.settings import NetworkSettings

SMALL = NetworkSettings(trunk="resnet18", dimension=8)


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
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


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
