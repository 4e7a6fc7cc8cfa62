"""The steps of a run: prepare, train, embed, index, evaluate; finished steps are skipped."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.analysis.suspects import NEAR_COSINE, find_near_copies
from plankton_embed.classifiers.evaluation import evaluate_predictions, score_space
from plankton_embed.classifiers.prediction import (
    METHODS,
    PredictionOptions,
    fit_classifier,
    fitting_k,
    select_reference_classes,
)
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.embedding import embed_prepared
from plankton_embed.errors import InputError
from plankton_embed.images.balance import draw_per_class
from plankton_embed.images.catalog import SPLITS, ImageCatalog, hash_images, refuse_unknown, warn_of_similar_classes
from plankton_embed.images.catalog_summary import summarize
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.status import describe_unvalidated
from plankton_embed.images.splits import (
    CONTRADICTS,
    check_leaks,
    is_learnable,
    mark_contradictions,
    note_contradictions,
    note_copies,
    split_catalog,
)
from plankton_embed.images.store import PreparedImages, prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.model_card import CONFIG_FILE, update_model_card
from plankton_embed.network.saved_model import read_preparation, shorten_hashes
from plankton_embed.output import write_frame, write_json
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.history import draw_history
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import PreparationSettings, Settings
from plankton_embed.table import EmbeddingTable, class_means
from plankton_embed.training.collapse import count_never_predicted
from plankton_embed.training.discriminant import fit_head
from plankton_embed.training.objectives import Objective, OwnObjective
from plankton_embed.training.ranks import ALONE, Ranks
from plankton_embed.training.tracking import MOST_POINTS, Tracker
from plankton_embed.training.trainer import Validation, train_model
from plankton_embed.vector_index import VectorIndex
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import clean_calibration, count_seen
from plankton_embed.workflows.result_folder import draw_catalog, draw_evaluation, write_tables
from plankton_embed.workflows.run_start import start_model

logger = logging.getLogger(__name__)

MOST_VALIDATION_IMAGES = 5000  # predicted after each epoch; the accuracy then has a standard error of 0.7 points


@dataclass(frozen=True)
class RunImages:
    """The images of a run: catalog, prepared pixels and content hashes, row by row; and how they were prepared."""

    catalog: ImageCatalog
    prepared: PreparedImages
    hashes: NDArray[np.object_]
    preparation: PreparationSettings

    def split(self, name: str) -> RunImages:
        """Keep the images of one split."""
        mask = (self.catalog.frame["split"] == name).to_numpy()
        return self.select(mask)

    def labelled(self) -> RunImages:
        """Keep the labelled images."""
        return self.select(self.catalog.frame["label"].notna().to_numpy())

    def select(self, mask: Any) -> RunImages:
        """Keep the rows of a boolean mask, or the rows with these numbers."""
        return RunImages(self.catalog.select(mask), self.prepared.select(mask), self.hashes[mask], self.preparation)


def _clear(folder: RunFolder) -> None:
    """Remove the files that a run writes, and nothing else."""
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
        folder.pixels,
        folder.faults,
        folder.history,
        folder.scores,
        folder.predictions,
        folder.report,
        folder.comparison,
        folder.settings,
    ):
        path.unlink(missing_ok=True)


def prepare_step(
    folder: RunFolder,
    source: ImageCatalog,
    settings: Settings,
    overwrite: bool,
    progress: bool,
    faults: Faults,
) -> RunImages:
    """Prepare the pixels, leave out faulty images, split, check for leaks; write catalog, faults and settings.

    Images with equal pixels but different labels stay in the catalog of the run, so that their labels can be corrected.
    Those in train and val are not returned, unless the settings keep them.

    Args:
        folder: the run.
        source: its images.
        settings: the settings of the run.
        overwrite: replace an existing run.
        progress: show bars.
        faults: the faults of the source; the faults of its images are added.
    """
    warn_of_similar_classes(source.frame["label"])
    refuse_unknown(source.classes, "the images to train on")
    hashes, reasons = hash_images(source.paths, progress)
    levels = find_grey_levels(source.paths, progress)
    levels.report(settings.preparation)
    preparation = levels.resolve(settings.preparation)
    prepared = prepare_images(source.paths, hashes, preparation, progress=progress)
    reasons = prepared.faults | reasons
    faults.add_unreadable(source.paths, reasons)
    good = np.ones(len(source), dtype=bool)
    good[list(reasons)] = False
    if not good.any():
        raise InputError(
            f"none of the {len(source)} images can be read; {source.paths[0]}: {reasons[0]}; is --root right?"
        )
    if reasons:
        logger.warning(
            "%d of %d images cannot be used and are left out; see %s", len(reasons), len(source), folder.faults
        )
    if settings.network.size_inputs == "micrometres":
        prepared = replace(prepared, pixel_size=source.pixel_size)
    images = RunImages(source, prepared, np.array(hashes, dtype=object), preparation).select(good)
    images = replace(images, catalog=mark_contradictions(images.catalog, images.hashes.tolist()))
    images = (None if overwrite else _reuse_split(folder, images)) or _divide(images, settings, faults)
    whole, pixels, learnable = images.catalog, shorten_hashes(images.hashes), is_learnable(images.catalog)
    learnable |= settings.split.keep_contradictions
    images = images.select(learnable)
    _warn_of_contradictions(whole, learnable)
    note_contradictions(whole, faults, ~learnable)
    _check_classes(images)
    images.prepared.log_sides(settings.network.size_inputs)  # raises an error if a pixel size is missing
    if overwrite:  # only now, when the new run is known to be possible
        _clear(folder)
    if folder.catalog.exists():
        _check_same_images(folder, whole, pixels)
    else:
        settings.save(folder.settings)
        write_frame(folder.faults, faults.to_frame())
        sizes = dict(zip(source.paths, levels.sizes, strict=True))
        summary = summarize(
            whole, progress, levels.to_dict(settings.preparation), sizes=[sizes[path] for path in whole.paths]
        )
        draw_catalog(folder.figures, whole, summary, preparation, settings.seed)
        np.save(folder.pixels, pixels)
        whole.save(folder.catalog)  # last: its presence means that this step is finished
    counts = images.catalog.frame["split"].value_counts()
    described = ", ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS)
    logger.info("%d images of %d classes: %s", len(images.catalog), len(images.catalog.classes), described)
    return images


def _warn_of_contradictions(catalog: ImageCatalog, kept: NDArray[np.bool_]) -> None:
    """Report how many images have a copy with another label, and whether they are used."""
    if CONTRADICTS not in catalog.frame:
        return
    rows = np.flatnonzero(catalog.frame[CONTRADICTS].notna())
    first = catalog.frame.iloc[rows[0]]
    n_lost = int((~kept).sum())
    logger.warning(
        "%d images have a copy (equal pixels) with another label, such as %s (%s) and %s; %s; correct them: suspects "
        "lists them first",
        *(len(rows), first["object_id"], first["label"], first[CONTRADICTS]),
        f"{n_lost} in train and val are not used for training, those in test are scored" if n_lost else "they are used",
    )


def _reuse_split(folder: RunFolder, images: RunImages) -> RunImages | None:
    """Return the images with the split that an existing run has; None if there is no run of exactly these images."""
    if not folder.catalog.exists():
        return None
    before, now = ImageCatalog.load(folder.catalog).frame, images.catalog.frame
    columns = ["object_id", "label", *(["split"] if images.catalog.has_splits else [])]
    if not before[columns].astype("str").equals(now[columns].reset_index(drop=True).astype("str")):
        return None
    return replace(images, catalog=ImageCatalog(now.assign(split=before["split"].to_numpy())))


def _divide(images: RunImages, settings: Settings, faults: Faults) -> RunImages:
    """Split images that have no split, and make sure that no image is in two splits."""
    if not images.catalog.has_splits:
        if "split" in images.catalog.frame and images.catalog.frame["split"].notna().any():
            n_missing = int(images.catalog.frame["split"].isna().sum())
            raise InputError(f"{n_missing} images have no split while others have one; fill the column, or empty it")
        divided = split_catalog(
            images.catalog,
            settings.split.fractions,
            seed=settings.seed,
            group_by=settings.split.group_by,
            hashes=images.hashes.tolist(),
        )
        images = replace(images, catalog=divided)
    elif settings.split.group_by is not None:
        _check_groups(images.catalog, settings.split.group_by)
    _, keep = check_leaks(images.catalog, images.hashes.tolist(), drop_duplicates=settings.split.drop_duplicates)
    if not keep.all():
        logger.warning("%d duplicates across the split dropped", int((~keep).sum()))
        note_copies(images.catalog, images.hashes.tolist(), keep, faults, kept=False)
    return images.select(keep)


def _check_groups(catalog: ImageCatalog, column: str) -> None:
    """Make sure that the catalog's own split does not divide a group."""
    if column not in catalog.frame:
        raise InputError(f"group_by: the catalog has no column {column}; it has {list(catalog.frame.columns)}")
    n_splits = catalog.frame.groupby(column)["split"].nunique()
    divided = list(n_splits.index[n_splits > 1])
    if divided:
        raise InputError(
            f"group_by: {len(divided)} values of {column} are in several splits of the catalog, such as "
            f"{divided[0]}; correct the column split, or empty it to have the catalog divided"
        )


