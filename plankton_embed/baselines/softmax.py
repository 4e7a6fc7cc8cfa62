"""A softmax classifier on the trunk of an embedding, trained in the same way with cross-entropy as the loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.embedding_net import EmbeddingNet, build_net
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.objectives import Objective
from plankton_embed.training.trainer import Validation, train_model


class SoftmaxNet(EmbeddingNet):
    """The trunk, and one linear layer that returns a score for each class (b, C)."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.output = "scores"

    def scale_output(self, vectors: Tensor) -> Tensor:
        """Leave the scores as they are."""
        return vectors


class CrossEntropy(Objective):
    """Softmax cross-entropy of scores (b, C)."""

    def forward(self, vectors: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
        """See `Objective`."""
        return functional.cross_entropy(vectors, labels)


def train_softmax(
    images: PreparedImages,
    class_index: NDArray[np.integer],
    validation: tuple[PreparedImages, NDArray[np.integer]] | None,
    settings: Settings,
    run: RunFolder,
    *,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingModel:
    """Train a softmax classifier as an embedding is trained; it too keeps the best epoch by `training.choose_by`.

    Trunk, first weights, batches, augmentation, optimizer, schedule and time limit are those of the embedding with the
    same settings and seed. A linear layer to the classes and cross-entropy replace the layer to the space and the
    objective. Training continues from the states in `run`.

    Args:
        images: prepared training images.
        class_index: (n,) class code of each, 0 … C-1.
        validation: prepared images and their class codes; None: the last epoch is kept.
        settings: as for an embedding; `objective`, `stop_on_collapse` and the dimension are not used.
        run: where states, weights and history go.
        device: `auto`, `cpu`, `cuda`, `mps`.
        progress: show bars.

    Returns:
        A model whose vectors are the scores (n, C) before the softmax, averaged over `embedding.views`.
    """
    network = settings.network.model_copy(update={"dimension": int(np.max(class_index)) + 1})
    training = settings.training.model_copy(update={"stop_on_collapse": False})  # a rule for vectors, not for scores
    net = build_net(network, settings.seed, settings.preparation.target_size, kind=SoftmaxNet)
    model = EmbeddingModel(net, network, settings.preparation).to(device)
    model.views = settings.embedding.views

    def validate(model: EmbeddingModel, images: PreparedImages, codes: NDArray[np.integer]) -> Validation:
        scores = model.embed_prepared(images, precision=training.precision, views=1)
        metrics = score_predictions(codes, scores.argmax(axis=1), n_bootstrap=0).metrics
        accuracy = metrics["accuracy"]
        return Validation(scores, codes, accuracy, accuracy, metrics[training.choose_by])

    train_model(
        model,
        images,
        class_index,
        settings.model_copy(update={"training": training}),
        run,
        validate=None if validation is None else partial(validate, images=validation[0], codes=validation[1]),
        objective=CrossEntropy(),
        progress=progress,
    )
    return model
