"""How much sooner the default recipe reaches what the recipe of 2019 reaches: both from scratch, in one run.

    python benchmarks/time_to_accuracy.py ndsb40.csv --root ndsb -o runs/time_to_accuracy

The rival is `training.objective=reference_2019`, to the letter. Every `--every` seconds of training both are scored:
validation images named by the centroids of the training images. The time that scoring takes counts for neither.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pandas as pd
from parts import Part, embed_part, name_part, parse_arguments, read_parts
from torch import Tensor

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import refuse_overwrite
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.objectives import Objective, build_objective
from plankton_embed.training.trainer import train_model


class TimeIsUpError(Exception):
    """Ends a training."""


class TimedObjective(Objective):
    """An objective that looks at the clock and, now and then, at the space."""

    def __init__(self, objective: Objective, model: EmbeddingModel, parts: dict[str, Part], every: float, limit: float):
        super().__init__()
        self.objective, self.model, self.parts = objective, model, parts
        self.every, self.limit = every, limit
        self.scored: list[tuple[float, float]] = []
        self.started = time.perf_counter()

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        seconds = time.perf_counter() - self.started
        if seconds >= self.every * (len(self.scored) + 1):
            known, asked = (embed_part(self.model, self.parts[name], precision="auto") for name in ("train", "val"))
            self.model.net.train()
            accuracy = float((name_part(known, asked, "centroid") == asked.label).mean())
            self.scored.append((seconds, accuracy))
            print(f"{seconds:7.0f} s  {accuracy:.3f}", flush=True)
            self.started = time.perf_counter() - seconds
            if seconds >= self.limit:
                raise TimeIsUpError
        return self.objective(vectors, labels, progress)


def train_for(settings: Settings, parts: dict[str, Part], output: Path, every: float, limit: float) -> pd.DataFrame:
    """Train from scratch until the time is up; return validation accuracy over seconds of training."""
    model = EmbeddingModel.build(settings.network, settings.preparation, settings.seed).to("auto")
    known = parts["train"]
    objective = build_objective(settings.training, int(known.class_index.max()) + 1, model.dimension)
    timed = TimedObjective(objective, model, parts, every, limit)
    with contextlib.suppress(TimeIsUpError):
        train_model(
            model, known.images, known.class_index, settings, RunFolder(output), objective=timed, progress=False
        )
    return pd.DataFrame(timed.scored, columns=["seconds", "centroid_accuracy"])


def main() -> None:
    arguments = parse_arguments(
        __doc__ or "",
        minutes=(float, 30.0, "what the recipe of 2019 is given"),
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

    print("reference_2019")
    rival = train_for(rival_settings, parts, arguments.output / "rival", arguments.every, 60 * arguments.minutes)
    best = rival.loc[rival["centroid_accuracy"].idxmax()]
    print(f"best {best['centroid_accuracy']:.3f} after {best['seconds']:.0f} s\n\nours")
    ours = train_for(our_settings, parts, arguments.output / "ours", arguments.every, 6 * arguments.minutes)
    reached = ours[ours["centroid_accuracy"] >= best["centroid_accuracy"]]
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, scored in (("rival", rival), ("ours", ours)):
        scored.to_csv(arguments.output / f"{name}.csv", index=False)
    if len(reached) == 0:
        print(f"ours did not reach {best['centroid_accuracy']:.3f} in {6 * arguments.minutes:.0f} s")
        return
    seconds = reached["seconds"].iloc[0]
    print(
        f"ours reaches {best['centroid_accuracy']:.3f} after {seconds:.0f} s: 1/{60 * arguments.minutes / seconds:.1f}"
    )


if __name__ == "__main__":
    main()
