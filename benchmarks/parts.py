"""What the benchmarks share: a catalog's parts, prepared, and the scores of vectors on them."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.classifiers.prediction import Method, fit_classifier
from plankton_embed.images.catalog import ImageCatalog, content_hashes
from plankton_embed.images.store import PreparedImages, prepare_images
from plankton_embed.network.device import Precision
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import write_json
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.table import EmbeddingTable

N_NEIGHBORS = 10


@dataclass(frozen=True)
class Part:
    """The images of one split and their classes."""

    images: PreparedImages
    label: NDArray[np.object_]
    class_index: NDArray[np.int64]


def read_parts(catalog_path: str | Path, root: str | Path | None, settings: Settings) -> dict[str, Part]:
    """Read a labelled catalog with splits; prepare its images."""
    catalog = ImageCatalog.load(catalog_path, root=root)
    images = prepare_images(catalog.paths, content_hashes(catalog.paths), settings.preparation)
    label = np.array(catalog.labels, dtype=object)
    _, class_index = np.unique(label.astype(str), return_inverse=True)
    split = catalog.frame["split"].to_numpy(dtype=object)
    return {
        name: Part(images.select(split == name), label[split == name], class_index[split == name])
        for name in ("train", "val", "test")
    }


def embed_part(model: EmbeddingModel, part: Part, views: int = 1, precision: Precision = "float32") -> EmbeddingTable:
    """Embed the images of a part."""
    return EmbeddingTable(model.embed_prepared(part.images, views=views, precision=precision), label=part.label)


def predict_part(reference: EmbeddingTable, query: EmbeddingTable, method: Method) -> NDArray[np.str_]:
    """Predict the classes of a part from the vectors of another."""
    return fit_classifier(reference, method, N_NEIGHBORS).predict(query.vectors)


def shuffle_in_classes(codes: NDArray[np.intp], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows in random order, and of each row its rank in this order among those of its class."""
    order = rng.permutation(len(codes))
    return order, rank_in_classes(codes[order])


def rank_in_classes(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the rank of each row, in order, among the rows of its class."""
    return pd.Series(codes).groupby(codes).cumcount().to_numpy()


def claim_run(run: RunFolder, settings: Settings, **more: object) -> None:
    """Record in a folder the settings of its training and scoring; end the program if it has other settings."""
    claimed = settings.flat() | more
    path = run.path / "asked.json"
    if path.exists() and json.loads(path.read_text()) != json.loads(json.dumps(claimed)):
        raise SystemExit(f"{run.path} holds a training with other settings; choose another -o")
    write_json(path, claimed)


def parse_arguments(description: str, **more: tuple[type, object, str]) -> argparse.Namespace:
    """Parse the arguments of all benchmarks, and `more`: name -> type, default, help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("catalog", help="CSV with path, label, split, such as ndsb40.csv")
    parser.add_argument("--root", help="folder from which its relative paths start")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for states and results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="settings of plankton_embed to change"
    )
    for name, (kind, default, text) in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=f"{text} [{default}]")
    return parser.parse_args()
