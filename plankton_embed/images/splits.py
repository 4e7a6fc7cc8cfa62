"""Train, val and test: stratified by class, grouped so that nothing is torn apart, checked for leaks by content."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import SPLITS, ImageCatalog


def split_catalog(
    catalog: ImageCatalog,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    *,
    seed: int = 0,
    group_by: str | None = None,
    hashes: Sequence[str | None] | None = None,
) -> ImageCatalog:
    """Give every image a split, each class divided by `fractions`, each group kept on one side.

    Args:
        catalog: the images; a `split` column there is replaced. Unlabelled images are divided like one more class.
        fractions: share of train, val and test.
        seed: same seed, same split.
        group_by: a column (such as `sample_id`) whose equal values stay together; an empty value is its own group.
        hashes: content hashes, one a row; identical images then stay together. Objects that share an image file
            always do.

    Raises:
        InputError: `group_by` is no column of the catalog.
    """
    if group_by is not None and group_by not in catalog.frame:
        raise InputError(f"group_by: the catalog has no column {group_by}; it has {list(catalog.frame.columns)}")
    keys = [catalog.frame["path"].to_numpy(dtype=object)]
    if group_by is not None:
        keys.append(catalog.frame[group_by].to_numpy(dtype=object))
    if hashes is not None:
        keys.append(np.asarray(hashes, dtype=object))
    group = _join_groups(keys)
    label = catalog.frame["label"].fillna("").to_numpy(dtype=str)
    _, class_index = np.unique(label, return_inverse=True)
    split = _assign(group, class_index, np.asarray(fractions, dtype=float), np.random.default_rng(seed))
    return ImageCatalog(catalog.frame.assign(split=np.array(SPLITS)[split]))


def check_leaks(
    catalog: ImageCatalog, hashes: Sequence[str | None], *, drop_duplicates: bool = False
) -> tuple[ImageCatalog, NDArray[np.bool_]]:
    """Make sure that no image lies, byte for byte, on two sides of the split.

    Args:
        catalog: images with splits.
        hashes: content hashes, one a row.
        drop_duplicates: drop such images from the lesser side (train before val before test), so that the test
            images stay what they were.

    Returns:
        The catalog, and the mask of the rows it kept.

    Raises:
        InputError: images lie on two sides and `drop_duplicates` is false; the files are named.
    """
    rank = catalog.frame["split"].map({name: rank for rank, name in enumerate(SPLITS)}).to_numpy(dtype=int)
    known = [h if h is not None else f"row {row}" for row, h in enumerate(hashes)]
    _, code = np.unique(np.asarray(known), return_inverse=True)
    highest = np.zeros(code.max() + 1, dtype=int)
    np.maximum.at(highest, code, rank)
    keep = rank == highest[code]
    if keep.all():
        return catalog, keep
    if drop_duplicates:
        return catalog.select(keep), keep
    leaks = np.flatnonzero(~keep)
    names = []
    for row in leaks[:5]:
        twin = np.flatnonzero((code == code[row]) & keep)[0]
        names.append(f"  {catalog.paths[row]} ({SPLITS[rank[row]]}) = {catalog.paths[twin]} ({SPLITS[rank[twin]]})")
    more = f"\n  … and {len(leaks) - 5} more" if len(leaks) > 5 else ""
    raise InputError(
        f"{len(leaks)} images lie on two sides of the split, byte for byte:\n" + "\n".join(names) + more + "\n"
        "Scores would flatter; mend the catalog, or drop such images from the lesser side with --drop-duplicates "
        "(split.drop_duplicates=true)."
    )


def _join_groups(keys: Sequence[NDArray[np.object_]]) -> NDArray[np.intp]:
    """Number the groups of rows that share a value in any of the keys; a missing value joins nothing."""
    n = len(keys[0])
    links = [np.zeros((2, 0), dtype=np.intp)]
    for key in keys:
        first: dict[object, int] = {}
        pairs = [(first.setdefault(v, row), row) for row, v in enumerate(key) if v is not None and v == v]
        links.append(np.array(pairs, dtype=np.intp).reshape(-1, 2).T)
    source, target = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def _assign(
    group: NDArray[np.intp], class_index: NDArray[np.intp], fractions: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Place real groups first, largest first, where their classes are missed most; then fill up with single images."""
    wanted = _wanted_counts(np.bincount(class_index), fractions)
    split = np.full(len(group), -1, dtype=np.intp)
    size = np.bincount(group)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(size)[:-1])
    shuffled = rng.permutation(np.flatnonzero(size > 1))
    for number in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        counts = np.bincount(class_index[members[number]], minlength=len(wanted))
        present = counts > 0
        # the share of its room that the group would fill, summed over its classes; no room at all ranks last
        room = np.where(fractions > 0, wanted[present] + 1e-9, -np.inf)
        side = int(np.argmax((counts[present, None] * np.minimum(room, counts[present, None])).sum(axis=0)))
        split[members[number]] = side
        wanted -= np.outer(counts, np.eye(3, dtype=int)[side])
    for c in range(len(wanted)):
        rows = rng.permutation(np.flatnonzero((class_index == c) & (split < 0)))
        room = _fit_room(wanted[c], len(rows))
        split[rows] = np.repeat(np.arange(3), room)
    return split


def _wanted_counts(counts: NDArray[np.intp], fractions: NDArray[np.float64]) -> NDArray[np.intp]:
    """Images of each class wanted on each side: largest remainders, and train never goes without."""
    exact = counts[:, None] * fractions
    wanted = np.floor(exact + 1e-9).astype(np.intp)
    for c, left in enumerate(counts - wanted.sum(axis=1)):
        wanted[c, np.argsort(-(exact - wanted)[c], kind="stable")[:left]] += 1
        if wanted[c, 0] == 0:
            wanted[c, np.argmax(wanted[c])] -= 1
            wanted[c, 0] = 1
    return wanted


def _fit_room(wanted: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Make the wanted counts sum to n after groups took more or less than their part."""
    room = np.maximum(wanted, 0)
    while (excess := int(room.sum()) - n) > 0:
        room[np.argmax(room)] -= min(excess, max(1, int(room.max() - np.partition(room, -2)[-2])))
    return room
