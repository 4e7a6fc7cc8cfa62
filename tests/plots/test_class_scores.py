"""The figure of precision, recall and F1 of each class."""

import pytest
from matplotlib.axes import Axes

from plankton_embed.plots.class_scores import draw_class_scores


def y_names(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_class_scores_are_sorted_by_f1(lopsided_scores):
    scores = lopsided_scores
    ax = draw_class_scores(scores)
    assert y_names(ax) == ["bee (4)", "ant (4)", "cat (0)"]
    marks = {
        mark.get_label(): mark.get_offsets()[:, 0].tolist() for mark in ax.collections if mark.get_label()[0] != "_"
    }
    assert marks["precision"] == pytest.approx([3 / 6, 1, 0])
    assert marks["recall"] == pytest.approx([3 / 4, 1 / 4, 0])
    assert marks["F1"] == pytest.approx([0.6, 0.4, 0])
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the highest F1 is on top"


def test_given_axes_are_used(check_given_axes, lopsided_scores):
    check_given_axes(lambda ax: draw_class_scores(lopsided_scores, ax))
