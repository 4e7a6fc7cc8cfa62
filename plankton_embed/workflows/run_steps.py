"""The steps of a run, each left out where it is finished: prepare, train, embed, index, evaluate."""

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
from plankton_embed.errors import InputError, OutputError, SettingError
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
from plankton_embed.network.device import choose_device
from plankton_embed.network.model import CARD_FILE, CONFIG_FILE, EmbeddingModel
from plankton_embed.network.trunks import check_trunk
from plankton_embed.output import write_atomically, write_frame, write_json
from plankton_embed.plots.curves import draw_curves
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import PreparationSettings, Settings
from plankton_embed.table import EmbeddingTable
from plankton_embed.training.collapse import count_never_predicted
from plankton_embed.training.objectives import Objective, OwnObjective
from plankton_embed.training.tracking import MOST_POINTS, Tracker, check_tensorboard
from plankton_embed.training.trainer import Validation, train_model
from plankton_embed.vector_index import VectorIndex
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import SettingsLike, Source, build_settings, drop_contradictions, refuse_inside
from plankton_embed.workflows.result_folder import draw_catalog, draw_evaluation, write_tables

logger = logging.getLogger(__name__)

MOST_VALIDATION_IMAGES = 5000  # named after an epoch; their accuracy is then known to 0.7 points (standard error)


@dataclass(frozen=True)
class RunImages:
    """The images of a run, row by row: what is known of them, their prepared pixels, and how these were prepared."""

    catalog: ImageCatalog
    prepared: PreparedImages
    preparation: PreparationSettings

    def split(self, name: str) -> RunImages:
        """Keep those of one split."""
        mask = (self.catalog.frame["split"] == name).to_numpy()
        return self.select(mask)

    def labelled(self) -> RunImages:
        """Keep those with a label."""
        return self.select(self.catalog.frame["label"].notna().to_numpy())

    def select(self, mask: Any) -> RunImages:
        """Keep the rows of a mask, or rows by number."""
        return RunImages(self.catalog.select(mask), self.prepared.select(mask), self.preparation)


def open_run(
    source: Source, output: str | Path, settings: SettingsLike, overwrite: bool, device: str
) -> tuple[RunFolder, Settings]:
    """Find out, before anything is done, whether a run can be made or gone on with there."""
    chosen = build_settings(settings)
    choose_device(device)
    check_trunk(chosen.network.trunk)
    if chosen.training.tensorboard:
        check_tensorboard()
    refuse_inside(source, output)
    folder = RunFolder(Path(output))
    if not folder.settings.exists():
        if folder.path.exists() and (not folder.path.is_dir() or any(_visible(folder.path))):
            raise OutputError(f"{output} exists already and holds no run; choose another folder")
    elif not overwrite:
        chosen = keep_settings(folder, chosen)
    return folder, chosen


def keep_settings(folder: RunFolder, chosen: Settings) -> Settings:
    """Return the settings that a run was begun with, where there is one; refuse other values that were asked for."""
    if not folder.settings.exists():
        return chosen
    try:
        own = Settings.load(folder.settings)
    except SettingError as error:
        raise InputError(
            f"{folder.settings} cannot be used: {error}\nA newer release may have written it: use that one, choose "
            "another folder, or replace the run (--overwrite)"
        ) from error
    before, now = own.flat(), chosen.flat()
    differ = {name: f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]}
    changed = [text for name, text in differ.items() if name in chosen.given]
    if changed:
        raise SettingError(
            f"{folder.path} holds a run with other settings ({'; '.join(changed)}); leave them (or the "
            "preset) out to go on with that run, choose another folder, or replace it (--overwrite)"
        )
    if differ:
        logger.info("%s goes on with its own settings, not the defaults: %s", folder.path, "; ".join(differ.values()))
    return own


