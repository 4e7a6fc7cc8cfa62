"""`seen-unseen`: train on some classes, reject images of the others, then enroll these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.classifiers.enrollment import add_examples, measure_learning, summarize_learning
from plankton_embed.classifiers.evaluation import Evaluation, evaluate_predictions
from plankton_embed.classifiers.prediction import UNKNOWN_RATE, PredictionOptions
from plankton_embed.classifiers.rejection import NoveltyScore, least_calibration
from plankton_embed.embedding import embed_source
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import SPLITS, ImageCatalog, content_hashes, refuse_unknown
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.readers.status import describe_unvalidated
from plankton_embed.images.splits import check_leaks, is_learnable, mark_contradictions, split_catalog
from plankton_embed.network.pretrained import choose_weights
from plankton_embed.network.saved_model import count_seen_images, find_known, is_forgetful
from plankton_embed.notebook import Shown
from plankton_embed.output import write_json
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import NetworkSettings
from plankton_embed.training.ranks import refuse_ranks
from plankton_embed.workflows.inputs import SettingsLike, Source, build_settings, from_scratch, refuse_inside
from plankton_embed.workflows.result_folder import draw_evaluation, write_curve, write_tables
from plankton_embed.workflows.run import RunResult, run
from plankton_embed.workflows.run_start import keep_settings

LEAST_UNSEEN = 20  # training images of a class that may be drawn as unseen
SCORES_FILE = "scores.json"


@dataclass(frozen=True, repr=False)
class SeenUnseen(Shown):
    """How well a model rejects and then learns classes that it was not trained on.

    `run`: the run of the seen classes; `unseen`: the other classes. `evaluation`: test images of all classes, predicted
    by the seen classes; images of unseen classes should be rejected. `draws`: the scores of unseen classes enrolled
    from a few training images each (see `measure_learning`).
    """

    run: RunResult
    unseen: list[str]
    evaluation: Evaluation
    draws: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """Mean and spread over the draws of the enrolled classes' scores."""
        return summarize_learning(self.draws)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"unseen": self.unseen, **self.evaluation.scores_dict(), "enrolled": self.summary.to_dict("records")}

    def _describe(self) -> str:
        return f"{len(self.unseen)} unseen classes, {self.evaluation!r}"

    def _preview(self) -> pd.DataFrame:
        return self.summary


