"""Splits into train, val and test: stratified by class, with groups kept together, and checked for leaks by pixels.

Also finds copies of one image with two labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import SPLITS, ImageCatalog
from plankton_embed.images.readers.faults import Faults
from plankton_embed.settings import SplitSettings

CONTRADICTS = "contradicts"  # column: the id of an image with equal pixels and another label


def split_catalog(
    catalog: ImageCatalog,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    *,
    seed: int = 0,
    group_by: str | None = None,
    hashes: Sequence[str | None] | None = None,
) -> ImageCatalog:
    """Give every image a split: each class is divided by `fractions`, and each group stays in one split.

    A class without groups is divided exactly (largest remainders), with groups as closely as they allow. Every class
    has a training image.

    Args:
        catalog: the images; its column `split` is replaced. Unlabelled images are divided like one more class.
        fractions: shares of train, val and test.
        seed: same seed, same split.
        group_by: a column (such as `sample_id`) whose equal values stay together; an empty value is a group by itself.
        hashes: content hashes, one per row; images with equal pixels then stay together. Objects that share an image
            file always stay together.

    Raises:
        InputError: `group_by` is not a column of the catalog.
        SettingError: `fractions` are not three numbers that sum to 1, the first above 0.
    """
    if group_by is not None and group_by not in catalog.frame:
        raise InputError(
            f"group_by: the catalog has no column {group_by}; its columns are {list(catalog.frame.columns)}"
        )
    shares = SplitSettings.validate_or_explain({"fractions": tuple(fractions)}).fractions
    keys = [catalog.frame["path"]]
    if group_by is not None:
        keys.append(catalog.frame[group_by])
    if hashes is not None:
        keys.append(pd.Series(hashes, dtype=object))
    class_index, _ = pd.factorize(catalog.frame["label"], sort=True, use_na_sentinel=False)
    split = _assign(_join_groups(keys), class_index, np.array(shares), np.random.default_rng(seed))
    return ImageCatalog(catalog.frame.assign(split=np.array(SPLITS)[split]))


def check_leaks(
    catalog: ImageCatalog, hashes: Sequence[str | None], *, drop_duplicates: bool = False
) -> tuple[ImageCatalog, NDArray[np.bool_]]:
    """Check that no picture is in two splits, by comparing decoded pixels.

    Args:
        catalog: images with splits.
        hashes: content hashes, one per row.
        drop_duplicates: drop such images from the lower split (train before val before test), so that the test images
            stay the same.

    Returns:
        The catalog, and the mask of the rows it kept.

    Raises:
        InputError: images have copies in another split and `drop_duplicates` is false (the files are listed); or an
            image has no split.
    """
    if not catalog.has_splits:
        raise InputError("the catalog has images without a split; divide it first")
    rank = catalog.frame["split"].map({name: rank for rank, name in enumerate(SPLITS)}).to_numpy(dtype=int)
    code, _ = pd.factorize(np.array([row if h is None else h for row, h in enumerate(hashes)], dtype=object))
    highest = np.zeros(len(catalog), dtype=int)
    np.maximum.at(highest, code, rank)
    keep = rank == highest[code]
    if keep.all():
        return catalog, keep
    if drop_duplicates:
        return catalog.select(keep), keep
    leaks, path = np.flatnonzero(~keep), catalog.frame["path"]
    names = []
    for row in leaks[:5]:
        twin = np.flatnonzero((code == code[row]) & keep)[0]
        names.append("  " + " = ".join(f"{path.iloc[i]} ({SPLITS[rank[i]]})" for i in (row, twin)))
    more = f"\n  … and {len(leaks) - 5} more" if len(leaks) > 5 else ""
    raise InputError(
        f"{len(leaks)} images have copies in another split (equal pixels, in whatever format or file):\n"
        + "\n".join(names)
        + more
        + "\nScores would be too high; correct the column split, or drop such images (from train rather than val, from "
        "val rather than test) with --drop-duplicates (split.drop_duplicates=true)."
    )


def note_copies(
    catalog: ImageCatalog, hashes: Sequence[str | None], keep: NDArray[np.bool_], faults: Faults, *, kept: bool
) -> None:
    """Report the images that have a copy in another split.

    Args:
        catalog: images with splits.
        hashes: content hashes, one per row.
        keep: (n,) the rows that `check_leaks` keeps.
        faults: collects them.
        kept: whether the other rows stay in the catalog.
    """
    paths, split = catalog.paths, catalog.frame["split"]
    first = {hashes[row]: row for row in np.flatnonzero(keep)[::-1].tolist()}
    for row in np.flatnonzero(~keep).tolist():
        other = first[hashes[row]]
        found = f"{split.iloc[row]} here, {split.iloc[other]} in {paths[other]}, whose pixels are equal"
        faults.add(paths[row], "one split for one picture", found, column="split", kept=kept)


def mark_contradictions(catalog: ImageCatalog, hashes: Sequence[str | None]) -> ImageCatalog:
    """Return the catalog with a column `contradicts`: the id of an image with equal pixels and another label.

    The column is empty for all other images; a catalog without such images has no column of that name.

    Args:
        catalog: the images.
        hashes: content hashes, one per row.
    """
    frame = catalog.frame.drop(columns=CONTRADICTS, errors="ignore")
    rows = pd.DataFrame({"hash": np.array([*hashes], dtype=object), "label": frame["label"].astype(object)})
    rows = rows[rows.notna().all(axis=1)]
    n_labels = rows.groupby("hash")["label"].transform("nunique")
    other = np.full(len(frame), None, dtype=object)
    for _, same in rows[n_labels > 1].groupby("hash", sort=False):
        for row, label in zip(same.index.to_numpy(), same["label"], strict=True):
            other[row] = frame["object_id"].iloc[same.index[(same["label"] != label).argmax()]]
    if (n_labels > 1).any():
        frame = frame.assign(**{CONTRADICTS: pd.Series(other, dtype="str")})
    return ImageCatalog(frame)


def is_learnable(catalog: ImageCatalog) -> NDArray[np.bool_]:
    """Return (n,) whether an image can be used: contradictory images of train and val are not, those of test are."""
    if CONTRADICTS not in catalog.frame:
        return np.ones(len(catalog), dtype=bool)
    doubtful = catalog.frame[CONTRADICTS].notna() & (catalog.frame["split"] != "test")
    return ~doubtful.to_numpy(dtype=bool)


def note_contradictions(catalog: ImageCatalog, faults: Faults, left_out: NDArray[np.bool_] | None = None) -> None:
    """Report the images that `mark_contradictions` has marked, with both labels and both files.

    Args:
        catalog: the images.
        faults: collects them.
        left_out: (n,) which images are lost; by default none.
    """
    if CONTRADICTS not in catalog.frame:
        return
    frame = catalog.frame
    other_row = pd.Index(frame["object_id"]).get_indexer(pd.Index(frame[CONTRADICTS].fillna("")))
    paths, labels = catalog.paths, catalog.labels
    for row in np.flatnonzero(frame[CONTRADICTS].notna()):
        other = other_row[row]  # -1 where it was dropped
        copy = f"{labels[other]!r} in {paths[other]}" if other >= 0 else f"another in {frame[CONTRADICTS].iloc[row]}"
        faults.add(
            paths[row],
            "one label for one picture",
            f"{labels[row]!r} here, {copy}, whose pixels are equal",
            column="label",
            kept=left_out is None or not left_out[row],
            remedy="training and calibration leave such images out (split.keep_contradictions); correct the labels, "
            "which suspects lists first",
        )


def _join_groups(keys: Sequence[pd.Series[Any]]) -> NDArray[np.intp]:
    """Number the groups of rows that share a value in any of the keys; missing values do not count."""
    n_nodes = n = len(keys[0])
    links = []
    for key in keys:  # every value is a node too, linked to its rows
        code, values = pd.factorize(key.reset_index(drop=True))
        rows = np.flatnonzero(code >= 0)
        links.append(np.stack([rows, n_nodes + code[rows]]))
        n_nodes += len(values)
    source, target = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(n_nodes, n_nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.intp)


def _assign(
    group: NDArray[np.intp], class_index: NDArray[np.intp], fractions: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Assign groups, largest first, to the split where their classes lack most; then fill up with single images."""
    n_of_class = np.bincount(class_index)
    room = _apportion(n_of_class, np.broadcast_to(fractions, (len(n_of_class), 3)))

    size = np.bincount(group)
    pair, count = np.unique(group * len(n_of_class) + class_index, return_counts=True)
    of_group, of_class = np.divmod(pair, max(len(n_of_class), 1))
    first = np.searchsorted(of_group, np.arange(len(size) + 1)).tolist()
    share = count / n_of_class[of_class]
    allowed = np.flatnonzero(fractions > 0).tolist()
    side_of = np.full(len(size), -1, dtype=np.intp)
    shuffled = rng.permutation(np.flatnonzero(size > 1))
    for number in shuffled[np.argsort(-size[shuffled], kind="stable")].tolist():
        here = slice(first[number], first[number + 1])
        classes = of_class[here]
        gain = (share[here] @ room[classes]).tolist()  # decrease of the squared distance from the wanted counts
        side = max(allowed, key=gain.__getitem__)
        room[classes, side] -= count[here]
        side_of[number] = side
    split = side_of[group]

    singles = rng.permutation(np.flatnonzero(split < 0))
    singles = singles[np.argsort(class_index[singles], kind="stable")]
    n_singles = np.bincount(class_index[singles], minlength=len(n_of_class))
    sides = np.tile(np.arange(3), len(n_of_class))
    split[singles] = np.repeat(sides, _apportion(n_singles, np.maximum(room, 0)).ravel())

    has_train = np.bincount(class_index[split == 0], minlength=len(n_of_class)) > 0
    for c in np.flatnonzero(~has_train):  # its smallest group moves to train
        rows = np.flatnonzero(class_index == c)
        if (split[rows] > 0).all():
            split[group == group[rows][np.argmin(size[group[rows]])]] = 0
    return split


def _apportion(counts: NDArray[np.intp], weights: NDArray[Any]) -> NDArray[np.intp]:
    """Divide each count by its row of weights (C, 3) into whole numbers: largest remainders, the first side in ties."""
    total = weights.sum(axis=1, keepdims=True)
    exact = counts[:, None] * weights / np.where(total > 0, total, 1)
    whole: NDArray[np.intp] = np.floor(exact + 1e-6).astype(np.intp)
    order = np.argsort(-np.round(exact - whole, 6), axis=1, kind="stable")
    left = counts - whole.sum(axis=1)
    rank = np.argsort(order, axis=1)
    return np.where(rank < left[:, None], whole + 1, whole)
