"""The figure of a result, whatever it is."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import plankton_embed as pe
from plankton_embed.errors import InputError


def make_table():
    vectors = np.random.default_rng(0).normal(size=(60, 4)) + np.repeat(np.eye(3, 4) * 5, 20, axis=0)
    return pe.EmbeddingTable(vectors, label=np.repeat(list("abc"), 20))


def test_every_result_has_a_figure(finished):
    table = make_table()
    results = [finished, pe.ImageCatalog.load(finished.folder.catalog), pe.pca(table)]
    results += [pe.dendrogram(table, n_leaves=4, progress=False), pe.clusters(table, progress=False)]
    results += [pe.evaluate(table, table, progress=False), pe.suspects(table, n_folds=0, progress=False)]
    for result in results:
        assert isinstance(pe.draw(result), Axes), result


def test_a_figure_goes_where_it_is_asked_to():
    ax = Figure().subplots()
    assert pe.draw(pe.pca(make_table()), ax) is ax


def test_what_has_no_figure_is_refused():
    with pytest.raises(InputError, match=r"draw: expected one of catalogs, .*; found list"):
        pe.draw([1, 2])
