"""`classify`: predict the classes of images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pandas as pd

from plankton_embed.analysis.shift import judge_shift
from plankton_embed.classifiers.prediction import (
    BLOCK,
    Method,
    PredictionOptions,
    UnknownRate,
    describe_predictions,
    predict_in_blocks,
)
from plankton_embed.classifiers.rejection import NoveltyScore, Rejector
from plankton_embed.errors import SettingError
from plankton_embed.output import progress_bar, refuse_overwrite, write_frames
from plankton_embed.workflows.inputs import Query, Reference, load_settings, prepare_prediction


def classify(
    reference: Reference,
    query: Query,
    method: Method = "centroid",
    output: str | Path | None = None,
    *,
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    probabilities: bool | None = None,
    all_probabilities: bool = False,
    unknown_rate: UnknownRate | None = None,
    refuse_by: NoveltyScore | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Predict the classes of the images in `query` from the labelled vectors in `reference`.

    Args:
        reference: labelled vectors: a table, its file, or the folder of a run (its training vectors).
        query: vectors to predict: a table or its file. If the reference is a run, also images (a folder, a catalog
            file), which its model embeds.
        method: `centroid`, `knn` or `mlp`.
        output: CSV to write the predictions to.
        n_neighbors: k of kNN; by default the k of the run that the reference belongs to (see `find_run`), else 10.
        calibration: labelled vectors of images that the network was not trained on, for probabilities and rejection
            (and for early stopping of the MLP); by default `val.parquet` beside the reference, if it exists.
        probabilities: give probabilities; by default if there is a calibration set.
        all_probabilities: also give the probabilities of all classes, in columns `p(<class>)`.
        unknown_rate: share of the images of known classes that may be rejected; by default none is rejected. `auto`:
            the share with the smallest error of the composition when classes are withheld (see `score_unknown_rates`).
        refuse_by: the novelty score: `centroid`, `neighbor` (the default) or `density` (see `Rejector`).
        status: for images: the statuses whose class names are used as labels (see `embed`).
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Returns:
        Predictions, one row per image (see `predict_images`).

    Raises:
        MismatchError: reference and query were made by different models; both hashes are given.
        SettingError: all probabilities are requested, and probabilities are turned off.
        InputError: probabilities or an unknown rate are requested, and there is no calibration set.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, (".csv",))
    options = PredictionOptions(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    if all_probabilities and probabilities is False:
        raise SettingError(
            "all_probabilities (--all-probabilities): probabilities are turned off; leave out one of the two"
        )
    reasons = (("probabilities", probabilities or all_probabilities), ("refusing", unknown_rate))
    needed = [what for what, wanted in reasons if wanted]
    calibrated = probabilities is not False or method == "mlp" or bool(needed)
    ready = prepare_prediction(
        reference,
        query,
        options,
        calibration,
        needed,
        calibrated=calibrated,
        status=status,
        device=device,
        progress=progress,
    )
    if ready.calibration is not None and len(ready.query):
        labelled = ready.reference.labelled
        measures = Rejector().fit(labelled.vectors, labelled.label)
        judge_shift(partial(describe_predictions, ready.classifier, measures), ready.calibration, [ready.query])
    blocks = predict_in_blocks(
        ready.classifier,
        ready.query,
        ready.rejector,
        probabilities=ready.calibration is not None and probabilities is not False,
        all_probabilities=all_probabilities,
    )
    parts = []
    bar = progress_bar(len(ready.query), "classify", "image", shown=progress and len(ready.query) > BLOCK)
    with bar, nullcontext() if output is None else write_frames(Path(output)) as write:
        for part in blocks:
            if write is not None:
                write(part)
            parts.append(part)
            bar.update(len(part))
    return pd.concat(parts)
