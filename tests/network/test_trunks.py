"""Trunks: what they give, and the weights they start from."""

import urllib.error

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from plankton_embed.errors import InputError, SettingError
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.trunks import build_empty_trunk, build_trunk, fold_pixel_scale, load_weights, start_trunk
from plankton_embed.settings import NetworkSettings, PreparationSettings

SMALL = "mobilenet_v3_small"


def torchvision_weights(name, **options):
    """Weights as torchvision publishes them (classifier and auxiliary heads included), all drawn at random."""
    generator = torch.Generator().manual_seed(3)
    weights = torchvision.models.get_model(name, weights=None, **options).state_dict()
    return {
        key: 0.5 + torch.rand(value.shape, generator=generator) if "running_var" in key
        else 0.1 * torch.randn(value.shape, generator=generator) if value.is_floating_point()
        else value
        for key, value in weights.items()
    }  # fmt: skip


def same(trunk, weights):
    return all(torch.equal(value, weights[name]) for name, value in trunk.state_dict().items())


@pytest.fixture(scope="module")
def small_weights():
    return torchvision_weights(SMALL)


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet18", 512), ("efficientnet_v2_s", 1280), ("convnext_tiny", 768), (SMALL, 1024), ("inception_v3", 2048),
     ("densenet121", 1024), ("swin_t", 768), ("googlenet", 1024)],
)  # fmt: skip
def test_a_trunk_maps_pictures_of_96_pixels_to_its_features(name, features):
    trunk, n_features = build_empty_trunk(name)
    assert n_features == features
    with torch.inference_mode():
        for mode in (trunk.eval(), trunk.train()):
            assert mode(torch.zeros(2, 3, 96, 96)).shape == (2, features)


@pytest.mark.slow
def test_vgg_serves_as_a_trunk():
    trunk, n_features = build_empty_trunk("vgg11_bn")
    assert trunk.eval()(torch.zeros(2, 3, 96, 96)).shape == (2, n_features) == (2, 4096)


@pytest.mark.parametrize("name", ["inception_v3", "efficientnet_v2_s", SMALL])
def test_no_dropout_is_left_before_the_head_which_has_its_own(name):
    trunk, _ = build_empty_trunk(name)
    assert not [layer for layer in trunk.modules() if isinstance(layer, nn.Dropout)]


def test_a_network_without_a_linear_layer_is_no_trunk():
    with pytest.raises(SettingError, match="squeezenet1_1 does not end in a linear layer"):
        build_trunk(NetworkSettings(trunk="squeezenet1_1"))


def test_an_unknown_trunk_is_refused_and_the_known_are_named():
    with pytest.raises(SettingError, match=r"'resnet19'.*resnet18"):
        build_trunk(NetworkSettings(trunk="resnet19"))


def wrapped(weights):
    return {"state_dict": {f"module.{name}": value for name, value in weights.items()}, "epoch": 3}


@pytest.mark.parametrize(
    ("name", "write"),
    [("w.pt", torch.save), ("w.pth", lambda weights, path: torch.save(wrapped(weights), path)),
     ("w.safetensors", safetensors.torch.save_file)],
)  # fmt: skip
def test_weights_come_from_a_file(tmp_path, small_weights, name, write):
    write(small_weights, tmp_path / name)
    trunk, _ = build_trunk(NetworkSettings(trunk=SMALL, weights=str(tmp_path / name)))
    assert same(trunk, small_weights)


@pytest.mark.parametrize("inside", ["model", ".", "model/model.safetensors"])
def test_weights_come_from_a_saved_model(tmp_path, inside):
    model = EmbeddingModel.build(NetworkSettings(trunk=SMALL, dimension=8), PreparationSettings(), seed=1)
    model.save(tmp_path / "model")
    trunk, _ = build_trunk(NetworkSettings(trunk=SMALL, weights=str(tmp_path / inside)))
    assert same(trunk, model.net.trunk.state_dict())


@pytest.mark.parametrize("inside", [".", "weights.safetensors"])
def test_weights_come_from_a_saved_comparison_net(tmp_path, small_weights, inside):
    trunk, _ = build_empty_trunk(SMALL)
    weights = {f"trunk.{name}": small_weights[name] for name in trunk.state_dict()}
    safetensors.torch.save_file({**weights, "head.weight": torch.zeros(3, 1024)}, tmp_path / "weights.safetensors")
    trunk, _ = build_trunk(NetworkSettings(trunk=SMALL, weights=str(tmp_path / inside)))
    assert same(trunk, small_weights)


def test_a_folder_without_weights_says_where_they_are_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors does not exist"):
        build_trunk(NetworkSettings(trunk=SMALL, weights=str(tmp_path)))


def test_an_empty_trunk_starts_from_weights_or_stays_as_it_is(tmp_path, small_weights):
    trunk, _ = build_empty_trunk(SMALL)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    start_trunk(trunk, NetworkSettings(trunk=SMALL, weights="none"))
    assert same(trunk, before)
    torch.save(small_weights, tmp_path / "w.pt")
    start_trunk(trunk, NetworkSettings(trunk=SMALL, weights=str(tmp_path / "w.pt")))
    assert same(trunk, small_weights)


