"""New classes without training: their vectors join the reference; how many examples does a class need?"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from plankton_embed.classifiers.naming import Method, fit_classifier
from plankton_embed.errors import InputError
from plankton_embed.table import TEXT_COLUMNS, EmbeddingTable

logger = logging.getLogger(__name__)

EXAMPLES = (1, 2, 5, 10, 20, 50)
ENROLLED_BY: tuple[Method, ...] = ("centroid", "knn")  # which learn by being given vectors


def add_examples(reference: EmbeddingTable, new: EmbeddingTable) -> EmbeddingTable:
    """Return the reference with the labelled rows of another table added: new classes, or more examples.

    Raises:
        MismatchError: made by different models.
        InputError: no row of `new` has a label, or an `object_id` stands in both.
    """
    reference.check_same_model(new, ("the reference", "the new vectors"))
    labelled = new.select(new.is_labelled)
    if len(labelled) == 0:
        raise InputError("the new vectors have no labels, so they teach no class; name them first")
    if len(labelled) < len(new):
        logger.warning("%d of %d new vectors have no label and are left aside", len(new) - len(labelled), len(new))
    shared = sorted(set(reference.object_id) & set(labelled.object_id))
    if shared:
        raise InputError(
            f"{len(shared)} of the new images are in the reference already, such as {shared[0]} (object_id); "
            "leave them out, or give them ids of their own"
        )
    columns = {name: np.concatenate([getattr(reference, name), getattr(labelled, name)]) for name in TEXT_COLUMNS}
    vectors = np.concatenate([reference.vectors, labelled.vectors])
    return EmbeddingTable(vectors, **columns, provenance=reference.provenance)


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
    """Enroll the classes of `new` from a few examples each, many times over, and score the names each time.

    Args:
        reference: labelled vectors of the classes known before.
        new: labelled vectors to draw the examples from; a class with fewer gives all it has.
        query: labelled vectors to name, of new and, if wanted, of known classes; by default those of `new` that were
            not drawn (of which each class then keeps at least one).
        examples: numbers of examples a class.
        n_draws: draws of each number.
        n_neighbors: k of kNN.
        seed: of the draws.
        progress: show a bar.

    Returns:
        One row a number, draw and method: `n_examples`, `draw`, `method`, and balanced accuracies: `new_only` over the
        new classes when the reference holds these alone; `new` over the new, `known` over the known and `all` over all
        classes when it holds all (nan where the query has none of them).

    Raises:
        MismatchError, InputError: as `add_examples`.
    """
    new = new.select(new.is_labelled)
    add_examples(reference, new)  # raises where the two do not go together
    labels = new.label.astype(str)
    rng = np.random.default_rng(seed)
    rows = []
    plan = [(n, draw) for n in examples for draw in range(n_draws)]
    for n_examples, draw in tqdm(plan, "learning curve", unit="draw", disable=not progress, leave=False, delay=1):
        order = rng.permutation(len(new))
        place = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
        most = np.full(len(new), n_examples)
        if query is None:
            most = np.minimum(most, pd.Series(labels).map(pd.Series(labels).value_counts()).to_numpy()[order] - 1)
        drawn = np.zeros(len(new), dtype=bool)
        drawn[order] = place < most
        few, asked = new.select(drawn), new.select(~drawn) if query is None else query
        rows += [
            {"n_examples": n_examples, "draw": draw, "method": method, **scores}
            for method, scores in _score_enrolled(reference, few, asked, n_neighbors).items()
        ]
    return pd.DataFrame(rows)


def _score_enrolled(
    reference: EmbeddingTable, few: EmbeddingTable, asked: EmbeddingTable, n_neighbors: int
) -> dict[str, dict[str, float]]:
    truth = asked.label.astype(str)
    is_new, is_known = np.isin(truth, few.classes), np.isin(truth, reference.classes)
    both = add_examples(reference, few)
    scores: dict[str, dict[str, float]] = {}
    for method in ENROLLED_BY:
        among_new = fit_classifier(few, method, min(n_neighbors, len(few))).predict(asked.vectors)
        among_all = fit_classifier(both, method, min(n_neighbors, len(both))).predict(asked.vectors)
        scores[method] = {
            "new_only": _balanced_accuracy(truth, among_new, is_new),
            "new": _balanced_accuracy(truth, among_all, is_new),
            "known": _balanced_accuracy(truth, among_all, is_known),
            "all": _balanced_accuracy(truth, among_all, is_new | is_known),
        }
    return scores


def _balanced_accuracy(truth: NDArray[np.str_], names: NDArray[np.str_], among: NDArray[np.bool_]) -> float:
    if not among.any():
        return float("nan")
    right = pd.Series(truth[among] == names[among])
    return float(right.groupby(truth[among]).mean().mean())


def summarize_learning(curve: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the draws, one row a number of examples and method."""
    table = curve.drop(columns="draw").groupby(["n_examples", "method"]).agg(["mean", "std"])
    table.columns = pd.Index(["_".join(pair) for pair in table.columns])
    return table.reset_index()
