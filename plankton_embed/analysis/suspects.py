"""Labels that may be wrong, ranked; and near-copies that bear different ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.errors import DependencyError, InputError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

N_NEIGHBORS = 10
COPY_SHARE = 0.01  # of all images: those nearest to their nearest neighbour count as near-copies of it


@dataclass(frozen=True, eq=False)
class Suspects:
    """Labelled images, the likeliest wrong label first.

    Attributes:
        table: the labelled images.
        ranking: one row an image: `row` (of `table`), `object_id`, `path`, `label`, `guess` (the label it seems to
            deserve), `score` (0 to 1, the mean of the signals' ranks: .9 is stranger than nine tenths of the images),
            and the signals, higher more suspect: `neighbors` (share of the nearest other images with another label),
            `distance` (to the own class's mean, over the sum of that and the distance to the nearest other one),
            `loss` where probabilities are given (-log of that of the label) and `cleanlab` where asked for (1 - its
            label quality).
        copies: near-copies with different labels, nearest first: `row_1`, `row_2`, their `object_id_…`, `label_…` and
            `path_…`, `distance`.
    """

    table: EmbeddingTable
    ranking: pd.DataFrame
    copies: pd.DataFrame

    def corrections(self, n: int = 240) -> pd.DataFrame:
        """Return the first suspects as corrections to fill in: all are to be kept; `label` is the guess."""
        first = self.ranking.head(n)
        reason = [
            f"score {score:.2f}, labelled {label}" for score, label in zip(first["score"], first["label"], strict=True)
        ]
        return pd.DataFrame(
            {
                "object_id": first["object_id"],
                "action": "keep",
                "label": first["guess"],
                "reason": reason,
                "path": first["path"],
            }
        ).reset_index(drop=True)


def find_suspects(
    table: EmbeddingTable,
    probabilities: ArrayLike | None = None,
    *,
    n_neighbors: int = N_NEIGHBORS,
    use_cleanlab: bool = False,
    copy_distance: float | None = None,
) -> Suspects:
    """Rank labelled images by how little their label fits; no image has a say in its own case.

    Args:
        table: labelled images; those without label are left aside.
        probabilities: (n, C) of every class, in the order of `table.classes`, from a classifier that had not learned
            from the image itself (out of fold), for all rows of `table`.
        n_neighbors: k; at most one less than the labelled images.
        use_cleanlab: add cleanlab's label quality (extra `clean`; needs the probabilities).
        copy_distance: images nearer than this are near-copies; by default the distance that a hundredth of the images
            have to their nearest neighbour, or less.

    Raises:
        InputError: fewer than two classes or than three labelled images, or probabilities of another shape.
        SettingError: cleanlab without probabilities.
        DependencyError: cleanlab is not installed.
    """
    labelled = table.is_labelled
    known = table.select(labelled)
    classes = np.array(known.classes)
    if len(classes) < 2 or len(known) < 3:
        raise InputError(f"suspects need at least 3 labelled images of 2 classes; found {len(known)} of {len(classes)}")
    if n_neighbors < 1:
        raise SettingError(f"n_neighbors: expected at least 1; found {n_neighbors}")
    if use_cleanlab and probabilities is None:
        raise SettingError("cleanlab needs the probabilities of a classifier; give the head 2 folds or more (--folds)")
    codes = np.searchsorted(classes, known.label.astype(str))
    signals: dict[str, NDArray[np.float64]] = {}
    votes, nearest, distances = _ask_neighbors(known, codes, len(classes), min(n_neighbors, len(known) - 1))
    every = np.arange(len(known))
    signals["neighbors"] = 1 - votes[every, codes] / votes.sum(axis=1)
    signals["distance"], toward = _compare_means(known, codes)
    support = votes / votes.sum(axis=1, keepdims=True) + 1e-3 * (np.arange(len(classes)) == toward[:, None])
    if probabilities is not None:
        chances = np.asarray(probabilities, dtype=np.float64)
        if chances.shape != (len(table), len(classes)):
            raise InputError(
                f"probabilities: expected {(len(table), len(classes))}, one row an image and one column a class; "
                f"found {chances.shape}"
            )
        chances = chances[labelled]
        signals["loss"] = -np.log(np.maximum(chances[every, codes], np.finfo(float).tiny))
        if use_cleanlab:
            signals["cleanlab"] = _ask_cleanlab(codes, chances)
        support = support + chances
    support[every, codes] = -1  # the guess is another label
    ranking = pd.DataFrame(
        {
            "row": np.flatnonzero(labelled),
            "object_id": known.object_id,
            "path": known.path,
            "label": known.label,
            "guess": classes[support.argmax(axis=1)],
            "score": np.mean([(rankdata(signal) - 0.5) / len(known) for signal in signals.values()], axis=0),
            **signals,
        }
    )
    ranking = ranking.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    limit = float(np.quantile(distances[:, 0], COPY_SHARE)) if copy_distance is None else copy_distance
    return Suspects(table, ranking, _find_copies(known, np.flatnonzero(labelled), codes, nearest, distances, limit))


def _ask_neighbors(
    known: EmbeddingTable, codes: NDArray[np.intp], n_classes: int, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]]:
    """Return votes (n, C) of the k nearest others, and these with their distances, (n, k)."""
    found = VectorIndex.build(known).search_others(k)
    cells = np.arange(len(known))[:, None] * n_classes + codes[found.rows]
    votes = np.bincount(cells.ravel(), minlength=len(known) * n_classes).reshape(len(known), n_classes)
    return votes.astype(np.float64), found.rows, found.distances


def _compare_means(known: EmbeddingTable, codes: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return how much nearer the nearest other class's mean lies than the own one, and which class that is."""
    distance = cdist(known.vectors, average_classes(known).vectors)
    every, counts = np.arange(len(known)), np.bincount(codes)[codes]
    own = distance[every, codes] * counts / np.maximum(counts - 1, 1)  # from the mean of the others of the class
    distance[every, codes] = np.inf
    other = distance.min(axis=1)
    suspicion = own / np.maximum(own + other, np.finfo(float).tiny)
    return np.where(counts > 1, suspicion, 1.0), distance.argmin(axis=1)  # alone in its class, nothing speaks for it


def _ask_cleanlab(codes: NDArray[np.intp], chances: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise DependencyError("cleanlab is not installed; pip install 'plankton_embed[clean]'") from error
    return 1 - np.asarray(get_label_quality_scores(codes, chances, method="normalized_margin"))


def _find_copies(
    known: EmbeddingTable,
    rows: NDArray[np.intp],
    codes: NDArray[np.intp],
    nearest: NDArray[np.int64],
    distances: NDArray[np.float32],
    limit: float,
) -> pd.DataFrame:
    """Return images with the nearest neighbour of another label, where that is near enough, each pair once."""
    differs = codes[nearest] != codes[:, None]
    every, place = np.arange(len(known)), differs.argmax(axis=1)
    first = np.flatnonzero(differs.any(axis=1) & (distances[every, place] <= limit))
    pairs = np.unique(np.sort(np.column_stack([first, nearest[first, place[first]]]), axis=1), axis=0).reshape(-1, 2)
    one, two = pairs.T
    distance = np.linalg.norm(known.vectors[one] - known.vectors[two], axis=1)
    columns: dict[str, object] = {}
    for number, side in (("1", one), ("2", two)):
        columns |= {f"row_{number}": rows[side]}
        columns |= {f"{name}_{number}": getattr(known, name)[side] for name in ("object_id", "label", "path")}
    return pd.DataFrame({**columns, "distance": distance}).sort_values("distance", kind="stable", ignore_index=True)
