"""Shards: a folder of Parquet files with the same columns, which are one table. Lists, checks and reads them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError

JOB_FILE, FAULTS_FILE = "job.json", "faults.csv"  # beside the shards that a job writes (see `jobs`)
AT_ONCE = 2**16  # rows that are read at a time
MOST_HASHES = 2**27  # in memory at a time, of 8 bytes


def is_shards(folder: str | Path) -> bool:
    """Return whether a folder contains Parquet files and nothing else.

    The files of a job (`job.json`, `faults.csv`), and names that start with a dot or an underscore, do not count.
    """
    if not Path(folder).is_dir():
        return False
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")) or entry.name == FAULTS_FILE:
                continue
            if not (entry.name == JOB_FILE or entry.name.lower().endswith(".parquet")) or not entry.is_file():
                return False
            found = True
    return found


def read_job(folder: str | Path) -> dict[str, Any] | None:
    """Return the contents of `job.json` in a folder; None if there is none.

    Raises:
        InputError: it is not the file of a job.
    """
    path = Path(folder) / JOB_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not {"complete", "inputs", "n_parts"} <= set(found):
        raise InputError(f"{path} is not the file of a job: expected complete, inputs and n_parts in it")
    return found


@dataclass(frozen=True)
class Shards:
    """The shards of a folder, in the order of their names.

    `counts`: rows of each file. `schema`: the columns, of the types that hold the values of all files. `metadata`: of
    each file.
    """

    folder: Path
    files: list[Path]
    counts: list[int]
    schema: Any
    metadata: list[dict[bytes, bytes]]

    @classmethod
    def open(cls, folder: str | Path) -> Shards:
        """Read the columns and the number of rows of every file.

        Raises:
            InputError: there is no Parquet file, one cannot be read, its columns differ from those of the first, or the
                job that writes the folder is not complete.
        """
        import pyarrow as pa

        folder = Path(folder)
        job = read_job(folder)
        if job is not None and not job["complete"]:
            raise InputError(
                f"{folder} is not complete: the job that writes it was stopped, or is still at work; run its command "
                "again, which adds what is missing"
            )
        files = sorted(path for path in folder.glob("[!._]*") if path.suffix.lower() == ".parquet")
        if not files:
            raise InputError(f"{folder}: expected Parquet files; found none")
        counts, schemas, metadata = [], [], []
        for path in files:
            file = open_parquet(path)
            counts.append(int(file.metadata.num_rows))
            metadata.append(dict(file.schema_arrow.metadata or {}))
            schemas.append(_plain(file.schema_arrow))
        _check_complete(folder, job, counts)
        schema = schemas[0]
        for path, other in zip(files, schemas, strict=True):
            if set(other.names) != set(schema.names):
                raise InputError(
                    f"{path}: expected the columns of {files[0].name}, the first file of the folder; "
                    + _describe_difference(schema.names, other.names)
                )
            try:
                if any(_list_size(other.field(one.name)) != _list_size(one) for one in schema):
                    raise pa.ArrowTypeError("lists of another length")
                schema = pa.unify_schemas([schema, other], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                differing = [f"{one.name} ({other.field(one.name).type})" for one in schema if one not in list(other)]
                raise InputError(
                    f"{path}: expected columns of the same types as in {files[0].name}, the first file of the folder; "
                    f"found {', '.join(differing)}"
                ) from error
        return cls(folder, files, counts, schema, metadata)

    def __len__(self) -> int:
        return sum(self.counts)

    def of_file(self, number: int) -> Shards:
        """Return one file alone, with the types of all."""
        return replace(self, files=[self.files[number]], counts=[self.counts[number]], metadata=[self.metadata[number]])

    def read(
        self, n_rows: int, columns: Sequence[str] | None = None, kept: NDArray[np.bool_] | None = None
    ) -> Iterator[Any]:
        """Yield Arrow tables of `n_rows` rows, in order; the last one is shorter, and the only one may be empty.

        Args:
            n_rows: rows of each table, whatever the sizes of the files.
            columns: columns to read; by default all.
            kept: (n,) mask of the rows to return; by default all.

        Raises:
            InputError: a file cannot be read; the message contains its name.
        """
        import pyarrow as pa

        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        waiting: list[Any] = []
        n_waiting = n_given = 0
        for part in self._read_parts(min(n_rows, AT_ONCE), schema, kept):
            waiting.append(part)
            n_waiting += len(part)
            while n_waiting >= n_rows:
                whole = pa.concat_tables(waiting)
                n_given, n_waiting = n_given + 1, n_waiting - n_rows
                waiting = [whole.slice(n_rows)]
                yield whole.slice(0, n_rows)
        if n_waiting or not n_given:
            yield pa.concat_tables([schema.empty_table(), *waiting])

    def _read_parts(self, n_rows: int, schema: Any, kept: NDArray[np.bool_] | None) -> Iterator[Any]:
        import pyarrow as pa

        start = 0
        for path, count in zip(self.files, self.counts, strict=True):
            mask = None if kept is None else kept[start : start + count]
            start += count
            if count == 0 or (mask is not None and not mask.any()):
                continue
            at = 0
            try:
                for batch in open_parquet(path).iter_batches(n_rows, columns=schema.names):
                    part = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                    yield part if mask is None else part.filter(pa.array(mask[at : at + len(part)]))
                    at += len(part)
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{path} cannot be read: {error}; copy or make it again") from error

    def read_text(self, names: Sequence[str], *, strip: bool = False) -> Iterator[NDArray[np.object_]]:
        """Yield values of a column as text, in parts; where they are missing or empty, those of the next column."""
        import pyarrow as pa
        import pyarrow.compute as pc

        present = [name for name in names if name in self.schema.names]
        for part in self.read(AT_ONCE, present):
            columns = [part[name].cast(pa.large_string()) for name in present]
            columns = [pc.utf8_trim_whitespace(column) if strip else column for column in columns]
            columns = [pc.if_else(pc.equal(column, ""), None, column) for column in columns]
            yield pc.coalesce(*columns).to_numpy()

    def check_ids(self, names: Sequence[str] = ("object_id",), *, strip: bool = False) -> None:
        """Make sure that the ids of all rows differ; the arguments are those of `read_text`.

        Raises:
            InputError: a row has none, or two rows have the same.
        """
        n_passes = max(1, -(-len(self) // MOST_HASHES))
        for number in range(n_passes):
            hashes = []
            for values in self.read_text(names, strip=strip):
                if n_missing := sum(value is None for value in values):
                    raise InputError(
                        f"{self.folder}: expected {names[0]} in each row; found {n_missing} rows without it, in "
                        f"{self._find_file(names, strip, None)}"
                    )
                own = hash_text(values)
                hashes.append(own[own % n_passes == number])
            every = np.sort(np.concatenate(hashes))
            twice = np.unique(every[1:][every[1:] == every[:-1]])
            seen = set[str]()
            for values in self.read_text(names, strip=strip) if len(twice) else ():
                for value in values[np.isin(hash_text(values), twice)]:
                    if value in seen:
                        raise InputError(
                            f"{self.folder}: expected a different {names[0]} in each row; found {value!r} again, in "
                            f"{self._find_file(names, strip, value)}"
                        )
                    seen.add(value)

    def _find_file(self, names: Sequence[str], strip: bool, wanted: str | None) -> str:
        """Return the names of the files with a value."""
        found = []
        for number, path in enumerate(self.files):
            parts = self.of_file(number).read_text(names, strip=strip)
            if any(value == wanted for values in parts for value in values):
                found.append(path.name)
        return " and ".join(found[:3])

    def digest(self, columns: Sequence[str]) -> str:
        """Return a hash of the rows of these columns, as far as they exist."""
        present = [name for name in columns if name in self.schema.names]
        return digest_frames(part.to_pandas() for part in self.read(AT_ONCE, present))


def _check_complete(folder: Path, job: dict[str, Any] | None, counts: Sequence[int]) -> None:
    """Make sure that the files are those that a job has written."""
    if job is None:
        return
    expected = (job["n_parts"], job.get("n_vectors", job.get("n_images", sum(counts))))
    if expected != (len(counts), sum(counts)):
        raise InputError(
            f"{folder}: expected {expected[0]} files with {expected[1]} rows (of {JOB_FILE}); found "
            f"{len(counts)} with {sum(counts)}; copy the folder again, or run the command that wrote it again"
        )


def hash_text(values: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Return a hash of each text."""
    import pandas as pd

    return np.asarray(pd.util.hash_array(values, categorize=False), dtype=np.uint64)


def digest_frames(frames: Iterable[Any]) -> str:
    """Return a hash of the rows of frames with the same columns, 16 hexadecimal digits."""
    import pandas as pd

    digest = hashlib.sha256()
    for frame in frames:
        digest.update(" ".join(map(str, frame.columns)).encode())
        digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def open_parquet(path: Path) -> Any:
    """Open a Parquet file.

    Raises:
        InputError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)  # not whole columns of a group of rows
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}; delete it, and copy or make it again") from error


def _plain(schema: Any) -> Any:
    """Return a schema without metadata, indexes of pandas and dictionaries."""
    import pyarrow as pa

    fields = [field.with_metadata(None) for field in schema if not field.name.startswith("__index_level_")]
    return pa.schema([
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in fields
    ])  # fmt: skip


def _list_size(column: Any) -> int | None:
    """Return the length of the lists in a column, if its type states it."""
    return getattr(column.type, "list_size", None)


def _describe_difference(expected: Sequence[str], found: Sequence[str]) -> str:
    missing, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [f"{', '.join(missing)} missing"] if missing else []
    parts += [f"{', '.join(more)} in addition"] if more else []
    return f"found {' and '.join(parts)}"
