"""The figure of the explained variance."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from plankton_embed.analysis.projection import fit_projection
from plankton_embed.errors import InputError
from plankton_embed.plots.explained import draw_explained
from plankton_embed.table import EmbeddingTable


def test_explained_shows_all_components_and_their_sum():
    table = EmbeddingTable(np.random.default_rng(0).normal(size=(18, 5)))
    projection = fit_projection(table, n_components=2)
    ax = draw_explained(projection)
    assert sorted(bar.get_height() for bar in ax.patches)[::-1] == pytest.approx(projection.spectrum.tolist())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.cumsum(projection.spectrum))
    assert f"the 2 axes: {projection.explained.sum():.1%}" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert draw_explained(projection, Figure().add_subplot()).patches
    with pytest.raises(InputError, match="shares of variance"):
        draw_explained(replace(projection, method="tsne", spectrum=None))
