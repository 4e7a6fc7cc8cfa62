"""`suspects`: rank the labels that may be wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from plankton_embed.analysis.suspects import Suspects, find_suspects
from plankton_embed.classifiers.prediction import predict_out_of_fold
from plankton_embed.errors import SettingError
from plankton_embed.images.catalog import SPLITS, ImageCatalog
from plankton_embed.images.corrections import CORRECTIONS_FILE
from plankton_embed.images.splits import CONTRADICTS
from plankton_embed.output import write_frame
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows import contact_sheets
from plankton_embed.workflows.inputs import Reference, load_settings, load_vectors
from plankton_embed.workflows.result_folder import check_output, save_sheets, write_analysis

logger = logging.getLogger(__name__)


def suspects(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    n_folds: int = 5,
    n_neighbors: int | None = None,
    use_cleanlab: bool = False,
    n_corrections: int = 240,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Suspects:
    """Rank the labels that may be wrong; a person then corrects them.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write: `suspects.csv`, `groups.csv` (images that look alike and may all have a wrong label),
            `copies.csv` (near-copies with two labels; of a run, in all splits), `corrections.csv` (fill it in, then
            `apply-corrections CATALOG corrections.csv -o CATALOG2`; copies with two labels come first, then groups),
            pictures of its images, 40 each: `suspects.png`, `suspects_2.png`, …, and `copies.png`. `recall` in
            `summary.json` is the share of the nearest neighbours that were found (of more than 50,000 vectors), null if
            the search was exact.
        n_folds: cross-validation folds for the loss signal: the images of each fold are predicted by an MLP head
            trained on the other folds. 0 turns it off; it is also off if no class has more than one image.
        n_neighbors: k of the neighbours' disagreement; by default as in `classify`.
        use_cleanlab: use cleanlab's label quality as a signal too (extra `clean`).
        n_corrections: rows of `corrections.csv`; a warning if images of groups take more than half of them.
        seed: seed of the folds, and of the draw of images from large classes for the search of groups.
        overwrite: replace the output.
        progress: show bars.
    """
    if n_folds == 1 or n_folds < 0:
        raise SettingError(f"folds: expected at least 2, or 0 to turn the loss signal off; found {n_folds}")
    if n_corrections < 0:
        raise SettingError(f"corrections: expected 0 rows or more; found {n_corrections}")
    check_output(output, overwrite, "suspects")
    k = load_settings(vectors).classification.n_neighbors if n_neighbors is None else n_neighbors
    table = load_vectors(vectors).labelled
    probabilities = predict_out_of_fold(table, n_folds, seed, progress) if n_folds else None
    others, marked = _read_run(Path(vectors)) if isinstance(vectors, str | Path) else (None, None)
    found = find_suspects(
        table, probabilities, n_neighbors=k, use_cleanlab=use_cleanlab, others=others, marked=marked, seed=seed
    )

    def write(folder: Path) -> None:
        write_frame(folder / "suspects.csv", found.ranking.drop(columns="row"))
        write_frame(folder / "groups.csv", found.groups)
        write_frame(folder / "copies.csv", found.copies.drop(columns=["row_1", "row_2"]))
        write_frame(folder / CORRECTIONS_FILE, found.corrections(n_corrections))
        save_sheets(folder, "suspects", contact_sheets.suspects_sheets(found, n_corrections))
        save_sheets(folder, "copies", [contact_sheets.copies_sheet(found)])

    summary: dict[str, int | float | str | None] = {"n_images": len(table), "n_copies": len(found.copies)}
    summary |= {"n_folds": 0 if probabilities is None else n_folds}
    summary |= {"n_contradictions": len(found.contradictions), "n_groups": len(found.groups)}
    in_groups = found.ranking["object_id"][found.ranking["group"] > 0]
    summary |= {"why_no_groups": found.why_no_groups, "n_group_images": len(in_groups)}
    summary["recall"] = found.recall
    write_analysis(output, "suspects", table, summary, write)
    n_others = max(n_corrections, len(found.contradictions))
    if output is not None and 0 < n_corrections < len(found.contradictions) + 2 * len(in_groups):
        logger.warning(
            "%d of the %d rows of %s are images of groups, which have %d images; --corrections %d writes all of them, "
            "and %d others",
            *(found.first(n_corrections)["object_id"].isin(in_groups).sum(), n_corrections, CORRECTIONS_FILE),
            *(len(in_groups), n_others + len(in_groups), n_others),
        )
    return found


def _read_run(path: Path) -> tuple[EmbeddingTable | None, pd.DataFrame | None]:
    """Return a run's val and test vectors, and the copies with two labels in its catalog; None for what is missing."""
    run, others, marked = RunFolder(path), None, None
    for split in SPLITS[1:]:
        if run.vectors(split).is_file():
            part = EmbeddingTable.load(run.vectors(split))
            others = part if others is None else others.join(part)
    if run.settings.exists() and run.catalog.is_file():
        frame = ImageCatalog.load(run.catalog).frame
        if CONTRADICTS in frame:
            frame = frame[frame[CONTRADICTS].notna()].set_index("object_id", drop=False)
            columns = frame[["object_id", "path", "label"]].reset_index(drop=True)
            guess = frame["label"].reindex(frame[CONTRADICTS]).to_numpy()
            marked = columns.assign(guess=guess, copy=frame[CONTRADICTS].to_numpy())
    return others, marked
