"""Make the models that come with the package again: trained on the train part of NDSB-121, the best epoch by val.

    pip install -e ".[cpu]"
    python benchmarks/pretrained.py ndsb121.csv --root ndsb -o runs/pretrained --name isiis-resnet18

Training goes from small to large images, in stages; each is a run in the output folder, which starts from the one
before it. The same command continues after an interruption. At last the weights are rounded to bfloat16, and the model
is written to a folder of its name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import plankton_embed as pe
from plankton_embed.settings import Settings

SHARED = {
    "preparation.polarity": "dark_on_light",
    "preparation.scaling": "fill",
    "training.sampling": "square_root",
    "training.steps_per_epoch": 200,
    "training.epochs": 1000,  # the minutes end it
    "augmentation.zoom": 0.3,
}
STAGES: dict[str, list[dict[str, Any]]] = {  # minutes on two cores of an AMD EPYC in float32
    "isiis-resnet18": [
        {"network.trunk": "resnet18", "preparation.target_size": 64, "training.minutes": 90},
        {
            "network.trunk": "resnet18",
            "preparation.target_size": 96,
            "training.minutes": 120,
            "training.learning_rate": 1e-3,
        },
    ],
}


def round_weights(model: pe.EmbeddingModel) -> None:
    """Round the weights of convolutions and linear layers to bfloat16, in which a file of them is half as large."""
    for value in model.net.parameters():
        if value.ndim > 1:
            value.data = value.data.bfloat16().float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--root", type=Path, help="folder where the paths of the catalog start")
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--name", choices=sorted(STAGES), default="isiis-resnet18")
    parser.add_argument("--minutes", type=float, default=1.0, help="factor of the minutes of every stage")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    start = "none"
    for number, stage in enumerate(STAGES[arguments.name], 1):
        folder = arguments.output / f"{arguments.name}-stage-{number}"
        changes = {**SHARED, **stage, "network.weights": start}
        changes["training.minutes"] = stage["training.minutes"] * arguments.minutes
        done = pe.train(
            arguments.catalog,
            folder,
            settings=Settings.build(overrides=changes),
            root=arguments.root,
            resume=(folder / "settings.yaml").exists(),
            device=arguments.device,
        )
        start = str(folder)
    model = done.model.to(torch.device("cpu"))
    round_weights(model)
    print(model.save(arguments.output / arguments.name))


if __name__ == "__main__":
    main()
