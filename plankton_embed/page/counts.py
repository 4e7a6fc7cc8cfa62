"""Unknown images, abundance and shift for the page, as far as there are any."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.analysis.counts import AMOUNTS
from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN
from plankton_embed.page.analysis_tables import find_rows, leave_out_damaged, list_values, read_table
from plankton_embed.page.images import PageImages

BOUNDS = ("_low", "_high")
NUMBERS = "|".join(rf"{name}(?:{'|'.join(BOUNDS)})?" for name in (*AMOUNTS, "biovolume", "biovolume_concentration"))
SAMPLE_NUMBERS = "n_images|n_refused|fit_p|latitude|longitude|depth|volume|subsample_factor|n_parts"
SHIFT_NUMBERS = r"\w+_effect|\w+_draws|\w+_p|refused|expected_accuracy"
CLASS_NUMBERS = ("n_images", "share", "calibration_share", "n_refused", "refused", "novelty_score")
IMAGES = {"count": "images", "corrected": "images, corrected"}


def build_counts(
    images: PageImages,
    *,
    predictions: str | Path | None = None,
    abundance: str | Path | None = None,
    shift: str | Path | None = None,
) -> dict[str, Any] | None:
    """Return the parts of the tab that there are: `unknowns`, `abundance`, `shift`.

    Args:
        images: of the page.
        predictions: predictions, in which rejected images have the label `unknown`.
        abundance: the folder that `abundance` wrote.
        shift: the folder that `shift` wrote.

    Returns:
        None if there is no part.
    """
    parts = {
        "unknowns": build_unknowns(images, predictions),
        "abundance": read_abundance(abundance),
        "shift": read_shift(shift),
    }
    found = {name: part for name, part in parts.items() if part is not None}
    return found or None


# ---------------------------------------------------------------------------------------------- unknowns


def build_unknowns(images: PageImages, predictions: str | Path | None = None) -> dict[str, Any] | None:
    """Return the rejected images of a file of predictions; without any, which images may be ranked by their novelty.

    Returns:
        `kind`: `rejected`, with `rows` (the highest novelty score first), `score` and `best` (class name before
        rejection, empty if it is not in the file); or `distance` (the page ranks by the distance to the nearest class
        mean), with `of`: `new` (images outside the reference) or `all`. None if no image has a distance.
    """
    if predictions is not None and Path(predictions).is_file():
        read = partial(_read_rejected, images, Path(predictions))
        rejected = leave_out_damaged(read, logging.INFO)  # the confusion warns of the same file
        if rejected is not None:
            return rejected
    measured = np.isfinite(images.distance)
    if not measured.any():
        return None
    return {"kind": "distance", "of": "new" if (measured & ~images.reference).any() else "all"}


def _read_rejected(images: PageImages, path: Path) -> dict[str, Any] | None:
    frame = read_table(path, ("object_id", "label"), optional="novelty_score|distance")
    rows = find_rows(images, frame["object_id"], path)
    chosen = (frame["label"] == UNKNOWN).to_numpy() & (rows >= 0)
    if not chosen.any():
        return None
    rejected = frame[chosen].assign(row=rows[chosen])
    score = next((name for name in ("novelty_score", "distance") if name in rejected), None)
    if score is not None:
        rejected = rejected.sort_values(score, ascending=False, kind="stable")
    best = rejected["best_label"] if "best_label" in rejected else [""] * len(rejected)
    return {
        "kind": "rejected",
        "rows": rejected["row"].to_numpy(dtype=np.int32),
        "measure": (score or "").replace("_", " "),
        "score": list_values([None] * len(rejected) if score is None else rejected[score]),
        "best": list_values(best),
    }


# ---------------------------------------------------------------------------------------------- abundance


def read_abundance(folder: str | Path | None) -> dict[str, Any] | None:
    """Read the folder that `abundance` wrote.

    Returns:
        `amounts`: a list of `name`, `unit`, `has_interval`; `level` of the intervals, None if it is not in the folder;
        `labels`, `samples` (names), `table` (`sample` and `label`, indices, and the columns of the amounts; rows of
        zeros are left out), `totals` (`label` and the columns), `about` (columns of the samples, empty ones left out).
        None if the folder does not exist or is damaged.
    """
    if folder is None or not Path(folder).is_dir():
        return None
    return leave_out_damaged(partial(_read_abundance, Path(folder)))


def _read_abundance(folder: Path) -> dict[str, Any] | None:
    needed = ("count", "corrected", "low", "high")
    table = read_table(folder / "abundance.csv", ("sample", "label"), needed, NUMBERS)
    totals = read_table(folder / "totals.csv", ("label",), needed, NUMBERS)
    samples = read_table(folder / "samples.csv", ("sample",), ("n_images",), SAMPLE_NUMBERS)
    if table.empty:
        return None
    summary = _read_summary(folder)
    renamed = {"low": "corrected_low", "high": "corrected_high"}
    table, totals = table.rename(columns=renamed), totals.rename(columns=renamed)
    names = ["count", *AMOUNTS[::-1], "biovolume", "biovolume_concentration"]
    names = [name for name in names if name in table and table[name].notna().any()]
    units = summary.get("units")
    units = units if isinstance(units, dict) else {}
    amounts = [
        {
            "name": name,
            "unit": str(units.get(name) or IMAGES.get(name, "")),
            "has_interval": f"{name}_low" in table and bool(table[f"{name}_low"].notna().any()),
        }
        for name in names
    ]
    columns = [column for name in names for column in (name, *(name + end for end in BOUNDS)) if column in table]
    filled = (table[columns].fillna(0) != 0).any(axis=1)
    labels, order = totals["label"].tolist(), samples["sample"].tolist()
    codes = {
        "sample": pd.Index(order).get_indexer(pd.Index(table["sample"])),
        "label": pd.Index(labels).get_indexer(pd.Index(table["label"])),
    }
    for column, found in codes.items():
        if (found < 0).any():
            raise InputError(
                f"{folder / 'abundance.csv'}, column {column}: expected the values of "
                f"{'samples.csv' if column == 'sample' else 'totals.csv'}; found another one, "
                f"{table[column].iloc[int((found < 0).argmax())]}; write the folder again with abundance"
            )
    level = summary.get("level")
    return {
        "amounts": amounts,
        "level": float(level) if isinstance(level, int | float) else None,
        "labels": labels,
        "samples": order,
        "table": {
            **{column: found[filled].astype(np.int32) for column, found in codes.items()},
            **{column: table.loc[filled, column].to_numpy(dtype=np.float32) for column in columns},
        },
        "totals": {column: list_values(totals[column]) for column in ("label", *columns) if column in totals},
        "about": _list_columns(samples),
    }


def _read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of an analysis; empty if there is none."""
    path = folder / "summary.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}; write the folder again with its command") from error
    return found if isinstance(found, dict) else {}


