"""Enroll new classes without training: add their vectors to the reference; measure how many examples they need."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from plankton_embed.classifiers.calibrated import hold_out
from plankton_embed.classifiers.prediction import WITHOUT_TRAINING, fit_classifier
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import draw_per_class
from plankton_embed.images.catalog import refuse_unknown
from plankton_embed.output import progress_bar
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

EXAMPLES = (1, 2, 5, 10, 20, 50)


def add_examples(reference: EmbeddingTable, new: EmbeddingTable) -> EmbeddingTable:
    """Return the reference with the labelled rows of another table added: new classes, or more examples.

    An image that is in the reference without a label (the same path, or the same id and vector) gets its label.

    Raises:
        MismatchError: the tables were made by different models.
        InputError: no row of `new` has a label, one of its classes has the label of rejected images, or an `object_id`
            or a `path` is in both tables, with a label in both.
    """
    reference.check_same_model(new, ("the reference", "the new vectors"))
    refuse_unknown(
        new.classes,
        "the new vectors",
        "Give it another name where its images got it: in cluster_names.csv of clusters, or with catalog --class-map.",
    )
    labelled = new.select(new.is_labelled)
    if len(labelled) == 0:
        raise InputError(
            f"new: expected labelled vectors; found none of {len(new)} with a label; label the images first"
        )
    if len(labelled) < len(new):
        logger.warning("%d of %d new vectors have no label and are left out", len(new) - len(labelled), len(new))
    is_named_now = ~reference.is_labelled
    is_named_now[is_named_now] = find_same(reference.select(is_named_now), labelled)
    reference = reference.select(~is_named_now) if is_named_now.any() else reference
    for column, fix in (("object_id", "give the new images other ids, or leave out those enrolled before"),
                         ("path", "leave them out")):  # fmt: skip
        shared = sorted({text for text in getattr(labelled, column) if text} & set(getattr(reference, column)))
        if shared:
            raise InputError(
                f"{len(shared)} of the new images are in the reference already, such as {column} {shared[0]}; {fix}"
            )
    return reference.join(labelled)


def correct_examples(
    reference: EmbeddingTable, corrections: pd.DataFrame, others: EmbeddingTable | None = None
) -> EmbeddingTable:
    """Return the reference as a person has corrected it: images relabelled, or left out where deleted.

    Args:
        reference: labelled vectors, images without a label among them or not.
        corrections: `object_id`, `action` (keep, relabel or delete) and `label`, one row an image (see
            `read_corrections`).
        others: other images that corrections may be about; those that are relabelled, or kept with a label, are added.

    Raises:
        MismatchError: the tables were made by different models.
        InputError: an image is in neither table, a new class has the label of rejected images, or no label would be
            left.
    """
    whole = reference if others is None else EmbeddingTable.concat([reference, others])
    decided = corrections.set_index("object_id")
    missing = decided.index[~decided.index.isin(whole.object_id)]
    if len(missing):
        raise InputError(
            f"corrections: {len(missing)} images are not in the reference, such as {missing[0]}; give the vectors or "
            "the run that was reviewed as the reference, and enroll the result in other references"
        )
    action = decided["action"].reindex(whole.object_id).to_numpy()
    new = decided["label"].reindex(whole.object_id).to_numpy()
    relabelled = action == "relabel"
    corrected = replace(whole, label=np.where(relabelled, new, whole.label))
    is_own = np.arange(len(whole)) < len(reference)
    added = (relabelled | (action == "keep")) & corrected.is_labelled
    result = corrected.select(np.flatnonzero((is_own | added) & (action != "delete")))
    refuse_unknown(result.classes, "corrections", "Give these images another name.")
    if not result.classes:
        raise InputError("corrections: no labelled image would be left in the reference; keep or relabel some images")
    return result


def find_same(table: EmbeddingTable, other: EmbeddingTable) -> NDArray[np.bool_]:
    """Return which images of a table are in another: with the same path, or the same id and the same vector, (n,)."""
    paths = {path for path in other.path if path}
    vectors = dict(zip(other.object_id, other.vectors, strict=True))
    return np.array(
        [
            path in paths or (name in vectors and np.array_equal(vector, vectors[name]))
            for name, path, vector in zip(table.object_id, table.path, table.vectors, strict=True)
        ],
        dtype=bool,
    )


def measure_learning(
    reference: EmbeddingTable,
    new: EmbeddingTable,
    query: EmbeddingTable | None = None,
    *,
    examples: Sequence[int] = EXAMPLES,
    n_draws: int = 10,
    n_neighbors: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Enroll the classes of `new` from a few random examples each, many times, and score the predictions each time.

    Args:
        reference: labelled vectors of the present classes.
        new: labelled vectors from which the examples are drawn; a class with fewer images gives all of them.
        query: labelled vectors to predict, of new classes and optionally of classes of the reference; by default half
            of the new images, drawn once and never used as examples.
        examples: numbers of examples per class; those above the size of the largest new class are left out.
        n_draws: random draws for each number of examples.
        n_neighbors: k of kNN.
        seed: seed of the draws.
        progress: show a bar.

    Returns:
        One row per number, draw and method: `n_examples`, `n_given` (the mean number drawn, as a class may have fewer),
        `draw`, `method`, and balanced accuracies: `new_only` over the new classes with a reference of these alone;
        with a reference of all classes `new` over the new, `known` over the others, and `all` over all of them (nan
        where there are none).

    Raises:
        MismatchError, InputError: as `add_examples`; or no class has a second image for scoring.
        SettingError: fewer than one draw.
    """
    if n_draws < 1:
        raise SettingError(f"draws: expected at least 1; found {n_draws}")
    new = new.select(new.is_labelled)
    add_examples(reference, new)  # raises if the two tables do not fit together
    if query is None:
        is_query = hold_out(np.unique(new.label.astype(str), return_inverse=True)[1], 0.5, seed)
        query, new = new.select(is_query), new.select(~is_query)
    if len(query) == 0:
        raise InputError("a learning curve needs images to predict: give a query, or a second image of a new class")
    labels = new.label.astype(str)
    most = pd.Series(labels).value_counts().max()
    rng = np.random.default_rng(seed)
    rows = []
    plan = [(n, draw) for n in examples if n <= most for draw in range(n_draws)]
    for n_examples, draw in progress_bar(plan, "learning curve", "draw", shown=progress):
        few = new.select(draw_per_class(labels, n_examples, rng))
        given = {"n_examples": n_examples, "n_given": len(few) / len(few.classes), "draw": draw}
        scores = _score_enrolled(reference, few, query, n_neighbors)
        rows += [{**given, "method": method, **numbers} for method, numbers in scores.items()]
    return pd.DataFrame(rows)


