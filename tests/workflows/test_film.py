"""`film`: every epoch of a run on common axes."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import plankton_embed as pe
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.run_folder import RunFolder


def test_a_film_shows_every_epoch_on_common_axes(filmed, tmp_path):
    made = pe.film(filmed.path, tmp_path / "film.webp", seconds=1, progress=False)
    assert made.epochs.tolist() == [1, 2, 3]
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames > 3
    model = pe.EmbeddingModel.load(filmed.path)
    best = model.training["best_epoch"]
    vectors = pe.EmbeddingTable.load(filmed.vectors("test"))
    rows = [list(vectors.object_id).index(name) for name in made.basis.table.object_id]
    place = made.epochs.tolist().index(best)
    np.testing.assert_allclose(made.coordinates[place], made.basis.project(vectors.vectors[rows]), atol=1e-4)
    history = pd.read_csv(filmed.history)["centroid_accuracy"]
    np.testing.assert_allclose(made.accuracies, history)
    with pytest.raises(OutputError, match="exists already"):
        pe.film(filmed.path, tmp_path / "film.webp")
    for wrong, message in (({"basis_epoch": 9}, "epoch 9"), ({"seconds": -1}, "seconds")):
        with pytest.raises(SettingError, match=message):
            pe.film(filmed.path, **wrong, progress=False)


def test_a_film_of_what_has_no_epochs(filmed, tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        pe.film(tmp_path)
    bare = RunFolder(shutil.copytree(filmed.path, tmp_path / "run"))
    for path in bare.kept_epochs().values():
        path.unlink()
    with pytest.raises(InputError, match=r"0 epochs.*keep_every_epoch"):
        pe.film(bare.path)
