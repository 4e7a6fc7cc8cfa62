"""The journal of a page: decisions are appended, one line each, and are on the disk before they are answered."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.decisions import JOURNAL, VERSION, Decision, Decisions, parse_journal

LOCKED_BYTE = 1 << 40  # on Windows a lock keeps others from reading what it covers: far beyond the end, nothing


class Journal:
    """A journal that is open for appending; no other process can open it meanwhile.

    Args:
        path: the file; it is made if it does not exist.
        key: of the vectors that the decisions are about (see `PageImages.key`).
        vectors: where they are, for a person who reads the file.

    Attributes:
        decisions: all decisions, those of earlier sessions too.

    Raises:
        InputError: the file is not a journal, is damaged, or has decisions about other vectors.
        OutputError: it cannot be written, or another process has it open.
    """

    def __init__(self, path: str | Path, key: str, vectors: str = "") -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise OutputError(f"journal {path} cannot be written: {error.strerror or error}") from error
        try:
            self._lock()
            self.decisions, self._size = self._read(key, vectors)
        except BaseException:
            self.close()
            raise

    def append(self, decision: Decision) -> Decision:
        """Write a decision, and return it as it was written, with its number and the time.

        It is on the disk when this returns. `decision` lacks only `n` and `at`.

        Raises:
            InputError: it is not a decision, or takes back one that is not in force.
            OutputError: it cannot be written; it does not count then.
        """
        number = len(self.decisions) + 1
        line: Decision = {"n": number, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        line |= decision
        self.decisions.check(line)
        self._write(_to_line(line))
        self.decisions.add(line)
        return line

    def close(self) -> None:
        """Close the file; another process can open it then."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lock(self) -> None:
        try:
            if sys.platform == "win32":
                import msvcrt

                os.lseek(self._file, LOCKED_BYTE, os.SEEK_SET)
                msvcrt.locking(self._file, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"journal {self.path} is open in another review; use its page or stop it (Ctrl-C), or give another "
                "file (--journal FILE)"
            ) from error

    def _read(self, key: str, vectors: str) -> tuple[Decisions, int]:
        """Read the decisions, and drop a last line that was cut; start the file if it has none."""
        raw = _read_all(self._file)
        header = _to_line({"journal": JOURNAL, "version": VERSION, "key": key, "vectors": vectors})
        start = header[: header.index(b"version")]
        if b"\n" not in raw and (start.startswith(raw) or raw.startswith(start)):  # new, or cut before any decision
            return self._start(header)
        text = parse_journal(raw, self.path)
        found = text.header.get("key")
        if found != key:
            if not len(text.decisions):
                return self._start(header)
            raise InputError(
                f"journal {self.path} has {len(text.decisions)} decisions about other vectors (key {found}, of "
                f"{text.header.get('vectors') or 'an unknown file'}); these have the key {key}. A model was trained "
                "again, labels were changed, or the file contains other images. Rename the journal to start a new one, "
                "or give another file (--journal FILE). apply-corrections CATALOG JOURNAL still applies its decisions "
                "by object_id"
            )
        self._size = text.n_bytes
        if len(raw) > text.n_bytes:
            self._cut()
        elif not raw.endswith(b"\n"):  # only the line end of the last decision was cut
            self._write(b"\n")
        return text.decisions, self._size

    def _start(self, header: bytes) -> tuple[Decisions, int]:
        self._size = 0
        self._cut()
        self._write(header)
        _sync_folder(self.path.parent)
        return Decisions(), self._size

    def _write(self, line: bytes) -> None:
        """Append bytes, and wait until they are on the disk."""
        try:
            if not os.path.samestat(os.fstat(self._file), self.path.stat()):
                raise FileNotFoundError(f"{self.path} was replaced")
            os.lseek(self._file, self._size, os.SEEK_SET)
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except FileNotFoundError as error:
            raise OutputError(
                f"journal {self.path} was moved or deleted; nothing was saved; start review again"
            ) from error
        except OSError as error:
            self._cut()
            raise OutputError(
                f"journal {self.path} cannot be written: {error.strerror or error}; nothing was saved"
            ) from error
        self._size += len(line)

    def _cut(self) -> None:
        """Remove what is after the last whole line."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:
            raise OutputError(f"journal {self.path} cannot be written: {error.strerror or error}") from error


def _to_line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read_all(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    parts = []
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _sync_folder(folder: Path) -> None:
    """Have a new file's name on the disk too, where the system can."""
    if sys.platform == "win32":
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError:
        pass  # some network disks cannot
    finally:
        os.close(opened)
