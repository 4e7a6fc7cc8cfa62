"""Jobs: work on a large table in parts, each written once, as a shard of a folder; a stopped job is continued."""

from __future__ import annotations

import csv
import logging
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.output import LOCK_FILE, write_alone, write_atomically, write_json
from plankton_embed.shards import FAULTS_FILE, JOB_FILE, read_job

logger = logging.getLogger(__name__)

Engine = Literal["local", "ray"]
LOG_FOLDER = "_log"  # one file for each process: time, event, part
BEGUN, WRITTEN, FOUND = "begun", "written", "found"  # events of a part
PART = re.compile(r"part-\d{6,}\.parquet")
PATIENCE = 60.0  # seconds until a file that another machine wrote is visible here


class Work(Protocol):
    """What is done with each part; it is copied to other processes."""

    def start(self, device: str) -> None:
        """Get ready in a process: move a model to the device."""

    def __call__(self, part: Any, path: Path) -> None:
        """Work on a part and write its shard to a new file."""


@dataclass(frozen=True)
class PartDone:
    """A part that is written: its number, and the warnings on the way, each as its form and its text."""

    number: int
    warnings: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """The folder of a job: `part-000000.parquet`, …, `faults.csv` and `job.json`, which is complete last.

    `inputs` identifies what the parts are made from; `n_parts` is their number. `id` is another one when a job is begun
    again with `overwrite`: a process of before then writes no more.
    """

    folder: Path
    inputs: Mapping[str, Any]
    n_parts: int
    id: str = field(default_factory=lambda: uuid4().hex)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        inputs: Mapping[str, Any],
        n_parts: int,
        *,
        overwrite: bool = False,
    ) -> Job:
        """Begin a job, or continue it if the folder is of a job with the same inputs.

        Args:
            folder: the folder to write.
            inputs: plain values.
            n_parts: number of parts.
            overwrite: delete the shards of an earlier job, and begin again; other files are never deleted.

        Raises:
            OutputError: the folder is something else, or of a job with other inputs.
        """
        job, path = cls(Path(folder), dict(inputs), n_parts), Path(folder)
        found = _read_own(path)
        if found is not None and overwrite:
            job._clear(found)
            found = None
        if found is None:
            job._write(complete=False)
            return job
        wanted = {**job.inputs, "n_parts": n_parts}
        before = {**found["inputs"], "n_parts": found["n_parts"]}
        differing = [
            f"{name} (before: {before.get(name)}; now: {wanted.get(name)})"
            for name in {**wanted, **before}
            if wanted.get(name) != before.get(name)
        ]
        if differing:
            raise OutputError(
                f"{path} contains the parts of a job with other inputs, so they cannot be put together: "
                f"{', '.join(differing)}; choose another folder, or begin again with --overwrite (overwrite=True)"
            )
        job = replace(job, id=found.get("id", ""))
        if found["complete"] and job.missing():
            job._write(complete=False)
        return job

    @classmethod
    @contextmanager
    def alone(
        cls, folder: str | Path, inputs: Mapping[str, Any], n_parts: int, *, overwrite: bool = False
    ) -> Iterator[Job]:
        """Begin or continue a job as `open` does, while no other command works on it.

        Raises:
            OutputError: as `open`; or another command works on it.
        """
        _read_own(Path(folder))
        with write_alone(Path(folder)):
            yield cls.open(folder, inputs, n_parts, overwrite=overwrite)

    def part(self, number: int) -> Path:
        """Return the path of the shard with this number."""
        return self.folder / f"part-{number:06d}.parquet"

    def missing(self) -> list[int]:
        """Return the numbers of the parts that are not written yet."""
        with os.scandir(self.folder) as entries:  # one call, also for many thousands of files
            there = {entry.name for entry in entries}
        return [number for number in range(self.n_parts) if self.part(number).name not in there]

    def finish(self, **facts: Any) -> None:
        """Mark the job as complete; `facts` are added to `job.json`.

        Raises:
            OutputError: a part is missing, or the job was begun again.
        """
        self.check_current()
        if missing := self.missing():
            raise OutputError(
                f"{self.folder}: {len(missing)} of {self.n_parts} parts are missing, such as {missing[0]}"
            )
        for rest in self.folder.glob(".part-*"):  # of processes that were killed
            shutil.rmtree(rest, ignore_errors=True)
        self._write(complete=True, **facts)

    @contextmanager
    def write_part(self, number: int) -> Iterator[Path]:
        """Yield a temporary path for a shard, which is in place after the block.

        Raises:
            OutputError: the job was begun again, or its folder was deleted.
        """
        with write_atomically(self.part(number)) as temporary:
            yield temporary
            self.check_current()

    def _is_current(self) -> bool:
        """Return whether the folder is still of this job; False too if that cannot be read."""
        with suppress(InputError):
            found = read_job(self.folder)
            return found is not None and found.get("id", "") == self.id
        return False

    def check_current(self) -> None:
        """Make sure that the folder is still of this job, perhaps a minute after another machine made it.

        Raises:
            OutputError: the job was begun again, or its folder was deleted.
        """
        if not _becomes(self._is_current, self.folder):
            raise OutputError(
                f"{self.folder}: this job was begun again, or its folder was deleted, so nothing more is written to it"
            )

    def _write(self, **values: Any) -> None:
        facts = {"id": self.id, "inputs": dict(self.inputs), "n_parts": self.n_parts, **values}
        write_json(self.folder / JOB_FILE, facts)

    def _clear(self, found: Mapping[str, Any]) -> None:
        """Delete what an earlier job has written, in an order that can be stopped.

        First the job gets another id. A process of before that has not seen it loses its temporary file, or has
        written its part by then.
        """
        write_json(self.folder / JOB_FILE, {**found, "id": self.id, "complete": False})
        for path in [*self.folder.glob(".part-*"), self.folder / LOG_FOLDER]:
            shutil.rmtree(path, ignore_errors=True)  # a process that was not killed may be deleting it too
        for path in [*self.folder.iterdir()]:
            if PART.fullmatch(path.name) or path.name == FAULTS_FILE:
                path.unlink()
        (self.folder / JOB_FILE).unlink()


