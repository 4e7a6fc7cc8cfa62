"""Figure: are predictions right as often as their probability?"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plankton_embed.classifiers.calibration import Reliability
from plankton_embed.plots.figure import BLUE, GREY, PALE, TEXT_SIZE, VERMILION, new_axes, title_axes


def draw_reliability(before: Reliability, after: Reliability, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of predictions of each probability, without and with the temperature, and their number.

    Args:
        before: without temperature.
        after: with temperature.
        ax: axes that the two panels replace; by default a new figure.

    Returns:
        The axes of the upper panel.
    """
    ax = ax or new_axes(6, 7)
    ax.set_axis_off()
    share = ax.inset_axes((0.0, 0.3, 1.0, 0.7))
    images = ax.inset_axes((0.0, 0.0, 1.0, 0.22), sharex=share)
    n_images = int(after.bins["n_images"].sum())
    title_axes(share, f"calibration error {before.ece:.3f} → {after.ece:.3f}, n = {n_images:,}", y_label="accuracy")
    title_axes(images, "", "probability of the predicted class", "images")
    share.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    for reliability, name, colour, marker in (
        (before, "without temperature", BLUE, "s"),
        (after, "with temperature", VERMILION, "o"),
    ):
        bins = reliability.bins[reliability.bins["n_images"] > 0]
        label = f"{name}: ECE {reliability.ece:.3f}"
        share.plot(
            bins["probability"], bins["accuracy"], color=colour, marker=marker, markersize=5, label=label, clip_on=False
        )
    bins = after.bins
    images.bar(bins["low"], bins["n_images"], bins["high"] - bins["low"], align="edge", color=PALE, edgecolor=GREY)
    images.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    share.set_xlim(0, 1)
    share.set_ylim(0, 1)
    share.tick_params(labelbottom=False)
    share.grid(color="0.92")
    share.legend(fontsize=TEXT_SIZE, loc="best", framealpha=0.85)
    return share
