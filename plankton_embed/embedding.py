"""From images to an EmbeddingTable."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, is_unknown
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import prepare_image
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.store import PreparedImages, log_sides
from plankton_embed.network.model import BATCH_SIZE, EmbeddingModel
from plankton_embed.output import progress_bar
from plankton_embed.table import EmbeddingTable

logger = logging.getLogger(__name__)


def embed_source(
    model: EmbeddingModel | str | Path,
    source: ImageCatalog | str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    views: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingTable:
    """Return the vectors of the images of a source; the arguments are those of the command `embed`, which writes."""
    if not isinstance(model, EmbeddingModel):
        model = EmbeddingModel.load(model, device)
    catalog = read_source(source, root, status=status)
    paths = catalog.paths
    if any(map(is_unknown, catalog.classes)):
        logger.warning(
            "%s is the label of rejected images, and a class here: classify, evaluate, abundance and enroll refuse "
            "such vectors; rename the class first (catalog --class-map)",
            UNKNOWN,
        )
    if not paths:
        raise InputError("there is no image to embed")
    size_inputs = model.network.size_inputs
    pixel_size = catalog.pixel_size if size_inputs == "micrometres" else None
    log_sides(np.ones((len(paths), 2), dtype=int), size_inputs, pixel_size)  # raises where one is missing
    find_grey_levels(paths, progress, with_colour=False).report_for_model(model.preparation)
    vectors = np.empty((len(paths), model.dimension), dtype=np.float32)
    faults: dict[int, str] = {}
    with progress_bar(len(paths), "embedding", "image", shown=progress) as bar:
        for start, results in _prepare_batches(model, paths, batch_size):
            faults.update({row: result for row, result in enumerate(results, start) if isinstance(result, str)})
            prepared = {row: result for row, result in enumerate(results, start) if not isinstance(result, str)}
            if prepared:
                rows = list(prepared)
                sizes = np.array([size for _, size in prepared.values()])
                sides = log_sides(sizes, size_inputs, None if pixel_size is None else pixel_size[rows])
                pixels = np.stack([square for square, _ in prepared.values()])
                vectors[rows] = model.embed_pixels(pixels, sides, views=views)
            bar.update(len(results))
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
    """Embed images that are prepared already, row by row those of the catalog, with the model's own views."""
    return _make_table(model, catalog, model.embed_prepared(images, progress=progress), {})


def _prepare_batches(
    model: EmbeddingModel, paths: Sequence[str], batch_size: int
) -> Iterator[tuple[int, list[tuple[NDArray[np.uint8], tuple[int, int]] | str]]]:
    """Yield batches of squares with their first sizes, or the reason why not; one is read while another is embedded."""

    def prepare(path: str) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
        try:
            square, _, size = prepare_image(path, model.preparation)
        except InputError as error:
            return str(error)
        return square, size

    starts = range(0, len(paths), batch_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        upcoming = [pool.submit(prepare, path) for path in paths[:batch_size]]
        for start in starts:
            current = upcoming
            upcoming = [pool.submit(prepare, p) for p in paths[start + batch_size : start + 2 * batch_size]]
            yield start, [future.result() for future in current]


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
        batch_size: images at a time.
        device: device of the model, if `model` is a folder or a name.

    Attributes:
        model_: the model, loaded.
    """

    def __init__(
        self,
        model: EmbeddingModel | str | Path,
        *,
        views: int | None = None,
        batch_size: int = BATCH_SIZE,
        device: str = "auto",
    ) -> None:
        self.model, self.views, self.batch_size, self.device = model, views, batch_size, device

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
        return self.model_.embed(images, views=self.views, batch_size=self.batch_size)

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
