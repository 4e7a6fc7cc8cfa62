"""EmbeddingModel: saving, hashes, embedding in memory, views and sizes, and what is said when something is wrong."""

import json
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.drawn import draw_plankton
from plankton_embed.images.store import log_sides, prepare_images
from plankton_embed.images.views import VIEWS, turn_view
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings

NETWORK = NetworkSettings(trunk="resnet18", dimension=8)
PREPARATION = PreparationSettings(target_size=75, white_level_16bit=65535)


def build(seed=0, **network):
    network = NetworkSettings(trunk="resnet18", dimension=8, **network)
    return EmbeddingModel.build(network, PREPARATION, seed).to("cpu")


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


@pytest.fixture(scope="module")
def prepared(files, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return prepare_images([str(f) for f in files], list("abcde"), PREPARATION, cache=cache, progress=False)


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


def test_prepared_images_give_the_same_vectors(model, pictures, prepared):
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
    with pytest.raises(InputError, match="image 2: the file is not an image"):
        model.embed([*pictures[:2], b"broken", *pictures[2:]])


def test_a_model_comes_back_bit_for_bit(model, pictures, tmp_path):
    model = EmbeddingModel(model.net, NETWORK, PREPARATION, ["a b", "é<ж"], views=2, training={"best_epoch": 3})
    model.save(tmp_path / "run" / "model", card="# A card")
    for name in (tmp_path / "run" / "model", str(tmp_path / "run")):
        loaded = EmbeddingModel.load(name, "cpu")
        np.testing.assert_array_equal(loaded.embed(pictures), model.embed(pictures))
        assert (loaded.hash, loaded.classes, loaded.training) == (model.hash, ["a b", "é<ж"], {"best_epoch": 3})
        assert (loaded.network, loaded.preparation, loaded.views) == (NETWORK, PREPARATION, 2)
    assert (tmp_path / "run" / "model" / "README.md").read_text() == "# A card"


@pytest.mark.parametrize("network", [{"output": "sigmoid"}, {"size_inputs": "pixels"}])
def test_every_architecture_comes_back_bit_for_bit(pictures, tmp_path, network):
    model = build(**network)
    loaded = EmbeddingModel.load(model.save(tmp_path / "model"), "cpu")
    np.testing.assert_array_equal(loaded.embed(pictures), model.embed(pictures))
    assert (loaded.hash, loaded.network) == (model.hash, model.network)


def test_a_config_without_views_is_of_a_model_with_one(model, saved, pictures):
    config = json.loads((saved / "config.json").read_text())
    assert config.pop("views") == 1
    (saved / "config.json").write_text(json.dumps(config))
    loaded = EmbeddingModel.load(saved, "cpu")
    assert loaded.views == 1
    np.testing.assert_array_equal(loaded.embed(pictures), model.embed(pictures))


def test_a_model_of_an_older_release_gives_the_vectors_and_has_the_hash_that_it_had(pictures, tmp_path):
    old = EmbeddingModel.build(
        NETWORK, PreparationSettings.from_saved({"target_size": 75, "white_level_16bit": 65535}), 0
    ).to("cpu")
    config = json.loads((old.save(tmp_path / "model") / "config.json").read_text())
    for name in PreparationSettings.OLD_BEHAVIOUR:  # which that release did not have
        del config["preparation"][name]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    loaded = EmbeddingModel.load(tmp_path / "model", "cpu")
    np.testing.assert_array_equal(loaded.embed(pictures), old.embed(pictures))
    assert (loaded.hash, loaded.provenance) == (config["model_hash"], old.provenance)
    assert loaded.preparation.remove_marks == "off"


def test_weights_that_bfloat16_holds_take_half_the_space_and_come_back(model, saved, pictures, tmp_path):
    rounded = replace(model, net=deepcopy(model.net))
    for value in rounded.net.parameters():
        value.data = value.data.bfloat16().float()
    folder = rounded.save(tmp_path / "rounded")
    sizes = [(place / "model.safetensors").stat().st_size for place in (saved, folder)]
    assert sizes[1] < 0.51 * sizes[0]
    loaded = EmbeddingModel.load(folder, "cpu")
    assert loaded.hash == rounded.hash != model.hash
    assert {value.dtype for value in loaded.net.parameters()} == {torch.float32}
    np.testing.assert_array_equal(loaded.embed(pictures), rounded.embed(pictures))


def test_the_training_images_are_remembered_by_their_hashes(model, tmp_path):
    first, again = "0123456789abcdef" + 16 * "0", "f" * 32
    taught = replace(model, seen=model.seen)
    taught.remember([again, first, again])
    loaded = EmbeddingModel.load(taught.save(tmp_path / "model"), "cpu")
    assert loaded.seen.tolist() == [0x0123456789ABCDEF, 0xFFFFFFFFFFFFFFFF]
    assert loaded.has_seen([first, "0" * 32, again]).tolist() == [True, False, True]
    assert not model.has_seen([first]).any()
    (tmp_path / "model" / "training_images.npy").unlink()  # as in a model of an earlier release
    assert not EmbeddingModel.load(tmp_path / "model", "cpu").has_seen([first]).any()


def test_saving_again_replaces_the_folder_whole(model, saved):
    (saved / "stale.txt").write_text("old")
    model.save(saved)
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "training_images.npy",
    ]


