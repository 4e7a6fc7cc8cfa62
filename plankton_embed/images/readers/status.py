"""Annotation statuses: by default only the validated names of a source become labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd

from plankton_embed.errors import SettingError

logger = logging.getLogger(__name__)

STATUSES = ("validated", "predicted", "dubious", "discarded", "empty")
UNVALIDATED = "unvalidated_label"  # column of the names that are not used as labels


def read_statuses(status: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the statuses whose names become labels, from comma-separated text or a list; by default `validated`.

    Raises:
        SettingError: one is not in STATUSES, or the list is empty.
    """
    if status is None:
        return ("validated",)
    given = [name.strip().lower() for name in (status.split(",") if isinstance(status, str) else status)]
    unknown = [name for name in given if name not in STATUSES]
    if unknown or not given:
        found = f"{unknown[0]!r}" if unknown else "nothing"
        raise SettingError(
            f"status: expected one or more of {', '.join(STATUSES)} (empty: rows without a status), comma-separated; "
            f"found {found}"
        )
    return tuple(dict.fromkeys(given))


def select_labels(rows: pd.DataFrame, statuses: Sequence[str], source: str, has_status: pd.Series) -> pd.DataFrame:
    """Keep the labels of rows with some statuses; the other names go to the column `unvalidated_label`.

    Args:
        rows: with `label` and `annotation_status`, missing where empty.
        statuses: some of STATUSES.
        source: the source, for the warning.
        has_status: (n,) whether the table of each row has a column of statuses; without one, its labels stay.
    """
    if "annotation_status" not in rows or "label" not in rows:
        return rows
    status = rows["annotation_status"].astype(object).where(rows["annotation_status"].notna(), "empty")
    named = rows["label"].notna()
    moved = named & has_status & ~status.isin(list(statuses))
    if not moved.any():
        return rows
    counts = ", ".join(f"{n:,} {name}" for name, n in status[moved].value_counts().items())
    n_left = int((named & ~moved).sum())
    logger.warning(
        "%s: only rows with the status %s have labels: %s; the names of %s other rows (%s) are in the column %s; use "
        "more of them with --status, such as --status validated,predicted",
        *(source, " or ".join(statuses)),
        f"{n_left:,} of {len(rows):,} images have one" if n_left else "no image has one",
        *(f"{int(moved.sum()):,}", counts, UNVALIDATED),
    )
    return rows.assign(**{"label": rows["label"].mask(moved), UNVALIDATED: rows["label"].where(moved)})


def describe_unvalidated(rows: pd.DataFrame) -> str:
    """Return a hint for errors about missing labels; empty without unvalidated names."""
    n = int(rows[UNVALIDATED].notna().sum()) if UNVALIDATED in rows else 0
    if n == 0:
        return ""
    return (
        f" {n:,} images have names that nobody has validated; --status validated,predicted, where the source is read, "
        "uses them as labels too."
    )
