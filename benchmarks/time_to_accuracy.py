"""How much sooner the default recipe reaches the accuracy of the recipe of 2019: both from scratch, in one run.

    python benchmarks/time_to_accuracy.py ndsb40.csv --root ndsb -o runs/time_to_accuracy

The rival is `training.objective=reference_2019`, exactly. Every `--every` seconds of training both are scored: the
classes of validation images are predicted from the centroids of the training images, after the batch norms are measured
again. The time for scoring does not count. Ours is trained with the rival's trunk, Inception-v3, and with that of the
settings.
"""

from __future__ import annotations

import contextlib
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from parts import Part, embed_part, parse_arguments, predict_part, read_parts
from torch import Tensor

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import refuse_overwrite
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.batches import BatchFeed
from plankton_embed.training.objectives import Objective, build_objective
from plankton_embed.training.trainer import STATISTICS_IMAGES, measure_statistics, train_model


class TimeIsUpError(Exception):
    """Ends a training."""


class TimedObjective(Objective):
    """An objective that scores the space at intervals and stops at a time limit."""

    def __init__(self, settings: Settings, model: EmbeddingModel, parts: dict[str, Part], every: float, limit: float):
        super().__init__()
        train = parts["train"]
        n_classes = int(train.class_index.max()) + 1
        self.objective = build_objective(settings.training, n_classes, model.dimension)
        self.feed = BatchFeed(train.images, train.class_index, train.images.log_sides("none"), model.device)
        self.settings, self.model, self.parts = settings, model, parts
        self.every, self.limit = every, limit
        self.scored: list[tuple[float, float]] = []
        self.started = time.perf_counter()

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        seconds = time.perf_counter() - self.started
        if seconds >= self.every * (len(self.scored) + 1):
            rows = np.random.default_rng(len(self.scored)).permutation(len(self.parts["train"].label))
            model = replace(self.model, net=deepcopy(self.model.net))  # the current training step needs the original
            measure_statistics(model.net, self.feed, rows[:STATISTICS_IMAGES], self.settings.training)
            reference, query = (embed_part(model, self.parts[name], precision="auto") for name in ("train", "val"))
            accuracy = float((predict_part(reference, query, "centroid") == query.label).mean())
            self.scored.append((seconds, accuracy))
            print(f"{seconds:7.0f} s  {accuracy:.3f}", flush=True)
            self.started = time.perf_counter() - seconds
            if seconds >= self.limit:
                raise TimeIsUpError
        loss: Tensor = self.objective(vectors, labels, progress)
        return loss


def train_for(settings: Settings, parts: dict[str, Part], output: Path, every: float, minutes: float) -> pd.DataFrame:
    """Train from scratch until the time is up; return validation accuracy over seconds of training."""
    model = EmbeddingModel.build(settings.network, settings.preparation, settings.seed).to("auto")
    train = parts["train"]
    timed = TimedObjective(settings, model, parts, every, 60 * minutes)
    with contextlib.suppress(TimeIsUpError):
        train_model(
            model, train.images, train.class_index, settings, RunFolder(output), objective=timed, progress=False
        )
    return pd.DataFrame(timed.scored, columns=["seconds", "centroid_accuracy"])


def main() -> None:
    arguments = parse_arguments(
        __doc__ or "",
        minutes=(float, 30.0, "training minutes of the recipe of 2019"),
        every=(float, 20.0, "seconds between scores"),
    )
    shared = ["network.weights=none", "training.checkpoint_minutes=1e9"]
    pixels = [change for change in arguments.set if change.startswith("preparation.")]  # the same for both
    rival_settings = Settings.build(
        overrides=[*shared, *pixels, "training.objective=reference_2019", "training.epochs=10000"]
    )
    our_settings = Settings.build(overrides=[*shared, *arguments.set])
    refuse_overwrite(arguments.output)
    parts = read_parts(arguments.catalog, arguments.root, our_settings)

    minutes, trunks = arguments.minutes, {rival_settings.network.trunk, our_settings.network.trunk}
    print("reference_2019")
    curves = {"reference_2019": train_for(rival_settings, parts, arguments.output / "rival", arguments.every, minutes)}
    best = float(curves["reference_2019"]["centroid_accuracy"].max())
    verdicts = []
    for trunk in sorted(trunks):
        name = f"ours, {trunk}"
        print(name)
        settings = Settings.build(overrides=[*shared, *arguments.set, f"network.trunk={trunk}"])
        curves[name] = train_for(settings, parts, arguments.output / trunk, arguments.every, minutes / 10)
        reached = curves[name].query("centroid_accuracy >= @best")["seconds"]
        share = f"after {reached.iloc[0]:.0f} s" if len(reached) else f"not in {6 * minutes:.0f} s"
        verdicts.append(f"{name}: {best:.3f} {share}")
    table = pd.concat(curves, names=["recipe"]).reset_index(level="recipe")
    arguments.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.output / "time_to_accuracy.csv", index=False)
    print(f"reference_2019: best {best:.3f} in {60 * minutes:.0f} s", *verdicts, sep="\n")


if __name__ == "__main__":
    main()
