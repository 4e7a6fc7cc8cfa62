"""Figure: how far apart the class centroids are."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from plankton_embed.errors import InputError
from plankton_embed.plots.figure import title_axes
from plankton_embed.plots.heat_map import draw_heat_map, new_heat_map_axes


def draw_centroid_distances(distances: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the Euclidean distances between class centroids; near pairs are dark.

    Args:
        distances: square, by class name on both sides.
        ax: where to draw; by default a new figure, larger for more classes.

    Returns:
        The axes.

    Raises:
        InputError: the table is empty, or its rows and columns have different classes.
    """
    if distances.empty or list(distances.index) != list(distances.columns):
        raise InputError(
            f"centroid distances: expected a square table with the same classes on both sides; found "
            f"{distances.shape[0]} rows and {distances.shape[1]} columns"
        )
    ax = ax or new_heat_map_axes(distances)
    top = float(distances.to_numpy().max()) or 1.0
    title_axes(ax, "Distances between class centroids")
    draw_heat_map(
        distances,
        ax,
        colour_map="cividis",
        norm=Normalize(0, top),
        write=_distance_text,
        colour_label="Euclidean distance",
    )
    return ax


def _distance_text(value: float) -> str:
    return f"{value:.2f}" if value else ""
