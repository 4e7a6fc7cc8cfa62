"""Labelling simulated from nothing: how good are predictions after so many labels, and after so many keystrokes?

    python benchmarks/labelling.py train.parquet test.parquet -o runs/labelling

Nothing is labelled at first. At each step a strategy shows images of the training part, and a simulated person gives
their true labels:

- `next`: the group that `next` puts first, labelled at once; then it chooses again;
- `next, one by one`: the images that `next` chooses without groups, ten at a time;
- `random order`: single images;
- `plain list`: single images in the order of their file names, as a folder lists them.

A single image costs one keystroke. A group costs one for its most frequent class, and one for every image of another
class. After so many labels, and after so many keystrokes (both as shares of the number of images), the labelled images
predict the test part, which is the same throughout: balanced accuracy of the nearest class mean (`centroid`) and kNN.
Each draw takes a random nine tenths of the training part. `curves.csv` has every measurement, `labelling.png` the means
over the draws, and `summary.csv` the scores with half the labels and with a tenth of the keystrokes, also as shares of
the score with all labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from plankton_embed.analysis.labelling import LabellingQueue
from plankton_embed.classifiers.prediction import WITHOUT_TRAINING, Method, fit_classifier
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
DRAWN = 0.9  # of the training part in each draw
AT_ONCE = 10  # images that `next, one by one` chooses at a time
METHODS: tuple[Method, ...] = WITHOUT_TRAINING
N_NEIGHBORS = Settings().classification.n_neighbors
AIMS = {"labels": 0.5, "keystrokes": 0.1}

Rows = NDArray[np.intp]
Groups = Iterator[Rows]
Scores = dict[str, float]


def choose_groups(table: EmbeddingTable, truth: Rows, seed: int) -> Groups:
    """Yield the first group of the queue, which then knows its true labels."""
    queue = LabellingQueue(table.vectors, np.full(len(table), -1))
    while len(chosen := queue.next(queue.most_together)):
        group = chosen.rows[chosen.group == 1]
        yield group
        queue.change(group, truth[group])


def choose_singly(table: EmbeddingTable, truth: Rows, seed: int) -> Groups:
    """Yield the images of the queue without groups; it knows the true labels after every ten images."""
    queue = LabellingQueue(table.vectors, np.full(len(table), -1), most_together=1)
    while len(chosen := queue.next(AT_ONCE)):
        yield from chosen.rows[:, None]
        queue.change(chosen.rows, truth[chosen.rows])


def order_randomly(table: EmbeddingTable, truth: Rows, seed: int) -> Groups:
    """Yield single images in random order."""
    yield from np.random.default_rng(seed).permutation(len(table))[:, None]


def order_by_name(table: EmbeddingTable, truth: Rows, seed: int) -> Groups:
    """Yield single images in the order of their file names, without folders."""
    names = [Path(path or name).name for path, name in zip(table.path, table.object_id, strict=True)]
    yield from np.argsort(names, kind="stable")[:, None]


STRATEGIES: dict[str, Callable[[EmbeddingTable, Rows, int], Groups]] = {
    "next": choose_groups,
    "next, one by one": choose_singly,
    "random order": order_randomly,
    "plain list": order_by_name,
}


def count_keystrokes(classes: Rows) -> int:
    """Return the keystrokes for a group of images of these classes: one, and one for each odd image."""
    return 1 + len(classes) - int(np.bincount(classes).max())


def simulate(groups: Groups, truth: Rows, score: Callable[[Rows], Scores]) -> pd.DataFrame:
    """Label groups until both AIMS are reached, or everything is labelled; score the labelled rows at every share.

    Returns:
        One row for each share of labels and of keystrokes (column `by`) that was reached: `by`, `share`, and what was
        spent then, `labels` and `keystrokes`, and the scores.
    """
    spent = {"labels": 0, "keystrokes": 0}
    todo = [(by, share) for by in spent for share in SHARES]
    labelled, measured = np.zeros(len(truth), dtype=bool), []
    for group in groups:
        labelled[group] = True
        spent["labels"] += len(group)
        spent["keystrokes"] += count_keystrokes(truth[group])
        passed = [(by, share) for by, share in todo if spent[by] >= share * len(truth)]
        if passed:
            scores = score(np.flatnonzero(labelled))
            measured += [{"by": by, "share": share, **spent, **scores} for by, share in passed]
            todo = [mark for mark in todo if mark not in passed]
        if all(share > AIMS[by] for by, share in todo):
            break
    return pd.DataFrame(measured)


def score_labels(train: EmbeddingTable, test: EmbeddingTable, rows: Rows) -> Scores:
    """Return the balanced accuracy on the test part by each method, given the labels of these training rows."""
    labelled, truth = train.select(rows), test.label.astype(str)
    scores: Scores = {}
    for method in METHODS:
        predicted = fit_classifier(labelled, method, min(N_NEIGHBORS, len(rows))).predict(test.vectors)
        scores[method] = float(recall_score(truth, predicted, labels=np.unique(truth), average="macro"))
    return scores


def run_draw(train: EmbeddingTable, test: EmbeddingTable, seed: int) -> tuple[pd.DataFrame, Scores]:
    """Return the curves of all strategies on a random part of the training images, and the scores with all labels."""
    drawn = np.random.default_rng(seed).permutation(len(train))[: round(DRAWN * len(train))]
    part = train.select(np.sort(drawn))
    truth = np.unique(part.label.astype(str), return_inverse=True)[1]
    score = partial(score_labels, part, test)
    curves = []
    for name, strategy in STRATEGIES.items():
        curve = simulate(strategy(part, truth, seed), truth, score)
        curves.append(curve.assign(strategy=name, draw=seed, n_images=len(part)))
        print(f"draw {seed}, {name}: {curve['labels'].max():,} labels, {curve['keystrokes'].max():,} keystrokes")
    return pd.concat(curves, ignore_index=True), score(np.arange(len(part)))


def summarize(curves: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the draws of the scores at the AIMS, and their shares of the full score.

    Args:
        curves: the curves of all draws and strategies.
        full: the scores with all labels, one row a draw (the index).
    """
    rows = []
    for (strategy, by), curve in curves.groupby(["strategy", "by"], sort=False):
        at = curve[curve["share"] == AIMS[str(by)]].set_index("draw")
        for method in METHODS:
            share = at[method] / full[method].reindex(at.index)
            rows.append({
                "strategy": strategy, "with": f"{AIMS[str(by)]:g} of the {by}", "method": method,
                "labels": (at["labels"] / at["n_images"]).mean(),
                "keystrokes": (at["keystrokes"] / at["n_images"]).mean(), "score": at[method].mean(),
                "sd": at[method].std(), "of_full": share.mean(), "of_full_least": share.min(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def draw_curves(curves: pd.DataFrame, full: pd.DataFrame) -> Figure:
    """Draw the mean scores against labels (left) and keystrokes (right), with the range of the draws."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(len(METHODS), len(AIMS), sharex=True, sharey="row", squeeze=False)
    for row, method in zip(axes, METHODS, strict=True):
        for ax, by in zip(row, AIMS, strict=True):
            for color, (strategy, curve) in enumerate(curves[curves["by"] == by].groupby("strategy", sort=False)):
                scores = curve.groupby("share")[method].agg(["mean", "min", "max"])
                ax.plot(scores.index, scores["mean"], f"C{color}.-", label=strategy)
                ax.fill_between(scores.index, scores["min"], scores["max"], color=f"C{color}", alpha=0.15, lw=0)
            ax.axhline(full[method].mean(), color="0.4", ls="--", label="all labels")
            ax.set(xscale="log", xlabel=f"{by}, share of the number of images", title=method)
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        row[0].set_ylabel("balanced accuracy, test part")
    axes[0, 0].legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="labelled vectors of the images to label")
    parser.add_argument("test", type=Path, help="labelled vectors that are predicted")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--draws", type=int, default=5)
    arguments = parser.parse_args()
    train, test = (EmbeddingTable.load(path).labelled for path in (arguments.train, arguments.test))
    train.check_same_model(test, ("train", "test"))
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = [run_draw(train, test, seed) for seed in range(arguments.draws)]
    curves = pd.concat([curve for curve, _ in results], ignore_index=True)
    full = pd.DataFrame([scores for _, scores in results])
    summary = summarize(curves, full)
    curves.to_csv(arguments.output / "curves.csv", index=False)
    full.to_csv(arguments.output / "all_labels.csv", index_label="draw")
    summary.to_csv(arguments.output / "summary.csv", index=False)
    draw_curves(curves, full).savefig(arguments.output / "labelling.png", dpi=120)
    print(f"{len(train):,} images of {len(train.classes)} classes, {len(test):,} to predict; with all labels:")
    print(full.agg(["mean", "std"]).round(3).to_string())
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
