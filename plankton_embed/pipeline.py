"""The story: catalog -> train -> embed -> index -> evaluate, plain calls in order."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed import contact_sheets
from plankton_embed.classifiers.enrollment import add_examples, measure_learning, summarize_learning
from plankton_embed.classifiers.naming import METHODS, fit_classifier, select_known
from plankton_embed.classifiers.refusal import RefusalMeasure, least_calibration
from plankton_embed.embedding import embed, embed_prepared
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.evaluation import (
    UNKNOWN_RATE,
    Evaluation,
    Naming,
    Reference,
    draw_evaluation,
    evaluate_names,
    fitting_k,
    load_vectors,
    score_space,
    write_curve,
    write_frame,
    write_tables,
)
from plankton_embed.images.catalog import (
    SPLITS,
    CatalogSummary,
    ImageCatalog,
    content_hashes,
    read_class_map,
    summarize,
)
from plankton_embed.images.drawn import CLASSES, draw_set
from plankton_embed.images.readers.source import CATALOG_SUFFIXES, read_source
from plankton_embed.images.splits import check_leaks, split_catalog
from plankton_embed.images.store import PreparedImages, prepare_images
from plankton_embed.network.device import choose_device
from plankton_embed.network.model import CARD_FILE, CONFIG_FILE, EmbeddingModel
from plankton_embed.network.trunks import check_trunk
from plankton_embed.output import refuse_overwrite, write_atomically, write_json
from plankton_embed.plots.class_sizes import draw_class_sizes
from plankton_embed.plots.curves import draw_curves
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.image_sizes import draw_image_sizes
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import PreparationSettings, Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.training.collapse import count_never_predicted
from plankton_embed.training.tracking import MOST_POINTS, Tracker, check_tensorboard
from plankton_embed.training.trainer import Validation, train_model
from plankton_embed.vector_index import INDEX_FILE, IndexKind, VectorIndex

MOST_VALIDATION_IMAGES = 5000  # named after an epoch; their accuracy is then known to 0.7 points (standard error)

LEAST_UNSEEN = 20  # training images of a class that may be drawn as unseen
SCORES_FILE = "scores.json"

logger = logging.getLogger(__name__)

Source = ImageCatalog | str | Path | Sequence[str | Path]
SettingsLike = Settings | Mapping[str, Any] | None

DEMO_CLASSES = CLASSES[:8]
DEMO_IMAGES_PER_CLASS = 200
DEMO_SETTINGS = {  # from scratch in minutes: a smaller trunk, and many small batches
    "network.trunk": "resnet18",
    "training.epochs": 20,
    "training.images_per_class": 280,
    "training.classes_per_batch": 6,
    "training.margin": 0.5,
    "training.learning_rate": 2e-3,
}


# ---------------------------------------------------------------------------------------------- whole runs


@dataclass(frozen=True)
class RunResult:
    """A finished run: where its files lie, and its scores (see `scores.json`)."""

    folder: RunFolder
    scores: dict[str, Any]

    @property
    def model(self) -> EmbeddingModel:
        """The trained model, loaded anew."""
        return EmbeddingModel.load(self.folder.model)


def run(
    source: Source,
    output: str | Path,
    *,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> RunResult:
    """Do the whole job: catalog, split, train, embed, index, evaluate; steps that are finished are skipped.

    Called again after a stop, it goes on where it stood.

    Args:
        source: a folder of images, a catalog file, a list of files, or an `ImageCatalog`.
        output: folder of the run.
        settings: `Settings`, or `{"training.epochs": 20, …}` to change the defaults.
        root: where the relative paths of a catalog file start.
        overwrite: throw away a run that is there and begin anew.
        device: `auto`, `cpu`, `cuda`, `mps`.
        progress: show bars.

    Raises:
        InputError: nothing to learn from, or the folder holds a run of other images.
        SettingError: the folder holds a run with other settings.
        OutputError: the folder holds something else.
    """
    folder, chosen = _open_run(source, output, settings, overwrite, device)
    images = _prepare_step(folder, read_source(source, root), chosen, overwrite, progress)
    model = _train_step(folder, images, chosen, device, progress)
    _embed_step(folder, model, images, progress)
    _index_step(folder)
    return RunResult(folder, _evaluate_step(folder, images, chosen, progress))


def train(
    source: Source,
    output: str | Path,
    *,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> RunResult:
    """Train a model, embed the splits of its catalog and evaluate.

    As `run`, but without the index, and an unfinished run is gone on with only when `resume` is true.
    """
    folder = RunFolder(Path(output))
    if resume and overwrite:
        raise SettingError("resume goes on with a run, overwrite throws it away; give one of them")
    if resume and not folder.settings.exists():
        raise InputError(
            f"{output} holds no run to resume (one that was stopped while its images were prepared has left nothing "
            "there); leave --resume out to begin"
        )
    if folder.settings.exists() and not (resume or overwrite):
        raise OutputError(
            f"{output} holds a run already; go on with it (--resume), replace it (--overwrite), "
            "or choose another folder"
        )
    folder, chosen = _open_run(source, output, settings, overwrite, device)
    images = _prepare_step(folder, read_source(source, root), chosen, overwrite, progress)
    model = _train_step(folder, images, chosen, device, progress)
    _embed_step(folder, model, images, progress)
    return RunResult(folder, _evaluate_step(folder, images, chosen, progress))


def demo(
    output: str | Path = "runs/demo",
    *,
    settings: SettingsLike = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> RunResult:
    """Draw a plankton set beside `output` and run on it: everything in minutes, without a download."""
    output = Path(output)
    place = output.with_name(f"{output.name}_images")
    drawn = draw_set(place, n_per_class=DEMO_IMAGES_PER_CLASS, classes=DEMO_CLASSES, progress=progress)
    images = read_source(drawn).with_classes(include=DEMO_CLASSES)
    if not isinstance(settings, Settings):
        settings = Settings.build(overrides={**DEMO_SETTINGS, **(settings or {})})
    return run(images, output, settings=settings, overwrite=overwrite, device=device, progress=progress)


@dataclass(frozen=True)
class SeenUnseen:
    """What a model makes of classes that it was not trained on.

    `run`: that of the seen classes; `unseen`: the others. `evaluation`: test images of all classes named by the seen
    ones, those of unseen classes to be refused. `draws`: the unseen classes enrolled from a few training images each
    (see `measure_learning`).
    """

    run: RunResult
    unseen: list[str]
    evaluation: Evaluation
    draws: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """Mean and spread of the enrolled classes' scores over the draws."""
        return summarize_learning(self.draws)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        summary = self.summary.astype(object).where(self.summary.notna(), None)  # JSON knows no nan
        return {"unseen": self.unseen, **self.evaluation.scores_dict(), "enrolled": summary.to_dict("records")}


