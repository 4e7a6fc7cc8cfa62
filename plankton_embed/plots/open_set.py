"""Figure: the open-set curve, images accepted of seen against unseen classes over all thresholds."""

from __future__ import annotations

from matplotlib.axes import Axes

from plankton_embed.classifiers.open_set import OpenSetScores
from plankton_embed.plots.figure import BLUE, GREY, TEXT_SIZE, VERMILION, new_axes, title_axes


def draw_open_set(scores: OpenSetScores, ax: Axes | None = None) -> Axes:
    """Draw the share of seen images accepted (and predicted correctly) against that of unseen images accepted.

    Args:
        scores: of rejecting images of unseen classes.
        ax: where to draw; by default a new figure.

    Returns:
        The axes.
    """
    ax = ax or new_axes(6.5, 6)
    title = f"AUROC {scores.auroc:.3f}; {scores.n_known:,} images of seen classes, {scores.n_unseen:,} of unseen ones"
    title_axes(ax, title, "share of unseen images accepted", "share of seen images")
    curve = scores.curve
    ax.plot(curve["unseen_accepted"], curve["known_accepted"], color=BLUE, label="accepted")
    label = f"accepted and predicted correctly (area {scores.oscr:.3f})"
    ax.plot(curve["unseen_accepted"], curve["known_right"], color=VERMILION, label=label)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="by chance")
    label = f"threshold that rejects 5 % of seen, {100 * scores.refused_at_5:.0f} % of unseen images"
    ax.plot([scores.fpr_at_95], [0.95], marker="o", color="black", linestyle="none", zorder=3, label=label)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.01)
    ax.grid(color="0.92")
    ax.legend(fontsize=TEXT_SIZE, loc="lower right", framealpha=0.85)
    return ax
