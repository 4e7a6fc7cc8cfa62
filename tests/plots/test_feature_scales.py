"""The figure of the scales of numeric features."""

from itertools import pairwise

import numpy as np
import pytest

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.features import summarize_features
from plankton_embed.plots.feature_correlations import draw_feature_correlations
from plankton_embed.plots.feature_scales import draw_feature_scales
from plankton_embed.plots.figure import new_axes, save_figure


def heights(panel):
    """Return the number of kept features, and of dropped ones, of every bin."""
    kept, above = (patch.get_data() for patch in panel.patches)
    return kept.values, above.values - kept.values


@pytest.mark.parametrize("n_features", [1, 5, 60])
def test_every_feature_stands_in_each_panel(n_features, tmp_path, summarize_random):
    summary = summarize_random(n_features)
    ax = draw_feature_scales(summary)
    whole = ax.figure.axes[0]
    panels = whole.child_axes
    assert panels[0] is ax
    for panel, n_dropped in zip(panels, (3, 3, 2, 2), strict=True):  # a constant cannot be scaled
        kept, dropped = heights(panel)
        assert kept.sum() == n_features
        assert dropped.sum() == n_dropped
        assert panel.get_xlim() == pytest.approx(panel.patches[0].get_data().edges[[0, -1]])
    for panel, middle in zip(panels[2:], (0, 1), strict=True):
        kept, _ = heights(panel)
        edges = panel.patches[0].get_data().edges
        assert edges[kept.argmax()] < middle < edges[kept.argmax() + 1]
        assert kept.max() == n_features
    assert whole.get_title(loc="left") == f"{n_features + 3} features of 200 images"
    assert [text.get_text() for text in whole.get_legend().get_texts()] == [f"{n_features} kept", "3 dropped"]
    assert save_figure(ax, tmp_path / "scales.png").stat().st_size > 5000


def test_wide_ranges_get_an_axis_of_powers_with_few_ticks(summarize_random):
    panels = draw_feature_scales(summarize_random(60)).figure.axes[0].child_axes
    assert [panel.get_xscale() for panel in panels] == ["symlog", "symlog", "linear", "linear"]
    for panel in panels[:2]:
        low, high = panel.get_xlim()
        ticks = [tick for tick in panel.get_xticks() if low <= tick <= high]
        assert 0 in ticks
        assert 3 <= len(ticks) <= 8
        panel.figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in panel.get_xticklabels() if label.get_text()]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_the_training_part_is_named(summarize_random):
    panels = draw_feature_scales(summarize_random(5, split=["train"] * 150 + ["test"] * 50)).figure.axes[0].child_axes
    labels = [panel.get_xlabel() for panel in panels]
    assert labels[:2] == ["mean of the 150 training images", "sd of the 150 training images"]
    assert labels[2:] == ["mean after z-score, all images", "sd after z-score, all images"]


def test_nothing_but_constants_is_drawn_too(tmp_path):
    rows = {"path": ["a", "b"], "feature_zero": [0, 0], "feature_none": [np.nan, np.nan]}
    summary = summarize_features(ImageCatalog.from_rows(rows))
    panels = draw_feature_scales(summary).figure.axes[0].child_axes
    assert [text.get_text() for text in panels[2].texts] == ["nothing to scale"]
    assert save_figure(draw_feature_correlations(summary), tmp_path / "r.png").is_file()


def test_a_given_place_is_drawn_in(summarize_random):
    own = new_axes(5, 5)
    assert draw_feature_scales(summarize_random(2), own).figure is own.figure
