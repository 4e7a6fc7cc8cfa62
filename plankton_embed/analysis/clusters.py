"""Groups (clusters) of similar images, found without labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from plankton_embed.analysis.class_means import N_CENTRAL, average_classes
from plankton_embed.analysis.tree import Tree
from plankton_embed.analysis.ward import ward_linkage
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import split_by_class
from plankton_embed.notebook import Shown
from plankton_embed.sharded_index import compress_blocks
from plankton_embed.spreadsheet import clean_label, read_spreadsheet, to_text
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import compress_vectors
from plankton_embed.vector_shards import Vectors, VectorShards

MOST_EXACT = 50_000  # images; of more, means of similar images are grouped
MOST_MEANS = 20_000
MIN_SIZE = 10
MIN_SAMPLES = 2  # with more, most images of a fine-grained space are in no group
BLOCK = 2**14  # images at a time
ALONE = 0  # the number of images in no group

logger = logging.getLogger(__name__)

IMAGES_FILE, NAMES_FILE, VECTORS_FILE = "images.csv", "cluster_names.csv", "vectors.parquet"  # of a folder of groups
OLD_NAMES_FILE = "names.csv"  # of earlier releases

ClusterMethod = Literal["hdbscan", "tree"]


@dataclass(frozen=True, eq=False, repr=False)
class Clusters(Shown):
    """Groups of similar images.

    Attributes:
        table: the images, or the shards that have them.
        cluster: (n,) the number of each image's group (1 is the largest group); 0 for images in no group.
        groups: one row per group: `cluster`, `n_images`, `radius` (mean distance to the group's mean; smaller is
            tighter), and with a reference `nearest_class` and `nearest_distance` (between the means).
        central, odd: group -> the rows of `table` nearest to its mean, and those farthest from it, farthest first.
        distance: (n,) distance of each image to the mean of its group; nan if it is in no group.
        n_means: the number of means that were grouped instead of the images (more than 50,000 of them); None if the
            images themselves were.
        share_kept: the share of the images' sum of squares that is between these means; 1 without means.
    """

    table: Vectors
    cluster: NDArray[np.intp]
    groups: pd.DataFrame
    central: dict[int, NDArray[np.intp]]
    odd: dict[int, NDArray[np.intp]]
    distance: NDArray[np.float64]
    n_means: int | None = None
    share_kept: float = 1.0

    def images(self) -> pd.DataFrame:
        """Return one row per image: `object_id`, `path`, `cluster`, and `distance` to the mean of its group."""
        columns = {"object_id": self.table.object_id, "path": self.table.path}
        return pd.DataFrame({**columns, "cluster": self.cluster, "distance": self.distance})

    def _describe(self) -> str:
        found = f"{len(self.groups)} groups of {len(self.table):,} images, {(self.cluster == 0).sum():,} in none"
        if self.n_means is None:
            return found
        return f"{found}, by {self.n_means:,} means of similar images, which keep {self.share_kept:.1%}"

    def _preview(self) -> pd.DataFrame:
        return self.groups


def find_clusters(
    table: Vectors,
    method: ClusterMethod = "tree",
    *,
    min_size: int | None = None,
    n_clusters: int | None = None,
    reference: EmbeddingTable | None = None,
    n_threads: int | None = None,
    progress: bool = True,
) -> Clusters:
    """Find groups of similar images; labels are not used.

    More than 50,000 images are first joined to 20,000 groups of very similar ones by k-means, and the method groups
    their means: Ward's tree is exact for these means, each of which counts as many times as it has images. The result
    has their number (`n_means`). The seed is fixed. Vectors in shards are then read a part at a time.

    Args:
        table: images, labelled or not; also in shards.
        method: `tree` (Ward's tree cut into `n_clusters`, every image in one of them), or `hdbscan` (finds the number
            of groups, and leaves out images between them; Campello et al. 2013, doi
            10.1007/978-3-642-37456-2_14; slow between 20,000 and 50,000 images).
        min_size: hdbscan: minimum size of a group; at least 2, by default 10. Among means, a group also has as many
            means as have that many images on average, at least 2, and means between groups are left out whole.
        n_clusters: tree: number of groups; by default the square root of the number of images. At most the number of
            images, or of means.
        reference: labelled images, to find the nearest class of each group.
        n_threads: by default one per core.
        progress: show a bar.

    Raises:
        InputError: fewer than two images, or more groups than images.
        SettingError: an option that the method does not use, or a value out of range.
        MismatchError: images and reference were made by different models.
    """
    if method not in get_args(ClusterMethod):
        raise SettingError(f"method: expected {' or '.join(get_args(ClusterMethod))}; found {method!r}")
    if n_clusters is not None and method != "tree":
        raise SettingError(f"n_clusters (--groups) is the number of groups of method tree; with {method}, leave it out")
    if min_size is not None and (min_size < 2 or method != "hdbscan"):
        raise SettingError(
            f"min_size: expected at least 2, and with method hdbscan only; found {min_size} with {method}"
        )
    if len(table) < 2:
        raise InputError(f"groups need at least 2 images; found {len(table)}")
    if n_clusters is not None and not 1 <= n_clusters <= len(table):
        raise SettingError(f"n_clusters: expected 1 to {len(table)}, the number of images; found {n_clusters}")
    if reference is not None:
        reference.check_same_model(table, ("the reference", "the images"))
    if isinstance(table, VectorShards) and len(table) <= MOST_EXACT:
        table = table.load()
    points: NDArray[np.floating]
    counts, point_of = None, np.arange(len(table))
    if isinstance(table, VectorShards):
        points, counts, point_of = compress_blocks(table, MOST_MEANS, progress=progress)
    elif len(table) > MOST_EXACT:
        points, counts, point_of = compress_vectors(table.vectors, MOST_MEANS, progress=progress)
    else:
        points = table.vectors
    found = np.zeros(len(points), dtype=np.intp)  # the only group, if all images are copies
    if method == "tree":
        n_groups = n_clusters or min(round(len(table) ** 0.5), len(points))
        if n_groups > len(points):
            raise SettingError(
                f"n_clusters: expected at most {len(points)}, the number of means of similar images that are grouped "
                f"instead of more than {MOST_EXACT} images; found {n_clusters}"
            )
        if len(points) > 1:
            found = Tree(ward_linkage(points, counts, n_threads=n_threads, progress=progress)).cut(n_groups)
    elif len(points) > 1:
        found = _find_dense(points, counts, MIN_SIZE if min_size is None else min_size, n_threads)
    cluster = _number_by_size(found[point_of])
    rows, central, odd = [], {}, {}
    if isinstance(table, EmbeddingTable):
        means, distance = _measure_distances(table.vectors, cluster)
    else:
        means, distance = _measure_in_blocks(table, cluster, points, counts, point_of)  # type: ignore[arg-type]
    for number, members in enumerate(split_by_class(cluster)[1:], 1):
        order = members[np.argsort(distance[members], kind="stable")]
        central[number], odd[number] = order[:N_CENTRAL], order[::-1][:N_CENTRAL]
        rows.append((number, len(members), distance[members].mean()))
    groups = pd.DataFrame(rows, columns=["cluster", "n_images", "radius"])
    if reference is not None and len(groups):
        classes = average_classes(reference)
        between = cdist(means, classes.vectors)
        groups["nearest_class"] = classes.object_id[between.argmin(axis=1)]
        groups["nearest_distance"] = between.min(axis=1)
    if counts is None:
        return Clusters(table, cluster, groups, central, odd, distance)
    kept = _share_kept(table, points, counts, point_of)
    return Clusters(table, cluster, groups, central, odd, distance, len(points), kept)


def _measure_distances(
    vectors: NDArray[np.float32], cluster: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each group (g, d), and the distance of each vector to that of its own (n,)."""
    means, distance = [], np.full(len(vectors), np.nan)
    for members in split_by_class(cluster)[1:]:
        own = vectors[members].astype(np.float64)
        means.append(own.mean(axis=0))
        distance[members] = np.linalg.norm(own - means[-1], axis=1)
    return np.array(means), distance


