"""Trunks of timm: built for the side of the images, started from files and the hub, saved and loaded without it."""

import json
import re
import sys

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

import plankton_embed as pe
from plankton_embed.errors import DependencyError, InputError, SettingError
from plankton_embed.images.drawn import draw_set
from plankton_embed.images.preparation import prepare_image
from plankton_embed.network.embedding_net import build_net, check_network
from plankton_embed.network.inference import prepare_for_inference
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.timm_trunks import build_timm_trunk, resolve_network
from plankton_embed.settings import NetworkSettings, PreparationSettings

timm = pytest.importorskip("timm")

VIT, CONVNET = "timm:test_vit", "timm:test_resnet"
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def network(trunk=VIT, weights="none", **options):
    return NetworkSettings(trunk=trunk, weights=str(weights), dimension=8, **options)


def build(trunk=VIT, weights="none", side=64, seed=0):
    return EmbeddingModel.build(network(trunk, weights), PreparationSettings(target_size=side), seed).to("cpu")


def draw_weights(name="test_vit", seed=3, **options):
    """Weights as timm publishes them, classifier included, all drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    weights = timm.create_model(name, **options).state_dict()
    return {
        key: 0.5 + torch.rand(value.shape, generator=generator) if "running_var" in key
        else 0.1 * torch.randn(value.shape, generator=generator) if value.is_floating_point()
        else value
        for key, value in weights.items()
    }  # fmt: skip


def same(trunk, weights):
    return all(torch.equal(value, weights[name]) for name, value in trunk.state_dict().items())


@pytest.fixture(scope="module")
def weights():
    return draw_weights(img_size=64)


@pytest.fixture(scope="module")
def weights_file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    safetensors.torch.save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 255, (5, 40, 50), dtype=np.uint8))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A repository in place of the hub: its folder, and the revisions and files that were fetched."""

    class Hub:
        folder, fetched = tmp_path / "repository", []

        def write(self, config, weights=None, config_file="config.json", weights_file="model.safetensors"):
            self.folder.mkdir()
            (self.folder / config_file).write_text(json.dumps(config))
            if weights is not None:
                safetensors.torch.save_file(weights, self.folder / weights_file)

    hub = Hub()

    def download(name, revision, allow_patterns):
        assert name == "owner/name"
        hub.fetched.append((revision, allow_patterns[-1]))
        return str(hub.folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return hub


def refuse(*_, **__):
    raise LocalEntryNotFoundError("no\nnetwork")


# --- the trunk


@pytest.mark.parametrize("name", ["timm:resnet10t", CONVNET, VIT, "timm:test_convnext", "timm:mobilenetv3_small_050"])
def test_a_trunk_maps_images_to_its_features(name):
    trunk, n_features, _ = build_timm_trunk(network(name), 64)
    assert trunk.training
    with torch.inference_mode():
        assert trunk(torch.zeros(2, 3, 64, 64)).shape == (2, n_features)


def test_the_pixels_are_normalised_as_this_network_expects():
    net, seen = build_net(network(), 0, 64), []  # its weights are for pixels from -1 to 1
    net.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.eval()(torch.tensor([0.0, 255.0])[:, None, None, None].expand(2, 1, 64, 64))
    torch.testing.assert_close(seen[0][:, :, 0, 0], torch.tensor([[-1.0], [1.0]]).expand(2, 3))


def test_a_transformer_is_built_for_the_side_of_the_images():
    assert [build_net(network(), 0, side).trunk.pos_embed.shape[1] for side in (64, 96)] == [17, 37]


def test_arguments_follow_the_name():
    assert build_timm_trunk(network(f'{VIT} {{"global_pool":"avg"}}'), 64).trunk.global_pool == "avg"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [VIT, CONVNET, "timm:test_convnext"])
def test_embedding_is_that_of_the_network(name, precision, pictures):
    model = build(name)
    prepared = [prepare_image(image, model.preparation)[0] for image in pictures]
    with torch.inference_mode():
        wanted = model.net.eval()(torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2)).numpy()
    found = model.embed(pictures, precision=precision)
    np.testing.assert_allclose((found * wanted).sum(axis=1), 1, atol=1e-5 if precision == "float32" else 2e-3)


def test_a_transformer_has_no_norms_to_fold_and_is_used_as_it_is():
    net = build_net(network(), 0, 64)
    assert type(prepare_for_inference(net, "float32").trunk) is type(net.trunk)


# --- weights