def _list_columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the columns of a table as plain values, empty text as None; empty columns are left out."""
    columns = {str(name): list_values(frame[name].replace("", None)) for name in frame}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


# ---------------------------------------------------------------------------------------------- shift


def read_shift(folder: str | Path | None) -> dict[str, Any] | None:
    """Read the folder that `shift` wrote.

    Returns:
        `samples` (the columns of samples.csv; `sample_id` is None for all images together; empty columns are left out)
        and `classes` (the columns of classes.csv). None if the folder does not exist or is damaged.
    """
    if folder is None or not Path(folder).is_dir():
        return None
    return leave_out_damaged(partial(_read_shift, Path(folder)))


def _read_shift(folder: Path) -> dict[str, Any] | None:
    samples = read_table(folder / "samples.csv", ("sample_id", "verdict"), ("n_images",), SHIFT_NUMBERS)
    classes = read_table(folder / "classes.csv", ("sample_id", "label"), CLASS_NUMBERS, "calibration_novelty")
    if samples.empty:
        return None
    of_samples = _list_columns(samples)
    of_samples.setdefault("sample_id", [None] * len(samples))  # no sample has a name: all images together
    of_classes = _list_columns(classes)
    if len(classes):
        of_classes.setdefault("sample_id", [None] * len(classes))
    return {"samples": of_samples, "classes": of_classes}
