"""Safe writing: never over other files, whole files or none, with the umask's permissions, by one program; progress."""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from plankton_embed.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd

LOCK_FILE = ".lock"  # of `write_alone`
LINES_EVERY = 60.0  # seconds between two progress lines, without a terminal


def refuse_overwrite(
    path: str | Path, overwrite: bool = False, suffixes: Sequence[str] = (), made_of: str | None = None
) -> Path:
    """Return `path`; raise OutputError if it cannot, or must not, be written.

    Args:
        path: a file if `suffixes` are given, else a file or a folder; an empty folder counts as absent.
        overwrite: replace an existing file or folder.
        suffixes: the allowed suffixes of the file name.
        made_of: a file that a folder must contain to be replaced, so that `overwrite` never deletes other folders.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: expected a name that ends in {', '.join(suffixes)}")
    if suffixes and path.is_dir():
        raise OutputError(f"{path} is a folder; give a file name in it")
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if taken and made_of and not (path / made_of).is_file():
        raise OutputError(
            f"{path} exists already and contains no {made_of}, so it is not replaced; choose another folder"
        )
    if taken and not overwrite:
        raise OutputError(f"{path} exists already; choose another output or pass --overwrite (overwrite=True)")
    return path


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write a file to; it is renamed to `path` only if the block succeeds."""
    path = Path(path)
    with _beside(path) as temporary:
        yield temporary
        _share(temporary)
        _put(temporary, path)


@contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it replaces `path` only if the block succeeds."""
    path = Path(path)
    with _beside(path) as temporary:
        temporary.mkdir()
        yield temporary
        _share(temporary)
        old = temporary.with_name(f"{path.name}.old")
        try:
            if os.path.lexists(path):  # moved aside, and deleted only after the new folder is in place
                _put(path, old)
            _put(temporary, path)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(path):
                _put(old, path)
            raise


class _Lines(tqdm):  # type: ignore[type-arg]
    """Progress without a terminal: a line from time to time, never rewritten."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # type: ignore[override]
        if msg is None:
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return False

    def clear(self, nolock: bool = False) -> None:
        """Keep the lines that were written."""


def progress_bar(steps: Iterable[Any] | int, title: str, unit: str, *, shown: bool = True, done: int = 0) -> tqdm[Any]:
    """Show the progress of a loop on stderr: a bar on a terminal, otherwise one line per minute.

    Args:
        steps: the steps to iterate over; or their number, if the caller calls `update`.
        title: the title of the bar.
        unit: the name of a step, in the singular.
        shown: whether to show progress.
        done: steps that an earlier call finished.
    """
    todo, n = (None, steps) if isinstance(steps, int) else (steps, len(steps) if isinstance(steps, Sized) else None)
    total = None if n is None else n + done
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(todo, title, total, unit=unit, initial=done, disable=not shown, leave=False, delay=1)
    return _Lines(
        todo, title, total, unit=f" {unit}s", initial=done, disable=not shown, leave=False, delay=LINES_EVERY,
        mininterval=LINES_EVERY, maxinterval=LINES_EVERY, miniters=1,
        bar_format="{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}, {elapsed} gone, {remaining} left",
    )  # fmt: skip


def to_json(values: Any) -> str:
    """Return plain values as readable JSON; numbers that JSON lacks (nan, inf) become null."""
    return json.dumps(_drop_nan(values), indent=2, ensure_ascii=False, allow_nan=False)


def write_json(path: str | Path, values: Any) -> None:
    """Write values as readable JSON (see `to_json`), atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(to_json(values) + "\n", encoding="utf-8")


def _drop_nan(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _drop_nan(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_drop_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _put(source: Path, target: Path) -> None:
    try:
        if source.is_file():
            with source.open("rb+") as written:  # on disk before it is renamed
                os.fsync(written.fileno())
        source.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


def _share(written: Path) -> None:
    """Give the written files the permissions of the user's umask; safetensors makes files that only the owner can read.

    The umask is read from a new folder: reading it from the system would change it for all threads.
    """
    try:
        probe = written.with_name(f"{written.name}.umask")
        probe.mkdir()
        rights = stat.S_IMODE(probe.stat().st_mode) & 0o777
        for path in (written, *written.rglob("*")) if written.exists() else ():
            mode, wanted = stat.S_IMODE(path.stat().st_mode), rights if path.is_dir() else rights & 0o666
            if mode & 0o777 != wanted:
                path.chmod(mode & ~0o777 | wanted)
    except OSError as error:
        raise OutputError(f"cannot write {written.name}: {error.strerror or error}") from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder next to `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield scratch / path.name
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV, completely or not at all; with a byte-order mark, from which Excel recognizes UTF-8."""
    with write_frames(path) as write:
        write(frame)


@contextmanager
def write_frames(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends the rows of a frame to a CSV, which is written as `write_frame` does.

    All frames need the same columns. The file is renamed to `path` only if the block succeeds.
    """
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(codecs.BOM_UTF8)

        def write(frame: pd.DataFrame) -> None:
            if file.tell() == len(codecs.BOM_UTF8):
                file.write(frame.iloc[:0].to_csv(index=False, lineterminator="\n").encode())
            file.write(_to_lines(frame))

        yield write


def _to_lines(frame: pd.DataFrame) -> bytes:
    """Return the rows as `DataFrame.to_csv` writes them; text and floats by Arrow, which takes a tenth of the time."""
    import pyarrow as pa
    from pyarrow.csv import WriteOptions, write_csv

    if frame.shape[1] > 1:  # in a single column, pandas writes empty text as two quotes
        with suppress(pa.ArrowException, TypeError):  # text that needs quotes, or a column of another kind
            lines = io.BytesIO()
            columns = [_to_arrow_text(frame.iloc[:, position]) for position in range(frame.shape[1])]
            table = pa.table(columns, [str(position) for position in range(len(columns))])
            write_csv(table, lines, WriteOptions(include_header=False, quoting_style="none"))
            return lines.getvalue()
    return frame.to_csv(index=False, header=False, lineterminator="\n").encode()


def _to_arrow_text(column: pd.Series) -> Any:
    """Return a column of text or float64 as text.

    Arrow writes floats with the same digits as Python, but whole numbers, small and large ones in another form.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.dtype != np.float64:
        text = pa.array(column, from_pandas=True)
        if text.type not in (pa.string(), pa.large_string(), pa.null()):
            raise TypeError(f"expected text or float64; found {text.type}")
        return text
    values = column.to_numpy()
    differs = ~((np.abs(values) >= 1e-4) & (np.abs(values) < 1e9) & (np.floor(values) != values))
    others = [None if np.isnan(value) else repr(value) for value in values[differs].tolist()]
    return pc.replace_with_mask(pa.array(values).cast(pa.string()), pa.array(differs), pa.array(others, pa.string()))


@contextmanager
def write_alone(folder: Path) -> Iterator[None]:
    """Make sure that this process alone writes to a folder; the lock ends with the process, also if it is killed.

    Raises:
        OutputError: another process is writing to it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    with lock as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder} is being written by another program; wait until it has ended") from error
        except OSError:  # a file system without locks
            pass
        yield