def _measure_in_blocks(
    table: VectorShards,
    cluster: NDArray[np.intp],
    points: NDArray[np.float64],
    counts: NDArray[np.intp],
    point_of: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the same as `_measure_distances`; a group consists of whole points, each the mean of some vectors."""
    of_point = np.empty(len(points), dtype=np.intp)
    of_point[point_of] = cluster
    sums = np.zeros((cluster.max() + 1, table.dimension))
    np.add.at(sums, of_point, points * counts[:, None])
    means = sums / np.maximum(np.bincount(of_point, counts, len(sums)), 1)[:, None]
    distance, start = np.empty(len(table)), 0
    for block in table.vector_blocks(BLOCK):
        own = slice(start, start := start + len(block))
        distance[own] = np.linalg.norm(block - means[cluster[own]], axis=1)
    distance[cluster == ALONE] = np.nan
    return means[1:], distance


def _share_kept(
    table: Vectors, means: NDArray[np.floating], counts: NDArray[np.intp], mean_of: NDArray[np.intp]
) -> float:
    """Return the share of the sum of squares of the vectors that is between their means."""
    between = float(counts @ ((means - counts @ means / len(table)) ** 2).sum(axis=1))
    within, start = 0.0, 0
    for block in table.vector_blocks(BLOCK):
        within += float(((block - means[mean_of[start : start + len(block)]]) ** 2).sum())
        start += len(block)
    return between / (between + within) if within else 1.0


def load_named(folder: str | Path) -> EmbeddingTable | None:
    """Return the labelled images of a folder of groups with names (see `apply_names`); None for other folders."""
    images, names, vectors = (Path(folder) / name for name in (IMAGES_FILE, NAMES_FILE, VECTORS_FILE))
    old = names.with_name(OLD_NAMES_FILE)
    is_old = old.is_file() and not names.is_file()
    names = old if is_old else names
    if not (images.is_file() and names.is_file() and vectors.is_file()):
        return None
    if is_old:
        logger.warning(
            "%s: this file is now called %s; the old name is read until the release after next", old, NAMES_FILE
        )
    filled = read_spreadsheet(names, "names file", ("cluster", "name"))
    return apply_names(EmbeddingTable.load(vectors), read_spreadsheet(images, "images file"), filled)


def apply_names(table: EmbeddingTable, images: pd.DataFrame, names: pd.DataFrame) -> EmbeddingTable:
    """Label images by the names that a person has given to their groups.

    Args:
        table: the images.
        images: `object_id` and `cluster` of each, as `Clusters.images` returns; and `n_images`, the size of its group,
            if only some images of each group are listed.
        names: `cluster` and `name`; groups without a name stay unlabelled. Optionally `pulled_out`: the ids of images
            of the group that do not get its name, as a JSON list.

    Returns:
        The images whose group has a name, with that label, except those pulled out.

    Raises:
        InputError: a column or an image is missing, a group is in two rows, no group has a name, or an image that is
            pulled out is not in its group.
    """
    for frame, what, needed in ((images, "images", ("object_id", "cluster")), (names, "names", ("cluster", "name"))):
        missing = [column for column in needed if column not in frame]
        if missing:
            raise InputError(f"{what}: expected the columns {', '.join(needed)}; found {list(frame.columns)}")
    given = names.assign(name=pd.Series(to_text(names["name"], clean_label), names.index, dtype="str"))
    given = given[given["name"].notna()]
    if given.empty:
        raise InputError("names: expected a name for at least one cluster; found none; fill in the column name")
    number = pd.to_numeric(given["cluster"], errors="coerce")
    clusters = pd.to_numeric(images["cluster"], errors="coerce")
    if clusters.isna().any():
        found = images["cluster"][clusters.isna()].iloc[0]
        raise InputError(f"images: expected the number of a cluster in each row; found {found!r}")
    present = set(clusters.astype(int))
    unexpected = given["cluster"][~number.isin(present)]
    if len(unexpected):
        found = "an empty cell" if pd.isna(unexpected.iloc[0]) else unexpected.iloc[0]
        raise InputError(f"names, column cluster: expected 1 to {max(present)}; found {found}")
    doubled = number[number.duplicated()]
    if len(doubled):
        raise InputError(f"names: cluster {doubled.iloc[0]:.0f} is in several rows; give it one name")
    by_cluster = dict(zip(number.astype(int), given["name"], strict=True))
    _check_sizes(given.assign(cluster=number), images.assign(cluster=clusters))
    cluster = dict(zip(to_text(images["object_id"]), clusters.astype(int), strict=True))
    missing = sorted(map(str, set(cluster) - set(table.object_id)))
    if missing:
        raise InputError(
            f"{len(missing)} of the grouped images are not among the vectors, such as {missing[0]}; give the "
            "vectors that were grouped"
        )
    for object_id in _read_pulled_out(given.assign(cluster=number), cluster):
        cluster[object_id] = ALONE
    labels = np.array([by_cluster.get(cluster.get(object_id, ALONE)) for object_id in table.object_id], dtype=object)
    labelled = replace(table, label=labels)
    return labelled.select(labelled.is_labelled)


def _check_sizes(names: pd.DataFrame, images: pd.DataFrame) -> None:
    """Make sure that names were given to these groups, and not to those of another grouping, by the sizes if stated."""
    if "n_images" not in names:
        return
    size = images["cluster"].astype(int).value_counts()
    if "n_images" in images:
        size = pd.to_numeric(images["n_images"], errors="coerce").groupby(images["cluster"].astype(int)).first()
    for number, stated in zip(
        names["cluster"].astype(int), pd.to_numeric(names["n_images"], errors="coerce"), strict=True
    ):
        if stated == stated and stated != size[number]:
            raise InputError(
                f"names: expected cluster {number} with {size[number]:.0f} images, as in the images file; found "
                f"{stated:.0f}; these names were given to the groups of another call of clusters"
            )


def _read_pulled_out(names: pd.DataFrame, cluster: Mapping[str | None, int]) -> list[str]:
    """Return the ids in the column `pulled_out`, if there is one; `cluster`: the group of each image."""
    found: list[str] = []
    texts = to_text(names["pulled_out"]) if "pulled_out" in names else []
    for number, text in zip(names["cluster"].astype(int), texts, strict=False):
        where = f"names, column pulled_out, cluster {number}"
        try:
            ids = json.loads(text or "[]")
        except ValueError as error:
            raise InputError(f"{where}: expected ids as a JSON list; found {text!r}") from error
        if not isinstance(ids, list) or not all(isinstance(object_id, str) for object_id in ids):
            raise InputError(f"{where}: expected ids as a JSON list of texts; found {text!r}")
        others = [object_id for object_id in ids if cluster.get(object_id) != number]
        if others:
            raise InputError(f"{where}: {len(others)} ids are not of images in this cluster, such as {others[0]}")
        found += ids
    return found


def _find_dense(
    points: NDArray[np.floating], counts: NDArray[np.intp] | None, min_size: int, n_threads: int | None
) -> NDArray[np.intp]:
    from sklearn.cluster import HDBSCAN  # slow to import

    least = min_size if counts is None else max(2, round(min_size * len(points) / counts.sum()))
    if len(points) < least:
        return np.full(len(points), -1)
    dense = HDBSCAN(min_cluster_size=least, min_samples=MIN_SAMPLES, n_jobs=n_threads or -1, copy=True)
    found = np.asarray(dense.fit_predict(points))
    if counts is not None:
        n_images = np.bincount(found + 1, counts)[found + 1]
        found[n_images < min_size] = -1
    return found


def _number_by_size(found: NDArray[np.integer]) -> NDArray[np.intp]:
    """Number groups by size, the largest 1; images in none (-1) get 0."""
    sizes = np.bincount(found[found >= 0], minlength=1)
    number = np.empty(len(sizes), dtype=np.intp)
    number[np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    return np.where(found >= 0, number[np.maximum(found, 0)], ALONE)
