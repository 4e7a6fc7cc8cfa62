"""`dendrogram`: Ward's tree of images or classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd

from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.dendrogram import N_LEAVES, Dendrogram, build_dendrogram
from plankton_embed.errors import InputError, SettingError
from plankton_embed.output import write_frame
from plankton_embed.plots.dendrogram import draw_dendrogram
from plankton_embed.plots.figure import save_figure
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Reference, load_split
from plankton_embed.workflows.result_folder import check_output, list_ids, save_sheets, write_analysis


def dendrogram(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    of: Literal["images", "classes"] = "images",
    n_leaves: int | None = None,
    n_branches: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Dendrogram:
    """Build Ward's tree of images or class means; describe its leaves and branches.

    Args:
        vectors: a table, its file, or the folder of a run.
        output: folder to write: `nodes.csv` (`central` is a JSON list of ids), `node_classes.csv` (images of each class
            in every node), `branches.csv` (class by branch), `images.csv` (leaf and branch of each image), `cuts.csv`,
            `linkage.parquet` (the whole tree, in scipy's format), `tree.nwk`, `dendrogram.png`, `branches.png`.
        split: see `pca`.
        of: `images`, or `classes` (one vector per class, its mean; `n_images` then counts classes).
        n_leaves: leaves of the cut tree; by default 40, or all classes.
        n_branches: main branches; by default the number that separates the vectors best (see `build_dendrogram`).
        overwrite: replace the output.
        progress: show a bar.
    """
    if of not in ("images", "classes"):
        raise SettingError(f"of: expected images or classes; found {of!r}")
    check_output(output, overwrite, "dendrogram")
    table, split = load_split(vectors, split)
    if of == "classes":
        table = average_classes(table)
        if len(table) < 2:
            raise InputError(f"a tree of classes needs at least 2 classes; found {len(table)}")
    if n_leaves is None:
        n_leaves = N_LEAVES if of == "images" else len(table)
    found = replace(build_dendrogram(table, n_leaves, n_branches, progress=progress), of=of)

    def write(folder: Path) -> None:
        central = list_ids(found.table, found.central.values())
        write_frame(folder / "nodes.csv", found.nodes.assign(central=central).reset_index())
        write_frame(folder / "node_classes.csv", found.shares())
        write_frame(folder / "branches.csv", found.classes_by_branch().reset_index())
        columns = {"object_id": found.table.object_id, "path": found.table.path, "label": found.table.label}
        positions = {"leaf": found.leaf, "branch": found.branch, "place": found.tree.start[: len(found.table)]}
        write_frame(folder / "images.csv", pd.DataFrame({**columns, **positions}))
        write_frame(folder / "cuts.csv", found.cuts)
        linkage = pd.DataFrame(found.tree.linkage, columns=["left", "right", "height", "n_images"])
        linkage.astype({"left": int, "right": int, "n_images": int}).to_parquet(folder / "linkage.parquet")
        (folder / "tree.nwk").write_text(found.newick() + "\n", encoding="utf-8")
        images = contact_sheets.leaf_images(found, 1 if of == "classes" else 5)
        save_figure(draw_dendrogram(found, images), folder / "dendrogram.png")
        save_sheets(folder, "branches", [contact_sheets.branches_sheet(found)])

    summary = {
        "split": split,
        "of": of,
        "n_vectors": len(found.table),
        "n_leaves": len(found.leaves),
        "n_branches": int(found.branch.max()),
        "cophenetic_correlation": found.cophenetic_correlation,
        "n_compared": found.n_compared,
    }
    write_analysis(output, "dendrogram", found.table, summary, write)
    return found
