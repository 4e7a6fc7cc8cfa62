"""The story: catalog -> train -> embed -> index -> evaluate -> report, plain calls (`run`, `train`, `demo`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plankton_embed.classifiers.prediction import METHODS
from plankton_embed.errors import DependencyError, InputError, OutputError, SettingError
from plankton_embed.images.drawn import CLASSES, draw_set
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import read_source
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.notebook import Shown
from plankton_embed.page.images import gather_images
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.training.ranks import ALONE, Ranks, join_ranks, refuse_ranks
from plankton_embed.vector_index import VectorIndex
from plankton_embed.workflows.inputs import SettingsLike, Source, build_settings
from plankton_embed.workflows.report import write_page
from plankton_embed.workflows.run_start import open_run
from plankton_embed.workflows.run_steps import (
    RunImages,
    embed_step,
    evaluate_step,
    index_step,
    near_copies_step,
    prepare_step,
    train_step,
)

LONGER = (
    "only the head was computed; if there are thousands of images, training the trunk on them can give better scores: "
    "--preset quick takes ten minutes, --preset cpu an hour on two cores, --preset gpu longer on a GPU (in another "
    "folder, with the same --set)"
)
DEMO_CLASSES = CLASSES[:8]
DEMO_IMAGES_PER_CLASS = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class RunResult(Shown):
    """A finished run: its files, its trained model, the vectors of each split, and its scores (see `scores.json`)."""

    folder: RunFolder
    model: EmbeddingModel
    vectors: dict[str, EmbeddingTable]
    scores: dict[str, Any]

    def _describe(self) -> str:
        scores = [f"{name} {self.scores[name]['accuracy']:.3f}" for name in METHODS if name in self.scores]
        return ", ".join([str(self.folder.path), *(f"accuracy by {score}" for score in scores)])


def run(
    source: Source,
    output: str | Path,
    *,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> RunResult:
    """Do everything: catalog, split, train, embed, index, evaluate, report; finished steps are skipped.

    After an interruption, the same call continues the run. By default (preset `instant`) the trunk keeps the weights of
    the model that comes with the package, and only the head is computed. The last step writes the page `report.html`
    (see `report`); without the extra `report`, a warning shows how to install it.

    Args:
        source: a folder of images, a catalog file, a list of files, or an `ImageCatalog`.
        output: folder of the run.
        settings: `{"embedding.views": 8}` to change those of the preset `instant`, or `Settings`, for example with
            another preset: `Settings.build("quick", overrides={"training.minutes": 20})`.
        root: where the relative paths of a catalog file start.
        status: for sources with a status (EcoTaxa, challenge sets): the statuses whose class names are used as
            labels, such as `validated,predicted`; by default `validated`.
        overwrite: delete an existing run and start again.
        device: `auto`, `cpu`, `cuda`, `mps`.
        progress: show bars.

    Raises:
        InputError: there is nothing to train on, or the folder contains a run of other images.
        SettingError: the folder contains a run with other settings.
        OutputError: the folder contains something other than a run.
    """
    refuse_ranks("run")
    chosen = build_settings(settings, "instant")
    result = _do_steps(source, output, chosen, root, status, overwrite, device, progress, with_index=True)
    if not _is_newer(result.folder.report, result.folder.scores):
        try:
            write_page(gather_images(result.vectors), output, result.folder.report, progress=progress)
        except DependencyError as error:
            logger.warning("no page was written: %s", error)
    if result.model.network.frozen:
        logger.info(LONGER)
    return result


def _is_newer(page: Path, scores: Path) -> bool:
    """Return whether the page was written after the scores."""
    return page.is_file() and page.stat().st_mtime_ns >= scores.stat().st_mtime_ns


def train(
    source: Source,
    output: str | Path,
    *,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    objective: Callable[[Any, Any], Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> RunResult:
    """Train a model, embed the splits of its catalog and evaluate.

    Same as `run`, but without the index, and an unfinished run is continued only if `resume` is true. Where torchrun
    has started several processes, all of them train this model, the first does everything else, and the others return
    the model without vectors and scores.

    Args:
        source, output, root, status, overwrite, device, progress: see `run`.
        settings: `{"training.epochs": 20}` to change those of the preset `cpu`, or `Settings`, as in `run`.
        objective: your own loss, used instead of the one in the settings: a torch module (its parameters are trained
            too), or a function of a batch's vectors (b, d) and class codes (b,) that returns the loss. To continue the
            run, pass it again.
        resume: continue the existing run.
    """
    if resume and overwrite:
        raise SettingError("resume continues a run, overwrite deletes it; use only one of them")
    chosen = build_settings(settings)
    with join_ranks(device) as ranks:
        ranks.ask_first(lambda: _check_resume(output, resume, overwrite))
        return _do_steps(
            source,
            output,
            chosen,
            root,
            status,
            overwrite,
            ranks.device or device,
            progress,
            with_index=False,
            objective=objective,
            ranks=ranks,
        )


def _check_resume(output: str | Path, resume: bool, overwrite: bool) -> None:
    """Make sure that a run is in the folder if it is to be continued, and that none is replaced by mistake."""
    folder = RunFolder(Path(output))
    if resume and not folder.settings.exists():
        raise InputError(
            f"{output} contains no run to resume (a run that was stopped while its images were prepared leaves no "
            "files); to start one, leave --resume out"
        )
    if folder.settings.exists() and not (resume or overwrite):
        raise OutputError(
            f"{output} already contains a run; continue it (--resume), replace it (--overwrite), or choose another "
            "folder"
        )


def _do_steps(
    source: Source,
    output: str | Path,
    settings: Settings,
    root: str | Path | None,
    status: str | Sequence[str] | None,
    overwrite: bool,
    device: str,
    progress: bool,
    *,
    with_index: bool,
    objective: Callable[[Any, Any], Any] | None = None,
    ranks: Ranks = ALONE,
) -> RunResult:
    def prepare() -> tuple[RunFolder, Settings, RunImages]:
        folder, chosen = open_run(source, output, settings, overwrite, device)
        _check_frozen(chosen, objective, ranks)
        faults = Faults()
        given = read_source(source, root, status=status, faults=faults)
        return folder, chosen, prepare_step(folder, given, chosen, overwrite, progress, faults)

    folder, chosen, images = ranks.ask_first(prepare)
    model = train_step(folder, images, chosen, device, progress, objective, ranks)
    if not ranks.is_first:
        return RunResult(folder, model, {}, {})
    vectors = embed_step(folder, model, images, progress)
    near_copies_step(folder, vectors)
    index = VectorIndex.build(vectors["train"])  # shared by all later searches of the training vectors
    if with_index:
        index_step(folder, index)
    return RunResult(folder, model, vectors, evaluate_step(folder, model, vectors, index, chosen, progress))


def _check_frozen(settings: Settings, objective: object, ranks: Ranks) -> None:
    """Refuse what a frozen trunk does not use, also where the settings are those of the run continued."""
    if settings.network.frozen and objective is not None:
        raise SettingError(
            "objective: with network.frozen (preset instant) the head is computed without an objective; leave one out"
        )
    if settings.network.frozen and ranks.size > 1:
        raise SettingError(
            "network.frozen (preset instant): the head is computed by one process, without training; start it without "
            "torchrun, or choose a preset that trains the trunk (--preset quick, cpu or gpu)"
        )


def demo(
    output: str | Path = "runs/demo",
    *,
    settings: SettingsLike = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> RunResult:
    """Draw plankton images into a folder beside `output` and run on them; nothing is downloaded."""
    refuse_ranks("demo")
    output = Path(output)
    images_folder = output.with_name(f"{output.name}_images")
    drawn = draw_set(images_folder, n_per_class=DEMO_IMAGES_PER_CLASS, classes=DEMO_CLASSES, progress=progress)
    images = read_source(drawn).with_classes(include=DEMO_CLASSES)
    return run(images, output, settings=settings, overwrite=overwrite, device=device, progress=progress)
