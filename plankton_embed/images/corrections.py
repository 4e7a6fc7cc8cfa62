"""Applies a person's corrections of labels to a catalog, and undoes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.decisions import ACTIONS, COLUMNS, is_journal, read_decisions
from plankton_embed.notebook import Shown
from plankton_embed.spreadsheet import clean_label, read_header, read_spreadsheet, to_text, to_utf8

CORRECTIONS_FILE = "corrections.csv"
UNTOUCHED = ("action", "keep")  # the column that a person fills in, and its value before
CHANGES = ("correction_action", "correction_label", "correction_reason", "correction_place")


@dataclass(frozen=True, repr=False)
class CorrectedCatalog(Shown):
    """A catalog with corrections applied, and the changes; the images and the old catalog do not change.

    `changes` has the changed rows as they were before, with `correction_action`, `correction_label` (the new label,
    None where deleted), `correction_reason` and `correction_place` (the row in the old catalog), so that they can be
    undone. `n_kept`: number of images with the action keep.
    """

    catalog: ImageCatalog
    changes: pd.DataFrame
    n_kept: int

    def _describe(self) -> str:
        return f"{len(self.catalog):,} images, {len(self.changes):,} changed, {self.n_kept:,} kept as they are"

    def _preview(self) -> pd.DataFrame:
        return self.changes


def read_corrections(path: str | Path) -> pd.DataFrame:
    """Read corrections from the journal of `review`, or from a CSV.

    A CSV has the columns `object_id`, `action`, `label` and, optionally, `reason` and others.

    Raises:
        InputError: the file or a column is missing, an action is unknown, an id is there twice, or a new label is
            missing; the message gives file and row.
    """
    if is_journal(path):
        return check_corrections(read_decisions(path), f"journal {path}")
    return check_corrections(read_spreadsheet(path, "corrections file"), f"corrections {path}")


def is_corrections(path: str | Path) -> bool:
    """Return whether a file is the journal of `review`, or a CSV with the columns `object_id` and `action`."""
    path = Path(path)
    if not path.is_file() or path.suffix.lower() == ".parquet":
        return False
    if is_journal(path):
        return True
    with path.open("rb") as file:
        start = file.read(1 << 20)
    try:
        names = [name.strip() for name in read_header(to_utf8(start))[0]]
    except InputError:
        return False
    return "object_id" in names and "action" in names and "v0" not in names


def check_corrections(frame: pd.DataFrame, source: str = "corrections") -> pd.DataFrame:
    """Return the four columns, checked and cleaned; `source` is their source, for errors."""
    missing = [name for name in COLUMNS[:3] if name not in frame]
    if missing:
        raise InputError(f"{source}: expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing")
    frame = frame.reindex(columns=COLUMNS, fill_value="")
    cleaners = {"label": clean_label}  # an id stays as the catalog has it
    columns = {name: to_text(frame[name], cleaners.get(name, str.strip)) for name in COLUMNS}
    frame = pd.DataFrame({name: pd.Series(column, dtype="str") for name, column in columns.items()}).fillna("")
    frame["action"] = frame["action"].str.lower()
    for number, row in enumerate(frame.to_dict("records"), 2):
        if row["action"] not in ACTIONS:
            raise InputError(f"{source}, row {number}: action: expected {', '.join(ACTIONS)}; found {row['action']!r}")
        if row["action"] == "relabel" and not row["label"]:
            raise InputError(
                f"{source}, row {number}: expected the new label of {row['object_id']}; found an empty cell"
            )
    doubled = frame["object_id"][frame["object_id"].duplicated()]
    if len(doubled):
        raise InputError(f"{source}: object_id {doubled.iloc[0]} is in several rows; give it one action")
    return frame


def apply_corrections(catalog: ImageCatalog, corrections: pd.DataFrame) -> CorrectedCatalog:
    """Return a catalog with images relabelled or left out as a person decided.

    Args:
        catalog: the catalog to correct; it is not changed.
        corrections: `object_id`, `action` (keep, relabel or delete), `label` (for relabel), `reason`.

    Raises:
        InputError: as `read_corrections`; or an image is not in the catalog, or no image would be left.
    """
    checked = check_corrections(corrections).set_index("object_id")
    frame = catalog.frame
    missing = checked.index[~checked.index.isin(frame["object_id"])]
    if len(missing):
        raise InputError(
            f"corrections: {len(missing)} images are not in the catalog, such as {missing[0]}; give "
            "the catalog that the vectors were made from"
        )
    action = frame["object_id"].map(checked["action"])
    before = pd.Series(catalog.labels, index=frame.index, dtype=object)
    after = before.where(action != "relabel", frame["object_id"].map(checked["label"]))
    if bool((action == "delete").all()):
        raise InputError("corrections: they delete every image of the catalog; keep some images")
    changed = (action == "delete") | ((action == "relabel") & (after != before))
    changes = frame.assign(
        correction_action=action,
        correction_label=after.where(action != "delete", None),
        correction_reason=frame["object_id"].map(checked["reason"]),
        correction_place=range(len(frame)),
    )[changed].reset_index(drop=True)
    corrected = frame.assign(label=after.astype(frame["label"].dtype))[action != "delete"]
    return CorrectedCatalog(ImageCatalog(corrected.reset_index(drop=True)), changes, int((action == "keep").sum()))


def undo_corrections(catalog: ImageCatalog, changes: pd.DataFrame) -> ImageCatalog:
    """Return the catalog as it was before corrections, from their `changes`.

    Raises:
        InputError: these are not changes, or of another catalog, or it was corrected again afterwards.
    """
    missing = [name for name in ("object_id", "label", *CHANGES) if name not in changes]
    if missing:
        raise InputError(f"changes: {', '.join(missing)} is missing; give the file that apply-corrections wrote")
    relabelled = changes[changes["correction_action"] == "relabel"].set_index("object_id")
    deleted = changes[changes["correction_action"] == "delete"]
    frame = catalog.frame
    now = frame.set_index("object_id")["label"].reindex(relabelled.index)
    n_before = len(frame) + len(deleted)
    if (
        bool((now != relabelled["correction_label"]).any())
        or bool(frame["object_id"].isin(deleted["object_id"]).any())
        or bool((deleted["correction_place"] >= n_before).any())
    ):
        raise InputError(
            "changes: the catalog does not match them; give the catalog that was written together with them, and undo "
            "later corrections first"
        )
    label = frame["label"].where(
        ~frame["object_id"].isin(relabelled.index), frame["object_id"].map(relabelled["label"])
    )
    kept = np.setdiff1d(np.arange(n_before), deleted["correction_place"])
    whole = pd.concat([frame.assign(label=label), deleted.reindex(columns=frame.columns)], ignore_index=True)
    order = np.argsort(np.concatenate([kept, deleted["correction_place"]]), kind="stable")
    return ImageCatalog(whole.iloc[order].reset_index(drop=True))