def _read_own(folder: Path) -> dict[str, Any] | None:
    """Return `job.json` of a folder; None if the folder is new or empty.

    Raises:
        OutputError: it is a file, or a folder of something else.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file; give another name for the folder")
    found = read_job(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if found is None and any(name not in (LOCK_FILE, LOG_FOLDER) and not name.startswith(".part-") for name in names):
        raise OutputError(f"{folder} exists already and contains no {JOB_FILE}; choose another folder")
    return found


def refuse_overlap(folder: str | Path, sources: Iterable[Any], around: Iterable[Any] = ()) -> None:
    """Make sure that the folder to write is not what is read, and does not contain it.

    Args:
        folder: the folder to write.
        sources: paths that are read, also not around that folder; other values are ignored.
        around: paths that are read, such as a run, in which that folder may be.

    Raises:
        OutputError: they overlap.
    """
    output, around = Path(folder).resolve(), [*around]
    for source in (*sources, *around):
        if not isinstance(source, str | Path) or not Path(source).exists():
            continue
        path = Path(source).resolve()
        if path.is_relative_to(output) or (output.is_relative_to(path) and source not in around):
            raise OutputError(
                f"{folder}: expected a folder that does not overlap with the inputs; found the input {source} "
                "there; choose another folder"
            )


def check_folder_options(output: str | Path | None, options: Mapping[str, Any]) -> bool:
    """Return whether the output is a folder of shards: a name without a suffix.

    Args:
        output: the output.
        options: options that only such an output has, by name; those that are not given are None. `engine`: where the
            parts are worked on.

    Raises:
        SettingError: an option is given that cannot be used.
    """
    is_folder = output is not None and (Path(output).is_dir() or not Path(output).suffix)
    engine = options["engine"]
    if engine not in ("local", "ray"):
        raise SettingError(f"engine: expected local or ray; found {engine!r}")
    given = [name for name, value in options.items() if value is not None and value != "local"]
    if not is_folder and given:
        raise SettingError(
            f"{', '.join(given)}: it applies to a folder of shards as output; give -o a name without a suffix"
        )
    of_ray = [name for name in given if name in ("address", "n_workers")]
    if engine == "local" and of_ray:
        raise SettingError(f"{', '.join(of_ray)}: it applies to the engine ray; give --engine ray too")
    return is_folder


def work_here(work: Work, parts: Iterable[tuple[int, Any]], job: Job, device: str) -> Iterator[PartDone]:
    """Work on parts one after the other, in this process; yield each when it is written."""
    work.start(device)
    for number, part in parts:
        yield do_part(work, number, part, job)


def do_part(work: Work, number: int, part: Any, job: Job) -> PartDone:
    """Work on one part, unless its shard is written already."""
    path = job.part(number)
    job.check_current()
    if path.exists():  # by a process that was killed before it could report it
        _log(path, FOUND)
        return PartDone(number)
    with job.write_part(number) as temporary, _collect_warnings() as warnings:
        _log(path, BEGUN)
        work(part, temporary)
    _log(path, WRITTEN)
    return PartDone(number, warnings)


def wait_for(path: Path) -> None:
    """Wait until a file that another machine has written is visible.

    Raises:
        OutputError: it is not after a minute.
    """
    if not _becomes(path.exists, path.parent):
        raise OutputError(
            f"{path} was written by another machine, but is not here; the output folder must be on a file system "
            "that all machines share"
        )


def _becomes(is_so: Callable[[], bool], folder: Path) -> bool:
    """Return whether something in a folder is so, perhaps a minute after another machine made it so."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            return False
        with suppress(OSError):
            list(folder.iterdir())  # network file systems look again
        time.sleep(0.5)
    return True


