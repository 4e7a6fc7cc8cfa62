"""Figures of calibration, refusing, the MLP head and enrolling show the numbers they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plankton_embed.classifiers.calibration import measure_reliability
from plankton_embed.classifiers.open_set import count_names, score_open_set
from plankton_embed.plots.class_counts import draw_class_counts
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.head_curves import draw_head_curves
from plankton_embed.plots.learning_curve import draw_learning_curve
from plankton_embed.plots.open_set import draw_open_set
from plankton_embed.plots.reliability import draw_reliability

SURE, RIGHT = np.array([0.95, 0.9, 0.97, 0.4]), np.array([True, False, True, True])


def reliabilities():
    return measure_reliability(np.sqrt(SURE), RIGHT), measure_reliability(SURE, RIGHT)


def open_set():
    return score_open_set(["a", "a", "b", "x", "x"], ["a", "b", "b", "a", "b"], [0.1, 0.2, 0.6, 0.5, 0.9],
                          [False, False, False, True, True], [True, False, False, True, True])  # fmt: skip


def counts():
    truth, names = np.array(["a", "a", "b", "x$x", "x$x"]), np.array(["a", "b", "b", "a", "b"])
    return count_names(truth, names, np.array([False, True, False, True, False]))


def history(watched=True):
    frame = pd.DataFrame({"epoch": [1, 2, 3, 4], "loss": [2.0, 1.0, 0.5, 0.2]})
    more = {
        "calibration_loss": [2.1, 1.2, 1.2, 1.6],
        "calibration_accuracy": [0.3, 0.6, 0.7, 0.6],
        "kept": [False, True, True, False],
    }
    return frame.assign(**more) if watched else frame


def summary(known=True):
    table = pd.DataFrame({"n_examples": [1, 1, 50, 50], "method": ["centroid", "knn"] * 2})
    for place, name in enumerate(("new_only", "new", "known", "all")):
        table[f"{name}_mean"] = np.array([0.1, 0.2, 0.6, 0.7]) + 0.05 * place if known or name != "known" else np.nan
        table[f"{name}_std"] = 0.02
    return table


def test_reliability_shows_every_filled_bin_and_all_images(tmp_path):
    before, after = reliabilities()
    ax = draw_reliability(before, after)
    lines = {line.get_label(): line for line in ax.get_lines()}
    name = next(label for label in lines if label.startswith("with it"))
    assert f"{after.ece:.3f}" in name
    filled = after.bins[after.bins["n_images"] > 0]
    np.testing.assert_allclose(lines[name].get_xdata(), filled["probability"])
    np.testing.assert_allclose(lines[name].get_ydata(), filled["accuracy"])
    save_figure(ax, tmp_path / "reliability.png", dpi=40)


def test_open_set_shows_curve_and_working_point(tmp_path):
    scores = open_set()
    ax = draw_open_set(scores)
    assert "AUROC 0.833" in ax.get_title(loc="left")
    points = {str(line.get_label()): line.get_xydata().tolist() for line in ax.get_lines()}
    assert points["5 % of the known refused, 50 % of the unseen"] == [[0.5, 0.95]]
    save_figure(ax, tmp_path / "open_set.png", dpi=40)


def test_counts_have_a_row_a_class_the_unknown_last():
    ax = draw_class_counts(counts())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "x$x", "b", "unknown"]
    marks = {artist.get_label(): artist.get_offsets()[:, 0].tolist() for artist in ax.collections[1:]}
    assert marks["true images"] == [2, 2, 1]
    assert marks["named so, some refused"] == [1, 0, 2, 2]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_head_curves_mark_the_epochs_kept():
    ax = draw_head_curves(history())
    kept = [line.get_label() for line in ax.get_lines() if "kept" in str(line.get_label())]
    assert kept == ["epoch kept: 2", "epoch kept: 3"]
    alone = draw_head_curves(history(watched=False))
    assert len(alone.get_lines()) == 1


@pytest.mark.parametrize(("known", "n_lines"), [(True, 8), (False, 6)])
def test_learning_curve_has_a_line_a_score_and_method(known, n_lines):
    ax = draw_learning_curve(summary(known))
    assert len(ax.containers) == n_lines
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "50"]


@pytest.mark.parametrize(
    "draw",
    [lambda ax: draw_reliability(*reliabilities(), ax), lambda ax: draw_open_set(open_set(), ax),
     lambda ax: draw_class_counts(counts(), ax), lambda ax: draw_head_curves(history(), ax),
     lambda ax: draw_learning_curve(summary(), ax)],
)  # fmt: skip
def test_given_axes_are_used(draw):
    left, right = Figure().subplots(1, 2)
    drawn = draw(left)
    assert drawn is left or drawn in left.child_axes
    assert not right.has_data()
