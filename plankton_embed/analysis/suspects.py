"""Rank labels that may be wrong; find near-copies with different labels or in different splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.misfiled import SAME, build_index, find_misfiled_groups
from plankton_embed.errors import InputError, SettingError, needs_extra
from plankton_embed.notebook import Shown
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import Neighbors, VectorIndex

N_NEIGHBORS = 10
NEAR_COSINE = 0.999  # above which images of two splits are reported as near-copies
MOST_EXACT = 200_000  # vectors; among more, near-copies are searched in the nearest cells only
COPY_SHARE = 0.01  # of all images: those nearest to their nearest neighbour count as near-copies of it


@dataclass(frozen=True, eq=False, repr=False)
class Suspects(Shown):
    """Labelled images, the most suspect label first.

    Attributes:
        table: the labelled images.
        ranking: one row per image, images of groups first: `row` (of `table`), `object_id`, `path`, `label`, `guess`
            (the most likely other label), `score` (0 to 1, the mean of the signals' ranks: .9 is more suspect than nine
            tenths of the images), and the signals, higher is more suspect: `neighbors` (share of the nearest other
            images with another label), `distance` (to the own class's mean, over the sum of that and the distance to
            the nearest other mean), `loss` with probabilities (-log of the label's probability) and `cleanlab` with
            `use_cleanlab` (1 - its label quality). `group` is the group in `groups`, 0 for none.
        groups: similar images of one label that are far from the rest of their class and near images of another class
            (see `find_misfiled_groups`): `group`, `label`, `guess`, `n_images`, `n_of_class`, `evidence`.
        copies: near-copies with different labels, nearest first: `row_1`, `row_2` (of `table`, and then of the other
            vectors), their `object_id_…`, `label_…` and `path_…`, `distance`.
        contradictions: images with a copy that has another label: `object_id`, `path`, `label`, `guess` (the label of
            the copy) and `copy` (its `object_id`).
        why_no_groups: why groups were not searched; None if they were.
        recall: the share of the 10 nearest neighbours that were found, measured on a sample (of more than 50,000
            vectors; see `VectorIndex.tune`); None if the search was exact.
    """

    table: EmbeddingTable
    ranking: pd.DataFrame
    groups: pd.DataFrame
    copies: pd.DataFrame
    contradictions: pd.DataFrame
    why_no_groups: str | None
    recall: float | None = None

    def first(self, n: int = 240) -> pd.DataFrame:
        """Return n images to check, contradictions first, then the ranking: `object_id` to `score`, and `reason`."""
        copies = self.contradictions
        others = self.ranking[~self.ranking["object_id"].isin(copies["object_id"])].head(max(n - len(copies), 0))
        reason = [f"labelled {row.label}, copy of {row.copy}" for row in copies.itertuples()]
        n_images = dict(zip(self.groups["group"], self.groups["n_images"], strict=True))
        for row in others.to_dict("records"):
            group = row["group"]
            why = f"group {group} of {n_images[group]}" if group else f"score {row['score']:.2f}"
            reason.append(f"{why}, labelled {row['label']}")
        columns = ["object_id", "path", "label", "guess", "score"]
        first = pd.concat([copies, others], ignore_index=True).reindex(columns=columns)
        return first.assign(reason=reason).head(n)

    def corrections(self, n: int = 240) -> pd.DataFrame:
        """Return the first n suspects as corrections to fill in: the action is `keep`, `label` is the guess."""
        first = self.first(n)
        return pd.DataFrame(
            {
                "object_id": first["object_id"],
                "action": "keep",
                "label": first["guess"],
                "reason": first["reason"],
                "path": first["path"],
            }
        )

    def _describe(self) -> str:
        counts = f"{len(self.groups)} groups, {len(self.copies)} near-copies with two labels"
        return f"{len(self.ranking):,} images, {counts}"

    def _preview(self) -> pd.DataFrame:
        return self.ranking[["path", "object_id", "label", "guess", "score"]]


def find_suspects(
    table: EmbeddingTable,
    probabilities: ArrayLike | None = None,
    *,
    n_neighbors: int = N_NEIGHBORS,
    use_cleanlab: bool = False,
    copy_distance: float | None = None,
    others: EmbeddingTable | None = None,
    marked: pd.DataFrame | None = None,
    seed: int = 0,
) -> Suspects:
    """Rank labelled images by how suspect their label is; no signal of an image uses the image itself as reference.

    Args:
        table: labelled images; images without label are left out.
        probabilities: (n, C) of every class, in the order of `table.classes`, from a classifier that was not trained on
            the image itself (out of fold), for all rows of `table`.
        n_neighbors: k; at most one less than the number of labelled images.
        use_cleanlab: add cleanlab's label quality (extra `clean`; needs the probabilities).
        copy_distance: images nearer than this are near-copies; by default the 1 % quantile of the distances to the
            nearest neighbour.
        others: vectors of other splits; their labelled images are searched for copies of the table's images too.
        marked: contradictions found before (columns as `Suspects.contradictions`); others are found by equal vectors.
        seed: of the draw from large classes, in which groups are searched.

    Raises:
        InputError: fewer than two classes, fewer than three labelled images, or probabilities of another shape.
        SettingError: cleanlab without probabilities.
        DependencyError: cleanlab is not installed.
    """
    labelled, images = table.is_labelled, table.labelled
    classes = np.array(images.classes)
    if len(classes) < 2 or len(images) < 3:
        raise InputError(
            f"suspects need at least 3 labelled images of 2 classes; found {len(images)} of {len(classes)}"
        )
    if n_neighbors < 1:
        raise SettingError(f"n_neighbors: expected at least 1; found {n_neighbors}")
    if use_cleanlab and probabilities is None:
        raise SettingError("cleanlab needs the probabilities of a classifier; give the head 2 folds or more (--folds)")
    codes = np.searchsorted(classes, images.label.astype(str))
    signals: dict[str, NDArray[np.float64]] = {}
    votes, found, recall = _count_neighbors(images, codes, len(classes), min(n_neighbors, len(images) - 1))
    recalls = [recall]
    every = np.arange(len(images))
    signals["neighbors"] = 1 - votes[every, codes] / votes.sum(axis=1)
    signals["distance"], toward = _compare_means(images, codes)
    support = votes / votes.sum(axis=1, keepdims=True) + 1e-3 * (np.arange(len(classes)) == toward[:, None])
    if probabilities is not None:
        of_classes = np.asarray(probabilities, dtype=np.float64)
        if of_classes.shape != (len(table), len(classes)):
            raise InputError(
                f"probabilities: expected {(len(table), len(classes))}, one row an image and one column a class; "
                f"found {of_classes.shape}"
            )
        of_classes = of_classes[labelled]
        signals["loss"] = -np.log(np.maximum(of_classes[every, codes], np.finfo(float).tiny))
        if use_cleanlab:
            signals["cleanlab"] = _score_by_cleanlab(codes, of_classes)
        support = support + of_classes
    support[every, codes] = -1  # the guess is another label
    groups, group, why_no_groups, recall = find_misfiled_groups(images, codes, seed)
    recalls.append(recall)
    guess = support.argmax(axis=1)
    guess[group > 0] = groups["guess"].to_numpy()[group[group > 0] - 1]
    ranking = pd.DataFrame(
        {
            "row": np.flatnonzero(labelled),
            "object_id": images.object_id,
            "path": images.path,
            "label": images.label,
            "guess": classes[guess],
            "score": np.mean([(rankdata(signal) - 0.5) / len(images) for signal in signals.values()], axis=0),
            **signals,
            "group": group,
        }
    )
    ranking = ranking.sort_values("score", ascending=False, kind="stable")
    in_groups = ranking["group"].where(ranking["group"] > 0, len(groups) + 1)
    ranking = ranking.loc[in_groups.sort_values(kind="stable").index].reset_index(drop=True)
    limit = float(np.quantile(found.distances[:, 0], COPY_SHARE)) if copy_distance is None else copy_distance
    rows = np.flatnonzero(labelled)
    if others is not None and others.is_labelled.any():
        rows = np.concatenate([rows, len(table) + np.flatnonzero(others.is_labelled)])
        images = images.join(others.labelled)
        codes = np.unique(images.label.astype(str), return_inverse=True)[1]
        _, found, recall = _count_neighbors(images, codes, int(codes.max()) + 1, min(n_neighbors, len(images) - 1))
        recalls.append(recall)
    copies = _find_copies(images, rows, codes, found, limit)
    groups = groups.assign(label=classes[groups["code"].astype(int)], guess=classes[groups["guess"].astype(int)])
    groups = groups[["group", "label", "guess", "n_images", "n_of_class", "evidence"]]
    recall = min((share for share in recalls if share is not None), default=None)
    return Suspects(table, ranking, groups, copies, _list_contradictions(copies, marked), why_no_groups, recall)


def _list_contradictions(copies: pd.DataFrame, marked: pd.DataFrame | None) -> pd.DataFrame:
    """Return both images of every pair of copies with two labels, once each, after the marked ones."""
    same = copies[copies["distance"] <= SAME]
    sides = []
    for mine, other in (("1", "2"), ("2", "1")):
        columns = {f"{name}_{mine}": name for name in ("object_id", "path", "label")}
        columns |= {f"label_{other}": "guess", f"object_id_{other}": "copy"}
        sides.append(same[[*columns]].rename(columns=columns))
    both = pd.concat(sides).sort_index(kind="stable")  # pair after pair
    before = both.iloc[:0] if marked is None else marked
    return pd.concat([before, both], ignore_index=True).drop_duplicates("object_id", ignore_index=True)


def find_near_copies(splits: Mapping[str, EmbeddingTable]) -> pd.DataFrame:
    """Find the images of one split whose nearest image in the splits before it is a near-copy (cosine above .999).

    Args:
        splits: vectors by the name of their split; each split is compared with all before it.

    Returns:
        One row per near-copy, nearest first: `object_id`, `split`, `label` and `path`, the same four of the other image
        (`copy_…`), and `cosine`.
    """
    names = ("object_id", "split", "label", "path")
    found = [pd.DataFrame(columns=[*names, *(f"copy_{name}" for name in names), "cosine"])]
    before, before_split = None, np.zeros(0, dtype=object)
    for split, table in splits.items():
        length = np.linalg.norm(table.vectors, axis=1, keepdims=True)
        unit = replace(table, vectors=(table.vectors / np.where(length > 0, length, 1)).astype(np.float32))
        if before is not None and len(unit):
            index = VectorIndex.build(before, "flat" if len(before) <= MOST_EXACT else "ivf_flat")
            nearest = index.search(unit.vectors, 1)
            cosine = 1 - nearest.distances[:, 0].astype(float) ** 2 / 2
            mine = np.flatnonzero((cosine > NEAR_COSINE) & (length[:, 0] > 0))
            other = nearest.rows[mine, 0]
            columns: dict[str, object] = {"object_id": unit.object_id[mine], "split": split}
            columns |= {name: getattr(unit, name)[mine] for name in ("label", "path")}
            columns |= {"copy_object_id": before.object_id[other], "copy_split": before_split[other]}
            columns |= {f"copy_{name}": getattr(before, name)[other] for name in ("label", "path")}
            found.append(pd.DataFrame({**columns, "cosine": cosine[mine]}))
        before = unit if before is None else before.join(unit)
        before_split = np.concatenate([before_split, np.full(len(unit), split, dtype=object)])
    whole = pd.concat([part for part in found if len(part)] or found, ignore_index=True)
    return whole.sort_values("cosine", ascending=False, kind="stable", ignore_index=True)


def _count_neighbors(
    images: EmbeddingTable, codes: NDArray[np.intp], n_classes: int, k: int
) -> tuple[NDArray[np.float64], Neighbors, float | None]:
    """Return votes (n, C) of the k nearest others, these others, and their recall (see `build_index`)."""
    index, recall = build_index(images)
    found = index.search_others(k)
    cells = np.arange(len(images))[:, None] * n_classes + codes[found.rows]
    votes = np.bincount(cells.ravel(), minlength=len(images) * n_classes).reshape(len(images), n_classes)
    return votes.astype(np.float64), found, recall


def _compare_means(images: EmbeddingTable, codes: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return how much nearer the nearest other class's mean is than the own one (0 to 1), and which class that is."""
    distance = cdist(images.vectors, average_classes(images).vectors)
    every, counts = np.arange(len(images)), np.bincount(codes)[codes]
    own = distance[every, codes] * counts / np.maximum(counts - 1, 1)  # from the mean of the others of the class
    distance[every, codes] = np.inf
    other = distance.min(axis=1)
    suspicion = own / np.maximum(own + other, np.finfo(float).tiny)
    return np.where(counts > 1, suspicion, 1.0), distance.argmin(axis=1)  # a single image has no mean of others


def _score_by_cleanlab(codes: NDArray[np.intp], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    with needs_extra("cleanlab", "clean"):
        from cleanlab.rank import get_label_quality_scores
    return 1 - np.asarray(get_label_quality_scores(codes, probabilities, method="normalized_margin"))


def _find_copies(
    images: EmbeddingTable,
    rows: NDArray[np.intp],
    codes: NDArray[np.intp],
    found: Neighbors,
    limit: float,
) -> pd.DataFrame:
    """Return images with their nearest neighbour of another label, if it is within the limit, each pair once."""
    differs = codes[found.rows] != codes[:, None]
    every, rank = np.arange(len(images)), differs.argmax(axis=1)
    first = np.flatnonzero(differs.any(axis=1) & (found.distances[every, rank] <= limit))
    pairs = np.unique(np.sort(np.column_stack([first, found.rows[first, rank[first]]]), axis=1), axis=0).reshape(-1, 2)
    one, two = pairs.T
    distance = np.linalg.norm(images.vectors[one] - images.vectors[two], axis=1)
    columns: dict[str, object] = {}
    for number, side in (("1", one), ("2", two)):
        columns |= {f"row_{number}": rows[side]}
        columns |= {f"{name}_{number}": getattr(images, name)[side] for name in ("object_id", "label", "path")}
    return pd.DataFrame({**columns, "distance": distance}).sort_values("distance", kind="stable", ignore_index=True)
