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
    from plankton_embed.comparison import compare as compare
    from plankton_embed.curation import apply_corrections as apply_corrections
    from plankton_embed.curation import clusters as clusters
    from plankton_embed.curation import suspects as suspects
    from plankton_embed.diagnosis import doctor as doctor
    from plankton_embed.embedding import embed as embed
    from plankton_embed.errors import PlanktonEmbedError as PlanktonEmbedError
    from plankton_embed.evaluation import classify as classify
    from plankton_embed.evaluation import enroll as enroll
    from plankton_embed.evaluation import evaluate as evaluate
    from plankton_embed.exploration import dendrogram as dendrogram
    from plankton_embed.exploration import film as film
    from plankton_embed.exploration import pca as pca
    from plankton_embed.exploration import relations as relations
    from plankton_embed.exploration import taxonomy as taxonomy
    from plankton_embed.exports import export as export
    from plankton_embed.images.catalog import ImageCatalog as ImageCatalog
    from plankton_embed.images.catalog import summarize as summarize
    from plankton_embed.monitoring import shift as shift
    from plankton_embed.network.model import EmbeddingModel as EmbeddingModel
    from plankton_embed.novelty import seen_unseen as seen_unseen
    from plankton_embed.pipeline import catalog as catalog
    from plankton_embed.pipeline import demo as demo
    from plankton_embed.pipeline import index as index
    from plankton_embed.pipeline import run as run
    from plankton_embed.pipeline import search as search
    from plankton_embed.pipeline import train as train
    from plankton_embed.settings import Settings as Settings
    from plankton_embed.surveys import abundance as abundance
    from plankton_embed.table import EmbeddingTable as EmbeddingTable
    from plankton_embed.vector_index import VectorIndex as VectorIndex

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
    "abundance": "surveys",
    "apply_corrections": "curation",
    "catalog": "pipeline",
    "classify": "evaluation",
    "clusters": "curation",
    "compare": "comparison",
    "demo": "pipeline",
    "dendrogram": "exploration",
    "doctor": "diagnosis",
    "embed": "embedding",
    "enroll": "evaluation",
    "evaluate": "evaluation",
    "export": "exports",
    "film": "exploration",
    "highest_losses": "baselines.losses",
    "index": "pipeline",
    "pca": "exploration",
    "read_pixels": "baselines.inputs",
    "relations": "exploration",
    "run": "pipeline",
    "search": "pipeline",
    "seen_unseen": "novelty",
    "shift": "monitoring",
    "summarize": "images.catalog",
    "suspects": "curation",
    "taxonomy": "exploration",
    "train": "pipeline",
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
