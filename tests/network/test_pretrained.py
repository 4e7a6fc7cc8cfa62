"""The models that come with the package: found by name, and their files are whole."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import content_hashes
from plankton_embed.network import pretrained
from plankton_embed.network.embedding_net import build_net
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.pretrained import choose_weights, list_pretrained
from plankton_embed.network.saved_model import (
    count_seen_images,
    is_forgetful,
    read_classes,
    read_preparation,
    read_seen,
)
from plankton_embed.settings import NetworkSettings, PreparationSettings


@pytest.mark.parametrize("name", ["isiis-inception-v3", "isiis-resnet18"])
def test_a_model_of_the_package_is_whole(name):
    model = EmbeddingModel.load(name, "cpu")  # its hash is checked
    assert len(model.classes) == 121
    assert len(np.unique(model.seen)) == len(model.seen) == model.training["n_images"] == 17_032
    assert (model.preparation.polarity, model.preparation.scaling) == ("dark_on_light", "fill")
    network = NetworkSettings(trunk=model.network.trunk, weights="auto")
    assert choose_weights(network) == name
    assert not is_forgetful(network.model_copy(update={"weights": name}))
    trunk = build_net(network, 0, model.preparation.target_size).trunk.state_dict()
    assert all(torch.equal(trunk[name], value) for name, value in model.net.trunk.state_dict().items())
    pixels = np.full((60, 40), 255, np.uint8)
    pixels[20:40, 10:30] = 0
    np.testing.assert_allclose(np.linalg.norm(model.embed([pixels]), axis=1), 1, atol=1e-5)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A package with two models, one of them a ResNet-18."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    models = {}
    for name, trunk in (("of-resnet", "resnet18"), ("of-shufflenet", "shufflenet_v2_x0_5")):
        models[name] = EmbeddingModel.build(NetworkSettings(trunk=trunk), PreparationSettings(target_size=32))
        models[name].save(tmp_path / "pretrained" / name)
    return models


def test_a_model_is_loaded_by_its_name(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list_pretrained() == ["of-resnet", "of-shufflenet"]
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 30), dtype=np.uint8)
    loaded = EmbeddingModel.load("of-resnet", "cpu")
    assert loaded.hash == made["of-resnet"].hash
    np.testing.assert_array_equal(loaded.embed(images), made["of-resnet"].embed(images))


def test_a_folder_of_that_name_is_not_used_and_a_warning_says_so(made, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tmp_path / "pretrained" / "of-shufflenet", tmp_path / "of-resnet")
    assert EmbeddingModel.load("of-resnet", "cpu").network.trunk == "resnet18"
    assert "of-resnet is the model that comes with the package; the folder of that name is not used" in caplog.text
    assert EmbeddingModel.load(tmp_path / "of-resnet", "cpu").network.trunk == "shufflenet_v2_x0_5"


def test_an_unknown_name_is_answered_with_the_names_there_are(made):
    with pytest.raises(InputError, match=r"of-renset is not a model: .*\(of-resnet, of-shufflenet\)"):
        EmbeddingModel.load("of-renset")


def test_a_model_of_the_package_has_no_revisions(made):
    with pytest.raises(SettingError, match=r"revision: .*of-resnet is a folder"):
        EmbeddingModel.load("of-resnet", revision="main")


def test_auto_is_the_model_for_the_trunk(made):
    chosen = {trunk: choose_weights(NetworkSettings(trunk=trunk, weights="auto")) for trunk in ("resnet18", "resnet34")}
    assert chosen == {"resnet18": "of-resnet", "resnet34": "none"}
    assert choose_weights(NetworkSettings(trunk="resnet34", weights="imagenet")) == "imagenet"
    recipe = {trunk: NetworkSettings(trunk=trunk, weights="auto", output="sigmoid") for trunk in ("resnet18", "timm:x")}
    assert {trunk: choose_weights(network) for trunk, network in recipe.items()} == {
        "resnet18": "imagenet",
        "timm:x": "hub",
    }
    auto = NetworkSettings(trunk="resnet18", weights="auto")
    model = EmbeddingModel.build(auto, PreparationSettings(target_size=32))
    assert model.network.weights == "of-resnet"
    for net in (model.net, build_net(auto, seed=1)):
        for name, value in made["of-resnet"].net.trunk.state_dict().items():
            assert (net.trunk.state_dict()[name] == value).all(), name


def test_no_model_for_a_frozen_trunk_is_answered_with_the_trunks_there_are(made):
    frozen = NetworkSettings(trunk="resnet34", weights="auto", frozen=True)
    with pytest.raises(SettingError, match="of-resnet with resnet18, of-shufflenet with shufflenet_v2_x0_5"):
        choose_weights(frozen)


def test_an_image_that_cannot_be_read_counts_as_not_seen(made, tmp_path):
    picture, broken = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(picture)
    broken.write_bytes(b"no image")
    paths = [str(picture), str(broken)]
    made["of-resnet"].remember(content_hashes(paths[:1], False))
    made["of-resnet"].save(tmp_path / "pretrained" / "of-resnet")
    assert count_seen_images(paths, "of-resnet") == 1
    assert count_seen_images(paths, "of-shufflenet") == count_seen_images(paths, "none") == 0


def test_a_folder_with_the_name_of_a_model_has_its_own_training_images(made, tmp_path, monkeypatch):
    made["of-resnet"].remember(["0" * 32])
    made["of-resnet"].save(tmp_path / "pretrained" / "of-resnet")
    monkeypatch.chdir(tmp_path)
    made["of-shufflenet"].save("of-resnet")
    assert len(EmbeddingModel.load(tmp_path / "of-resnet", "cpu").seen) == 0
    assert len(EmbeddingModel.load(tmp_path / "pretrained" / "of-resnet", "cpu").seen) == 1


def test_the_weights_of_an_epoch_are_those_of_the_model_of_their_run(made, tmp_path):
    model = made["of-resnet"]
    model.classes, model.training = ["copepod"], {"earlier_classes": ["detritus"]}
    model.remember(["0" * 32])
    model.save(tmp_path / "run" / "model")
    (tmp_path / "run" / "checkpoints").mkdir()
    weights = tmp_path / "run" / "checkpoints" / "epoch-00001.safetensors"
    shutil.copy(tmp_path / "run" / "model" / "model.safetensors", weights)
    assert read_seen(str(weights)).tolist() == [0]
    assert read_classes(str(weights)) == ["copepod", "detritus"]


@pytest.mark.parametrize(
    ("trunk", "weights", "expected"),
    [
        ("resnet18", "none", False),
        ("resnet18", "imagenet", False),
        ("resnet18", "of-resnet", False),
        ("resnet18", "weights.safetensors", True),
        ("timm:resnet18", "hub", False),
        ("timm:resnet18", "hf-hub:timm/resnet18.a1_in1k", False),
        ("timm:resnet18", "hf-hub:imageomics/bioclip", True),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "hub", False),
        ("timm:hf-hub:someone/plankton", "hub", True),
        ("timm:local-dir:here", "hub", True),
    ],
)
def test_only_models_of_this_package_and_published_weights_are_known(made, trunk, weights, expected):
    assert is_forgetful(NetworkSettings(trunk=trunk, weights=weights)) is expected


def test_a_model_without_one_of_its_files_is_not_known(made, tmp_path):
    for name in ("training_images.npy", "config.json"):
        folder = shutil.copytree(tmp_path / "pretrained" / "of-resnet", tmp_path / name)
        assert not is_forgetful(NetworkSettings(trunk="resnet18", weights=str(folder)))
        (folder / name).unlink()
        assert is_forgetful(NetworkSettings(trunk="resnet18", weights=str(folder)))
    loaded = EmbeddingModel.load(tmp_path / "training_images.npy", "cpu")
    assert loaded.training["unknown_start"] is True
    assert "unknown_start" not in EmbeddingModel.load("of-resnet", "cpu").training


@pytest.mark.parametrize(
    ("preparation", "error"), [({"sharpen": 1}, "preparation in the config.json of .* sharpen"), (None, None)]
)
def test_a_start_with_other_settings_is_an_error_that_names_it(made, tmp_path, preparation, error):
    folder = shutil.copytree(tmp_path / "pretrained" / "of-resnet", tmp_path / "start")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "preparation": preparation, "training": None}))
    if error:
        with pytest.raises(InputError, match=error):
            read_preparation(str(folder))
    else:
        assert read_preparation(str(folder)) is None
    assert read_classes(str(folder)) == ([] if preparation is None else config["classes"])


def test_training_images_that_cannot_be_read_are_no_list_of_none(made, tmp_path):
    path = tmp_path / "pretrained" / "of-resnet" / "training_images.npy"
    path.write_bytes(b"broken")
    for read in (lambda: read_seen("of-resnet"), lambda: EmbeddingModel.load("of-resnet", "cpu")):
        with pytest.raises(InputError, match=r"training_images\.npy cannot be read as a list of training images"):
            read()


def test_a_damaged_file_is_noticed(made, tmp_path):
    path = tmp_path / "pretrained" / "of-resnet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["preparation"]["background"] = "white"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="one of its files was changed"):
        EmbeddingModel.load("of-resnet")