def _visible(folder: Path) -> list[Path]:
    """Return what lies in a folder but for hidden things, such as what a killed process was writing."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


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
    """Prepare the pixels, set faulty images aside, split, check for leaks; write catalog, faults and settings.

    The catalog of the run has the images whose pixels equal those of one with another label too, so that their labels
    can be corrected; those of train and val are not among the images returned, unless the settings keep them.

    Args:
        folder: the run.
        source: its images.
        settings: of the run.
        overwrite: replace a run that is there.
        progress: show bars.
        faults: what was wrong in the source; joined by what is wrong with its images.
    """
    warn_of_similar_classes(source)
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
    images = RunImages(source, prepared, preparation).select(good)
    good_hashes = [h for h, keep in zip(hashes, good, strict=True) if keep]
    images = replace(images, catalog=mark_contradictions(images.catalog, good_hashes))
    begun = None if overwrite else _take_up(folder, images)
    images = begun or _divide(images, good_hashes, settings, faults)
    whole, learnable = images.catalog, is_learnable(images.catalog)
    learnable |= settings.split.keep_contradictions
    images = images.select(learnable)
    _warn_of_contradictions(whole, learnable)
    note_contradictions(whole, faults, ~learnable)
    _check_classes(images)
    images.prepared.log_sides(settings.network.size_inputs)  # raises where a pixel size is missing
    if overwrite:  # only now, when the new run is known to be possible
        _clear(folder)
    if folder.catalog.exists():
        _check_same_images(folder, whole)
    else:
        settings.save(folder.settings)
        write_frame(folder.faults, faults.to_frame())
        summary = summarize(whole, progress, levels.to_dict(settings.preparation))
        draw_catalog(folder.figures, whole, summary, preparation, settings.seed)
        whole.save(folder.catalog)  # last: it says that this step is finished
    counts = images.catalog.frame["split"].value_counts()
    described = ", ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS)
    logger.info("%d images of %d classes: %s", len(images.catalog), len(images.catalog.classes), described)
    return images


def _warn_of_contradictions(catalog: ImageCatalog, kept: NDArray[np.bool_]) -> None:
    """Report how many images have a copy with another label, and what becomes of them."""
    if CONTRADICTS not in catalog.frame:
        return
    rows = np.flatnonzero(catalog.frame[CONTRADICTS].notna())
    ids, labels, others = (catalog.frame[name].iloc[rows[0]] for name in ("object_id", "label", CONTRADICTS))
    n_lost = int((~kept).sum())
    logger.warning(
        "%d images have a copy (equal pixels) with another label, such as %s (%s) and %s; %s; correct them: suspects "
        "lists them first",
        *(len(rows), ids, labels, others),
        f"{n_lost} of train and val are not learned from, those of test are scored" if n_lost else "they are used",
    )


def _take_up(folder: RunFolder, images: RunImages) -> RunImages | None:
    """Return the images with the split that a run was begun with; None where there is none of just these images."""
    if not folder.catalog.exists():
        return None
    before, now = ImageCatalog.load(folder.catalog).frame, images.catalog.frame
    columns = ["object_id", "label", *(["split"] if images.catalog.has_splits else [])]
    if not before[columns].astype("str").equals(now[columns].reset_index(drop=True).astype("str")):
        return None
    return replace(images, catalog=ImageCatalog(now.assign(split=before["split"].to_numpy())))


def _divide(images: RunImages, hashes: Sequence[str | None], settings: Settings, faults: Faults) -> RunImages:
    """Split images that have no split, and see to it that no image is on two sides."""
    if not images.catalog.has_splits:
        if "split" in images.catalog.frame and images.catalog.frame["split"].notna().any():
            n_missing = int(images.catalog.frame["split"].isna().sum())
            raise InputError(f"{n_missing} images have no split while others have one; fill the column, or empty it")
        divided = split_catalog(
            images.catalog,
            settings.split.fractions,
            seed=settings.seed,
            group_by=settings.split.group_by,
            hashes=hashes,
        )
        images = replace(images, catalog=divided)
    elif settings.split.group_by is not None:
        _check_groups(images.catalog, settings.split.group_by)
    checked, keep = check_leaks(images.catalog, hashes, drop_duplicates=settings.split.drop_duplicates)
    if not keep.all():
        logger.warning("%d duplicates across the split dropped", int((~keep).sum()))
        note_copies(images.catalog, hashes, keep, faults, kept=False)
    return replace(images, catalog=checked, prepared=images.prepared.select(keep))


def _check_groups(catalog: ImageCatalog, column: str) -> None:
    """Make sure that a catalog's own split tears no group apart."""
    if column not in catalog.frame:
        raise InputError(f"group_by: the catalog has no column {column}; it has {list(catalog.frame.columns)}")
    n_sides = catalog.frame.groupby(column)["split"].nunique()
    torn = list(n_sides.index[n_sides > 1])
    if torn:
        raise InputError(
            f"group_by: {len(torn)} values of {column} are in several splits of the catalog, such as "
            f"{torn[0]}; correct the column split, or empty it to have the catalog divided"
        )


