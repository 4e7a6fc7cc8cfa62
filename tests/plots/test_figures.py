import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import plankton_embed.plots
from plankton_embed.classifiers.scoring import score_names
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog_summary import CatalogSummary
from plankton_embed.plots.centroid_distances import draw_centroid_distances
from plankton_embed.plots.class_scores import draw_class_scores
from plankton_embed.plots.class_sizes import draw_class_sizes
from plankton_embed.plots.confusion import draw_confusion
from plankton_embed.plots.curves import draw_curves
from plankton_embed.plots.figure import new_axes, save_figure
from plankton_embed.plots.image_sizes import draw_image_sizes
from plankton_embed.training.history import EpochRecord, History


def summary_of(counts, width=(), height=(), n_unlabelled=0, n_unreadable=0):
    classes = pd.DataFrame({"label": list(counts), "count": list(counts.values())})
    sizes = pd.DataFrame({"width": width, "height": height}, dtype="int64")
    n_images = sum(counts.values()) + n_unlabelled
    return CatalogSummary(n_images, n_unlabelled, n_unreadable, classes, pd.DataFrame(), sizes, pd.DataFrame())


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


def lopsided_scores():
    # of 4 true "ant", 3 are named "bee"; of 4 true "bee", one is named "cat"; there is no true "cat"
    truth = ["ant"] * 4 + ["bee"] * 4
    names = ["ant", "bee", "bee", "bee", "bee", "bee", "bee", "cat"]
    return score_names(truth, names, n_bootstrap=0)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def y_names(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def overlaps(ax: Axes, labels) -> int:
    """Count neighbouring labels whose boxes overlap."""
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in labels]
    return sum(a.overlaps(b) for a, b in pairwise(boxes))


# --- class sizes


def test_class_sizes_bars_scale_and_counts():
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
def test_class_sizes_stay_legible(n_classes):
    ax = draw_class_sizes(summary_of({f"a_rather_long_class_name_{i}": 5 + i**2 for i in range(n_classes)}))
    assert len(ax.patches) == n_classes
    assert overlaps(ax, ax.get_yticklabels()) == 0
    pixels_at_1000 = ax.get_yticklabels()[0].get_fontsize() / 72 * 1000 / ax.figure.get_size_inches()[0]
    assert pixels_at_1000 >= 9
    box = ax.figure.bbox
    assert all(box.x0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= box.x1 for text in ax.texts)


def test_class_sizes_without_labels_say_so():
    ax = draw_class_sizes(summary_of({}, n_unlabelled=9))
    assert texts(ax) == ["no labelled images"]


def test_dollars_in_class_names_are_no_formulas(tmp_path):
    ax = draw_class_sizes(summary_of({"a$_{b": 3, "$x$": 2}))
    save_figure(ax, tmp_path / "dollars.png")
    assert y_names(ax) == ["a$_{b", "$x$"]


# --- image sizes


def test_image_sizes_joint_histogram_counts_every_image():
    ax = draw_image_sizes(summary_of({"a": 5}, [100, 100, 100, 20, 400], [50, 50, 50, 20, 10]))
    counts, edges = ax.collections[0].get_array(), np.asarray(ax.collections[0].get_coordinates())
    assert counts.sum() == 5
    row, column = np.unravel_index(np.ma.argmax(counts), counts.shape)
    assert counts[row, column] == 3
    (x, y), (right, top) = edges[row, column], edges[row + 1, column + 1]
    assert x < 100 < right, "width runs along x"
    assert y < 50 < top, "height runs along y"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width (pixels)", "height (pixels)")


def test_image_sizes_marginal_densities_have_area_one():
    ax = draw_image_sizes(summary_of({"a": 4}, [10, 20, 40, 80], [30, 30, 60, 60]))
    stairs = [patch for child in ax.child_axes for patch in child.patches if hasattr(patch, "get_data")]
    assert len(stairs) == 2
    for values, edges, _ in (patch.get_data() for patch in stairs):
        assert (values * np.diff(np.log10(edges))).sum() == pytest.approx(1)


@pytest.mark.parametrize("n_images", [1, 50])
def test_image_sizes_of_equal_images(tmp_path, n_images):
    ax = draw_image_sizes(summary_of({"a": n_images}, [64] * n_images, [64] * n_images))
    assert ax.collections[0].get_array().sum() == n_images
    save_figure(ax, tmp_path / "sizes.png", dpi=40)


def test_image_sizes_without_readable_images_say_so():
    ax = draw_image_sizes(summary_of({"a": 3}, n_unreadable=3))
    assert texts(ax) == ["no readable images"]
    assert "3 unreadable" in ax.get_title(loc="left")


# --- curves


def test_curves_panels_share_epochs_and_mark_the_best():
    top = draw_curves(history_of([3, 2, 1], [0.5, 0.8, 0.7]))
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


def test_curves_without_validation_say_so(tmp_path):
    top = draw_curves(history_of([3, 2], [np.nan, np.nan]))
    loss, accuracy, *_ = top.figure.axes[0].child_axes
    assert texts(accuracy) == ["no validation images"]
    assert len(loss.lines) == 1, "no best epoch is marked"
    save_figure(top, tmp_path / "curves.png", dpi=40)


