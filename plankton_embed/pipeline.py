"""The story: catalog -> train -> embed -> index -> evaluate, plain calls in order."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed import contact_sheets
from plankton_embed.embedding import embed
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.evaluation import Reference, load_vectors
from plankton_embed.images.catalog import (
    ImageCatalog,
    hash_images,
    read_class_map,
    refuse_unknown,
    summarize,
    warn_of_similar_classes,
)
from plankton_embed.images.drawn import CLASSES, draw_set
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.readers.ecotaxa_units import Dilution, FeatureUnit
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import CATALOG_SUFFIXES, SourceFormat, read_source
from plankton_embed.images.splits import (
    CONTRADICTS,
    check_leaks,
    mark_contradictions,
    note_contradictions,
    note_copies,
    split_catalog,
)
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import refuse_overwrite
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.run_steps import (
    SettingsLike,
    Source,
    draw_catalog,
    embed_step,
    evaluate_step,
    index_step,
    near_copies_step,
    note_unreadable,
    open_run,
    prepare_step,
    refuse_inside,
    train_step,
)
from plankton_embed.settings import PreparationSettings, Settings
from plankton_embed.vector_index import INDEX_FILE, IndexKind, VectorIndex

logger = logging.getLogger(__name__)

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
    status: str | Sequence[str] | None = None,
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
        status: of sources with a status (EcoTaxa, challenge sets): statuses whose names are labels, such as
            `validated,predicted`; by default `validated`.
        overwrite: throw away a run that is there and begin anew.
        device: `auto`, `cpu`, `cuda`, `mps`.
        progress: show bars.

    Raises:
        InputError: nothing to learn from, or the folder holds a run of other images.
        SettingError: the folder holds a run with other settings.
        OutputError: the folder holds something else.
    """
    return _do_steps(source, output, settings, root, status, overwrite, device, progress, with_index=True)


