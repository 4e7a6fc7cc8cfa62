"""Batches of prepared images, from a list of images; without torch, so that `OnnxEmbedder` does not load it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import ImageSource, prepare_image
from plankton_embed.images.store import log_sides
from plankton_embed.settings import PreparationSettings, SizeInputs

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]  # prepared pixels, and the logarithms of side lengths

CPU_PIXELS = 16 * 299**2  # of a batch on a CPU; more no longer fit its cache
LEAST_BATCH, MOST_ON_CPU = 16, 64


def prepare_list(
    images: Sequence[ImageSource] | NDArray[Any],
    preparation: PreparationSettings,
    size_inputs: SizeInputs,
    pixel_size: float | NDArray[np.floating] | None,
    batch_size: int,
) -> Iterator[Batch]:
    """Yield the batches of a list of images; images and pixel sizes are as in `EmbeddingModel.embed`.

    Raises:
        InputError: at once if it is a single image, or the pixel sizes are of another number of images; while batches
            are read if an image cannot be read (the message has its number), or has no pixel size and needs one.
    """
    one_array = isinstance(images, np.ndarray) and (images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 3))
    if one_array or isinstance(images, str | bytes | Path) or not hasattr(images, "__len__"):
        raise InputError(f"expected a list of images, found one {type(images).__name__}; pass [image]")
    scale = None if pixel_size is None else np.asarray(pixel_size, dtype=float)
    if scale is not None and scale.shape not in ((), (len(images),)):
        raise InputError(f"pixel_size: expected one number, or {len(images)}; found shape {scale.shape}")
    scale = None if scale is None else np.broadcast_to(scale, len(images))
    if not isinstance(images, np.ndarray) or images.dtype == np.uint16:
        find_grey_levels([*images], progress=False, with_colour=False).report_for_model(preparation)

    def prepare(at: slice) -> Batch:
        squares, sizes = [], []
        for number in range(at.start, at.stop):
            try:
                square, _, size = prepare_image(images[number], preparation)
            except InputError as error:
                raise InputError(f"image {number}: {error}") from error
            squares.append(square)
            sizes.append(size)
        return np.stack(squares), log_sides(np.array(sizes), size_inputs, None if scale is None else scale[at])

    return read_ahead(prepare, len(images), batch_size)


def read_ahead(read: Callable[[slice], Batch], n: int, batch_size: int) -> Iterator[Batch]:
    """Yield the batches of n images, which `read` reads, each while the network computes the one before it."""
    slices = [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
    with ThreadPoolExecutor(1) as reader:
        upcoming = [reader.submit(read, at) for at in slices[:1]]
        for number in range(1, len(slices) + 1):
            batch = upcoming.pop().result()
            upcoming += [reader.submit(read, at) for at in slices[number : number + 1]]
            yield batch


def choose_cpu_batch_size(side: int, given: int | None = None) -> int:
    """Return how many square images of this side a CPU embeds at a time: the given number, or one that is fast.

    Raises:
        SettingError: the given number is under 1.
    """
    if given is not None and given < 1:
        raise SettingError(f"batch_size: expected at least 1; found {given}")
    return given or int(np.clip(CPU_PIXELS // side**2, LEAST_BATCH, MOST_ON_CPU))


def fill_up(array: NDArray[Any], n: int) -> NDArray[Any]:
    """Repeat the last image of a batch until there are n."""
    return np.concatenate([array, np.repeat(array[-1:], n - len(array), axis=0)]) if len(array) < n else array
