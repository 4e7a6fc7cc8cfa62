"""Works on the parts of a job, here or on the machines of a Ray cluster (the only file that imports ray)."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from plankton_embed.errors import PlanktonEmbedError, SettingError, needs_extra
from plankton_embed.images.workers import CORES
from plankton_embed.jobs import Engine, Job, PartDone, WarningCounts, Work, do_part, wait_for, work_here
from plankton_embed.output import progress_bar

logger = logging.getLogger(__name__)

MOST_CORES = 4  # of a worker without a GPU: fewer, larger workers need less memory, more cores wait for each other
MOST_ATTEMPTS = 4  # workers that end while they work on the same part
PATIENCE = 60.0  # seconds without any worker, after which that is reported
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # where Ray notes the address of the cluster of a machine
Nodes = Sequence[Mapping[str, float]]  # the resources of each machine, `CPU` and `GPU`
Part = tuple[int, Any]  # number and content


def run_job(
    job: Job,
    work: Work,
    read_parts: Callable[[Sequence[int]], Iterable[tuple[int, Any]]],
    sizes: Sequence[int],
    title: str,
    *,
    engine: Engine = "local",
    address: str | None = None,
    n_workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> None:
    """Work on the parts of a job that are missing.

    Args:
        job: the job.
        work: what is done with each part.
        read_parts: returns the parts with these numbers, each with its number.
        sizes: images of each part.
        title: title of the progress bar.
        engine: `local`, one part after the other in this process, or `ray`.
        address: of the Ray cluster; by default the one of this machine, else a new one of this machine alone.
        n_workers: processes of Ray; by default one for each GPU, else one for each four cores of a machine.
        device: where to compute: `auto`, `cpu`, `cuda` or `mps`.
        progress: show a bar.

    Raises:
        SettingError: the cluster has no GPU, or fewer cores than workers.
        DependencyError: Ray is not installed.
        PlanktonEmbedError: the cluster cannot be reached, its workers cannot start, or they end again and again.
    """
    if not (missing := job.missing()):
        logger.info("%s: all %d parts are there", job.folder, job.n_parts)
        return
    n_todo = sum(sizes[number] for number in missing)
    if len(missing) < job.n_parts:
        logger.info("%s: %d of %d parts are there", job.folder, job.n_parts - len(missing), job.n_parts)
    warnings, parts = WarningCounts(), iter(read_parts(missing))
    if engine == "local":
        done = work_here(work, parts, job, device)
    else:
        done = _work_on_ray(work, parts, job, address, n_workers, device)
    with progress_bar(n_todo, title, "image", shown=progress, done=sum(sizes) - n_todo) as bar:
        for part in done:
            warnings.log(part)
            bar.update(sizes[part.number])
    warnings.log_rest()


def plan_workers(nodes: Nodes, n_workers: int | None, device: str) -> tuple[int, int, float]:
    """Return the number of workers, and the cores and GPUs of each.

    Args:
        nodes: the machines.
        n_workers: as in `run_job`.
        device: `auto` uses the GPUs if there are any.

    Raises:
        SettingError: there are not so many cores, or no GPU.
    """
    if n_workers is not None and n_workers < 1:
        raise SettingError(f"n_workers (--workers): expected at least 1; found {n_workers}")
    n_gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if device == "cuda" and not n_gpus:
        raise SettingError("device: expected a cluster with GPUs; found none; give --device auto or cpu")
    if n_gpus and device in ("auto", "cuda"):
        used = [(int(node.get("CPU", 0)), int(node["GPU"])) for node in nodes if node.get("GPU", 0) >= 1]
        per_gpu = 1 if n_workers is None else max(1, -(-n_workers // n_gpus))  # workers that share one
        cores = max(1, min(n // (gpus * per_gpu) for n, gpus in used))
        return n_workers or n_gpus, cores, 1 / per_gpu
    counts = [int(node.get("CPU", 0)) for node in nodes]
    if n_workers is None:
        cores = max(1, min(MOST_CORES, max(counts, default=0)))
        return max(1, sum(n // cores for n in counts)), cores, 0.0
    if sum(counts) < n_workers:
        raise SettingError(
            f"n_workers (--workers): expected at most one for each of {sum(counts)} cores; found {n_workers}"
        )
    cores = next(c for c in range(sum(counts) // n_workers, 0, -1) if sum(n // c for n in counts) >= n_workers)
    return n_workers, cores, 0.0


class _Worker:
    """A process of Ray that works on one part at a time; its model stays in memory."""

    def __init__(self, work: Work, n_cores: int, device: str) -> None:
        os.environ[CORES] = str(n_cores)  # of the machine that this runs on
        work.start(device)
        self._work = work

    def ready(self) -> None:
        """Return when the worker has started."""

    def do(self, number: int, part: Any, job: Job) -> PartDone:
        """Work on a part."""
        return do_part(self._work, number, part, job)


def _work_on_ray(
    work: Work, parts: Iterator[Part], job: Job, address: str | None, n_workers: int | None, device: str
) -> Iterator[PartDone]:
    """Work on parts in the processes of Ray; yield each when it is written.

    A worker is given a part when it is idle, so that its part can be given to another if the process or the machine
    ends. A new worker is started in its place, where there is room.
    """
    with needs_extra("--engine ray", "scale"):
        import ray
    with _connect(ray, address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n, n_cores, n_gpus = plan_workers(nodes, n_workers, device)
        logger.info("Ray: %d workers of %d cores and %g GPUs, on %d machines", n, n_cores, n_gpus, len(nodes))
        device = "cuda" if n_gpus else "cpu" if device == "auto" else device
        kind = ray.remote(num_cpus=n_cores, num_gpus=n_gpus, max_restarts=0)(_Worker)
        pool = _Pool(ray, kind, (ray.put(work), n_cores, device))
        try:
            yield from _share_out(pool, parts, replace(job, folder=job.folder.absolute()), n)
        finally:
            pool.end()


class _Pool:
    """The workers of Ray: `idle`, and `busy` ones with their part, by the promise of Ray (a part None: it starts)."""

    def __init__(self, ray: Any, kind: Any, arguments: tuple[Any, ...]) -> None:
        self.ray, self.has_started = ray, False
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Part | None]] = {}
        self._kind, self._arguments = kind, arguments

    def start(self) -> None:
        """Start a worker, as soon as there is room for it."""
        worker = self._kind.remote(*self._arguments)
        self.busy[worker.ready.remote()] = worker, None

    def give(self, part: Part, job: Job) -> None:
        """Give a part to an idle worker."""
        worker = self.idle.pop()
        self.busy[worker.do.remote(*part, job)] = worker, part

    def wait(self) -> tuple[Part | None, PartDone | Exception | None]:
        """Wait for a worker: return its part, and what it has done, or the error by which it has ended."""
        finished: list[Any] = []
        while not finished:
            finished, _ = self.ray.wait(list(self.busy), num_returns=1, timeout=PATIENCE)
            if not (finished or self.has_started):
                logger.warning("Ray: waiting for workers to start: the cluster is busy, or slow")
        worker, part = self.busy.pop(finished[0])
        try:
            done: PartDone | None = self.ray.get(finished[0])
        except self.ray.exceptions.RayTaskError as error:  # of the work itself
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        except self.ray.exceptions.RayError as error:  # the process or the machine has ended, or cannot be reached
            self._kill(worker)
            return part, error
        self.has_started = True
        self.idle.append(worker)
        return part, done

    def end(self) -> None:
        """End all workers."""
        for worker in (*self.idle, *(worker for worker, _ in self.busy.values())):
            self._kill(worker)

    def _kill(self, worker: Any) -> None:
        with suppress(self.ray.exceptions.RayError, RuntimeError, ValueError):  # the cluster may be gone
            self.ray.kill(worker)


def _share_out(pool: _Pool, parts: Iterator[Part], job: Job, n_workers: int) -> Iterator[PartDone]:
    """Give the parts to the workers of a pool; yield each when it is written."""
    for _ in range(n_workers):
        pool.start()
    again: deque[Part] = deque()
    n_ended, n_failed = Counter[int](), 0
    following = next(parts, None)
    while following is not None or any(part for _, part in pool.busy.values()):
        part, done = pool.wait()
        if isinstance(done, Exception):
            if part is None:
                n_failed += 1
                if n_failed > 2 * n_workers and not (pool.busy or pool.idle):
                    raise PlanktonEmbedError(f"the workers of Ray cannot start: {done}") from done
            else:
                _count_ended(n_ended, part[0], done)
                again.append(part)
                following = again.popleft() if following is None else following
            if n_failed <= 2 * n_workers:
                pool.start()
        else:
            n_failed = 0
            if part is not None and done is not None:
                wait_for(job.part(part[0]))
                yield done
        while pool.idle and following is not None:
            pool.give(following, job)
            following = again.popleft() if again else next(parts, None)


def _count_ended(n_ended: Counter[int], number: int, error: Exception) -> None:
    """Count a worker that ended while it worked on a part.

    Raises:
        PlanktonEmbedError: it happened too often.
    """
    n_ended[number] += 1
    if n_ended[number] == MOST_ATTEMPTS:
        raise PlanktonEmbedError(
            f"{MOST_ATTEMPTS} workers of Ray ended while they worked on part {number}, most often because the memory "
            "is full: give fewer workers (--workers), or begin again with smaller parts (--part-size); the parts that "
            "are written are kept"
        ) from error
    logger.warning("a worker of Ray ended at part %d, which another one works on", number)


def _find_cluster(address: str | None) -> str | None:
    """Return the address for Ray, after a try to connect: Ray itself tries for many minutes.

    Without an address, a cluster that this machine has been in, and that does not answer any more, is left alone.

    Raises:
        OSError, ValueError: the cluster at a given address does not answer.
    """
    here = CURRENT_CLUSTER.read_text(encoding="utf-8").strip() if CURRENT_CLUSTER.is_file() else ""
    given = address or os.environ.get("RAY_ADDRESS") or ""
    host, _, port = (given or here).removeprefix("ray://").rpartition(":")
    try:
        if host:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE / 4).close()
    except (OSError, ValueError):
        if given:
            raise
        logger.warning("Ray: the cluster of this machine (%s) does not answer; it works on this machine alone", here)
        return "local"
    return address


@contextmanager
def _connect(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, which then ends with the block."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        address = _find_cluster(address)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise PlanktonEmbedError(
            f"cannot connect to Ray{f' at {address}' if address else ''}: {error}; start a cluster with "
            "`ray start --head` and give its address, or leave --address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