def _check_classes(images: RunImages) -> None:
    """Make sure that there is something to learn; warn of what cannot be scored."""
    known = images.split("train").catalog.classes
    if len(known) < 2:
        raise InputError(
            f"training needs at least 2 classes with labelled images in train, found {len(known)}: {known}. "
            "Put the images into one folder a class, or give a catalog with a column label."
            + describe_unvalidated(images.catalog.frame)
        )
    strangers = sorted(set(images.catalog.classes) - set(known))
    if strangers:
        logger.warning("%d classes have no training image and cannot be predicted: %s", len(strangers), strangers)
    counts = images.split("train").catalog.frame["label"].value_counts()
    lone = sorted(str(label) for label in counts.index[counts == 1])
    if lone:
        logger.warning("%d classes have a single training image: %s", len(lone), lone)


def _check_same_images(folder: RunFolder, now: ImageCatalog) -> None:
    columns = ["object_id", "label", "split"]
    before = ImageCatalog.load(folder.catalog)
    was, here = (frame[columns].astype("str").reset_index(drop=True) for frame in (before.frame, now.frame))
    if not was.equals(here):
        what = f"{len(before)}, now {len(now)}"
        if was["object_id"].equals(here["object_id"]):
            row = int((was != here).any(axis=1).to_numpy().argmax())
            object_id, label, split = was.iloc[row].tolist()
            _, new_label, new_split = here.iloc[row].tolist()
            what = f"object_id {object_id} was {label} in {split}, is {new_label} in {new_split}"
        raise InputError(
            f"{folder.path} holds a run of other images ({what}); choose another folder, or replace it (--overwrite)"
        )


def train_step(
    folder: RunFolder,
    images: RunImages,
    settings: Settings,
    device: str,
    progress: bool,
    loss: Callable[[Any, Any], Any] | None = None,
) -> EmbeddingModel:
    """Train on the labelled images of train, looking at those of val after each epoch; save the model.

    The loss is that of the settings, unless another is given.
    """
    if (folder.model / CONFIG_FILE).exists():
        logger.info("model: finished before, in %s", folder.model)
        return EmbeddingModel.load(folder.model, device)
    known = images.split("train").labelled()
    classes, class_index = np.unique(np.array(known.catalog.labels, dtype=str), return_inverse=True)
    model = EmbeddingModel.build(settings.network, images.preparation, settings.seed).to(device)
    model.views = settings.embedding.views
    val = images.split("val").labelled()
    validate = _make_validation(known, class_index, val, settings)
    objective = loss if loss is None or isinstance(loss, Objective) else OwnObjective(loss)
    history = train_model(
        model, known.prepared, class_index, settings, folder, validate=validate, objective=objective, progress=progress
    )
    model.classes = [str(name) for name in classes]
    model.training = {"settings": settings.flat(), "n_images": len(known.catalog), "best_epoch": history.best.epoch}
    save_figure(draw_curves(history), folder.figures / "curves.png")
    if settings.training.tensorboard:
        _log_space(folder, model, val if len(val.catalog) else known)
    model.save(folder.model, _model_card(model))  # last: it says that this step is finished
    return model


