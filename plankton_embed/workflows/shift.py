"""`shift`: compare new images with the calibration set."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from plankton_embed.analysis.shift import N_DRAWS, N_PERMUTATIONS, Shift, find_shift
from plankton_embed.classifiers.prediction import (
    NO_CALIBRATION,
    UNKNOWN_RATE,
    Method,
    PredictionOptions,
    predict_images,
)
from plankton_embed.classifiers.rejection import NoveltyScore, least_calibration
from plankton_embed.errors import InputError
from plankton_embed.output import write_frame
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.shift import draw_shift
from plankton_embed.workflows.inputs import (
    Query,
    Reference,
    count_shared,
    load_settings,
    prepare_prediction,
    read_calibration_samples,
)
from plankton_embed.workflows.result_folder import check_output, write_analysis

logger = logging.getLogger(__name__)


def shift(
    reference: Reference,
    new: Query,
    output: str | Path | None = None,
    *,
    method: Method = "centroid",
    n_neighbors: int | None = None,
    calibration: Reference | None = None,
    unknown_rate: float = UNKNOWN_RATE,
    refuse_by: NoveltyScore | None = None,
    n_permutations: int = N_PERMUTATIONS,
    n_draws: int = N_DRAWS,
    intervals_by: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Shift:
    """Compare new images with the calibration set, sample by sample.

    Are the images of a cruise or an instrument like those that the model was validated on? They are never compared with
    the training images, which the network fits better than any other images.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors).
        new: vectors, labelled or not; images with the same `sample_id` are a sample. With a run as reference also
            images, which its model embeds.
        output: folder to write: `samples.csv`, `classes.csv` (see `Shift`), `predictions.csv`, `shift.png`.
        method, n_neighbors, calibration, refuse_by: for classification and rejection; see `classify`.
        unknown_rate: share of images of known classes to reject as unknown.
        n_permutations: permutations of each test, at least 1,000.
        n_draws: null draws from the calibration set; a flagged sample must exceed all of them.
        intervals_by: column whose values are drawn as a whole in the null draws, such as `sample_id` (at least 5
            values): a flagged sample then differs more than the calibration samples differ from each other. A column of
            the calibration vectors, or of the catalog of their run; by default single images are drawn.
        seed: of permutations and draws.
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Raises:
        MismatchError: made by different models; the message contains both hashes.
        InputError: there is no calibration set, or too few of its images were not used in training.
    """
    check_output(output, overwrite, "shift")
    least_calibration(unknown_rate)  # raises an error if it is not a share
    options = PredictionOptions(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    ready = prepare_prediction(
        reference, new, options, calibration, ["shift"], called=("reference", "new"), device=device, progress=progress
    )
    query, calibration_set = ready.query, ready.calibration
    if calibration_set is None:
        raise InputError(f"shift {NO_CALIBRATION}")
    trained_on = count_shared(query, ready.reference)
    if trained_on:
        logger.warning(
            "%d of the new images are in the reference too; they look more similar to it than new images would",
            trained_on,
        )
    tables = (calibration_set, query)
    calibration_predictions, predictions = (predict_images(ready.classifier, t, ready.rejector) for t in tables)
    source = reference if calibration is None else calibration
    shifted = find_shift(
        calibration_set,
        calibration_predictions,
        query,
        predictions,
        calibration_samples=None
        if intervals_by is None
        else read_calibration_samples(intervals_by, calibration_set, source),
        n_permutations=n_permutations,
        n_draws=n_draws,
        seed=seed,
        progress=progress,
    )

    shifted = replace(shifted, unknown_rate=unknown_rate)

    def write(folder: Path) -> None:
        write_frame(folder / "samples.csv", shifted.samples)
        write_frame(folder / "classes.csv", shifted.classes)
        predictions.insert(1, "sample_id", query.sample_id)
        write_frame(folder / "predictions.csv", predictions)
        save_figure(draw_shift(shifted), folder / "shift.png")

    settings = {
        "method": method,
        "unknown_rate": unknown_rate,
        "refuse_by": options.measure,
        "intervals_by": intervals_by or "image",
    }
    write_analysis(output, "shift", None, {**settings, **shifted.to_dict()}, write)
    return shifted
