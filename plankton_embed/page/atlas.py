"""Images as a table for Embedding Atlas: coordinates, nearest images, labels, guesses and pictures."""

from __future__ import annotations

import io
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.analysis.projection import fit_projection
from plankton_embed.errors import InputError
from plankton_embed.output import progress_bar, refuse_overwrite, write_atomically
from plankton_embed.page.images import PageImages
from plankton_embed.page.map import read_coordinates
from plankton_embed.page.thumbnails import open_picture
from plankton_embed.vector_index import VectorIndex

N_NEIGHBORS = 15
SIDE = 64  # px of a picture
PER_GROUP = 5000  # images that are written at a time

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AtlasCounts:
    """The numbers of images in a table for Embedding Atlas: written, with a picture, and left out."""

    n_rows: int
    n_pictures: int
    n_without_coordinates: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def write_atlas(
    path: str | Path,
    images: PageImages,
    *,
    coordinates: str | Path | None = None,
    n_neighbors: int = N_NEIGHBORS,
    side: int = SIDE,
    pictures: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> AtlasCounts:
    """Write the Parquet file that Embedding Atlas opens (Ren et al. 2025, arXiv 2505.06386).

    Its columns are `object_id`, `label`, `guess` (the class with the nearest mean, without the image itself), `split`
    and `sample_id` where there are any, `x` and `y`, `neighbors` ({ids, distances}: numbers of rows, and Euclidean
    distances, nearest first) and `image` ({bytes, path}: a PNG). An image whose file cannot be read has no picture.

    Args:
        path: file to write, `.parquet`.
        images: the images (see `gather_images`).
        coordinates: the `coordinates.csv` that `pca --projection umap` (or `tsne`) wrote; images that are not in it are
            left out. By default the first two principal components.
        n_neighbors: nearest other images of each.
        side: the longest side of a picture, px.
        pictures: write the pictures.
        overwrite: replace the output.
        progress: show a bar.

    Raises:
        OutputError: the output exists.
        InputError: the coordinates contain no map of these images, or there are too few images.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = refuse_overwrite(path, overwrite, (".parquet",))
    points = _find_points(images, coordinates)
    rows = np.flatnonzero(np.isfinite(points).all(axis=1))
    table = images.table.select(rows)
    names = np.array([*images.classes, None], dtype=object)  # an index of -1 is the last one
    columns = {
        "object_id": pa.array(table.object_id, pa.string()),
        "label": pa.array(table.label, pa.string()),
        "guess": pa.array(names[images.guess[rows]], pa.string()),
        **({"split": pa.array(images.split[rows], pa.string())} if any(images.split) else {}),
        **({"sample_id": pa.array(table.sample_id, pa.string())} if any(table.sample_id) else {}),
        "x": pa.array(points[rows, 0], pa.float64()),
        "y": pa.array(points[rows, 1], pa.float64()),
        "neighbors": _list_neighbors(VectorIndex.build(table, "auto"), min(n_neighbors, len(table) - 1)),
    }
    whole = pa.table(columns)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = whole.schema.append(pa.field("image", kind)) if pictures else whole.schema
    n_pictures = 0
    with write_atomically(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in progress_bar(range(0, len(table), PER_GROUP), "pictures", "group", shown=progress and pictures):
            part = whole.slice(start, PER_GROUP)
            if pictures:
                files = table.path[start : start + PER_GROUP]
                drawn = [_draw(file, side) for file in files]
                n_pictures += sum(picture is not None for picture in drawn)
                values = [
                    None if picture is None else {"bytes": picture, "path": f"{object_id}.png"}
                    for picture, object_id in zip(drawn, table.object_id[start : start + PER_GROUP], strict=True)
                ]
                part = part.append_column("image", pa.array(values, kind))
            writer.write_table(part)
    if pictures and n_pictures < len(table):
        logger.warning("%d of %d images cannot be read, and have no picture", len(table) - n_pictures, len(table))
    return AtlasCounts(len(table), n_pictures, len(images) - len(table))


def _find_points(images: PageImages, coordinates: str | Path | None) -> NDArray[np.float64]:
    """Return the position of every image (n, 2), nan where it has none."""
    if coordinates is None:
        n_components = min(2, images.table.dimension)
        points = fit_projection(images.table, n_components=n_components).coordinates
        return np.column_stack([points, np.zeros(len(points))])[:, :2]  # one axis: a line of points
    maps = read_coordinates(coordinates, images)
    if not maps:
        raise InputError(
            f"coordinates {coordinates}: expected the columns umap1 and umap2, or tsne1 and tsne2, and images of these "
            "vectors; found neither; write them with pca --projection umap"
        )
    points = next(iter(maps.values()))
    n_missing = int((~np.isfinite(points).all(axis=1)).sum())
    if n_missing > len(points) - 2:
        raise InputError(f"coordinates {coordinates}: expected at least 2 of the {len(points)} images; found fewer")
    if n_missing:
        logger.warning("%d of %d images have no coordinates and are left out", n_missing, len(points))
    return points


def _list_neighbors(index: VectorIndex, n_neighbors: int) -> Any:
    """Return the nearest other images of each as {ids: list of int64, distances: list of float64}."""
    import pyarrow as pa

    found = index.search_others(n_neighbors)
    offsets = pa.array(np.arange(0, found.rows.size + 1, n_neighbors), pa.int32())
    ids = pa.ListArray.from_arrays(offsets, pa.array(found.rows.ravel(), pa.int64()))
    distances = pa.ListArray.from_arrays(offsets, pa.array(found.distances.ravel().astype(np.float64)))
    return pa.StructArray.from_arrays([ids, distances], ["ids", "distances"])


def _draw(path: str | None, side: int) -> bytes | None:
    """Return the picture of an image as PNG; None if it cannot be read."""
    image = open_picture(path)
    if image is None:
        return None
    image.thumbnail((side, side), Image.Resampling.BOX)
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()
