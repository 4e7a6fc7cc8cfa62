"""The reliability diagram."""

import numpy as np

from plankton_embed.classifiers.calibration import measure_reliability
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.reliability import draw_reliability

SURE, RIGHT = np.array([0.95, 0.9, 0.97, 0.4]), np.array([True, False, True, True])


def reliabilities():
    return measure_reliability(np.sqrt(SURE), RIGHT), measure_reliability(SURE, RIGHT)


def test_reliability_shows_every_filled_bin_and_all_images(tmp_path):
    before, after = reliabilities()
    ax = draw_reliability(before, after)
    lines = {line.get_label(): line for line in ax.get_lines()}
    name = next(label for label in lines if label.startswith("with temperature"))
    assert f"{after.ece:.3f}" in name
    filled = after.bins[after.bins["n_images"] > 0]
    np.testing.assert_allclose(lines[name].get_xdata(), filled["probability"])
    np.testing.assert_allclose(lines[name].get_ydata(), filled["accuracy"])
    save_figure(ax, tmp_path / "reliability.png", dpi=40)


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_reliability(*reliabilities(), ax))