def test_the_classifier_and_auxiliary_heads_of_torchvision_are_left_aside(tmp_path):
    weights = torchvision_weights("inception_v3", init_weights=False)
    assert {"fc.weight", "AuxLogits.fc.weight"} <= set(weights)
    torch.save(weights, tmp_path / "inception.pth")
    trunk, _ = build_trunk(NetworkSettings(weights=str(tmp_path / "inception.pth")))
    assert same(trunk, weights)


def test_weights_from_before_batch_counts_load(small_weights):
    trunk, _ = build_empty_trunk(SMALL)
    load_weights(trunk, {n: v for n, v in small_weights.items() if "num_batches" not in n}, "old")
    assert torch.equal(trunk.features[0][0].weight, small_weights["features.0.0.weight"])


def test_densenet_weights_load_under_their_old_names():
    weights = torchvision_weights("densenet121")
    old = {n.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for n, v in weights.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    trunk, _ = build_empty_trunk("densenet121")
    load_weights(trunk, old, "old")
    assert same(trunk, weights)


@pytest.mark.parametrize(("name", "first"), [("inception_v3", "Conv2d_1a_3x3"), ("googlenet", "conv1")])
def test_imagenet_weights_see_the_pixels_they_were_made_for(monkeypatch, tmp_path, name, first):
    options = {"init_weights": False, "aux_logits": False}
    theirs = torchvision.models.get_model(name, weights=None, transform_input=True, **options)
    weights, enum = torchvision_weights(name, **options), torchvision.models.get_model_weights(name)
    theirs.load_state_dict(weights)
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: weights)
    fetched, _ = build_trunk(NetworkSettings(trunk=name, weights="imagenet"))
    by_hand = tmp_path / enum.DEFAULT.url.rpartition("/")[2]
    torch.save(weights, by_hand)
    named, _ = build_trunk(NetworkSettings(trunk=name, weights=str(by_hand)))
    pixels, seen = torch.randn(2, 3, 99, 99, generator=torch.Generator().manual_seed(0)), []
    for net in (theirs, fetched, named):
        net.get_submodule(first).register_forward_hook(lambda _, __, output: seen.append(output[..., 3:-3, 3:-3]))
        net.eval()(pixels)
    assert seen[0].abs().max() > 0.1
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[2], seen[0], rtol=0, atol=1e-5)


def test_other_imagenet_weights_stay_as_they_are(small_weights):
    folded = fold_pixel_scale(small_weights, SMALL)
    assert all(torch.equal(folded[name], value) for name, value in small_weights.items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: {n: v for n, v in w.items() if n != "features.0.0.weight"}, r"1 missing.*features\.0\.0\.weight"),
        (lambda w: {**w, "features.0.0.weight": torch.zeros(2)}, r"features\.0\.0\.weight \(2,\) for \(16, 3, 3, 3\)"),
        (lambda w: {}, r"missing.*features\.0\.0\.weight"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_name_a_layer_and_the_file(tmp_path, small_weights, change, named):
    torch.save(change(small_weights), tmp_path / "misfit.pt")
    with pytest.raises(InputError, match=rf"misfit\.pt.*{named}.*network\.trunk"):
        build_trunk(NetworkSettings(trunk=SMALL, weights=str(tmp_path / "misfit.pt")))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage that is no file of weights", "cut"])
def test_unreadable_weights_are_refused_by_name(tmp_path, small_weights, name, content):
    path = tmp_path / name
    if content == "cut":
        {"w.pt": torch.save, "w.safetensors": safetensors.torch.save_file}[name](small_weights, path)
        content = path.read_bytes()[:1000]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"network\.weights.*" + name):
        build_trunk(NetworkSettings(trunk=SMALL, weights=str(path)))


@pytest.mark.parametrize("content", [{"net": {}}, [1, 2], torch.zeros(3), {3: torch.zeros(3)}])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match="dictionary of tensors"):
        build_trunk(NetworkSettings(trunk=SMALL, weights=str(tmp_path / "w.pt")))


def test_missing_weights_are_refused():
    expected = (
        r"nowhere\.pt does not exist; expected imagenet, hub \(timm\), none, isiis-inception-v3, isiis-resnet18, a"
    )
    with pytest.raises(InputError, match=expected):
        build_trunk(NetworkSettings(trunk=SMALL, weights="nowhere.pt"))


@pytest.mark.parametrize("fault", [urllib.error.URLError("no route"), ConnectionResetError(), RuntimeError("bad hash")])
def test_unreachable_imagenet_weights_name_the_ways_out(monkeypatch, tmp_path, fault):
    def refuse(*_, **__):
        raise fault

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where none were fetched before
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(
        InputError, match=rf"{SMALL}.*https://.*network\.weights=FILE.*checkpoints.*network\.weights=none"
    ):
        build_trunk(NetworkSettings(trunk=SMALL, weights="imagenet"))
