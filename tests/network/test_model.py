"""EmbeddingModel: saving, hashes, embedding in memory, and what is said when something does not fit."""

import json

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.drawn import draw_plankton
from plankton_embed.images.store import prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings

NETWORK = NetworkSettings(trunk="resnet18", dimension=8)
PREPARATION = PreparationSettings(target_size=75)


@pytest.fixture(scope="module")
def model():
    return EmbeddingModel.build(NETWORK, PREPARATION, seed=0).to("cpu")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [draw_plankton(label, rng) for label in ("copepod", "medusa", "fish_egg", "detritus", "copepod")]


@pytest.fixture(scope="module")
def files(pictures, tmp_path_factory):
    paths = [tmp_path_factory.mktemp("pictures") / f"{number} é.png" for number in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    return paths


@pytest.fixture
def saved(model, tmp_path):
    return model.save(tmp_path / "run" / "model")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_form_of_an_image_gives_the_same_vector(model, pictures, files):
    arrays = [np.asarray(picture) for picture in pictures]
    wanted = model.embed(pictures)
    assert (wanted.shape, wanted.dtype) == ((5, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1, rtol=1e-6)
    for images in (files, [str(f) for f in files], [f.read_bytes() for f in files], arrays,
                   [a[:, :, None] for a in arrays], [np.stack([a] * 3, axis=2) for a in arrays]):  # fmt: skip
        np.testing.assert_array_equal(model.embed(images), wanted)


def test_prepared_images_give_the_same_vectors(model, pictures, files, tmp_path):
    prepared = prepare_images([str(f) for f in files], list("abcde"), PREPARATION, cache=tmp_path, progress=False)
    np.testing.assert_array_equal(model.embed_prepared(prepared), model.embed(pictures))
    turned = prepared.select(np.arange(5)[::-1])
    np.testing.assert_allclose(model.embed_prepared(turned, batch_size=2), model.embed(pictures[::-1]), atol=1e-5)


def test_one_array_of_images_is_a_list_of_images(model):
    images = np.random.default_rng(0).integers(0, 255, (4, 40, 50), dtype=np.uint8)
    wanted = model.embed(list(images))
    np.testing.assert_array_equal(model.embed(images), wanted)
    np.testing.assert_array_equal(model.embed(images[..., None]), wanted)


def test_the_batch_size_changes_rounding_at_most(model, pictures):
    np.testing.assert_allclose(model.embed(pictures, batch_size=2), model.embed(pictures), atol=1e-5)


def test_no_images_give_no_vectors(model):
    assert model.embed([]).shape == (0, 8)


@pytest.mark.parametrize("single", ["picture", "array", "colour array", "path", "text", "bytes"])
def test_a_single_image_must_come_in_a_list(model, pictures, files, single):
    grey = np.asarray(pictures[0])
    image = {"picture": pictures[0], "array": grey, "colour array": np.stack([grey] * 3, axis=2), "path": files[0],
             "text": str(files[0]), "bytes": files[0].read_bytes()}[single]  # fmt: skip
    with pytest.raises(InputError, match=r"pass \[image\]"):
        model.embed(image)


def test_a_broken_image_is_named_by_its_number(model, pictures):
    with pytest.raises(InputError, match="image 2: the file is no image"):
        model.embed([*pictures[:2], b"broken", *pictures[2:]])


def test_a_model_comes_back_bit_for_bit(model, pictures, tmp_path):
    model = EmbeddingModel(model.net, NETWORK, PREPARATION, ["a b", "é<ж"], {"best_epoch": 3})
    model.save(tmp_path / "run" / "model", card="# A card")
    for name in (tmp_path / "run" / "model", str(tmp_path / "run")):
        loaded = EmbeddingModel.load(name, "cpu")
        np.testing.assert_array_equal(loaded.embed(pictures), model.embed(pictures))
        assert (loaded.hash, loaded.classes, loaded.training) == (model.hash, ["a b", "é<ж"], {"best_epoch": 3})
        assert (loaded.network, loaded.preparation) == (NETWORK, PREPARATION)
    assert (tmp_path / "run" / "model" / "README.md").read_text() == "# A card"


def test_saving_again_replaces_the_folder_whole(model, saved):
    (saved / "stale.txt").write_text("old")
    model.save(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_hash_changes_with_a_weight_and_with_the_preparation(model, saved):
    other = EmbeddingModel.load(saved, "cpu")
    assert other.hash == model.hash
    with torch.no_grad():
        other.net.trunk.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-6
    white = EmbeddingModel(model.net, NETWORK, PreparationSettings(target_size=75, background="white"))
    assert len({model.hash, other.hash, white.hash}) == 3
    assert white.provenance["preparation_hash"] != model.provenance["preparation_hash"]


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def change_a_weight(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (cut_weights, InputError, "holds no whole model"),
        (change_a_weight, InputError, "config.json says model .* the weights are"),
        (lambda f: (f / "model.safetensors").unlink(), InputError, "holds no whole model"),
        (lambda f: (f / "config.json").unlink(), InputError, "is no model: expected a folder with config.json"),
        (lambda f: (f / "config.json").write_text("{"), InputError, "holds no whole model"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), InputError, "holds no whole model"),
        (lambda f: (f / "config.json").write_text("[]"), InputError, "expected names and values"),
        (lambda f: (f / "config.json").write_text('{"format_version": 1}'), InputError, "holds no whole model"),
        (lambda f: change_config(f, format_version=9), InputError, "expected format_version 1, found 9.*release"),
        (lambda f: change_config(f, network={"trunk": "resnet18", "dimension": 9}), InputError, "no whole model"),
        (lambda f: change_config(f, network={"trunk": "resnet19"}), SettingError, "resnet19"),
        (lambda f: change_config(f, preparation={"target": 9}), SettingError, "target"),
    ],
)
def test_a_damaged_model_is_an_error_that_says_what_is_wrong(saved, damage, error, message):
    damage(saved)
    with pytest.raises(error, match=message):
        EmbeddingModel.load(saved, "cpu")


def test_a_config_without_its_hash_is_no_whole_model(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["model_hash"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="model_hash"):
        EmbeddingModel.load(saved, "cpu")


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all"])
def test_a_folder_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is no model"):
        EmbeddingModel.load(name)


@pytest.mark.parametrize("fault", [LocalEntryNotFoundError("offline"), ConnectionError("offline")])
def test_a_hub_name_without_a_network_is_an_input_error(monkeypatch, fault):
    def refuse(*_, **__):
        raise fault

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match="owner/name is no folder here, and the hub does not give it: offline"):
        EmbeddingModel.from_pretrained("owner/name")


def test_a_hub_name_loads_what_the_hub_gives(monkeypatch, model, saved):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: {"owner/name": str(saved)}[name])
    assert EmbeddingModel.from_pretrained("owner/name", "cpu").hash == model.hash


def test_what_is_pushed_is_what_is_saved(monkeypatch, model):
    pushed = {}

    class Hub:
        def __init__(self, token=None):
            pushed["token"] = token

        def create_repo(self, repo_id, *, private, exist_ok):
            pushed["private"] = private

        def upload_folder(self, *, repo_id, folder_path):
            pushed["hash"] = EmbeddingModel.load(folder_path, "cpu").hash
            pushed["card"] = (folder_path / "README.md").read_text()
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert model.push_to_hub("owner/name", card="# Card", private=True, token="t") == "https://hub/owner/name"
    assert pushed == {"token": "t", "private": True, "hash": model.hash, "card": "# Card"}


def test_embedding_leaves_training_mode(model, pictures):
    model.net.train()
    first = model.embed(pictures)
    np.testing.assert_array_equal(model.embed(pictures), first)
    assert isinstance(pictures[0], Image.Image)
