"""Figure: loss, accuracy, macro F1, precision and recall of a comparison net over its epochs."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plankton_embed.plots.figure import BLUE, TEXT_SIZE, VERMILION, draw_message, mark_epoch, new_axes, title_axes

PANELS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
}
PARTS = (("", "training images", BLUE, "o"), ("val_", "validation images", VERMILION, "s"))
GAP = 0.035  # between panels, of the height


def draw_net_curves(history: pd.DataFrame, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw five figures over one epoch axis, on training and validation images; mark the epoch kept.

    Args:
        history: `history_` of a comparison net.
        ax: axes that the five panels replace; by default a new figure.
        title: name of the net, written before the number of epochs.

    Returns:
        The axes of the top panel, the loss.
    """
    ax = ax or new_axes(7, 10)
    ax.set_axis_off()
    height = (1 - GAP * (len(PANELS) - 1)) / len(PANELS)
    top = ax.inset_axes((0.0, 1 - height, 1.0, height))
    lows = [1 - height - row * (height + GAP) for row in range(1, len(PANELS))]
    panels = [top, *(ax.inset_axes((0.0, max(low, 0.0), 1.0, height), sharex=top) for low in lows)]
    epochs = f"{len(history)} epoch{'s' * (len(history) != 1)}"
    title_axes(top, f"{title}, {epochs}" if title else epochs)
    if not len(history):
        draw_message(top, "no epochs")
        for panel in panels[1:]:
            panel.set_axis_off()
        return top
    kept = history.loc[history["kept"], "epoch"].tolist() if "kept" in history else []
    for panel, (column, name) in zip(panels, PANELS.items(), strict=True):
        if panel is not top:
            title_axes(panel, "")
        panel.set_xlabel("epoch" if panel is panels[-1] else "", fontsize=TEXT_SIZE)
        panel.set_ylabel(name, fontsize=TEXT_SIZE)
        for prefix, part, colour, marker in PARTS:
            if prefix + column in history:
                values = history[prefix + column]
                panel.plot(history["epoch"], values, color=colour, marker=marker, markersize=4, label=part)
        for epoch in kept:
            mark_epoch(panel, epoch, f"epoch kept: {epoch}")
        panel.grid(color="0.92")
        panel.tick_params(labelbottom=panel is panels[-1])
        panel.set_ylim(0, None if column == "loss" else 1.03)
    top.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    top.legend(fontsize=TEXT_SIZE, loc="best", framealpha=0.85)
    return top
