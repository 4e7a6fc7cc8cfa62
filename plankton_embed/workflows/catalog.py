"""`catalog`: gather images into one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import (
    ImageCatalog,
    hash_images,
    read_class_map,
    refuse_unknown,
    warn_of_similar_classes,
)
from plankton_embed.images.catalog_summary import summarize
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.readers.ecotaxa_units import Dilution, FeatureUnit
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import CATALOG_SUFFIXES, read_source
from plankton_embed.images.splits import (
    CONTRADICTS,
    check_leaks,
    mark_contradictions,
    note_contradictions,
    note_copies,
    split_catalog,
)
from plankton_embed.output import refuse_overwrite
from plankton_embed.settings import PreparationSettings, Settings
from plankton_embed.workflows.inputs import Source, refuse_inside
from plankton_embed.workflows.result_folder import draw_catalog

logger = logging.getLogger(__name__)


def catalog(
    source: Source,
    output: str | Path | None = None,
    *,
    root: str | Path | None = None,
    source_format: str | None = None,
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
    """Gather images into a catalog: one row per image, with label, split and sample.

    Every image is decoded. Images that cannot be read, and copies (equal pixels) with two labels, are reported. The
    counts of classes, sizes and gaps are in its `summary` (see `summarize`).

    Args:
        source: EcoTaxa tables, IFCB bins, a FlowCam run, a challenge set, arrays, a folder of images, a catalog file,
            or a list of files.
        output: CSV or Parquet to write; faults of the source are listed in `<output>_faults.csv`.
        root: where the relative paths of a catalog file start.
        source_format: format of the source; by default detected.
        keep_going: leave out faulty rows, files and folders with a warning, instead of refusing the source.
        labels: arrays: a CSV with the class of each image.
        label_column: challenge sets: the column with the class, by default `level2`.
        masks: FlowCam runs: make pixels outside the mask beside the picture white.
        status: sources with a status (EcoTaxa, challenge sets): statuses whose class names become labels, such as
            `validated,predicted`; by default `validated`.
        dilution: PlanktoScope tables: how `sample_dilution_factor` changes the number of objects, `multiply`,
            `divide` or `ignore`; without it diluted samples get no concentrations.
        images_per_sample: UVP tables: how many images were taken of each sample, a number or a CSV with the columns
            `sample` and `images`; without it there are no concentrations.
        feature_unit: EcoTaxa tables: unit of areas and axes, `px` or `um`; by default pixels, unless boxes in the table
            or the images show otherwise.
        include: keep only these classes.
        exclude: drop these classes.
        class_map: old name -> new name (a mapping, or a CSV file); classes with the same new name are merged, those
            with an empty one are dropped.
        split: shares of train, val and test; stratified, images with equal pixels stay together, and existing splits
            are replaced.
        group_by: column; images with the same value stay in one split. Needs `split`.
        drop_duplicates: if the source has splits, drop images with equal pixels found in more than one of them.
        preview: draw pictures of classes, sizes, examples and preparation into `<output>_preview/`.
        preparation: how images are prepared in the preview; by default the default preparation.
        seed: seed of split and preview.
        overwrite: replace the output.
        progress: show bars.
        faults: collects the faults of the source.

    Raises:
        InputError: the source is missing, faulty or not recognized, or no image is left.
        SettingError: options that do not go together, or do not fit the source.
        OutputError: the output exists already.
    """
    if group_by is not None and split is None:
        raise SettingError(
            "group_by can only be used with a new split; give its shares too (split, --fractions .7,.1,.2)"
        )
    if preview and output is None:
        raise SettingError("preview needs an output, beside which the pictures are written")
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
    finally:  # the faults of a refused source are listed too
        if output is not None:
            faults.save(faults_path(output))
    if isinstance(class_map, str | Path):
        read_class_map(class_map, gathered.classes)  # its first line may be a class; the classes are only known now
    if len(gathered):
        gathered = gathered.with_classes(include, exclude, renames)
        if len(gathered) == 0:
            raise InputError("include, exclude and class map leave no image")
        warn_of_similar_classes(gathered.frame["label"])
    refuse_unknown(gathered.classes, str(source) if isinstance(source, str | Path) else "catalog")
    if drop_duplicates and not gathered.has_splits:
        raise SettingError("drop_duplicates needs a catalog with splits")
    hashes, reasons = hash_images(gathered.paths, progress)
    faults.add_unreadable(gathered.paths, reasons, kept=True)
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
    summary = summarize(gathered, progress, levels.to_dict(preparation), len(reasons), levels.sizes)
    if preview and output is not None:
        pictures = Path(output).with_name(f"{Path(output).stem}_preview")
        draw_catalog(pictures, gathered, summary, levels.resolve(preparation), seed)
    return replace(gathered, summary=summary)


def faults_path(output: str | Path) -> Path:
    """Return the file beside a catalog that lists the faults of its source."""
    return Path(output).with_name(f"{Path(output).stem}_faults.csv")


def _leave_out_copies(catalog: ImageCatalog, hashes: Sequence[str | None], drop: bool, faults: Faults) -> ImageCatalog:
    """Drop copies in another split, or keep them; note and report them in both cases."""
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
