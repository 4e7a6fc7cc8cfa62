"""Rejecting and enrolling classes that the network has never seen, against the same on raw pixels (PCA to 64 numbers).

    python benchmarks/seen_unseen.py ndsb121.csv --root ndsb -o runs/seen_unseen

Trains only on the other classes, in the way of the models that come with the package: from small to large images (an
interrupted run is continued, a finished one is used). Also with the head that preset `instant` computes on the same
trunk, with 64 and with 256 numbers. `--draw 1` draws forty other classes. For each: AUROC of rejecting unseen test
images, the share of them rejected where 5 % of the known ones are, and the balanced accuracy on test over the unseen
classes, and over all, with ten training images of each unseen class enrolled (mean and sd over draws).
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from parts import N_NEIGHBORS, parse_arguments, read_parts
from pretrained import SHARED
from sklearn.decomposition import PCA

import plankton_embed as pe
from plankton_embed.classifiers.enrollment import measure_learning
from plankton_embed.classifiers.evaluation import evaluate_predictions
from plankton_embed.classifiers.prediction import PredictionOptions
from plankton_embed.classifiers.rejection import NoveltyScore
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.seen_unseen import LEAST_UNSEEN

N_EXAMPLES, N_UNSEEN, DIMENSION = 10, 40, 64
DIMENSIONS = (64, 256)  # of the heads that are computed
STAGES: list[dict[str, Any]] = [
    {"preparation.target_size": 64, "training.epochs": 16},
    {"preparation.target_size": 96, "training.epochs": 12, "training.learning_rate": 2e-3},
]


@dataclass(frozen=True)
class Space:
    """Vectors of one model: reference and calibration set of seen classes, examples of unseen ones, all test images."""

    reference: EmbeddingTable
    calibration: EmbeddingTable
    examples: EmbeddingTable
    test: EmbeddingTable


def draw_classes(arguments: Namespace) -> list[str]:
    """Return unseen classes, drawn among those with at least `LEAST_UNSEEN` training images."""
    counts = pd.Series(ImageCatalog.load(arguments.catalog).split("train").labels).value_counts()
    large = sorted(counts.index[counts >= LEAST_UNSEEN])
    return sorted(np.random.default_rng(arguments.draw).choice(large, N_UNSEEN, replace=False).tolist())


def train_first(arguments: Namespace, unseen: list[str]) -> None:
    """Train the first stage on the seen classes, unless that is finished."""
    first = arguments.output / "first"
    if not (first / "scores.json").exists():
        seen = ImageCatalog.load(arguments.catalog, root=arguments.root).with_classes(exclude=unseen)
        small = Settings.build(overrides={**SHARED, "network.weights": "none", **STAGES[0]})
        pe.train(seen, first, settings=small, resume=(first / "settings.yaml").exists())


def embed_ours(arguments: Namespace, unseen: list[str], settings: Settings, name: str) -> Space:
    """Train on the seen classes, unless that is finished; return the vectors."""
    folder = arguments.output / name
    if not (folder / "scores.json").exists():
        pe.seen_unseen(arguments.catalog, folder, unseen=unseen, settings=settings, root=arguments.root)
    vectors = RunFolder(folder / "run").vectors
    paths = vectors("train"), vectors("val"), folder / "vectors/unseen_train.parquet", folder / "vectors/test.parquet"
    return Space(*(EmbeddingTable.load(path) for path in paths))


def reduce_pixels(arguments: Namespace, unseen: list[str], settings: Settings) -> Space:
    """Reduce the prepared pixels with a PCA of the training images of seen classes."""
    parts = read_parts(arguments.catalog, arguments.root, settings)
    is_unseen = {name: np.isin(part.label.astype(str), unseen) for name, part in parts.items()}
    pixels = {name: part.images.batch(slice(None))[0].reshape(len(part.label), -1) for name, part in parts.items()}
    pca = PCA(DIMENSION, svd_solver="randomized", random_state=0)
    pca.fit(pixels["train"][~is_unseen["train"]].astype(np.float32))
    tables = {
        name: EmbeddingTable(
            pca.transform(values.astype(np.float32)),
            object_id=np.array([f"{name}/{row}" for row in range(len(values))], dtype=object),
            label=parts[name].label,
        )
        for name, values in pixels.items()
    }
    train, is_new = tables["train"], is_unseen["train"]
    return Space(train.select(~is_new), tables["val"].select(~is_unseen["val"]), train.select(is_new), tables["test"])


def score_space(space: Space, n_draws: int) -> dict[str, float]:
    """Reject, then enroll, the unseen classes."""
    scores: dict[str, float] = {}
    for measure in get_args(NoveltyScore):
        found = evaluate_predictions(
            space.reference, space.test, PredictionOptions("knn", N_NEIGHBORS, 0.05, measure), space.calibration
        )
        scores["accuracy, known classes"] = found.scores.metrics["accuracy"]
        scores[f"AUROC, {measure}"] = found.open_set.auroc
        scores[f"unseen rejected at 5 %, {measure}"] = found.open_set.refused_at_5
        scores[f"rejected of known, {measure}"] = found.open_set.known_refused
        scores[f"rejected of unseen, {measure}"] = found.open_set.unseen_refused
    draws = measure_learning(
        space.reference, space.examples, space.test, examples=(N_EXAMPLES,), n_draws=n_draws, n_neighbors=N_NEIGHBORS
    )
    names = {"new_only": "unseen among themselves", "new": "unseen among all", "all": "all"}
    for method, rows in draws.groupby("method"):
        for column, name in names.items():
            scores[f"{name}, {method}"] = float(rows[column].mean())
            scores[f"{name}, {method}, sd"] = float(rows[column].std())
    return scores


def main() -> None:
    arguments = parse_arguments(
        __doc__ or "",
        unseen=(Path, Path(__file__).with_name("ndsb121_unseen.txt"), "file with the unseen classes, one per line"),
        draw=(int, 0, "seed of a draw of other unseen classes; 0: those of the file"),
        draws=(int, 10, "draws of the ten examples"),
    )
    unseen = draw_classes(arguments) if arguments.draw else arguments.unseen.read_text(encoding="utf-8").split()
    large = {**SHARED, **STAGES[1], "network.weights": str(arguments.output / "first")}
    settings = Settings.build(overrides=[*(f"{name}={value}" for name, value in large.items()), *arguments.set])
    train_first(arguments, unseen)
    spaces = {"embedding": embed_ours(arguments, unseen, settings, "ours")}
    for dimension in DIMENSIONS:
        chosen = [f"network.weights={arguments.output / 'ours/run'}", f"network.dimension={dimension}"]
        head = Settings.build("instant", overrides=chosen)
        spaces[f"instant, {dimension}"] = embed_ours(arguments, unseen, head, f"instant_{dimension}")
    spaces[f"pixels, PCA {DIMENSION}"] = reduce_pixels(arguments, unseen, settings)
    table = pd.DataFrame({name: score_space(space, arguments.draws) for name, space in spaces.items()})
    table.to_csv(arguments.output / "results.csv", index_label="score")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
