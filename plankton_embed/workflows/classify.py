"""`classify`: predict the labels of images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from plankton_embed.analysis.shift import judge_shift
from plankton_embed.classifiers.prediction import Method, PredictionOptions, describe_predictions, predict_images
from plankton_embed.classifiers.rejection import NoveltyScore, Rejector
from plankton_embed.errors import SettingError
from plankton_embed.output import refuse_overwrite, write_frame
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
    unknown_rate: float | None = None,
    refuse_by: NoveltyScore | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Name the images of `query` by the labelled vectors of `reference`.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors).
        query: a table or its file; with a run as reference also images (a folder, a catalog file), which its model
            embeds.
        method: `centroid`, `knn` or `mlp`.
        output: CSV to write.
        n_neighbors: k of kNN; by default that of the run that the reference is or is saved in (see `find_run`), else
            10.
        calibration: labelled vectors of images that the network was not trained on, for probabilities and refusing (and
            for the MLP to know when to stop); by default `val.parquet` beside the reference, if there is one.
        probabilities: give them; by default where there is a calibration set.
        all_probabilities: give those of every class too, in columns `p(<class>)`.
        unknown_rate: share of known images that may be refused; by default every image gets a name.
        refuse_by: what makes an image strange: `centroid`, `neighbor` (the default) or `density` (see `Rejector`).
        status: of images: which names are labels (see `embed`).
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Returns:
        One row an image, as described at `predict_images`.

    Raises:
        MismatchError: made by different models; both hashes are named.
        SettingError: all probabilities are asked for, and none.
        InputError: probabilities or an unknown rate are asked for, and there is no calibration set.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, (".csv",))
    options = PredictionOptions(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    if all_probabilities and probabilities is False:
        raise SettingError(
            "all_probabilities (--all-probabilities): probabilities are turned off; leave out one of both"
        )
    reasons = (("probabilities", probabilities or all_probabilities), ("refusing", unknown_rate))
    needed = [what for what, wanted in reasons if wanted]
    idle = probabilities is False and method != "mlp" and not needed
    ready = prepare_prediction(
        reference,
        query,
        options,
        calibration,
        needed,
        calibrated=not idle,
        status=status,
        device=device,
        progress=progress,
    )
    names = predict_images(
        ready.classifier,
        ready.query,
        ready.rejector,
        probabilities=ready.calibration is not None and probabilities is not False,
        all_probabilities=all_probabilities,
    )
    if ready.calibration is not None and len(ready.query):
        known = ready.reference.select(ready.reference.is_labelled)
        measures = Rejector().fit(known.vectors, known.label)
        judge_shift(partial(describe_predictions, ready.classifier, measures), ready.calibration, [ready.query])
    if output is not None:
        write_frame(Path(output), names)
    return names
