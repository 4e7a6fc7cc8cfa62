"""Files of weights: what is stored in int8 or bfloat16, and that every value comes back with its bits."""

import numpy as np
import pytest
import safetensors.torch
import torch

from plankton_embed.errors import InputError, SettingError
from plankton_embed.network.embedding_net import build_net
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.trunks import read_weights
from plankton_embed.network.weight_files import find_scale, read_safetensors, to_int8, write_weights
from plankton_embed.settings import NetworkSettings, PreparationSettings


def bits(value):
    return value.view(torch.int32) if value.dtype == torch.float32 else value


@pytest.fixture
def weights():
    """Weights for which one, the other or no short type is exact, of random bits where there is no rule."""
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(5, 3, 2, 2, generator=generator)
    scale = (find_scale(free) * 0.9).bfloat16().float()
    eighths = torch.tensor([[127.0, -3, 0], [127, 5, 126]]) / 8
    signed = torch.tensor([[127.0, -0.0], [1, 127]])
    return {
        "free": free,
        "rounded": to_int8(free, scale) * scale,
        "eighths": eighths,
        "signed_zero": signed,
        "zero": torch.zeros(2, 3),
        "not_finite": torch.tensor([[torch.nan, 1.0], [torch.inf, 127.0]]),
        "short": free.bfloat16().float(),
        "vector": torch.tensor([127.0, 1, 2]) / 3,
        "half": free.half(),
        "count": torch.tensor(3),
        "no_channel": torch.zeros(0, 4),
        "no_weight": torch.zeros(4, 0),
    }


def test_every_value_comes_back_with_its_bits(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(weights, path)
    back = read_safetensors(path)
    assert set(back) == set(weights)
    for name, value in weights.items():
        assert back[name].shape == value.shape
        if name in ("half", "count"):
            assert back[name].dtype == value.dtype
        torch.testing.assert_close(bits(back[name].to(value.dtype)), bits(value), rtol=0, atol=0)


def test_int8_is_used_where_it_is_exact(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(weights, path)
    stored = safetensors.torch.load_file(path)
    short = {name for name, value in stored.items() if value.dtype == torch.int8}
    assert short == {"rounded", "eighths", "zero"}
    assert stored["eighths"].tolist() == [[127, -3, 0], [127, 5, 126]]
    assert stored["eighths.int8_scale"].tolist() == [0.125, 0.125]
    assert stored["rounded.int8_scale"].dtype == torch.bfloat16
    assert stored["free"].dtype == torch.float32 and stored["short"].dtype == torch.bfloat16


def test_channels_are_rounded_each_by_its_own_scale():
    values = torch.tensor([[1.27, -0.634, 0.0], [127.0, 200.0, -0.6]])
    scale = torch.tensor([[0.01], [1.0]])
    assert to_int8(values, scale).tolist() == [[127, -63, 0], [127, 127, -1]]
    assert find_scale(torch.tensor([[0.0, 0.0], [254.0, -1.0]])).tolist() == [[1.0], [2.0]]


def test_a_model_in_int8_is_a_quarter_as_large_and_gives_the_same_vectors(tmp_path):
    network, preparation = NetworkSettings(trunk="resnet18", dimension=8), PreparationSettings(target_size=64)
    model = EmbeddingModel(build_net(network, 0, 64), network, preparation)
    plain = model.save(tmp_path / "plain") / "model.safetensors"
    for value in model.net.parameters():
        if value.ndim > 1:
            scale = find_scale(value.data)
            value.data = to_int8(value.data, scale) * scale
    folder = model.save(tmp_path / "int8")
    assert (folder / "model.safetensors").stat().st_size < 0.26 * plain.stat().st_size
    again = EmbeddingModel.load(folder, "cpu")
    assert again.hash == model.hash
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    np.testing.assert_array_equal(again.embed(list(images)), model.embed(list(images)))
    trunk = read_weights(folder)["trunk.layer4.1.conv2.weight"]  # where training starts from
    assert torch.equal(trunk, model.net.state_dict()["trunk.layer4.1.conv2.weight"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_whole_numbers_are_weights_only_with_their_scale(tmp_path, suffix):
    model = EmbeddingModel.build(NetworkSettings(trunk="shufflenet_v2_x0_5"), PreparationSettings(target_size=32))
    for value in model.net.parameters():
        if value.ndim > 1:
            scale = find_scale(value.data)
            value.data = to_int8(value.data, scale) * scale
    stored = safetensors.torch.load_file(model.save(tmp_path / "model") / "model.safetensors")
    save = torch.save if suffix == ".pt" else safetensors.torch.save_file
    save(stored, path := tmp_path / f"with{suffix}")
    network = NetworkSettings(trunk="shufflenet_v2_x0_5", weights=str(path))
    trunk = build_net(network, 0, 32).trunk.state_dict()
    assert all(torch.equal(trunk[name], value) for name, value in model.net.trunk.state_dict().items())
    save({n: v for n, v in stored.items() if not n.endswith(".int8_scale")}, path)
    with pytest.raises(InputError, match=r"\d+ are whole numbers without a scale, such as \S+ torch\.int8"):
        build_net(network, 0, 32)


@pytest.mark.parametrize("scale", [torch.ones(1), torch.ones(3), torch.ones(2, 1)])
def test_a_scale_of_another_shape_is_refused_by_name(tmp_path, scale):
    weights = {"a": torch.ones(2, 3, dtype=torch.int8), "a.int8_scale": scale, "a.int8_scale.int8_scale": torch.ones(2)}
    safetensors.torch.save_file(weights, path := tmp_path / "w.safetensors")
    with pytest.raises(
        InputError, match=r"w\.safetensors .*a\.int8_scale: expected a scale for each output channel \(2,\)"
    ):
        read_weights(path)


@pytest.mark.parametrize("scale", [torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 0.0]), torch.tensor([1, 2])])
def test_a_scale_that_cannot_be_one_is_refused_by_name(tmp_path, scale):
    weights = {"a": torch.ones(2, 3, dtype=torch.int8), "a.int8_scale": scale}
    safetensors.torch.save_file(weights, path := tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"a\.int8_scale: expected scales that are fractions, finite and above 0"):
        read_weights(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_no_start(tmp_path, value):
    weights = build_net(NetworkSettings(trunk="shufflenet_v2_x0_5"), 0, 32).state_dict()
    weights["trunk.conv1.0.weight"][0, 0, 0, 0] = value
    torch.save(weights, path := tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"1 have values that are not finite, such as conv1\.0\.weight"):
        build_net(NetworkSettings(trunk="shufflenet_v2_x0_5", weights=str(path)), 0, 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_of_half_precision_is_not_saved(tmp_path, dtype):
    model = EmbeddingModel.build(NetworkSettings(trunk="shufflenet_v2_x0_5"), PreparationSettings(target_size=32))
    model.net.to(dtype)
    with pytest.raises(SettingError, match=r"expected weights in float32, found .*; call model\.net\.float\(\)"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_file_cut_short_is_refused_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights({"a": torch.ones(4, 4)}, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"w\.safetensors cannot be read as weights"):
        read_weights(path)
