"""One system of a comparison, in its own process: train it, predict the test images, measure both."""

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
from plankton_embed.classifiers.calibrated import LEFT_OUT_SHARE
from plankton_embed.classifiers.calibration import LEAST_PROBABILITY, fit_temperature
from plankton_embed.classifiers.prediction import METHODS, fit_classifier, fitting_k
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.errors import DependencyError, InputError, PlanktonEmbedError
from plankton_embed.images.catalog import SPLITS, ImageCatalog, content_hashes
from plankton_embed.images.shape_features import measure_shapes
from plankton_embed.images.splits import is_learnable
from plankton_embed.images.store import PreparedImages, prepare_images
from plankton_embed.network.pretrained import published_weights
from plankton_embed.network.saved_model import WEIGHTS_FILE, count_seen_images, is_forgetful
from plankton_embed.output import write_frame, write_json
from plankton_embed.plots.confusion import draw_confusion
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.net_curves import draw_net_curves
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.workflows.contact_sheets import losses_sheet

FEATURES_FILE, SYSTEMS_FOLDER = "features.csv", "systems"  # of a comparison
MEASURES_FILE, FAULT_FILE = "measures.json", "fault.txt"  # of one system and seed in it
SECONDS = "seconds"  # column of features measured here: the time per image

logger = logging.getLogger(__name__)
Probabilities = NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """One system with one seed; `folder` is the folder of the comparison."""

    folder: Path
    name: str
    seed: int
    device: str = "auto"
    progress: bool = True

    @property
    def system(self) -> System:
        """The system that is measured."""
        return SYSTEMS[self.name]

    @property
    def output(self) -> Path:
        """The folder of the results."""
        return self.folder / SYSTEMS_FOLDER / self.name / f"seed_{self.seed}"

    @property
    def measures(self) -> Path:
        """The file of the measures, written last."""
        return self.output / MEASURES_FILE

    @property
    def fault(self) -> Path:
        """The file with the reason why the system, or a row of it, could not be measured."""
        return self.output / FAULT_FILE

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to measure."""
        return self.measures.exists() and not self.fault.exists()

    def note_fault(self, reason: str) -> None:
        """Write the reason, which is shown below the table."""
        self.output.mkdir(parents=True, exist_ok=True)
        self.fault.write_text(reason, encoding="utf-8")


@dataclass(frozen=True)
class TrialImages:
    """The labelled images of a comparison, and how they are prepared for an embedding."""

    catalog: ImageCatalog
    settings: Settings

    def split(self, name: str) -> ImageCatalog:
        """The images of one split."""
        return self.catalog.split(name)

    @property
    def corrected_split(self) -> str:
        """The split whose highest losses are listed for correction: val or, without it, train; never test."""
        return "val" if len(self.split("val")) else "train"

    def labels(self, name: str) -> NDArray[np.str_]:
        """Class names of one split."""
        return np.array(self.split(name).labels, dtype=str)

    @cached_property
    def prepared(self) -> PreparedImages:
        """All images, prepared for an embedding."""
        paths = self.catalog.paths
        prepared = prepare_images(paths, content_hashes(paths, False), self.settings.preparation, progress=False)
        return replace(prepared, pixel_size=self.catalog.pixel_size)

    def squares(self, name: str) -> PreparedImages:
        """The images of one split, prepared for an embedding."""
        return self.prepared.select((self.catalog.frame["split"] == name).to_numpy())

    def pixels(self, name: str, system: System, progress: bool) -> NDArray[np.uint8]:
        """The pixels of one split, prepared for a net."""
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
    """The predictions of a trained classifier, and its costs.

    `probabilities` of the test images, and `probabilities_to_correct` of those in `TrialImages.corrected_split`: (n, C)
    in the order of `classes`. `learning` and `predicting` in seconds; `size` of the whole model in bytes.
    """

    name: str
    classes: NDArray[Any]
    probabilities: Probabilities
    probabilities_to_correct: Probabilities
    learning: float
    predicting: float
    size: int

    def measure(self, images: TrialImages, output: Path) -> dict[str, Any]:
        """Score the predictions, and write them with the scores by class, the confusion matrix and the highest losses.

        Images of a class that is not in the training set count as wrong, and are left out of the loss.
        """
        test, truth = images.split("test"), images.labels("test")
        rows = np.arange(len(test))
        best = self.probabilities.argmax(axis=1)
        scores = score_predictions(truth, self.classes[best], n_bootstrap=0)
        is_trained = np.isin(truth, self.classes)
        if not is_trained.any():
            raise InputError(
                f"none of the {len(truth)} test images belongs to one of the {len(self.classes)} classes of training"
            )
        own = self.probabilities[rows[is_trained], np.searchsorted(self.classes, truth[is_trained])]
        worst = scores.per_class.query("support > 0").sort_values("f1", kind="stable").iloc[0]
        predictions = test.frame[["object_id", "path"]].assign(
            label=self.classes[best], probability=self.probabilities[rows, best], true_label=truth
        )
        output.mkdir(parents=True, exist_ok=True)
        write_frame(output / "predictions.csv", predictions)
        write_frame(output / "per_class.csv", scores.per_class)
        save_figure(draw_confusion(scores, shares=False, log=True), output / "confusion.png")
        split = images.corrected_split
        catalog, labels = images.split(split), images.labels(split)
        ids = catalog.frame["object_id"].tolist()
        losses = highest_losses(self.classes, self.probabilities_to_correct, labels, ids, catalog.paths)
        write_highest_losses(losses, output / LOSSES_FILE, overwrite=True)
        save_figure(draw_sheet(losses_sheet(losses)), output / "highest_losses.png")
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
            "images_per_second": len(test) / self.predicting,
            "size_mb": self.size / 1e6,
        }


def measure_system(trial: Trial) -> list[dict[str, Any]]:
    """Train and measure a system, and write everything into `trial.output`.

    Returns:
        One row for every classifier (an embedding has several): see `Comparison.runs`.
    """
    run = RunFolder(trial.folder)
    catalog, settings = ImageCatalog.load(run.catalog), Settings.load(run.settings)
    options = json.loads(run.comparison.read_text(encoding="utf-8"))
    level = options.get("white_level_16bit", settings.preparation.white_level_16bit)  # of the whole source
    settings = Settings.build(overrides={**settings.flat(), "preparation.white_level_16bit": level})
    learnable = is_learnable(catalog) | settings.split.keep_contradictions
    images = TrialImages(catalog.select(catalog.frame["label"].notna().to_numpy() & learnable), settings)
    trunk = trial.system.trunk or settings.network.trunk
    weights = options["weights"].get(trunk, published_weights(trunk)) if trial.system.pretrained else "none"
    kinds = {"net": _measure_net, "trees": _measure_trees, "embedding": _measure_embedding, "softmax": _measure_softmax}
    rows = kinds[trial.system.kind](trial, images, weights, options["budget"])
    start = settings.network.model_copy(update={"trunk": trunk, "weights": weights})
    shared = {
        "system": trial.name,
        "origin": trial.system.origin,
        "start": "scratch" if weights == "none" else f"{trunk}: {weights}",
        "n_seen": None if is_forgetful(start) else count_seen_images(images.split("test").paths, weights),
        "seed": trial.seed,
        "peak_memory_mb": measure_peak_memory(),
    }
    rows = [{**shared, **row} for row in rows]
    write_json(trial.measures, rows)
    return rows


def _measure_net(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train a net on pixels."""
    import torch  # noqa: F401  (here, so that loading it does not count as learning)

    net = trial.system.build(weights) if trial.system.pretrained else trial.system.build()
    net.set_params(seed=trial.seed, device=trial.device, progress=trial.progress)
    net.set_params(seconds=None if budget is None else 60 * budget)
    pixels = {name: images.pixels(name, trial.system, trial.progress) for name in SPLITS}
    train, validation = ((pixels[name], images.labels(name)) for name in ("train", "val"))
    if trial.system.grow and len(validation[1]):
        grown = grow_classes(*train)
        train = grown.images, grown.labels
    elif trial.system.grow:  # divided before growing, so that no copy of a training image is in the validation set
        grown, part = divide_and_grow(*train, LEFT_OUT_SHARE, seed=trial.seed)
        train, validation = (grown.images, grown.labels), (part.images, part.labels)
    _, learning = _clock(net.fit, train[0], train[1], validation=validation if len(validation[1]) else None)
    net.save(trial.output / "model", overwrite=True)
    save_figure(draw_net_curves(net.history_, title=trial.name), trial.output / "curves.png")
    write_frame(trial.output / "history.csv", net.history_)
    write_frame(trial.output / "layers.csv", net.layers_)
    probabilities, predicting = _clock(net.predict_proba, pixels["test"])
    size = (trial.output / "model" / NET_WEIGHTS_FILE).stat().st_size
    to_correct = net.predict_proba(pixels[images.corrected_split])
    outcome = Outcome(trial.name, net.classes_, probabilities, to_correct, learning, predicting, size)
    return [outcome.measure(images, trial.output)]


