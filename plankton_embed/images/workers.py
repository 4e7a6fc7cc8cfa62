"""Work on many images at a time, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from plankton_embed.errors import PlanktonEmbedError, SettingError
from plankton_embed.output import progress_bar

S = TypeVar("S")
T = TypeVar("T")

MANY = 5000  # image files from which processes repay their start, a second or two
CHUNK = 64  # images that a thread or process works on at a time
CORES = "PLANKTON_EMBED_CORES"  # environment variable: cores of this process
OWN_PROCESS = os.getpid()  # a copy of this process, made by os.fork, has another


def count_cores() -> int:
    """Return the number of cores that this process may use, which on a shared machine may be fewer than there are.

    The environment variable PLANKTON_EMBED_CORES, if it is set, is this number.

    Raises:
        SettingError: it is not a number above 0.
    """
    if given := os.environ.get(CORES):
        if not given.isdecimal() or not int(given):
            raise SettingError(f"environment variable {CORES}: expected a number of cores, at least 1; found {given!r}")
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_chunks(
    work: Callable[[Sequence[S]], T], items: Sequence[S], size: int | None = None, many: int | None = None
) -> Iterator[T]:
    """Yield `work(chunk)` of every chunk of the items, in order, working only a few chunks ahead of the caller.

    Many items are worked on in processes: threads of one process wait for one another, because Python runs one at a
    time except while Pillow decodes. A process that another one started works in threads (the user has shared the
    cores out already), and so does one on a single core.

    Args:
        work: a function of some of the items; for processes it and its results are pickled.
        items: paths, images or what `work` takes.
        size: items in a chunk; by default CHUNK.
        many: number of items from which processes repay their start; by default MANY of paths, and no number of
            images in memory.

    Raises:
        PlanktonEmbedError: a process was ended from outside.
    """
    size, n_workers = size or CHUNK, count_cores()
    if many is None and len(items) and isinstance(items[0], str):
        many = MANY
    is_many = many is not None and len(items) >= many and n_workers > 1 and _may_start_processes()
    executor = _start_processes(n_workers) if is_many else ThreadPoolExecutor(n_workers)
    work = partial(_work_in, Path.cwd(), work) if is_many else work
    ahead: deque[Future[T]] = deque()
    try:
        for start in range(0, len(items), size):
            ahead.append(executor.submit(work, items[start : start + size]))
            if len(ahead) > 2 * n_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenExecutor as error:
        raise PlanktonEmbedError(
            "a process that works on images was ended from outside, most often because the memory is full; end other "
            "programs and run it again"
        ) from error
    finally:
        for part in ahead:
            part.cancel()
        if not is_many:
            executor.shutdown()


def _start_processes(n_workers: int) -> Executor:
    """Return processes that start anew on every system, and are used again by the next call."""
    from loky import get_reusable_executor  # slow to import

    return get_reusable_executor(n_workers)  # type: ignore[no-any-return]


def _may_start_processes() -> bool:
    """Tell whether no other process started this one, and its output is open: loky cannot work with it closed."""
    was_started_by_another = os.getpid() != OWN_PROCESS or multiprocessing.parent_process() is not None
    return not was_started_by_another and sys.stdout is not None and sys.stderr is not None


def _work_in(folder: Path, work: Callable[[Sequence[S]], T], items: Sequence[S]) -> T:
    """Work in the current folder of the caller, which may have changed since the process was started."""
    os.chdir(folder)
    return work(items)


def map_images(
    function: Callable[[S], T], paths: Sequence[S], title: str, progress: bool = True, many: int | None = None
) -> list[T]:
    """Apply a function to every path (or image) on all cores; return the results in order; many: see `map_chunks`."""
    results: list[T] = []
    with progress_bar(len(paths), title, "image", shown=progress) as bar:
        for part in map_chunks(partial(_apply, function), paths, many=many):
            results.extend(part)
            bar.update(len(part))
    return results


def _apply(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    return [function(item) for item in items]
