"""Contact sheets: which images stand on them, and under which captions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image

from plankton_embed.classifiers.scoring import ClassificationScores
from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.preparation import open_image, prepare_image
from plankton_embed.plots.sheet import Sheet, Tile
from plankton_embed.settings import PreparationSettings
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import Neighbors

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
    """Show images as they are on disk and, beside each, as the network sees them."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(catalog))[:n_images])
    tiles = []
    for row in chosen:
        path, label = catalog.paths[row], catalog.labels[row] or "(unlabelled)"
        try:
            pixels, _, (width, height) = prepare_image(path, settings)
        except InputError as fault:
            tiles.append([Tile(UNREADABLE, f"{label}\nunreadable"), Tile(UNREADABLE, str(fault))])
            continue
        seen = Tile(pixels.squeeze(), f"as seen\n{settings.target_size}×{settings.target_size}")
        tiles.append([Tile(_open(path), f"{label}\n{width}×{height}"), seen])
    rows = [("", [tile for pair in tiles[i : i + per_row] for tile in pair]) for i in range(0, len(tiles), per_row)]
    return Sheet("As on disk, and as the network sees them", rows)


def misclassified_sheet(names: pd.DataFrame, n_images: int = 40, per_row: int = 8) -> Sheet:
    """Show the wrongly named images whose wrong class was nearest, with truth and guess."""
    wrong = names[names["label"] != names["true_label"]].sort_values("distance", kind="stable")
    tiles = [_guess_tile(row) for _, row in wrong.head(n_images).iterrows()]
    rows = [("", tiles[start : start + per_row]) for start in range(0, len(tiles), per_row)]
    return Sheet(f"{len(wrong)} of {len(names)} images named wrongly; the surest {len(tiles)}", rows)


def worst_classes_sheet(
    names: pd.DataFrame, scores: ClassificationScores, n_classes: int = 8, n_per_class: int = 8
) -> Sheet:
    """Show images of the classes with the lowest F1, wrong ones first, with truth and guess."""
    with_support = scores.per_class[scores.per_class["support"] > 0]
    rows = []
    for _, score in with_support.sort_values("f1", kind="stable").head(n_classes).iterrows():
        members = names[names["true_label"] == score["label"]]
        wrong_first = members.assign(right=members["label"] == members["true_label"]).sort_values(
            "right", kind="stable"
        )
        tiles = [_guess_tile(row) for _, row in wrong_first.head(n_per_class).iterrows()]
        rows.append((f"{score['label']}\nF1 {score['f1']:.2f}, n {score['support']:.0f}", tiles))
    return Sheet("The classes with the lowest F1", rows)


def neighbors_sheet(queries: EmbeddingTable, gallery: EmbeddingTable, neighbors: Neighbors) -> Sheet:
    """Show each query and, beside it, its neighbours with class and distance."""
    rows = []
    for number in range(len(queries)):
        truth = queries.label[number]
        tiles = [Tile(_open(queries.path[number]), f"{truth or 'query'}\nquery", "query")]
        for row, distance in zip(neighbors.rows[number], neighbors.distances[number], strict=True):
            label = gallery.label[row]
            tile = Tile(_open(gallery.path[row]), f"{label or '(unlabelled)'}\n{distance:.2f}")
            if truth is not None and label is not None:
                tile = replace(tile, frame="right" if label == truth else "wrong")
            tiles.append(tile)
        rows.append(("", tiles))
    return Sheet("Queries (left) and their nearest images", rows)


def _guess_tile(row: pd.Series) -> Tile:
    right = row["label"] == row["true_label"]
    return Tile(_open(row["path"]), f"{row['true_label']}\n→ {row['label']}", "right" if right else "wrong")


def _open(path: str | None) -> Image.Image:
    """Open an image to look at; a grey square stands for one that cannot be read."""
    try:
        return UNREADABLE if path is None else open_image(path)
    except InputError:
        return UNREADABLE
