"""Compares recipes at equal epochs over several seeds: objectives, samplings, size inputs, trunks.

    python benchmarks/recipes.py ndsb40.csv --root ndsb -o runs/recipes --table objectives --epochs 8 --seeds 3

The classes of validation images are predicted from the vectors of the training images, by nearest centroid and by kNN
(k = 10). Finished trainings are not repeated; other epochs or settings need another folder. Trunks differ in speed, so
compare their seconds too. Nothing is measured on test.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from parts import Part, claim_run, embed_part, parse_arguments, predict_part, read_parts

from plankton_embed.classifiers.prediction import WITHOUT_TRAINING
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import write_json
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.trainer import train_model

TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "objectives": {
        "triplet, semi-hard, margin .2": {"training.objective": "triplet"},
        "triplet, all, margin .1": {"training.objective": "triplet", "training.miner": "all", "training.margin": 0.1},
        "triplet, semi-hard, memory 1024": {"training.objective": "triplet", "training.memory": 1024},
        "multi_similarity": {"training.objective": "multi_similarity"},
        "supcon": {"training.objective": "supcon", "training.temperature": 0.1},
        "arcface": {"training.objective": "arcface"},
        "proxy_anchor": {"training.objective": "proxy_anchor"},
        "normalized_softmax": {"training.objective": "normalized_softmax"},
        "scheduled": {"training.objective": "scheduled"},
    },
    "sampling": {name: {"training.sampling": name} for name in ("balanced", "square_root", "natural")},
    "size": {name: {"network.size_inputs": name} for name in ("none", "pixels")},
    "trunks": {name: {"network.trunk": name} for name in ("inception_v3", "resnet18")},
}
METRICS = ("accuracy", "balanced_accuracy", "f1_macro")


def train_and_score(settings: Settings, parts: dict[str, Part], run: RunFolder, views: int) -> dict[str, float]:
    """Train one recipe; return its seconds and its scores on the validation images."""
    train = parts["train"]
    model = EmbeddingModel.build(settings.network, settings.preparation, settings.seed).to("auto")
    history = train_model(model, train.images, train.class_index, settings, run)
    scores = {"seconds": sum(record.seconds for record in history.records)}
    reference, query = (embed_part(model, parts[name], views, "auto") for name in ("train", "val"))
    for method in WITHOUT_TRAINING:
        metrics = score_predictions(query.label, predict_part(reference, query, method), n_bootstrap=0).metrics
        scores |= {f"{metric} {method}": metrics[metric] for metric in METRICS}
    return scores


def main() -> None:
    arguments = parse_arguments(
        __doc__ or "",
        table=(str, "objectives", f"what to compare: {', '.join(TABLES)}"),
        epochs=(int, 8, "epochs of every training"),
        seeds=(int, 3, "trainings of every recipe"),
        views=(int, 1, "views of an image to average"),
    )
    shared = ["network.weights=none", f"training.epochs={arguments.epochs}", *arguments.set]
    parts = read_parts(arguments.catalog, arguments.root, Settings.build(overrides=shared))
    rows = []
    for seed in range(arguments.seeds):
        for name, values in TABLES[arguments.table].items():
            recipe = [f"{key}={value}" for key, value in values.items()]
            settings = Settings.build(overrides=[*shared, f"seed={seed}", *recipe])
            run = RunFolder(arguments.output / arguments.table / f"{name.replace(' ', '_')}-{seed}")
            claim_run(run, settings, views=arguments.views)
            if not run.scores.exists():
                write_json(run.scores, train_and_score(settings, parts, run, arguments.views))
            rows.append({"recipe": name, "seed": seed, **json.loads(run.scores.read_text())})
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(arguments.output / f"{arguments.table}.csv", index=False)
    table = frame.drop(columns="seed").groupby("recipe", sort=False).agg(["mean", "std"])
    print(table.round(3).T.to_string())


if __name__ == "__main__":
    main()