def _check_classes(images: RunImages) -> None:
    """Make sure that there are classes to train on; warn of classes that cannot be predicted."""
    train = images.split("train").catalog
    if len(train.classes) < 2:
        raise InputError(
            f"training needs at least 2 classes with labelled images in train, found {len(train.classes)}: "
            f"{train.classes}. "
            "Put the images into one folder a class, or give a catalog with a column label."
            + describe_unvalidated(images.catalog.frame)
        )
    missing = sorted(set(images.catalog.classes) - set(train.classes))
    if missing:
        logger.warning("%d classes have no training image and cannot be predicted: %s", len(missing), missing)
    counts = train.frame["label"].value_counts()
    single = sorted(str(label) for label in counts.index[counts == 1])
    if single:
        logger.warning("%d classes have a single training image: %s", len(single), single)


def _check_same_images(folder: RunFolder, now: ImageCatalog, pixels: NDArray[np.uint64]) -> None:
    """Make sure that an existing run is one of these images, with these labels and splits, and the same pixels."""
    columns = ["object_id", "label", "split"]
    before = ImageCatalog.load(folder.catalog)
    was, here = (frame[columns].astype("str").reset_index(drop=True) for frame in (before.frame, now.frame))
    is_other = np.zeros(len(now), dtype=bool)
    if len(before) == len(now) and folder.pixels.is_file():  # runs of earlier releases lack it
        is_other = np.load(folder.pixels) != pixels
    if not was.equals(here) or is_other.any():
        what = f"{len(before)}, now {len(now)}"
        if was.equals(here):
            first = here["object_id"][is_other.argmax()]
            what = f"{is_other.sum():,} of {len(now):,} have other pixels, such as {first}"
        elif was["object_id"].equals(here["object_id"]):
            row = int((was != here).any(axis=1).to_numpy().argmax())
            object_id, label, split = was.iloc[row].tolist()
            _, new_label, new_split = here.iloc[row].tolist()
            what = f"object_id {object_id} was {label} in {split}, is {new_label} in {new_split}"
        raise InputError(
            f"{folder.path} contains a run of other images ({what}); choose another folder, or replace it (--overwrite)"
        )


