"""What a person decides: names for groups, corrections of labels."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from plankton_embed import contact_sheets
from plankton_embed.analysis.clusters import (
    IMAGES_FILE,
    NAMES_FILE,
    VECTORS_FILE,
    ClusterMethod,
    Clusters,
    find_clusters,
)
from plankton_embed.analysis.suspects import Suspects, find_suspects
from plankton_embed.analysis_folder import check_output, list_ids, save_sheets, write_analysis
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.evaluation import Reference, load_settings, load_vectors, write_frame
from plankton_embed.images.catalog import SPLITS, UNKNOWN, ImageCatalog, refuse_unknown
from plankton_embed.images.corrections import CORRECTIONS_FILE, CorrectedCatalog, read_corrections, undo_corrections
from plankton_embed.images.corrections import apply_corrections as correct_catalog
from plankton_embed.images.splits import CONTRADICTS
from plankton_embed.images.writers.names import check_unknown
from plankton_embed.output import progress_bar, refuse_overwrite
from plankton_embed.run_folder import RunFolder
from plankton_embed.spreadsheet import read_spreadsheet
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)


def clusters(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    reference: Reference | None = None,
    only: str | Path | pd.DataFrame | None = None,
    method: ClusterMethod = "tree",
    min_size: int | None = None,
    n_clusters: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Clusters:
    """Find groups among images that have no name, for a person to name.

    Args:
        vectors: a table, its file, or the folder of a run; where some images have labels and some have none, those
            without are grouped, else all.
        output: folder to write: `clusters.csv` (`central` and `odd` are JSON lists of ids), `images.csv` (the group of
            each), `names.csv` to fill in (the column `name`; then `enroll REFERENCE` this folder), `vectors.parquet` of
            the images grouped, and their pictures, 20 groups each: `clusters.png`, `clusters_2.png`, …
        reference: labelled vectors; the nearest class of each group is named.
        only: predictions (a CSV of `classify`, or its frame): group the images that were called `unknown`.
        method, min_size, n_clusters: as `find_clusters`.
        overwrite: replace the output.
        progress: show a bar.
    """
    check_output(output, overwrite, "clusters")
    table = _select_unnamed(load_vectors(vectors), only)
    known = None if reference is None else load_vectors(reference)
    found = find_clusters(table, method, min_size=min_size, n_clusters=n_clusters, reference=known, progress=progress)

    def write(folder: Path) -> None:
        ends = {name: list_ids(table, rows.values()) for name, rows in (("central", found.central), ("odd", found.odd))}
        write_frame(folder / "clusters.csv", found.groups.assign(**ends))
        write_frame(folder / IMAGES_FILE, found.images())
        write_frame(folder / NAMES_FILE, found.groups.assign(name=""))
        table.save(folder / VECTORS_FILE)
        save_sheets(folder, "clusters", contact_sheets.clusters_sheets(found))

    n_alone = int((found.cluster == 0).sum())
    summary = {"method": method, "n_images": len(table), "n_groups": len(found.groups), "n_alone": n_alone}
    write_analysis(output, "clusters", table, summary, write)
    return found


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
    """Rank labels by how little they fit, for a person to correct.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write: `suspects.csv`, `groups.csv` (of images that look alike and may all be labelled
            wrong), `copies.csv` (near-copies with two labels; of a run, in all splits), `corrections.csv` to fill in
            (then `apply-corrections CATALOG corrections.csv -o CATALOG2`), in which copies with two labels come first
            and groups next, its images, 40 a picture: `suspects.png`, `suspects_2.png`, …, and `copies.png`.
        n_folds: the head's loss joins the signals, each fold of the images named by a head that learned from the
            others; 0, or where every class has but one image: without it.
        n_neighbors: k of the neighbours' disagreement; by default as in `classify`.
        use_cleanlab: cleanlab's label quality joins the signals (extra `clean`).
        n_corrections: rows of `corrections.csv`; a warning if images of groups take more than half of them.
        seed: of the folds, and of the images drawn from large classes, among which groups are looked for.
        overwrite: replace the output.
        progress: show bars.
    """
    if n_folds == 1 or n_folds < 0:
        raise SettingError(f"folds: expected at least 2, or 0 for none; found {n_folds}")
    if n_corrections < 0:
        raise SettingError(f"corrections: expected rows, 0 or more; found {n_corrections}")
    check_output(output, overwrite, "suspects")
    k = load_settings(vectors).classification.n_neighbors if n_neighbors is None else n_neighbors
    table = load_vectors(vectors)
    table = table.select(table.is_labelled)
    chances = _predict_out_of_fold(table, n_folds, seed, progress) if n_folds else None
    others, marked = (None, None) if isinstance(vectors, EmbeddingTable) else _look_into_run(Path(vectors))
    found = find_suspects(
        table, chances, n_neighbors=k, use_cleanlab=use_cleanlab, others=others, marked=marked, seed=seed
    )

    def write(folder: Path) -> None:
        write_frame(folder / "suspects.csv", found.ranking.drop(columns="row"))
        write_frame(folder / "groups.csv", found.groups)
        write_frame(folder / "copies.csv", found.copies.drop(columns=["row_1", "row_2"]))
        write_frame(folder / CORRECTIONS_FILE, found.corrections(n_corrections))
        save_sheets(folder, "suspects", contact_sheets.suspects_sheets(found, n_corrections))
        save_sheets(folder, "copies", [contact_sheets.copies_sheet(found)])

    summary: dict[str, int | str | None] = {"n_images": len(table), "n_copies": len(found.copies)}
    summary |= {"n_folds": 0 if chances is None else n_folds}
    summary |= {"n_contradictions": len(found.contradictions), "n_groups": len(found.groups)}
    in_groups = found.ranking["object_id"][found.ranking["group"] > 0]
    summary |= {"why_no_groups": found.why_no_groups, "n_group_images": len(in_groups)}
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


def apply_corrections(
    catalog: ImageCatalog | str | Path,
    corrections: pd.DataFrame | str | Path,
    output: str | Path | None = None,
    *,
    undo: bool = False,
    root: str | Path | None = None,
    overwrite: bool = False,
) -> CorrectedCatalog:
    """Relabel and leave out images as a person decided, in a new catalog; no image is touched.

    Args:
        catalog: a catalog or its file.
        corrections: `corrections.csv` filled in; with `undo`, the changes to take back.
        output: catalog file to write, another than `catalog`; the changes go beside it, into `<output>_changes.csv`.
            Without it nothing is written, and what would change is returned.
        undo: take changes back; those are returned as `changes`, and not written again.
        root: where the relative paths of the catalog start.
        overwrite: replace the output.
    """
    changes_path = None
    if output is not None:
        output = refuse_overwrite(output, overwrite, (".csv", ".parquet"))
        changes_path = refuse_overwrite(output.with_name(f"{output.stem}_changes.csv"), overwrite, (".csv",))
        for given in (catalog, corrections):
            if isinstance(given, str | Path) and Path(given).resolve() in (output.resolve(), changes_path.resolve()):
                raise OutputError(f"{given} would be replaced; choose another output, so that nothing is lost")
    images = catalog if isinstance(catalog, ImageCatalog) else ImageCatalog.load(catalog, root)
    if undo:
        changes = corrections if isinstance(corrections, pd.DataFrame) else ImageCatalog.load(corrections).frame
        done = CorrectedCatalog(undo_corrections(images, changes), changes, 0)
    else:
        wanted = corrections if isinstance(corrections, pd.DataFrame) else read_corrections(corrections)
        done = correct_catalog(images, wanted)
        labels = done.changes["correction_label"].dropna().unique()
        refuse_unknown(labels, "corrections", "Write another name into the column label, or delete as the action.")
    if output is not None and changes_path is not None:
        done.catalog.save(output)
        if undo or done.changes.empty:
            changes_path.unlink(missing_ok=True)  # of the catalog that stood here before
        else:
            ImageCatalog(done.changes).save(changes_path)
    return done


def _look_into_run(path: Path) -> tuple[EmbeddingTable | None, pd.DataFrame | None]:
    """Return the vectors of a run's val and test, and the copies with two labels in its catalog; None without any."""
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


