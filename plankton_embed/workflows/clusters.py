"""`clusters`: group images without labels, for a person to name."""

from __future__ import annotations

from pathlib import Path

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
from plankton_embed.images.writers.names import check_unknown
from plankton_embed.output import write_frame
from plankton_embed.spreadsheet import read_spreadsheet
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Reference, load_vectors
from plankton_embed.workflows.result_folder import check_output, list_ids, save_sheets, write_analysis


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
        vectors: a table, its file, or the folder of a run. If some images have labels and others have none, those
            without are grouped; otherwise all.
        output: folder to write: `clusters.csv` (`central` and `odd` are JSON lists of ids), `images.csv` (the group of
            each image), `cluster_names.csv` (fill in the column `name`, then `enroll` this folder), `vectors.parquet`
            (the images grouped), and pictures of 20 groups each: `clusters.png`, `clusters_2.png`, … `n_means` in
            `summary.json` is the number of means that were grouped (of more than 50,000 images), else null;
            `share_kept` is the share of the images' sum of squares that is between these means.
        reference: labelled vectors; adds the nearest class of each group.
        only: predictions (a CSV of `classify`, or its frame): group only the images predicted as `unknown`.
        method, min_size, n_clusters: see `find_clusters`.
        overwrite: replace the output.
        progress: show a bar.
    """
    check_output(output, overwrite, "clusters")
    table = _select_unlabelled(load_vectors(vectors), only)
    classes = None if reference is None else load_vectors(reference)
    found = find_clusters(table, method, min_size=min_size, n_clusters=n_clusters, reference=classes, progress=progress)

    def write(folder: Path) -> None:
        ends = {name: list_ids(table, rows.values()) for name, rows in (("central", found.central), ("odd", found.odd))}
        write_frame(folder / "clusters.csv", found.groups.assign(**ends))
        write_frame(folder / IMAGES_FILE, found.images())
        write_frame(folder / NAMES_FILE, found.groups.assign(name=""))
        table.save(folder / VECTORS_FILE)
        save_sheets(folder, "clusters", contact_sheets.clusters_sheets(found))

    n_alone = int((found.cluster == 0).sum())
    summary: dict[str, int | float | str | None] = {
        "method": method,
        "n_images": len(table),
        "n_groups": len(found.groups),
        "n_alone": n_alone,
    }
    summary |= {"n_means": found.n_means, "share_kept": found.share_kept}
    write_analysis(output, "clusters", table, summary, write)
    return found


def _select_unlabelled(table: EmbeddingTable, only: str | Path | pd.DataFrame | None) -> EmbeddingTable:
    """Keep the images predicted as unknown, or those without a label; all if all have one."""
    if only is None:
        labelled = table.is_labelled
        return table if labelled.all() else table.select(~labelled)
    predictions = only if isinstance(only, pd.DataFrame) else read_spreadsheet(only, "predictions file")
    if not {"object_id", "label"} <= set(predictions):
        raise InputError(f"only: expected predictions with object_id and label; found {list(predictions.columns)}")
    check_unknown(predictions, "only")
    rejected = set(predictions["object_id"][predictions["label"] == UNKNOWN].astype(str))
    is_rejected = pd.Series(table.object_id).isin(rejected).to_numpy()
    if is_rejected.sum() < len(rejected) or not rejected:
        raise InputError(
            f"only: expected the vectors of all rejected images of the predictions; {len(rejected)} were rejected, "
            f"found {int(is_rejected.sum())}; give the predictions of these vectors, made with an unknown rate"
        )
    return table.select(is_rejected)
