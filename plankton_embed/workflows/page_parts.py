"""What the page of `report` and `review` shows: its images, and the data of every part."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import SPLITS
from plankton_embed.images.splits import CONTRADICTS
from plankton_embed.page.confusion import build_confusion
from plankton_embed.page.counts import build_counts
from plankton_embed.page.groups import build_groups
from plankton_embed.page.images import PageImages, gather_images
from plankton_embed.page.map import build_map, read_coordinates
from plankton_embed.page.overview import build_overview
from plankton_embed.page.queue import build_queue
from plankton_embed.page.relations import build_relations
from plankton_embed.page.run_facts import RunFacts
from plankton_embed.page.suspects import build_suspects
from plankton_embed.page.tree import build_tree
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.workflows.inputs import Reference, as_run, find_path, load_labelled

logger = logging.getLogger(__name__)


def gather_page(vectors: Reference) -> PageImages:
    """Return the images of a page: of all splits of a run, or of a file of vectors.

    Raises:
        InputError: there are no vectors; or a class is called like rejected images.
    """
    run = as_run(vectors)
    if run is None:
        return gather_images({"": load_labelled(vectors)})
    paths = {split: run.vectors(split) for split in SPLITS if run.vectors(split).is_file()}
    if not paths:
        raise InputError(f"{run.path}: expected a run with vectors in {run.vectors('train').parent}; found none")
    return gather_images({split: load_labelled(path) for split, path in paths.items()})


def title_page(vectors: Reference) -> str:
    """Return the title of a page: the name of the run, or of the file of vectors."""
    path = find_path(vectors)
    return "Images" if path is None else path.resolve().name


def build_parts(
    images: PageImages, vectors: Reference, *, groups: str | Path | None = None
) -> dict[str, dict[str, Any] | None]:
    """Return the data of every part of the page; None: there is nothing to show. See `list_parts`."""
    return {name: build() for name, build in list_parts(images, vectors, groups=groups).items()}


def list_parts(
    images: PageImages, vectors: Reference, *, groups: str | Path | None = None
) -> dict[str, Callable[[], dict[str, Any] | None]]:
    """Return a function for every part of the page, which returns its data; None: there is nothing to show.

    Args:
        images: of the page.
        vectors: where they are from; of a run, what its folder `analysis` contains is shown too.
        groups: a folder that `clusters` wrote; by default `analysis/clusters` of a run.

    Raises:
        InputError: the folder of groups does not exist.
    """
    if groups is not None and not Path(groups).is_dir():
        raise InputError(f"groups: expected the folder that clusters wrote; {groups} is not a folder")
    run = as_run(vectors)
    parts: dict[str, Callable[[], dict[str, Any] | None]] = {
        "confusion": lambda: build_confusion(images, None if run is None else run.predictions),
        "tree": lambda: build_tree(images),
        "suspects": lambda: build_suspects(images),
        "queue": lambda: build_queue(images),
    }
    if run is None:
        return parts | {
            "overview": lambda: build_overview(images),
            "map": lambda: build_map(images),
            "groups": lambda: build_groups(images, groups),
            "counts": lambda: build_counts(images),
        }
    return parts | {
        "overview": lambda: build_overview(images, read_facts(run)),
        "map": lambda: build_map(images, extra=_read_maps(run, images)),
        "relations": lambda: build_relations(images, run.analysis("relations")),
        "groups": lambda: build_groups(images, groups or run.analysis("clusters")),
        "counts": lambda: build_counts(
            images, predictions=run.predictions, abundance=run.analysis("abundance"), shift=run.analysis("shift")
        ),
    }


def read_facts(run: RunFolder) -> RunFacts:
    """Return what the files of a run contain; a damaged file is left out, with a warning."""
    faults, catalog = _read_csv(run.faults), _read_csv(run.catalog, ["object_id", CONTRADICTS])
    contradicting: list[str] = []
    if catalog is not None and CONTRADICTS in catalog:
        contradicting = catalog["object_id"][catalog[CONTRADICTS].notna()].tolist()
    return RunFacts(
        settings=_read_settings(run),
        model=_read_json(run.model / "config.json"),
        scores=_read_json(run.scores),
        history=_read_csv(run.history),
        near_copies=_read_csv(run.analysis("near_copies") / "near_copies.csv"),
        contradictions=contradicting,
        n_lost=0 if faults is None or "outcome" not in faults else int((faults["outcome"] == "lost").sum()),
        by_rank=_read_csv(run.analysis("taxonomy") / "by_rank.csv"),
    )


def _read_maps(run: RunFolder, images: PageImages) -> dict[str, NDArray[np.float64]]:
    """Return the coordinates of all maps (UMAP, t-SNE) in a run's folder of analyses."""
    found: dict[str, NDArray[np.float64]] = {}
    for path in sorted(run.analysis("").glob("*/coordinates.csv")):
        try:
            found = read_coordinates(path, images) | found
        except InputError as error:
            logger.warning("left out of the page: %s", error)
    return found


def _read_settings(run: RunFolder) -> dict[str, Any]:
    try:
        return Settings.load(run.settings).flat() if run.settings.is_file() else {}
    except (InputError, SettingError) as error:
        logger.warning("left out of the page: %s", error)
        return {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        logger.warning("left out of the page: %s cannot be read: %s", path, error)
        return {}


def _read_csv(path: Path, columns: list[str] | None = None) -> pd.DataFrame | None:
    """Return a table that a run wrote, or those of some columns that it has; None if there is none."""
    if not path.is_file():
        return None
    kinds = dict.fromkeys(columns or ["object_id", "copy_object_id"], "str")
    try:
        return pd.read_csv(path, usecols=None if columns is None else lambda name: name in columns, dtype=kinds)
    except (OSError, ValueError) as error:
        logger.warning("left out of the page: %s cannot be read: %s", path, error)
        return None
