"""VectorShards: the vectors in a folder of Parquet files, read a part at a time."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plankton_embed.dimension_columns import VECTOR_NAMES
from plankton_embed.errors import InputError, OutputError
from plankton_embed.notebook import N_ROWS, Shown
from plankton_embed.shards import AT_ONCE, Shards
from plankton_embed.table import (
    SEEN,
    TEXT_COLUMNS,
    EmbeddingTable,
    choose_list,
    clean_column,
    from_arrow,
    join_provenance,
)

if TYPE_CHECKING:
    import pandas as pd


class VectorShards(Shown):
    """Vectors in a folder of Parquet files (shards), read a part at a time, so that they need not fit in memory.

    Its properties are those of `EmbeddingTable`, without `vectors`: `blocks` and `vector_blocks` yield these.

    Attributes:
        folder: the folder.
        provenance: as in `EmbeddingTable`, the same for all files.
        dimension: length of the vectors.
    """

    def __init__(
        self,
        shards: Shards,
        provenance: dict[str, Any],
        head: EmbeddingTable,
        kept: NDArray[np.bool_] | None = None,
        first: int = 0,
    ) -> None:
        self.folder, self.provenance, self.dimension = shards.folder, provenance, head.dimension
        self._shards, self._head, self._kept, self._first = shards, head, kept, first
        self._list = _find_fixed_list(shards.schema)

    @classmethod
    def open(cls, folder: str | Path, *, check_ids: bool = True) -> VectorShards:
        """Open a folder.

        Args:
            folder: Parquet files of vectors, with the same columns.
            check_ids: read the ids of all files, to make sure that they differ.

        Raises:
            InputError: the files do not fit together, an id is missing or occurs twice, or it is not clear which
                columns are the vectors.
            MismatchError: the files were made by different models.
        """
        shards = Shards.open(folder)
        provenance = join_provenance(shards)
        if check_ids and "object_id" in shards.schema.names:
            shards.check_ids()
        first = next(shards.read(N_ROWS))
        try:
            head = from_arrow(first, provenance)
        except InputError as error:
            raise InputError(f"{folder} cannot be read as vectors: {error}") from error
        return cls(shards, provenance, head)

    def __len__(self) -> int:
        return len(self._shards) if self._kept is None else int(self._kept.sum())

    @property
    def model_hash(self) -> str | None:
        """Hash of the model that made the vectors; None if not stated."""
        return self.provenance.get("model_hash")

    @property
    def files(self) -> list[Path]:
        """The files, in their order."""
        return self._shards.files

    @property
    def counts(self) -> list[int]:
        """The number of rows of each file."""
        return self._shards.counts

    def digest(self) -> str:
        """Return a hash of the vectors, the ids, the labels, the files and the model."""
        vectors = hashlib.sha256()
        for block in self.vector_blocks(AT_ONCE):
            vectors.update(block.tobytes())
        files = " ".join(f"{path.name}:{n}" for path, n in zip(self.files, self.counts, strict=True))
        rows = self._shards.digest(("object_id", "label"))
        return f"{vectors.hexdigest()[:16]} {rows} {self.model_hash} {files}"

    @cached_property
    def object_id(self) -> NDArray[np.object_]:
        """(n,) ids; if the files have none, the numbers of the rows."""
        if "object_id" in self._shards.schema.names:
            return self._read_text("object_id")
        return np.array([str(self._first + row) for row in self._rows().tolist()], dtype=object)

    @cached_property
    def path(self) -> NDArray[np.object_]:
        """(n,) image files, None where unknown."""
        return self._read_text("path")

    @cached_property
    def label(self) -> NDArray[np.object_]:
        """(n,) class names, None where unknown."""
        return self._read_text("label")

    @cached_property
    def sample_id(self) -> NDArray[np.object_]:
        """(n,) samples, None where unknown."""
        return self._read_text("sample_id")

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Other measurements of the images (n,), by name."""
        names = list(self._head.columns)
        data = next(self._shards.read(max(len(self), 1), names, self._kept)) if names else None
        columns = {name: data[name].to_pandas().to_numpy() for name in names}  # type: ignore[index]
        return {name: values for name, values in columns.items() if name != SEEN or values.any()}

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted({label for label in self.label if label is not None})

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """(n,) whether the image has a label."""
        return np.array([label is not None for label in self.label], dtype=bool)

    @property
    def labelled(self) -> VectorShards:
        """The labelled rows; these shards themselves if all rows are labelled."""
        mask = self.is_labelled
        return self if mask.all() else self.select(mask)

    def select(self, mask: ArrayLike) -> VectorShards:
        """Keep the rows of a boolean mask (n,); nothing is read."""
        mask = np.asarray(mask, dtype=bool)
        kept = np.zeros(len(self._shards), dtype=bool)
        kept[self._rows()[mask]] = True
        chosen = VectorShards(self._shards, self.provenance, self._head, kept, self._first)
        for name in set(TEXT_COLUMNS) & set(self.__dict__):  # read already
            setattr(chosen, name, self.__dict__[name][mask])
        return chosen

    def read_ids(self) -> Any:
        """Return the ids as Arrow text in pieces, which needs a fifth of the memory of `object_id`."""
        import pyarrow as pa

        if "object_id" not in self._shards.schema.names:
            return pa.chunked_array([pa.array(self.object_id, pa.large_string())])
        parts = (part["object_id"] for part in self._shards.read(AT_ONCE, ["object_id"], self._kept))
        chunks = [chunk for part in parts for chunk in part.cast(pa.large_string()).chunks]
        return pa.chunked_array(chunks, pa.large_string())

    def of_file(self, number: int) -> VectorShards:
        """Return all rows of one file."""
        first = self._first + sum(self.counts[:number])
        return VectorShards(self._shards.of_file(number), self.provenance, self._head, first=first)

    def blocks(self, n_rows: int) -> Iterator[EmbeddingTable]:
        """Yield tables of `n_rows` rows, in order, whatever the sizes of the files; the last one is shorter.

        Without any rows, there is one empty table.
        """
        start, has_ids = 0, "object_id" in self._shards.schema.names
        for data in self._shards.read(n_rows, kept=self._kept):
            table = self._to_table(data, start)
            here = slice(start, start := start + len(table))
            yield table if has_ids else replace(table, object_id=self.object_id[here])

    def vector_blocks(self, n_rows: int) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors alone, `n_rows` at a time."""
        import pyarrow.compute as pc

        names = [name for name in self._shards.schema.names if name not in TEXT_COLUMNS]
        start = 0
        for data in self._shards.read(n_rows, names if self._list is None else [self._list], self._kept):
            if self._list is None:
                vectors = self._to_table(data, start).vectors
            else:
                flat = np.asarray(pc.list_flatten(data[self._list]), dtype=np.float32)  # without missing lists
                vectors = flat.reshape(-1, self.dimension)
            if len(vectors) != len(data) or not np.isfinite(vectors).all():
                raise InputError(
                    f"{self.folder}, rows {start} to {start + len(data)}: expected a vector of {self.dimension} finite "
                    "numbers in each row; found others"
                )
            start += len(data)
            yield vectors

    def _to_table(self, data: Any, start: int) -> EmbeddingTable:
        try:
            return from_arrow(data, self.provenance, warn=False)
        except InputError as error:
            raise InputError(f"{self.folder}, rows {start} to {start + len(data)}: {error}") from error

    def take(self, rows: NDArray[np.integer]) -> EmbeddingTable:
        """Read the rows with these numbers, in this order; each once."""
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        table = next(self.select(mask).blocks(max(len(rows), 1)))
        return table.select(np.argsort(np.argsort(rows)))

    def load(self) -> EmbeddingTable:
        """Read all rows into memory."""
        table = EmbeddingTable.load(self.folder)
        return table if self._kept is None else table.select(self._kept)

    def _rows(self) -> NDArray[np.intp]:
        """Return the numbers of the kept rows."""
        return np.arange(len(self._shards)) if self._kept is None else np.flatnonzero(self._kept)

    def _read_text(self, name: str) -> NDArray[np.object_]:
        """Return a column as the table has it; equal texts are one object."""
        column = np.full(len(self), None, dtype=object)
        if name not in self._shards.schema.names:
            return column
        known: dict[str, str] = {}
        start = 0
        for data in self._shards.read(AT_ONCE, [name], self._kept):
            encoded = data[name].combine_chunks().dictionary_encode()
            values = clean_column(encoded.dictionary.to_pylist(), len(encoded.dictionary), name)
            shared = np.full(len(values) + 1, None, dtype=object)
            shared[:-1] = [known.setdefault(text, text) if text else None for text in values]
            codes = encoded.indices.fill_null(len(values)).to_numpy()
            column[start : start + len(codes)] = shared[codes]
            start += len(codes)
        return column

    def _describe(self) -> str:
        parts = [f"{len(self):,} images in {len(self.files):,} files", f"{self.dimension} dimensions"]
        return ", ".join([*parts, f"model {self.model_hash}"] if self.model_hash else parts)

    def _preview(self) -> pd.DataFrame:
        return self._head._preview()


Vectors = EmbeddingTable | VectorShards


class GroupedVectors:
    """The vectors of groups of rows, one group at a time; those of shards are sorted into a temporary file first.

    Args:
        vectors: n vectors.
        groups: the rows of each group, sorted; every row is in one group.
        folder: where the temporary file is, of 4 bytes for each number of the vectors; it has no name, and is gone
            when the process ends.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, vectors: Vectors, groups: Sequence[NDArray[np.intp]], folder: str | Path | None = None) -> None:
        self._vectors, self._groups = vectors, groups
        self._file: IO[bytes] | None = None
        if isinstance(vectors, EmbeddingTable):
            return
        self._first = np.cumsum([0, *map(len, groups)])
        position = np.empty(len(vectors), dtype=np.int64)
        position[np.concatenate(groups)] = np.arange(len(vectors))
        try:
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (open as long as this object)
            start = 0
            for block in vectors.vector_blocks(AT_ONCE):
                here = position[start : (start := start + len(block))]
                order = np.argsort(here)
                ordered, here = block[order], here[order]
                ends = [*(np.flatnonzero(np.diff(here) != 1) + 1), len(here)]
                for first, end in zip([0, *ends], ends, strict=False):
                    self._file.seek(int(here[first]) * self._n_bytes)
                    self._file.write(ordered[first:end].tobytes())
        except OSError as error:
            raise OutputError(
                f"the vectors of each sample need a temporary file of {len(vectors) * self._n_bytes / 1e9:.1f} GB in "
                f"{folder or tempfile.gettempdir()}: {error}"
            ) from error

    @property
    def _n_bytes(self) -> int:
        return 4 * self._vectors.dimension

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        rows = self._groups[number]
        if self._file is None:
            return take_rows(self._vectors, rows).vectors
        self._file.seek(int(self._first[number]) * self._n_bytes)
        read = bytearray(self._file.read(len(rows) * self._n_bytes))  # which may be written to, unlike bytes
        return np.frombuffer(read, dtype=np.float32).reshape(len(rows), -1)


def _find_fixed_list(schema: Any) -> str | None:
    """Return the column of vectors if it can be read without the others: lists of one length, of a certain name."""
    import pyarrow as pa

    name = choose_list(schema.empty_table())
    is_sure = name is not None and name.lower() in VECTOR_NAMES and pa.types.is_fixed_size_list(schema.field(name).type)
    return name if is_sure else None


def take_rows(vectors: Vectors, rows: NDArray[np.integer]) -> EmbeddingTable:
    """Return the rows with these numbers as a table, in this order; each once."""
    return vectors.take(rows) if isinstance(vectors, VectorShards) else vectors.select(rows)
