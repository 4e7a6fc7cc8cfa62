"""A training step: ours against a plain PyTorch step fed by a DataLoader, in turn in one run.

    pip install -e ".[cpu]"
    python benchmarks/train_step.py IMAGES
    python benchmarks/train_step.py IMAGES --trunk inception_v3 --side 107

IMAGES has one folder for each class; its 40 largest classes are used, prepared once before. The rival is the
trunk of torchvision as given, in float32, with the same loss, batches and AdamW; its `DataLoader(num_workers=2)` reads
prepared images one by one, augments each alone with our `augment`, and normalizes it. Each takes its turn three times.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import normalize

from plankton_embed.images.augmentation import augment
from plankton_embed.images.store import PreparedImages, prepare_images
from plankton_embed.network.compilation import compile_module
from plankton_embed.network.device import autocast, choose_device
from plankton_embed.network.embedding_net import build_net
from plankton_embed.network.trunks import IMAGENET_MEAN, IMAGENET_STD
from plankton_embed.settings import Settings
from plankton_embed.training.batches import Batch, BatchFeed, plan_epoch
from plankton_embed.training.collapse import active_share
from plankton_embed.training.objectives import build_objective
from plankton_embed.training.trainer import _build_optimizer, _gradient_norm

N_CLASSES = 40
PARTS = ("loading", "forward", "backward", "optimizer")


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Prepared images with their classes, each augmented alone."""

    def __init__(self, images: PreparedImages, class_index: np.ndarray, settings: Settings):
        self.images, self.class_index, self.settings = images, class_index, settings

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        pixels, background = (torch.from_numpy(part).float() for part in self.images.batch(np.array([row])))
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
        views = torch.zeros(1, dtype=torch.long)
        image = augment(pixels.permute(0, 3, 1, 2), background, views, self.settings.augmentation, generator)
        image = normalize(image[0].expand(3, -1, -1) / 255, IMAGENET_MEAN, IMAGENET_STD)
        return image, torch.tensor(self.class_index[row])


class Clock:
    """Adds up the seconds of the parts of a step."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, dict.fromkeys(PARTS, 0.0)
        self.last = time.perf_counter()

    def add(self, part: str) -> None:
        """Add the seconds since the last call to a part."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now


def run_rival(images: PreparedImages, codes: np.ndarray, settings: Settings, device: torch.device) -> Iterator[dict]:
    """Yield the seconds of each part for every further block of batches."""
    options = {"init_weights": False, "aux_logits": False} if settings.network.trunk == "inception_v3" else {}
    net = torchvision.models.get_model(settings.network.trunk, weights=None, **options)
    net.fc = torch.nn.Linear(net.fc.in_features, settings.network.dimension)
    net = net.to(device).train()
    objective = build_objective(settings.training, N_CLASSES, settings.network.dimension).to(device)
    parameters = [*net.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.training.learning_rate)
    data = OneByOne(images, codes, settings)
    while True:
        batches: list[Batch] = yield {}
        loader = iter(DataLoader(data, batch_sampler=[rows.tolist() for rows, _ in batches], num_workers=2))
        waiting = [next(loader)]  # the workers have started
        clock = Clock(device)
        for _ in batches:
            pixels, labels = waiting.pop() if waiting else next(loader)
            pixels, labels = pixels.to(device), labels.to(device)
            clock.add("loading")
            loss = objective(functional.normalize(net(pixels), dim=1), labels, 0.0)
            clock.add("forward")
            optimizer.zero_grad()
            loss.backward()
            clock.add("backward")
            optimizer.step()
            clock.add("optimizer")
        yield clock.seconds


def run_ours(images: PreparedImages, codes: np.ndarray, settings: Settings, device: torch.device) -> Iterator[dict]:
    """Yield the seconds of each part for every further block of batches, as in `training.trainer`."""
    net = build_net(settings.network, 0, settings.preparation.target_size).to(device).train()
    trunk = net.trunk
    if settings.training.compile == "on":
        trunk = compile_module(net.trunk, "on", "--compile", dynamic=False)
    objective = build_objective(settings.training, N_CLASSES, settings.network.dimension).to(device)
    optimizer = _build_optimizer(net, objective, settings.training)
    feed = BatchFeed(images, codes, images.log_sides("none"), device)
    generator = torch.Generator().manual_seed(0)
    while True:
        batches: list[Batch] = yield {}
        clock = Clock(device)
        for rows, views in batches:
            pixels, background, labels, sides = feed(rows)
            batch = augment(pixels, background, torch.from_numpy(views), settings.augmentation, generator)
            clock.add("loading")
            with autocast(device, settings.training.precision):
                vectors = net(batch, sides, trunk)
            loss = objective(vectors, labels, 0.0)
            active_share(vectors, labels, settings.training.margin)
            clock.add("forward")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clock.add("backward")
            norm = _gradient_norm(net) + _gradient_norm(objective)
            optimizer.found_inf = (~torch.isfinite(norm)).float()
            optimizer.step()
            clock.add("optimizer")
        yield clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--trunk", default="resnet18")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--steps", type=int, default=20, help="steps of each turn")
    parser.add_argument("--compile", choices=("on", "off"), default="off", help="of ours: compile the trunk")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    chosen = {"network.trunk": arguments.trunk, "network.weights": "none", "preparation.target_size": arguments.side}
    settings = Settings.build(overrides={**chosen, "training.compile": arguments.compile})
    folders = [path for path in arguments.images.iterdir() if path.is_dir()]
    folders = sorted(folders, key=lambda folder: -sum(1 for _ in folder.iterdir()))[:N_CLASSES]
    paths = [str(path) for folder in folders for path in sorted(folder.iterdir())[:120]]
    codes = np.unique([Path(path).parent.name for path in paths], return_inverse=True)[1].astype(np.int64)
    device, rng, found = choose_device(), np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as cache:
        images = prepare_images(paths, paths, settings.preparation, cache=cache, progress=False)
        runs = {"plain": run_rival(images, codes, settings, device), "ours": run_ours(images, codes, settings, device)}
        for turn in range(-1, arguments.turns):  # the first turn warms up
            for name, run in runs.items():
                batches = plan_epoch(codes, settings.training, rng)[: arguments.steps if turn >= 0 else 3]
                next(run)
                seconds = run.send(batches)
                n = sum(len(rows) for rows, _ in batches)
                steps = {part: 1000 * value / len(batches) for part, value in seconds.items()}
                if turn < 0 and name == "ours":
                    print(f"ours, the first {len(batches)} steps: {sum(seconds.values()):.1f} s")
                elif turn >= 0:
                    found.append({"name": name, "images_per_second": n / sum(seconds.values()), **steps})
    table = pd.DataFrame(found)
    medians = table.groupby("name").median()
    ratio = float(medians.loc["ours", "images_per_second"] / medians.loc["plain", "images_per_second"])
    batch = settings.training.classes_per_batch * settings.training.batch_images_per_class
    print(f"{arguments.trunk}, {arguments.side} px, batches of {batch}, {device}, {os.cpu_count()} cores; ms a step")
    print(table.round(1).to_string(index=False))
    print(f"ours / plain, medians: {ratio:.2f}")
    if arguments.output:
        arguments.output.write_text(json.dumps({"ratio": ratio, "turns": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