def seen_unseen(
    source: Source,
    output: str | Path,
    *,
    unseen: Sequence[str] = (),
    n_unseen: int | None = None,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    unknown_rate: float = UNKNOWN_RATE,
    refuse_by: NoveltyScore | None = None,
    n_draws: int = 10,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> SeenUnseen:
    """Train on some of the classes, reject images of the other classes, then enroll these classes; score both steps.

    After an interruption, the same call continues.

    Args:
        source: a catalog, its file, or a folder of images; without splits it is split according to the settings.
        output: folder to write: `run/` (the run of the seen classes), `vectors/` of the unseen classes, `scores.json`,
            `predictions.csv`, tables and figures.
        unseen: the classes to leave out of training.
        n_unseen: how many classes to draw instead (with the seed of the settings), among the classes with at least
            `LEAST_UNSEEN` training images; by default a third of all classes.
        settings: see `train`; `network.weights=auto` is `none` here (unless frozen), since models of the package were
            trained on many classes.
        root: where the relative paths of a catalog file start.
        status: for sources with a status (EcoTaxa, challenge sets): the statuses whose class names are used as
            labels, such as `validated,predicted`; by default `validated`.
        unknown_rate: share of images of seen classes that may be rejected.
        refuse_by: the novelty score: `centroid`, `neighbor` (the default) or `density` (see `Rejector`).
        n_draws: draws for each number of examples.
        overwrite: start again.
        device: `auto`, `cpu`, `cuda`, `mps`.
        progress: show bars.

    Raises:
        InputError: a class to leave out is not in the catalog, too few classes remain, or the starting weights were
            trained on an unseen class.
        SettingError: both `unseen` and `n_unseen` are given.
        OutputError: the folder contains finished scores.
    """
    refuse_ranks("seen-unseen")
    if unseen and n_unseen is not None:
        raise SettingError("unseen lists the classes to leave out, n_unseen draws them; use only one of them")
    if n_draws < 1:
        raise SettingError(f"draws: expected at least 1; found {n_draws}")
    PredictionOptions("knn", None, unknown_rate, refuse_by)  # raises an error if they cannot be used
    folder, chosen = Path(output), from_scratch(build_settings(settings))
    refuse_inside(source, output)
    if RunFolder(folder).settings.exists():
        raise OutputError(f"{output} is a run; choose another folder")
    if (folder / SCORES_FILE).exists() and not overwrite:
        raise OutputError(f"{output} contains finished scores; choose another folder, or start again (--overwrite)")
    if not overwrite:
        chosen = keep_settings(RunFolder(folder / "run"), chosen)
    gathered = read_source(source, root, status=status)
    refuse_unknown(gathered.classes, "the images to train on")
    hashes = content_hashes(gathered.paths, progress)
    gathered = mark_contradictions(gathered, hashes)
    if not gathered.has_splits:
        gathered = split_catalog(
            gathered, chosen.split.fractions, seed=chosen.seed, group_by=chosen.split.group_by, hashes=hashes
        )
    gathered, _ = check_leaks(gathered, hashes, drop_duplicates=chosen.split.drop_duplicates)
    if not chosen.split.keep_contradictions:
        gathered = gathered.select(is_learnable(gathered))  # `run` sees those among the seen classes alone
    left_out = sorted(unseen) or _draw_unseen(gathered, n_unseen, chosen.seed)
    _check_parts(gathered, left_out, unknown_rate)
    start = chosen.with_weights(choose_weights(chosen.network)).network
    _check_start(start, gathered.with_classes(include=left_out), progress)
    (folder / SCORES_FILE).unlink(missing_ok=True)  # its presence means that everything is finished
    trained = run(
        gathered.with_classes(exclude=left_out),
        folder / "run",
        settings=chosen,
        overwrite=overwrite,
        device=device,
        progress=progress,
    )
    unseen_images = gathered.with_classes(include=left_out)
    reference, calibration, test = (trained.vectors[name] for name in SPLITS)
    examples, unseen_test = (
        embed_source(trained.model, unseen_images.split(name), progress=progress) for name in ("train", "test")
    )
    query = add_examples(test, unseen_test)
    examples.save(folder / "vectors" / "unseen_train.parquet")
    query.save(folder / "vectors" / "test.parquet")
    options = PredictionOptions("knn", None, unknown_rate, refuse_by, chosen)
    evaluation = evaluate_predictions(reference, query, options, calibration)
    draws = measure_learning(
        reference,
        examples,
        query,
        n_neighbors=chosen.classification.n_neighbors,
        n_draws=n_draws,
        seed=chosen.seed,
        progress=progress,
    )
    result = SeenUnseen(trained, left_out, evaluation, draws)
    write_tables(folder, evaluation)
    draw_evaluation(folder / "figures", evaluation)
    write_curve(folder, draws)
    write_json(folder / SCORES_FILE, result.to_dict())
    return result


def _check_parts(catalog: ImageCatalog, unseen: list[str], unknown_rate: float) -> None:
    """Make sure, before training, that there are images to train on, to calibrate on and to score."""
    seen_images, unseen_images = catalog.with_classes(exclude=unseen), catalog.with_classes(include=unseen)
    needed = (
        (seen_images, "seen", "train", 2),
        (seen_images, "seen", "val", least_calibration(unknown_rate)),
        (seen_images, "seen", "test", 1),
        (unseen_images, "unseen", "train", 1),
        (unseen_images, "unseen", "test", 1),
    )
    for images, kind, split, least in needed:
        n = int(images.split(split).frame["label"].notna().sum())
        if n < least:
            raise InputError(
                f"the {kind} classes need at least {least} labelled images in {split}, found {n}; split the catalog "
                "again, or leave out other classes." + describe_unvalidated(images.frame)
            )


def _check_start(network: NetworkSettings, unseen: ImageCatalog, progress: bool) -> None:
    """Make sure that the starting weights were not trained on the unseen classes."""
    weights = network.weights
    if is_forgetful(network):
        raise InputError(
            f"network.weights: it is not known which images {weights} was trained on, so the unseen classes may be "
            "among them; train from scratch (--set network.weights=none), or give the folder of a model, which has "
            "its training_images.npy"
        )
    classes = find_known(unseen.classes, weights)
    n_seen = count_seen_images(unseen.paths, weights, progress)
    if classes or n_seen:
        found = f"{n_seen} images of these classes"
        if classes:
            found = f"{len(classes)} of these classes, such as {classes[0]}"
        raise InputError(
            f"network.weights: {weights} was trained on {found}, so they would not be unseen; train from scratch "
            "(--set network.weights=none), or start from a model without them"
        )


def _draw_unseen(catalog: ImageCatalog, n_unseen: int | None, seed: int) -> list[str]:
    """Draw classes to leave out of training, among those with enough images to enroll them from."""
    counts = catalog.split("train").frame["label"].value_counts()
    large = sorted(str(label) for label in counts.index[counts >= LEAST_UNSEEN])
    n = max(1, len(catalog.classes) // 3) if n_unseen is None else n_unseen
    if not 1 <= n <= min(len(large), len(catalog.classes) - 2):
        raise InputError(
            f"{n} classes cannot be left out of training: there are {len(catalog.classes)}, 2 must remain, and "
            f"{len(large)} have at least {LEAST_UNSEEN} training images; give another n_unseen, or list the classes."
            + describe_unvalidated(catalog.frame)
        )
    return sorted(np.random.default_rng(seed).choice(large, n, replace=False).tolist())
