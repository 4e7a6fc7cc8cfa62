"""One system of a comparison, in a process of its own: train it, have it name the test images, measure both."""

from __future__ import annotations

import json
import logging
import pickle
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from plankton_embed.baselines.growing import divide_and_grow, grow_classes
from plankton_embed.baselines.inputs import read_pixels
from plankton_embed.baselines.losses import LOSSES_FILE, highest_losses, write_highest_losses
from plankton_embed.baselines.net_classifier import WEIGHTS_FILE as NET_WEIGHTS_FILE
from plankton_embed.baselines.systems import SYSTEMS, System
from plankton_embed.baselines.tabular import EmbeddingAndFeaturesClassifier
from plankton_embed.classifiers.calibrated import HELD_OUT
from plankton_embed.classifiers.calibration import LEAST_PROBABILITY, fit_temperature
from plankton_embed.classifiers.prediction import METHODS, fit_classifier, fitting_k
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.errors import DependencyError, InputError, PlanktonEmbedError
from plankton_embed.images.catalog import SPLITS, ImageCatalog, content_hashes
from plankton_embed.images.shape_features import measure_shapes
from plankton_embed.images.splits import is_learnable
from plankton_embed.images.store import PreparedImages, prepare_images
from plankton_embed.output import write_frame, write_json
from plankton_embed.plots.confusion import draw_confusion
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.net_curves import draw_net_curves
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.contact_sheets import losses_sheet

FEATURES_FILE, SYSTEMS_FOLDER = "features.csv", "systems"  # of a comparison
MEASURES_FILE, FAULT_FILE = "measures.json", "fault.txt"  # of a system and seed in it
PRETRAINED_DIVISOR = 3  # of the learning rate where a trunk knows something, which is not to be shaken off
SECONDS = "seconds"  # column of features measured here: what an image took

logger = logging.getLogger(__name__)
Probabilities = NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """One system with one seed; `folder` is that of the comparison."""

    folder: Path
    name: str
    seed: int
    device: str = "auto"
    progress: bool = True

    @property
    def system(self) -> System:
        """What is tried."""
        return SYSTEMS[self.name]

    @property
    def place(self) -> Path:
        """Where everything is written."""
        return self.folder / SYSTEMS_FOLDER / self.name / f"seed_{self.seed}"

    @property
    def measures(self) -> Path:
        """The measures, written last."""
        return self.place / MEASURES_FILE

    @property
    def fault(self) -> Path:
        """Why it, or a row of it, could not be measured."""
        return self.place / FAULT_FILE

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to measure."""
        return self.measures.exists() and not self.fault.exists()

    def note_fault(self, reason: str) -> None:
        """Leave the reason for a table's foot."""
        self.place.mkdir(parents=True, exist_ok=True)
        self.fault.write_text(reason, encoding="utf-8")


@dataclass(frozen=True)
class TrialImages:
    """The labelled images of a comparison, and how they are prepared for an embedding."""

    catalog: ImageCatalog
    settings: Settings

    def split(self, name: str) -> ImageCatalog:
        """Those of one split."""
        return self.catalog.split(name)

    @property
    def doubted(self) -> str:
        """The split whose highest losses are listed to be mended: val or, without it, train; never test."""
        return "val" if len(self.split("val")) else "train"

    def labels(self, name: str) -> NDArray[np.str_]:
        """Class names of one split."""
        return np.array(self.split(name).labels, dtype=str)

    @cached_property
    def prepared(self) -> PreparedImages:
        """All of them as an embedding sees them."""
        paths = self.catalog.paths
        prepared = prepare_images(paths, content_hashes(paths, False), self.settings.preparation, progress=False)
        return replace(prepared, pixel_size=self.catalog.pixel_size)

    def squares(self, name: str) -> PreparedImages:
        """Those of one split as an embedding sees them."""
        return self.prepared.select((self.catalog.frame["split"] == name).to_numpy())

    def pixels(self, name: str, system: System, progress: bool) -> NDArray[np.uint8]:
        """Those of one split as a net sees them."""
        if system.pixels is not None:
            preparation = self.settings.preparation
            return read_pixels(
                self.split(name),
                *system.pixels,
                progress=progress,
                white_level=preparation.white_level_16bit,
                remove_marks=preparation.remove_marks,
            )
        pixels = self.squares(name).batch(slice(None))[0]
        return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


