"""Figure: loss, accuracy, distances and learning rate over the epochs of a training."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plankton_embed.plots.figure import (
    BLUE,
    GREEN,
    GREY,
    TEXT_SIZE,
    VERMILION,
    draw_message,
    mark_epoch,
    new_axes,
    title_axes,
)
from plankton_embed.training.history import History

ACCURACIES = (("centroid_accuracy", "nearest centroid", BLUE, "o"), ("knn_accuracy", "kNN", VERMILION, "s"))
DISTANCES = (("between_distance", "between classes", BLUE, "o"), ("within_distance", "within a class", VERMILION, "s"))
Lines = tuple[tuple[str, str, str, str], ...]


def draw_history(history: History, ax: Axes | None = None) -> Axes:
    """Draw loss, validation accuracy, distances and learning rate over one epoch axis; mark the best epoch.

    The distances are mean Euclidean distances between training images of different classes and of the same class. When
    the space collapses they become equal, or both become zero.

    Args:
        history: of a training; its accuracies and distances may be nan.
        ax: axes that the four panels replace; by default a new figure.

    Returns:
        The axes of the top panel, the loss.
    """
    ax = ax or new_axes(8, 9)
    ax.set_axis_off()
    loss = ax.inset_axes((0.0, 0.78, 1.0, 0.22))
    accuracy, distance, rate = (ax.inset_axes((0.0, low, 1.0, 0.22), sharex=loss) for low in (0.52, 0.26, 0.0))
    panels = (loss, accuracy, distance, rate)
    title_axes(loss, f"{len(history)} epoch{'s' * (len(history) != 1)}", y_label="training loss")
    title_axes(accuracy, "", y_label="validation accuracy")
    title_axes(distance, "", y_label="mean distance")
    title_axes(rate, "", "epoch", "learning rate")
    if not len(history):
        draw_message(loss, "no epochs")
        for panel in panels[1:]:
            panel.set_yticks([])
        return loss
    epochs = history.frame["epoch"]
    loss.plot(epochs, history.frame["loss"], color=GREY, marker=".")
    rate.plot(epochs, history.frame["learning_rate"], color=GREEN, marker=".")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    rate.set_ylim(bottom=0)
    if _draw_lines(distance, history, DISTANCES, "not measured"):
        distance.set_ylim(bottom=0)
    if _draw_lines(accuracy, history, ACCURACIES, "no validation images", f"best epoch: {history.best.epoch}"):
        for panel in panels:
            mark_epoch(panel, history.best.epoch)
    for panel in panels:
        panel.tick_params(labelbottom=panel is rate)
        panel.grid(color="0.92")
        panel.yaxis.get_offset_text().set_fontsize(TEXT_SIZE)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rate.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    return loss


def _draw_lines(ax: Axes, history: History, lines: Lines, missing: str, title: str = "") -> bool:
    """Draw columns of the history, with their values at the best epoch; return whether there are any values."""
    if history.frame[[column for column, *_ in lines]].isna().all(axis=None):
        ax.text(0.5, 0.5, missing, transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_yticks([])
        return False
    for column, name, colour, marker in lines:
        label = f"{name}: {getattr(history.best, column):.3f}"
        values = history.frame.set_index("epoch")[column].dropna()  # of the epochs that were validated
        ax.plot(values.index, values, color=colour, marker=marker, markersize=4, label=label)
    ax.legend(fontsize=TEXT_SIZE, loc="best", framealpha=0.85, title=title, title_fontsize=TEXT_SIZE)
    return True
