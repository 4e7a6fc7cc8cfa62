"""Instruments that the models of the package have not seen: pixels, a model as it is, adapted, and presets.

    python benchmarks/instruments.py zooscan ifcb_groups -o runs/instruments

Each argument is a folder of images, in folders named after their classes. With every seed, 60 % of the images of each
class are for training, 10 % for choosing a classifier (val), and 30 % for the test. The scores are balanced accuracies
on the test images, by the nearest centroid, kNN and the MLP; `best` is the one of the three that is best on val.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

import plankton_embed as pe
from plankton_embed.images.preparation import prepare_batch
from plankton_embed.images.splits import split_catalog
from plankton_embed.settings import PreparationSettings, Settings

METHODS = ("centroid", "knn", "mlp")
FRACTIONS = (0.6, 0.1, 0.3)
PIXELS = PreparationSettings(target_size=32, polarity="dark_on_light", scaling="fill")


def read_folder(folder: Path, seed: int) -> pe.ImageCatalog:
    """Return the images of a folder, labelled by the folders that they are in, and split."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".tif"))
    frame = pd.DataFrame({"path": [str(path) for path in paths], "label": [path.parent.name for path in paths]})
    frame["object_id"] = [path.relative_to(folder).as_posix() for path in paths]
    return split_catalog(pe.ImageCatalog(frame), FRACTIONS, seed=seed)


def score_pixels(catalog: pe.ImageCatalog) -> dict[str, float]:
    """Return the balanced accuracy of the nearest training image, by the pixels of small squares."""
    squares = {}
    for name in ("train", "test"):
        pixels = prepare_batch(catalog.split(name).paths, PIXELS).pixels.astype(np.float32)
        squares[name] = pixels.reshape(len(pixels), -1)
    nearest = KNeighborsClassifier(1).fit(squares["train"], catalog.split("train").labels)
    truth = catalog.split("test").labels
    return {"knn": float(balanced_accuracy_score(truth, nearest.predict(squares["test"])))}


def score_model(catalog: pe.ImageCatalog, folder: Path, is_adapted: bool) -> dict[str, float]:
    """Return the balanced accuracies in the space of the model of the package, as it is or adapted without labels."""
    model = pe.EmbeddingModel.load("isiis-resnet18")
    if is_adapted:
        model = pe.adapt(model, catalog.split("train"), folder, overwrite=True)
    train, val, test = (pe.embed(model, catalog.split(name)) for name in ("train", "val", "test"))
    found = {name: float(pe.evaluate(train, test, name).scores.metrics["balanced_accuracy"]) for name in METHODS}
    return found | {"best": found[choose_best(train, val)], "n_seen": 0}


def choose_best(train: pe.EmbeddingTable, val: pe.EmbeddingTable) -> str:
    """Return the classifier that is best on val."""
    return max(METHODS, key=lambda name: pe.evaluate(train, val, name).scores.metrics["balanced_accuracy"])


def score_run(catalog: pe.ImageCatalog, folder: Path, settings: Settings) -> dict[str, float]:
    """Return the balanced accuracies of a run, and of its classifier that is best on val."""
    done = pe.run(catalog, folder, settings=settings)
    found = {name: float(done.scores[name]["balanced_accuracy"]) for name in METHODS}
    best = choose_best(done.vectors["train"], done.vectors["val"])
    return found | {"best": found[best], "n_seen": done.scores["n_seen"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0, help="of preset quick")
    parser.add_argument("--rows", nargs="+", help="some of the rows")
    arguments = parser.parse_args()

    def trained(preset: str, **changes: Any) -> Callable[[pe.ImageCatalog, Path, int], dict[str, float]]:
        return lambda catalog, folder, seed: score_run(
            catalog, folder, Settings.build(preset, overrides={"seed": seed, **changes})
        )

    minutes = {"training.minutes": arguments.minutes}
    rows: dict[str, Callable[[pe.ImageCatalog, Path, int], dict[str, float]]] = {
        "pixels": lambda catalog, folder, seed: score_pixels(catalog),
        "as it is": lambda catalog, folder, seed: score_model(catalog, folder, False),
        "adapted": lambda catalog, folder, seed: score_model(catalog, folder, True),
        "instant": trained("instant"),
        "instant_inception": trained("instant", **{"network.trunk": "inception_v3", "preparation.target_size": 139}),
        "quick_scratch": trained("quick", **minutes, **{"network.weights": "none", "preparation.target_size": 64}),
        "quick": trained("quick", **minutes),
    }
    for source in arguments.folders:
        for name in arguments.rows or rows:
            for seed in range(arguments.seeds):
                folder = arguments.output / source.name / f"{name}_{seed}"
                file = folder.with_suffix(".json")
                if not file.exists():
                    scores = rows[name](read_folder(source, seed), folder, seed)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(scores))
    print(f"| images | row | {' | '.join((*METHODS, 'best', 'n_seen'))} |")
    print("|---" * 7 + "|")
    for source in arguments.folders:
        for name in rows:
            files = sorted((arguments.output / source.name).glob(f"{name}_[0-9].json"))
            if files:
                found = pd.DataFrame([json.loads(file.read_text()) for file in files])
                cells = [
                    f"{found[key].mean():.3f} ({found[key].std():.3f})" if key in found else "–"
                    for key in (*METHODS, "best", "n_seen")
                ]
                print(f"| {source.name} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
