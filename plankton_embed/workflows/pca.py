"""`pca`: project vectors onto a few axes (PCA, UMAP, t-SNE)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.analysis.projection import N_PER_CLASS, Projection, fit_projection, select_per_class
from plankton_embed.analysis.projection import Method as ProjectionMethod
from plankton_embed.output import write_frame
from plankton_embed.plots.explained import draw_explained
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.projection import draw_projection, draw_projection_3d
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Reference, load_split
from plankton_embed.workflows.result_folder import check_output, save_sheets, write_analysis


def pca(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    method: ProjectionMethod = "pca",
    n_components: int | None = None,
    per_class: int = N_PER_CLASS,
    seed: int = 0,
    overwrite: bool = False,
) -> Projection:
    """Project vectors onto a few axes (PCA, UMAP, t-SNE).

    Args:
        vectors: a table, its file, or the folder of a run; the axes are fitted to all vectors.
        split: vectors of a run to use: `train`, `val` or `test`; by default test, else val, else train. Classes look
            better separated in training vectors than they are, since the loss has separated them by label.
        output: folder to write: `coordinates.csv`, `ends.csv` and `ends.png` (the images at both ends of every axis),
            `scatter.png`, `scatter_3d.png`; with `pca` also `explained.csv`, `explained.png`, `loadings.csv`.
        method: `pca`; `umap` or `tsne` with the extra `reduce`.
        n_components: number of axes; by default 3, with `umap` and `tsne` 2.
        per_class: images of each class in the scatter plots, drawn at random; 40 times as many if no image has a label.
        seed: of the random draw, and of `umap` and `tsne`.
        overwrite: replace the output.
    """
    check_output(output, overwrite, "pca")
    table, split = load_split(vectors, split)
    shown = select_per_class(table, per_class, seed)
    found = fit_projection(table, method, n_components, seed=seed)
    rows = pd.Index(table.object_id).get_indexer(pd.Index(shown.object_id))
    drawn = replace(found, table=shown, coordinates=found.coordinates[rows])

    def write(folder: Path) -> None:
        write_frame(folder / "coordinates.csv", found.frame())
        write_frame(folder / "ends.csv", found.ends().drop(columns="row"))
        save_sheets(folder, "ends", [contact_sheets.ends_sheet(found)])
        if found.n_components >= 2:
            save_figure(draw_projection(drawn), folder / "scatter.png")
        if found.n_components >= 3:
            save_figure(draw_projection_3d(drawn), folder / "scatter_3d.png")
        if found.spectrum is not None:
            shares = pd.DataFrame({"component": np.arange(1, len(found.spectrum) + 1), "explained": found.spectrum})
            write_frame(folder / "explained.csv", shares)
            save_figure(draw_explained(found), folder / "explained.png")
            write_frame(folder / "loadings.csv", found.loadings().reset_index())

    explained = None if found.explained is None else found.explained.tolist()
    summary = {"split": split, "method": method, "n_vectors": len(table), "n_shown": len(shown), "explained": explained}
    write_analysis(output, "pca", table, summary, write)
    return found
