"""The head of a frozen trunk, computed in one step: linear discriminant analysis of the trunk's features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh, null_space, solve_triangular
from sklearn.covariance import ledoit_wolf_shrinkage

from plankton_embed.images.balance import draw_evenly
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.table import class_means
from plankton_embed.training.trainer import LEAST_STATISTICS, adapt_statistics

MOST_IMAGES = 50_000  # used to compute a head, so that their features fit into memory
LEAST_SHRINKAGE = 1e-6  # so that the covariance within classes can be inverted, whatever the features
REST_SCALE = 0.6  # of the dimensions beyond the discriminants: with more, kNN is worse; with less, enrolled classes are


def fit_head(
    model: EmbeddingModel, images: PreparedImages, class_index: NDArray[np.integer], progress: bool = True
) -> NDArray[np.float32]:
    """Compute the head of a model from its training images, and return their vectors; the trunk's weights stay.

    First the batch norms of the trunk are adapted to the training images (see `trainer.adapt_statistics`). Of more than
    `MOST_IMAGES` the head is computed from some, as nearly equally many of each class as possible.

    Args:
        model: the model, on its device.
        images: prepared training images.
        class_index: (n,) class code of each, 0 … C-1; -1 for images without a label, which are only embedded.
        progress: show a bar.

    Returns:
        float32 (n, d).
    """
    labelled = np.flatnonzero(class_index >= 0)
    if len(labelled) >= LEAST_STATISTICS:
        adapt_statistics(model, images.select(labelled))
    used = labelled[draw_evenly(class_index[labelled], MOST_IMAGES, np.random.default_rng(0))]
    features = model.extract_features(images.select(used), progress)
    weight, bias = find_discriminants(features.mean(axis=1), class_index[used], model.dimension)
    with torch.no_grad():
        model.net.head.weight.copy_(torch.from_numpy(weight))
        model.net.head.bias.copy_(torch.from_numpy(bias))
    vectors = np.empty((len(images), model.dimension), np.float32)
    vectors[used] = model.embed_features(features)
    others = np.setdiff1d(np.arange(len(images)), used)
    vectors[others] = model.embed_prepared(images.select(others), progress=progress)
    return vectors


def find_discriminants(
    features: NDArray[np.floating], class_index: NDArray[np.integer], dimension: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight (d, features) and bias (d,) that map features to discriminants, those of most variance first.

    In this space the classes have, on average, unit covariance, and their means are centred and as far apart as they
    can be. The covariance within classes is shrunk (Ledoit & Wolf 2004). C classes have C - 1 discriminants. Further
    dimensions are the directions in which the features vary most beside them, with a covariance of `REST_SCALE`²: in
    them, images of other classes may differ from these. Where there are fewer features than dimensions, the last are 0.

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
        shrinkage = max(ledoit_wolf_shrinkage(within, assume_centered=True), LEAST_SHRINKAGE)
        covariance = (1 - shrinkage) * within.T @ within / len(within) + shrinkage * spread * covariance
    center = means.mean(axis=0)
    between = (means - center).T @ (means - center)
    n_features = len(covariance)
    n_found = min(dimension, len(means) - 1, n_features)
    _, directions = eigh(between, covariance, subset_by_index=(n_features - n_found, n_features - 1))
    weight = np.zeros((dimension, n_features))
    weight[:n_found] = directions[:, ::-1].T
    n_rest = min(dimension, n_features) - n_found
    if n_rest > 0:
        root = np.linalg.cholesky(covariance)
        white = solve_triangular(root, (values - center).T, lower=True)  # features of unit covariance within classes
        beside = null_space((root.T @ directions).T)
        others = beside.T @ white
        _, rest = eigh(others @ others.T, subset_by_index=(len(others) - n_rest, len(others) - 1))
        rest = solve_triangular(root, beside @ rest[:, ::-1], trans=1, lower=True)
        weight[n_found : n_found + n_rest] = REST_SCALE * rest.T
    return weight, -weight @ center
