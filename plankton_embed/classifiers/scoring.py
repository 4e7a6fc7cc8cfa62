"""Scores: accuracy, F1, per class, confusion (rows true), retrieval; with bootstrap intervals."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from plankton_embed.errors import InputError
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex
from plankton_embed.vector_shards import Vectors

RECALL_AT = (1, 5, 10)
LEAST_IMAGES = 20  # for an interval: draws of fewer images vary much less than new images would
LEAST_SAMPLES = 5  # the same for draws of whole samples
MOST_NEIGHBORS = 2**22  # in memory at a time
AT_ONCE = 2**14  # vectors whose distances to all class means are in memory at a time


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of predictions.

    `metrics`: accuracy, balanced_accuracy, f1_macro, f1_weighted, f1_micro; defined as in scikit-learn, over the
    classes that occur in the truth or in the predictions (balanced accuracy: in the truth). `intervals`: for each
    metric, the 2.5 and 97.5 % points over bootstrap draws of the images; if empty, `no_intervals` is the reason.
    `per_class`: label, precision, recall, f1, support.
    `confusion`: counts, rows true, columns predicted.
    """

    n_images: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    no_intervals: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "n_images": self.n_images,
            **self.metrics,
            "intervals_95": {name: list(interval) for name, interval in self.intervals.items()} or None,
            **({"no_intervals": self.no_intervals} if self.no_intervals else {}),
            "per_class": self.per_class.to_dict("records"),
        }


def score_predictions(
    truth: ArrayLike, predicted: ArrayLike, *, samples: ArrayLike | None = None, n_bootstrap: int = 1000, seed: int = 0
) -> ClassificationScores:
    """Score predicted class names against true ones.

    Args:
        truth: (n,) true class names.
        predicted: (n,) predicted class names.
        samples: (n,) the sample of each image. The draws then take whole samples, as images of one sample are more
            similar than images of several. By default each image is independent.
        n_bootstrap: draws for the intervals; 0 leaves them out, and so do fewer than 20 images or 5 samples.
        seed: of the draws.

    Raises:
        InputError: nothing to score, lengths differ, or a true label is missing.
    """
    if pd.isna(np.asarray(truth, dtype=object)).any():
        raise InputError("some true labels are missing; score the labelled images only")
    truth, predicted = np.asarray(truth, dtype=str), np.asarray(predicted, dtype=str)
    if len(truth) == 0 or truth.shape != predicted.shape:
        raise InputError(
            f"expected as many predictions as true labels, at least one; found {len(predicted)} and {len(truth)}"
        )
    classes, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    cells = codes[: len(truth)] * len(classes) + codes[len(truth) :]
    counts = _confusion(cells, len(classes))
    precision, recall, f1 = _class_scores(counts)
    rng = np.random.default_rng(seed)
    why_not = f"{len(truth)} images; expected at least {LEAST_IMAGES}" if len(truth) < LEAST_IMAGES else None
    units = np.arange(len(cells)) if samples is None else np.unique(np.asarray(samples, str), return_inverse=True)[1]
    n = int(units.max()) + 1  # images, or samples
    if samples is not None and n < LEAST_SAMPLES:
        why_not = f"{n} samples; expected at least {LEAST_SAMPLES}"
    draws = []
    for _ in range(0 if why_not else n_bootstrap):
        drawn = rng.integers(n, size=n)
        if samples is None:
            draws.append(_metrics(_confusion(cells[drawn], len(classes))))
        else:
            times = np.bincount(drawn, minlength=n)[units]
            draws.append(_metrics(_confusion(np.repeat(cells, times), len(classes))))
    metrics = _metrics(counts)
    intervals = {}
    for name in metrics if draws else ():
        low, high = np.percentile([draw[name] for draw in draws], [2.5, 97.5])
        intervals[name] = (float(low), float(high))
    return ClassificationScores(
        n_images=len(truth),
        metrics=metrics,
        intervals=intervals,
        per_class=pd.DataFrame(
            {"label": classes, "precision": precision, "recall": recall, "f1": f1, "support": counts.sum(axis=1)}
        ),
        confusion=pd.DataFrame(counts, classes, classes).rename_axis("true label", axis=0),
        no_intervals=why_not if n_bootstrap else None,
    )


def find_missing(labels: Iterable[str], classes: Sequence[str]) -> pd.DataFrame:
    """Return the labels that are not among the classes, one row per label, most images first.

    Args:
        labels: (n,) of the images.
        classes: those of the reference.

    Returns:
        `label`, `n_images`, `share` (of all n images), and `nearest`: the class with the most similar name, without
        regard to case; None where no name is similar (difflib's ratio is below .6).
    """
    counts = pd.Series(list(labels), dtype=object).value_counts()
    shares = counts / max(counts.sum(), 1)
    missing = [str(label) for label in counts.index if label not in set(classes)]
    by_name = {name.casefold(): name for name in classes}
    similar = (difflib.get_close_matches(label.casefold(), by_name, n=1) for label in missing)
    return pd.DataFrame({
        "label": missing,
        "n_images": [int(counts[label]) for label in missing],
        "share": [float(shares[label]) for label in missing],
        "nearest": pd.Series([by_name[found[0]] if found else None for found in similar], dtype=object),
    })  # fmt: skip


