"""From images to an EmbeddingTable."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, is_unknown
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import SHARE_DARK, prepare_batch, share_dark
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.store import PreparedImages, log_sides
from plankton_embed.images.workers import map_chunks
from plankton_embed.network.batches import Batch
from plankton_embed.network.device import resolve_precision
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import Compile, Precision
from plankton_embed.table import SEEN, UNKNOWN_START, EmbeddingTable

FAR_SHARE = 0.5  # a larger difference between the shares of images with a dark background gives a warning

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
    allow_empty: bool = False,
) -> EmbeddingTable:
    """Embed the images of a source; the arguments are those of the command `embed`.

    `allow_empty`: if no image can be read, return a table without rows instead of an error.
    """
    if not isinstance(model, EmbeddingModel):
        model = EmbeddingModel.load(model, device)
    model.check_options(views, precision, compile)
    n_at_a_time = model.choose_batch_size(batch_size)
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
    faults: dict[int, str] = {}
    hashes: list[str | None] = []
    n_dark, knows_polarity = 0.0, SHARE_DARK in model.training and model.preparation.background == "border"

    def prepare() -> Iterator[Batch]:
        nonlocal n_dark
        at = 0
        work = partial(prepare_batch, settings=model.preparation, with_hashes=len(model.seen) > 0)
        for batch in map_chunks(work, paths, n_at_a_time):
            here = slice(at, at + len(batch.size))
            faults.update({at + position: why for position, why in batch.faults.items()})
            hashes.extend(batch.hashes)
            if knows_polarity:  # the squares of faults are black, and count as dark
                n_dark += share_dark(batch.pixels, batch.background) * len(batch.pixels) - len(batch.faults)
            at = here.stop
            yield batch.pixels, log_sides(batch.size, size_inputs, None if pixel_size is None else pixel_size[here])

    vectors = model.embed_batches(prepare(), len(paths), n_at_a_time, views, precision, compile, progress)
    if len(faults) == len(paths) and not allow_empty:
        first = next(iter(faults))
        raise InputError(f"none of the {len(paths)} images can be read; {paths[first]}: {faults[first]}")
    if faults:
        first = next(iter(faults))
        logger.warning("%d of %d images left out, such as %s: %s", len(faults), len(paths), paths[first], faults[first])
    if knows_polarity and len(faults) < len(paths):
        _compare_polarity(n_dark / (len(paths) - len(faults)), model.training[SHARE_DARK])
    keep = np.ones(len(paths), dtype=bool)
    keep[list(faults)] = False
    how: dict[str, Any] = {"precision": resolve_precision(model.device, precision)}
    if faults:
        how["faults"] = {paths[row]: why for row, why in faults.items()}
    return _make_table(model, catalog.select(keep), vectors[keep], how, [text for text in hashes if text])


def _compare_polarity(share: float, trained: float) -> None:
    """Warn if the share of images with a dark background is far from that of the training images."""
    if abs(share - trained) >= FAR_SHARE:
        logger.warning(
            "%.0f %% of these images have a dark background, but %.0f %% of the training images of the model, so its "
            "vectors separate these images poorly; invert the images, or train a model with --set "
            "preparation.polarity=dark_on_light",
            *(100 * share, 100 * trained),
        )


def embed_prepared(
    model: EmbeddingModel,
    catalog: ImageCatalog,
    images: PreparedImages,
    *,
    vectors: NDArray[np.float32] | None = None,
    hashes: Sequence[str] = (),
    progress: bool = True,
) -> EmbeddingTable:
    """Embed prepared images, in the order of the catalog, with the model's own number of views.

    Args:
        model: the model.
        catalog: the images.
        images: their prepared pixels.
        vectors: (n, d) their vectors, where they are known; by default they are computed.
        hashes: the content hash of each image (see `catalog.content_hashes`), to mark those that the model was trained
            on in the column `seen`; by default none is marked.
        progress: show a bar.
    """
    if vectors is None:
        vectors = model.embed_prepared(images, progress=progress)
    return _make_table(model, catalog, vectors, {"precision": resolve_precision(model.device, "auto")}, hashes)


def _make_table(
    model: EmbeddingModel,
    catalog: ImageCatalog,
    vectors: NDArray[np.float32],
    how: dict[str, Any],
    hashes: Sequence[str],
) -> EmbeddingTable:
    frame = catalog.frame
    seen = model.has_seen(hashes)
    return EmbeddingTable(
        vectors,
        object_id=frame["object_id"].to_numpy(dtype=object),
        label=frame["label"].to_numpy(dtype=object),
        path=frame["path"].to_numpy(dtype=object),
        sample_id=frame["sample_id"].to_numpy(dtype=object) if "sample_id" in frame else None,  # type: ignore[arg-type]
        provenance={**model.provenance, **how, **({UNKNOWN_START: True} if model.training.get(UNKNOWN_START) else {})},
        columns={SEEN: seen} if seen.any() else {},
    )
