"""Watching a model at work: are new samples like those that it was validated on?"""

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
from plankton_embed.classifiers.rejection import NoveltyScore
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
    """Is this cruise or instrument like what the model was validated on? Sample by sample.

    New images are compared with the calibration images, never with those the network was trained on: these it knows
    too well.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors).
        new: vectors, labelled or not; their `sample_id` says which belong together. With a run as reference also
            images, which its model embeds.
        output: folder to write: `samples.csv`, `classes.csv` (see `Shift`), `predictions.csv`, `shift.png`.
        method, n_neighbors, calibration, refuse_by: of naming and refusing, as `classify`.
        unknown_rate: share of known images that may be refused.
        n_permutations: of each test, at least 1,000.
        n_draws: from the calibration images, whose effects a flagged sample exceeds.
        intervals_by: column whose values, at least 5, these draws take as a whole, such as `sample_id`: a flagged
            sample then differs by more than the calibration samples do among themselves. A column of the calibration
            vectors, or of the catalog of the run that they are in; by default single images are drawn.
        seed: of both.
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Raises:
        MismatchError: made by different models; both hashes are named.
        InputError: there is no calibration set, or too little of it was kept from training.
    """
    check_output(output, overwrite, "shift")
    options = PredictionOptions(method, n_neighbors, unknown_rate, refuse_by, load_settings(reference))
    ready = prepare_prediction(
        reference, new, options, calibration, ["shift"], called=("reference", "new"), device=device, progress=progress
    )
    asked, held = ready.query, ready.calibration
    if held is None:
        raise InputError(f"shift {NO_CALIBRATION}")
    trained_on = count_shared(asked, ready.reference)
    if trained_on:
        logger.warning(
            "%d of the new images are in the reference too; they look more similar to it than new images would",
            trained_on,
        )
    held_names, names = (predict_images(ready.classifier, table, ready.rejector) for table in (held, asked))
    source = reference if calibration is None else calibration
    shifted = find_shift(
        held,
        held_names,
        asked,
        names,
        calibration_samples=None if intervals_by is None else read_calibration_samples(intervals_by, held, source),
        n_permutations=n_permutations,
        n_draws=n_draws,
        seed=seed,
        progress=progress,
    )

    shifted = replace(shifted, unknown_rate=unknown_rate)

    def write(folder: Path) -> None:
        write_frame(folder / "samples.csv", shifted.samples)
        write_frame(folder / "classes.csv", shifted.classes)
        names.insert(1, "sample_id", asked.sample_id)
        write_frame(folder / "predictions.csv", names)
        save_figure(draw_shift(shifted), folder / "shift.png")

    settings = {
        "method": method,
        "unknown_rate": unknown_rate,
        "refuse_by": options.measure,
        "intervals_by": intervals_by or "image",
    }
    write_analysis(output, "shift", None, {**settings, **shifted.to_dict()}, write)
    return shifted
