"""Contact sheets: which images they show, and with which captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from PIL import Image

from plankton_embed.analysis.class_means import find_central
from plankton_embed.classifiers.scoring import ClassificationScores
from plankton_embed.errors import InputError
from plankton_embed.images.balance import draw_evenly
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.marks import find_marks, remove_marks
from plankton_embed.images.preparation import open_image, prepare_image, to_8bit
from plankton_embed.plots.sheet import Sheet, Tile
from plankton_embed.settings import PreparationSettings
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import Neighbors

if TYPE_CHECKING:
    from plankton_embed.analysis.clusters import Clusters
    from plankton_embed.analysis.dendrogram import Dendrogram
    from plankton_embed.analysis.projection import Projection
    from plankton_embed.analysis.relations import Relations
    from plankton_embed.analysis.suspects import Suspects

MOST_PREVIEWED = 100  # classes in a preview
UNREADABLE = Image.new("L", (32, 32), 200)


def examples_sheet(catalog: ImageCatalog, n_per_class: int = 8, seed: int = 0) -> Sheet:
    """Show some images of every class, drawn at random."""
    rng = np.random.default_rng(seed)
    labels = catalog.frame["label"].fillna("(unlabelled)")
    paths = catalog.frame["path"].to_numpy(dtype=object)
    rows = []
    for label in sorted(labels.unique()):
        members = np.flatnonzero(labels == label)
        chosen = rng.permutation(members)[:n_per_class]
        rows.append((f"{label} ({len(members)})", [Tile(_open(paths[row])) for row in sorted(chosen)]))
    return Sheet("Examples of every class", rows)


def preview_sheet(
    catalog: ImageCatalog, settings: PreparationSettings, n_images: int = 30, per_row: int = 5, seed: int = 0
) -> Sheet:
    """Show images as they are on disk, each beside the image that the network sees.

    One image of every class, then a second one, and so on, up to `n_images`. If there are more classes than `n_images`:
    one image of each of at most `MOST_PREVIEWED` classes.
    """
    labels = catalog.frame["label"].astype(object).fillna("")
    n_shown = max(n_images, min(labels.nunique(), MOST_PREVIEWED))
    tiles: list[Tile] = []
    paths, names = catalog.paths, catalog.labels
    for row in draw_evenly(labels, n_shown, np.random.default_rng(seed)):
        path, label = paths[row], names[row] or "(unlabelled)"
        try:
            image, (pixels, _, _) = open_image(path), prepare_image(path, settings)
        except InputError as fault:
            tiles += [Tile(UNREADABLE, f"{label}\nunreadable"), Tile(UNREADABLE, str(fault))]
            continue
        seen = Tile(pixels.squeeze(), f"as seen\n{settings.target_size}×{settings.target_size}")
        tiles += [Tile(image, f"{label}\n{image.width}×{image.height}"), seen]
    return Sheet("As on disk, and as the network sees them", _lay_out(tiles, 2 * per_row))


def marks_sheet(
    catalog: ImageCatalog, rows: Sequence[int], settings: PreparationSettings, n_images: int = 40, per_row: int = 5
) -> Sheet:
    """Show images that have marks burnt in, each beside the image without the marks.

    Args:
        catalog: the images.
        rows: the rows of images with marks (`CatalogSummary.marked`).
        settings: how images are prepared; if they keep the marks, the title of the sheet reports this.
        n_images: the largest number of images, evenly spaced over these rows.
        per_row: pairs per row.
    """
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), n_images)).astype(int))
    tiles: list[Tile] = []
    paths, labels = catalog.paths, catalog.labels
    for row in [rows[number] for number in chosen]:
        image = to_8bit(open_image(paths[row]), settings)
        kinds, rest = find_marks(image).kinds, remove_marks(image)
        before = f"{labels[row] or '(unlabelled)'}\n{image.width}×{image.height}"
        tiles += [Tile(image, before), Tile(rest, f"without {', '.join(kinds)}\n{rest.width}×{rest.height}")]
    kept = "" if settings.remove_marks == "auto" else " (which preparation.remove_marks=off keeps)"
    return Sheet(f"Images with marks burnt in, before and after their removal{kept}", _lay_out(tiles, 2 * per_row))


def misclassified_sheet(predictions: pd.DataFrame, n_images: int = 40, per_row: int = 8) -> Sheet:
    """Show the misclassified images nearest to their predicted class, with true and predicted label."""
    wrong = predictions[predictions["label"] != predictions["true_label"]].sort_values("distance", kind="stable")
    tiles = [_prediction_tile(row) for _, row in wrong.head(n_images).iterrows()]
    title = f"{len(wrong)} of {len(predictions)} images predicted wrongly; the {len(tiles)} with the smallest distance"
    return Sheet(title, _lay_out(tiles, per_row))


def losses_sheet(losses: pd.DataFrame, per_row: int = 5) -> Sheet:
    """Show the images of `highest_losses` with true and predicted label, loss, and probability p of the prediction."""
    tiles = []
    for row in losses.to_dict("records"):
        caption = f"{row['label']}\n→ {row['predicted']}\nloss {row['loss']:.2f}, p {row['probability']:.2f}"
        frame: Literal["right", "wrong"] = "right" if row["label"] == row["predicted"] else "wrong"
        tiles.append(Tile(_open(row["path"]), caption, frame))
    return Sheet(f"The {len(tiles)} highest losses: true label → prediction", _lay_out(tiles, per_row))


def worst_classes_sheet(
    predictions: pd.DataFrame, scores: ClassificationScores, n_classes: int = 8, n_per_class: int = 8
) -> Sheet:
    """Show images of the classes with the lowest F1, wrong ones first, with true and predicted label."""
    with_support = scores.per_class[scores.per_class["support"] > 0]
    rows = []
    for _, score in with_support.sort_values("f1", kind="stable").head(n_classes).iterrows():
        members = predictions[predictions["true_label"] == score["label"]]
        wrong_first = members.assign(right=members["label"] == members["true_label"]).sort_values(
            "right", kind="stable"
        )
        tiles = [_prediction_tile(row) for _, row in wrong_first.head(n_per_class).iterrows()]
        rows.append((f"{score['label']}\nF1 {score['f1']:.2f}, n {score['support']:.0f}", tiles))
    return Sheet("The classes with the lowest F1", rows)


def neighbors_sheet(queries: EmbeddingTable, gallery: EmbeddingTable, neighbors: Neighbors) -> Sheet:
    """Show each query beside its neighbours, with class and distance."""
    rows = []
    for number in range(len(queries)):
        truth = queries.label[number]
        tiles = [Tile(_open(queries.path[number]), "query" if truth is None else f"{truth}\nquery", "query")]
        for row, distance in zip(neighbors.rows[number], neighbors.distances[number], strict=True):
            label = gallery.label[row]
            tile = Tile(_open(gallery.path[row]), f"{label or '(unlabelled)'}\n{distance:.2f}")
            if truth is not None and label is not None:
                tile = replace(tile, frame="right" if label == truth else "wrong")
            tiles.append(tile)
        rows.append(("", tiles))
    return Sheet("Queries (left) and their nearest images", rows)


def leaf_images(dendrogram: Dendrogram, n_images: int = 5) -> dict[int, list[Image.Image]]:
    """Return the most central images of every leaf."""
    paths = dendrogram.table.path
    return {
        node: [_open(paths[row]) for row in dendrogram.central[node][:n_images]] for node in dendrogram.leaves.index
    }


def branches_sheet(dendrogram: Dendrogram, n_images: int = 10) -> Sheet:
    """Show the most central images of every branch of a tree."""
    table = dendrogram.table
    rows = []
    for number in range(1, int(dendrogram.branch.max()) + 1):
        members = np.flatnonzero(dendrogram.branch == number)
        tiles = [_label_tile(table, row) for row in find_central(table.vectors, members, n_images)]
        unit = dendrogram.of if len(members) > 1 else {"images": "image", "classes": "class"}[dendrogram.of]
        rows.append((f"branch {number}\n{len(members):,} {unit}", tiles))
    of_classes = "The classes of every branch, each by its most central image"
    return Sheet("The most central images of every branch" if dendrogram.of == "images" else of_classes, rows)


def ends_sheet(projection: Projection, n_images: int = 8) -> Sheet:
    """Show the images at both ends of every axis of a projection."""
    rows = []
    for (axis, end), ends in projection.ends(n_images).groupby(["component", "end"], sort=False):
        rows.append((f"{axis}, {end}", [_label_tile(projection.table, int(row)) for row in ends["row"]]))
    return Sheet("The images at both ends of every axis", rows)


def clusters_sheets(
    clusters: Clusters, n_all: int | None = None, n_groups: int = 20, n_images: int = 5
) -> Iterator[Sheet]:
    """Show central images (left) and odd images (right) of all groups, a few groups per sheet, the largest first.

    `n_all`: the number of images, if the groups have more of them than their table.
    """
    n_all = len(clusters.table) if n_all is None else n_all
    n_alone = n_all - int(clusters.groups["n_images"].sum())
    title = f"{len(clusters.groups)} groups of {n_all:,} images"
    title += f", {n_alone:,} in none" if n_alone else ""
    for start in range(0, max(len(clusters.groups), 1), n_groups):
        rows = []
        for group in clusters.groups[start : start + n_groups].to_dict("records"):
            number = int(group["cluster"])
            near = f"\n{group['nearest_class']}?" if "nearest_class" in group else ""
            central = clusters.central[number][:n_images]
            odd = [
                row for row in clusters.odd[number][:n_images] if row not in central
            ]  # a small group: each image once
            tiles = [Tile(_open(clusters.table.path[row]), "central") for row in central]
            tiles += [Tile(_open(clusters.table.path[row]), "odd") for row in odd]
            rows.append((f"{number}: {group['n_images']:,}{near}", tiles))
        shown = f"; {start + 1} to {start + len(rows)}" if len(clusters.groups) > n_groups else ""
        yield Sheet(title + shown, rows)


def relations_sheet(relations: Relations, n_relations: int = 12, per_row: int = 3) -> Sheet:
    """Show the best pairs of relations: x₁ → y₁, and below it x₂ → y₂."""
    best, table = relations.best.head(n_relations).to_dict("records"), relations.table
    rows = []
    for start in range(0, len(best), per_row):
        block = best[start : start + per_row]
        label = f"{start + 1}-{start + len(block)}" if len(block) > 1 else str(start + 1)
        for line, ends in enumerate((("x1", "y1"), ("x2", "y2"))):
            tiles = []
            for number, relation in enumerate(block, start + 1):
                measures = (
                    f"{number}: differ by {relation['distance']:.2f}",
                    f"{number}: length {relation['length']:.2f}",
                )
                for end, measure in zip(ends, measures, strict=True):
                    row = int(relation[end])
                    tiles.append(Tile(_open(table.path[row]), f"{end} {table.label[row] or ''}\n{measure}"))
            rows.append((label if line == 0 else "", tiles))
    shown = f"the best {len(best)}" if len(best) < relations.n_found else "all"
    return Sheet(f"{relations.n_found:,} relations x1 → y1 like x2 → y2; {shown}", rows)


def suspects_sheets(suspects: Suspects, n_images: int = 40, per_sheet: int = 40, per_row: int = 8) -> Iterator[Sheet]:
    """Show the labels that are most likely wrong, each with the suggested label."""
    first = suspects.first(n_images)
    for top in range(0, max(len(first), 1), per_sheet):
        tiles = [
            Tile(_open(row["path"]), f"{row['label']}\n→ {row['guess']}?\n{_score(row['score'])}")
            for row in first[top : top + per_sheet].to_dict("records")
        ]
        shown = f"numbers {top + 1} to {top + len(tiles)}" if len(first) > per_sheet else f"the first {len(tiles)}"
        title = f"{len(suspects.ranking):,} labels, most suspect first, each with a suggested label: {shown}"
        yield Sheet(title, _lay_out(tiles, per_row))


def _score(score: float) -> str:
    return "copy" if np.isnan(score) else f"{score:.2f}"


def copies_sheet(suspects: Suspects, n_pairs: int = 20, per_row: int = 4) -> Sheet:
    """Show near-copies with different labels, side by side."""
    tiles = [
        Tile(_open(pair[f"path_{side}"]), f"{pair[f'label_{side}']}\n{pair['distance']:.3f} apart")
        for pair in suspects.copies.head(n_pairs).to_dict("records")
        for side in ("1", "2")
    ]
    return Sheet(f"{len(suspects.copies):,} near-copies with two labels", _lay_out(tiles, 2 * per_row))


def _lay_out(tiles: list[Tile], per_row: int) -> list[tuple[str, list[Tile]]]:
    return [("", tiles[start : start + per_row]) for start in range(0, len(tiles), per_row)]


def _label_tile(table: EmbeddingTable, row: int) -> Tile:
    return Tile(_open(table.path[row]), str(table.label[row] or ""))


def _prediction_tile(row: pd.Series) -> Tile:
    right = row["label"] == row["true_label"]
    return Tile(_open(row["path"]), f"{row['true_label']}\n→ {row['label']}", "right" if right else "wrong")


def _open(path: str | None) -> Image.Image:
    """Open an image to show; return a grey square if it cannot be read."""
    try:
        return UNREADABLE if path is None else open_image(path)
    except InputError:
        return UNREADABLE
