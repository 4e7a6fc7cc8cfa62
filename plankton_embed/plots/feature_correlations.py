"""Figure: which features are correlated."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from plankton_embed.images.features import FeatureSummary
from plankton_embed.plots.figure import title_axes
from plankton_embed.plots.heat_map import draw_heat_map, new_heat_map_axes


def draw_feature_correlations(summary: FeatureSummary, ax: Axes | None = None) -> Axes:
    """Draw |r| between all features; a star marks the features that are dropped.

    The cells of constant features, and of pairs with too few values in common, are empty.

    Args:
        summary: of a catalog with features.
        ax: where to draw; by default a new figure, larger for more features.

    Returns:
        The axes.
    """
    dropped = summary.columns["dropped"] != ""
    names = [f"{name} *" if drop else name for name, drop in zip(summary.columns["feature"], dropped, strict=True)]
    table = summary.correlation.set_axis(names).set_axis(names, axis=1)
    ax = ax or new_heat_map_axes(table)
    title_axes(ax, "Correlation of features" + f", * {dropped.sum():,} dropped" * bool(dropped.any()))
    label = "|r|" + ", empty where constant or too few" * bool(table.isna().to_numpy().any())
    draw_heat_map(table, ax, colour_map="Blues", norm=Normalize(0, 1), write=_write, colour_label=label)
    return ax


def _write(value: float) -> str:
    return f"{value:.2f}" if value == value else ""
