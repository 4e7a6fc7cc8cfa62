"""Writes predictions for an IFCB dashboard: a file of class scores for every bin."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError, needs_extra
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog
from plankton_embed.images.writers.names import match_predictions
from plankton_embed.output import refuse_overwrite, write_atomically

logger = logging.getLogger(__name__)

NEW_BIN = re.compile(r"D((\d{4})\d{4})T\d{6}_IFCB\d+")
OLD_BIN = re.compile(r"IFCB\d+_((\d{4})_\d{3})_\d{6}")
VERSION = "v3"
MOST_ROIS = 65535
MOST_CLASSES = 2048  # a half-precision number distinguishes up to so many classes


@dataclass(frozen=True)
class ScoreCounts:
    """The numbers of images in files of class scores.

    `n_bins` files with `n_images` images; `n_unknown` of them were rejected, which the files cannot express;
    `n_unnamed` images of the catalog have no scores and are left out.
    """

    n_bins: int
    n_images: int
    n_unknown: int
    n_unnamed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def write_class_scores(
    folder: str | Path,
    catalog: ImageCatalog,
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    model_id: str = "plankton_embed",
    overwrite: bool = False,
) -> ScoreCounts:
    """Write the probabilities of all classes for every bin, as `<bin>_class.h5` that an IFCB dashboard reads.

    A file contains `output_scores` (images, classes) float16; `output_classes` (images,) float16, the row of
    `class_labels` with the best score, from 0; `class_labels` (classes,) text; `roi_numbers` (images,) uint16, in
    rising order; and an empty `metadata` with the attributes `version` (v3), `model_id`, `timestamp` (of writing) and
    `bin_id`. Its folder is `D2013/D20130526/`, for old bins `D2012/D2012_028/` (year and day of the year).

    Sources: WHOIGit/ifcb_classifier, which writes such files (`neuston_callbacks.py`, and the default `--outfile` of
    `neuston_net.py`), and joefutrelle/pyifcb, with which dashboards read them (`ifcb/data/products/class_scores.py`,
    version 3).

    Args:
        folder: the folder of the year folders; files of other bins are kept.
        catalog: images with `ifcb_bin` and `roi_number`.
        predictions: `object_id`, `label` and a column `p(<class>)` for every class (`classify` with
            `all_probabilities`).
        classes: the classes, in the order of the scores; dashboards read names in ASCII.
        model_id: the name of the model that made the scores.
        overwrite: replace files of the same bins.

    Raises:
        DependencyError: h5py is missing.
        OutputError: a file exists already.
        InputError: as `match_predictions`; or a column is missing, a bin, ROI or probability is wrong, an image is
            there twice, or a class cannot be written.
    """
    with needs_extra("the target ifcb", "ifcb"):
        import h5py

    classes = list(classes)
    _check_classes(classes, predictions)
    missing = [column for column in ("ifcb_bin", "roi_number") if column not in catalog.frame]
    if missing:
        raise InputError(f"catalog: {', '.join(missing)} is missing; class scores are for images read from IFCB bins")
    matched = match_predictions(catalog, predictions)
    is_predicted = matched["label"].notna().to_numpy()
    images = catalog.frame[is_predicted]
    bins, rois = _read_rois(images)
    scores = _read_scores(matched[is_predicted], classes)
    order = np.lexsort((rois, bins))
    files = {}
    for rows in np.split(order, np.flatnonzero(np.diff(bins[order])) + 1):
        bin_id = str(images["ifcb_bin"].iloc[rows[0]])
        files[refuse_overwrite(Path(folder) / _path_of(bin_id), overwrite, (".h5",))] = bin_id, rows
    metadata = {"version": VERSION, "model_id": model_id, "timestamp": datetime.now(UTC).isoformat(timespec="seconds")}
    for path, (bin_id, rows) in files.items():
        with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("metadata", data=h5py.Empty("f")).attrs.update({**metadata, "bin_id": bin_id})
            for name, values, kind in (
                ("output_scores", scores[rows], "float16"),
                ("output_classes", scores[rows].argmax(axis=1), "float16"),
                ("roi_numbers", rois[rows], "uint16"),
                ("class_labels", classes, h5py.string_dtype()),
            ):
                file.create_dataset(name, data=values, dtype=kind, compression="gzip")
    n_unknown = int((matched["label"] == UNKNOWN).sum())
    if n_unknown:
        logger.warning(
            "%d images were rejected (unknown); class scores cannot express that, so they have scores like all others",
            n_unknown,
        )
    if not is_predicted.all():
        logger.warning("%d images of the catalog have no prediction and are left out", (~is_predicted).sum())
    return ScoreCounts(len(files), len(order), n_unknown, int((~is_predicted).sum()))


def _path_of(bin_id: str) -> str:
    """Return the path of the scores of a bin below the folder.

    Raises:
        InputError: this is not a bin.
    """
    found = NEW_BIN.fullmatch(bin_id) or OLD_BIN.fullmatch(bin_id)
    if found is None:
        raise InputError(
            f"catalog, column ifcb_bin: expected D20130526T095207_IFCB013 or IFCB5_2012_028_081515; found {bin_id!r}"
        )
    date, year = found.groups()
    return f"D{year}/D{date}/{bin_id}_class.h5"


def _check_classes(classes: Sequence[str], predictions: pd.DataFrame) -> None:
    missing = [name for name in classes if f"p({name})" not in predictions]
    if missing or not classes:
        raise InputError(
            f"predictions: expected a column p(<class>) for every class; {', '.join(missing) or 'all'} missing; "
            "classify with --all-probabilities (all_probabilities=True)"
        )
    n_different = len(set(classes))
    if n_different < len(classes) or n_different > MOST_CLASSES:
        raise InputError(
            f"classes: expected at most {MOST_CLASSES}, each once; found {len(classes)}, {n_different} different"
        )
    not_ascii = [name for name in classes if not name.isascii() or not name.isprintable()]
    if not_ascii:
        raise InputError(
            f"classes: IFCB dashboards read names in ASCII only; found {', '.join(map(repr, not_ascii))}; rename them "
            "with a class map"
        )


def _read_rois(frame: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return a number for the bin of every image, and its ROI number."""
    rois = pd.to_numeric(frame["roi_number"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    is_roi = (rois >= 1) & (rois <= MOST_ROIS) & (rois % 1 == 0) & frame["ifcb_bin"].notna().to_numpy()
    if not is_roi.all():
        wrong = frame[["object_id", "ifcb_bin", "roi_number"]].iloc[int(is_roi.argmin())]
        object_id, bin_id, roi = wrong.astype(object).where(wrong.notna(), "an empty cell")
        raise InputError(
            f"catalog, object_id {object_id}: expected a bin and a ROI number from 1 to {MOST_ROIS}; found ifcb_bin "
            f"{bin_id} and roi_number {roi}; correct that row, or remove it"
        )
    codes, bins = pd.factorize(frame["ifcb_bin"])
    doubled = pd.DataFrame({"bin": codes, "roi": rois}).duplicated().to_numpy()
    if doubled.any():
        row = int(doubled.argmax())
        raise InputError(
            f"catalog: ROI {rois[row]:.0f} of the bin {bins[codes[row]]} is in two rows; remove one of them"
        )
    return codes, rois.astype(np.int64)


def _read_scores(predictions: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the probabilities (images, classes)."""
    columns = [f"p({name})" for name in classes]
    numbers = predictions[columns].apply(pd.to_numeric, errors="coerce")
    scores: NDArray[np.float64] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    is_wrong = ~((scores >= 0) & (scores <= 1))
    if is_wrong.any():
        row, column = (int(found[0]) for found in np.nonzero(is_wrong))
        value = predictions[columns[column]].iloc[row]
        raise InputError(
            f"predictions, object_id {predictions['object_id'].iloc[row]}, column {columns[column]}: expected a "
            f"probability from 0 to 1; found {'an empty cell' if pd.isna(value) else value}; classify with "
            "--all-probabilities"
        )
    return scores
