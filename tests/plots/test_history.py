"""The curves of a training."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.history import draw_history
from plankton_embed.training.history import EpochRecord, History


def history_of(losses, accuracies):
    rows = enumerate(zip(losses, accuracies, strict=True), start=1)
    return History(
        [
            EpochRecord(
                epoch, loss, active_share=0.5, learning_rate=1e-3 / epoch, centroid_accuracy=accuracy,
                knn_accuracy=accuracy + 0.05, within_distance=0.4, between_distance=1.2, effective_rank=3.5,
                n_never_predicted=1, n_empty_steps=2, n_broken_steps=3, images_per_second=100.0, seconds=2.0,
            )
            for epoch, (loss, accuracy) in rows
        ]
    )  # fmt: skip


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_curves_panels_share_epochs_and_mark_the_best():
    top = draw_history(history_of([3, 2, 1], [0.5, 0.8, 0.7]))
    panels = loss, accuracy, distance, rate = top.figure.axes[0].child_axes
    assert top is loss
    assert [panel.get_ylabel() for panel in panels] == [
        "training loss", "validation accuracy", "mean distance", "learning rate",
    ]  # fmt: skip
    assert rate.get_xlabel() == "epoch"
    assert list(loss.lines[0].get_ydata()) == [3, 2, 1]
    assert list(accuracy.lines[0].get_ydata()) == [0.5, 0.8, 0.7]
    assert list(accuracy.lines[1].get_ydata()) == pytest.approx([0.55, 0.85, 0.75])
    assert [list(line.get_ydata()) for line in distance.lines[:2]] == [[1.2, 1.2, 1.2], [0.4, 0.4, 0.4]]
    assert list(rate.lines[0].get_xdata()) == [1, 2, 3]
    assert all([2, 2] in [list(line.get_xdata()) for line in panel.lines] for panel in panels), "the best epoch is 2"
    assert accuracy.get_legend().get_title().get_text() == "best epoch: 2"
    loss.set_xlim(0, 9)
    assert rate.get_xlim() == (0, 9)


def test_curves_join_the_epochs_that_were_validated():
    top = draw_history(history_of([4, 3, 2, 1], [np.nan, 0.5, np.nan, 0.6]))
    _, accuracy, *_ = top.figure.axes[0].child_axes
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in accuracy.lines[:1]] == [([2, 4], [0.5, 0.6])]


def test_curves_without_validation_say_so(tmp_path):
    top = draw_history(history_of([3, 2], [np.nan, np.nan]))
    loss, accuracy, *_ = top.figure.axes[0].child_axes
    assert texts(accuracy) == ["no validation images"]
    assert len(loss.lines) == 1, "no best epoch is marked"
    save_figure(top, tmp_path / "curves.png", dpi=40)


def test_curves_need_no_more_than_losses_and_rates(tmp_path):
    top = draw_history(History([EpochRecord(1, 2.0, 0.5, 1e-3), EpochRecord(2, 1.0, 0.4, 5e-4)]))
    loss, accuracy, distance, rate = top.figure.axes[0].child_axes
    assert list(loss.lines[0].get_ydata()) == [2, 1]
    assert list(rate.lines[0].get_ydata()) == [1e-3, 5e-4]
    assert texts(accuracy) == ["no validation images"]
    assert texts(distance) == ["not measured"]
    save_figure(top, tmp_path / "curves.png", dpi=40)


def test_curves_are_drawn_from_a_history_that_was_saved(tmp_path):
    history_of([3, 2, 1], [0.5, 0.8, 0.7]).save(tmp_path / "history.csv")
    loss, accuracy, *_ = draw_history(History.load(tmp_path / "history.csv")).figure.axes[0].child_axes
    assert list(loss.lines[0].get_ydata()) == [3, 2, 1]
    assert accuracy.get_legend().get_title().get_text() == "best epoch: 2"


def test_curves_of_no_epoch_say_so():
    assert texts(draw_history(History())) == ["no epochs"]


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_history(history_of([2, 1], [0.5, 0.6]), ax))