@dataclass(frozen=True)
class Outcome:
    """What a trained classifier makes of images, and what it took.

    `chances` of the test images and `doubts` of the split `TrialImages.doubted`, (n, C) in the order of `classes`;
    `learning` and `predicting` in seconds; `size` in bytes of the whole model.
    """

    name: str
    classes: NDArray[Any]
    chances: Probabilities
    doubts: Probabilities
    learning: float
    predicting: float
    size: int

    def measure(self, images: TrialImages, place: Path) -> dict[str, Any]:
        """Score the names, and write them with the scores of every class, the confusions and the highest losses.

        Images of a class that the classifier does not know are named wrong, and left aside in the loss.
        """
        asked, truth = images.split("test"), images.labels("test")
        rows = np.arange(len(asked))
        best = self.chances.argmax(axis=1)
        scores = score_predictions(truth, self.classes[best], n_bootstrap=0)
        known = np.isin(truth, self.classes)
        if not known.any():
            raise InputError(
                f"none of the {len(truth)} test images is of one of the {len(self.classes)} classes learned"
            )
        own = self.chances[rows[known], np.searchsorted(self.classes, truth[known])]
        worst = scores.per_class.query("support > 0").sort_values("f1", kind="stable").iloc[0]
        names = asked.frame[["object_id", "path"]].assign(
            label=self.classes[best], probability=self.chances[rows, best], true_label=truth
        )
        place.mkdir(parents=True, exist_ok=True)
        write_frame(place / "predictions.csv", names)
        write_frame(place / "per_class.csv", scores.per_class)
        save_figure(draw_confusion(scores, shares=False, log=True), place / "confusion.png")
        doubted = images.split(images.doubted)
        ids = doubted.frame["object_id"].tolist()
        losses = highest_losses(self.classes, self.doubts, images.labels(images.doubted), ids, doubted.paths)
        write_highest_losses(losses, place / LOSSES_FILE, overwrite=True)
        save_figure(draw_sheet(losses_sheet(losses)), place / "highest_losses.png")
        return {
            "name": self.name,
            "f1_macro": scores.metrics["f1_macro"],
            "accuracy": scores.metrics["accuracy"],
            "balanced_accuracy": scores.metrics["balanced_accuracy"],
            "precision_macro": float(scores.per_class["precision"].mean()),
            "recall_macro": float(scores.per_class["recall"].mean()),
            "loss": float(-np.log(np.maximum(own, LEAST_PROBABILITY)).mean()),
            "worst_class": str(worst["label"]),
            "worst_class_f1": float(worst["f1"]),
            "training_minutes": self.learning / 60,
            "images_per_second": len(asked) / self.predicting,
            "size_mb": self.size / 1e6,
        }


def measure_system(trial: Trial) -> list[dict[str, Any]]:
    """Train and measure a system, and write all of it below `trial.place`.

    Returns:
        One row for every classifier, an embedding having several: see `Comparison.runs`.
    """
    run = RunFolder(trial.folder)
    catalog, settings = ImageCatalog.load(run.catalog), Settings.load(run.settings)
    options = json.loads(run.comparison.read_text(encoding="utf-8"))
    level = options.get("white_level_16bit", settings.preparation.white_level_16bit)  # found over the whole source
    settings = Settings.build(overrides={**settings.flat(), "preparation.white_level_16bit": level})
    learnable = is_learnable(catalog) | settings.split.keep_contradictions
    images = TrialImages(catalog.select(catalog.frame["label"].notna().to_numpy() & learnable), settings)
    trunk = trial.system.trunk or settings.network.trunk
    weights = options["weights"].get(trunk, "imagenet") if trial.system.pretrained else "none"
    kinds = {"net": _measure_net, "trees": _measure_trees, "embedding": _measure_embedding, "softmax": _measure_softmax}
    rows = kinds[trial.system.kind](trial, images, weights, options["budget"])
    shared = {
        "system": trial.name,
        "origin": trial.system.origin,
        "start": "scratch" if weights == "none" else f"{trunk}: {weights}",
        "seed": trial.seed,
        "peak_memory_mb": measure_peak_memory(),
    }
    rows = [{**shared, **row} for row in rows]
    write_json(trial.measures, rows)
    return rows


