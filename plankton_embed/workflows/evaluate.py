"""`evaluate`: score predictions of labelled images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.classifiers.evaluation import Evaluation, evaluate_predictions, score_space
from plankton_embed.classifiers.prediction import UNKNOWN_RATE, Method, PredictionOptions, UnknownRate
from plankton_embed.classifiers.rejection import NoveltyScore
from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.network.saved_model import find_known
from plankton_embed.output import refuse_overwrite, write_folder_atomically, write_json
from plankton_embed.spreadsheet import clean_label
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import VectorShards
from plankton_embed.workflows.inputs import (
    Query,
    Reference,
    as_run,
    count_seen,
    find_calibration,
    find_contradictions,
    find_run,
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
    unknown_rate: UnknownRate | None = None,
    refuse_by: NoveltyScore | None = None,
    intervals_by: str | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Evaluation:
    """Predict the labelled images of `query` and score the predictions.

    See `classify` for the arguments that are not listed here.

    Args:
        unseen: classes to leave out of the reference, to test whether their images are rejected (at an unknown rate of
            .05, unless another is given). A network that was trained on these classes has still seen them:
            `seen_unseen` trains a network without them.
        intervals_by: column such as `sample_id` for intervals that draw whole samples: a column of the vectors, or of
            the catalog of the images or the run (see `read_samples`). By default images are drawn one by one, as if
            images of one sample were as different as images of several samples.
        output: folder for `scores.json`, `predictions.csv`, `per_class.csv`, `confusion.csv` (rows true), and figures;
            for the MLP also the classifier.

    Raises:
        InputError: the query has no labels, a class to leave out is not in the reference, or there is no such column.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, made_of="scores.json")
        if as_run(output):
            raise OutputError(f"{output} is a run, and its scores would be lost; choose another folder")
    rate = UNKNOWN_RATE if unseen and unknown_rate is None else unknown_rate
    options = PredictionOptions(method, n_neighbors, rate, refuse_by, load_settings(reference))
    reference_table = load_labelled(reference)
    query_table, images = load_described(reference, query, device, progress, status)
    samples = None if intervals_by is None else read_samples(intervals_by, query_table, query, images)
    needed = ["refusing"] if options.unknown_rate is not None else []
    calibration_table = find_calibration(reference, calibration, reference_table, query_table, needed)
    unseen = [clean_label(name) for name in unseen]
    reference_table = _leave_out(reference_table, unseen)
    classes = set(query_table.classes)
    if unseen and not (classes & set(unseen) and classes & set(reference_table.classes)):
        raise InputError("unseen: expected images of these classes and of others in the query; found one kind only")
    run = find_run(reference)
    if known := find_known(unseen, run.path if run else "none"):
        logger.warning(
            "the network of %s was trained on %d of the unseen classes, such as %s, so images of classes that it does "
            "not know are rejected less well than these; seen-unseen trains a network without them",
            *(reference, len(known), known[0]),
        )
    if len(copies := find_contradictions(query_table)):
        logger.warning(
            "%d of %d images of the query have a copy (an equal vector) with another label, such as %s (%s); only one "
            "of these labels can be right: correct them (suspects lists them first)",
            *(len(copies), len(query_table.labelled), query_table.object_id[copies[0]], query_table.label[copies[0]]),
        )
    evaluation = evaluate_predictions(
        reference_table, query_table, options, calibration_table, samples=samples, progress=progress
    )
    missing = evaluation.missing[~evaluation.missing["label"].isin(unseen)].reset_index(drop=True)
    _warn_of_missing(missing, reference_table, evaluation.rejector is not None)
    queries, gallery = _describe_source(query, ("test", "val")), _describe_source(reference, ("train",))
    space = score_space(reference_table, query_table, f"queries: {queries}, gallery: {gallery}")
    evaluation = replace(
        evaluation, missing=missing, intervals_by=intervals_by, n_seen=count_seen(query_table), **space
    )
    if output is not None:
        with write_folder_atomically(output) as folder:
            write_json(folder / "scores.json", evaluation.to_dict())
            write_tables(folder, evaluation)
            draw_evaluation(folder, evaluation)
    return evaluation


def _warn_of_missing(missing: pd.DataFrame, reference: EmbeddingTable, rejects: bool) -> None:
    """Report the labels of the query that are not in the reference."""
    if len(missing):
        first = missing.iloc[0]
        similar = f"the most similar class is {first['nearest']}" if first["nearest"] else "no class is similar"
        logger.warning(
            "%d labels of the query (%d images, %.1f %%) are not among the %d classes of the reference, such as %s "
            "(%s); %s, or rename labels (catalog --class-map)",
            *(len(missing), missing["n_images"].sum(), 100 * missing["share"].sum(), len(reference.classes)),
            *(first["label"], similar),
            "the accuracy is that of the other images, and these images should be unknown: see the open-set scores"
            if rejects
            else "these count as wrong: see the score over the shared classes",
        )


def _describe_source(vectors: Query, splits: Sequence[str]) -> str:
    """Return the description of vectors in a note: the split of a run, or the name of the file."""
    if isinstance(vectors, EmbeddingTable | ImageCatalog):
        return "a table" if isinstance(vectors, EmbeddingTable) else "a catalog"
    if isinstance(vectors, VectorShards):
        return vectors.folder.name
    run = as_run(vectors)
    return next((name for name in splits if run and run.vectors(name).exists()), Path(vectors).name)


def _leave_out(reference: EmbeddingTable, unseen: Sequence[str]) -> EmbeddingTable:
    unexpected = sorted(set(unseen) - set(reference.classes))
    if unexpected:
        raise InputError(f"unseen: expected classes of the reference, {reference.classes}; found {unexpected}")
    return reference.select(~np.isin(reference.label.astype(str), list(unseen))) if unseen else reference
