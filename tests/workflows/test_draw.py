"""The figure of a result, whatever it is."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import plankton_embed as pe
from plankton_embed.errors import InputError
from plankton_embed.training.history import History


def make_table():
    vectors = np.random.default_rng(0).normal(size=(60, 4)) + np.repeat(np.eye(3, 4) * 5, 20, axis=0)
    return pe.EmbeddingTable(vectors, label=np.repeat(list("abc"), 20))


def shift_samples():
    row = {"sample_id": None, "n_images": 60, "verdict": "alike", "vectors_effect": 0.1, "vectors_draws": 0.2,
           "appearance_effect": 0.0, "appearance_draws": 0.1, "refused": 0.1}  # fmt: skip
    return pd.DataFrame([row])


def test_every_result_has_a_figure(finished):
    table = make_table()
    results = [finished, pe.ImageCatalog.load(finished.folder.catalog), pe.pca(table)]
    results += [pe.dendrogram(table, n_leaves=4, progress=False), pe.clusters(table, progress=False)]
    results += [pe.evaluate(table, table, progress=False), pe.suspects(table, n_folds=0, progress=False)]
    results += [pe.summarize(pe.ImageCatalog.load(finished.folder.catalog)), History.load(finished.folder.history)]
    results += [pe.Shift(shift_samples(), pd.DataFrame(), {})]
    for result in results:
        assert isinstance(pe.draw(result), Axes), result


def test_a_figure_goes_where_it_is_asked_to():
    ax = Figure().subplots()
    assert pe.draw(pe.pca(make_table()), ax) is ax


def test_what_has_no_figure_is_refused():
    with pytest.raises(InputError, match=r"draw: expected one of ImageCatalog, .*; found list"):
        pe.draw([1, 2])
