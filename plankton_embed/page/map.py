"""The map: every image as a point on two axes (PCA; UMAP or t-SNE of an earlier command), and its nearest images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.projection import N_COMPONENTS, fit_projection
from plankton_embed.errors import InputError, needs_extra
from plankton_embed.page.images import PageImages
from plankton_embed.spreadsheet import read_spreadsheet
from plankton_embed.vector_index import VectorIndex

N_NEIGHBORS = 10  # nearest images of each image that the page shows
MOST_DISTANCES = 20_000  # images up to which their distances are written too, 40 bytes an image
MOST_NEIGHBORS = 65_536  # images up to which neighbours are written; beyond, the page would be too large
STEPS = 32_767  # a coordinate is written as a whole number of steps from the middle of its axis
MISSING = -STEPS - 1  # the image is not on this axis
SCRIPT = Path(__file__).parent / "js" / "bokeh" / "plot.js"  # in the page only with BokehJS
MAPS = {"umap": "UMAP", "tsne": "t-SNE"}  # columns of coordinates.csv -> how the page calls them


def build_map(
    images: PageImages, *, extra: Mapping[str, NDArray[np.float64]] | None = None, n_neighbors: int = N_NEIGHBORS
) -> dict[str, Any] | None:
    """Return the coordinates of all images on each pair of axes, and their nearest images.

    Principal components are fitted on all images. A coordinate x is `middle + step * value`, of the column's `values`;
    -32768 is missing.

    Args:
        images: the images of the page.
        extra: coordinates on other maps, by name: (n, 2), nan where an image is not on it.
        n_neighbors: nearest other images of each; fewer if there are fewer; none for more than 65,536 images.

    Returns:
        `columns` (name, title, values, middle, step), `axes` (name, x, y: numbers of columns), `n_neighbors`,
        `neighbors` (n * n_neighbors, rows, nearest first; None if there are none), `distances` (as `neighbors`; None
        for more than 20,000 images). None if there is nothing to draw: one image, or vectors that are all equal.

    Raises:
        InputError: other coordinates are not (n, 2).
    """
    columns, axes = _find_components(images)
    for name, given in (extra or {}).items():
        points = np.asarray(given, dtype=np.float64)
        if points.shape != (len(images), 2):
            raise InputError(f"map {name}: expected {(len(images), 2)}, a row an image; found {points.shape}")
        if not np.isfinite(points).all(axis=1).any():
            continue
        axes.append({"name": name, "x": len(columns), "y": len(columns) + 1})
        columns += [_pack(f"{name} {number}", f"{name} {number}", points[:, number - 1]) for number in (1, 2)]
    return {"columns": columns, "axes": axes, **_find_neighbors(images, n_neighbors)} if axes else None


def read_coordinates(path: str | Path, images: PageImages) -> dict[str, NDArray[np.float64]]:
    """Return the coordinates in a `coordinates.csv` that `pca --projection umap` (or `tsne`) wrote.

    Args:
        path: the file.
        images: the images of the page; those that are not in the file have the coordinates nan.

    Returns:
        Name of the map -> (n, 2); empty if the file contains neither map, or none of the images.

    Raises:
        InputError: the file is missing or cannot be read, or a coordinate is not a number.
    """
    frame = read_spreadsheet(path, "coordinates", ("object_id",))
    if frame["object_id"].duplicated().any():
        twice = frame["object_id"][frame["object_id"].duplicated()].iloc[0]
        raise InputError(f"{path}: object_id {twice} is in several rows; each row needs a unique one")
    found = {}
    rows = pd.Index(frame["object_id"]).get_indexer(pd.Index(images.table.object_id))
    for stem, name in MAPS.items():
        names = [f"{stem}1", f"{stem}2"]
        if not set(names) <= set(frame.columns) or (rows < 0).all():
            continue
        try:
            values = frame[names].to_numpy(dtype=np.float64)
        except ValueError as error:
            raise InputError(f"{path}: expected numbers in the columns {' and '.join(names)}; {error}") from error
        found[name] = np.where((rows >= 0)[:, None], values[rows], np.nan)
    return found


def bokeh_scripts() -> list[str]:
    """Return the scripts that the map needs before those of the page: BokehJS, its WebGL, and the plot made with them.

    Raises:
        DependencyError: bokeh is not installed.
    """
    with needs_extra("a page with a map", "report"):
        from bokeh.util.paths import bokehjs_path
    folder = Path(bokehjs_path()) / "js"
    paths = [folder / "bokeh.min.js", folder / "bokeh-gl.min.js", SCRIPT]
    return [path.read_text(encoding="utf-8") for path in paths]


def _find_components(images: PageImages) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the principal components as columns, and the pairs of them that are drawn; none if there are none."""
    table = images.table
    n_components = min(N_COMPONENTS, table.dimension, len(table))
    if len(table) < 2 or not np.ptp(table.vectors, axis=0).any():
        return [], []
    found = fit_projection(table, n_components=n_components)
    shares = np.nan_to_num(found.explained) if found.explained is not None else np.zeros(n_components)
    columns = [
        _pack(f"PC{number}", f"PC{number} ({share:.1%} of the variance)".replace("%", " %"), values)
        for number, (share, values) in enumerate(zip(shares, found.coordinates.T, strict=True), 1)
    ]
    if n_components == 1:  # vectors of one number: a line of points
        columns.append(_pack("", "", np.zeros(len(table))))
        return columns, [{"name": "PC1", "x": 0, "y": 1}]
    pairs = [(0, y) for y in range(1, n_components)]
    return columns, [{"name": f"PC{x + 1} and PC{y + 1}", "x": x, "y": y} for x, y in pairs]


def _pack(name: str, title: str, values: NDArray[np.float64]) -> dict[str, Any]:
    """Return coordinates as whole numbers of two bytes."""
    here = np.isfinite(values)
    low, high = float(values[here].min()), float(values[here].max())
    middle, step = (low + high) / 2, (high - low) / (2 * STEPS) or 1.0
    packed = np.full(len(values), MISSING, dtype=np.int16)
    packed[here] = np.rint((values[here] - middle) / step).clip(-STEPS, STEPS)
    return {"name": name, "title": title, "values": packed, "middle": middle, "step": step}


def _find_neighbors(images: PageImages, n_neighbors: int) -> dict[str, Any]:
    """Return the nearest other images of each image, as `build_map` describes them."""
    n, k = len(images), min(n_neighbors, len(images) - 1)
    if k < 1 or n > MOST_NEIGHBORS:
        return {"n_neighbors": 0, "neighbors": None, "distances": None}
    found = VectorIndex.build(images.table).search_others(k)
    return {
        "n_neighbors": k,
        "neighbors": found.rows.astype(np.int32).ravel(),
        "distances": found.distances.ravel() if n <= MOST_DISTANCES else None,
    }
