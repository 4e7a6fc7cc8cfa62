"""Wrong labels are planted among the training images: how many of them are among the first suspects?

    python benchmarks/planted_labels.py ndsb40.csv --root ndsb -o runs/planted --folds 2
    python benchmarks/planted_labels.py ndsb121.csv --root ndsb -o runs/filed --cluster 100 --clean runs/ndsb121

A share of the training labels is swapped to a random other class. With --folds 1, one network learns from all labels,
wrong ones included, and `suspects` ranks its training vectors as for every run (the head predicts each fifth from the
others). With more folds, one network per fold learns from the other folds, and `suspects` ranks the vectors of images
that it has never seen; the rankings are merged by their scores. The number of suspects taken equals the number of
planted labels, so precision and recall are equal. They are given for the list as written (groups first), for the score,
and for each signal. An interrupted run is continued, a finished one is used.

With --cluster N the labels are not swapped at random: N similar images of one class are labelled as another class, as
if a person had learned a class wrongly. They are half of a k-means cluster of a class, in the vectors of a network
trained on the right labels (--clean); class, cluster and the other class are drawn with the seed.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
from parts import parse_arguments
from sklearn.cluster import KMeans

import plankton_embed as pe
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.run import run


def plant(labels: pd.Series, share: float, seed: int) -> pd.Series:
    """Return a share of the labels, each swapped to a random other class."""
    random = np.random.default_rng(seed)
    classes = np.unique(labels)
    chosen = labels.iloc[random.choice(len(labels), round(share * len(labels)), replace=False)]
    return chosen.map(lambda label: random.choice(classes[classes != label]))


def file_cluster(labels: pd.Series, clean: EmbeddingTable, n: int, seed: int) -> pd.Series:
    """Return n labels of one class, half of a k-means cluster, changed to another class.

    Args:
        labels: labels of the training images, indexed by row of the catalog, in the order of the vectors.
        clean: their vectors, from a network trained on the right labels.
        n: number of images to mislabel.
        seed: seed of the draws.
    """
    random = np.random.default_rng(seed)
    counts = labels.value_counts().sort_index()
    chosen = random.choice(counts.index[counts >= 4 * n])
    rows = np.flatnonzero(labels == chosen)
    k = len(rows) // (2 * n)  # clusters of about twice as many images
    cluster = KMeans(k, n_init=10, random_state=seed).fit_predict(clean.vectors[rows])
    sizes = np.bincount(cluster)
    nearest = np.abs(np.where(sizes >= 1.5 * n, sizes, np.inf) - 2 * n).argmin()
    moved = random.choice(rows[cluster == nearest], n, replace=False)
    other = random.choice(counts.index[(counts.index != chosen) & (counts >= n / 2)])
    return pd.Series(other, index=labels.index[np.sort(moved)])


def rank_suspects(catalog: ImageCatalog, split: str, arguments: Namespace, name: str) -> pd.DataFrame:
    """Train on the training images; rank the images of a split."""
    folder = arguments.output / name
    run(catalog, folder, settings=Settings.build(overrides=["network.weights=none", *arguments.set]))
    return pe.suspects(EmbeddingTable.load(RunFolder(folder).vectors(split))).ranking


def main() -> None:
    arguments = parse_arguments(
        __doc__ or "",
        share=(float, 0.05, "share of the training labels to swap"),
        folds=(int, 1, "networks, each trained on the other folds; 1: one network, trained on all"),
        seed=(int, 0, "seed of the swapped labels and of the folds"),
        cluster=(int, 0, "images of one cluster to label as another class; 0: swap labels at random"),
        clean=(Path, None, "run on the right labels; clusters are found in its vectors"),
    )
    frame = ImageCatalog.load(arguments.catalog, root=arguments.root).frame.reset_index(drop=True)
    train = frame.index[frame["split"] == "train"]
    labels = frame.loc[train, "label"]
    if arguments.cluster:
        clean = EmbeddingTable.load(RunFolder(arguments.clean).vectors("train"))
        order = pd.Index(clean.object_id).get_indexer(frame.loc[train, "object_id"])
        swapped = file_cluster(labels, clean.select(order), arguments.cluster, arguments.seed)
        print(f"{labels[swapped.index[0]]} -> {swapped.iloc[0]}: {len(swapped)} images")
    else:
        swapped = plant(labels, arguments.share, arguments.seed)
    wrong = frame.loc[swapped.index, "object_id"]
    frame.loc[swapped.index, "label"] = swapped
    rankings = []
    if arguments.folds == 1:
        rankings.append(rank_suspects(ImageCatalog(frame), "train", arguments, "all"))
    else:
        fold = np.random.default_rng(arguments.seed).permutation(len(train)) % arguments.folds
        for number in range(arguments.folds):
            part = frame[frame["split"] != "test"].copy()
            part.loc[train[fold == number], "split"] = "test"
            rankings.append(rank_suspects(ImageCatalog(part), "test", arguments, f"fold_{number}"))
    ranking = pd.concat(rankings, ignore_index=True)
    planted = ranking["object_id"].isin(wrong)
    rows = {}
    number = ranking["group"].where(ranking["group"] > 0, len(ranking))
    orders = {
        "groups, then score": ranking.assign(number=number, score=-ranking["score"]).sort_values(["number", "score"])
    }
    for signal in ("score", "neighbors", "distance", "loss"):
        orders[signal] = ranking.sort_values(signal, ascending=False, kind="stable")
    for signal, order in orders.items():
        found = planted[order.index].to_numpy()
        rows[signal] = {f"found in {n}": found[:n].sum() / len(wrong) for n in (len(wrong), 2 * len(wrong))}
    table = pd.DataFrame(rows).T
    table.to_csv(arguments.output / f"results_{arguments.folds}.csv", index_label="signal")
    print(f"{len(wrong)} of {len(train)} labels planted; share of them found among the first suspects")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