def test_the_hash_changes_with_a_weight_and_with_the_preparation(model, saved):
    other = EmbeddingModel.load(saved, "cpu")
    assert other.hash == model.hash
    with torch.no_grad():
        other.net.trunk.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-6
    white = EmbeddingModel(model.net, NETWORK, PreparationSettings(target_size=75, background="white"))
    assert len({model.hash, other.hash, white.hash}) == 3
    assert white.provenance["preparation_hash"] != model.provenance["preparation_hash"]


def test_the_hash_changes_with_the_output_and_the_size_inputs_and_not_with_the_views():
    built = [
        build(),
        build(output="sigmoid"),
        build(size_inputs="pixels"),
        build(size_inputs="micrometres"),
        build(dropout=0.5),
    ]
    assert len({model.hash for model in built[:4]}) == 4
    assert built[0].hash == built[4].hash == replace(built[0], views=8).hash


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
        (cut_weights, InputError, "is not a complete model"),
        (change_a_weight, InputError, "expected model .*config.json.*; found .* by its weights"),
        (lambda f: (f / "model.safetensors").unlink(), InputError, "is not a complete model"),
        (lambda f: (f / "config.json").unlink(), InputError, "is not a model: expected a folder with config.json"),
        (lambda f: (f / "config.json").write_text("{"), InputError, "is not a complete model"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), InputError, "is not a complete model"),
        (lambda f: (f / "config.json").write_text("[]"), InputError, "expected settings and values"),
        (lambda f: (f / "config.json").write_text('{"format_version": 2}'), InputError, "is not a complete model"),
        (lambda f: change_config(f, format_version=9), InputError, "expected format_version 2, found 9.*release"),
        (lambda f: change_config(f, network={"trunk": "resnet18", "dimension": 9}), InputError, "not a complete model"),
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
    with pytest.raises(InputError, match=f"{name} is not a model"):
        EmbeddingModel.load(name)


@pytest.mark.parametrize("fault", [LocalEntryNotFoundError("offline"), ConnectionError("offline")])
def test_a_hub_name_without_a_network_is_an_input_error(monkeypatch, fault):
    def refuse(*_, **__):
        raise fault

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        InputError, match="owner/name is not a folder here, and cannot be loaded from the Hugging Face hub: offline"
    ):
        EmbeddingModel.from_pretrained("owner/name")


def test_a_hub_name_loads_what_the_hub_gives(monkeypatch, model, saved):
    fetched = []

    def download(name, allow_patterns, **options):
        fetched.append(options)
        assert sorted(allow_patterns) == sorted(path.name for path in saved.iterdir())
        return {"owner/name": str(saved)}[name]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert EmbeddingModel.from_pretrained("owner/name", "cpu").hash == model.hash
    assert EmbeddingModel.from_pretrained("owner/name", "cpu", revision="v2", token="t").hash == model.hash
    assert EmbeddingModel.load("owner/name", "cpu", local_files_only=True).hash == model.hash
    assert fetched == [{}, {"revision": "v2", "token": "t"}, {"local_files_only": True}]


@pytest.fixture
def hub(monkeypatch):
    """What is pushed, in place of the hub."""
    pushed = {}

    class Hub:
        def __init__(self, token=None):
            pushed["token"] = token

        def create_repo(self, repo_id, *, private, exist_ok):
            pushed["private"] = private
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, revision, **_):
            pushed["hash"] = EmbeddingModel.load(folder_path, "cpu").hash
            pushed["card"] = (folder_path / "README.md").read_text()
            pushed["branch"] = revision
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    return pushed