def train_step(
    folder: RunFolder,
    images: RunImages,
    settings: Settings,
    device: str,
    progress: bool,
    loss: Callable[[Any, Any], Any] | None = None,
    ranks: Ranks = ALONE,
) -> EmbeddingModel:
    """Train on the labelled training images, validate after each epoch, and save the model.

    Of several processes (ranks), the first saves. The loss is that of the settings, unless another is given. If the
    trunk is that of another model, training starts from the head of preset `instant`. If it is frozen, only this head
    is computed, and the vectors of the training images, which are known then, are saved too.
    """
    if ranks.share((folder.model / CONFIG_FILE).exists()):
        logger.info("model: finished before, in %s", folder.model)
        return EmbeddingModel.load(folder.model, device)
    train, val = (images.split(name).labelled() for name in ("train", "val"))
    classes, class_index = np.unique(np.array(train.catalog.labels, dtype=str), return_inverse=True)
    names = [str(name) for name in classes]
    model = start_model(folder, train.prepared, train.hashes, images.preparation, names, settings, ranks).to(device)
    vectors = None
    if settings.network.frozen:
        whole = images.split("train")
        codes = np.full(len(whole.catalog), -1)
        codes[whole.catalog.frame["label"].notna()] = class_index
        vectors = fit_head(model, whole.prepared, codes, progress)
    else:
        history = train_model(
            model,
            train.prepared,
            class_index,
            settings,
            folder,
            start=_make_start(train, class_index, settings),
            validate=_make_validation(train, class_index, val, settings),
            objective=loss if loss is None or isinstance(loss, Objective) else OwnObjective(loss),
            ranks=ranks,
            progress=progress and ranks.is_first,
        )
        if not ranks.is_first:
            return model
        model.training["best_epoch"] = history.best.epoch
        save_figure(draw_history(history), folder.figures / "curves.png")
    if settings.training.tensorboard:
        _log_space(folder, model, val if len(val.catalog) else train)
    model.save(folder.model)  # its presence means that this step is finished
    if vectors is not None:
        _save_vectors(folder, "train", model, images, vectors=vectors)
    return model


