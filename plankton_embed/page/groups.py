"""Groups of images without label for the page: a person pulls out the odd ones and names the rest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.analysis.clusters import IMAGES_FILE, NAMES_FILE, Clusters, find_clusters
from plankton_embed.page.analysis_tables import find_rows, leave_out_damaged, read_table
from plankton_embed.page.images import PageImages
from plankton_embed.spreadsheet import clean_label, read_spreadsheet, to_text

logger = logging.getLogger(__name__)

CLUSTERS_FILE = "clusters.csv"
LEAST_IMAGES = 10  # without label: fewer are named one by one


def build_groups(images: PageImages, found: str | Path | Clusters | None = None) -> dict[str, Any] | None:
    """Return groups of images, with the nearest class of each.

    Args:
        images: of the page.
        found: the folder that `clusters` wrote, such as RUN/analysis/clusters, or its result; by default, and if there
            is no such folder, the images of the page without label are grouped, if there are at least 10.

    Returns:
        `cluster` (numbers of the groups), `n_images` (of each, on the page or not), `nearest` (the name of the nearest
        class, or None), `name` (given in `cluster_names.csv`, or None), `start` (m + 1: where the images of each group
        begin), `rows` (images of the page, those without label if there are some, group after group, those nearest to
        the group's mean first), `folder` (whether the groups are those of a folder, which takes `cluster_names.csv`).
        None if there are no groups, or if the folder is damaged or of other images.
    """
    if isinstance(found, Clusters):
        return leave_out_damaged(lambda: _describe_clusters(images, found))
    if found is not None and Path(found).is_dir():
        return leave_out_damaged(lambda: _read(images, Path(found)))
    unlabelled = images.table.select(~images.table.is_labelled)
    if len(unlabelled) < LEAST_IMAGES:
        return None
    reference = images.table.select(images.reference) if images.reference.any() else None
    return _describe_clusters(images, find_clusters(unlabelled, reference=reference, progress=False))


def _describe_clusters(images: PageImages, found: Clusters) -> dict[str, Any] | None:
    return _describe(images, found.images(), found.groups, Path("groups"))


def _read(images: PageImages, folder: Path) -> dict[str, Any] | None:
    members = read_table(folder / IMAGES_FILE, ["object_id"], ["cluster", "distance"])
    groups = read_table(folder / CLUSTERS_FILE, [], ["cluster", "n_images"])
    if (folder / NAMES_FILE).is_file():
        names = read_spreadsheet(folder / NAMES_FILE, "names file", ("cluster", "name"))
        number = pd.to_numeric(names["cluster"], errors="coerce")
        given = dict(zip(number, to_text(names["name"], clean_label), strict=True))
        groups = groups.assign(name=groups["cluster"].map(given))
    return _describe(images, members, groups, folder / IMAGES_FILE)


def _describe(images: PageImages, members: pd.DataFrame, groups: pd.DataFrame, source: Path) -> dict[str, Any] | None:
    """Return the groups as the page shows them; `members`: object_id, cluster, distance of each image."""
    rows = find_rows(images, members["object_id"], source)
    if (rows < 0).any():
        logger.warning("%s: %d of %d images are not on this page", source, int((rows < 0).sum()), len(rows))
    position = pd.Index(groups["cluster"]).get_indexer(pd.Index(members["cluster"]))  # in the order of the groups
    order = np.lexsort((rows, members["distance"].to_numpy(dtype=float), position))
    order = order[(rows[order] >= 0) & (position[order] >= 0)]
    unlabelled = images.label_index[rows[order]] < 0
    if unlabelled.any():  # as in `clusters`: a name for the group must not replace labels given since
        order = order[unlabelled]
    if len(order) == 0:
        return None
    sizes = np.bincount(position[order], minlength=len(groups))
    kept = groups[sizes > 0]
    return {
        "cluster": kept["cluster"].to_numpy(dtype=np.intp),
        "n_images": kept["n_images"].to_numpy(dtype=np.intp),
        "nearest": _list_names(kept, "nearest_class"),
        "name": _list_names(kept, "name"),
        "start": np.concatenate([[0], np.cumsum(sizes[sizes > 0])]),
        "rows": rows[order],
        "folder": source.is_file(),
    }


def _list_names(groups: pd.DataFrame, column: str) -> list[str | None]:
    values = groups[column] if column in groups else [None] * len(groups)
    return [name if isinstance(name, str) and name else None for name in values]
