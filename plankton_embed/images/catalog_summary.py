"""Summarizes a catalog: classes, image sizes, empty cells, marks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.marks import find_marks
from plankton_embed.images.preparation import DECODER_FAULTS, open_image, to_8bit
from plankton_embed.images.workers import map_images
from plankton_embed.notebook import Shown
from plankton_embed.settings import PreparationSettings

logger = logging.getLogger(__name__)

MOST_SEARCHED = 2000  # number of images in which a summary looks for marks


@dataclass(frozen=True, repr=False)
class CatalogSummary(Shown):
    """The contents of a catalog.

    `classes`: label, count, share (one row per class, largest first). `gaps` (empty cells): column, missing, percent.
    `sizes`: width, height, area in pixels, one row per readable image. `size_quantiles`: the same at 0, 5, 25, 50, 75,
    95 and 100 %. `n_unreadable`: number of images whose size could not be read. `grey_levels`: bits and white level
    (`GreyLevels.to_dict`), None if they were not determined. `marked`: rows of images with a scale bar, its text or
    corner marks burnt in (see `images.marks`), among the `n_searched` images that were searched.
    """

    n_images: int
    n_unlabelled: int
    n_unreadable: int
    classes: pd.DataFrame
    gaps: pd.DataFrame
    sizes: pd.DataFrame
    size_quantiles: pd.DataFrame
    grey_levels: dict[str, Any] | None = None
    marked: tuple[int, ...] = ()
    n_searched: int = 0

    def _describe(self) -> str:
        more = {"unlabelled": self.n_unlabelled, "unreadable": self.n_unreadable}
        counts = [f"{n:,} {name}" for name, n in more.items() if n]
        return ", ".join([f"{self.n_images:,} images", f"{len(self.classes)} classes", *counts])

    def _preview(self) -> pd.DataFrame:
        return self.classes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "n_images": self.n_images,
            "n_classes": len(self.classes),
            "n_unlabelled": self.n_unlabelled,
            "n_unreadable": self.n_unreadable,
            "n_marked": len(self.marked),
            "n_searched_for_marks": self.n_searched,
            "classes": self.classes.to_dict("records"),
            "gaps": self.gaps.to_dict("records"),
            "size_quantiles": self.size_quantiles.to_dict("index"),
            "grey_levels": self.grey_levels,
        }


def summarize(
    catalog: ImageCatalog,
    progress: bool = True,
    grey_levels: dict[str, Any] | None = None,
    n_unreadable: int | None = None,
    sizes: Sequence[tuple[int, ...] | None] | None = None,
) -> CatalogSummary:
    """Count classes and empty cells, describe the image sizes, and search images for marks.

    At most 2,000 images, evenly spaced over the catalog, are searched for marks; a note in the log counts those found.

    Args:
        catalog: the images.
        progress: show a bar.
        grey_levels: for the attribute of that name.
        n_unreadable: number of images that cannot be read, if all were decoded; by default, whose size cannot be read.
        sizes: width and height of every image, None if unknown (`GreyLevels.sizes`); by default read from the headers.
    """
    counts = catalog.frame["label"].value_counts()
    classes = pd.DataFrame({"label": counts.index.astype(str), "count": counts.to_numpy()})
    classes["share"] = classes["count"] / max(int(counts.sum()), 1)
    classes = classes.sort_values(["count", "label"], ascending=[False, True], ignore_index=True)
    missing = catalog.frame.isna().sum()
    gaps = pd.DataFrame({"column": missing.index, "missing": missing.to_numpy()})
    gaps["percent"] = 100 * gaps["missing"] / max(len(catalog), 1)
    paths = catalog.paths
    sizes = map_images(_image_size, paths, "measuring", progress) if sizes is None else sizes
    measured = pd.DataFrame([size for size in sizes if size], columns=["width", "height"], dtype="int64")
    measured["area"] = measured["width"] * measured["height"]
    searched = np.unique(np.linspace(0, len(catalog) - 1, min(len(catalog), MOST_SEARCHED)).astype(int))
    has_marks = map_images(_has_marks, [paths[row] for row in searched], "looking for marks", progress)
    marked = tuple(int(row) for row in searched[np.array(has_marks, dtype=bool)])
    if marked:
        of = f"{len(searched)} images" + " searched" * (len(searched) < len(catalog))
        logger.info(
            "marks: %d of %s have a scale bar, text or corner marks burnt in; preparation.remove_marks=auto (the "
            "default) removes them before preparing and measuring",
            len(marked),
            of,
        )
    return CatalogSummary(
        n_images=len(catalog),
        n_unlabelled=int(catalog.frame["label"].isna().sum()),
        n_unreadable=len(catalog) - len(measured) if n_unreadable is None else n_unreadable,
        classes=classes,
        gaps=gaps,
        sizes=measured,
        size_quantiles=measured.quantile([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]),
        grey_levels=grey_levels,
        marked=marked,
        n_searched=len(searched),
    )


def _image_size(path: str) -> tuple[int, ...] | None:
    """Return width and height, of a file from its header; None if it cannot be read."""
    try:
        with Image.open(path) if Path(path).is_file() else open_image(path) as image:
            return image.size
    except DECODER_FAULTS:
        return None


def _has_marks(path: str) -> bool:
    """Return whether marks are burnt into an image; False if it cannot be read."""
    try:
        return bool(find_marks(to_8bit(open_image(path), PreparationSettings(color="grey"))).kinds)
    except DECODER_FAULTS:  # InputError is a ValueError
        return False