def _make_validation(
    known: RunImages, class_index: np.ndarray[Any, Any], val: RunImages, settings: Settings
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
    if len(truth):
        logger.info(
            "after every epoch, %s images of val are predicted (centroid, and kNN with k %d) from %s of train, at most "
            "%d a class: the final scores, from all of them, are higher; the epoch of the highest %s is kept",
            *(f"{len(truth):,}", settings.classification.n_neighbors, f"{len(labels):,}", n),
            settings.training.choose_by.replace("_", " "),
        )

    def validate(model: EmbeddingModel) -> Validation:
        vectors = model.embed_prepared(gallery.prepared, precision=precision, views=1)
        if len(truth) == 0:
            return Validation(vectors, class_index[chosen])
        reference = EmbeddingTable(vectors, label=labels)
        k = fitting_k(reference, settings)
        queries = model.embed_prepared(val.prepared, precision=precision, views=1)
        predicted = [fit_classifier(reference, method, k).predict(queries) for method in ("centroid", "knn")]
        scores = [score_predictions(truth, names, n_bootstrap=0).metrics for names in predicted]
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
    """Put the finished space into TensorBoard's projector."""
    shown = shown.select(np.arange(len(shown.catalog)) < MOST_POINTS)
    labels = [str(label) for label in shown.catalog.labels]
    with Tracker(folder.tensorboard) as tracker:
        tracker.log_space(model.embed_prepared(shown.prepared), labels, shown.prepared.batch(slice(None))[0])


def embed_step(folder: RunFolder, model: EmbeddingModel, images: RunImages, progress: bool) -> None:
    """Embed every split."""
    for name in SPLITS:
        part = images.split(name)
        if len(part.catalog) and not folder.vectors(name).exists():
            embed_prepared(model, part.catalog, part.prepared, progress=progress).save(folder.vectors(name))
            logger.info("vectors: %s", folder.vectors(name))


def near_copies_step(folder: RunFolder) -> None:
    """Report images that have a near-copy in another split, by their vectors, and list them."""
    path = folder.analysis("near_copies") / "near_copies.csv"
    if path.exists():
        return
    tables = {name: EmbeddingTable.load(folder.vectors(name)) for name in SPLITS if folder.vectors(name).exists()}
    found = find_near_copies(tables)
    write_frame(path, found)
    if len(found):
        first = found.iloc[0]
        logger.warning(
            "%d of %d images of val and test have a near-copy in another split (the cosine of their vectors is above "
            "%.3f), such as %s (%s) and %s (%s); where these show one animal, scores are too good, and --group-by "
            "keeps them together; see %s",
            *(len(found), sum(len(table) for name, table in tables.items() if name != "train"), NEAR_COSINE),
            *(first["object_id"], first["split"], first["copy_object_id"], first["copy_split"], path),
        )


def index_step(folder: RunFolder) -> None:
    """Build the index over the training vectors."""
    if not folder.index.exists():
        VectorIndex.build(EmbeddingTable.load(folder.vectors("train"))).save(folder.index)
        logger.info("index: %s", folder.index)


def evaluate_step(folder: RunFolder, images: RunImages, settings: Settings, progress: bool) -> dict[str, Any]:
    """Score every method on the test split (on val where there is no test) and draw the pictures."""
    if folder.scores.exists():
        return dict(json.loads(folder.scores.read_text(encoding="utf-8")))
    known = EmbeddingTable.load(folder.vectors("train"))
    split = next((name for name in ("test", "val") if len(images.split(name).labelled().catalog)), None)
    scores: dict[str, Any] = {"model_hash": known.model_hash, "split": split, "n_train": int(known.is_labelled.sum())}
    if split is None:
        logger.warning("no labelled images outside train: nothing to score")
    else:
        query = EmbeddingTable.load(folder.vectors(split))
        held = None
        if split == "test" and folder.vectors("val").exists():
            held = drop_contradictions(EmbeddingTable.load(folder.vectors("val")), known)
            held = held if len(select_reference_classes(held, known)) else None
        if held is None:
            logger.warning("no images to calibrate on (labelled, in val beside test): no probabilities")
        by_method = {}
        for method in METHODS:
            options = PredictionOptions(method, settings=settings)
            by_method[method] = evaluation = evaluate_predictions(known, query, options, held, progress=progress)
            write_tables(folder.analysis("evaluate") / method, evaluation)
            draw_evaluation(folder.figures / method, evaluation)
        write_frame(folder.predictions, by_method["knn"].names)
        scores |= {"n_images": len(by_method["knn"].names)}
        scores |= {method: evaluation.scores_dict() for method, evaluation in by_method.items()}
        scores |= {"missing_classes": by_method["knn"].missing.to_dict("records")}
        scores |= score_space(known, query, f"queries: {split}, gallery: train")
        _draw_neighbors(folder.figures / "neighbors.png", known, query, settings.seed)
        card = _model_card(EmbeddingModel.load(folder.model, "cpu"), scores)
        with write_atomically(folder.model / CARD_FILE) as temporary:
            temporary.write_text(card, encoding="utf-8")
    write_json(folder.scores, scores)
    return scores


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
