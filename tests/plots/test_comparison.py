"""The figure of a comparison: a row a classifier, a mark a seed, the best on top."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from plankton_embed.baselines.systems import SYSTEMS
from plankton_embed.plots.comparison import draw_comparison
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.text import ELLIPSIS
from plankton_embed.workflows.compare import MEASURED, Comparison

LONGEST = "embedding_pretrained_and_features"


def make_runs(scores, start="scratch"):
    """Return a row for every macro F1 of a name; accuracies are higher by .05, speeds rise from row to row."""
    rows = [
        {"name": name, "origin": "A", "start": start, "seed": seed, "f1_macro": f1, "accuracy": min(f1 + 0.05, 1)}
        for name, several in scores.items()
        for seed, f1 in enumerate(several)
    ]
    return pd.DataFrame(rows).assign(images_per_second=100.0 * 2 ** np.arange(len(rows)))


def y_names(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def panels_of(ax):
    return ax.figure.axes[0].child_axes


def test_rows_are_in_the_order_of_macro_f1_and_have_a_mark_a_seed():
    runs = make_runs({"low": [0.2, 0.4], "high": [0.6], "middle": [0.1, 0.5, 0.9]})
    scores, speeds = panels_of(draw_comparison(runs))
    assert y_names(scores) == ["high (A, scratch)", "middle (A, scratch)", "low (A, scratch)"]
    assert scores.get_ylim()[0] > scores.get_ylim()[1]  # the first on top
    place = runs["name"].map({"high": 0, "middle": 1, "low": 2})
    for marks, column in zip(scores.collections, ("accuracy", "f1_macro"), strict=True):
        np.testing.assert_allclose(marks.get_offsets(), np.column_stack([runs[column], place]))
    (marks,) = speeds.collections
    np.testing.assert_allclose(marks.get_offsets(), np.column_stack([runs["images_per_second"], place]))
    assert speeds.get_xscale() == "log"
    assert scores.get_title(loc="left") == "3 classifiers, seeds of each: 1 to 3"
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["accuracy", "macro F1"]


def test_equals_stand_in_the_order_of_the_table():
    runs = make_runs({f"net_{number}": [0.5] for number in np.random.default_rng(0).permutation(30)})
    whole = runs.assign(system=runs["name"], worst_class="x", **dict.fromkeys(set(MEASURED) - set(runs), 1.0))
    table = Comparison(whole, {}, pd.DataFrame()).summary["name"]
    assert y_names(draw_comparison(whole)) == [f"{name} (A, scratch)" for name in table]
    assert table.tolist() == runs["name"].tolist()  # as they came


def test_one_classifier_and_scores_of_one(tmp_path):
    scores = draw_comparison(make_runs({"only": [1.0]}, start="resnet18: /a/run"))
    assert scores.get_title(loc="left") == "1 classifier, seeds of each: 1"
    assert y_names(scores) == ["only (A, pretrained)"]
    assert scores.get_xlim() == (0, 1) and not any(marks.get_clip_on() for marks in scores.collections)
    assert save_figure(scores, tmp_path / "one.png").stat().st_size > 5000


def test_many_names_fit_and_only_endless_ones_are_shortened(tmp_path):
    names = [*SYSTEMS, LONGEST, "x" * 200]
    scores = draw_comparison(make_runs({name: [0.5 - 0.01 * row] * 3 for row, name in enumerate(names)}, "vgg19: f"))
    shown = y_names(scores)
    assert [ELLIPSIS in name for name in shown] == [False] * (len(names) - 1) + [True]
    scores.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in scores.get_yticklabels()]
    assert not any(above.overlaps(below) for above, below in pairwise(boxes))
    left, right = panels_of(scores)
    ends = [panel.xaxis.label.get_window_extent() for panel in (left, right)]
    assert not ends[0].overlaps(ends[1])
    with Image.open(save_figure(scores, tmp_path / "many.png", dpi=50)) as picture:
        assert picture.height > 0.5 * picture.width


def test_given_axes_are_used():
    left, right = Figure().subplots(1, 2)
    assert draw_comparison(make_runs({"a": [0.1]}), left) in left.child_axes
    assert not right.has_data()


@pytest.mark.parametrize("start", ["imagenet", "/home/me/scratch/model"])
def test_a_start_is_told_in_a_word(start):
    scores = draw_comparison(make_runs({"a": [0.1]}, f"resnet18: {start}"))
    assert y_names(scores) == ["a (A, pretrained)"]
