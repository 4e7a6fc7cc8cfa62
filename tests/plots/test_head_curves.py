"""The curves of the MLP head."""

import pandas as pd

from plankton_embed.plots.head_curves import draw_head_curves


def history(watched=True):
    frame = pd.DataFrame({"epoch": [1, 2, 3, 4], "loss": [2.0, 1.0, 0.5, 0.2]})
    more = {
        "calibration_loss": [2.1, 1.2, 1.2, 1.6],
        "calibration_accuracy": [0.3, 0.6, 0.7, 0.6],
        "kept": [False, True, True, False],
    }
    return frame.assign(**more) if watched else frame


def test_head_curves_mark_the_epochs_kept():
    ax = draw_head_curves(history())
    kept = [line.get_label() for line in ax.get_lines() if "kept" in str(line.get_label())]
    assert kept == ["epoch kept: 2", "epoch kept: 3"]
    alone = draw_head_curves(history(watched=False))
    assert len(alone.get_lines()) == 1


def test_given_axes_are_used(check_given_axes):
    check_given_axes(lambda ax: draw_head_curves(history(), ax))
