"""Additions to `compare`: trunks pretrained on other classes, class mixes of systems A and B, the effect of A's leak.

    python benchmarks/comparison.py trunks ndsb121.csv ndsb40.csv --root ndsb -o runs/trunks
    python benchmarks/comparison.py mix ndsb121.csv --root ndsb -o runs/mix [--budget MINUTES]
    python benchmarks/comparison.py three ndsb121.csv --root ndsb -o runs/three [--budget MINUTES]
    python benchmarks/comparison.py leak ndsb121.csv --root ndsb -o runs/leak

`trunks` trains a ResNet-18 (as an embedding) and a VGG-19 (by softmax) on the classes of the first catalog that are not
in the second, with their test images, because these classes are not scored. The weights are for `compare ndsb40.csv
--weights resnet18=runs/trunks/resnet18 --weights vgg19=runs/trunks/vgg19`.

`mix` merges the 20 largest classes into one, thins the training images of the others geometrically down to 2, leaves
the test images as they are, and compares the systems trained from scratch, with A's growth of small classes among them.

`three` takes three groups of classes in the shares of system B (79, 19 and 3), and compares B's nets, its methods for
the rare class, trees on features, and the embedding. Without a budget, each trains as long as its own settings require.

`leak` trains system A's pixel MLP on a random 80 % of the images, small classes grown to 1,000, and scores it on the
rest: once divided before growing, once after, as A did, and also on the images of that rest without a grown copy in
training. The validation images for early stopping are separated in the same way, before or after.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models import vgg19_bn

import plankton_embed as pe
from plankton_embed.baselines.growing import divide_and_grow
from plankton_embed.baselines.inputs import read_pixels
from plankton_embed.baselines.net_classifier import NetClassifier
from plankton_embed.baselines.pixels import PixelMLP
from plankton_embed.baselines.systems import DEFAULT_SYSTEMS, SYSTEMS
from plankton_embed.classifiers.calibrated import LEFT_OUT_SHARE
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.settings import Settings
from plankton_embed.workflows.compare import compare

N_MERGED, LEAST, MAJORITY = 20, 2, "majority"
MIX_MINUTES = 8.0
MIX_SETTINGS = {"training.sampling": "square_root"}  # the advice of the README for rare classes
FROM_SCRATCH = [
    name for name in DEFAULT_SYSTEMS if not SYSTEMS[name].pretrained
]  # pretrained trunks have seen some of the images
OF_B = [name for name, system in SYSTEMS.items() if system.origin == "B"]
THREE = {"copepod": 79, "hydromedusae": 19, "shrimp": 3}  # first words of class names; the shares of B's classes
TRUNK_SETTINGS = {
    "network.weights": "none",  # the model of the package has seen the classes of the comparison
    "preparation.target_size": 64,
    "training.epochs": 60,
    "training.images_per_class": 60,
    "training.sampling": "square_root",
}


def select_outside(whole: ImageCatalog, other: ImageCatalog) -> ImageCatalog:
    """Keep the classes that `other` does not have; their test images become training images."""
    outside = whole.with_classes(exclude=other.classes)
    return ImageCatalog(outside.frame.assign(split=outside.frame["split"].replace("test", "train")))


@dataclass(kw_only=True, eq=False, repr=False)
class NormalisedVGG(NetClassifier):
    """A VGG-19 that learns from scratch in few epochs: with batch norm, without dropout, with average pooling.

    `start`: weights of a trained one. `to_plain` returns the weights of a plain VGG-19 that computes the same.
    """

    start: dict[str, Tensor] | None = None

    def _design(self, shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        vgg = vgg19_bn()
        mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        dense = nn.Sequential(nn.Linear(512, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU())
        return nn.Sequential(
            OrderedDict(features=vgg.features, mean=mean, dense=dense, head=nn.Linear(4096, n_classes))
        )

    def _start_weights(self, net: nn.Sequential) -> None:
        if self.start is not None:
            net.load_state_dict(self.start)

    def to_plain(self) -> dict[str, Tensor]:
        """Return the weights of the plain VGG-19, without its last layer, by torchvision's names."""
        net = self.net_.cpu().eval()
        layers: list[nn.Module] = []
        for layer in net.features:
            if isinstance(layer, nn.BatchNorm2d):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        first, second = net.dense[0], net.dense[2]
        cells = first.weight[:, :, None].expand(-1, -1, 49) / 49  # VGG has a weight for each of 7 × 7 cells
        parts = {"features": nn.Sequential(*layers), "classifier.3": second}
        weights = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
        weights |= {"classifier.0.weight": cells.flatten(1), "classifier.0.bias": first.bias}
        return {name: value.detach().contiguous() for name, value in weights.items()}


