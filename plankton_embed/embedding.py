"""From images to an EmbeddingTable."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, is_unknown
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import prepare_batch
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.store import PreparedImages, log_sides
from plankton_embed.images.workers import map_chunks
from plankton_embed.network.inference import Batch
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import Compile, Precision
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)


def embed_source(
    model: EmbeddingModel | str | Path,
    source: ImageCatalog | str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    views: int | None = None,
    batch_size: int | None = None,
    precision: Precision = "auto",
    compile: Compile = "auto",
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingTable:
    """Embed the images of a source; the arguments are those of the command `embed`."""
    if not isinstance(model, EmbeddingModel):
        model = EmbeddingModel.load(model, device)
    catalog = read_source(source, root, status=status)
    paths = catalog.paths
    if any(map(is_unknown, catalog.classes)):
        logger.warning(
            "%s is the label of rejected images, and a class of these images: classify, evaluate, abundance and enroll "
            "refuse such vectors; rename the class first (catalog --class-map)",
            UNKNOWN,
        )
    if not paths:
        raise InputError("there are no images to embed")
    size_inputs = model.network.size_inputs
    pixel_size = catalog.pixel_size if size_inputs == "micrometres" else None
    log_sides(np.ones((len(paths), 2), dtype=int), size_inputs, pixel_size)  # raises if a pixel size is missing
    find_grey_levels(paths, progress, with_colour=False).report_for_model(model.preparation)
    n_at_a_time = model.choose_batch_size(batch_size)
    faults: dict[int, str] = {}

    def prepare() -> Iterator[Batch]:
        at = 0
        work = partial(prepare_batch, settings=model.preparation)
        for pixels, sizes, found in map_chunks(work, paths, n_at_a_time):
            here = slice(at, at + len(pixels))
            faults.update({at + number: why for number, why in found.items()})
            at += len(pixels)
            yield pixels, log_sides(sizes, size_inputs, None if pixel_size is None else pixel_size[here])

    vectors = model.embed_batches(
        prepare(), len(paths), views=views, precision=precision, compile=compile, progress=progress
    )
    if len(faults) == len(paths):
        first = next(iter(faults))
        raise InputError(f"none of the {len(paths)} images can be read; {paths[first]}: {faults[first]}")
    if faults:
        first = next(iter(faults))
        logger.warning("%d of %d images left out, such as %s: %s", len(faults), len(paths), paths[first], faults[first])
    keep = np.ones(len(paths), dtype=bool)
    keep[list(faults)] = False
    return _make_table(model, catalog.select(keep), vectors[keep], {paths[row]: why for row, why in faults.items()})


def embed_prepared(
    model: EmbeddingModel, catalog: ImageCatalog, images: PreparedImages, *, progress: bool = True
) -> EmbeddingTable:
    """Embed prepared images, in the order of the catalog, with the model's own number of views."""
    return _make_table(model, catalog, model.embed_prepared(images, progress=progress), {})


def _make_table(
    model: EmbeddingModel, catalog: ImageCatalog, vectors: NDArray[np.float32], faults: dict[str, str]
) -> EmbeddingTable:
    frame = catalog.frame
    return EmbeddingTable(
        vectors,
        object_id=frame["object_id"].to_numpy(dtype=object),
        label=frame["label"].to_numpy(dtype=object),
        path=frame["path"].to_numpy(dtype=object),
        sample_id=frame["sample_id"].to_numpy(dtype=object) if "sample_id" in frame else None,  # type: ignore[arg-type]
        provenance={**model.provenance, **({"faults": faults} if faults else {})},
    )


class ImageEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A model as a scikit-learn transformer from images to vectors, for example in a `Pipeline` before an SVC.

    Args:
        model: a model, or its folder or hub name.
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
