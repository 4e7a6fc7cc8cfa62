"""`adapt`: the batch norms of a model on the images of another instrument, by hand and on the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import InputError, OutputError
from plankton_embed.settings import NetworkSettings, PreparationSettings

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def model():
    built = pe.EmbeddingModel.build(
        NetworkSettings(trunk="resnet18", dimension=8), PreparationSettings(target_size=32, polarity="as_is")
    )
    built.classes, built.card = ["copepod", "diatom"], "# Small\n"
    return built


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """128 images with a dark background, as of another instrument, and one that cannot be read."""
    folder, rng = tmp_path_factory.mktemp("dark"), np.random.default_rng(0)
    for number in range(128):
        pixels = np.full((32, 32), 20, dtype=np.uint8)
        pixels[8:24, 8:24] = rng.integers(100, 250, (16, 16))
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_the_norms_measure_the_images_and_the_weights_stay(model, folder, tmp_path):
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    adapted = pe.adapt(model, folder, tmp_path / "new", device="cpu", progress=False)
    paths = sorted(map(str, folder.glob("[0-9]*.png")))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths])).float()[:, None]
    with torch.inference_mode():
        first = model.net.trunk.conv1((pixels - model.net.mean) / model.net.std)
    norm = adapted.net.trunk.bn1
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(norm.running_var, first.var((0, 2, 3)), atol=1e-3, rtol=0.02)
    for name, value in adapted.net.state_dict().items():
        torch.testing.assert_close(model.net.state_dict()[name], before[name])  # the given model stays as it is
        assert name.endswith(STATISTICS) or torch.equal(value, before[name])


def test_the_white_level_of_the_images_is_found(model, folder, tmp_path, caplog):
    deep = tmp_path / "deep"
    deep.mkdir()
    for path in folder.glob("[0-9]*.png"):
        pixels = np.rint(np.asarray(Image.open(path)) / 255 * 16383).astype(np.uint16)
        Image.fromarray(pixels).save(deep / path.name)
    pe.embed(model, deep, progress=False)
    assert "far below the model's white level 65535, so they become dark" in caplog.text
    adapted = pe.adapt(model, deep, tmp_path / "new", device="cpu", progress=False)
    assert adapted.preparation.white_level_16bit == 16383
    plain = pe.adapt(model, folder, tmp_path / "8", device="cpu", progress=False)
    vectors = [pe.embed(each, images, progress=False).vectors for each, images in ((adapted, deep), (plain, folder))]
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_a_model_of_a_run_is_not_replaced(model, folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.yaml").touch()
    with pytest.raises(OutputError, match="is in a run, whose vectors and scores are those of its own model"):
        pe.adapt(model, folder, tmp_path / "run" / "model", overwrite=True, progress=False)
    (tmp_path / "run" / "catalog.csv").touch()
    with pytest.raises(OutputError, match="is in a run"):
        pe.adapt(model, folder, tmp_path / "run" / "model" / "adapted", progress=False)


def test_the_adapted_model_is_saved_and_knows_what_it_was_adapted_to(model, folder, tmp_path):
    saved = model.save(tmp_path / "old")
    done = CliRunner().invoke(app, ["adapt", str(saved), str(folder), "-o", str(tmp_path / "new"), "--json"])
    assert done.exit_code == 0, done.output
    loaded = pe.EmbeddingModel.load(tmp_path / "new", "cpu")
    assert json.loads(done.stdout) == {"output": str(tmp_path / "new"), "n_images": 128, "model": loaded.hash}
    assert loaded.hash != model.hash
    assert (loaded.classes, loaded.training) == (model.classes, {"adapted_to": 128, "share_dark": 1.0})
    assert f"Model {loaded.hash}" in loaded.card and f"Before that it was the model\n{model.hash}" in loaded.card
    assert loaded.card.index("measured on 128 images without labels") < loaded.card.index("\n### Small\n")
    without_card = pe.adapt(replace(model, card=""), folder, tmp_path / "other", progress=False)
    assert "\n# A plankton embedding" in without_card.card and "\n### A plankton embedding" in without_card.card
    assert without_card.card.count("library_name") == 1
    with pytest.raises(OutputError, match="exists already"):
        pe.adapt(saved, folder, tmp_path / "new", progress=False)


def test_too_few_images_and_trunks_without_norms_are_refused(model, folder, tmp_path):
    paths = sorted(map(str, folder.glob("*.png")))[-50:]
    with pytest.raises(
        InputError, match=r"expected at least 100 images .*; found 49 of 50, such as .*broken\.png: .*as it is"
    ):
        pe.adapt(model, paths, tmp_path / "new", progress=False)
    plain = pe.EmbeddingModel.build(NetworkSettings(trunk="convnext_tiny", dimension=8), PreparationSettings())
    with pytest.raises(InputError, match="the trunk convnext_tiny has no batch norms"):
        pe.adapt(plain, folder, tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()
