"""Plankton images as points in a space where distance means likeness."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plankton_embed.baselines.convnets import FourConvNet as FourConvNet
    from plankton_embed.baselines.convnets import LeNet as LeNet
    from plankton_embed.baselines.convnets import SmallNet as SmallNet
    from plankton_embed.baselines.fine_tuned import FineTunedNet as FineTunedNet
    from plankton_embed.baselines.inputs import read_pixels as read_pixels
    from plankton_embed.baselines.losses import highest_losses as highest_losses
    from plankton_embed.baselines.losses import write_highest_losses as write_highest_losses
    from plankton_embed.baselines.pixels import PixelMLP as PixelMLP
    from plankton_embed.baselines.tabular import BoostedTreesClassifier as BoostedTreesClassifier
    from plankton_embed.baselines.tabular import EmbeddingAndFeaturesClassifier as EmbeddingAndFeaturesClassifier
    from plankton_embed.classifiers.centroid import NearestCentroidClassifier as NearestCentroidClassifier
    from plankton_embed.classifiers.mlp import MLPClassifier as MLPClassifier
    from plankton_embed.classifiers.neighbors import NeighborsClassifier as NeighborsClassifier
    from plankton_embed.errors import PlanktonEmbedError as PlanktonEmbedError
    from plankton_embed.images.catalog import ImageCatalog as ImageCatalog
    from plankton_embed.images.catalog_summary import summarize as summarize
    from plankton_embed.network.model import EmbeddingModel as EmbeddingModel
    from plankton_embed.settings import Settings as Settings
    from plankton_embed.table import EmbeddingTable as EmbeddingTable
    from plankton_embed.vector_index import VectorIndex as VectorIndex
    from plankton_embed.workflows.abundance import abundance as abundance
    from plankton_embed.workflows.analogy import analogy as analogy
    from plankton_embed.workflows.apply_corrections import apply_corrections as apply_corrections
    from plankton_embed.workflows.catalog import catalog as catalog
    from plankton_embed.workflows.classify import classify as classify
    from plankton_embed.workflows.clusters import clusters as clusters
    from plankton_embed.workflows.compare import compare as compare
    from plankton_embed.workflows.dendrogram import dendrogram as dendrogram
    from plankton_embed.workflows.doctor import doctor as doctor
    from plankton_embed.workflows.embed import embed as embed
    from plankton_embed.workflows.enroll import enroll as enroll
    from plankton_embed.workflows.evaluate import evaluate as evaluate
    from plankton_embed.workflows.export import export as export
    from plankton_embed.workflows.film import film as film
    from plankton_embed.workflows.index import index as index
    from plankton_embed.workflows.pca import pca as pca
    from plankton_embed.workflows.relations import relations as relations
    from plankton_embed.workflows.run import demo as demo
    from plankton_embed.workflows.run import run as run
    from plankton_embed.workflows.run import train as train
    from plankton_embed.workflows.search import search as search
    from plankton_embed.workflows.seen_unseen import seen_unseen as seen_unseen
    from plankton_embed.workflows.shift import shift as shift
    from plankton_embed.workflows.suspects import suspects as suspects
    from plankton_embed.workflows.taxonomy import taxonomy as taxonomy

__version__ = "0.1.0"

_HOME = {
    "BoostedTreesClassifier": "baselines.tabular",
    "EmbeddingAndFeaturesClassifier": "baselines.tabular",
    "EmbeddingModel": "network.model",
    "EmbeddingTable": "table",
    "FineTunedNet": "baselines.fine_tuned",
    "FourConvNet": "baselines.convnets",
    "ImageCatalog": "images.catalog",
    "LeNet": "baselines.convnets",
    "MLPClassifier": "classifiers.mlp",
    "NearestCentroidClassifier": "classifiers.centroid",
    "NeighborsClassifier": "classifiers.neighbors",
    "PixelMLP": "baselines.pixels",
    "PlanktonEmbedError": "errors",
    "Settings": "settings",
    "SmallNet": "baselines.convnets",
    "VectorIndex": "vector_index",
    "abundance": "workflows.abundance",
    "analogy": "workflows.analogy",
    "apply_corrections": "workflows.apply_corrections",
    "catalog": "workflows.catalog",
    "classify": "workflows.classify",
    "clusters": "workflows.clusters",
    "compare": "workflows.compare",
    "demo": "workflows.run",
    "dendrogram": "workflows.dendrogram",
    "doctor": "workflows.doctor",
    "embed": "workflows.embed",
    "enroll": "workflows.enroll",
    "evaluate": "workflows.evaluate",
    "export": "workflows.export",
    "film": "workflows.film",
    "highest_losses": "baselines.losses",
    "index": "workflows.index",
    "pca": "workflows.pca",
    "read_pixels": "baselines.inputs",
    "relations": "workflows.relations",
    "run": "workflows.run",
    "search": "workflows.search",
    "seen_unseen": "workflows.seen_unseen",
    "shift": "workflows.shift",
    "summarize": "images.catalog_summary",
    "suspects": "workflows.suspects",
    "taxonomy": "workflows.taxonomy",
    "train": "workflows.run",
    "write_highest_losses": "baselines.losses",
}

__all__ = [*_HOME, "__version__"]  # noqa: PLE0604  (names, all of them text)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
