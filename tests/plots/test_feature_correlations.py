"""The figure of the correlations of numeric features."""

import numpy as np
import pytest

from plankton_embed.plots.feature_correlations import draw_feature_correlations
from plankton_embed.plots.figure import new_axes, save_figure


@pytest.mark.parametrize("n_features", [2, 60])
def test_correlations_and_their_marks(n_features, tmp_path, summarize_random):
    summary = summarize_random(n_features)
    ax = draw_feature_correlations(summary)
    names = [f"f{k}" for k in range(n_features)] + ["flat *", "few *", "twice *"]
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    assert ax.get_title(loc="left") == "Correlation of features, * 3 dropped"
    shown = ax.images[0].get_array()
    assert shown[0, n_features + 2] == pytest.approx(1)
    assert np.ma.getmaskarray(shown)[n_features].all() or np.isnan(np.asarray(shown[n_features])).all()
    written = {text.get_text() for text in ax.texts}
    assert ("1.00" in written) == (n_features == 2), "numbers stand in small tables only"
    assert "nan" not in written
    assert save_figure(ax, tmp_path / "r.png", dpi=50).stat().st_size > 3000


def test_a_given_place_is_drawn_in(summarize_random):
    own = new_axes(5, 5)
    assert draw_feature_correlations(summarize_random(2), own) is own
