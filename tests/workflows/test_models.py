"""`models`: the models that come with the package, in Python and on the command line."""

import json

from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.network import pretrained
from plankton_embed.settings import NetworkSettings, PreparationSettings
from plankton_embed.workflows import models as models_module


def call(*arguments):
    return CliRunner().invoke(app, ["models", *arguments])


def test_a_model_is_listed_with_what_it_was_trained_on(tmp_path, monkeypatch):
    for module in (pretrained, models_module):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert "no model comes with this installation" in call().stdout
    model = pe.EmbeddingModel.build(NetworkSettings(trunk="resnet18"), PreparationSettings(target_size=32))
    model.classes, model.training = ["copepod", "diatom"], {"n_images": 250}
    model.save(tmp_path / "small")
    found = pe.models()
    size = round(sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) / 1e6, 1)
    wanted = {
        "name": "small",
        "trunk": "resnet18",
        "side": 32,
        "dimension": 64,
        "n_classes": 2,
        "n_images": 250,
        "megabytes": size,
        "model_hash": model.hash,
    }
    assert found.to_dict("records") == [wanted]
    assert json.loads(call("--json").stdout) == {"models": [wanted]}
    assert model.hash in call().stdout
