"""`clusters`: group images without labels, for a person to name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.analysis.clusters import (
    IMAGES_FILE,
    NAMES_FILE,
    VECTORS_FILE,
    ClusterMethod,
    Clusters,
    find_clusters,
)
from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN
from plankton_embed.images.writers.names import check_unknown, read_predictions
from plankton_embed.output import write_frame
from plankton_embed.spreadsheet import to_text
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import Vectors, take_rows
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Reference, load_vectors, open_vectors
from plankton_embed.workflows.result_folder import check_output, list_ids, save_sheets, write_analysis

GROUPS_FILE = "groups.parquet"


def clusters(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    reference: Reference | None = None,
    only: str | Path | pd.DataFrame | None = None,
    method: ClusterMethod = "tree",
    min_size: int | None = None,
    n_clusters: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Clusters:
    """Group unlabelled images; a person then names the groups.

    Args:
        vectors: a table, its file, a folder of Parquet files, or the folder of a run. If some images have labels and
            others have none, those without are grouped; otherwise all.
        output: folder to write: `clusters.csv` (`central` and `odd` are JSON lists of ids), `images.csv` (the group of
            each image), `cluster_names.csv` (fill in the column `name`, then `enroll` this folder), `vectors.parquet`
            (the images grouped), and pictures of 20 groups each: `clusters.png`, `clusters_2.png`, … `n_means` in
            `summary.json` is the number of means that were grouped (of more than 50,000 images), else null;
            `share_kept` is the share of the images' sum of squares that is between these means. Of more than 50,000
            images in Parquet files, `images.csv` and `vectors.parquet` have the central and odd images of each group
            (and the size of their group, `n_images`), and `groups.parquet` has the group of every image.
        reference: labelled vectors; adds the nearest class of each group.
        only: predictions (the CSV or the folder of `classify`, or its frame): group only the images predicted as
            `unknown`.
        method, min_size, n_clusters: see `find_clusters`.
        overwrite: replace the output.
        progress: show a bar.
    """
    check_output(output, overwrite, "clusters")
    table = _select_unlabelled(open_vectors(vectors), only)
    classes = None if reference is None else load_vectors(reference)
    found = find_clusters(table, method, min_size=min_size, n_clusters=n_clusters, reference=classes, progress=progress)
    shown, images = _select_shown(found)
    listed = shown.images()
    if shown is not found:
        listed = listed.merge(found.groups[["cluster", "n_images"]])

    def write(folder: Path) -> None:
        ends = {"central": list_ids(images, shown.central.values()), "odd": list_ids(images, shown.odd.values())}
        write_frame(folder / "clusters.csv", found.groups.assign(**ends))
        write_frame(folder / IMAGES_FILE, listed)
        write_frame(folder / NAMES_FILE, found.groups.assign(name=""))
        images.save(folder / VECTORS_FILE)
        if shown is not found:
            _save_groups(found, folder / GROUPS_FILE)
        save_sheets(folder, "clusters", contact_sheets.clusters_sheets(shown, len(found.table)))

    n_alone = int((found.cluster == 0).sum())
    summary: dict[str, int | float | str | None] = {
        "method": method,
        "n_images": len(found.table),
        "n_groups": len(found.groups),
        "n_alone": n_alone,
    }
    summary |= {"n_means": found.n_means, "share_kept": found.share_kept}
    write_analysis(output, "clusters", images, summary, write)
    return found


def _select_shown(found: Clusters) -> tuple[Clusters, EmbeddingTable]:
    """Return the groups with the images that are written and shown, and these: of shards the central and odd images."""
    if isinstance(found.table, EmbeddingTable):
        return found, found.table
    rows = np.unique(np.concatenate([*found.central.values(), *found.odd.values(), np.empty(0, dtype=np.intp)]))
    central, odd = (
        {number: np.searchsorted(rows, own) for number, own in ends.items()} for ends in (found.central, found.odd)
    )
    table, cluster, distance = take_rows(found.table, rows), found.cluster[rows], found.distance[rows]
    return replace(found, table=table, cluster=cluster, distance=distance, central=central, odd=odd), table


def _save_groups(found: Clusters, path: Path) -> None:
    """Write the group of every image, and its distance to the mean of the group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"object_id": found.table.object_id, "cluster": found.cluster, "distance": found.distance}
    pq.write_table(pa.table(columns), path)


def _select_unlabelled(table: Vectors, only: str | Path | pd.DataFrame | None) -> Vectors:
    """Keep the images predicted as unknown, or those without a label; all if all have one."""
    if only is None:
        labelled = table.is_labelled
        return table if labelled.all() else table.select(~labelled)
    rejected = set[str]()
    for predictions in [only] if isinstance(only, pd.DataFrame) else read_predictions(only):
        if not {"object_id", "label"} <= set(predictions):
            raise InputError(f"only: expected predictions with object_id and label; found {list(predictions.columns)}")
        check_unknown(predictions, "only")
        rejected.update(filter(None, to_text(predictions["object_id"][predictions["label"] == UNKNOWN])))
    is_rejected = pd.Series(table.object_id).isin(rejected).to_numpy()
    if is_rejected.sum() < len(rejected) or not rejected:
        raise InputError(
            f"only: expected the vectors of all rejected images of the predictions; {len(rejected)} were rejected, "
            f"found {int(is_rejected.sum())}; give the predictions of these vectors, made with an unknown rate"
        )
    return table.select(is_rejected)