def test_what_is_pushed_is_what_is_saved(hub, model):
    assert model.push_to_hub("owner/name", card="# Card", private=True, token="t") == "https://hub/owner/name"
    assert hub == {"token": "t", "private": True, "hash": model.hash, "card": "# Card", "branch": None}
    assert model.card == ""


def test_a_model_is_saved_and_published_like_any_on_the_hub(hub, model, tmp_path):
    assert isinstance(model, huggingface_hub.ModelHubMixin)
    assert model.save_pretrained(tmp_path / "copepods") is None
    assert hub == {}
    assert EmbeddingModel.from_pretrained(tmp_path / "copepods", "cpu").hash == model.hash
    assert model.save_pretrained(tmp_path / "copepods", push_to_hub=True, branch="v2") == "https://hub/copepods"
    assert (hub["hash"], hub["private"], hub["branch"]) == (model.hash, False, "v2")
    assert model.save_pretrained(tmp_path / "b", push_to_hub=True, repo_id="owner/b") == "https://hub/owner/b"


def test_another_project_is_not_replaced_by_a_saved_model(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"contains no config\.json"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("config", ['{"model_type": "vit"}', '{"kind": "flat", "model_hash": "x"}', "[1]"])
def test_a_folder_with_the_config_of_another_program_is_no_model_and_is_not_replaced(model, config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(OutputError, match=r"its config.json is not of plankton_embed"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "pytorch_model.bin").read_bytes() == b"weights"
    with pytest.raises(InputError, match=r"not of a model of plankton_embed|expected settings and values"):
        EmbeddingModel.load(tmp_path)


def test_settings_of_another_kind_are_an_error_of_the_model(saved):
    change_config(saved, network=["resnet18"])
    with pytest.raises(InputError, match="is not a complete model"):
        EmbeddingModel.load(saved)


@pytest.mark.parametrize("option", ["config", "model_card_kwargs"])
def test_what_the_model_makes_itself_is_not_taken_when_it_is_published(hub, model, option):
    with pytest.raises(SettingError, match=f"push_to_hub: the model makes {option} itself"):
        model.push_to_hub("owner/name", **{option: {"a": 1}})
    assert hub == {}


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_have_at_least_one_image(model, pictures, batch_size):
    with pytest.raises(SettingError, match=f"batch_size: expected at least 1; found {batch_size}"):
        model.embed(pictures, batch_size=batch_size)


def test_options_that_would_do_nothing_are_refused(model, saved, tmp_path):
    with pytest.raises(SettingError, match=r"save_pretrained: repo_id, branch can only be used with push_to_hub=True"):
        model.save_pretrained(tmp_path / "model", repo_id="owner/name", branch="v2")
    assert not (tmp_path / "model").exists()
    with pytest.raises(SettingError, match=r"revision: .* is a folder; only a name on the hub"):
        EmbeddingModel.from_pretrained(saved, revision="v2")
    with pytest.raises(SettingError, match=r"expected options of revision, token, .*; found views"):
        EmbeddingModel.load(saved, views=2)


def test_embedding_leaves_training_mode(model, pictures):
    model.net.train()
    first = model.embed(pictures)
    np.testing.assert_array_equal(model.embed(pictures), first)
    assert isinstance(pictures[0], Image.Image)


# --- views


@pytest.mark.parametrize("n_views", VIEWS)
@pytest.mark.parametrize("output", ["unit", "sigmoid"])
def test_views_are_averaged_by_hand(prepared, n_views, output):
    model = build(output=output, size_inputs="pixels")
    pixels, sides = prepared.batch(slice(None))[0], prepared.log_sides("pixels")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    turned = [turn_view(images, view).permute(0, 2, 3, 1).contiguous().numpy() for view in VIEWS[n_views]]
    expected = np.mean([model.embed_pixels(view, sides, views=1) for view in turned], axis=0)
    if output == "unit":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = model.embed_pixels(pixels, sides, views=n_views)
    assert (found.shape, found.dtype) == ((5, 8), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if n_views > 1:
        assert np.abs(found - model.embed_pixels(pixels, sides, views=1)).max() > 1e-3


def test_averaged_vectors_have_unit_length(model, pictures):
    for n_views in VIEWS:
        np.testing.assert_allclose(np.linalg.norm(model.embed(pictures, views=n_views), axis=1), 1, rtol=1e-6)


def test_averaged_vectors_of_a_sigmoid_stay_between_0_and_1(pictures):
    vectors = build(output="sigmoid").embed(pictures, views=8)
    assert 0 < vectors.min() < vectors.max() < 1


SQUARE = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 256, (75, 75), np.uint8))


@settings(max_examples=15)
@given(image=SQUARE, view=st.integers(0, 7))
def test_eight_views_are_the_same_however_the_image_is_turned_or_mirrored(model, image, view):
    seen = turn_view(torch.from_numpy(image)[None, None], view)[0, 0].numpy()
    one, eight = model.embed([image, seen], views=1), model.embed([image, seen], views=8)
    np.testing.assert_allclose(eight[0], eight[1], atol=1e-5)
    assert view == 0 or np.abs(one[0] - one[1]).max() > 1e-4


@pytest.mark.parametrize(("n_views", "same"), [(2, [0, 2]), (4, [0, 1, 2, 3])])
def test_fewer_views_are_the_same_under_their_own_turns_only(model, n_views, same):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 75, 75), np.uint8))
    vectors = model.embed([turn_view(image, view)[0, 0].numpy() for view in range(8)], views=n_views)
    distances = np.abs(vectors - vectors[0]).max(axis=1)
    assert np.flatnonzero(distances < 1e-5).tolist() == same


