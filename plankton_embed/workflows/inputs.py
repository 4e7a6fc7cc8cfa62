"""What commands read: vectors, runs, images to embed, calibration sets, samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.classifiers.prediction import (
    NO_CALIBRATION,
    Classifier,
    PredictionOptions,
    rejector_for,
    select_reference_classes,
)
from plankton_embed.classifiers.rejection import Rejector
from plankton_embed.classifiers.scoring import LEAST_SAMPLES
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import SPLITS, ImageCatalog, refuse_unknown
from plankton_embed.images.readers.source import read_source
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable, holds_vectors

logger = logging.getLogger(__name__)

Reference = EmbeddingTable | str | Path
Query = EmbeddingTable | ImageCatalog | str | Path
Source = ImageCatalog | str | Path | Sequence[str | Path]
SettingsLike = Settings | Mapping[str, Any] | None


def load_vectors(vectors: Reference, split: str = "train") -> EmbeddingTable:
    """Return a table as it is, or read it from its file or from the folder of a run."""
    if isinstance(vectors, EmbeddingTable):
        return vectors
    path = Path(vectors)
    return EmbeddingTable.load(RunFolder(path).vectors(split) if path.is_dir() else path)


def find_run(vectors: Query) -> RunFolder | None:
    """Return the run that vectors belong to: its folder was given, or a file in it or in its `vectors/`; else None."""
    if isinstance(vectors, EmbeddingTable | ImageCatalog):
        return None
    path = Path(vectors).absolute()
    folder = path if path.is_dir() else path.parent
    run = RunFolder(folder.parent if folder.name == "vectors" else folder)
    return run if run.settings.is_file() else None


def load_settings(vectors: Reference) -> Settings:
    """Return the settings of the run that vectors belong to (see `find_run`), else the defaults.

    Raises:
        InputError: the settings of the run cannot be read.
    """
    run = find_run(vectors)
    try:
        return Settings() if run is None else Settings.load(run.settings)
    except SettingError as error:
        raise InputError(
            f"{run.settings if run else vectors} cannot be used: {error}\nA newer release may have written it: use "
            "that one, or copy the vectors out of the run, where the default settings are used"
        ) from error


def load_labelled(vectors: Reference, split: str = "train", what: str = "the reference") -> EmbeddingTable:
    """Return `load_vectors`; a class called like rejected images is an error (see `refuse_unknown`)."""
    table = load_vectors(vectors, split)
    refuse_unknown(table.classes, what if isinstance(vectors, EmbeddingTable) else vectors)
    return table


def load_query(
    reference: Reference, query: Query, device: str, progress: bool, status: str | Sequence[str] | None = None
) -> EmbeddingTable:
    """Read the query's vectors; images are embedded by the model of the run that is the reference.

    `status` says which names of images are labels (see `embed`). As of the reference, no class of it may be called like
    rejected images.
    """
    return load_described(reference, query, device, progress, status)[0]


def load_described(
    reference: Reference, query: Query, device: str, progress: bool, status: str | Sequence[str] | None = None
) -> tuple[EmbeddingTable, ImageCatalog | None]:
    """Return `load_query`, and where the query is images their catalog too."""
    if status is not None and (isinstance(query, EmbeddingTable) or not embeds_images(reference, query)):
        raise SettingError(
            "status: it goes with images; the query is vectors, whose labels were chosen when it was made"
        )
    if isinstance(query, EmbeddingTable):
        return load_labelled(query, what="the query"), None
    if isinstance(query, ImageCatalog):
        if isinstance(reference, EmbeddingTable) or not Path(reference).is_dir():
            raise InputError(
                "the query is a catalog of images; embed them first (embed), or give a run as reference, whose model "
                "embeds them"
            )
        return _embed_query(reference, read_source(query, status=status), "the query", device, progress)
    path = Path(query)
    run_folder = RunFolder(path)
    if run_folder.settings.exists():
        split = next((name for name in ("test", "val") if run_folder.vectors(name).exists()), None)
        if split is None:
            raise InputError(f"{path} is a run without test or val vectors; name images or a vectors file")
        return load_labelled(path, split), None
    if isinstance(reference, EmbeddingTable) or not Path(reference).is_dir() or holds_vectors(path):
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, not a file of vectors; embed its images first (plankton-embed embed), or "
                "give a run as reference, whose model embeds them"
            )
        return load_labelled(path), None
    return _embed_query(reference, read_source(path, status=status), path, device, progress)


def _embed_query(
    run: str | Path, images: ImageCatalog, what: str | Path, device: str, progress: bool
) -> tuple[EmbeddingTable, ImageCatalog]:
    refuse_unknown(images.classes, what)
    from plankton_embed.embedding import embed_source  # torch, which vectors alone do not need

    return embed_source(run, images, device=device, progress=progress), images


@dataclass(frozen=True)
class PreparedPrediction:
    """All that a prediction takes: the tables, and what is fitted on them.

    `catalog` of the query, where it is images. `calibration` and `rejector` (which rejects images of unknown classes)
    are None where there is none.
    """

    reference: EmbeddingTable
    query: EmbeddingTable
    catalog: ImageCatalog | None
    calibration: EmbeddingTable | None
    classifier: Classifier
    rejector: Rejector | None


def prepare_prediction(
    reference: Reference,
    query: Query,
    options: PredictionOptions,
    calibration: Reference | None = None,
    needed_for: Sequence[str] = (),
    *,
    calibrated: bool = True,
    called: tuple[str, str] = ("reference", "query"),
    status: str | Sequence[str] | None = None,
    device: str = "auto",
    progress: bool = False,
) -> PreparedPrediction:
    """Read reference, query and calibration set, and fit the classifier and what rejects images.

    Args:
        reference, query, calibration, status: as `classify`.
        options: how images are predicted.
        needed_for: what needs a calibration set (see `find_calibration`).
        calibrated: look for a calibration set.
        called: what messages call reference and query.
        device: where to embed.
        progress: show bars.
    """
    known = load_labelled(reference)
    asked, catalog = load_described(reference, query, device, progress, status)
    known.check_same_model(asked, called)
    held = find_calibration(reference, calibration, known, asked, needed_for) if calibrated else None
    classifier = options.fit(known, held, progress)
    return PreparedPrediction(known, asked, catalog, held, classifier, rejector_for(options, known, classifier, held))


def read_samples(
    column: str, table: EmbeddingTable, source: Query, images: ImageCatalog | None = None
) -> NDArray[np.str_]:
    """Return the text of a column (n,), by which intervals draw whole samples.

    Args:
        column: of the vectors, such as `sample_id`; else of the catalog, by `object_id`.
        table: the vectors.
        source: what they were read from; where it is a run, or in one (see `find_run`), that run's catalog is looked
            into.
        images: the catalog of the images, where they were embedded.

    Raises:
        InputError: there is no such column, or it is empty.
    """
    run, values = find_run(source), pd.Series(None, range(len(table)), dtype=object)
    if images is None and run is not None and run.catalog.is_file():
        images = ImageCatalog.load(run.catalog)
    if column in table.columns:
        values = pd.Series(table.columns[column])
    elif column == "sample_id" and any(table.sample_id):
        values = pd.Series(table.sample_id)
    elif images is not None and column in images.frame:
        values = images.frame.drop_duplicates("object_id").set_index("object_id")[column].reindex(table.object_id)
    n_empty = int(values.isna().sum())
    if n_empty == len(values):
        known = [
            *(["sample_id"] if any(table.sample_id) else []),
            *table.columns,
            *([] if images is None else images.frame),
        ]
        raise InputError(
            f"intervals_by: expected a column of the vectors or of their catalog with a value for each of {len(table)} "
            f"images; found nothing in {column!r}; there are {', '.join(dict.fromkeys(known)) or 'no such columns'}"
        )
    if n_empty:
        logger.warning("%d of %d images have no %s; they are drawn together", n_empty, len(values), column)
    return values.astype("str").where(values.notna(), "").to_numpy(dtype=str)


def read_calibration_samples(column: str, held: EmbeddingTable, source: Reference) -> NDArray[np.intp]:
    """Return the code of the sample of each calibration image (m,), by which intervals or draws take whole samples.

    Raises:
        InputError: there is no such column, or it has fewer than 5 values.
    """
    codes, names = pd.factorize(read_samples(column, held, source))
    if len(names) < LEAST_SAMPLES:
        raise InputError(
            f"intervals_by: expected calibration images with at least {LEAST_SAMPLES} values of {column}; found "
            f"{len(names)}; calibrate on images of more samples (--calibration VECTORS), or leave it out"
        )
    return np.asarray(codes, dtype=np.intp)


def embeds_images(reference: Reference, query: ImageCatalog | str | Path) -> bool:
    """Return whether the query is images, which the model of the run that is the reference embeds."""
    is_run = not isinstance(reference, EmbeddingTable) and Path(reference).is_dir()
    if isinstance(query, ImageCatalog):
        return is_run
    return is_run and not RunFolder(Path(query)).settings.exists() and not holds_vectors(Path(query))


def find_calibration(
    reference: Reference,
    calibration: Reference | None,
    known: EmbeddingTable,
    asked: EmbeddingTable,
    needed_for: Sequence[str] = (),
) -> EmbeddingTable | None:
    """Read the calibration set; by default `val.parquet` beside the reference, where it can serve.

    Of it serve labelled images of known classes that are not in the reference too, and have no copy with another label.

    Args:
        reference: as `classify`.
        calibration: as `classify`.
        known: what was read from the reference.
        asked: what was read from the query.
        needed_for: what needs it.

    Raises:
        MismatchError: made by another model.
        InputError: there is none, and something needs it; or no image of the one that was given can serve.
    """
    if calibration is not None:
        held = load_labelled(calibration, "val")
        known.check_same_model(held, ("reference", "calibration"))
        held = _select_calibration(held, known)
        n_shared = count_shared(held, asked)
        if n_shared:
            logger.warning(
                "%d of the query's images are in the calibration set too, so these scores are too good", n_shared
            )
        return held
    fault = "there is none"
    if not isinstance(reference, EmbeddingTable):
        path = Path(reference)
        beside = RunFolder(path).vectors("val") if path.is_dir() else path.with_name("val.parquet")
        if beside.is_file() and beside.resolve() != path.resolve():
            held = EmbeddingTable.load(beside)
            fault = _why_not(known, held, asked)
            if not fault:
                logger.info("calibration: %s", beside)
                return _select_calibration(held, known)
            fault = f"{beside} {fault}"
    if needed_for:
        raise InputError(f"{' and '.join(needed_for)} {NO_CALIBRATION}; {fault}")
    logger.info("no probabilities: they need a calibration set (--calibration), and %s", fault)
    return None


def _why_not(known: EmbeddingTable, held: EmbeddingTable, asked: EmbeddingTable) -> str:
    """Return why a table that was not asked for cannot serve as calibration set; nothing where it can."""
    if held.model_hash != known.model_hash or held.dimension != known.dimension:
        return "was made by another model"
    if len(select_reference_classes(held, known)) == 0:
        return "has no labelled image of a known class"
    if _is_among(select_reference_classes(held, known), known).all():
        return "has no image that is not in the reference too"
    if count_shared(held, asked):
        return "holds images of the query"
    return ""


def drop_contradictions(held: EmbeddingTable, known: EmbeddingTable) -> EmbeddingTable:
    """Leave out calibration images that have a copy (an equal vector) with another label, there or in the reference."""
    tables = [held.select(held.is_labelled), known.select(known.is_labelled)]
    keys = pd.Series([row.tobytes() for table in tables for row in table.vectors], dtype=object)
    labels = pd.Series(np.concatenate([table.label for table in tables]), dtype=object)
    doubtful = np.zeros(len(held), dtype=bool)
    n_labels = labels.groupby(keys.to_numpy()).transform("nunique").to_numpy()
    doubtful[held.is_labelled] = n_labels[: len(tables[0])] > 1
    if doubtful.any():
        first = int(doubtful.argmax())
        logger.warning(
            "calibration: %d of %d images have a copy (an equal vector) with another label and are left out, such as "
            "%s (%s); correct the labels (suspects lists them first)",
            *(int(doubtful.sum()), len(held), held.object_id[first], held.label[first]),
        )
    return held.select(~doubtful)


def _select_calibration(found: EmbeddingTable, known: EmbeddingTable) -> EmbeddingTable:
    """Keep the images that can serve: errors on images of the reference would look too rare.

    Raises:
        InputError: none is left.
    """
    held = select_reference_classes(found, known)
    if len(held) == 0:
        raise InputError(f"calibration: it has no labelled image of the {len(known.classes)} classes of the reference")
    clear = drop_contradictions(held, known)
    if len(clear) == 0:
        raise InputError(
            "calibration: every image has a copy (an equal vector) with another label; correct the labels, or give "
            "other images (--calibration VECTORS)"
        )
    shared = _is_among(clear, known)
    if shared.all():
        raise InputError(
            "calibration: all images of a known class are in the reference too; give labelled vectors of images that "
            "the network was not trained on (--calibration VECTORS)"
        )
    if shared.any():
        logger.warning("calibration: %d of %d images are in the reference too and left out", shared.sum(), len(clear))
    return clear.select(~shared)


def count_shared(table: EmbeddingTable, other: EmbeddingTable) -> int:
    """Return how many images of a table are in another, their vectors being the same."""
    return int(_is_among(table, other).sum())


def _is_among(table: EmbeddingTable, other: EmbeddingTable) -> NDArray[np.bool_]:
    others = {row.tobytes() for row in other.vectors}
    return np.array([row.tobytes() in others for row in table.vectors], dtype=bool)


def load_split(vectors: Reference, split: str | None) -> tuple[EmbeddingTable, str | None]:
    """Return vectors and their split: of a run the one given, by default test, else val, else train."""
    if split is not None and split not in SPLITS:
        raise SettingError(f"split: expected {', '.join(SPLITS)}; found {split!r}")
    if isinstance(vectors, EmbeddingTable) or not Path(vectors).is_dir():
        if split is not None:
            raise SettingError("split: it chooses among the vectors of a run, and these are a table; leave it out")
        return load_vectors(vectors), None
    run = RunFolder(Path(vectors))
    there = [name for name in reversed(SPLITS) if run.vectors(name).exists()]
    if split is not None and split not in there:
        raise InputError(f"{vectors} has no {split} vectors; those it has: {', '.join(there) or 'none'}")
    chosen = split or next(iter(there), "train")
    table = load_vectors(vectors, chosen)
    logger.info("vectors: the %s split of %s, %d images", chosen, vectors, len(table))
    if chosen == "train":
        logger.warning("the loss has sorted training vectors by label: classes look better separated than they are")
    return table, chosen


def build_settings(settings: SettingsLike) -> Settings:
    """Return whole settings from what a user gave."""
    return settings if isinstance(settings, Settings) else Settings.build(overrides=settings or {})


def refuse_inside(source: Source, output: str | Path) -> None:
    """Keep pictures out of the folder that images are read from."""
    is_folder = isinstance(source, str | Path) and Path(source).is_dir()
    if is_folder and Path(output).resolve().is_relative_to(Path(str(source)).resolve()):
        raise OutputError(f"{output} is inside {source}, so its pictures would be read as images; write elsewhere")
