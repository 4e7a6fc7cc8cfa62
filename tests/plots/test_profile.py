"""The figures over depth and over time."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.profile import draw_profile, draw_time_series


def follow(found, along, places, **more):
    """Return the table of two classes over depth or time."""
    two = found.table[found.table["label"].isin(found.totals.index[:2])]
    place = pd.DataFrame({"sample": found.samples["sample"], along: places})
    return two.merge(place, "left", "sample").assign(**more)


def test_profile_goes_down(tmp_path, make_survey):
    found = make_survey(5, 3)
    table = follow(found, "depth", [5.0, 100, 40, 40, 7])
    for end in ("", "_low", "_high"):
        table[f"concentration{end}"] = table[end.strip("_") or "corrected"] / 2
    found = make_survey(5, 3, profile=table)
    ax = draw_profile(found)
    assert ax.get_ylim()[0] > 100 > 5 > ax.get_ylim()[1]
    whole = ax.figure.axes[0]
    assert len(whole.child_axes) == 2
    first = table[table["label"] == found.totals.index[0]]
    points = np.asarray(ax.collections[1].get_offsets())
    np.testing.assert_allclose(points, first[["concentration", "depth"]])
    line = ax.lines[0].get_xydata()
    assert line[:, 1].tolist() == [5, 7, 40, 100]
    assert line[2, 0] == pytest.approx(first["concentration"].iloc[[2, 3]].mean())
    assert ax.get_xlabel() == "m⁻³"
    save_figure(ax, tmp_path / "profile.png", dpi=40)


def test_profile_of_bins_adds_samples_up(tmp_path, make_survey):
    names = make_survey(2, 3).samples["sample"]
    table = pd.DataFrame({
        "sample": names[[0, 0, 1]].tolist(), "depth": [5.0, 15, 15], "depth_low": [0.0, 10, 10],
        "depth_high": [10.0, 20, 20], "n_images": 9, "label": "$x_y$", "corrected": [3.0, 4, 5],
    })  # fmt: skip
    ax = draw_profile(make_survey(2, 3, profile=table))
    assert ax.lines[0].get_xydata().tolist() == [[3, 5], [9, 15]]
    assert ax.get_ylim() == (20, 0)
    assert "2 samples, bins of 10 m" in ax.figure.axes[0].get_title(loc="left")
    assert ax.get_title(loc="left") == "$x_y$"
    ax = draw_profile(make_survey(2, 3, profile=table.assign(concentration=table["corrected"] / 2)))
    assert ax.lines[0].get_xdata().tolist() == [1.5, 2.25]  # the mean: concentrations do not add up
    save_figure(ax, tmp_path / "profile.png", dpi=40)


@pytest.mark.parametrize("n_samples", [3, 400])
def test_time_goes_to_the_right(n_samples, tmp_path, make_survey):
    found = make_survey(n_samples, 3)
    times = pd.date_range("2020-01-01", periods=n_samples, freq="7h").strftime("%Y-%m-%dT%H:%M:%SZ")
    ax = draw_time_series(make_survey(n_samples, 3, time_series=follow(found, "time", times)))
    first = found.table[found.table["label"] == found.totals.index[0]]
    points = np.asarray(ax.collections[1].get_offsets())
    np.testing.assert_allclose(points[:, 1], first["corrected"])
    assert (np.diff(points[:, 0]) > 0).all()
    assert len(ax.lines[0].get_xdata()) == min(n_samples, 60)
    assert len(ax.figure.axes[0].child_axes) == 2
    save_figure(ax, tmp_path / "time_series.png", dpi=40)


def test_what_is_not_there_is_said(make_survey):
    found = make_survey(2, 3)
    for draw in (draw_profile, draw_time_series):
        left, right = Figure().subplots(1, 2)
        assert len(draw(found, left).texts) == 1
        assert not right.has_data()