def test_curves_need_no_more_than_losses_and_rates(tmp_path):
    top = draw_curves(History([EpochRecord(1, 2.0, 0.5, 1e-3), EpochRecord(2, 1.0, 0.4, 5e-4)]))
    loss, accuracy, distance, rate = top.figure.axes[0].child_axes
    assert list(loss.lines[0].get_ydata()) == [2, 1]
    assert list(rate.lines[0].get_ydata()) == [1e-3, 5e-4]
    assert texts(accuracy) == ["no validation images"]
    assert texts(distance) == ["not measured"]
    save_figure(top, tmp_path / "curves.png", dpi=40)


def test_curves_are_drawn_from_a_history_that_was_saved(tmp_path):
    history_of([3, 2, 1], [0.5, 0.8, 0.7]).save(tmp_path / "history.csv")
    loss, accuracy, *_ = draw_curves(History.load(tmp_path / "history.csv")).figure.axes[0].child_axes
    assert list(loss.lines[0].get_ydata()) == [3, 2, 1]
    assert accuracy.get_legend().get_title().get_text() == "best epoch: 2"


def test_curves_of_no_epoch_say_so():
    assert texts(draw_curves(History())) == ["no epochs"]


# --- confusion and distances


def test_confusion_rows_are_true_and_columns_predicted():
    ax = draw_confusion(lopsided_scores())
    shown = np.asarray(ax.images[0].get_array())
    assert shown.tolist() == [[0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0, 0]]
    assert y_names(ax) == ["ant", "bee", "cat"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["ant", "bee", "cat"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true label (rows)", "predicted label (columns)")
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"
    at = {text.get_position(): text.get_text() for text in ax.texts}
    assert at[(1, 0)] == "0.75", "x = predicted bee, y = true ant"
    assert at[(0, 1)] == ""
    assert ax.get_title(loc="left") == "accuracy 0.500, n = 8"


def test_confusion_counts():
    scores = lopsided_scores()
    ax = draw_confusion(scores, shares=False)
    assert (np.asarray(ax.images[0].get_array()) == scores.confusion.to_numpy()).all()
    assert "3" in texts(ax)


@pytest.mark.parametrize("n_classes", [2, 40, 121])
def test_confusion_names_do_not_overlap(n_classes):
    names = [f"siphonophore_calycophoran_rocketship_young_{i}" for i in range(n_classes)]
    ax = draw_confusion(score_names(names, names, n_bootstrap=0))
    assert len(y_names(ax)) == n_classes
    assert overlaps(ax, ax.get_yticklabels()) == 0
    assert overlaps(ax, ax.get_xticklabels()) == 0
    assert ax.get_yticklabels()[0].get_fontsize() >= 6
    assert len(ax.texts) == (n_classes**2 if n_classes <= 20 else 0)


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


# --- class scores


def test_class_scores_are_sorted_by_f1():
    scores = lopsided_scores()
    ax = draw_class_scores(scores)
    assert y_names(ax) == ["bee (4)", "ant (4)", "cat (0)"]
    marks = {
        mark.get_label(): mark.get_offsets()[:, 0].tolist() for mark in ax.collections if mark.get_label()[0] != "_"
    }
    assert marks["precision"] == pytest.approx([3 / 6, 1, 0])
    assert marks["recall"] == pytest.approx([3 / 4, 1 / 4, 0])
    assert marks["F1"] == pytest.approx([0.6, 0.4, 0])
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the highest F1 is on top"


# --- all of them


DRAWINGS = [
    lambda ax: draw_class_sizes(summary_of({"a": 3}), ax),
    lambda ax: draw_image_sizes(summary_of({"a": 2}, [9, 20], [9, 30]), ax),
    lambda ax: draw_curves(history_of([2, 1], [0.5, 0.6]), ax),
    lambda ax: draw_confusion(lopsided_scores(), ax),
    lambda ax: draw_class_scores(lopsided_scores(), ax),
    lambda ax: draw_centroid_distances(pd.DataFrame([[0.0]], ["a"], ["a"]), ax),
]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_given_axes_are_used(draw):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    drawn = draw(left)
    assert drawn is left or drawn in left.child_axes
    assert not right.has_data()


def test_saved_figure_is_an_image_of_the_asked_resolution(tmp_path):
    ax = new_axes(4, 2)
    path = save_figure(ax, tmp_path / "new" / "figure.png", dpi=100)
    with Image.open(path) as image:
        assert abs(image.width - 400) < 30
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]
    assert save_figure(ax, tmp_path / "figure.svg").read_text().lstrip().startswith("<?xml")
    with pytest.raises(SettingError, match="xyz"):
        save_figure(ax, tmp_path / "figure.xyz")


def test_plots_load_no_torch_and_no_pyplot():
    modules = [f"plankton_embed.plots.{p.stem}" for p in Path(plankton_embed.plots.__path__[0]).glob("[a-z]*.py")]
    code = f"import sys, {', '.join(modules)}; print(len({{'torch', 'matplotlib.pyplot'}} & set(sys.modules)))"
    root = Path(plankton_embed.plots.__path__[0]).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert len(modules) >= 9
    assert done.stdout.strip() == "0"