def seen_unseen(
    source: Source,
    output: str | Path,
    *,
    unseen: Sequence[str] = (),
    n_unseen: int | None = None,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    unknown_rate: float = UNKNOWN_RATE,
    refuse_by: RefusalMeasure | None = None,
    n_draws: int = 10,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> SeenUnseen:
    """Train on some of the classes, refuse the images of the others, then enroll these, and score both.

    Called again after a stop, it goes on where it stood.

    Args:
        source: a catalog, its file, or a folder of images; without splits it is divided as the settings say.
        output: folder to write: `run/` (the run of the seen classes), `vectors/` of the unseen, `scores.json`,
            `predictions.csv`, tables and pictures.
        unseen: the classes to leave out of training.
        n_unseen: how many to draw (by the settings' seed) instead, among the classes with at least
            `LEAST_UNSEEN` training images; by default a third of all classes.
        settings: as for `run`.
        root: where the relative paths of a catalog file start.
        unknown_rate: share of images of seen classes that may be refused.
        refuse_by: what makes an image strange: `centroid`, `neighbor` (the default) or `density` (see `Refuser`).
        n_draws: draws of each number of examples.
        overwrite: begin anew.
        device: `auto`, `cpu`, `cuda`, `mps`.
        progress: show bars.

    Raises:
        InputError: a class to leave out is not in the catalog, or too few classes are left.
        SettingError: both `unseen` and `n_unseen` are given.
        OutputError: the folder holds finished scores.
    """
    if unseen and n_unseen is not None:
        raise SettingError("unseen names the classes to leave out, n_unseen has them drawn; give one of them")
    if n_draws < 1:
        raise SettingError(f"draws: expected at least 1; found {n_draws}")
    Naming("knn", None, unknown_rate, refuse_by)  # raises where they cannot be used
    place, chosen = Path(output), _build_settings(settings)
    _refuse_inside(source, output)
    if RunFolder(place).settings.exists():
        raise OutputError(f"{output} is a run; choose another folder")
    if (place / SCORES_FILE).exists() and not overwrite:
        raise OutputError(f"{output} holds finished scores; choose another folder, or begin anew (--overwrite)")
    gathered = read_source(source, root)
    hashes = content_hashes(gathered.paths, progress)
    if not gathered.has_splits:
        gathered = split_catalog(
            gathered, chosen.split.fractions, seed=chosen.seed, group_by=chosen.split.group_by, hashes=hashes
        )
    gathered, _ = check_leaks(gathered, hashes, drop_duplicates=chosen.split.drop_duplicates)
    left_out = sorted(unseen) or _draw_unseen(gathered, n_unseen, chosen.seed)
    _check_parts(gathered, left_out, unknown_rate)
    (place / SCORES_FILE).unlink(missing_ok=True)  # what says that all is finished
    trained = run(
        gathered.with_classes(exclude=left_out),
        place / "run",
        settings=chosen,
        overwrite=overwrite,
        device=device,
        progress=progress,
    )
    strangers = gathered.with_classes(include=left_out)
    known, held, test = (EmbeddingTable.load(trained.folder.vectors(name)) for name in SPLITS)
    model = EmbeddingModel.load(trained.folder.model, device)
    examples, asked = (embed(model, strangers.split(name), progress=progress) for name in ("train", "test"))
    everything = add_examples(test, asked)
    examples.save(place / "vectors" / "unseen_train.parquet")
    everything.save(place / "vectors" / "test.parquet")
    naming = Naming("knn", fitting_k(known, chosen), unknown_rate, refuse_by)
    evaluation = evaluate_names(known, everything, naming, held)
    draws = measure_learning(
        known,
        examples,
        everything,
        n_neighbors=chosen.classification.n_neighbors,
        n_draws=n_draws,
        seed=chosen.seed,
        progress=progress,
    )
    result = SeenUnseen(trained, left_out, evaluation, draws)
    write_tables(place, evaluation)
    draw_evaluation(place / "figures", evaluation)
    write_curve(place, draws)
    write_json(place / SCORES_FILE, result.to_dict())
    return result


def _check_parts(catalog: ImageCatalog, unseen: list[str], unknown_rate: float) -> None:
    """Make sure, before anything is trained, that there are images to train on, to calibrate on and to score."""
    seen, strangers = catalog.with_classes(exclude=unseen), catalog.with_classes(include=unseen)
    needed = (
        (seen, "seen", "train", 2),
        (seen, "seen", "val", least_calibration(unknown_rate)),
        (seen, "seen", "test", 1),
        (strangers, "unseen", "train", 1),
        (strangers, "unseen", "test", 1),
    )
    for images, kind, split, least in needed:
        n = int(images.split(split).frame["label"].notna().sum())
        if n < least:
            raise InputError(
                f"the {kind} classes need at least {least} labelled images in {split}, found {n}; divide the catalog "
                "anew, or leave out other classes"
            )


def _draw_unseen(catalog: ImageCatalog, n_unseen: int | None, seed: int) -> list[str]:
    """Draw classes to leave out of training, among those with enough images to enroll them from."""
    counts = catalog.split("train").frame["label"].value_counts()
    able = sorted(str(label) for label in counts.index[counts >= LEAST_UNSEEN])
    n = max(1, len(catalog.classes) // 3) if n_unseen is None else n_unseen
    if not 1 <= n <= min(len(able), len(catalog.classes) - 2):
        raise InputError(
            f"{n} classes cannot be left out of training: {len(catalog.classes)} are there, of which 2 must stay, and "
            f"{len(able)} have at least {LEAST_UNSEEN} training images; give another n_unseen, or name the classes"
        )
    return sorted(np.random.default_rng(seed).choice(able, n, replace=False).tolist())


# ---------------------------------------------------------------------------------------------- single verbs


def catalog(
    source: Source,
    output: str | Path | None = None,
    *,
    root: str | Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    class_map: Mapping[str, str] | str | Path | None = None,
    split: Sequence[float] | None = None,
    group_by: str | None = None,
    drop_duplicates: bool = False,
    preview: bool = False,
    preparation: PreparationSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> ImageCatalog:
    """Gather images into a catalog: one row an image, with label, split and sample.

    Args:
        source: a folder of images, a catalog file, or a list of files.
        output: CSV or Parquet to write.
        root: where the relative paths of a catalog file start.
        include: keep only these classes.
        exclude: drop these classes.
        class_map: old name -> new name (a mapping, or a CSV file); equal new names merge, an empty one drops.
        split: shares of train, val and test; stratified, identical images together, existing splits replaced.
        group_by: column whose equal values stay on one side; goes with `split`.
        drop_duplicates: drop images that lie, byte for byte, on two sides of the catalog's own split.
        preview: draw pictures of classes, sizes, examples and preparation into `<output>_preview/`.
        preparation: what the preview shows; by default the default preparation.
        seed: of split and preview.
        overwrite: replace the output.
        progress: show bars.

    Raises:
        InputError, SettingError, OutputError: each says what to do.
    """
    if group_by is not None and split is None:
        raise SettingError("group_by says how to split; give the shares too (--split .7,.1,.2)")
    if preview and output is None:
        raise SettingError("preview needs an output; its pictures are written beside it")
    if output is not None:
        refuse_overwrite(output, overwrite, CATALOG_SUFFIXES)
    if preview and output is not None:
        _refuse_inside(source, output)
    if isinstance(class_map, str | Path):
        class_map = read_class_map(class_map)
    gathered = read_source(source, root).with_classes(include, exclude, class_map)
    if len(gathered) == 0:
        raise InputError("include, exclude and class map leave no image")
    if split is not None and drop_duplicates:
        raise SettingError(
            "drop_duplicates is for a catalog with its own split; a new split keeps identical images together"
        )
    if split is not None:
        shares = Settings.build(overrides={"split.fractions": tuple(split)}).split.fractions
        hashes = content_hashes(gathered.paths, progress)
        gathered = split_catalog(gathered, shares, seed=seed, group_by=group_by, hashes=hashes)
    elif drop_duplicates:
        if not gathered.has_splits:
            raise SettingError("drop_duplicates needs a catalog with splits")
        gathered, _ = check_leaks(gathered, content_hashes(gathered.paths, progress), drop_duplicates=True)
    if output is not None:
        gathered.save(output)
    if preview and output is not None:
        pictures = Path(output).with_suffix("").with_name(f"{Path(output).stem}_preview")
        _draw_catalog(pictures, gathered, summarize(gathered, progress), preparation or PreparationSettings(), seed)
    return gathered


def index(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    kind: IndexKind = "flat",
    overwrite: bool = False,
) -> VectorIndex:
    """Build a FAISS index over vectors; save it when `output` is given.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write.
        kind: `flat` (exact) or `ivf_sq8` (for millions).
        overwrite: replace the output.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, made_of=INDEX_FILE)
    built = VectorIndex.build(load_vectors(vectors), kind)
    if output is not None:
        built.save(output)
    return built


def search(
    index: VectorIndex | str | Path,
    model: EmbeddingModel | str | Path,
    images: Source,
    k: int = 10,
    *,
    sheet: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Find the images of an index that are most like the given ones.

    Args:
        index: an index, its folder, or the folder of a run.
        model: the model that made the vectors of the index.
        images: files, a folder, or a catalog.
        k: neighbours an image.
        sheet: picture to draw: each image and its neighbours.
        device: where to embed.
        progress: show bars.

    Returns:
        One row a neighbour: `query`, `rank` (from 1), `object_id`, `label`, `distance`, `path`.

    Raises:
        MismatchError: the index was made by another model; both hashes are named.
    """
    if not isinstance(index, VectorIndex):
        index = VectorIndex.load(index)
    queries = embed(model, images, device=device, progress=progress)
    neighbors = index.search(queries, k)
    if sheet is not None:
        save_figure(draw_sheet(contact_sheets.neighbors_sheet(queries, index.table, neighbors)), sheet)
    rows = neighbors.rows.ravel()
    return pd.DataFrame(
        {
            "query": np.repeat(queries.object_id, k),
            "rank": np.tile(np.arange(1, k + 1), len(queries)),
            "object_id": index.table.object_id[rows],
            "label": index.table.label[rows],
            "distance": neighbors.distances.ravel(),
            "path": index.table.path[rows],
        }
    )


# ---------------------------------------------------------------------------------------------- steps of a run


@dataclass(frozen=True)
class _RunImages:
    """The images of a run, row by row: what is known of them, and their prepared pixels."""

    catalog: ImageCatalog
    prepared: PreparedImages

    def split(self, name: str) -> _RunImages:
        mask = (self.catalog.frame["split"] == name).to_numpy()
        return self.select(mask)

    def labelled(self) -> _RunImages:
        return self.select(self.catalog.frame["label"].notna().to_numpy())

    def select(self, mask: Any) -> _RunImages:
        return _RunImages(self.catalog.select(mask), self.prepared.select(mask))


def _open_run(
    source: Source, output: str | Path, settings: SettingsLike, overwrite: bool, device: str
) -> tuple[RunFolder, Settings]:
    """Find out, before anything is done, whether a run can be made or gone on with there."""
    chosen = _build_settings(settings)
    choose_device(device)
    check_trunk(chosen.network.trunk)
    if chosen.training.tensorboard:
        check_tensorboard()
    _refuse_inside(source, output)
    folder = RunFolder(Path(output))
    if not folder.settings.exists():
        if folder.path.exists() and (not folder.path.is_dir() or any(_visible(folder.path))):
            raise OutputError(f"{output} exists already and holds no run; choose another folder")
    elif not overwrite:
        before, now = Settings.load(folder.settings).flat(), chosen.flat()
        changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
        if changed:
            raise SettingError(
                f"{output} holds a run with other settings ({'; '.join(changed)}); "
                "use those, choose another folder, or replace it (--overwrite)"
            )
    return folder, chosen


def _build_settings(settings: SettingsLike) -> Settings:
    return settings if isinstance(settings, Settings) else Settings.build(overrides=settings or {})


def _visible(folder: Path) -> list[Path]:
    """Return what lies in a folder but for hidden things, such as what a killed process was writing."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _refuse_inside(source: Source, output: str | Path) -> None:
    is_folder = isinstance(source, str | Path) and Path(source).is_dir()
    if is_folder and Path(output).resolve().is_relative_to(Path(str(source)).resolve()):
        raise OutputError(f"{output} lies inside {source}, so its pictures would be read as images; write elsewhere")


def _clear(folder: RunFolder) -> None:
    """Remove what a run writes, and nothing else."""
    for path in (
        folder.model,
        folder.checkpoints,
        folder.tensorboard,
        folder.path / "vectors",
        folder.index,
        folder.path / "analysis",
        folder.figures,
    ):
        shutil.rmtree(path, ignore_errors=True)
    for path in (
        folder.catalog,
        folder.faults,
        folder.history,
        folder.scores,
        folder.predictions,
        folder.report,
        folder.settings,
    ):
        path.unlink(missing_ok=True)


def _prepare_step(
    folder: RunFolder, source: ImageCatalog, settings: Settings, overwrite: bool, progress: bool
) -> _RunImages:
    """Prepare the pixels, set faulty images aside, split, check for leaks; write catalog, faults and settings."""
    hashes = content_hashes(source.paths, progress)
    prepared = prepare_images(source.paths, hashes, settings.preparation, progress=progress)
    faults = pd.DataFrame(
        [(source.frame["object_id"].iloc[row], source.paths[row], reason) for row, reason in prepared.faults.items()],
        columns=["object_id", "path", "reason"],
    )
    good = np.ones(len(source), dtype=bool)
    good[list(prepared.faults)] = False
    if not good.any():
        raise InputError(f"not one of {len(source)} images can be read; the first: {faults['reason'].iloc[0]}")
    if len(faults):
        logger.warning(
            "%d of %d images cannot be used and are left out; see %s", len(faults), len(source), folder.faults
        )
    if settings.network.size_inputs == "micrometres":
        prepared = replace(prepared, pixel_size=source.pixel_size)
    images = _RunImages(source, prepared).select(good)
    good_hashes = [h for h, keep in zip(hashes, good, strict=True) if keep]
    if not images.catalog.has_splits:
        if "split" in images.catalog.frame and images.catalog.frame["split"].notna().any():
            n_missing = int(images.catalog.frame["split"].isna().sum())
            raise InputError(f"{n_missing} images have no split while others have one; fill the column, or empty it")
        divided = split_catalog(
            images.catalog,
            settings.split.fractions,
            seed=settings.seed,
            group_by=settings.split.group_by,
            hashes=good_hashes,
        )
        images = _RunImages(divided, images.prepared)
    elif settings.split.group_by is not None:
        _check_groups(images.catalog, settings.split.group_by)
    checked, keep = check_leaks(images.catalog, good_hashes, drop_duplicates=settings.split.drop_duplicates)
    if not keep.all():
        logger.warning("%d duplicates across the split dropped", int((~keep).sum()))
    images = _RunImages(checked, images.prepared.select(keep))
    _check_classes(images)
    images.prepared.log_sides(settings.network.size_inputs)  # raises where a pixel size is missing
    if overwrite:  # only now, when the new run is known to be possible
        _clear(folder)
    if folder.catalog.exists():
        _check_same_images(folder, images.catalog)
    else:
        settings.save(folder.settings)
        write_frame(folder.faults, faults)
        summary = summarize(images.catalog, progress)
        _draw_catalog(folder.figures, images.catalog, summary, settings.preparation, settings.seed)
        images.catalog.save(folder.catalog)  # last: it says that this step is finished
    counts = images.catalog.frame["split"].value_counts()
    described = ", ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS)
    logger.info("%d images of %d classes: %s", len(images.catalog), len(images.catalog.classes), described)
    return images


def _check_groups(catalog: ImageCatalog, column: str) -> None:
    """Make sure that a catalog's own split tears no group apart."""
    if column not in catalog.frame:
        raise InputError(f"group_by: the catalog has no column {column}; it has {list(catalog.frame.columns)}")
    n_sides = catalog.frame.groupby(column)["split"].nunique()
    torn = list(n_sides.index[n_sides > 1])
    if torn:
        raise InputError(
            f"group_by: {len(torn)} values of {column} lie on several sides of the catalog's own split, such as "
            f"{torn[0]}; mend the column split, or empty it to have the catalog divided"
        )


def _check_classes(images: _RunImages) -> None:
    """Make sure that there is something to learn; warn of what cannot be scored."""
    known = images.split("train").catalog.classes
    if len(known) < 2:
        raise InputError(
            f"training needs at least 2 classes with labelled images in train, found {len(known)}: {known}. "
            "Put the images into one folder a class, or give a catalog with a column label."
        )
    strangers = sorted(set(images.catalog.classes) - set(known))
    if strangers:
        logger.warning("%d classes have no training image and cannot be named: %s", len(strangers), strangers)
    counts = images.split("train").catalog.frame["label"].value_counts()
    lone = sorted(str(label) for label in counts.index[counts == 1])
    if lone:
        logger.warning("%d classes have a single training image: %s", len(lone), lone)


def _check_same_images(folder: RunFolder, now: ImageCatalog) -> None:
    columns = ["object_id", "label", "split"]
    before = ImageCatalog.load(folder.catalog)
    if not before.frame[columns].astype("str").equals(now.frame[columns].astype("str")):
        raise InputError(
            f"{folder.path} holds a run of other images ({len(before)}, now {len(now)}); "
            "choose another folder, or replace it (--overwrite)"
        )


def _train_step(
    folder: RunFolder, images: _RunImages, settings: Settings, device: str, progress: bool
) -> EmbeddingModel:
    if (folder.model / CONFIG_FILE).exists():
        logger.info("model: finished before, in %s", folder.model)
        return EmbeddingModel.load(folder.model, device)
    known = images.split("train").labelled()
    classes, class_index = np.unique(np.array(known.catalog.labels, dtype=str), return_inverse=True)
    model = EmbeddingModel.build(settings.network, settings.preparation, settings.seed).to(device)
    model.views = settings.embedding.views
    val = images.split("val").labelled()
    validate = _make_validation(known, class_index, val, settings)
    history = train_model(model, known.prepared, class_index, settings, folder, validate=validate, progress=progress)
    model.classes = [str(name) for name in classes]
    model.training = {"settings": settings.flat(), "n_images": len(known.catalog), "best_epoch": history.best.epoch}
    save_figure(draw_curves(history), folder.figures / "curves.png")
    if settings.training.tensorboard:
        _log_space(folder, model, val if len(val.catalog) else known)
    model.save(folder.model, _model_card(model))  # last: it says that this step is finished
    return model


def _make_validation(
    known: _RunImages, class_index: np.ndarray[Any, Any], val: _RunImages, settings: Settings
) -> Callable[[EmbeddingModel], Validation]:
    """Return what looks at the space after an epoch: some training images of each class name the validation images.

    Of very many validation images the same `MOST_VALIDATION_IMAGES`, drawn once, are named after every epoch.
    """
    rng = np.random.default_rng(settings.seed)
    n = settings.training.validation_images_per_class
    shuffled = rng.permutation(len(class_index))
    place = pd.Series(shuffled).groupby(class_index[shuffled]).cumcount().to_numpy()
    chosen = np.sort(shuffled[place < n])
    val = val.select(np.sort(rng.permutation(len(val.catalog))[:MOST_VALIDATION_IMAGES]))
    gallery, truth = known.select(chosen), np.array(val.catalog.labels, dtype=str)
    labels = np.array(gallery.catalog.labels, dtype=object)
    classes, precision = set(labels), settings.training.precision

    def validate(model: EmbeddingModel) -> Validation:
        vectors = model.embed_prepared(gallery.prepared, precision=precision, views=1)
        if len(truth) == 0:
            return Validation(vectors, class_index[chosen])
        reference = EmbeddingTable(vectors, label=labels)
        k = fitting_k(reference, settings)
        queries = model.embed_prepared(val.prepared, precision=precision, views=1)
        centroid, knn = (fit_classifier(reference, method, k).predict(queries) for method in ("centroid", "knn"))
        return Validation(
            vectors,
            class_index[chosen],
            centroid_accuracy=float((centroid == truth).mean()),
            knn_accuracy=float((knn == truth).mean()),
            n_never_predicted=count_never_predicted(truth, centroid, classes),
        )

    return validate


def _log_space(folder: RunFolder, model: EmbeddingModel, shown: _RunImages) -> None:
    """Put the finished space into TensorBoard's projector."""
    shown = shown.select(np.arange(len(shown.catalog)) < MOST_POINTS)
    labels = [str(label) for label in shown.catalog.labels]
    with Tracker(folder.tensorboard) as tracker:
        tracker.log_space(model.embed_prepared(shown.prepared), labels, shown.prepared.batch(slice(None))[0])


def _embed_step(folder: RunFolder, model: EmbeddingModel, images: _RunImages, progress: bool) -> None:
    for name in SPLITS:
        part = images.split(name)
        if len(part.catalog) and not folder.vectors(name).exists():
            embed_prepared(model, part.catalog, part.prepared, progress=progress).save(folder.vectors(name))
            logger.info("vectors: %s", folder.vectors(name))


def _index_step(folder: RunFolder) -> None:
    if not folder.index.exists():
        VectorIndex.build(EmbeddingTable.load(folder.vectors("train"))).save(folder.index)
        logger.info("index: %s", folder.index)


def _evaluate_step(folder: RunFolder, images: _RunImages, settings: Settings, progress: bool) -> dict[str, Any]:
    """Score every method on the test split (on val where there is no test) and draw the pictures."""
    if folder.scores.exists():
        return dict(json.loads(folder.scores.read_text(encoding="utf-8")))
    known = EmbeddingTable.load(folder.vectors("train"))
    split = next((name for name in ("test", "val") if len(images.split(name).labelled().catalog)), None)
    scores: dict[str, Any] = {"model_hash": known.model_hash, "split": split, "n_train": int(known.is_labelled.sum())}
    if split is None:
        logger.warning("no labelled images outside train: nothing to score")
    else:
        asked = EmbeddingTable.load(folder.vectors(split))
        held = None
        if split == "test" and folder.vectors("val").exists():
            held = EmbeddingTable.load(folder.vectors("val"))
            held = held if len(select_known(held, known)) else None
        if held is None:
            logger.warning("no images to calibrate on (labelled, in val beside test): no probabilities")
        by_method = {}
        for method in METHODS:
            naming = Naming(method, fitting_k(known, settings) if method == "knn" else None)
            by_method[method] = evaluation = evaluate_names(known, asked, naming, held, progress=progress)
            write_tables(folder.analysis("evaluate") / method, evaluation)
            draw_evaluation(folder.figures / method, evaluation)
        write_frame(folder.predictions, by_method["knn"].names)
        scores |= {"n_images": len(by_method["knn"].names)}
        scores |= {method: evaluation.scores_dict() for method, evaluation in by_method.items()}
        scores |= score_space(known, asked)
        _draw_neighbors(folder.figures / "neighbors.png", known, asked, settings.seed)
        card = _model_card(EmbeddingModel.load(folder.model, "cpu"), scores)
        with write_atomically(folder.model / CARD_FILE) as temporary:
            temporary.write_text(card, encoding="utf-8")
    write_json(folder.scores, scores)
    return scores


def _draw_catalog(
    folder: Path, catalog: ImageCatalog, summary: CatalogSummary, preparation: PreparationSettings, seed: int
) -> None:
    write_json(folder / "catalog_summary.json", summary.to_dict())
    save_figure(draw_class_sizes(summary), folder / "class_sizes.png")
    save_figure(draw_image_sizes(summary), folder / "image_sizes.png")
    save_figure(draw_sheet(contact_sheets.examples_sheet(catalog, seed=seed)), folder / "examples.png")
    save_figure(draw_sheet(contact_sheets.preview_sheet(catalog, preparation, seed=seed)), folder / "preview.png")


def _draw_neighbors(path: Path, known: EmbeddingTable, asked: EmbeddingTable, seed: int, n_queries: int = 10) -> None:
    """Draw the neighbours of some test images, one a class as far as they reach."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(asked.is_labelled))
    _, first = np.unique(asked.label[order].astype(str), return_index=True)
    chosen = np.sort(order[rng.permutation(first)[:n_queries]])
    queries = asked.select(chosen)
    neighbors = VectorIndex.build(known).search(queries, min(8, len(known)))
    save_figure(draw_sheet(contact_sheets.neighbors_sheet(queries, known, neighbors)), path)


def _model_card(model: EmbeddingModel, scores: Mapping[str, Any] | None = None) -> str:
    """Return what a stranger must know before using the model."""
    side, trunk = model.preparation.target_size, model.network.trunk
    objective = model.training.get("settings", {}).get("training.objective", "?")
    lines = [
        "---",
        "library_name: plankton_embed",
        "pipeline_tag: image-feature-extraction",
        "tags: [plankton, metric-learning, image-embedding]",
        "---",
        "# A plankton embedding",
        "",
        f"Maps an image of plankton to {model.dimension} numbers whose Euclidean distance means likeness "
        f"({trunk}, {side}×{side} pixels, objective {objective}). Model {model.hash}.",
        "",
        f"Trained on {model.training.get('n_images', '?')} images of {len(model.classes)} classes: "
        f"{', '.join(model.classes)}.",
    ]
    if scores and scores.get("split"):
        lines += ["", f"On the {scores['n_images']} labelled images of the {scores['split']} split:", ""]
        lines += ["| names by | accuracy | balanced | macro F1 |", "|---|---|---|---|"]
        for method in METHODS:
            s = scores[method]
            lines.append(f"| {method} | {s['accuracy']:.3f} | {s['balanced_accuracy']:.3f} | {s['f1_macro']:.3f} |")
    lines += [
        "",
        "```python",
        "from plankton_embed import EmbeddingModel",
        'model = EmbeddingModel.load("FOLDER")',
        "vectors = model.embed(images)",
        "```",
        "",
    ]
    return "\n".join(lines)
