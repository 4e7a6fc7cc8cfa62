"""ImageEmbedder: a model as a transformer of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import Precision


class ImageEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A model as a scikit-learn transformer from images to vectors, for example in a `Pipeline` before an SVC.

    Args:
        model: a model, or its folder, run, name in `models`, or hub name.
        views: views of each image to average (test-time augmentation): 1, 2, 4 or 8; by default the model's own.
        batch_size: images at a time; by default chosen by their size and the device.
        precision: `auto` (bfloat16 if the device computes fast with it) or `float32`.
        device: where to compute if `model` is a name.

    Attributes:
        model_: the loaded model.
    """

    def __init__(
        self,
        model: EmbeddingModel | str | Path,
        *,
        views: int | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        device: str = "auto",
    ) -> None:
        self.model, self.views, self.device = model, views, device
        self.batch_size, self.precision = batch_size, precision

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the model; the images are not used."""
        self.model_ = (
            self.model if isinstance(self.model, EmbeddingModel) else EmbeddingModel.load(self.model, self.device)
        )
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the vectors (n, d) of n images: paths, PIL images or arrays (see `EmbeddingModel.embed`)."""
        check_is_fitted(self)
        is_text = hasattr(X, "to_numpy") or (isinstance(X, np.ndarray) and X.dtype.kind in "OU")
        images = np.asarray(X, dtype=object).ravel().tolist() if is_text else X
        return self.model_.embed(images, views=self.views, batch_size=self.batch_size, precision=self.precision)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return `v0`, `v1`, …, the column names in files of vectors."""
        check_is_fitted(self)
        return np.array([f"v{number}" for number in range(self.model_.dimension)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = False, True
        tags.no_validation, tags.requires_fit = True, True  # the model checks every image
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags
