"""The inputs of commands: vectors, runs, images to embed, calibration sets, samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.classifiers.neighbors import ShardedNeighborsClassifier
from plankton_embed.classifiers.prediction import (
    BLOCK,
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
from plankton_embed.images.readers.source import CATALOG_SUFFIXES, read_source
from plankton_embed.index_shards import is_sharded_index
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.sharded_index import ShardedIndex
from plankton_embed.shards import is_shards
from plankton_embed.table import SEEN, UNKNOWN_START, EmbeddingTable, holds_vectors
from plankton_embed.vector_index import INDEX_FILE
from plankton_embed.vector_shards import Vectors, VectorShards, take_rows

logger = logging.getLogger(__name__)

Reference = EmbeddingTable | VectorShards | str | Path
Query = EmbeddingTable | VectorShards | ImageCatalog | str | Path
Source = ImageCatalog | str | Path | Sequence[str | Path]
SettingsLike = Settings | Mapping[str, Any] | None
PathKind = Literal["run", "index", "model", "vectors", "catalog", "images"]
FOLDERS = {
    "index": "an index",
    "catalog": "Parquet catalogs",
    "model": "a model",
    "images": "a folder that is not a run",
}


def recognize(path: str | Path) -> PathKind:
    """Return what a path is: `run`, `index` or `model` (folders), `vectors` or `catalog`, or `images`.

    Vectors and catalogs are files, or folders of Parquet files (shards). The reference that `enroll` writes is
    `vectors`. A missing file is classified by its suffix. Every other path is `images`: a source that `read_source`
    reads.
    """
    path = Path(path)
    if is_shards(path) and not find_run(path):  # the folder `vectors` of a run has several tables
        return "vectors" if holds_vectors(path) else "catalog"
    if not path.is_dir():
        return "vectors" if holds_vectors(path) else "catalog" if path.suffix in CATALOG_SUFFIXES else "images"
    run = RunFolder(path)
    if run.settings.is_file() or any(run.vectors(split).is_file() for split in SPLITS):
        return "run"
    if (path / INDEX_FILE).is_file() or is_sharded_index(path):
        return "index"
    return "model" if any(path.glob("*.safetensors")) else "images"


def is_vector_shards(path: str | Path) -> bool:
    """Return whether a path is a folder of Parquet files with vectors."""
    return is_shards(path) and recognize(path) == "vectors"


def is_images(query: Query) -> bool:
    """Return whether a query is images: a catalog, or a path that is neither a run nor vectors.

    A folder of images may contain a file that looks like a model or an index.
    """
    return isinstance(query, ImageCatalog) or (
        isinstance(query, str | Path) and recognize(query) not in ("run", "vectors")
    )


def as_run(vectors: Query) -> RunFolder | None:
    """Return the run if vectors or images are given as the folder of a run, else None."""
    return RunFolder(Path(vectors)) if isinstance(vectors, str | Path) and recognize(vectors) == "run" else None


def load_vectors(vectors: Reference, split: str = "train") -> EmbeddingTable:
    """Return a table as it is, or read it from its file, a folder of Parquet files, or the folder of a run.

    Raises:
        InputError: there are no vectors; or another folder is given.
    """
    if isinstance(vectors, EmbeddingTable | VectorShards):
        return vectors if isinstance(vectors, EmbeddingTable) else vectors.load()
    if run := as_run(vectors):
        return EmbeddingTable.load(run.vectors(split))
    if Path(vectors).is_dir() and recognize(vectors) != "vectors":
        raise InputError(
            f"{vectors}: expected vectors, in a file or in the folder of a run; found {FOLDERS[recognize(vectors)]}"
        )
    return EmbeddingTable.load(vectors)


def open_vectors(vectors: Reference) -> Vectors:
    """Return vectors as `load_vectors` does, but those in a folder of Parquet files without reading them."""
    if isinstance(vectors, EmbeddingTable | VectorShards):
        return vectors
    return VectorShards.open(vectors) if is_vector_shards(vectors) else load_vectors(vectors)


def find_path(vectors: Query) -> Path | None:
    """Return the file or folder that vectors or images are in; None if they were given as a table or a catalog."""
    if isinstance(vectors, EmbeddingTable | ImageCatalog):
        return None
    return vectors.folder if isinstance(vectors, VectorShards) else Path(vectors)


def find_run(vectors: Query) -> RunFolder | None:
    """Return the run of vectors that are given as its folder, or as a file in it or in its `vectors/`; else None."""
    if (found := find_path(vectors)) is None:
        return None
    path = found.absolute()
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
            "that release, or copy the vectors out of the run (the default settings are used there)"
        ) from error


def load_labelled(vectors: Reference, split: str = "train", what: str = "the reference") -> EmbeddingTable:
    """Read vectors as `load_vectors` does; a class called like rejected images is an error (see `refuse_unknown`)."""
    table = load_vectors(vectors, split)
    refuse_unknown(table.classes, vectors if isinstance(vectors, str | Path) else what)
    return table


def load_query(
    reference: Reference, query: Query, device: str, progress: bool, status: str | Sequence[str] | None = None
) -> EmbeddingTable:
    """Read the query's vectors into memory; if the reference is a run, its model embeds images.

    `status` selects the class names of images that are used as labels (see `embed`). No class, also
    in the reference, may have the label of rejected images.
    """
    vectors = load_described(reference, query, device, progress, status)[0]
    return vectors.load() if isinstance(vectors, VectorShards) else vectors


def load_described(
    reference: Reference, query: Query, device: str, progress: bool, status: str | Sequence[str] | None = None
) -> tuple[Vectors, ImageCatalog | None]:
    """Return the vectors, and the catalog of the images if the query is images; see `load_query`.

    Vectors in a folder of Parquet files are not read into memory.
    """
    run = as_run(reference)
    if run is not None and not isinstance(query, EmbeddingTable | VectorShards) and is_images(query):
        images = read_source(query, status=status)
        refuse_unknown(images.classes, "the query" if isinstance(query, ImageCatalog) else query)
        from plankton_embed.embedding import embed_source  # torch, which vectors alone do not need

        return embed_source(run.model, images, device=device, progress=progress), images
    if status is not None:
        raise SettingError(
            "status: it is for images; the query is vectors, whose labels were chosen when they were made"
        )
    if isinstance(query, EmbeddingTable):
        return load_labelled(query, what="the query"), None
    if isinstance(query, VectorShards) or (not isinstance(query, ImageCatalog) and is_vector_shards(query)):
        shards = query if isinstance(query, VectorShards) else VectorShards.open(query)
        refuse_unknown(shards.classes, shards.folder)
        return shards, None
    if isinstance(query, ImageCatalog):
        raise InputError(
            "the query is a catalog of images; embed them first (embed), or give a run as reference, whose model "
            "embeds them"
        )
    path = Path(query)
    if query_run := as_run(path):
        split = next((name for name in ("test", "val") if query_run.vectors(name).exists()), None)
        if split is None:
            raise InputError(f"{path} is a run without test or val vectors; give images or a file of vectors")
        if not query_run.settings.is_file():
            logger.warning(
                "%s has no settings of a run; the query is %s, and images in the folder are not read",
                *(path, query_run.vectors(split)),
            )
        return load_labelled(query_run.vectors(split)), None
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, not a file of vectors; embed its images first (plankton-embed embed), or "
            "give a run as reference, whose model embeds them"
        )
    return load_labelled(path), None


@dataclass(frozen=True)
class PreparedPrediction:
    """Everything that a prediction needs: the tables, and the classifier fitted on them.

    `catalog`: the query's images, if it is images. `calibration` and `rejector` (which rejects images of unknown
    classes) may be None.
    """

    reference: EmbeddingTable
    query: Vectors
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
    """Read reference, query and calibration set; fit the classifier and the rejector.

    Args:
        reference, query, calibration, status: see `classify`.
        options: how images are predicted.
        needed_for: what needs a calibration set (see `find_calibration`).
        calibrated: look for a calibration set.
        called: the words for reference and query in messages.
        device: where to embed.
        progress: show bars.
    """
    reference_table = load_labelled(reference)
    query_table, catalog = load_described(reference, query, device, progress, status)
    reference_table.check_same_model(query_table, called)
    calibration_table = (
        find_calibration(reference, calibration, reference_table, query_table, needed_for) if calibrated else None
    )
    classifier = options.fit(reference_table, calibration_table, progress)
    rejector = rejector_for(options, reference_table, classifier, calibration_table)
    return PreparedPrediction(reference_table, query_table, catalog, calibration_table, classifier, rejector)


def prepare_with_index(
    reference: str | Path,
    query: Query,
    options: PredictionOptions,
    not_used: Mapping[str, object],
    device: str = "auto",
    progress: bool = False,
) -> PreparedPrediction:
    """Open a sharded index as the reference of kNN, and read the query; the reference is then the class means.

    Args:
        reference: the folder of the index; all of its vectors need a label.
        query: vectors.
        options: how images are predicted; the method is `knn`.
        not_used: options that need a calibration set, by name; an error if one is given.
        device: where to embed.
        progress: show bars.

    Raises:
        SettingError: another method, or an option that is not used.
    """
    if options.method != "knn":
        raise SettingError(f"method: expected knn (-m knn) with a sharded index as reference; found {options.method}")
    given = [name for name, value in {**not_used, "unknown_rate": options.unknown_rate}.items() if value]
    if given:
        raise SettingError(
            f"{', '.join(given)}: not available with a sharded index as reference; leave it out, or give labelled "
            "vectors as reference, such as a sample of them"
        )
    index = ShardedIndex.load(reference)
    k = options.n_neighbors or min(options.settings.classification.n_neighbors, len(index))
    classifier = ShardedNeighborsClassifier(k).fit_index(index)
    refuse_unknown(classifier.classes_.tolist(), reference)
    means = EmbeddingTable(classifier.centroids_, label=classifier.classes_, provenance=index.provenance)  # type: ignore[arg-type]
    query_vectors, catalog = load_described(reference, query, device, progress)
    means.check_same_model(query_vectors)
    return PreparedPrediction(means, query_vectors, catalog, None, classifier, None)


def read_samples(column: str, table: Vectors, source: Query, images: ImageCatalog | None = None) -> NDArray[np.str_]:
    """Return the sample of each image, as text (n,), for intervals that draw whole samples.

    Args:
        column: a column of the vectors, such as `sample_id`; else of the catalog, matched by `object_id`.
        table: the vectors.
        source: where they were read from; if it is a run, or in one (see `find_run`), the run's catalog is used.
        images: the catalog of the images, if they were embedded.

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
        available = [
            *(["sample_id"] if any(table.sample_id) else []),
            *table.columns,
            *([] if images is None else images.frame),
        ]
        raise InputError(
            f"intervals_by: expected a column of the vectors or of their catalog with a value for each of {len(table)} "
            f"images; found nothing in {column!r}; there are {', '.join(dict.fromkeys(available)) or 'no such columns'}"
        )
    if n_empty:
        logger.warning("%d of %d images have no %s; they are drawn as one sample", n_empty, len(values), column)
    return values.astype("str").where(values.notna(), "").to_numpy(dtype=str)


def read_calibration_samples(column: str, calibration: EmbeddingTable, source: Reference) -> NDArray[np.intp]:
    """Return the code of each calibration image's sample (m,), for intervals or draws of whole samples.

    Raises:
        InputError: there is no such column, or it has fewer than 5 values.
    """
    codes, names = pd.factorize(read_samples(column, calibration, source))
    if len(names) < LEAST_SAMPLES:
        raise InputError(
            f"intervals_by: expected calibration images with at least {LEAST_SAMPLES} values of {column}; found "
            f"{len(names)}; calibrate on images of more samples (--calibration VECTORS), or leave it out"
        )
    return np.asarray(codes, dtype=np.intp)


def find_calibration(
    source: Reference,
    calibration: Reference | None,
    reference: EmbeddingTable,
    query: Vectors,
    needed_for: Sequence[str] = (),
) -> EmbeddingTable | None:
    """Read the calibration set; by default `val.parquet` beside the reference, if it is suitable.

    It consists of labelled images of the reference's classes that are not in the reference, and have no copy with
    another label.

    Args:
        source: where the reference was read from, such as a run.
        calibration: see `classify`.
        reference: its vectors.
        query: the vectors to predict.
        needed_for: what needs a calibration set.

    Raises:
        MismatchError: the calibration set was made by another model.
        InputError: it is needed and missing, or no image of the given one is suitable.
    """
    if calibration is not None:
        table = load_labelled(calibration, "val")
        reference.check_same_model(table, ("reference", "calibration"))
        table = _select_calibration(table, reference)
        n_shared = count_shared(table, query)
        if n_shared:
            logger.warning(
                "%d of the query's images are in the calibration set too, so these scores are too high", n_shared
            )
        return table
    fault = "there is none"
    if (path := find_path(source)) is not None:
        beside = RunFolder(path).vectors("val") if as_run(path) else path.with_name("val.parquet")
        if beside.is_file() and beside.resolve() != path.resolve():
            table = EmbeddingTable.load(beside)
            fault = _why_unsuitable(table, reference, query)
            if not fault:
                logger.info("calibration: %s", beside)
                return _select_calibration(table, reference)
            fault = f"{beside} {fault}"
    if needed_for:
        raise InputError(f"{' and '.join(needed_for)} {NO_CALIBRATION}; {fault}")
    logger.info("no probabilities: they need a calibration set (--calibration), and %s", fault)
    return None


def _why_unsuitable(calibration: EmbeddingTable, reference: EmbeddingTable, query: Vectors) -> str:
    """Return why the table beside the reference cannot be its calibration set; empty text if it can."""
    if calibration.model_hash != reference.model_hash or calibration.dimension != reference.dimension:
        return "was made by another model"
    selected = select_reference_classes(calibration, reference)
    if len(selected) == 0:
        return "has no labelled image of a class of the reference"
    if _is_among(selected, reference).all():
        return "has no image that is not in the reference too"
    if count_shared(calibration, query):
        return "contains images of the query"
    return ""


def find_contradictions(table: Vectors, *others: EmbeddingTable) -> NDArray[np.intp]:
    """Return the rows of a table whose image has a copy (an equal vector) with another label, here or in the others."""
    rows = np.flatnonzero(table.is_labelled)
    if isinstance(table, VectorShards):  # read again only those whose hash is there with several labels
        hashes = np.concatenate([hash_rows(block) for block in table.labelled.vector_blocks(BLOCK)])
        others_hashes = [hash_rows(other.labelled.vectors) for other in others]
        several = _count_labels(np.concatenate([hashes, *others_hashes]), table.label[rows], others)[: len(rows)] > 1
        rows = rows[several]
        table = take_rows(table, rows)
    tables = [table.labelled, *(other.labelled for other in others)]
    keys = pd.Series([vector for part in tables for vector in list_bytes(part.vectors)], dtype=object).to_numpy()
    return rows[_count_labels(keys, tables[0].label, others)[: len(rows)] > 1]


def _count_labels(
    keys: NDArray[Any], labels: NDArray[np.object_], others: Sequence[EmbeddingTable]
) -> NDArray[np.intp]:
    """Return the number of different labels of each key; those of the other tables follow the given ones."""
    every = pd.Series(np.concatenate([labels, *(other.labelled.label for other in others)]), dtype=object)
    return np.asarray(every.groupby(keys).transform("nunique"))


def clean_calibration(calibration: EmbeddingTable, reference: EmbeddingTable) -> EmbeddingTable:
    """Leave out calibration images that have a copy with another label; warn of those that the model was trained on."""
    rows = find_contradictions(calibration, reference)
    if len(rows):
        logger.warning(
            "calibration: %d of %d images have a copy (an equal vector) with another label and are left out, such as "
            "%s (%s); correct the labels (suspects lists them first)",
            *(len(rows), len(calibration), calibration.object_id[rows[0]], calibration.label[rows[0]]),
        )
    cleaned = calibration.select(np.delete(np.arange(len(calibration)), rows))
    if n_seen := _count_seen(cleaned):
        logger.warning(
            "calibration: %d of %d images were training images of the model, or of the model that it started from, so "
            "errors look too rare: probabilities are too high, and an unknown rate rejects too many images of known "
            "classes; calibrate on other images",
            *(n_seen, len(cleaned)),
        )
    return cleaned


def _select_calibration(found: EmbeddingTable, reference: EmbeddingTable) -> EmbeddingTable:
    """Keep the suitable images; on images of the reference, errors would look too rare.

    Raises:
        InputError: no image remains.
    """
    calibration = select_reference_classes(found, reference)
    if len(calibration) == 0:
        raise InputError(
            f"calibration: it has no labelled image of the {len(reference.classes)} classes of the reference"
        )
    without_copies = clean_calibration(calibration, reference)
    if len(without_copies) == 0:
        raise InputError(
            "calibration: every image has a copy (an equal vector) with another label; correct the labels, or give "
            "other images (--calibration VECTORS)"
        )
    shared = _is_among(without_copies, reference)
    if shared.all():
        raise InputError(
            "calibration: all images of the reference's classes are in the reference too; give labelled vectors of "
            "images that the network was not trained on (--calibration VECTORS)"
        )
    if shared.any():
        logger.warning(
            "calibration: %d of %d images are in the reference too and left out", shared.sum(), len(without_copies)
        )
    return without_copies.select(~shared)


def count_shared(table: Vectors, other: Vectors) -> int:
    """Return how many images of a table have an equal vector in another table."""
    return int(_is_among(table, other).sum())


def _is_among(table: Vectors, other: Vectors) -> NDArray[np.bool_]:
    few, many = sorted((table, other), key=len)
    # of the smaller table, as the other may have millions of rows
    sought = {vector for block in few.vector_blocks(BLOCK) for vector in list_bytes(block)}
    if table is not many:
        sought = {vector for block in many.vector_blocks(BLOCK) for vector in list_bytes(block) if vector in sought}
    found = (vector in sought for block in table.vector_blocks(BLOCK) for vector in list_bytes(block))
    return np.fromiter(found, dtype=bool, count=len(table))


def list_bytes(vectors: NDArray[np.float32]) -> list[bytes]:
    """Return the bytes of each vector, which are equal for equal vectors."""
    vectors = np.ascontiguousarray(vectors)
    rows: list[bytes] = vectors.view(np.dtype((np.void, vectors.shape[1] * vectors.itemsize)))[:, 0].tolist()
    return rows


def hash_rows(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return a hash of each vector; equal vectors have equal hashes."""
    return np.fromiter(map(hash, list_bytes(vectors)), dtype=np.int64, count=len(vectors))


def load_split(vectors: Reference, split: str | None) -> tuple[EmbeddingTable, str | None]:
    """Return vectors and, for a run, their split: the given one, by default test, else val, else train."""
    if split is not None and split not in SPLITS:
        raise SettingError(f"split: expected {', '.join(SPLITS)}; found {split!r}")
    run = as_run(vectors)
    if run is None:
        table = load_vectors(vectors)
        if split is not None:
            raise SettingError("split: it selects vectors of a run, but these are a table; leave it out")
        return table, None
    available = [name for name in reversed(SPLITS) if run.vectors(name).exists()]
    if split is not None and split not in available:
        raise InputError(f"{vectors} has no {split} vectors; it has {', '.join(available) or 'none'}")
    chosen = split or next(iter(available), "train")
    table = load_vectors(vectors, chosen)
    logger.info("vectors: the %s split of %s, %d images", chosen, vectors, len(table))
    if chosen == "train":
        logger.warning(
            "training has separated the training vectors by label: classes look better separated than they are"
        )
    return table, chosen


def build_settings(settings: SettingsLike, default: str = "cpu") -> Settings:
    """Return complete settings from what a user gave; `default`: the preset of a mapping, or if nothing is given."""
    return settings if isinstance(settings, Settings) else Settings.build(overrides=settings or {}, default=default)


def from_scratch(settings: Settings) -> Settings:
    """Replace the starting weights `auto` by `none`: models of the package were trained on many classes already."""
    auto = settings.network.weights == "auto" and not settings.network.frozen
    return settings.with_weights("none") if auto else settings


def count_seen(query: Vectors) -> int | None:
    """Return the number of labelled images that the model, or its starting weights, were trained on; warn if any.

    None, and a warning, if that is not known.
    """
    labelled = query.labelled
    if query.provenance.get(UNKNOWN_START):
        logger.warning(
            "it is not known which images the model, or the model that it started from, was trained on; if some of the "
            "%d scored images are among them, the scores are too high",
            len(labelled),
        )
        return None
    if n_seen := _count_seen(labelled):
        logger.warning(
            "%d of the %d scored images were training images of the model, or of the model that it started from, so "
            "the scores are too high; leave these images out (True in the column %s of the vectors), or train "
            "from scratch (--set network.weights=none with preset quick or cpu)",
            *(n_seen, len(labelled), SEEN),
        )
    return n_seen


def _count_seen(table: Vectors) -> int:
    columns = table.columns
    return int(np.nansum(columns[SEEN])) if SEEN in columns else 0


def refuse_inside(source: Source, output: str | Path) -> None:
    """Make sure that figures are not written into the folder that images are read from."""
    is_folder = isinstance(source, str | Path) and Path(source).is_dir()
    if is_folder and Path(output).resolve().is_relative_to(Path(str(source)).resolve()):
        raise OutputError(f"{output} is inside {source}, so its figures would be read as images; choose another folder")
