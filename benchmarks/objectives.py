"""Every objective at equal budget over several seeds: the table of the README.

    python benchmarks/objectives.py ndsb40.csv --root ndsb -o runs/objectives --epochs 12 --seeds 3

Validation images are named by the vectors of the training images, by nearest centroid and by kNN (k = 10), the latter
also with eight views averaged. Trainings that are finished are not repeated. Nothing is measured on test.
"""

from __future__ import annotations

import json

import pandas as pd
from parts import name_part, parse_arguments, read_parts

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import write_json
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.trainer import train_model

VARIANTS = {
    "triplet, semi-hard, margin .2": {"objective": "triplet"},
    "triplet, all, margin .1": {"objective": "triplet", "miner": "all", "margin": 0.1},
    "triplet, semi-hard, memory 1024": {"objective": "triplet", "memory": 1024},
    "multi_similarity": {"objective": "multi_similarity"},
    "supcon": {"objective": "supcon", "temperature": 0.1},
    "arcface": {"objective": "arcface"},
    "proxy_anchor": {"objective": "proxy_anchor"},
    "normalized_softmax": {"objective": "normalized_softmax"},
    "scheduled": {"objective": "scheduled"},
}


def main() -> None:
    arguments = parse_arguments(
        __doc__ or "",
        epochs=(int, 12, "epochs of every training"),
        seeds=(int, 3, "trainings of every objective"),
        only=(str, "", "names of objectives, comma between; by default all"),
    )
    chosen = {name: v for name, v in VARIANTS.items() if not arguments.only or name in arguments.only.split(",")}
    shared = ["network.weights=none", f"training.epochs={arguments.epochs}", *arguments.set]
    parts = read_parts(arguments.catalog, arguments.root, Settings.build(overrides=shared))
    train, val = parts["train"], parts["val"]
    rows = []
    for seed in range(arguments.seeds):
        for name, values in chosen.items():
            variant = [f"training.{key}={value}" for key, value in values.items()]
            settings = Settings.build(overrides=[*shared, f"seed={seed}", *variant])
            run = RunFolder(arguments.output / f"{name.replace(' ', '_')}-{seed}")
            if not run.scores.exists():
                model = EmbeddingModel.build(settings.network, settings.preparation, seed).to("auto")
                history = train_model(model, train.images, train.class_index, settings, run)
                scores = {"seconds": sum(record.seconds for record in history.records)}
                for column, method, views in (("centroid", "centroid", 1), ("knn", "knn", 1), ("knn_8", "knn", 8)):
                    names = name_part(model, train, val, method, views, precision="auto")
                    scores[column] = float((names == val.label).mean())
                write_json(run.scores, scores)
            rows.append({"objective": name, "seed": seed, **json.loads(run.scores.read_text())})
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(arguments.output / "objectives.csv", index=False)
    table = frame.groupby("objective", sort=False)[["centroid", "knn", "knn_8", "seconds"]].agg(["mean", "std"])
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
