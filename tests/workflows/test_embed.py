"""`embed`: vectors of images by a saved model."""

import json

import numpy as np
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_saved_model_embeds_as_the_run_did(finished):
    table = pe.EmbeddingTable.load(finished.folder.vectors("test"))
    again = pe.embed(finished.folder.path, pe.ImageCatalog.load(finished.folder.catalog).split("test"), progress=False)
    assert again.model_hash == table.model_hash == finished.scores["model_hash"]
    assert (again.vectors == table.vectors).all()


def test_views_are_those_asked_for(images, finished, tmp_path):
    assert call("embed", finished.folder.path, images, "-o", tmp_path / "one.parquet").exit_code == 0
    done = call("embed", finished.folder.path, images, "-o", tmp_path / "eight.parquet", "--views", 8, "--json")
    assert (done.exit_code, json.loads(done.stdout)["n_images"]) == (0, 48)
    one, eight = (pe.EmbeddingTable.load(tmp_path / f"{name}.parquet") for name in ("one", "eight"))
    model = pe.EmbeddingModel.load(finished.folder.path, "cpu")
    np.testing.assert_allclose(one.vectors, model.embed(list(one.path), views=1), atol=1e-5)
    np.testing.assert_allclose(eight.vectors, model.embed(list(one.path), views=8), atol=1e-5)
    assert np.abs(one.vectors - eight.vectors).max() > 1e-3