def test_weights_come_from_a_file_without_the_classifier(weights, weights_file):
    assert "head.weight" in weights
    assert same(build_timm_trunk(network(weights=weights_file), 64).trunk, weights)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_come_from_a_training_state(weights, tmp_path, key):
    torch.save({key: weights, "epoch": 3}, tmp_path / "state.pth")
    assert same(build_timm_trunk(network(weights=tmp_path / "state.pth"), 64).trunk, weights)


@pytest.mark.parametrize("source", ["file", "model", "bfloat16"])
def test_position_embeddings_are_resampled_to_the_side_of_the_images(weights, tmp_path, source):
    if source == "bfloat16":
        weights = {name: value.bfloat16() for name, value in weights.items()}
    start = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(weights, start)
    start = build(weights=start).save(tmp_path / "model") if source == "model" else start
    trunk = build_timm_trunk(network(weights=start), 96).trunk
    weights = {name: value.float() for name, value in weights.items()}
    wanted = timm.layers.resample_abs_pos_embed(weights["pos_embed"], [6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(trunk.pos_embed.detach(), wanted)
    assert same(trunk, {**weights, "pos_embed": trunk.pos_embed})


def test_the_normalisation_goes_with_the_weights(weights_file, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": MEAN, "std": STD}}))
    (tmp_path / "model.safetensors").write_bytes(weights_file.read_bytes())
    for start in (tmp_path, tmp_path / "model.safetensors", build(weights=tmp_path).save(tmp_path / "run" / "model")):
        assert np.allclose(build_timm_trunk(network(weights=start), 64).normalization, (MEAN, STD))
    assert build_timm_trunk(network(weights=weights_file), 64).normalization == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda w: {n: v for n, v in w.items() if n != "norm.bias"}, "1 missing, such as norm.bias"),
     (lambda w: {**w, "cls_token": torch.zeros(1, 1, 3)}, r"cls_token \(1, 1, 3\) for \(1, 1, 64\)"),
     (lambda w: {"mask_token": torch.zeros(3)}, "does not fit")],
)  # fmt: skip
def test_weights_of_another_network_are_refused(weights, tmp_path, change, message):
    torch.save(change(weights), tmp_path / "w.pt")
    with pytest.raises(InputError, match=rf"w\.pt.*{message}.*another network\.trunk"):
        build(weights=tmp_path / "w.pt")


def test_hub_weights_are_those_that_the_name_stands_for(weights, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda name, **_: asked.append(name) or dict(weights)
    )
    model = build(weights="hub")
    assert asked == ["timm/test_vit.r160_in1k"]
    assert same(model.net.trunk, weights)
    assert model.network.weights == "hub" and len(model.seen) == 0


