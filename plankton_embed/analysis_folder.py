"""The folder that an analysis writes: whole or not at all, and never over what a person has filled in."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.analysis.clusters import NAMES_FILE
from plankton_embed.errors import OutputError
from plankton_embed.images.containers import image_exists
from plankton_embed.images.corrections import CORRECTIONS_FILE, UNTOUCHED
from plankton_embed.output import refuse_overwrite, write_folder_atomically, write_json
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.sheet import Sheet, draw_sheet
from plankton_embed.spreadsheet import refuse_filled_in
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"
FILLED_IN = ((NAMES_FILE, "name", ""), (CORRECTIONS_FILE, *UNTOUCHED))  # file, column, as it is written


def check_output(output: str | Path | None, overwrite: bool, analysis: str) -> None:
    """Refuse a place where something else stands, or what a person has filled in."""
    if output is None:
        return
    summary = refuse_overwrite(output, overwrite, made_of=SUMMARY_FILE) / SUMMARY_FILE
    found = json.loads(summary.read_text(encoding="utf-8")).get("analysis") if summary.is_file() else analysis
    if found != analysis:
        raise OutputError(
            f"{output} holds {found or 'something else'}, not {analysis}, so it is not replaced; choose another folder"
        )
    for name, column, untouched in FILLED_IN:
        refuse_filled_in(Path(output) / name, column, untouched)


def write_analysis(
    output: str | Path | None,
    analysis: str,
    shown: EmbeddingTable | None,
    summary: dict[str, Any],
    write: Callable[[Path], None],
) -> None:
    """Write the folder of an analysis, whole or not at all; say how many of the images shown in it are gone."""
    if output is None:
        return
    paths: list[str | None] = [] if shown is None else shown.path.tolist()
    missing = [path for path in paths if path is None or not image_exists(path)]
    if missing:
        logger.warning(
            "%d of %d images cannot be shown and are drawn as grey squares; the first: %s",
            *(len(missing), len(paths), missing[0] or "its vector has no path"),
        )
    with write_folder_atomically(output) as folder:
        write(folder)
        write_json(folder / SUMMARY_FILE, {"analysis": analysis, **summary})


def save_sheets(folder: Path, name: str, sheets: Iterable[Sheet]) -> None:
    """Draw sheets into NAME.png, NAME_2.png, …"""
    for number, sheet in enumerate(sheets, 1):
        save_figure(draw_sheet(sheet), folder / (f"{name}.png" if number == 1 else f"{name}_{number}.png"))


def list_ids(table: EmbeddingTable, groups: Iterable[NDArray[np.intp]]) -> list[str]:
    """Return the ids of some rows, a list as text for each group."""
    return [as_json(table.object_id[rows].tolist()) for rows in groups]


def as_json(names: Sequence[str]) -> str:
    """Return names as a list that can be taken apart again, whatever is in them."""
    return json.dumps(list(names), ensure_ascii=False)
