"""The figure of the distances between class centroids."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.errors import InputError
from plankton_embed.plots.centroid_distances import draw_centroid_distances


def test_centroid_distances_show_the_table():
    table = pd.DataFrame([[0, 1.25, 0.5], [1.25, 0, 2], [0.5, 2, 0]], list("abc"), list("abc"))
    ax = draw_centroid_distances(table)
    assert (np.asarray(ax.images[0].get_array()) == table.to_numpy()).all()
    colour = {text.get_text(): text.get_color() for text in ax.texts}
    assert {"1.25", "0.50", "2.00"} < set(colour)
    assert (colour["0.50"], colour["2.00"]) == ("white", "black"), "near pairs are dark"


def test_centroid_distances_refuse_other_tables():
    with pytest.raises(InputError, match="same classes"):
        draw_centroid_distances(pd.DataFrame([[0, 1]], ["a"], ["a", "b"]))
    with pytest.raises(InputError):
        draw_centroid_distances(pd.DataFrame())


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_centroid_distances(pd.DataFrame([[0.0]], ["a"], ["a"]), ax))