def test_weights_come_from_another_repository_in_the_format_of_open_clip(hub):
    trunk = f'{VIT} {{"pre_norm":true}}'  # as in CLIP
    names = {"patch_embed.proj.": "conv1.", "norm_pre.": "ln_pre.", "blocks.": "transformer.resblocks.",
             "attn.proj.": "attn.out_proj.", "attn.qkv.": "attn.in_proj_", "norm1.": "ln_1.", "norm2.": "ln_2.",
             "mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj.", "norm.": "ln_post."}  # fmt: skip
    weights = draw_weights(img_size=64, num_classes=0, pre_norm=True)
    tokens, positions = weights["cls_token"][0, 0], weights["pos_embed"][0]
    theirs = {"visual.class_embedding": tokens, "visual.positional_embedding": positions,
              "visual.proj": torch.zeros(64, 8), "logit_scale": torch.zeros(1)}  # fmt: skip
    for name, value in weights.items():
        if name not in ("cls_token", "pos_embed"):
            new = name
            for own, other in names.items():
                new = re.sub(rf"(^|\.){re.escape(own)}", rf"\1{other}", new)
            theirs[f"visual.{new}"] = value
    config = {"model_cfg": {}, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    hub.write(config, theirs, "open_clip_config.json", "open_clip_model.safetensors")
    model = build(trunk, "hf-hub:owner/name@v2")
    assert same(model.net.trunk, weights)
    np.testing.assert_allclose(model.net.mean.flatten() / 255, MEAN, rtol=1e-6)
    assert {revision for revision, _ in hub.fetched} == {"v2"}
    assert hub.fetched[-1][1] == "open_clip_model.safetensors"


def test_open_clip_weights_for_another_activation_are_refused(hub, weights):
    hub.write({"model_cfg": {"quick_gelu": True}}, weights, "open_clip_config.json", "open_clip_model.safetensors")
    with pytest.raises(
        SettingError, match=r"hf-hub:owner/name was trained with quick_gelu .*choose the network of timm"
    ):
        build(weights="hf-hub:owner/name")


# --- repositories as trunks


@pytest.mark.parametrize("legacy", [False, True])
def test_a_repository_is_resolved_so_that_the_model_loads_without_it(hub, monkeypatch, tmp_path, pictures, legacy):
    options = {} if legacy else {"model_args": {"img_size": 32, "num_classes": 7, "reg_tokens": 2}}
    own = {"mean": MEAN, "std": STD, "input_size": [3, 32, 32]}
    config = {"architecture": "test_vit", **options, **(own if legacy else {"pretrained_cfg": own})}
    tokens = {} if legacy else {"reg_tokens": 2}
    weights = draw_weights(img_size=64, num_classes=7, **tokens)
    hub.write(config, weights)
    model = build("timm:hf-hub:owner/name@0123", "hub")
    assert {revision for revision, _ in hub.fetched} == {"0123"}
    assert model.network.trunk == (VIT if legacy else f'{VIT} {{"reg_tokens":2}}')
    assert model.network.weights == "hf-hub:owner/name@0123"
    assert same(model.net.trunk, weights)
    np.testing.assert_allclose(model.net.std.flatten() / 255, STD, rtol=1e-6)
    folder = model.save(tmp_path / "model")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    loaded = EmbeddingModel.load(folder, "cpu")
    assert (loaded.hash, loaded.network) == (model.hash, model.network)
    np.testing.assert_array_equal(loaded.embed(pictures), model.embed(pictures))
    assert resolve_network(loaded.network) == loaded.network


def test_a_downloaded_folder_is_a_repository_too(hub, weights):
    hub.write({"architecture": "test_vit", "pretrained_cfg": {"mean": MEAN, "std": STD}}, weights)
    model = build(f"timm:local-dir:{hub.folder}", "hub")
    assert same(model.net.trunk, weights) and not hub.fetched
    assert (model.network.trunk, model.network.weights) == (VIT, str(hub.folder))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [({"model_type": "bert"}, InputError, "no config.json with the name of an architecture of timm"),
     ({"architecture": "test_vit", "model_args": {"in_chans": 1}}, SettingError, "for 3 channels, found 1"),
     ({"architecture": "test_vit", "pretrained_cfg": {"input_size": [4, 64, 64]}}, SettingError, "3 channels, found 4"),
     ({"architecture": "gone"}, SettingError, "timm:gone is not a network of timm"),
     ({"architecture": "test_vit"}, InputError, "expected one of model.safetensors, .*found none of them")],
)  # fmt: skip
def test_a_repository_that_cannot_be_a_trunk_is_refused(hub, config, error, message):
    hub.write(config)
    with pytest.raises(error, match=message):
        build("timm:hf-hub:owner/name", "hub")


@pytest.mark.parametrize(
    ("trunk", "start", "named"),
    [("timm:hf-hub:owner/name@v2", "hub", "hf download owner/name"),
     (VIT, "hf-hub:owner/name", "hf download owner/name"),
     (VIT, "hub", r"hf download timm/test_vit\.r160_in1k")],
)  # fmt: skip
def test_a_hub_that_cannot_be_reached_names_the_ways_out(monkeypatch, trunk, start, named):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    with pytest.raises(InputError, match=rf"cannot be fetched .*\(no network\).*{named}.*network\.weights=FOLDER"):
        build(trunk, start)


# --- saved models


@pytest.mark.parametrize("name", [VIT, "timm:test_resnet.r160_in1k"])
def test_a_model_comes_back_bit_for_bit(name, pictures, tmp_path):
    model = build(name, side=48)
    loaded = EmbeddingModel.load(model.save(tmp_path / "model"), "cpu")
    assert (loaded.hash, loaded.network) == (model.hash, model.network)
    np.testing.assert_array_equal(loaded.embed(pictures), model.embed(pictures))
    assert build(name, side=48, seed=1).hash != model.hash


