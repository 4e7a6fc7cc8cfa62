"""The learning curve of enrolled classes."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.plots.learning_curve import draw_learning_curve


def summary(known=True):
    table = pd.DataFrame({"n_examples": [1, 1, 50, 50], "method": ["centroid", "knn"] * 2})
    for place, name in enumerate(("new_only", "new", "known", "all")):
        table[f"{name}_mean"] = np.array([0.1, 0.2, 0.6, 0.7]) + 0.05 * place if known or name != "known" else np.nan
        table[f"{name}_std"] = 0.02
    return table


@pytest.mark.parametrize(("known", "n_lines"), [(True, 8), (False, 6)])
def test_learning_curve_has_a_line_a_score_and_method(known, n_lines):
    ax = draw_learning_curve(summary(known))
    assert len(ax.containers) == n_lines
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "50"]


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_learning_curve(summary(), ax))
