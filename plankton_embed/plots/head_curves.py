"""Figure: loss and accuracy of the MLP head over its epochs."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plankton_embed.plots.figure import BLUE, TEXT_SIZE, VERMILION, mark_epoch, new_axes, title_axes


def draw_head_curves(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the loss on training and calibration images, and the accuracy on calibration images; mark the epochs kept.

    Args:
        history: `history_` of an `MLPClassifier`.
        ax: axes that the two panels replace; by default a new figure.

    Returns:
        The axes of the upper panel, the loss.
    """
    ax = ax or new_axes(7, 6)
    ax.set_axis_off()
    watched = "calibration_loss" in history
    loss = ax.inset_axes((0.0, 0.54, 1.0, 0.46) if watched else (0.0, 0.0, 1.0, 1.0))
    title_axes(loss, f"MLP head, {len(history)} epoch{'s' * (len(history) != 1)}", "" if watched else "epoch", "loss")
    loss.plot(history["epoch"], history["loss"], color=BLUE, marker=".", label="training images")
    panels = [loss]
    if watched:
        accuracy = ax.inset_axes((0.0, 0.0, 1.0, 0.46), sharex=loss)
        title_axes(accuracy, "", "epoch", "accuracy on calibration images")
        loss.plot(
            history["epoch"], history["calibration_loss"], color=VERMILION, marker=".", label="calibration images"
        )
        accuracy.plot(history["epoch"], history["calibration_accuracy"], color=VERMILION, marker=".")
        panels.append(accuracy)
        for panel in panels:
            for epoch in history.loc[history["kept"], "epoch"]:
                mark_epoch(panel, epoch, f"epoch kept: {epoch}")
        loss.tick_params(labelbottom=False)
    for panel in panels:
        panel.grid(color="0.92")
    loss.set_ylim(bottom=0)
    loss.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    loss.legend(fontsize=TEXT_SIZE, loc="best", framealpha=0.85)
    return loss
