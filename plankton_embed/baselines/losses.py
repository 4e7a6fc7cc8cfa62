"""The images with the highest losses of a classifier, as corrections for a person to fill in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from plankton_embed.baselines.net_classifier import check_labels
from plankton_embed.classifiers.calibration import LEAST_PROBABILITY
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.corrections import UNTOUCHED
from plankton_embed.output import refuse_overwrite, write_atomically
from plankton_embed.spreadsheet import refuse_filled_in

LOSSES_FILE = "highest_losses.csv"
LOSS_COLUMNS = ("object_id", "path", "label", "predicted", "loss", "probability", "true_probability")

logger = logging.getLogger(__name__)


def highest_losses(
    classes: NDArray[Any],
    probabilities: NDArray[np.floating],
    labels: ArrayLike,
    object_ids: Sequence[str],
    paths: Sequence[str],
    n: int = 10,
) -> pd.DataFrame:
    """List the images with the highest losses (system C shows ten): their label has the lowest probabilities.

    Args:
        classes: `classes_` of a fitted classifier, (C,).
        probabilities: its `predict_proba` of the images, (n, C); preferably of images that it was not trained on.
        labels: (n,) their class names. Images of classes that the classifier does not have are left out, and counted in
            a warning.
        object_ids: (n,) their ids.
        paths: (n,) their files.
        n: maximum number of rows.

    Returns:
        One row for each image, the highest loss first: object_id, path, label (as given), predicted, loss (-log of the
        probability of the label), probability (of the predicted class) and true_probability (of the label).

    Raises:
        SettingError: n is below 1.
        InputError: labels are missing or unknown, or the inputs differ in length.
    """
    if n < 1:
        raise SettingError(f"n: expected at least 1 image; found {n}")
    names = check_labels(labels)
    lengths = {"images": len(probabilities), "labels": len(names), "object_ids": len(object_ids), "paths": len(paths)}
    if len(set(lengths.values())) > 1:
        raise InputError(f"expected as many of each; found {', '.join(f'{n} {name}' for name, n in lengths.items())}")
    codes = pd.Index(classes).get_indexer(pd.Index(names))
    usable = np.flatnonzero(codes >= 0)
    if not len(usable):
        raise InputError(f"none of the {len(names)} labels is a class of the classifier, such as {classes[0]!r}")
    if len(usable) < len(names):
        logger.warning(
            "%d images are of classes that the classifier was not trained on, and are left out",
            len(names) - len(usable),
        )
    true = probabilities[usable, codes[usable]]
    losses = -np.log(np.maximum(true, LEAST_PROBABILITY))
    order = np.argsort(-losses, kind="stable")[:n]
    rows = usable[order]
    columns = (
        np.asarray(object_ids, dtype=object)[rows],
        np.asarray(paths, dtype=object)[rows],
        names[rows],
        np.asarray(classes)[probabilities[rows].argmax(axis=1)],
        losses[order],
        probabilities[rows].max(axis=1),
        true[order],
    )
    return pd.DataFrame(dict(zip(LOSS_COLUMNS, columns, strict=True)))


def propose_corrections(table: pd.DataFrame) -> pd.DataFrame:
    """Return the images with the highest losses as corrections to fill in, as `Suspects.corrections` does.

    The action of all is `keep`; `label` is the predicted class, which `relabel` would give the image; `reason` has its
    loss and label. `true_label`, `path`, `loss`, `probability` and `true_probability` are further columns.

    Args:
        table: what `highest_losses` returns.
    """
    reason = [f"loss {loss:.2f}, labelled {label}" for loss, label in zip(table["loss"], table["label"], strict=True)]
    corrections = pd.DataFrame(
        {
            "object_id": table["object_id"],
            "action": "keep",
            "label": table["predicted"],
            "reason": reason,
            "true_label": table["label"],
        }
    )
    return corrections.join(table[["path", "loss", "probability", "true_probability"]])


def write_highest_losses(table: pd.DataFrame, path: str | Path, overwrite: bool = False) -> Path:
    """Write the images with the highest losses as a CSV for a person to fill in.

    Set `action` to keep, relabel (to `label`, which may be changed) or delete in each row; then
    `apply-corrections CATALOG highest_losses.csv -o CATALOG2`, and train again.

    Args:
        table: what `highest_losses` returns.
        path: the file, or an existing folder for a file `highest_losses.csv`.
        overwrite: replace the file, unless a person has filled it in.

    Returns:
        The file.

    Raises:
        OutputError: the file exists and must not be replaced.
    """
    path = Path(path)
    path = refuse_overwrite(path / LOSSES_FILE if path.is_dir() else path, overwrite, (".csv",))
    refuse_filled_in(path, *UNTOUCHED)
    with write_atomically(path) as temporary:
        propose_corrections(table).to_csv(temporary, index=False, encoding="utf-8-sig")
    return path