def _make_start(
    train: RunImages, class_index: NDArray[np.integer], settings: Settings
) -> Callable[[EmbeddingModel], NDArray[np.float64]] | None:
    """Return the start of a training whose trunk is that of another model: its head is computed from some images.

    A head of random weights would first damage the trunk (Kumar et al. 2022, arXiv 2202.10054).
    """
    if read_preparation(settings.network.weights) is None or settings.network.output != "unit":
        return None
    rng = np.random.default_rng(settings.seed)
    chosen = draw_per_class(class_index, settings.training.images_per_class, rng)
    images, codes = train.prepared.select(chosen), class_index[chosen].astype(np.intp)
    return lambda model: class_means(fit_head(model, images, codes, progress=False), codes)


def _make_validation(
    train: RunImages, class_index: np.ndarray[Any, Any], val: RunImages, settings: Settings
) -> Callable[[EmbeddingModel], Validation]:
    """Return the validation that runs after each epoch: it predicts val images from some training images of each class.

    Of many validation images only `MOST_VALIDATION_IMAGES` are predicted: drawn once, the same after every epoch.
    """
    rng = np.random.default_rng(settings.seed)
    n = settings.training.validation_images_per_class
    chosen = draw_per_class(class_index, n, rng)
    val = val.select(np.sort(rng.permutation(len(val.catalog))[:MOST_VALIDATION_IMAGES]))
    gallery, truth = train.select(chosen), np.array(val.catalog.labels, dtype=str)
    gallery_labels = np.array(gallery.catalog.labels, dtype=object)
    classes, precision = set(gallery_labels), settings.training.precision
    if len(truth):
        logger.info(
            "after every epoch, %s val images are predicted (centroid, and kNN with k %d) from %s training images, at "
            "most %d per class; the final scores use all training images and are higher; the epoch with the highest %s "
            "is kept",
            *(f"{len(truth):,}", settings.classification.n_neighbors, f"{len(gallery_labels):,}", n),
            settings.training.choose_by.replace("_", " "),
        )

    def validate(model: EmbeddingModel) -> Validation:
        vectors = model.embed_prepared(gallery.prepared, precision=precision, views=1)
        if len(truth) == 0:
            return Validation(vectors, class_index[chosen])
        reference = EmbeddingTable(vectors, label=gallery_labels)
        k = fitting_k(reference, settings)
        queries = model.embed_prepared(val.prepared, precision=precision, views=1)
        predicted = [fit_classifier(reference, method, k).predict(queries) for method in ("centroid", "knn")]
        scores = [score_predictions(truth, labels, n_bootstrap=0).metrics for labels in predicted]
        centroid, knn = (float(score["accuracy"]) for score in scores)
        return Validation(
            vectors,
            class_index[chosen],
            centroid_accuracy=centroid,
            knn_accuracy=knn,
            score=float(np.mean([score[settings.training.choose_by] for score in scores])),
            n_never_predicted=count_never_predicted(truth, predicted[0], classes),
        )

    return validate


def _log_space(folder: RunFolder, model: EmbeddingModel, shown: RunImages) -> None:
    """Write the vectors to TensorBoard's projector."""
    shown = shown.select(np.arange(len(shown.catalog)) < MOST_POINTS)
    labels = [str(label) for label in shown.catalog.labels]
    with Tracker(folder.tensorboard) as tracker:
        tracker.log_space(model.embed_prepared(shown.prepared), labels, shown.prepared.batch(slice(None))[0])


def embed_step(
    folder: RunFolder, model: EmbeddingModel, images: RunImages, progress: bool
) -> dict[str, EmbeddingTable]:
    """Embed every split, and save its vectors; return them, read from the files where these exist."""
    vectors = {}
    for name in SPLITS:
        path = folder.vectors(name)
        if path.exists():
            vectors[name] = EmbeddingTable.load(path)
        elif len(images.split(name).catalog):
            vectors[name] = _save_vectors(folder, name, model, images, progress=progress)
    return vectors


