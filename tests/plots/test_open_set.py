"""The figure of images rejected as unknown."""

from plankton_embed.classifiers.open_set import score_open_set
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.open_set import draw_open_set


def open_set():
    return score_open_set(["a", "a", "b", "x", "x"], ["a", "b", "b", "a", "b"], [0.1, 0.2, 0.6, 0.5, 0.9],
                          [False, False, False, True, True], [True, False, False, True, True])  # fmt: skip


def test_open_set_shows_curve_and_working_point(tmp_path):
    scores = open_set()
    ax = draw_open_set(scores)
    assert "AUROC 0.833" in ax.get_title(loc="left")
    points = {str(line.get_label()): line.get_xydata().tolist() for line in ax.get_lines()}
    assert points["threshold that rejects 5 % of seen, 50 % of unseen images"] == [[0.5, 0.95]]
    save_figure(ax, tmp_path / "open_set.png", dpi=40)


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_open_set(open_set(), ax))
