"""What the space tells: axes, tree, taxonomy and relations of a table of vectors, as tables and pictures."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed import contact_sheets
from plankton_embed.analysis.class_means import average_classes
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
    LIMIT,
    N_SHUFFLES,
    Definition,
    Relations,
    complete_analogy,
    find_relations,
    keep_labelled,
)
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
from plankton_embed.analysis_folder import as_json, check_output, list_ids, save_sheets, write_analysis
from plankton_embed.classifiers.naming import Method
from plankton_embed.errors import InputError, SettingError
from plankton_embed.evaluation import (
    Naming,
    Reference,
    find_calibration,
    load_query,
    load_settings,
    load_vectors,
    write_frame,
)
from plankton_embed.images.catalog import SPLITS, ImageCatalog, content_hashes
from plankton_embed.output import progress_bar, refuse_overwrite
from plankton_embed.plots.dendrogram import draw_dendrogram
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.film import check_seconds, name_film, write_film
from plankton_embed.plots.projection import draw_explained, draw_projection, draw_projection_3d
from plankton_embed.plots.tanglegram import draw_tanglegram
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)

N_RELATED = 1000  # images whose relations are compared
MOST_RELATED = 3000  # their pairs fill the memory beyond that


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
    """Bring vectors onto few axes: principal components, or a map.

    Args:
        vectors: a table, its file, or the folder of a run; all of them make the axes.
        split: of a run: `train`, `val` or `test`; by default test, else val, else train. Training vectors look better
            separated than they are, since the loss has sorted them by label.
        output: folder to write: `coordinates.csv`, `ends.csv` and `ends.png` (the images at both ends of every axis),
            `scatter.png`, `scatter_3d.png`; for components also `explained.csv`, `explained.png`, `loadings.csv`.
        method: `pca`; `umap` or `tsne` with the extra `reduce`.
        n_components: axes; by default 3, and 2 of a map.
        per_class: images of each class that the scatter shows, drawn once; 40 times as many where no image has a label.
        seed: of the drawing, and of a map.
        overwrite: replace the output.
    """
    check_output(output, overwrite, "pca")
    table, split = _load_split(vectors, split)
    shown = draw_per_class(table, per_class, seed)
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


def film(
    run: str | Path,
    output: str | Path | None = None,
    *,
    split: str | None = None,
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
        split: as `pca`.
        basis_epoch: whose principal components are the axes; by default the last.
        per_class: images of each class, drawn once.
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
        raise InputError(f"{run} is not a run (it has no settings.yaml); a film shows the epochs of a run")
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
    table = draw_per_class(_load_split(run, split)[0], per_class, seed)
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
    split: str | None = None,
    of: Literal["images", "classes"] = "images",
    n_leaves: int | None = None,
    n_branches: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Dendrogram:
    """Join images, or class means, into Ward's tree; describe its leaves and branches.

    Args:
        vectors: a table, its file, or the folder of a run.
        output: folder to write: `nodes.csv` (`central` is a JSON list of ids), `classes.csv` (what every node holds),
            `branches.csv` (class by branch), `images.csv` (leaf and branch of each), `cuts.csv`, `linkage.parquet` (the
            whole tree, as scipy's), `tree.nwk`, `dendrogram.png`, `branches.png`.
        split: as `pca`.
        of: `images`, or `classes`: the means of the classes, so that `n_images` counts classes.
        n_leaves: leaves of the cut tree; by default 40, and all of the classes.
        n_branches: main branches; by default the number that parts the vectors best (see `build_dendrogram`).
        overwrite: replace the output.
        progress: show a bar.
    """
    if of not in ("images", "classes"):
        raise SettingError(f"of: expected images or classes; found {of!r}")
    check_output(output, overwrite, "dendrogram")
    table, split = _load_split(vectors, split)
    if of == "classes":
        table = average_classes(table)
        if len(table) < 2:
            raise InputError(f"a tree of classes needs at least 2 of them; found {len(table)}")
    if n_leaves is None:
        n_leaves = N_LEAVES if of == "images" else len(table)
    found = build_dendrogram(table, n_leaves, n_branches, progress=progress)

    def write(folder: Path) -> None:
        central = list_ids(found.table, found.central.values())
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
    split: str | None = None,
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
        vectors: a table, its file, or the folder of a run.
        tree: a taxonomy or its file (see `read_taxonomy`).
        output: folder to write: `clades.csv`, `misplaced.csv`, `tanglegram.png`; with a query `by_rank.csv`, and with a
            calibration set `backed_off.csv`.
        split: of the class means that are compared with the taxonomy, as `pca`; images are named by training vectors.
        query: labelled vectors to name; by default the test images, where `vectors` is a run.
        method: of naming: `centroid`, `knn` (the default) or `mlp`.
        calibration: as `classify`.
        certainty: least probability of a name, by default .9; needs a calibration set.
        n_permutations, seed: of the class names, for the p-values.
        overwrite: replace the output.
        progress: show bars.
    """
    check_output(output, overwrite, "taxonomy")
    given = tree if isinstance(tree, Taxonomy) else read_taxonomy(tree)
    table, split = _load_split(vectors, split)
    compared = compare_taxonomy(table, given, n_permutations=n_permutations, seed=seed)
    run = None if isinstance(vectors, EmbeddingTable) else RunFolder(Path(vectors))
    if query is None and run is not None and run.settings.exists():
        query = vectors if any(run.vectors(name).exists() for name in ("test", "val")) else None
    found = TaxonomyFindings(compared)
    if query is None:
        if not (method is None and calibration is None and certainty is None):
            raise SettingError("method, calibration and certainty are for naming images; give labelled ones (--query)")
    else:
        known = load_vectors(vectors)
        asked = load_query(vectors, query, "auto", progress)
        known.check_same_model(asked)
        asked = asked.select(asked.is_labelled)
        if len(asked) == 0:
            raise InputError("the query has no labels, so there is nothing to score rank by rank")
        held = find_calibration(vectors, calibration, known, asked)
        if held is None and certainty is not None:
            raise SettingError("certainty takes probabilities, and these a calibration set; give one (--calibration)")
        classifier = Naming(method or "knn", settings=load_settings(vectors)).fit(known, held, progress)
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
        as_text = {column: compared.clades[column].map(as_json) for column in ("classes", "nearest")}
        write_frame(folder / "clades.csv", compared.clades.assign(**as_text))
        write_frame(folder / "misplaced.csv", compared.misplaced)
        save_figure(draw_tanglegram(compared), folder / "tanglegram.png")
        for name, frame in (("by_rank.csv", found.by_rank), ("backed_off.csv", found.backed_off)):
            if frame is not None:
                write_frame(folder / name, frame)

    write_analysis(output, "taxonomy", None, {"split": split, **found.to_dict()}, write)
    return found


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
    """Find relations between images that repeat: x₁ is to y₁ as x₂ is to y₂.

    Args:
        vectors: a table, its file, or the folder of a run.
        output: folder to write: `relations.csv`, `analogies.csv` (by class), `relations.png`.
        split: as `pca`.
        epsilon: largest ‖(x₁ - y₁) - (x₂ - y₂)‖; by default the least with which `limit` relations are found.
        n_images: images to compare, at most 3,000; of more, as many of each class are drawn as can be.
        same_class: relations within a class count too.
        definition, limit, n_shuffles, seed: as `find_relations`; the seed is that of the drawing of images too.
        overwrite: replace the output.
        progress: show bars.
    """
    if not 4 <= n_images <= MOST_RELATED:
        raise SettingError(f"n_images: expected 4 to {MOST_RELATED:,}; found {n_images}")
    check_output(output, overwrite, "relations")
    table, split = _load_split(vectors, split)
    table = keep_labelled(table)
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


def analogy(
    vectors: Reference, a: str, b: str, c: str, k: int = 10, *, split: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer "a is to b as c is to ?" with the nearest classes and the nearest images (see `complete_analogy`).

    `split` as `pca`.
    """
    return complete_analogy(_load_split(vectors, split)[0], a, b, c, k)


def _load_split(vectors: Reference, split: str | None) -> tuple[EmbeddingTable, str | None]:
    """Return vectors and their split: of a run the one given, by default test, else val, else train."""
    if split is not None and split not in SPLITS:
        raise SettingError(f"split: expected {', '.join(SPLITS)}; found {split!r}")
    if isinstance(vectors, EmbeddingTable) or not Path(vectors).is_dir():
        if split is not None:
            raise SettingError("split: it chooses among the vectors of a run, and these are a table; leave it out")
        return load_vectors(vectors), None
    run = RunFolder(Path(vectors))
    there = [name for name in reversed(SPLITS) if run.vectors(name).exists()]
    if split is not None and split not in there:
        raise InputError(f"{vectors} has no {split} vectors; those it has: {', '.join(there) or 'none'}")
    chosen = split or next(iter(there), "train")
    table = load_vectors(vectors, chosen)
    logger.info("vectors: the %s split of %s, %d images", chosen, vectors, len(table))
    if chosen == "train":
        logger.warning("the loss has sorted training vectors by label: classes look better separated than they are")
    return table, chosen


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
    for epoch, path in progress_bar(epochs.items(), "epochs", "epoch", shown=progress):
        load_weights(path, model.net)
        by_epoch[epoch] = model.embed_prepared(prepared)
    return by_epoch


def _draw_evenly(table: EmbeddingTable, n_images: int, seed: int) -> EmbeddingTable:
    """Draw images so that all classes have as nearly the same number as can be."""
    order = np.random.default_rng(seed).permutation(len(table))
    place = pd.Series(order).groupby(table.label[order].astype(str)).cumcount().to_numpy()
    return table.select(np.sort(order[np.argsort(place, kind="stable")[:n_images]]))
