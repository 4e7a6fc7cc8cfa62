"""Which classes are predicted as which: scored images of a run, or all labelled images by the nearest class mean."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.images.catalog import UNKNOWN
from plankton_embed.page.analysis_tables import find_rows, leave_out_damaged, list_values, read_table
from plankton_embed.page.images import PageImages

SCORED = ("test", "val")  # splits of a run that are scored, the first that has labels


def build_confusion(images: PageImages, predictions: str | Path | None = None) -> dict[str, Any] | None:
    """Return true and predicted class of every scored image, and the scores of each class.

    Args:
        images: of the page.
        predictions: the file `predictions.csv` of a run, or another that `evaluate` wrote. Without it, or if it is
            damaged, the predictions are the classes of the nearest class means: of the labelled images of the split
            test or val, and otherwise of all labelled images, each left out of the mean of its own class.

    Returns:
        `of` (what is scored, in words), `when` (from when it is, UTC), `labels` (class names, `unknown` last), `rows`
        (of the images), `truth` and `predicted` (indices of labels), and `per_class` (`label`, `support`, `predicted`,
        `recall`, `precision`, `f1`; None where undefined). None if no labelled image has a prediction.
    """
    found = None
    if predictions is not None and Path(predictions).is_file():
        found = leave_out_damaged(lambda: _read_predictions(images, Path(predictions)))
    return found or _score_guesses(images)


def _read_predictions(images: PageImages, path: Path) -> dict[str, Any] | None:
    frame = read_table(path, ("object_id", "label", "true_label"))
    rows = find_rows(images, frame["object_id"], path)
    scored = (rows >= 0) & (frame[["label", "true_label"]] != "").all(axis=1).to_numpy()
    if not scored.any():
        return None
    rows, frame = rows[scored], frame[scored]
    splits = sorted({str(name) for name in images.split[rows]} - {""})
    what = f"{' and '.join(splits)} images" if splits else "images"
    left_out = f"; {(~scored).sum():,} further rows have no label or no image on this page" if (~scored).any() else ""
    return _describe(
        f"{path.name}: the predictions of {len(rows):,} {what}{left_out}",
        datetime.fromtimestamp(path.stat().st_mtime, UTC),
        *(rows, frame["true_label"].to_numpy(dtype=str), frame["label"].to_numpy(dtype=str)),
    )


def _score_guesses(images: PageImages) -> dict[str, Any] | None:
    labels, classes = images.label_index, np.array(images.classes, dtype=object)
    scored = (labels >= 0) & (images.guess >= 0)
    split = next((name for name in SCORED if (scored & (images.split == name)).any()), None)
    if split is not None:
        scored &= images.split == split
    rows = np.flatnonzero(scored)
    if not len(rows):
        return None
    what = f"{len(rows):,} labelled {split or ''} images".replace("  ", " ")
    of = f"the class of the nearest class mean, for {what}"
    if images.reference[rows].any():
        of += ", each left out of the mean of its own class"
        if (images.split[rows] == "train").any():
            of += "; training has separated them by label, so new images are predicted right less often"
    return _describe(of, datetime.now(UTC), rows, classes[labels[rows]], classes[images.guess[rows]])


def _describe(
    of: str, when: datetime, rows: NDArray[np.intp], truth: NDArray[Any], predicted: NDArray[Any]
) -> dict[str, Any]:
    truth, predicted = truth.astype(str), predicted.astype(str)
    per_class = score_predictions(truth, predicted, n_bootstrap=0).per_class
    labels = sorted(per_class["label"], key=lambda name: (name == UNKNOWN, name))
    per_class = per_class.set_index("label").loc[labels].reset_index()
    codes = {name: code for code, name in enumerate(labels)}
    truth_code, predicted_code = (np.array([codes[name] for name in names]) for names in (truth, predicted))
    n_predicted = np.bincount(predicted_code, minlength=len(labels))
    return {
        "of": of,
        "when": when.strftime("%Y-%m-%d %H:%M UTC"),
        "labels": labels,
        "rows": rows.astype(np.int32),
        "truth": truth_code.astype(np.int32),
        "predicted": predicted_code.astype(np.int32),
        "per_class": {
            "label": labels,
            "support": list_values(per_class["support"]),
            "predicted": list_values(n_predicted),
            "recall": list_values(per_class["recall"].where(per_class["support"] > 0)),
            "precision": list_values(per_class["precision"].where(n_predicted > 0)),
            "f1": list_values(per_class["f1"]),
        },
    }
