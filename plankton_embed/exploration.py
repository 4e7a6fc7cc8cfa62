"""What the space tells: axes, tree, groups, relations and suspects of a table of vectors, as tables and pictures."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from plankton_embed import contact_sheets
from plankton_embed.analysis.class_means import average_classes
from plankton_embed.analysis.clusters import (
    IMAGES_FILE,
    NAMES_FILE,
    VECTORS_FILE,
    ClusterMethod,
    Clusters,
    find_clusters,
)
from plankton_embed.analysis.dendrogram import N_LEAVES, Dendrogram, build_dendrogram
from plankton_embed.analysis.projection import (
    N_PER_CLASS,
    Film,
    Projection,
    draw_per_class,
    fit_projection,
    project_epochs,
)
from plankton_embed.analysis.projection import Method as ProjectionMethod
from plankton_embed.analysis.relations import (
    EPSILON,
    LIMIT,
    N_SHUFFLES,
    Definition,
    Relations,
    complete_analogy,
    find_relations,
    keep_labelled,
)
from plankton_embed.analysis.suspects import N_NEIGHBORS, Suspects, find_suspects
from plankton_embed.analysis.taxonomy import (
    CERTAINTY,
    N_PERMUTATIONS,
    Taxonomy,
    TaxonomyComparison,
    back_off,
    compare_taxonomy,
    roll_up,
)
from plankton_embed.analysis.taxonomy_files import read_taxonomy
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.naming import Method
from plankton_embed.classifiers.refusal import UNKNOWN
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.evaluation import Naming, Reference, find_calibration, load_query, load_vectors, write_frame
from plankton_embed.images.catalog import ImageCatalog, content_hashes
from plankton_embed.images.corrections import (
    CorrectedCatalog,
    read_corrections,
    undo_corrections,
)
from plankton_embed.images.corrections import apply_corrections as correct_catalog
from plankton_embed.output import refuse_overwrite, write_folder_atomically, write_json
from plankton_embed.plots.dendrogram import draw_dendrogram
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.film import check_seconds, name_film, write_film
from plankton_embed.plots.projection import draw_explained, draw_projection, draw_projection_3d
from plankton_embed.plots.sheet import Sheet, draw_sheet
from plankton_embed.plots.tanglegram import draw_tanglegram
from plankton_embed.run_folder import RunFolder
from plankton_embed.spreadsheet import read_spreadsheet
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"
FILLED_IN = ((NAMES_FILE, "name", ""), ("corrections.csv", "action", "keep"))  # file, column, as it is written
N_RELATED = 1000  # images whose relations are compared
MOST_RELATED = 3000  # their pairs fill the memory beyond that


def pca(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    method: ProjectionMethod = "pca",
    n_components: int | None = None,
    per_class: int = N_PER_CLASS,
    seed: int = 0,
    overwrite: bool = False,
) -> Projection:
    """Bring vectors onto few axes: principal components, or a map.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors); all of them make the axes.
        output: folder to write: `coordinates.csv`, `ends.csv` and `ends.png` (the images at both ends of every axis),
            `scatter.png`, `scatter_3d.png`; for components also `explained.csv`, `explained.png`, `loadings.csv`.
        method: `pca`; `umap` or `tsne` with the extra `reduce`.
        n_components: axes; by default 3, and 2 of a map.
        per_class: images of each class that the scatter shows, drawn once; 40 times as many where no image has a label.
        seed: of the drawing, and of a map.
        overwrite: replace the output.
    """
    _check_output(output, overwrite, "pca")
    table = load_vectors(vectors)
    shown = draw_per_class(table, per_class, seed)
    found = fit_projection(table, method, n_components, seed=seed)
    rows = pd.Index(table.object_id).get_indexer(pd.Index(shown.object_id))
    drawn = replace(found, table=shown, coordinates=found.coordinates[rows])

    def write(folder: Path) -> None:
        write_frame(folder / "coordinates.csv", found.frame())
        write_frame(folder / "ends.csv", found.ends().drop(columns="row"))
        _save_sheets(folder, "ends", [contact_sheets.ends_sheet(found)])
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
    summary = {"method": method, "n_vectors": len(table), "n_shown": len(shown), "explained": explained}
    _write_analysis(output, "pca", table, summary, write)
    return found


def film(
    run: str | Path,
    output: str | Path | None = None,
    *,
    basis_epoch: int | None = None,
    per_class: int = N_PER_CLASS,
    seconds: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Film:
    """Show how the classes parted while a model was trained: every kept epoch on the axes of one.

    Args:
        run: folder of a finished run, trained with `training.keep_every_epoch`.
        output: `.mp4` (extra `video`), `.webp` or `.gif` to write; without a suffix the first of these that can be.
        basis_epoch: whose principal components are the axes; by default the last.
        per_class: images of each class, drawn once, of test (where there is none, of val or train).
        seconds: length; by default by the number of epochs.
        seed: of the drawing.
        overwrite: replace the output.
        device: where to embed.
        progress: show a bar.

    Raises:
        InputError: no run, or fewer than two epochs were kept.
    """
    folder = RunFolder(Path(run))
    if not folder.settings.exists():
        raise InputError(f"{run} is no run; a film is made of the epochs of one")
    epochs = folder.kept_epochs()
    if len(epochs) < 2:
        raise InputError(
            f"{run} kept the weights of {len(epochs)} epochs; a film needs at least 2: train with "
            "--set training.keep_every_epoch=true"
        )
    if basis_epoch is not None and basis_epoch not in epochs:
        raise SettingError(f"basis: epoch {basis_epoch} was not kept; those that were: {', '.join(map(str, epochs))}")
    check_seconds(seconds)
    path = None if output is None else refuse_overwrite(name_film(output), overwrite)
    split = next((name for name in ("test", "val") if folder.vectors(name).exists()), "train")
    table = draw_per_class(load_vectors(run, split), per_class, seed)
    by_epoch = _embed_epochs(folder, table, epochs, device, progress)
    history = pd.read_csv(folder.history)
    accuracies = dict(zip(history["epoch"].tolist(), history["centroid_accuracy"].tolist(), strict=True))
    made = project_epochs(table, by_epoch, accuracies, basis_epoch=basis_epoch)
    if path is not None:
        logger.info("film: %s", write_film(made, path, seconds=seconds))
    return made


def dendrogram(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    of: Literal["images", "classes"] = "images",
    n_leaves: int | None = None,
    n_branches: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Dendrogram:
    """Join images, or class means, into Ward's tree; describe its leaves and branches.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write: `nodes.csv` (`central` is a JSON list of ids), `classes.csv` (what every node holds),
            `branches.csv` (class by branch), `images.csv` (leaf and branch of each), `cuts.csv`, `linkage.parquet` (the
            whole tree, as scipy's), `tree.nwk`, `dendrogram.png`, `branches.png`.
        of: `images`, or `classes`: the means of the classes, so that `n_images` counts classes.
        n_leaves: leaves of the cut tree; by default 40, and all of the classes.
        n_branches: main branches; by default the number that parts the vectors best (see `build_dendrogram`).
        overwrite: replace the output.
        progress: show a bar.
    """
    if of not in ("images", "classes"):
        raise SettingError(f"of: expected images or classes; found {of!r}")
    _check_output(output, overwrite, "dendrogram")
    table = load_vectors(vectors)
    if of == "classes":
        table = average_classes(table)
        if len(table) < 2:
            raise InputError(f"a tree of classes needs at least 2 of them; found {len(table)}")
    if n_leaves is None:
        n_leaves = N_LEAVES if of == "images" else len(table)
    found = build_dendrogram(table, n_leaves, n_branches, progress=progress)

    def write(folder: Path) -> None:
        central = _list_ids(found.table, found.central.values())
        write_frame(folder / "nodes.csv", found.nodes.assign(central=central).reset_index())
        write_frame(folder / "classes.csv", found.shares())
        write_frame(folder / "branches.csv", found.classes_by_branch().reset_index())
        columns = {"object_id": found.table.object_id, "path": found.table.path, "label": found.table.label}
        places = {"leaf": found.leaf, "branch": found.branch, "place": found.tree.start[: len(found.table)]}
        write_frame(folder / "images.csv", pd.DataFrame({**columns, **places}))
        write_frame(folder / "cuts.csv", found.cuts)
        linkage = pd.DataFrame(found.tree.linkage, columns=["left", "right", "height", "n_images"])
        linkage.astype({"left": int, "right": int, "n_images": int}).to_parquet(folder / "linkage.parquet")
        (folder / "tree.nwk").write_text(found.newick() + "\n", encoding="utf-8")
        images = contact_sheets.leaf_images(found, 1 if of == "classes" else 5)
        save_figure(draw_dendrogram(found, images), folder / "dendrogram.png")
        _save_sheets(folder, "branches", [contact_sheets.branches_sheet(found)])

    summary = {
        "of": of,
        "n_vectors": len(found.table),
        "n_leaves": len(found.leaves),
        "n_branches": int(found.branch.max()),
        "cophenetic_correlation": found.cophenetic_correlation,
        "n_compared": found.n_compared,
    }
    _write_analysis(output, "dendrogram", found.table, summary, write)
    return found


@dataclass(frozen=True, eq=False)
class TaxonomyFindings:
    """The space beside a taxonomy.

    `comparison` of the tree of class means; where images were named, `by_rank` (see `roll_up`) and, with a calibration
    set, `backed_off`: one row an image, `object_id`, `label` (a class or a broader group, the lowest that is certain
    enough), `level`, `probability`, `true_label`, `is_right` (the truth is of that group).
    """

    comparison: TaxonomyComparison
    by_rank: pd.DataFrame | None = None
    backed_off: pd.DataFrame | None = None

    def by_level(self) -> pd.DataFrame | None:
        """Return what backing off came to: `level`, `images` that got a name there, and the share that is `right`."""
        if self.backed_off is None:
            return None
        levels = self.backed_off.groupby("level")["is_right"].agg(images="size", right="mean")
        return levels.reset_index()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        tables = {"by_rank": self.by_rank, "backed_off": self.by_level()}
        records = {name: table.to_dict("records") for name, table in tables.items() if table is not None}
        return self.comparison.to_dict() | records


def taxonomy(
    vectors: Reference,
    tree: str | Path | Taxonomy,
    output: str | Path | None = None,
    *,
    query: Reference | None = None,
    method: Method | None = None,
    calibration: Reference | None = None,
    certainty: float | None = None,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> TaxonomyFindings:
    """Hold the learned tree against a taxonomy; score names rank by rank, and back off to ranks that are certain.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        tree: a taxonomy or its file (see `read_taxonomy`).
        output: folder to write: `clades.csv`, `misplaced.csv`, `tanglegram.png`; with a query `by_rank.csv`, and with a
            calibration set `backed_off.csv`.
        query: labelled vectors to name; by default the test images, where `vectors` is a run.
        method: of naming: `centroid`, `knn` (the default) or `mlp`.
        calibration: as `classify`.
        certainty: least probability of a name, by default .9; needs a calibration set.
        n_permutations, seed: of the class names, for the p-values.
        overwrite: replace the output.
        progress: show bars.
    """
    _check_output(output, overwrite, "taxonomy")
    given = tree if isinstance(tree, Taxonomy) else read_taxonomy(tree)
    known = load_vectors(vectors)
    compared = compare_taxonomy(known, given, n_permutations=n_permutations, seed=seed)
    if query is None and not isinstance(vectors, EmbeddingTable) and RunFolder(Path(vectors)).settings.exists():
        query = vectors
    found = TaxonomyFindings(compared)
    if query is None:
        if not (method is None and calibration is None and certainty is None):
            raise SettingError("method, calibration and certainty are for naming images; give labelled ones (--query)")
    else:
        asked = load_query(vectors, query, "auto", progress)
        known.check_same_model(asked)
        asked = asked.select(asked.is_labelled)
        if len(asked) == 0:
            raise InputError("the query has no labels, so there is nothing to score rank by rank")
        held = find_calibration(vectors, calibration, known, asked)
        if held is None and certainty is not None:
            raise SettingError("certainty takes probabilities, and these a calibration set; give one (--calibration)")
        classifier = Naming(method or "knn").fit(known, held, progress)
        truth = asked.label.astype(str)
        by_rank = roll_up(truth, classifier.predict(asked.vectors), given)
        backed_off = None
        if held is not None:
            classes = classifier.classes_.tolist()
            chances = classifier.predict_proba(asked.vectors)
            backed_off = back_off(chances, classes, given, CERTAINTY if certainty is None else certainty)
            true_names, own = np.unique(truth, return_inverse=True)
            members = given.hang([*classes, *true_names.tolist()]).members(true_names.tolist())
            is_right = members[backed_off.pop("node"), own]
            backed_off = backed_off.assign(true_label=truth, is_right=is_right)
            backed_off.insert(0, "object_id", asked.object_id)
        found = TaxonomyFindings(compared, by_rank, backed_off)

    def write(folder: Path) -> None:
        as_text = {column: compared.clades[column].map(_as_json) for column in ("classes", "nearest")}
        write_frame(folder / "clades.csv", compared.clades.assign(**as_text))
        write_frame(folder / "misplaced.csv", compared.misplaced)
        save_figure(draw_tanglegram(compared), folder / "tanglegram.png")
        for name, frame in (("by_rank.csv", found.by_rank), ("backed_off.csv", found.backed_off)):
            if frame is not None:
                write_frame(folder / name, frame)

    _write_analysis(output, "taxonomy", compared.means, found.to_dict(), write)
    return found


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
    _check_output(output, overwrite, "clusters")
    table = _select_unnamed(load_vectors(vectors), only)
    known = None if reference is None else load_vectors(reference)
    found = find_clusters(table, method, min_size=min_size, n_clusters=n_clusters, reference=known, progress=progress)

    def write(folder: Path) -> None:
        ends = {
            name: _list_ids(table, rows.values()) for name, rows in (("central", found.central), ("odd", found.odd))
        }
        write_frame(folder / "clusters.csv", found.groups.assign(**ends))
        write_frame(folder / IMAGES_FILE, found.images())
        write_frame(folder / NAMES_FILE, found.groups.assign(name=""))
        table.save(folder / VECTORS_FILE)
        _save_sheets(folder, "clusters", contact_sheets.clusters_sheets(found))

    n_alone = int((found.cluster == 0).sum())
    summary = {"method": method, "n_images": len(table), "n_groups": len(found.groups), "n_alone": n_alone}
    _write_analysis(output, "clusters", table, summary, write)
    return found


def relations(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    epsilon: float = EPSILON,
    n_images: int = N_RELATED,
    same_class: bool = False,
    definition: Definition = "exact",
    limit: int = LIMIT,
    n_shuffles: int = N_SHUFFLES,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Relations:
    """Find relations between images that repeat: x₁ is to y₁ as x₂ is to y₂.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write: `relations.csv`, `analogies.csv` (by class), `relations.png`.
        epsilon: largest ‖(x₁ - y₁) - (x₂ - y₂)‖.
        n_images: images to compare, at most 3,000; of more, as many of each class are drawn as can be.
        same_class: relations within a class count too.
        definition, limit, n_shuffles, seed: as `find_relations`; the seed is that of the drawing of images too.
        overwrite: replace the output.
        progress: show bars.
    """
    if not 4 <= n_images <= MOST_RELATED:
        raise SettingError(f"n_images: expected 4 to {MOST_RELATED:,}; found {n_images}")
    _check_output(output, overwrite, "relations")
    table = keep_labelled(load_vectors(vectors))
    drawn = _draw_evenly(table, n_images, seed)
    if len(drawn) < len(table):
        logger.info("%d of %d images are compared, drawn class by class", len(drawn), len(table))
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
        _save_sheets(folder, "relations", [contact_sheets.relations_sheet(found)])

    summary = {"epsilon": epsilon, "definition": definition, "n_images": len(found.table), "n_found": found.n_found}
    _write_analysis(output, "relations", found.table, summary, write)
    return found


def analogy(vectors: Reference, a: str, b: str, c: str, k: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer "a is to b as c is to ?" with the nearest classes and the nearest images (see `complete_analogy`)."""
    return complete_analogy(load_vectors(vectors), a, b, c, k)


def suspects(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    n_folds: int = 5,
    n_neighbors: int = N_NEIGHBORS,
    use_cleanlab: bool = False,
    n_corrections: int = 240,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Suspects:
    """Rank labels by how little they fit, for a person to correct.

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors).
        output: folder to write: `suspects.csv`, `copies.csv` (near-copies with two labels), `corrections.csv` to fill
            in (then `apply-corrections CATALOG corrections.csv -o CATALOG2`), its images, 40 a picture:
            `suspects.png`, `suspects_2.png`, …, and `copies.png`.
        n_folds: the head's loss joins the signals, each fold of the images named by a head that learned from the
            others; 0, or where every class has but one image: without it.
        n_neighbors: k of the neighbours' disagreement.
        use_cleanlab: cleanlab's label quality joins the signals (extra `clean`).
        n_corrections: rows of `corrections.csv`.
        seed: of the folds.
        overwrite: replace the output.
        progress: show bars.
    """
    if n_folds == 1 or n_folds < 0:
        raise SettingError(f"folds: expected at least 2, or 0 for none; found {n_folds}")
    if n_corrections < 0:
        raise SettingError(f"corrections: expected rows, 0 or more; found {n_corrections}")
    _check_output(output, overwrite, "suspects")
    table = load_vectors(vectors)
    table = table.select(table.is_labelled)
    chances = _predict_out_of_fold(table, n_folds, seed, progress) if n_folds else None
    found = find_suspects(table, chances, n_neighbors=n_neighbors, use_cleanlab=use_cleanlab)

    def write(folder: Path) -> None:
        write_frame(folder / "suspects.csv", found.ranking.drop(columns="row"))
        write_frame(folder / "copies.csv", found.copies.drop(columns=["row_1", "row_2"]))
        write_frame(folder / "corrections.csv", found.corrections(n_corrections))
        _save_sheets(folder, "suspects", contact_sheets.suspects_sheets(found, n_corrections))
        _save_sheets(folder, "copies", [contact_sheets.copies_sheet(found)])

    summary = {"n_images": len(table), "n_folds": 0 if chances is None else n_folds, "n_copies": len(found.copies)}
    _write_analysis(output, "suspects", table, summary, write)
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
    if output is not None and changes_path is not None:
        done.catalog.save(output)
        if undo or done.changes.empty:
            changes_path.unlink(missing_ok=True)  # of the catalog that stood here before
        else:
            ImageCatalog(done.changes).save(changes_path)
    return done


def _embed_epochs(
    run: RunFolder, table: EmbeddingTable, epochs: dict[int, Path], device: str, progress: bool
) -> dict[int, NDArray[np.float32]]:
    """Return the vectors of the images of a table by the weights of every epoch."""
    from plankton_embed.images.store import prepare_images
    from plankton_embed.network.model import EmbeddingModel
    from plankton_embed.training.checkpoints import load_weights

    paths = [str(path) for path in table.path]
    model = EmbeddingModel.load(run.model, device)
    prepared = prepare_images(paths, content_hashes(paths, progress), model.preparation, progress=progress)
    catalog = ImageCatalog.load(run.catalog)
    if catalog.pixel_size is not None:  # a network may take the true size
        rows = pd.Index(catalog.frame["object_id"]).get_indexer(pd.Index(table.object_id))
        prepared = replace(prepared, pixel_size=catalog.pixel_size[rows])
    if prepared.faults:
        row, reason = next(iter(prepared.faults.items()))
        raise InputError(f"{len(prepared.faults)} images of the run cannot be read, such as {paths[row]}: {reason}")
    by_epoch = {}
    for epoch, path in tqdm(epochs.items(), "epochs", unit="epoch", disable=not progress, leave=False, delay=1):
        load_weights(path, model.net)
        by_epoch[epoch] = model.embed_prepared(prepared, views=1)
    return by_epoch


def _list_ids(table: EmbeddingTable, groups: Iterable[NDArray[np.intp]]) -> list[str]:
    return [_as_json(table.object_id[rows].tolist()) for rows in groups]


def _as_json(names: Sequence[str]) -> str:
    """Return names as a list that can be taken apart again, whatever is in them."""
    return json.dumps(list(names), ensure_ascii=False)


def _check_output(output: str | Path | None, overwrite: bool, analysis: str) -> None:
    """Refuse a place where something else stands, or what a person has filled in."""
    if output is None or (refuse_overwrite(output, overwrite, made_of=SUMMARY_FILE) and not overwrite):
        return
    summary = Path(output) / SUMMARY_FILE
    found = json.loads(summary.read_text(encoding="utf-8")).get("analysis") if summary.is_file() else analysis
    if found != analysis:
        raise OutputError(f"{output} holds {found}, not {analysis}, so it is not replaced; choose another folder")
    for name, column, untouched in FILLED_IN:
        filled = Path(output) / name
        if filled.is_file() and (read_spreadsheet(filled, name, (column,))[column] != untouched).any():
            raise OutputError(f"{filled} was filled in, so it is not replaced; choose another folder, or delete it")


def _write_analysis(
    output: str | Path | None,
    analysis: str,
    table: EmbeddingTable,
    summary: dict[str, Any],
    write: Callable[[Path], None],
) -> None:
    """Write the folder of an analysis, whole or not at all."""
    if output is None:
        return
    missing = [path for path in table.path if path is None or not Path(path).is_file()]
    if missing:
        logger.warning(
            "%d of %d images cannot be shown, grey squares stand for them; the first: %s",
            *(len(missing), len(table), missing[0] or "its vector tells no path"),
        )
    with write_folder_atomically(output) as folder:
        write(folder)
        write_json(folder / SUMMARY_FILE, {"analysis": analysis, **summary})


def _save_sheets(folder: Path, name: str, sheets: Iterable[Sheet]) -> None:
    """Draw sheets into NAME.png, NAME_2.png, …"""
    for number, sheet in enumerate(sheets, 1):
        save_figure(draw_sheet(sheet), folder / (f"{name}.png" if number == 1 else f"{name}_{number}.png"))


def _select_unnamed(table: EmbeddingTable, only: str | Path | pd.DataFrame | None) -> EmbeddingTable:
    """Keep the images that were refused, or those without label; all where none or all have one."""
    if only is None:
        labelled = table.is_labelled
        return table if labelled.all() else table.select(~labelled)
    names = only if isinstance(only, pd.DataFrame) else read_spreadsheet(only, "predictions file")
    missing = [column for column in ("object_id", "label") if column not in names]
    if missing:
        raise InputError(f"only: expected predictions with object_id and label; found {list(names.columns)}")
    refused = set(names["object_id"][names["label"] == UNKNOWN].astype(str))
    chosen = np.array([object_id in refused for object_id in table.object_id])
    if chosen.sum() < len(refused) or not refused:
        raise InputError(
            f"only: {len(refused)} images were refused, of which {int(chosen.sum())} are among the vectors; give the "
            "predictions of these vectors, made with an unknown rate"
        )
    return table.select(chosen)


def _draw_evenly(table: EmbeddingTable, n_images: int, seed: int) -> EmbeddingTable:
    """Draw images so that all classes have as nearly the same number as can be."""
    order = np.random.default_rng(seed).permutation(len(table))
    place = pd.Series(order).groupby(table.label[order].astype(str)).cumcount().to_numpy()
    return table.select(np.sort(order[np.argsort(place, kind="stable")[:n_images]]))


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
    for learned, held in tqdm(folds, "folds", disable=not progress, leave=False, delay=1):
        head = MLPClassifier().fit(table.vectors[learned], labels[learned])
        could = held[np.isin(labels[held], head.classes_)]
        chances[could] = 0
        chances[could[:, None], np.searchsorted(classes, head.classes_)] = head.predict_proba(table.vectors[could])
    return chances
