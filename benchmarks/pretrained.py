"""Make the models that come with the package again: trained on the train part of NDSB-121, the best epoch by val.

    pip install -e ".[cpu]"
    python benchmarks/pretrained.py ndsb121.csv --root ndsb -o runs/pretrained --name isiis-resnet18

Training goes from small to large images, in stages; each is a run in the output folder, which starts from the one
before it. The same command continues after an interruption. Then the weights are rounded to int8, and the model is
written to a folder of its name, with a card that has its scores on the test part.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import plankton_embed as pe
from plankton_embed.network.weight_files import find_scale, to_int8
from plankton_embed.settings import Settings

SHARED = {
    "preparation.polarity": "dark_on_light",
    "preparation.scaling": "fill",
    "training.sampling": "square_root",
    "training.steps_per_epoch": 200,
    "training.pretrained_rate": 1.0,
    "augmentation.zoom": 0.3,
}
STAGES: dict[str, list[dict[str, Any]]] = {  # each from the weights of the one before it; later ones keep its settings
    "isiis-resnet18": [  # an hour and a half, and four hours, of two cores without bf16
        {"network.trunk": "resnet18", "preparation.target_size": 64, "training.epochs": 16},
        {"preparation.target_size": 96, "training.epochs": 46, "training.learning_rate": 2e-3},
    ],
    # from these sides the network's unpadded layers arrive at 1 x 1, 2 x 2 and 3 x 3 without leaving out an edge
    "isiis-inception-v3": [  # half an hour, an hour and a half, and 50 minutes, of two cores with bf16
        {"network.trunk": "inception_v3", "preparation.target_size": 75, "training.epochs": 24},
        {"preparation.target_size": 107, "training.epochs": 46, "training.learning_rate": 2e-3},
        {"preparation.target_size": 139, "training.epochs": 16, "training.learning_rate": 1e-3},
    ],
}
METHODS = ("centroid", "knn", "mlp")
CARD = """\
# {name}

Maps an image of plankton to {dimension} numbers; similar images have a small Euclidean distance. {trunk}, {side}×{side}
pixels, model {hash}. It comes with plankton_embed:

```python
model = pe.EmbeddingModel.load("{name}")
vectors = model.embed(images)  # dark or light background, any size
```

## Training

- Images: the train part ({n_train} images) of {n_classes} classes of PlanktonSet 1.0, taken by the In Situ
  Ichthyoplankton Imaging System (ISIIS) in the Straits of Florida in 2014: shadow images, dark animals on a light
  background. Cowen, R. K., Sponaugle, S., Robinson, K., Luo, J. (2015), *PlanktonSet 1.0*, NOAA National Centers for
  Environmental Information, doi:10.7289/V5D21VJD. The data are in the public domain; please cite them.
- No pretrained weights. {stages}.
  In each stage first proxies (normalized softmax), then triplets; images of a class are drawn in proportion to the
  square root of its size. The epoch was chosen on the val part. Then the weights were rounded to int8, those of the
  first convolution and of the head to bfloat16. `benchmarks/pretrained.py` has every setting.
- `training_images.npy` has the hashes of the training images. Commands that score images warn if they are among them
  (with equal pixels: copies saved as JPEG again are not found).

## Scores

On the test part ({n_test} images), from the vectors of the train part:

| predicted by | accuracy | balanced accuracy | macro F1 |
|---|---|---|---|
{scores}

## Limits

- One instrument, one region, one cruise. On images of other instruments the vectors separate classes less well: fit the
  head to your own images (preset `instant` with `network.trunk={trunk}` and `preparation.target_size={side}`), or train
  the whole network (presets `quick`, `cpu` and `gpu`), and look at the scores.
- The labels of PlanktonSet are partly wrong, and some classes are mixed (`unknown_blobs_and_smudges`, `artifacts`).
- All images are scaled to fill the square, so that the vectors do not contain the size of the animal.

## Classes

F1 and number of images on the test part, predicted by kNN.

| class | F1 | images |
|---|---|---|
{classes}
"""


def round_weights(model: pe.EmbeddingModel) -> None:
    """Round the weights to int8, those of the first convolution and of the head to bfloat16: a fourth of the file."""
    weights = [(name, value) for name, value in model.net.named_parameters() if value.ndim > 1]
    for number, (name, value) in enumerate(weights):
        is_sensitive = number == 0 or name.startswith("head.")
        value.data = value.data.bfloat16().float() if is_sensitive else round_to_int8(value.data)


def round_to_int8(weights: Tensor) -> Tensor:
    """Return weights that are whole numbers times a scale, in each output channel the best of five scales."""
    scales = torch.stack([(share * find_scale(weights)).bfloat16().float() for share in (1, 0.95, 0.9, 0.85, 0.8)])
    near = torch.stack([to_int8(weights, scale) * scale for scale in scales])
    best = (near - weights).square().flatten(2).sum(-1).argmin(0)  # (channels,)
    return near[best, torch.arange(len(best))]


def forget_paths(model: pe.EmbeddingModel, start: str) -> None:
    """Replace the path of the starting weights by their name."""
    model.network = model.network.model_copy(update={"weights": "none"})
    model.training["settings"]["network.weights"] = start


def write_card(model: pe.EmbeddingModel, name: str, catalog: pe.ImageCatalog, stages: list[dict[str, Any]]) -> str:
    """Return the card of a model, with its scores on the test part of the catalog."""
    train, val, test = (pe.embed(model, catalog.split(part)) for part in ("train", "val", "test"))
    found = {method: pe.evaluate(train, test, method, calibration=val).scores for method in METHODS}
    measures = ("accuracy", "balanced_accuracy", "f1_macro")
    rows = [" | ".join([method, *(f"{found[method].metrics[key]:.3f}" for key in measures)]) for method in METHODS]
    per_class: pd.DataFrame = found["knn"].per_class
    classes = [f"| {row.label} | {row.f1:.2f} | {row.support} |" for row in per_class.itertuples()]
    sizes = [f"{stage['training.epochs']} epochs at {stage['preparation.target_size']} px" for stage in stages]
    return CARD.format(
        name=name,
        dimension=model.dimension,
        trunk=model.network.trunk,
        side=model.preparation.target_size,
        hash=model.hash,
        n_train=f"{len(train):,}",
        n_classes=len(model.classes),
        n_test=f"{len(test):,}",
        stages=", then ".join(sizes),
        scores="\n".join(f"| {row} |" for row in rows),
        classes="\n".join(classes),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--root", type=Path, help="folder where the paths of the catalog start")
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--name", choices=sorted(STAGES), default="isiis-resnet18")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    start, stages = "none", STAGES[arguments.name]
    for number, stage in enumerate(stages, 1):
        folder = arguments.output / f"{arguments.name}-stage-{number}"
        done = pe.train(
            arguments.catalog,
            folder,
            settings=Settings.build("cpu", overrides={**SHARED, **stages[0], **stage, "network.weights": start}),
            root=arguments.root,
            resume=(folder / "settings.yaml").exists(),
            device=arguments.device,
        )
        last, start = Path(start).name, str(folder)
    model = done.model.to(torch.device("cpu"))
    round_weights(model)
    forget_paths(model, last)
    model.card = write_card(model, arguments.name, pe.ImageCatalog.load(done.folder.catalog), stages)
    print(model.save(arguments.output / arguments.name))


if __name__ == "__main__":
    main()