def train_vgg(catalog: ImageCatalog, folder: Path, minutes: float) -> None:
    """Train a VGG-19 from scratch on system D's three channels: small images first, then the size of the comparison."""
    labels, start = np.array(catalog.labels, dtype=str), None
    train, val = ((catalog.frame["split"] == name).to_numpy() for name in ("train", "val"))
    for side, rate in ((32, 5e-4), (64, 2e-4)):
        pixels = read_pixels(catalog, side, side, "three")
        net = NormalisedVGG(
            start=start, scaling="imagenet", turn=True, epochs=1000, batch_size=32, learning_rate=rate, watch="loss",
            patience=None, seconds=30 * minutes, progress=True,
        )  # fmt: skip
        net.fit(pixels[train], labels[train], validation=(pixels[val], labels[val]))
        print(net.history_.to_string())
        start = net.net_.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(net.to_plain(), folder / "weights.safetensors")


def thin_out(catalog: ImageCatalog, n_merged: int = N_MERGED, least: int = LEAST, seed: int = 0) -> ImageCatalog:
    """Merge the largest classes into one, and keep a share of the training images of each other class.

    The shares fall geometrically with the rank of the class, from all of the largest down to `least` images of the
    last. Images of val are thinned by the same share, but every class keeps one; those of test stay.
    """
    frame = catalog.frame
    order = frame["label"].value_counts().index
    rare = order[n_merged:]
    frame = frame.assign(label=frame["label"].where(frame["label"].isin(rare), MAJORITY))
    train = frame[frame["split"] == "train"]["label"].value_counts()
    wanted = np.geomspace(train[rare[0]], least, len(rare)).round()
    shares = {name: min(1.0, n / train[name]) for name, n in zip(rare, wanted, strict=True)}
    sizes = frame.groupby(["label", "split"])["label"].transform("size")
    most = np.maximum((sizes * frame["label"].map(shares).fillna(1.0)).round(), 1)
    most = most.where((frame["split"] != "train") | (frame["label"] == MAJORITY), np.maximum(most, least))
    return _keep_some(frame, most.where(frame["split"] != "test", np.inf), seed)


def pick_three(catalog: ImageCatalog, seed: int = 0) -> ImageCatalog:
    """Take the groups of classes of THREE as three classes, each split thinned to the shares in THREE."""
    frame = catalog.frame.assign(label=catalog.frame["label"].str.split("_").str[0])
    frame = frame[frame["label"].isin(THREE)]
    unit = frame["split"].map(frame[frame["label"] == "copepod"]["split"].value_counts()) / THREE["copepod"]
    return _keep_some(frame, (unit * frame["label"].map(THREE)).round(), seed)


def _keep_some(frame: pd.DataFrame, most: pd.Series, seed: int) -> ImageCatalog:
    """Keep at random at most `most` images of each class and split."""
    rank = frame.sample(frac=1, random_state=seed).groupby(["label", "split"]).cumcount().reindex(frame.index)
    return ImageCatalog(frame[rank < most].reset_index(drop=True))


