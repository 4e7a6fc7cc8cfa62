"""The fast copy of a network: the same vectors as the network itself, up to rounding; batches, precision, compiling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from plankton_embed.errors import SettingError
from plankton_embed.images.drawn import draw_plankton
from plankton_embed.images.preparation import prepare_image
from plankton_embed.network import inference
from plankton_embed.network.embedding_net import EmbeddingNet, build_net
from plankton_embed.network.inference import (
    check_options,
    choose_batch_size,
    embed_batches,
    prepare_for_inference,
    should_compile,
)
from plankton_embed.settings import NetworkSettings, PreparationSettings

CPU = torch.device("cpu")
N, SIDE = 11, 75


def build(trunk="resnet18", **settings):
    """A net whose norms have seen images, so that they do something."""
    net = build_net(NetworkSettings(trunk=trunk, **{"dimension": 8, **settings}), seed=0)
    generator = torch.Generator().manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(0, 0.1, generator=generator)
    return net.eval()


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    kinds = ("copepod", "medusa", "fish_egg", "detritus")
    settings = PreparationSettings(target_size=SIDE)
    return np.stack([prepare_image(draw_plankton(kinds[n % 4], rng), settings)[0] for n in range(N)])


def batches(pixels, size):
    sides = np.zeros((len(pixels), 2), dtype=np.float32)
    return [(pixels[at : at + size], sides[at : at + size]) for at in range(0, len(pixels), size)]


def embed(net, pixels, size=4, **options):
    return embed_batches(net, batches(pixels, size), len(pixels), size, **options)


def by_the_net_itself(net, pixels):
    with torch.inference_mode():
        return net(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("trunk", ["resnet18", "inception_v3", "densenet121", "mobilenet_v3_small", "vit_b_32"])
def test_the_copy_gives_the_vectors_of_the_net(trunk, pixels):
    if trunk == "vit_b_32":  # takes one size only
        pixels = np.pad(pixels, ((0, 0), (0, 224 - SIDE), (0, 224 - SIDE), (0, 0)), mode="edge")[:3]
    net = build(trunk)
    np.testing.assert_allclose(embed(net, pixels, precision="float32"), by_the_net_itself(net, pixels), atol=2e-5)


def test_norms_after_convolutions_are_folded_and_the_net_stays_as_it_is():
    net = build()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fast = prepare_for_inference(net, "bfloat16")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_in_bfloat16_only_the_first_convolution_and_the_head_stay_in_float32():
    fast = prepare_for_inference(build(), "bfloat16")
    types = [part.weight.dtype for part in fast.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert types == [torch.float32, *[torch.bfloat16] * 19, torch.float32]


@pytest.mark.parametrize("trunk", ["resnet18", "inception_v3"])
def test_bfloat16_changes_vectors_by_rounding_only(trunk, pixels):
    net = build(trunk)
    exact, rounded = (embed(net, pixels, precision=precision) for precision in ("float32", "bfloat16"))
    cosine = (exact * rounded).sum(axis=1)
    assert np.median(cosine) >= 0.999
    assert cosine.min() >= 0.998
    assert (exact != rounded).any()
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("trunk", ["resnet18", "inception_v3"])
@pytest.mark.parametrize("settings", [{}, {"size_inputs": "pixels", "dimension": 3}])
def test_equal_images_have_equal_vectors_wherever_they_stand(trunk, settings, precision, pixels):
    """Copies of an image are found by their equal vectors."""
    net = build(trunk, **settings)
    for size in (4, 7, 16):
        copies = np.repeat(pixels[:1], 2 * size + 1, axis=0)
        vectors = embed(net, np.concatenate([copies, pixels]), size, precision=precision)[: len(copies)]
        alone = embed(net, pixels[:1], size, precision=precision)
        np.testing.assert_array_equal(vectors, np.repeat(alone, len(copies), axis=0))


def test_views_are_averaged_and_no_images_are_no_vectors(pixels):
    net = build()
    turned = [embed(net, np.ascontiguousarray(np.rot90(pixels, turn, (1, 2))), precision="float32") for turn in (0, 2)]
    mean = np.mean(turned, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(net, pixels, n_views=2, precision="float32"), expected, atol=1e-5)
    assert embed(net, pixels[:0]).shape == (0, 8)


class Winding(nn.Module):
    """A trunk that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)

    def forward(self, images):
        found = self.norm(self.conv(images))
        return (found if found.mean() > 0 else -found).mean(dim=(2, 3))


def test_a_trunk_with_control_flow_is_used_as_it_is(pixels):
    net = EmbeddingNet(Winding(), 5, NetworkSettings(dimension=8)).eval()
    np.testing.assert_allclose(embed(net, pixels, N, precision="float32"), by_the_net_itself(net, pixels), atol=1e-5)


@pytest.mark.parametrize(("side", "size"), [(32, 64), (96, 64), (128, 64), (224, 28), (299, 16), (1024, 16)])
def test_batches_on_a_cpu_are_small_where_images_are_large(side, size):
    assert choose_batch_size(side, CPU) == size


def test_batches_on_a_gpu_are_as_large_as_its_free_memory_allows(monkeypatch):
    gpu = torch.device("cuda")
    for free, size in ((80e9, 512), (8e9, 223), (1e8, 16)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), int(80e9)))
        assert choose_batch_size(299, gpu) == size


def test_a_given_number_is_used_and_0_refused():
    assert choose_batch_size(299, CPU, 7) == 7
    with pytest.raises(SettingError, match="batch_size: expected at least 1; found 0"):
        choose_batch_size(299, CPU, 0)


def test_auto_compiles_for_many_images_only():
    many = inference.COMPILE_FROM
    assert [should_compile("auto", n) for n in (1, many - 1, many)] == [False, False, True]
    assert should_compile("on", 1)
    assert not should_compile("off", 10 * many)
    with pytest.raises(SettingError, match="compile: expected auto, on, off; found 'yes'"):
        check_options(1, "auto", "yes")


def test_an_unknown_precision_is_refused(pixels):
    with pytest.raises(SettingError, match="precision: expected auto, bfloat16, float32; found 'half'"):
        embed(build(), pixels, precision="half")


def test_embedding_goes_on_without_a_compiler_unless_it_must_compile(pixels, monkeypatch, caplog):
    monkeypatch.setattr(inference, "COMPILE_FROM", 1)
    net = build()
    with torch._inductor.config.patch({"cpp.cxx": (None, "/no/compiler"), "force_disable_caches": True}):
        torch._dynamo.reset()
        np.testing.assert_array_equal(embed(net, pixels), embed(net, pixels, compile="off"))
        assert "cannot be compiled here, and is used as it is: InvalidCxxCompiler" in caplog.text
        torch._dynamo.reset()
        with pytest.raises(SettingError, match=r"compile: the network cannot be compiled here \(InvalidCxxCompiler"):
            embed(net, pixels, compile="on")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_net_gives_the_same_vectors(pixels, precision):
    net = build()
    compiled, plain = (embed(net, pixels, precision=precision, compile=choice) for choice in ("on", "off"))
    assert (compiled * plain).sum(axis=1).min() >= (1 - 1e-6 if precision == "float32" else 0.9995)
