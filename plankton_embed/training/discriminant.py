"""The head of a frozen trunk, computed in one step: linear discriminant analysis of the trunk's features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.covariance import ledoit_wolf_shrinkage

from plankton_embed.images.store import PreparedImages
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.table import class_means


def fit_head(
    model: EmbeddingModel, images: PreparedImages, class_index: NDArray[np.integer], progress: bool = True
) -> None:
    """Compute the head of a model from its training images; the trunk stays as it is.

    Args:
        model: the model, on its device.
        images: prepared training images.
        class_index: (n,) class code of each, 0 … C-1.
        progress: show a bar.
    """
    weight, bias = find_discriminants(model.extract_features(images, progress), class_index, model.dimension)
    with torch.no_grad():
        model.net.head.weight.copy_(torch.from_numpy(weight))
        model.net.head.bias.copy_(torch.from_numpy(bias))


def find_discriminants(
    features: NDArray[np.floating], class_index: NDArray[np.integer], dimension: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight (d, features) and bias (d,) that map features to discriminants, those of most variance first.

    In this space the classes have, on average, unit covariance, and their means are centred and as far apart as they
    can be. The covariance within classes is shrunk (Ledoit & Wolf 2004). C classes have C - 1 discriminants; further
    dimensions are 0.

    Args:
        features: (n, features).
        class_index: (n,) class code of each, 0 … C-1.
        dimension: d.
    """
    values, codes = features.astype(np.float64), class_index.astype(np.intp)
    means = class_means(values, codes)
    within = values - means[codes]
    covariance = np.eye(values.shape[1])
    if spread := (within**2).mean():  # else each class is one point
        shrinkage = ledoit_wolf_shrinkage(within, assume_centered=True)
        covariance = (1 - shrinkage) * within.T @ within / len(within) + shrinkage * spread * covariance
    center = means.mean(axis=0)
    between = (means - center).T @ (means - center)
    n_found = min(dimension, len(means) - 1)
    _, directions = eigh(between, covariance, subset_by_index=(len(covariance) - n_found, len(covariance) - 1))
    weight = np.zeros((dimension, len(covariance)))
    weight[:n_found] = directions[:, ::-1].T
    return weight, -weight @ center