def test_a_model_has_views_of_its_own_that_a_call_may_change(model, pictures, prepared, tmp_path):
    four = replace(model, views=4)
    wanted = model.embed(pictures, views=4)
    np.testing.assert_array_equal(four.embed(pictures), wanted)
    np.testing.assert_array_equal(four.embed_prepared(prepared), wanted)
    np.testing.assert_array_equal(four.embed(pictures, views=1), model.embed(pictures))
    np.testing.assert_array_equal(four.embed_prepared(prepared, views=1), model.embed(pictures))
    features = four.extract_features(prepared)
    assert features.shape == (len(pictures), 4, four.net.head.in_features)
    np.testing.assert_array_equal(four.embed_features(features), wanted)
    saved = four.save(tmp_path / "model")
    assert json.loads((saved / "config.json").read_text())["views"] == 4
    loaded = EmbeddingModel.load(saved, "cpu")
    assert loaded.views == 4
    np.testing.assert_array_equal(loaded.embed(pictures), wanted)


@pytest.mark.parametrize("n_views", [0, 3, 16, -1])
def test_other_numbers_of_views_are_refused(model, pictures, prepared, n_views):
    for attempt in (
        lambda: model.embed(pictures, views=n_views),
        lambda: model.embed_prepared(prepared, views=n_views),
        lambda: replace(model, views=n_views).embed(pictures),
    ):
        with pytest.raises(SettingError, match=rf"^views: expected one of .*1.*2.*4.*8.* found {n_views}$"):
            attempt()


def test_the_refusal_names_the_numbers_of_views_that_may_be(model, pictures):
    with pytest.raises(SettingError, match=r"^views: expected one of 1, 2, 4, 8[,;] found 3$"):
        model.embed(pictures, views=3)


# --- size inputs


def blank(width, height):
    """An image that is prepared to the same white square, whatever its size."""
    return np.full((height, width), 255, np.uint8)


def test_the_size_of_an_image_matters_to_a_model_with_size_inputs_only(model, in_pixels):
    images = [blank(75, 75), blank(75, 60), blank(60, 75), blank(500, 400)]
    plain, sized = model.embed(images), in_pixels.embed(images)
    assert np.abs(plain - plain[0]).max() < 1e-5
    np.testing.assert_allclose(sized[1], sized[2], atol=1e-5)
    assert np.abs(sized[0] - sized[1]).max() > 1e-3
    assert np.abs(sized[1] - sized[3]).max() > 1e-2


def test_sizes_are_the_same_in_memory_and_prepared(in_pixels, pictures, prepared):
    wanted = in_pixels.embed(pictures)
    np.testing.assert_array_equal(in_pixels.embed_prepared(prepared), wanted)
    pixels = prepared.batch(slice(None))[0]
    sides = log_sides(np.array([picture.size for picture in pictures]), "pixels")
    np.testing.assert_array_equal(in_pixels.embed_pixels(pixels, sides), wanted)
    assert np.abs(in_pixels.embed_pixels(pixels, sides[::-1].copy()) - wanted).max() > 1e-3
    turned = prepared.select(np.arange(5)[::-1])
    np.testing.assert_allclose(in_pixels.embed_prepared(turned, batch_size=2), wanted[::-1], atol=1e-5)


