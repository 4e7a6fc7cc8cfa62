"""The figure of counts by class beside the true ones."""

import numpy as np

from plankton_embed.classifiers.open_set import count_predictions
from plankton_embed.plots.class_counts import draw_class_counts


def counts():
    truth, names = np.array(["a", "a", "b", "x$x", "x$x"]), np.array(["a", "b", "b", "a", "b"])
    return count_predictions(truth, names, np.array([False, True, False, True, False]))


def test_counts_have_a_row_a_class_the_unknown_last():
    ax = draw_class_counts(counts())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "x$x", "b", "unknown"]
    marks = {artist.get_label(): artist.get_offsets()[:, 0].tolist() for artist in ax.collections[1:]}
    assert marks["true images"] == [2, 2, 1]
    assert marks["predicted, some rejected"] == [1, 0, 2, 2]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_class_counts(counts(), ax))
