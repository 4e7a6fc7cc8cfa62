"""The figure of the images of each class."""

import pytest
from matplotlib.axes import Axes

from plankton_embed.plots.class_sizes import draw_class_sizes
from plankton_embed.plots.figure import save_figure


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def y_names(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_class_sizes_bars_scale_and_counts(summary_of):
    ax = draw_class_sizes(summary_of({"copepod": 2500, "medusa": 40, "rare": 3}, n_unlabelled=7))
    assert [bar.get_width() for bar in ax.patches] == [2500, 40, 3]
    assert texts(ax) == ["2,500", "40", "3"]
    assert y_names(ax) == ["copepod", "medusa", "rare"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the largest class stands on top"
    assert ax.get_xscale() == "symlog"
    assert ax.xaxis.get_transform().linthresh == 100
    assert "7 unlabelled" in ax.get_title(loc="left")
    assert "linear below 100" in ax.get_xlabel()


@pytest.mark.parametrize("n_classes", [1, 12, 121])
def test_class_sizes_stay_legible(n_classes, summary_of, overlaps):
    ax = draw_class_sizes(summary_of({f"a_rather_long_class_name_{i}": 5 + i**2 for i in range(n_classes)}))
    assert len(ax.patches) == n_classes
    assert overlaps(ax, ax.get_yticklabels()) == 0
    pixels_at_1000 = ax.get_yticklabels()[0].get_fontsize() / 72 * 1000 / ax.figure.get_size_inches()[0]
    assert pixels_at_1000 >= 9
    box = ax.figure.bbox
    assert all(box.x0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= box.x1 for text in ax.texts)


def test_class_sizes_without_labels_say_so(summary_of):
    ax = draw_class_sizes(summary_of({}, n_unlabelled=9))
    assert texts(ax) == ["no labelled images"]


def test_dollars_in_class_names_are_no_formulas(tmp_path, summary_of):
    ax = draw_class_sizes(summary_of({"a$_{b": 3, "$x$": 2}))
    save_figure(ax, tmp_path / "dollars.png")
    assert y_names(ax) == ["a$_{b", "$x$"]


def test_given_axes_are_used(check_given_axes, summary_of):
    check_given_axes(lambda ax: draw_class_sizes(summary_of({"a": 3}), ax))