def _measure_trees(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train trees on features; this takes seconds, so the budget is not used."""
    features, seconds = load_features(trial, images)
    trees = trial.system.build().set_params(random_state=trial.seed)
    train, validation = ((features[name], images.labels(name)) for name in ("train", "val"))
    _, learning = _clock(trees.fit, train[0], train[1], validation=validation if len(validation[1]) else None)
    probabilities, predicting = _clock(trees.predict_proba, features["test"])
    to_correct, size = trees.predict_proba(features[images.corrected_split]), len(pickle.dumps(trees))
    learning += seconds * (len(train[1]) + len(validation[1]))
    predicting += seconds * len(probabilities)
    outcome = Outcome(trial.name, trees.classes_, probabilities, to_correct, learning, predicting, size)
    return [outcome.measure(images, trial.output)]


def _open_training(trial: Trial, run: RunFolder, settings: Settings, weights: str, budget: float | None) -> Settings:
    """Return the settings with which a trunk is trained; delete an existing run with other settings."""
    changes: dict[str, Any] = {"seed": trial.seed, "network.weights": weights}
    if budget is not None:
        changes["training.minutes"] = budget
    own = Settings.build(overrides={**settings.flat(), **changes})
    if run.settings.exists() and Settings.load(run.settings) != own:  # it started from other weights
        shutil.rmtree(run.path)
    return own


def _measure_softmax(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train the trunk of the embedding as a softmax classifier, with the same training recipe."""
    from safetensors.torch import save_file

    from plankton_embed.baselines.softmax import train_softmax
    from plankton_embed.training.history import History

    run = RunFolder(trial.output / "training")
    own = _open_training(trial, run, images.settings, weights, budget)
    own.save(run.settings)
    classes, codes = np.unique(images.labels("train"), return_inverse=True)
    validation, labels = None, images.labels("val")
    is_trained = np.isin(labels, classes)
    if is_trained.any():
        validation = images.squares("val").select(is_trained), np.searchsorted(classes, labels[is_trained])
    model = train_softmax(
        images.squares("train"), codes, validation, own, run, device=trial.device, progress=trial.progress
    )
    learning = sum(record.seconds for record in History.load(run.history).records)
    temperature = 1.0
    if validation is not None:  # as for the classifiers of the embedding
        scores, seconds = _clock(model.embed_prepared, validation[0], progress=trial.progress)
        temperature, learning = fit_temperature(scores, validation[1]), learning + seconds

    def predict(split: str) -> Probabilities:
        scores = model.embed_prepared(images.squares(split), progress=trial.progress)
        return np.asarray(softmax(scores.astype(float) / temperature, axis=1))

    path = trial.output / NET_WEIGHTS_FILE
    save_file({name: value.cpu().contiguous() for name, value in model.net.state_dict().items()}, path)
    probabilities, predicting = _clock(predict, "test")
    size, to_correct = path.stat().st_size, predict(images.corrected_split)
    outcome = Outcome(trial.name, classes, probabilities, to_correct, learning, predicting, size)
    return [outcome.measure(images, trial.output)]


def _measure_embedding(trial: Trial, images: TrialImages, weights: str, budget: float | None) -> list[dict[str, Any]]:
    """Train an embedding; predict by every method, and by an MLP on the vectors combined with trees on the features."""
    from plankton_embed.training.history import History
    from plankton_embed.workflows.run import train

    settings, run = images.settings, RunFolder(trial.output / "run")
    own = _open_training(trial, run, settings, weights, budget)
    trained = train(
        images.catalog, run.path, settings=own, resume=run.settings.exists(), device=trial.device,
        progress=trial.progress,
    )  # fmt: skip
    learning = sum(record.seconds for record in History.load(run.history).records)
    vectors = trained.vectors
    reference, calibration, test = vectors["train"], vectors.get("val"), vectors["test"]
    squares = images.squares("test")
    _, embedding = _clock(trained.model.embed_prepared, squares, progress=trial.progress)
    n_learned = len(reference) + (0 if calibration is None else len(calibration))
    learning += embedding / len(squares) * n_learned  # the time to embed them
    size = (run.model / WEIGHTS_FILE).stat().st_size

    rows, to_correct = [], reference if calibration is None else calibration

    def note(
        method: str,
        classifier: Any,
        fitting: float,
        predicting: float,
        probabilities: Probabilities,
        probabilities_to_correct: Probabilities,
    ) -> None:
        costs = (learning + fitting, embedding + predicting, size + len(pickle.dumps(classifier)))
        name = f"{trial.name}_{method}"
        outcome = Outcome(name, classifier.classes_, probabilities, probabilities_to_correct, *costs)
        rows.append(outcome.measure(images, trial.output / method))

    k = fitting_k(reference, settings)
    for method in METHODS:
        classifier, fitting = _clock(fit_classifier, reference, method, k, calibration)
        probabilities, predicting = _clock(classifier.predict_proba, test.vectors)
        note(method, classifier, fitting, predicting, probabilities, classifier.predict_proba(to_correct.vectors))
    joint = EmbeddingAndFeaturesClassifier(random_state=trial.seed)
    try:
        features, seconds = load_features(trial, images)
        stopping = None if calibration is None else (calibration.vectors, features["val"], images.labels("val"))
        _, fitting = _clock(joint.fit, reference.vectors, features["train"], images.labels("train"), stopping)
    except (DependencyError, InputError) as error:
        trial.note_fault(f"no row with features: {error}")
        return rows
    probabilities, predicting = _clock(joint.predict_proba, test.vectors, features["test"])
    fitting, predicting = fitting + seconds * n_learned, predicting + seconds * len(test)
    corrected = joint.predict_proba(to_correct.vectors, features[images.corrected_split])
    note("and_features", joint, fitting, predicting, probabilities, corrected)
    return rows


def load_features(trial: Trial, images: TrialImages) -> tuple[dict[str, pd.DataFrame], float]:
    """Return the features of every split, and the seconds that it takes to measure them per image.

    The catalog's own features are used; if it has none, they are measured, once for all trials.

    Raises:
        DependencyError: features must be measured, and scikit-image (the extra `features`) is not installed.
    """
    features, per_image, path = images.catalog.features, 0.0, trial.folder / FEATURES_FILE
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
        per_image = float(features.pop(SECONDS).iloc[0])
    return {name: features[(images.catalog.frame["split"] == name).to_numpy()] for name in SPLITS}, per_image


def measure_peak_memory() -> float:
    """Return the largest resident memory of this process so far, MB; nan if the system does not report it."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage includes the memory of the parent process
        reported = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
        if reported:
            return int(reported[1]) * 1024 / 1e6
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
    except KeyboardInterrupt:  # the parent process is stopped too, and reports it
        sys.exit(130)
    except PlanktonEmbedError as error:
        trial.note_fault(str(error))
        sys.exit(1)
