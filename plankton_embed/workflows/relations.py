"""`relations`: repeated relations between images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.analysis.relations import LIMIT, N_SHUFFLES, Definition, Relations, find_relations, keep_labelled
from plankton_embed.errors import SettingError
from plankton_embed.images.balance import draw_evenly
from plankton_embed.output import write_frame
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Reference, load_split
from plankton_embed.workflows.result_folder import check_output, save_sheets, write_analysis

logger = logging.getLogger(__name__)

N_RELATED = 1000  # images whose relations are compared
MOST_RELATED = 3000  # more pairs than these do not fit into memory


def relations(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    epsilon: float | None = None,
    n_images: int = N_RELATED,
    same_class: bool = False,
    definition: Definition = "exact",
    limit: int = LIMIT,
    n_shuffles: int = N_SHUFFLES,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Relations:
    """Find repeated relations between images: x₁ is to y₁ as x₂ is to y₂.

    Args:
        vectors: a table, its file, or the folder of a run.
        output: folder to write: `relations.csv`, `analogies.csv` (by class), `relations.png`.
        split: see `pca`.
        epsilon: largest ‖(x₁ - y₁) - (x₂ - y₂)‖; by default the smallest with which `limit` relations are found.
        n_images: images to compare, at most 3,000; if there are more, they are drawn at random, the same number of
            each class as far as possible.
        same_class: count relations within a class too.
        definition, limit, n_shuffles: see `find_relations`.
        seed: seed of the random draw of images, and of `find_relations`.
        overwrite: replace the output.
        progress: show bars.
    """
    if not 4 <= n_images <= MOST_RELATED:
        raise SettingError(f"n_images: expected 4 to {MOST_RELATED:,}; found {n_images}")
    check_output(output, overwrite, "relations")
    table, split = load_split(vectors, split)
    table = keep_labelled(table)
    drawn = table.select(draw_evenly(table.label.astype(str), n_images, np.random.default_rng(seed)))
    if len(drawn) < len(table):
        logger.info("comparing %d of %d images, drawn evenly from the classes", len(drawn), len(table))
    found = find_relations(
        drawn,
        epsilon,
        different_classes=False if same_class else None,
        definition=definition,
        limit=limit,
        n_shuffles=n_shuffles,
        seed=seed,
        progress=progress,
    )

    def write(folder: Path) -> None:
        corners = {
            f"{column}_{end}": getattr(found.table, column)[found.best[end].to_numpy(dtype=np.intp)]
            for end in ("x1", "y1", "x2", "y2")
            for column in ("object_id", "label")
        }
        measures = found.best[["distance", "length", "relative"]]
        write_frame(folder / "relations.csv", pd.DataFrame(corners).join(measures))
        write_frame(folder / "analogies.csv", found.analogies)
        save_sheets(folder, "relations", [contact_sheets.relations_sheet(found)])

    summary = {
        "split": split,
        "epsilon": found.epsilon,
        "definition": definition,
        "n_images": len(found.table),
        "n_found": found.n_found,
    }
    write_analysis(output, "relations", found.table, summary, write)
    return found