def _select_unnamed(table: EmbeddingTable, only: str | Path | pd.DataFrame | None) -> EmbeddingTable:
    """Keep the images that were refused, or those without label; all where none or all have one."""
    if only is None:
        labelled = table.is_labelled
        return table if labelled.all() else table.select(~labelled)
    names = only if isinstance(only, pd.DataFrame) else read_spreadsheet(only, "predictions file")
    missing = [column for column in ("object_id", "label") if column not in names]
    if missing:
        raise InputError(f"only: expected predictions with object_id and label; found {list(names.columns)}")
    check_unknown(names, "only")
    refused = set(names["object_id"][names["label"] == UNKNOWN].astype(str))
    chosen = np.array([object_id in refused for object_id in table.object_id])
    if chosen.sum() < len(refused) or not refused:
        raise InputError(
            f"only: expected all rejected images of the predictions among the vectors; {len(refused)} were rejected, "
            f"found {int(chosen.sum())}; give the predictions of these vectors, made with an unknown rate"
        )
    return table.select(chosen)


def _predict_out_of_fold(table: EmbeddingTable, n_folds: int, seed: int, progress: bool) -> NDArray[np.float64] | None:
    """Return the probabilities of all classes for every image, from a head that had not learned from it.

    None where every class has but one image, so that no head can learn it from others.
    """
    labels = table.label.astype(str)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"suspects need labelled images of at least 2 classes; found {len(classes)}")
    if counts.max() < 2:
        logger.warning("every class has one image; the head's loss is left out")
        return None
    n_folds = min(n_folds, int(counts.max()))
    chances = np.full((len(table), len(classes)), 1 / len(classes))  # of a class that nobody could learn
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is in some of the folds only
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels))
    for learned, held in progress_bar(folds, "folds", "fold", shown=progress):
        head = MLPClassifier().fit(table.vectors[learned], labels[learned])
        could = held[np.isin(labels[held], head.classes_)]
        chances[could] = 0
        chances[could[:, None], np.searchsorted(classes, head.classes_)] = head.predict_proba(table.vectors[could])
    return chances