def _save_vectors(
    folder: RunFolder, split: str, model: EmbeddingModel, images: RunImages, **how: Any
) -> EmbeddingTable:
    """Embed a split and save its vectors."""
    part, path = images.split(split), folder.vectors(split)
    table = embed_prepared(model, part.catalog, part.prepared, hashes=part.hashes.tolist(), **how)
    table.save(path)
    logger.info("vectors: %s", path)
    return table


def near_copies_step(folder: RunFolder, vectors: Mapping[str, EmbeddingTable]) -> None:
    """Report and list images whose vector has a near-copy in another split."""
    path = folder.analysis("near_copies") / "near_copies.csv"
    if path.exists():
        return
    found = find_near_copies(vectors)
    write_frame(path, found)
    if len(found):
        first = found.iloc[0]
        logger.warning(
            "%d of %d images of val and test have a near-copy in another split (the cosine of their vectors is above "
            "%.3f), such as %s (%s) and %s (%s); if both show the same animal, the scores are too high: keep such "
            "images in one split (--group-by); see %s",
            *(len(found), sum(len(table) for name, table in vectors.items() if name != "train"), NEAR_COSINE),
            *(first["object_id"], first["split"], first["copy_object_id"], first["copy_split"], path),
        )


def index_step(folder: RunFolder, index: VectorIndex) -> None:
    """Save the index of the training vectors."""
    if not folder.index.exists():
        index.save(folder.index)
        logger.info("index: %s", folder.index)


def evaluate_step(
    folder: RunFolder,
    model: EmbeddingModel,
    vectors: Mapping[str, EmbeddingTable],
    index: VectorIndex,
    settings: Settings,
    progress: bool,
) -> dict[str, Any]:
    """Score every method on the test split (on val if there are no labelled test images) and draw the figures."""
    if folder.scores.exists():
        try:
            return dict(json.loads(folder.scores.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{folder.scores} cannot be read ({error}); delete it, and the same command computes it again"
            ) from error
    reference = vectors["train"]
    split = next((name for name in ("test", "val") if name in vectors and len(vectors[name].labelled)), None)
    scores: dict[str, Any] = {"model_hash": reference.model_hash, "split": split, "n_train": len(reference.labelled)}
    if split is None:
        logger.warning("no labelled images outside train: nothing to score")
    else:
        query, calibration = vectors[split], None
        if split == "test" and "val" in vectors:
            calibration = clean_calibration(vectors["val"], reference)
            calibration = calibration if len(select_reference_classes(calibration, reference)) else None
        if calibration is None:
            logger.warning("no calibration set (labelled images in val, beside test): no probabilities")
        by_method = {}
        for method in METHODS:
            options = PredictionOptions(method, settings=settings)
            by_method[method] = evaluation = evaluate_predictions(
                reference, query, options, calibration, progress=progress
            )
            write_tables(folder.analysis("evaluate") / method, evaluation)
            draw_evaluation(folder.figures / method, evaluation)
        write_frame(folder.predictions, by_method["knn"].names)
        scores |= {"n_images": len(by_method["knn"].names), "n_seen": count_seen(query)}
        scores |= {method: evaluation.scores_dict() for method, evaluation in by_method.items()}
        scores |= {"missing_classes": by_method["knn"].missing.to_dict("records")}
        scores |= score_space(reference, query, f"queries: {split}, gallery: train")
        _draw_neighbors(folder.figures / "neighbors.png", index, query, settings.seed)
        images_scored = f"the {scores['n_images']} labelled images of the {split} split"
        model.card = update_model_card(folder.model, {method: scores[method] for method in METHODS}, images_scored)
    write_json(folder.scores, scores)
    return scores


def _draw_neighbors(path: Path, index: VectorIndex, test: EmbeddingTable, seed: int, n_queries: int = 10) -> None:
    """Draw the neighbours of some test images, of as many classes as possible."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(test.is_labelled))
    _, first = np.unique(test.label[order].astype(str), return_index=True)
    chosen = np.sort(order[rng.permutation(first)[:n_queries]])
    queries = test.select(chosen)
    neighbors = index.search(queries, min(8, len(index)))
    save_figure(draw_sheet(contact_sheets.neighbors_sheet(queries, index.table, neighbors)), path)
