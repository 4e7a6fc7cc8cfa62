"""The figure of a shift shows every sample's effects beside those of draws, and the share rejected."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plankton_embed.analysis.shift import VERDICTS, Shift
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.shift import MARKS, MOST_SAMPLES, draw_shift


def make_shift(n, verdicts=VERDICTS, unknown_rate=0.05):
    """Return n samples after the row of all images."""
    step = np.linspace(0.5, 0, n + 1)
    samples = pd.DataFrame({
        "sample_id": [None, *(f"$net_{row}$ of a cruise with a name that goes on and on and on" for row in range(n))],
        "n_images": 100 + np.arange(n + 1),
        "verdict": np.resize(verdicts, n + 1),
        "vectors_effect": step,
        "vectors_draws": 0.1,
        "appearance_effect": 2 * step - 0.3,
        "appearance_draws": 0.2,
        "refused": step / 2,
    })  # fmt: skip
    untested = samples["verdict"] == "too few images"
    effects = ["vectors_effect", "vectors_draws", "appearance_effect", "appearance_draws"]
    samples.loc[untested, effects] = np.nan
    return Shift(samples, pd.DataFrame(), {}, unknown_rate)


def points(panel):
    return np.concatenate([marks.get_offsets() for marks in panel.collections])


def test_every_sample_has_its_row(tmp_path):
    shift = make_shift(7)
    left = draw_shift(shift)
    table, whole = shift.samples, left.figure.axes[0]
    panels = whole.child_axes
    for panel, column in zip(panels, ("vectors_effect", "appearance_effect", "refused"), strict=True):
        shown = points(panel)
        in_order = shown[np.argsort(shown[:, 1]), 0]
        np.testing.assert_allclose(in_order, table[column])
    assert [bar.get_width() for bar in left.patches][:3] == pytest.approx([0.1, 0.1, 0.1])
    assert [bar.get_width() for bar in panels[1].patches][:3] == pytest.approx([0.4, 0.4, 0.4])  # either way
    names = [tick.get_text() for tick in left.get_yticklabels()]
    assert names[0] == "all images (100)"
    assert names[1].startswith("$net_0$ of") and names[1].endswith("(101)")
    assert left.get_ylim()[0] > left.get_ylim()[1]
    counts = table["verdict"].iloc[1:].value_counts()
    legend = [text.get_text() for text in whole.get_legend().get_texts()]
    assert legend[:-1] == [f"{MARKS[name][2]}: {counts[name]}" for name in VERDICTS]
    save_figure(left, tmp_path / "shift.png", dpi=40)


def test_of_many_samples_the_most_unlike_are_shown():
    left = draw_shift(make_shift(500))
    assert len(left.get_yticklabels()) == 1 + MOST_SAMPLES
    whole = left.figure.axes[0]
    assert "500 samples against the calibration images; the 60 most different" in whole.get_title(loc="left")
    legend = [text.get_text() for text in whole.get_legend().get_texts()]
    assert sum(int(text.split(": ")[1]) for text in legend[:-1]) == 500


def test_without_samples_all_images_stand_alone(tmp_path):
    left = draw_shift(make_shift(0, ["class mix"]))
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["all images (100)"]
    assert left.figure.axes[0].get_title(loc="left") == "100 images against the calibration images"
    few = draw_shift(make_shift(0, ["too few images"]))
    assert len(points(few.figure.axes[0].child_axes[2])) == 1  # the share rejected is known
    save_figure(few, tmp_path / "shift.png", dpi=40)


def test_the_effects_lie_within_the_panels():
    left = draw_shift(make_shift(4, ["alike"], 0.2))
    for panel in left.figure.axes[0].child_axes:
        low, high = panel.get_xlim()
        assert (points(panel)[:, 0] >= low).all() and (points(panel)[:, 0] <= high).all()


def test_given_axes_are_used():
    left, right = Figure().subplots(1, 2)
    assert draw_shift(make_shift(3), left) in left.child_axes
    assert not right.has_data()


@pytest.mark.parametrize("unknown_rate", [None, 0.05])
def test_the_rate_of_rejected_known_images_is_drawn_where_it_is_known(unknown_rate):
    *_, right = draw_shift(make_shift(2, unknown_rate=unknown_rate)).figure.axes[0].child_axes
    assert [line.get_xdata()[0] for line in right.lines] == ([] if unknown_rate is None else [0.05])
    assert ("dashed" in right.get_xlabel()) == (unknown_rate is not None)
