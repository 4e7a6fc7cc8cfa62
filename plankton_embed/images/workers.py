"""Work on many images at a time, on all cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from plankton_embed.output import progress_bar

S = TypeVar("S")
T = TypeVar("T")

MANY = 5000  # image files from which processes repay their start, a second or two
CHUNK = 64  # images that a thread or process works on at a time


def map_chunks(work: Callable[[Sequence[S]], T], items: Sequence[S], size: int | None = None) -> Iterator[T]:
    """Yield `work(chunk)` of every chunk of the items, in order, working only a few chunks ahead of the caller.

    Many image files (paths) are worked on in processes: threads of one process wait for one
    another, because Python runs one at a time except while Pillow decodes.

    Args:
        work: a function of some of the items; for processes it and its results are pickled.
        items: paths or images.
        size: items in a chunk; by default CHUNK.
    """
    size = size or CHUNK
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    if len(items) >= MANY and isinstance(items[0], str):
        from joblib import Parallel, delayed  # slow to import

        yield from Parallel(-1, return_as="generator", pre_dispatch="2 * n_jobs")(map(delayed(work), chunks))
        return
    n_threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(n_threads)
    ahead: deque[Future[T]] = deque()
    try:
        for chunk in chunks:
            ahead.append(pool.submit(work, chunk))
            if len(ahead) > 2 * n_threads:
                yield ahead.popleft().result()
        yield from (part.result() for part in ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def map_images(function: Callable[[S], T], paths: Sequence[S], title: str, progress: bool = True) -> list[T]:
    """Apply a function to every path (or image) on all cores; return the results in order."""
    results: list[T] = []
    with progress_bar(len(paths), title, "image", shown=progress) as bar:
        for part in map_chunks(partial(_apply, function), paths):
            results.extend(part)
            bar.update(len(part))
    return results


def _apply(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    return [function(item) for item in items]