def _measure_net(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train a net on pixels."""
    import torch  # noqa: F401  (loading it is not part of learning)

    net = trial.system.build(weights) if trial.system.pretrained else trial.system.build()
    net.set_params(seed=trial.seed, device=trial.device, progress=trial.progress)
    net.set_params(seconds=None if budget is None else 60 * budget)
    pixels = {name: images.pixels(name, trial.system, trial.progress) for name in SPLITS}
    known, held = ((pixels[name], images.labels(name)) for name in ("train", "val"))
    if trial.system.grow and len(held[1]):
        grown = grow_classes(*known)
        known = grown.images, grown.labels
    elif trial.system.grow:  # held out before growing, so that no twin of an image watches over it
        grown, part = divide_and_grow(*known, HELD_OUT, seed=trial.seed)
        known, held = (grown.images, grown.labels), (part.images, part.labels)
    _, learning = _clock(net.fit, known[0], known[1], validation=held if len(held[1]) else None)
    net.save(trial.place / "model", overwrite=True)
    save_figure(draw_net_curves(net.history_, title=trial.name), trial.place / "curves.png")
    write_frame(trial.place / "history.csv", net.history_)
    write_frame(trial.place / "layers.csv", net.layers_)
    probabilities, predicting = _clock(net.predict_proba, pixels["test"])
    size = (trial.place / "model" / NET_WEIGHTS_FILE).stat().st_size
    doubts = net.predict_proba(pixels[images.doubted])
    return [
        Outcome(trial.name, net.classes_, probabilities, doubts, learning, predicting, size).measure(
            images, trial.place
        )
    ]


def _measure_trees(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train trees on features; they take seconds, which no budget limits."""
    features, seconds = load_features(trial, images)
    trees = trial.system.build().set_params(random_state=trial.seed)
    known, held = ((features[name], images.labels(name)) for name in ("train", "val"))
    _, learning = _clock(trees.fit, known[0], known[1], validation=held if len(held[1]) else None)
    probabilities, predicting = _clock(trees.predict_proba, features["test"])
    doubts, size = trees.predict_proba(features[images.doubted]), len(pickle.dumps(trees))
    learning, predicting = (
        learning + seconds * (len(known[1]) + len(held[1])),
        predicting + seconds * len(probabilities),
    )
    return [
        Outcome(trial.name, trees.classes_, probabilities, doubts, learning, predicting, size).measure(
            images, trial.place
        )
    ]


def _open_training(trial: Trial, run: RunFolder, settings: Settings, weights: str, budget: float | None) -> Settings:
    """Return the settings with which a trunk is trained; remove a training that was begun with others."""
    changes: dict[str, Any] = {"seed": trial.seed, "network.weights": weights}
    if budget is not None:
        changes["training.minutes"] = budget
    if weights != "none":
        changes["training.learning_rate"] = settings.training.learning_rate / PRETRAINED_DIVISOR
    own = Settings.build(overrides={**settings.flat(), **changes})
    if run.settings.exists() and Settings.load(run.settings) != own:  # from other weights, which did not fit
        shutil.rmtree(run.path)
    return own


def _measure_softmax(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train the trunk of an embedding as a plain classifier, with the recipe of the embedding."""
    from safetensors.torch import save_file

    from plankton_embed.baselines.softmax import train_softmax
    from plankton_embed.training.history import History

    run = RunFolder(trial.place / "training")
    own = _open_training(trial, run, images.settings, weights, budget)
    own.save(run.settings)
    classes, codes = np.unique(images.labels("train"), return_inverse=True)
    held = None
    is_held = np.isin(images.labels("val"), classes)
    if is_held.any():
        held = images.squares("val").select(is_held), np.searchsorted(classes, images.labels("val")[is_held])
    model = train_softmax(images.squares("train"), codes, held, own, run, device=trial.device, progress=trial.progress)
    learning = sum(record.seconds for record in History.load(run.history).records)
    temperature = 1.0
    if held is not None:  # as the embedding's classifiers have one
        scores, seconds = _clock(model.embed_prepared, held[0], progress=trial.progress)
        temperature, learning = fit_temperature(scores, held[1]), learning + seconds

    def predict(split: str) -> Probabilities:
        scores = model.embed_prepared(images.squares(split), progress=trial.progress)
        return np.asarray(softmax(scores.astype(float) / temperature, axis=1))

    path = trial.place / NET_WEIGHTS_FILE
    save_file({name: value.cpu().contiguous() for name, value in model.net.state_dict().items()}, path)
    probabilities, predicting = _clock(predict, "test")
    size, doubts = path.stat().st_size, predict(images.doubted)
    return [
        Outcome(trial.name, classes, probabilities, doubts, learning, predicting, size).measure(images, trial.place)
    ]


def _measure_embedding(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train an embedding; name by every method, and by an MLP on the vectors with trees on the features beside it."""
    from plankton_embed.network.model import WEIGHTS_FILE, EmbeddingModel  # here: no other system needs so much memory
    from plankton_embed.training.history import History
    from plankton_embed.workflows.run import train

    settings, run = images.settings, RunFolder(trial.place / "run")
    own = _open_training(trial, run, settings, weights, budget)
    train(
        images.catalog, run.path, settings=own, resume=run.settings.exists(), device=trial.device,
        progress=trial.progress,
    )  # fmt: skip
    learning = sum(record.seconds for record in History.load(run.history).records)
    model = EmbeddingModel.load(run.model, trial.device)
    known, asked = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "test"))
    held = EmbeddingTable.load(run.vectors("val")) if run.vectors("val").exists() else None
    squares = images.squares("test")
    _, embedding = _clock(model.embed_prepared, squares, progress=trial.progress)
    n_learned = len(known) + (0 if held is None else len(held))
    learning += embedding / len(squares) * n_learned  # their vectors
    size = (run.model / WEIGHTS_FILE).stat().st_size

    rows, doubted = [], known if held is None else held

    def note(
        method: str,
        classifier: Any,
        fitting: float,
        predicting: float,
        probabilities: Probabilities,
        doubts: Probabilities,
    ) -> None:
        costs = (learning + fitting, embedding + predicting, size + len(pickle.dumps(classifier)))
        outcome = Outcome(f"{trial.name}_{method}", classifier.classes_, probabilities, doubts, *costs)
        rows.append(outcome.measure(images, trial.place / method))

    k = fitting_k(known, settings)
    for method in METHODS:
        classifier, fitting = _clock(fit_classifier, known, method, k, held)
        probabilities, predicting = _clock(classifier.predict_proba, asked.vectors)
        note(method, classifier, fitting, predicting, probabilities, classifier.predict_proba(doubted.vectors))
    joint = EmbeddingAndFeaturesClassifier(random_state=trial.seed)
    try:
        features, seconds = load_features(trial, images)
        calibration = None if held is None else (held.vectors, features["val"], images.labels("val"))
        _, fitting = _clock(joint.fit, known.vectors, features["train"], images.labels("train"), calibration)
    except (DependencyError, InputError) as error:
        trial.note_fault(f"no row with features: {error}")
        return rows
    probabilities, predicting = _clock(joint.predict_proba, asked.vectors, features["test"])
    doubts = joint.predict_proba(doubted.vectors, features[images.doubted])
    note("and_features", joint, fitting + seconds * n_learned, predicting + seconds * len(asked), probabilities, doubts)
    return rows