def test_a_model_without_size_inputs_looks_at_no_pixel_size(model, pictures, prepared):
    scaled = replace(prepared, pixel_size=np.array([2, np.nan, 3, 1, 1], np.float32))
    np.testing.assert_array_equal(model.embed(pictures, pixel_size=2), model.embed(pictures))
    np.testing.assert_array_equal(model.embed_prepared(scaled), model.embed(pictures))


@pytest.mark.filterwarnings("error")
def test_a_pixel_size_of_zero_that_nobody_looks_at_is_no_warning(model, prepared):
    model.embed_prepared(replace(prepared, pixel_size=np.zeros(5, np.float32)))


def test_sides_in_pixels_stay_in_pixels_though_a_pixel_size_is_known(in_pixels, pictures, prepared):
    wanted = in_pixels.embed(pictures)
    np.testing.assert_array_equal(in_pixels.embed(pictures, pixel_size=2), wanted)
    for pixel_size in (2, np.nan):
        scaled = replace(prepared, pixel_size=np.full(5, pixel_size, np.float32))
        np.testing.assert_array_equal(in_pixels.embed_prepared(scaled), wanted)


def test_a_size_in_micrometres_is_pixels_times_pixel_size(in_micrometres):
    images = [blank(80, 60), blank(160, 120), blank(80, 60)]
    vectors = in_micrometres.embed(images, pixel_size=np.array([2, 1, 1]))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3
    np.testing.assert_allclose(in_micrometres.embed(images, pixel_size=1)[2], vectors[2], atol=1e-5)


def test_a_pixel_size_may_be_one_for_all_or_one_each(in_micrometres, pictures, prepared):
    wanted = in_micrometres.embed(pictures, pixel_size=0.7)
    for pixel_size in ([0.7] * 5, np.full(5, 0.7), np.float32(0.7)):
        np.testing.assert_allclose(in_micrometres.embed(pictures, pixel_size=pixel_size), wanted, atol=1e-6)
    scaled = replace(prepared, pixel_size=np.full(5, 0.7, np.float32))
    np.testing.assert_allclose(in_micrometres.embed_prepared(scaled), wanted, atol=1e-6)
    each = np.array([1, 2, 3, 4, 5], np.float32)
    np.testing.assert_allclose(
        in_micrometres.embed_prepared(replace(prepared, pixel_size=each), batch_size=2),
        in_micrometres.embed(pictures, pixel_size=each, batch_size=3),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("pixel_size", "found"),
    [
        (None, "5 of 5 images"),
        (0, "5 of 5 images"),
        (np.nan, "5 of 5 images"),
        ([1, 1, np.nan, -1, 1], "2 of 5 images"),
    ],
)
def test_micrometres_without_a_pixel_size_are_refused(in_micrometres, pictures, prepared, pixel_size, found):
    message = rf"side lengths in µm .*for every image: expected a column pixel_size .*found none for {found}$"
    with pytest.raises(InputError, match=message):
        in_micrometres.embed(pictures, pixel_size=pixel_size)
    each = None if pixel_size is None else np.broadcast_to(np.float32(pixel_size), 5)
    with pytest.raises(InputError, match=message):
        in_micrometres.embed_prepared(replace(prepared, pixel_size=each))


def test_an_infinite_pixel_size_is_refused(in_micrometres, pictures):
    with pytest.raises(InputError, match=r"for every image: .*found none for 1 of 5 images"):
        in_micrometres.embed(pictures, pixel_size=[1, 1, np.inf, 1, 1])


def test_images_that_are_not_meant_need_no_pixel_size(in_micrometres, prepared):
    scaled = replace(prepared, pixel_size=np.array([1, np.nan, 1, 1, 1], np.float32)).select(np.array([0, 2, 3]))
    assert in_micrometres.embed_prepared(scaled).shape == (3, 8)


def test_as_many_pixel_sizes_as_images_are_expected(in_micrometres, pictures):
    with pytest.raises(InputError, match=r"pixel.size"):
        in_micrometres.embed(pictures, pixel_size=[1, 1])