def _score_enrolled(
    reference: EmbeddingTable, few: EmbeddingTable, query: EmbeddingTable, n_neighbors: int
) -> dict[str, dict[str, float]]:
    truth = query.label.astype(str)
    is_new, in_reference = np.isin(truth, few.classes), np.isin(truth, reference.classes)
    both = add_examples(reference, few)
    scores: dict[str, dict[str, float]] = {}
    for method in WITHOUT_TRAINING:
        among_new = fit_classifier(few, method, min(n_neighbors, len(few))).predict(query.vectors)
        among_all = fit_classifier(both, method, min(n_neighbors, int(both.is_labelled.sum()))).predict(query.vectors)
        scores[method] = {
            "new_only": _balanced_accuracy(truth, among_new, is_new),
            "new": _balanced_accuracy(truth, among_all, is_new),
            "known": _balanced_accuracy(truth, among_all, in_reference),
            "all": _balanced_accuracy(truth, among_all, (is_new | in_reference) & in_reference.any()),
        }
    return scores


def _balanced_accuracy(truth: NDArray[np.str_], predicted: NDArray[np.str_], among: NDArray[np.bool_]) -> float:
    if not among.any():
        return float("nan")
    return float(recall_score(truth[among], predicted[among], labels=np.unique(truth[among]), average="macro"))


def summarize_learning(curve: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the draws, one row per number of examples and method."""
    table = curve.drop(columns="draw").groupby(["n_examples", "n_given", "method"]).agg(["mean", "std"])
    table.columns = pd.Index(["_".join(pair) for pair in table.columns])
    return table.reset_index()
