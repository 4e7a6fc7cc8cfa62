"""`export-model`: one ONNX file of a model, in Python and on the command line."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import InputError, OutputError
from plankton_embed.network import pretrained
from plankton_embed.settings import NetworkSettings, PreparationSettings


def call(*arguments):
    return CliRunner().invoke(app, ["export-model", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of models with one, `small`."""
    folder = tmp_path_factory.mktemp("models")
    model = pe.EmbeddingModel.build(NetworkSettings(trunk="resnet18"), PreparationSettings(target_size=32))
    model.classes = ["copepod", "diatom"]
    model.save(folder / "small")
    return folder


def test_a_model_is_written_and_embeds(folder, tmp_path):
    output = tmp_path / "new folder" / "model.onnx"
    done = call(folder / "small", "-o", output, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"output": str(output), "megabytes": round(output.stat().st_size / 1e6, 1)}
    model, embedder = pe.EmbeddingModel.load(folder / "small", "cpu"), pe.OnnxEmbedder(output)
    assert (embedder.model_hash, embedder.classes) == (model.hash, ["copepod", "diatom"])
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    np.testing.assert_allclose(embedder.embed(images), model.embed(images, precision="float32"), atol=1e-4)


def test_a_model_is_found_by_its_name_and_a_file_is_replaced_if_wanted(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    output = tmp_path / "model.onnx"
    output.write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        pe.export_model("small", output)
    assert output.read_text() == "old"
    done = call("small", "-o", output, "--overwrite")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"model of {output.stat().st_size / 1e6:.1f} MB -> {output}\n"
    assert pe.OnnxEmbedder(output).dimension == 64


def test_the_output_is_checked_before_the_model_is_loaded(tmp_path):
    output = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="is not a model"):
        pe.export_model(tmp_path / "gone", output)
    done = call(tmp_path / "gone", "-o", tmp_path / "model.pt")
    assert (done.exit_code, "expected a name that ends in .onnx" in done.stderr) == (1, True)
    output.write_text("mine")
    done = call(tmp_path / "gone", "-o", output)
    assert (done.exit_code, "exists already" in done.stderr) == (1, True)
    assert output.read_text() == "mine"


def test_without_the_extra_the_error_has_the_command_that_installs_it(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = call(folder / "small", "-o", tmp_path / "model.onnx")
    assert (done.exit_code, "pip install 'plankton_embed[onnx]'" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
