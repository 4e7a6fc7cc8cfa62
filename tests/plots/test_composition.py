"""The figure of composition shows the shares of every sample, at every size."""

import numpy as np
import pytest

from plankton_embed.plots.composition import MOST_COLUMNS, draw_composition
from plankton_embed.plots.figure import save_figure


@pytest.mark.parametrize(("n_samples", "n_classes"), [(1, 2), (3, 10), (300, 121)])
def test_composition_shows_shares(n_samples, n_classes, tmp_path, make_survey):
    found = make_survey(n_samples, n_classes)
    ax = draw_composition(found)
    cells = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(cells.sum(axis=1), 1)
    np.testing.assert_allclose(cells[:, 0], found.by_sample().iloc[:, 0] / 400)
    columns = [tick.get_text() for tick in ax.get_xticklabels()]
    others = n_classes > MOST_COLUMNS
    assert cells.shape == (n_samples, min(n_classes, MOST_COLUMNS) + others + 1)
    assert columns[-1] == "unknown"
    assert (columns[-2] == f"{n_classes - MOST_COLUMNS} other classes") == others
    assert len(ax.get_yticklabels()) == (n_samples if n_samples < 100 else 100)  # every third
    written = [int(text.get_text()) for text in ax.texts]
    expected = (100 * cells).round().astype(int) if n_samples < 100 else np.zeros(1, dtype=int)
    assert written == expected[expected > 0].tolist()
    save_figure(ax, tmp_path / "composition.png", dpi=40)