class WarningCounts:
    """Logs the warnings of parts: the first of each form, and at the end how many more there were."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def log(self, done: PartDone) -> None:
        """Log the new ones."""
        for form, text in done.warnings:
            if form not in self._counts:
                logger.warning("part %d: %s", done.number, text)
            self._counts[form] += 1

    def log_rest(self) -> None:
        """Log how many more there were."""
        n_more = sum(self._counts.values()) - len(self._counts)
        if n_more:
            logger.warning("%d more warnings of the same kinds in other parts", n_more)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append((str(record.msg), record.getMessage()))


@contextmanager
def _collect_warnings() -> Iterator[list[tuple[str, str]]]:
    """Collect the warnings of the package, instead of printing them for each of many thousands of parts."""
    package, collector = logging.getLogger(__package__), _Collector()
    propagates, package.propagate = package.propagate, False
    package.addHandler(collector)
    try:
        yield collector.found
    finally:
        package.removeHandler(collector)
        package.propagate = propagates


def _log(path: Path, event: str) -> None:
    """Append an event to the log of this process."""
    folder = path.parent / LOG_FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / f"{socket.gethostname()}-{os.getpid()}.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow((f"{time.time():.6f}", event, path.name))


def read_log(folder: str | Path) -> list[tuple[float, str, str, str]]:
    """Return the events of a job in their order: time (s), event, part, and the process (its machine and id)."""
    events = []
    for path in (Path(folder) / LOG_FOLDER).glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            events += [(float(when), event, part, path.stem) for when, event, part in csv.reader(file)]
    return sorted(events, key=lambda event: event[0])


def count_repeated(events: Sequence[tuple[float, str, str, str]]) -> int:
    """Return how many parts were worked on again after they were written."""
    written, repeated = set[str](), set[str]()
    for _, event, part, _ in events:
        if event == WRITTEN:
            written.add(part)
        elif event == BEGUN and part in written:
            repeated.add(part)
    return len(repeated)