def compare_rare(images: ImageCatalog, output: Path, systems: list[str], budget: float | None) -> None:
    """Compare on classes of unequal size; also print how often the largest class is predicted."""
    counts = images.split("train").frame["label"].value_counts()
    print(f"{len(counts)} classes, {counts.sum()} training images: {counts.iloc[0]} of {counts.index[0]}, then "
          f"{counts.iloc[1]} down to {counts.min()}")  # fmt: skip
    settings = Settings.build("quick", overrides=MIX_SETTINGS)
    found = compare(images, output, only=systems, settings=settings, budget=budget)
    rarest = counts.index[-(len(counts) // 3) :]
    rows = {}
    for name, system in found.runs.set_index("name")["system"].items():
        folder = output / "systems" / system / "seed_0"
        inner = folder / str(name).removeprefix(f"{system}_")
        predictions = pd.read_csv((inner if inner.is_dir() else folder) / "predictions.csv")
        right = predictions["label"] == predictions["true_label"]
        rows[name] = {
            "predicted_largest": (predictions["label"] == counts.index[0]).mean(),
            "recall_rarest": right.groupby(predictions["true_label"]).mean().reindex(rarest).mean(),
            "never_predicted": len(set(predictions["true_label"]) - set(predictions["label"])),
        }
    table = found.summary.set_index("name")[["accuracy", "f1_macro"]].join(pd.DataFrame(rows).T)
    table.to_csv(output / "rare.csv")
    share = (predictions["true_label"] == counts.index[0]).mean()
    print(f"test images of {counts.index[0]}: {share:.3f}; rarest: mean over {len(rarest)} classes")
    print(table.round(3).to_string())


def measure_leak(catalog: ImageCatalog, output: Path) -> None:
    """Score the pixel MLP with and without A's leak; write `leak.csv`."""
    pixels, labels = read_pixels(catalog, 64, 48), np.array(catalog.labels, dtype=str)
    rows = []
    for leak in (False, True):
        train, test = divide_and_grow(pixels, labels, leak=leak)
        validation = None  # a tenth of the grown images is split off, copies included
        if not leak:
            own = np.unique(train.sources)
            train, validation_part = divide_and_grow(pixels[own], labels[own], LEFT_OUT_SHARE)
            validation = validation_part.images, validation_part.labels
        net = PixelMLP(progress=True).fit(train.images, train.labels, validation)
        predicted = net.predict(test.images)
        parts = {"all test images": np.full(len(test), True)}
        if leak:
            parts["without a copy in training"] = ~np.isin(test.sources, train.sources)
        for part, mask in parts.items():
            if mask.any():
                scores = score_predictions(test.labels[mask], predicted[mask], n_bootstrap=0)
                rows.append({"leak": leak, "part": part, "n": scores.n_images, **scores.metrics})
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "leak.csv", index=False)
    print(table.round(3).to_string(index=False))


def main() -> None:
    """Read the arguments and do one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("trunks", "mix", "three", "leak"))
    parser.add_argument("catalogs", nargs="+", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--budget", type=float, help=f"mix ({MIX_MINUTES:g}), three (none): minutes for each system")
    parser.add_argument("--minutes", type=float, default=60.0, help="trunks: minutes for the VGG-19")
    parser.add_argument("--only", nargs="*", default=(), help="mix, three: systems; trunks: resnet18 or vgg19")
    arguments = parser.parse_args()
    whole = ImageCatalog.load(arguments.catalogs[0], root=arguments.root)
    if arguments.part == "trunks":
        outside = select_outside(whole, ImageCatalog.load(arguments.catalogs[1], root=arguments.root))
        folder = arguments.output / "resnet18"
        wanted = arguments.only or ("resnet18", "vgg19")
        if "resnet18" in wanted:
            pe.train(outside, folder, settings=TRUNK_SETTINGS, resume=(folder / "settings.yaml").exists())
        if "vgg19" in wanted:
            train_vgg(outside, arguments.output / "vgg19", arguments.minutes)
        return
    if arguments.part == "leak":
        measure_leak(whole, arguments.output)
        return
    if arguments.part == "mix":
        systems = [*FROM_SCRATCH, "four_conv_grown", "small_net_8_adam"]
        budget = MIX_MINUTES if arguments.budget is None else arguments.budget
        compare_rare(thin_out(whole), arguments.output, arguments.only or systems, budget)
        return
    systems = [*OF_B, "boosted_trees", "embedding"]
    compare_rare(pick_three(whole), arguments.output, arguments.only or systems, arguments.budget)


if __name__ == "__main__":
    main()