def test_a_model_keeps_its_normalisation_if_timm_changes_its_own(monkeypatch, pictures, tmp_path):
    model = build()
    folder, found = model.save(tmp_path / "model"), timm.get_pretrained_cfg
    for module in (timm, timm.models._builder):
        monkeypatch.setattr(module, "get_pretrained_cfg", lambda *a: vars(c := found(*a)).update(mean=MEAN) or c)
    assert build().hash != model.hash
    np.testing.assert_array_equal(EmbeddingModel.load(folder, "cpu").embed(pictures), model.embed(pictures))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_trains_saves_and_continues(tmp_path, weights_file, frozen):
    settings = {"network.trunk": VIT, "network.weights": str(weights_file), "network.frozen": frozen,
                "network.dimension": 8, "preparation.target_size": 32}  # fmt: skip
    if not frozen:
        settings |= {"training.epochs": 1, "training.steps_per_epoch": 2, "training.classes_per_batch": 2}
    images = draw_set(tmp_path / "images", n_per_class=8, classes=("copepod", "medusa"), progress=False)
    made = pe.train(images, tmp_path / "run", settings=settings, progress=False)
    start = build(weights=weights_file, side=32).net.trunk.state_dict()
    assert same(made.model.net.trunk, start) == frozen
    assert EmbeddingModel.load(tmp_path / "run", "cpu").hash == made.model.hash
    assert made.model.training["settings"]["network.trunk"] == VIT


# --- refused


@pytest.mark.parametrize(
    ("trunk", "message"),
    [("timm:tset_vit", r"timm:tset_vit is not a network of timm .*did you mean timm:test_vit"),
     ("timm:timm/test_vit", "write timm:hf-hub:owner/name"),
     ("timm:test_vit.r161", r"timm has no weights test_vit\.r161; expected test_vit\.r160_in1k"),
     (f'{VIT} {{"global_pool":""}}', r"cannot be a trunk: expected features \(b, n\), found \(1, 101, 64\)"),
     ("timm:coat_tiny", "cannot be a trunk: some of its layers share their weights"),
     (f'{VIT} {{"depht":2}}', "cannot be a trunk: .*'depht'"),
     (f"{VIT} depth=2", "expected JSON after the name, found 'depth=2'"),
     (f'{VIT} {{"img_size":32}}', "img_size, in_chans, num_classes are set by this package"),
     ("vit_small_patch14_dinov2", "also takes networks of timm, as timm:NAME")],
)  # fmt: skip
def test_a_trunk_that_does_not_exist_or_fit_is_refused(trunk, message):
    for check in (lambda: check_network(network(trunk), 64), lambda: build(trunk)):
        with pytest.raises(SettingError, match=message):
            check()


@pytest.mark.parametrize(("side", "nearest"), [(100, "96 and 112"), (40, "32 and 48"), (33, "32 and 48")])
def test_a_side_that_is_not_a_multiple_of_the_patches_names_the_nearest_that_are(side, nearest):
    message = rf"target_size: {VIT} .*{side} pixels \(.*16 pixels\); .* work are {nearest}; its weights are for 160"
    with pytest.raises(SettingError, match=message):
        check_network(network(), side)


def test_a_side_that_the_network_cannot_divide_names_the_nearest_that_it_can():
    with pytest.raises(SettingError, match=r"images of 100 pixels .* the nearest sizes that work are 96 and 128"):
        check_network(network("timm:maxvit_rmlp_pico_rw_256"), 100)


@pytest.mark.parametrize(
    ("trunk", "start", "message"),
    [(VIT, "imagenet", "imagenet is for trunks of torchvision; for timm:test_vit set hub"),
     ("resnet18", "hub", "hub is for trunks of timm; for resnet18 of torchvision set imagenet"),
     ("resnet18", "hf-hub:owner/name", "hf-hub:owner/name is for trunks of timm")],
)  # fmt: skip
def test_words_for_weights_of_another_library_are_refused(trunk, start, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        build(trunk, start)
    settings = {"network.trunk": trunk, "network.weights": start}
    with pytest.raises(SettingError, match=message):
        pe.train(draw_set(tmp_path / "images", n_per_class=1), tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        DependencyError, match=r"timm:test_vit needs the extra timm: pip install 'plankton_embed\[timm\]'"
    ):
        build()


def test_the_normalisation_of_a_start_of_the_other_library_is_kept_or_refused(tmp_path):
    of_torchvision = build("inception_v3", side=96).save(tmp_path / "torchvision")
    of_timm = build("timm:inception_v3", side=96).save(tmp_path / "timm")  # made for pixels of -1 to 1
    started = build("timm:inception_v3", of_torchvision, side=96)
    other = build("inception_v3", of_torchvision, side=96)
    assert torch.equal(started.net.mean, other.net.mean) and torch.equal(started.net.std, other.net.std)
    pixels = torch.randint(0, 255, (2, 1, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        found, wanted = (model.net.eval().extract_features(pixels) for model in (started, other))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    with pytest.raises(InputError, match=r"another normalisation \(mean \[0\.5.*set network\.trunk=timm:inception_v3"):
        build("inception_v3", of_timm, side=96)
    assert build("timm:inception_v3", of_timm, side=96).net.mean.flatten().tolist() == [127.5] * 3