def compare_right(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Compare two classifiers, given whether each predicts the same images right (n,).

    Returns:
        How many images only the first and only the second predicts right, and the p-value of McNemar's exact test.
    """
    alone = int((one & ~other).sum()), int((other & ~one).sum())
    return *alone, float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0


def correct_holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return the p-values (m,) of m tests, corrected for their number (Holm 1979, Scand. J. Statist. 6)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def score_retrieval(queries: Vectors, gallery: EmbeddingTable, at: Sequence[int] = RECALL_AT) -> dict[str, float]:
    """Score how often the nearest vectors of a gallery have the class of the query.

    Recall@k is the share of queries with an image of their class among the k nearest. MAP@R is, over queries, the mean
    of sum(precision at i, over the i ≤ R with a right image there) / R, R being the gallery's images of the class
    (Musgrave et al. 2020, arXiv 2003.08505). Queries whose class is not in the gallery are left out.

    Args:
        queries: labelled vectors, such as the test split.
        gallery: labelled vectors, such as the training split; no image may be in both.
        at: the k of recall@k.

    Raises:
        MismatchError: the tables were made by different models.
        InputError: no query has a class of the gallery.
    """
    gallery.check_same_model(queries, ("the gallery", "the queries"))
    gallery = gallery.labelled
    queries = queries.select(np.isin(queries.label.astype(str), gallery.classes) & queries.is_labelled)
    if len(queries) == 0:
        raise InputError("no query has a label of the gallery; nothing to score")
    names, codes, counts = np.unique(gallery.label.astype(str), return_inverse=True, return_counts=True)
    true_codes = np.searchsorted(names, queries.label.astype(str))
    n_relevant = counts[true_codes]
    index = VectorIndex.build(gallery)
    k = min(len(gallery), max(int(n_relevant.max()), *at))
    first_hit, average_precision = np.empty(len(queries)), np.empty(len(queries))
    start = 0
    for vectors in queries.vector_blocks(max(1, MOST_NEIGHBORS // k)):
        block = slice(start, start := start + len(vectors))
        found = index.search(vectors, k).rows
        right = codes[found] == true_codes[block, None]
        first_hit[block] = np.where(right.any(axis=1), right.argmax(axis=1), np.inf)
        within = right & (np.arange(k) < n_relevant[block, None])
        precision = np.cumsum(right, axis=1) / np.arange(1, k + 1)
        average_precision[block] = (precision * within).sum(axis=1) / n_relevant[block]
    recalls = {f"recall_at_{n}": float((first_hit < n).mean()) for n in at}
    return {**recalls, "map_at_r": float(average_precision.mean())}


def self_centroid_accuracy(table: Vectors) -> float:
    """Return the accuracy of centroids on the vectors that they are the means of.

    It is too high: for comparison with the 2019 recipe only, which reported it.
    """
    labelled = table.select(table.is_labelled)
    codes = np.unique(labelled.label.astype(str), return_inverse=True)[1]
    means = _average(labelled.vector_blocks(AT_ONCE), codes, labelled.dimension)
    nearest = [cdist(block, means, "sqeuclidean").argmin(axis=1) for block in labelled.vector_blocks(AT_ONCE)]
    return float((np.concatenate(nearest) == codes).mean())


def _average(blocks: Iterable[NDArray[np.float32]], codes: NDArray[np.intp], dimension: int) -> NDArray[np.float64]:
    """Return the means of the classes as `class_means` does, of vectors in blocks of any size."""
    n_images = np.bincount(codes)
    own, sums, start = np.arange(len(n_images)), np.zeros((len(n_images), dimension)), 0
    for vectors in blocks:
        here = np.concatenate([own, codes[start : (start := start + len(vectors))]])
        for column, values in enumerate(vectors.T):  # adds to the sums so far, in the order of the rows
            sums[:, column] = np.bincount(here, np.concatenate([sums[:, column], values]))
    return np.asarray(sums / n_images[:, None])


def _confusion(cells: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def _class_scores(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return precision, recall and F1 of every class; 0 where they are undefined."""
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return right / np.maximum(predicted, 1), right / np.maximum(true, 1), 2 * right / np.maximum(true + predicted, 1)


def _metrics(counts: NDArray[np.int64]) -> dict[str, float]:
    # scikit-learn computes these from labels, not from counts: 1,000 bootstrap draws of 5,000 images would take 12 s
    _, recall, f1 = _class_scores(counts)
    support = counts.sum(axis=1)
    present, seen = support > 0, (support + counts.sum(axis=0)) > 0
    accuracy = float(np.trace(counts) / counts.sum())
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float(recall[present].mean()),
        "f1_macro": float(f1[seen].mean()),
        "f1_weighted": float((f1 * support).sum() / support.sum()),
        "f1_micro": accuracy,  # each image has one prediction, so the two are equal
    }