def train(
    source: Source,
    output: str | Path,
    *,
    settings: SettingsLike = None,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
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
    return _do_steps(source, output, settings, root, status, overwrite, device, progress, with_index=False)


def _do_steps(
    source: Source,
    output: str | Path,
    settings: SettingsLike,
    root: str | Path | None,
    status: str | Sequence[str] | None,
    overwrite: bool,
    device: str,
    progress: bool,
    *,
    with_index: bool,
) -> RunResult:
    folder, chosen = open_run(source, output, settings, overwrite, device)
    faults = Faults()
    given = read_source(source, root, status=status, faults=faults)
    images = prepare_step(folder, given, chosen, overwrite, progress, faults)
    model = train_step(folder, images, chosen, device, progress)
    embed_step(folder, model, images, progress)
    near_copies_step(folder)
    if with_index:
        index_step(folder)
    return RunResult(folder, evaluate_step(folder, images, chosen, progress))


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


# ---------------------------------------------------------------------------------------------- single verbs


def catalog(
    source: Source,
    output: str | Path | None = None,
    *,
    root: str | Path | None = None,
    source_format: SourceFormat | None = None,
    keep_going: bool = False,
    labels: str | Path | None = None,
    label_column: str | None = None,
    masks: bool | None = None,
    status: str | Sequence[str] | None = None,
    dilution: Dilution | None = None,
    images_per_sample: float | str | Path | None = None,
    feature_unit: FeatureUnit | None = None,
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
    faults: Faults | None = None,
) -> ImageCatalog:
    """Gather images into a catalog: one row an image, with label, split and sample.

    Every image is decoded: those that cannot be read, and copies (equal pixels) with two labels, are reported. What the
    catalog holds is its `summary` (see `summarize`).

    Args:
        source: EcoTaxa tables, IFCB bins, a FlowCam run, a challenge set, arrays, a folder of images, a catalog file,
            or a list of files.
        output: CSV or Parquet to write; what is wrong in the source is listed beside it, in `<output>_faults.csv`.
        root: where the relative paths of a catalog file start.
        source_format: which of these the source is; by default found out.
        keep_going: leave out faulty rows, files and folders with a warning, instead of refusing the source.
        labels: of arrays: a CSV with the class of each image.
        label_column: of a challenge set: the column that is the class, by default `level2`.
        masks: of a FlowCam run: make white what the mask beside the picture has black.
        status: of sources with a status (EcoTaxa, challenge sets): statuses whose names are labels, such as
            `validated,predicted`; by default `validated`.
        dilution: of PlanktoScope tables: what `sample_dilution_factor` does to the number of objects, `multiply`,
            `divide` or `ignore`; without it diluted samples get no concentrations.
        images_per_sample: of UVP tables: how many images were taken of each sample, a number or a CSV with the columns
            `sample` and `images`; without it there are no concentrations.
        feature_unit: of EcoTaxa tables: whether areas and axes are in `px` or in `um`; by default in pixels, unless
            boxes in the table or the images show otherwise.
        include: keep only these classes.
        exclude: drop these classes.
        class_map: old name -> new name (a mapping, or a CSV file); equal new names merge, an empty one drops.
        split: shares of train, val and test; stratified, images with equal pixels together, existing splits replaced.
        group_by: column whose equal values stay on one side; goes with `split`.
        drop_duplicates: drop images with equal pixels that are in more than one split of the catalog's own.
        preview: draw pictures of classes, sizes, examples and preparation into `<output>_preview/`.
        preparation: what the preview shows; by default the default preparation.
        seed: of split and preview.
        overwrite: replace the output.
        progress: show bars.
        faults: gathers what is wrong in the source.

    Raises:
        InputError, SettingError, OutputError: each says what to do.
    """
    if group_by is not None and split is None:
        raise SettingError("group_by says how to split; give the shares too (--split .7,.1,.2)")
    if preview and output is None:
        raise SettingError("preview needs an output; its pictures are written beside it")
    if output is not None:
        refuse_overwrite(output, overwrite, CATALOG_SUFFIXES)
        Faults.refuse_foreign(faults_path(output))
        if preview:
            refuse_inside(source, output)
    shares = () if split is None else Settings.build(overrides={"split.fractions": tuple(split)}).split.fractions
    renames = read_class_map(class_map) if isinstance(class_map, str | Path) else class_map
    if split is not None and drop_duplicates:
        raise SettingError(
            "drop_duplicates is for a catalog with its own split; a new split keeps identical images together"
        )
    faults = Faults() if faults is None else faults
    try:
        gathered = read_source(
            source,
            root,
            source_format=source_format,
            keep_going=keep_going,
            faults=faults,
            labels=labels,
            label_column=label_column,
            masks=masks,
            status=status,
            dilution=dilution,
            images_per_sample=images_per_sample,
            feature_unit=feature_unit,
        )
    finally:  # a source that is refused has its faults listed too
        if output is not None:
            faults.save(faults_path(output))
    if isinstance(class_map, str | Path):
        read_class_map(class_map, gathered.classes)  # whose header may be a class, which is known only now
    if len(gathered):
        gathered = gathered.with_classes(include, exclude, renames)
        if len(gathered) == 0:
            raise InputError("include, exclude and class map leave no image")
        warn_of_similar_classes(gathered)
    refuse_unknown(gathered.classes, str(source) if isinstance(source, str | Path) else "catalog")
    if drop_duplicates and not gathered.has_splits:
        raise SettingError("drop_duplicates needs a catalog with splits")
    hashes, reasons = hash_images(gathered.paths, progress)
    note_unreadable(gathered, reasons, faults, kept=True)
    note_contradictions(mark_contradictions(gathered, hashes), faults)
    faults.report()
    gathered = ImageCatalog(gathered.frame.drop(columns=CONTRADICTS, errors="ignore"))  # of a run's catalog
    if split is not None:
        gathered = split_catalog(gathered, shares, seed=seed, group_by=group_by, hashes=hashes)
    elif gathered.has_splits:
        gathered = _leave_out_copies(gathered, hashes, drop_duplicates, faults)
    if output is not None:
        faults.save(faults_path(output))
        gathered.save(output)
    preparation = preparation or PreparationSettings()
    levels = find_grey_levels(gathered.paths, progress)
    levels.report(preparation)
    summary = summarize(gathered, progress, levels.to_dict(preparation), n_unreadable=len(reasons))
    if preview and output is not None:
        pictures = Path(output).with_name(f"{Path(output).stem}_preview")
        draw_catalog(pictures, gathered, summary, levels.resolve(preparation), seed)
    return replace(gathered, summary=summary)


def faults_path(output: str | Path) -> Path:
    """Return the table beside a catalog in which everything is listed that is wrong in its source."""
    return Path(output).with_name(f"{Path(output).stem}_faults.csv")


def _leave_out_copies(catalog: ImageCatalog, hashes: Sequence[str | None], drop: bool, faults: Faults) -> ImageCatalog:
    """Drop copies in another split, or leave them; report and note them in both cases."""
    checked, keep = check_leaks(catalog, hashes, drop_duplicates=True)
    note_copies(catalog, hashes, keep, faults, kept=not drop)
    if not keep.all():
        logger.warning(
            "%d images have copies (equal pixels) in another split, such as %s; %s",
            *(int((~keep).sum()), catalog.paths[int(keep.argmin())]),
            "they are left out"
            if drop
            else "training refuses the catalog: correct the column split, or drop them with --drop-duplicates",
        )
    return checked if drop else catalog


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
