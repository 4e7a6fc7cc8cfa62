"""`evaluate`: score predictions of labelled images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.classifiers.evaluation import Evaluation, evaluate_predictions, score_space
from plankton_embed.classifiers.prediction import UNKNOWN_RATE, Method, PredictionOptions
from plankton_embed.classifiers.rejection import NoveltyScore
from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.output import refuse_overwrite, write_folder_atomically, write_json
from plankton_embed.run_folder import RunFolder
from plankton_embed.spreadsheet import clean_label
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.inputs import (
    Query,
    Reference,
    find_calibration,
    load_described,
    load_labelled,
    load_settings,
    read_samples,
)
from plankton_embed.workflows.result_folder import draw_evaluation, write_tables

logger = logging.getLogger(__name__)


def evaluate(
    reference: Reference,
    query: Query,
    method: Method = "centroid",
    output: str | Path | None = None,
    *,
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    unseen: Sequence[str] = (),
    unknown_rate: float | None = None,
    refuse_by: NoveltyScore | None = None,
    intervals_by: str | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Evaluation:
    """Name the labelled images of `query` and score the names; the arguments are those of `classify`, but for these.

    Args:
        unseen: classes to withhold from the reference, to see whether their images are refused (at an unknown rate of
            .05, unless another is given). A network that was trained on them has seen them all the same: `seen_unseen`
            trains one that has not.
        intervals_by: column whose values are drawn as a whole for the intervals, such as `sample_id`: one of the
            vectors, or of the catalog of the images or the run (see `read_samples`). By default every image is drawn
            for itself, as if images of one sample were as different as those of several.
        output: folder for `scores.json`, `predictions.csv`, `per_class.csv`, `confusion.csv` (rows true), and pictures;
            for the MLP also the classifier itself.

    Raises:
        InputError: the query has no labels, a class to withhold is not in the reference, or there is no column of that
            name.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, made_of="scores.json")
        if RunFolder(Path(output)).settings.exists():
            raise OutputError(f"{output} is a run, whose own scores would be lost; choose another folder")
    rate = UNKNOWN_RATE if unseen and unknown_rate is None else unknown_rate
    options = PredictionOptions(method, n_neighbors, rate, refuse_by, load_settings(reference))
    known = load_labelled(reference)
    asked, images = load_described(reference, query, device, progress, status)
    samples = None if intervals_by is None else read_samples(intervals_by, asked, query, images)
    needed = ["refusing"] if options.unknown_rate is not None else []
    held = find_calibration(reference, calibration, known, asked, needed)
    unseen = [clean_label(name) for name in unseen]
    known = _withhold(known, unseen)
    if unseen and not (set(asked.classes) & set(unseen) and set(asked.classes) & set(known.classes)):
        raise InputError("unseen: expected images of these classes and of others in the query; found one kind only")
    _warn_of_copies(asked)
    evaluation = evaluate_predictions(known, asked, options, held, samples=samples, progress=progress)
    missing = evaluation.missing[~evaluation.missing["label"].isin(unseen)].reset_index(drop=True)
    _warn_of_missing(missing, known, evaluation.rejector is not None)
    names = [_describe_source(*source) for source in ((query, ("test", "val")), (reference, ("train",)))]
    space = score_space(known, asked, f"queries: {names[0]}, gallery: {names[1]}")
    evaluation = replace(evaluation, missing=missing, intervals_by=intervals_by, **space)
    if output is not None:
        with write_folder_atomically(output) as folder:
            write_json(folder / "scores.json", evaluation.to_dict())
            write_tables(folder, evaluation)
            draw_evaluation(folder, evaluation)
    return evaluation


def _warn_of_copies(asked: EmbeddingTable) -> None:
    """Report images of the query that have a copy (an equal vector) with another label."""
    rows = np.flatnonzero(asked.is_labelled)
    vectors = pd.Series([asked.vectors[row].tobytes() for row in rows])
    n_labels = pd.Series(asked.label[rows]).groupby(vectors).transform("nunique")
    doubtful = rows[(n_labels > 1).to_numpy()]
    if len(doubtful):
        logger.warning(
            "%d of %d images of the query have a copy (an equal vector) with another label, such as %s (%s); of such "
            "copies only one can be right: correct the labels (suspects lists them first)",
            *(len(doubtful), len(rows), asked.object_id[doubtful[0]], asked.label[doubtful[0]]),
        )


def _warn_of_missing(missing: pd.DataFrame, known: EmbeddingTable, refuses: bool) -> None:
    """Report the labels of the query that the reference lacks."""
    if len(missing):
        first = missing.iloc[0]
        nearest = f"its nearest name is {first['nearest']}" if first["nearest"] else "it has no similar name"
        logger.warning(
            "%d labels of the query (%d images, %.1f %%) are not among the %d classes of the reference, such as %s "
            "(%s); %s, or rename labels (catalog --class-map)",
            *(len(missing), missing["n_images"].sum(), 100 * missing["share"].sum(), len(known.classes)),
            *(first["label"], nearest),
            "the accuracy is that over the other images, and these should be unknown: see the open set"
            if refuses
            else "these count as wrong: see the score over the shared classes",
        )


def _describe_source(vectors: Query, splits: Sequence[str]) -> str:
    """Return what a note calls vectors: the split of a run, or the name of the file."""
    if isinstance(vectors, EmbeddingTable | ImageCatalog):
        return "a table" if isinstance(vectors, EmbeddingTable) else "a catalog"
    run = RunFolder(Path(vectors))
    is_run = run.settings.exists()
    return next((name for name in splits if is_run and run.vectors(name).exists()), Path(vectors).name)


def _withhold(known: EmbeddingTable, unseen: Sequence[str]) -> EmbeddingTable:
    strangers = sorted(set(unseen) - set(known.classes))
    if strangers:
        raise InputError(f"unseen: expected classes of the reference, {known.classes}; found {strangers}")
    return known.select(~np.isin(known.label.astype(str), list(unseen)))