def load_features(trial: Trial, images: TrialImages) -> tuple[dict[str, pd.DataFrame], float]:
    """Return the features of every split, and the seconds that measuring them takes for an image.

    They are the catalog's own; where it has none they are measured, once for all trials.

    Raises:
        DependencyError: they must be measured, and scikit-image (the extra `features`) is not installed.
    """
    features, each, path = images.catalog.features, 0.0, trial.folder / FEATURES_FILE
    if features.empty:
        if not path.exists():
            preparation = images.settings.preparation
            measured, seconds = _clock(
                measure_shapes,
                images.catalog,
                trial.progress,
                white_level=preparation.white_level_16bit,
                remove_marks=preparation.remove_marks,
            )
            write_frame(path, measured.assign(**{SECONDS: seconds / len(measured)}))
        features = pd.read_csv(path)
        each = float(features.pop(SECONDS).iloc[0])
    return {name: features[(images.catalog.frame["split"] == name).to_numpy()] for name in SPLITS}, each


def measure_peak_memory() -> float:
    """Return the largest resident memory of this process so far, MB; nan where the system does not tell it."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts what the process that started this one had, too
        told = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
        if told:
            return int(told[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _clock(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> tuple[T, float]:
    started = time.perf_counter()
    result = work(*args, **options)
    return result, time.perf_counter() - started


if __name__ == "__main__":
    folder, name, seed, device, progress = sys.argv[1:]
    trial = Trial(Path(folder), name, int(seed), device, progress == "True")
    try:
        measure_system(trial)
    except KeyboardInterrupt:  # its parent is stopped too, and says so
        sys.exit(130)
    except PlanktonEmbedError as error:
        trial.note_fault(str(error))
        sys.exit(1)
