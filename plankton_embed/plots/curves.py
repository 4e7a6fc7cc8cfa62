"""Figure: loss, accuracy and learning rate over the epochs of a training."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plankton_embed.plots.figure import BLUE, GREEN, GREY, TEXT_SIZE, VERMILION, new_axes, say_instead, title_axes
from plankton_embed.training.history import History

ACCURACIES = (("centroid_accuracy", "nearest centroid", BLUE, "o"), ("knn_accuracy", "kNN", VERMILION, "s"))


def draw_curves(history: History, ax: Axes | None = None) -> Axes:
    """Draw loss, validation accuracy and learning rate as three panels over one epoch axis; mark the best epoch.

    Args:
        history: of a training; its accuracies may be nan.
        ax: whose place the three panels take; by default a new figure.

    Returns:
        The axes of the top panel, the loss.
    """
    ax = ax or new_axes(8, 7)
    ax.set_axis_off()
    loss = ax.inset_axes((0.0, 0.70, 1.0, 0.30))
    accuracy = ax.inset_axes((0.0, 0.35, 1.0, 0.30), sharex=loss)
    rate = ax.inset_axes((0.0, 0.0, 1.0, 0.30), sharex=loss)
    title_axes(loss, f"{len(history)} epoch{'s' * (len(history) != 1)}", y_label="training loss")
    title_axes(accuracy, "", y_label="validation accuracy")
    title_axes(rate, "", "epoch", "learning rate")
    if not len(history):
        say_instead(loss, "no epochs")
        rate.set_yticks([])
        accuracy.set_yticks([])
        return loss
    epochs = history.frame["epoch"]
    loss.plot(epochs, history.frame["loss"], color=GREY, marker=".")
    rate.plot(epochs, history.frame["learning_rate"], color=GREEN, marker=".")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    rate.set_ylim(bottom=0)
    _draw_accuracy(accuracy, history, (loss, rate))
    for panel in (loss, accuracy):
        panel.tick_params(labelbottom=False)
    for panel in (loss, accuracy, rate):
        panel.grid(color="0.92")
        panel.yaxis.get_offset_text().set_fontsize(TEXT_SIZE)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rate.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    return loss


def _draw_accuracy(ax: Axes, history: History, others: tuple[Axes, ...]) -> None:
    """Draw both accuracies, and a line at the best epoch through every panel."""
    if history.frame[[column for column, *_ in ACCURACIES]].isna().all(axis=None):
        ax.text(0.5, 0.5, "no validation images", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_yticks([])
        return
    best = history.best
    for column, name, colour, marker in ACCURACIES:
        label = f"{name}: {getattr(best, column):.3f}"
        ax.plot(history.frame["epoch"], history.frame[column], color=colour, marker=marker, markersize=4, label=label)
    for panel in (ax, *others):
        panel.axvline(best.epoch, color="black", linewidth=1, linestyle="--", zorder=1)
    ax.legend(
        fontsize=TEXT_SIZE, loc="best", framealpha=0.85, title=f"best epoch: {best.epoch}", title_fontsize=TEXT_SIZE
    )
