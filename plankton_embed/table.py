"""EmbeddingTable: object ids, labels, paths, sample ids and vectors, with where they come from; Parquet, CSV, npz."""

from __future__ import annotations

import json
import warnings
import zipfile
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plankton_embed.errors import InputError, MismatchError
from plankton_embed.output import write_atomically

if TYPE_CHECKING:
    import pandas as pd

TEXT_COLUMNS = ("object_id", "path", "label", "sample_id")
METADATA_KEY = b"plankton_embed"
_CSV_PROVENANCE = ("model_hash", "preparation_hash")
_READER_FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    OSError,
    EOFError,
    RuntimeError,
    Warning,
    zipfile.BadZipFile,
    zlib.error,
)
_NOT_GIVEN: Any = None  # filled when the table is made


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Vectors of images and what is known of them, row by row.

    Args:
        vectors: float32 (n, d), finite.
        object_id: (n,) text, each its own; by default `0`, `1`, ….
        label: (n,) class names, None where unknown.
        path: (n,) image files, None where unknown.
        sample_id: (n,) samples, None where unknown.
        provenance: plain values; `model_hash` and `preparation_hash` say which model made the vectors.

    Raises:
        InputError: lengths differ, an id is doubled, or a vector is not finite.
    """

    vectors: NDArray[np.float32]
    object_id: NDArray[np.object_] = _NOT_GIVEN
    label: NDArray[np.object_] = _NOT_GIVEN
    path: NDArray[np.object_] = _NOT_GIVEN
    sample_id: NDArray[np.object_] = _NOT_GIVEN
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise InputError(f"vectors: expected an array (n, d), found shape {vectors.shape}")
        object.__setattr__(self, "vectors", vectors)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise InputError(f"vectors: {len(bad)} rows hold values that are not finite, the first being row {bad[0]}")
        if self.object_id is _NOT_GIVEN:
            object.__setattr__(self, "object_id", [str(row) for row in range(len(vectors))])
        for name in TEXT_COLUMNS:
            column = _text_array(getattr(self, name), len(vectors), name)
            object.__setattr__(self, name, column)
        if None in self.object_id:
            raise InputError(f"object_id: row {list(self.object_id).index(None)} has none; each row needs its own")
        if len(set(self.object_id)) < len(self):
            ids, counts = np.unique(self.object_id.astype(str), return_counts=True)
            raise InputError(f"object_id {ids[counts.argmax()]} stands in {counts.max()} rows; each needs its own")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def model_hash(self) -> str | None:
        """Hash of the model that made the vectors; None when not stated."""
        return self.provenance.get("model_hash")

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted({label for label in self.label if label is not None})

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """(n,) whether the class is known."""
        return np.array([label is not None for label in self.label], dtype=bool)

    def select(self, mask: ArrayLike) -> EmbeddingTable:
        """Keep the rows of a boolean mask or of row numbers."""
        rows = np.asarray(mask) if np.size(mask) else np.zeros(0, dtype=np.intp)
        columns = {name: getattr(self, name)[rows] for name in ("vectors", *TEXT_COLUMNS)}
        return replace(self, **columns)

    def check_same_model(self, other: EmbeddingTable, names: tuple[str, str] = ("reference", "query")) -> None:
        """Make sure that distances between this table and another mean something.

        Raises:
            MismatchError: other models, or one is stated and the other not; both hashes are named.
            InputError: vectors of another length.
        """
        if self.model_hash != other.model_hash:
            raise MismatchError(
                f"{names[0]} was made by model {self.model_hash or '(not stated)'}, "
                f"{names[1]} by model {other.model_hash or '(not stated)'}: distances between them mean nothing. "
                "Embed both with the same model."
            )
        if self.dimension != other.dimension:
            raise InputError(
                f"{names[0]} has vectors of length {self.dimension}, {names[1]} of length {other.dimension}; "
                "embed both with the same model"
            )

    def to_frame(self) -> pd.DataFrame:
        """Return the text columns, then one column a dimension (`v0`, `v1`, …)."""
        import pandas as pd

        text = pd.DataFrame({name: getattr(self, name) for name in TEXT_COLUMNS})
        numbers = pd.DataFrame(self.vectors, columns=[f"v{i}" for i in range(self.dimension)])
        return pd.concat([text, numbers], axis=1)

    def save(self, path: str | Path) -> Path:
        """Write by suffix: `.parquet` (a fixed-size list of float32), `.npz`, or `.csv`, all without loss.

        A CSV keeps of the provenance `model_hash` and `preparation_hash`, as columns.
        """
        path = Path(path)
        if path.suffix not in _WRITERS:
            raise InputError(f"{path}: expected a name that ends in {', '.join(_WRITERS)}")
        with write_atomically(path) as temporary:
            _WRITERS[path.suffix](self, temporary)
        return path

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Read a table, or vectors that another model made.

        Parquet: a column of lists of numbers (any name; other columns beside it are passed over), or one numeric
        column a dimension. CSV: one numeric column a dimension. npz: an array `vectors` (n, d). Columns or arrays named
        `object_id`, `label`, `path` and `sample_id` are taken as such; without lists, other text columns are an error.

        Raises:
            InputError: the file is missing or holds no vectors.
        """
        path = Path(path)
        if path.suffix not in _READERS:
            raise InputError(f"{path}: expected a file that ends in {', '.join(_READERS)}")
        if not path.is_file():
            raise InputError(f"vectors {path} do not exist")
        try:
            return _READERS[path.suffix](path)
        except _READER_FAULTS as error:
            raise InputError(f"{path} cannot be read as vectors: {error}") from error


def holds_vectors(path: Path) -> bool:
    """Whether a file looks like vectors rather than a catalog of images; one that cannot be read does."""
    if path.suffix in (".parquet", ".csv") and not path.is_file():
        return not path.exists()
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(path)
        except (ValueError, OSError):
            return True
        return "path" not in schema.names or any(field.type.num_fields for field in schema)
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            names = [name.strip().strip('"') for name in file.readline().split(",")]
        return "path" not in names or "v0" in names
    return path.suffix == ".npz"


def _text_array(values: Any, n: int, name: str) -> NDArray[np.object_]:
    """Return (n,) text or None; numbers become text, nan and empty text None."""
    column = np.full(n, None, dtype=object)
    if values is None:
        return column
    if len(values) != n:
        raise InputError(f"{name}: expected {n} values, one a vector; found {len(values)}")
    for row, value in enumerate(values):
        if not (value is None or type(value).__name__ == "NAType" or value != value):  # pandas's NA is not a bool
            column[row] = str(value) or None
    if any("\0" in value for value in column if value):
        raise InputError(f"{name}: found a zero byte, which no file name or class name holds")
    return column


def _write_parquet(table: EmbeddingTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(table.vectors.reshape(-1), type=pa.float32())
    columns = {name: pa.array(getattr(table, name), type=pa.string()) for name in TEXT_COLUMNS}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, table.dimension)
    metadata = {METADATA_KEY: json.dumps(table.provenance, ensure_ascii=False).encode()}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def _read_parquet(path: Path) -> EmbeddingTable:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    data = pq.read_table(path)
    provenance = json.loads((data.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    kinds = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    data = data.drop_columns([name for name in data.schema.names if name.startswith("__index_level_")])  # of pandas
    lists = [field.name for field in data.schema if any(is_kind(field.type) for is_kind in kinds)]
    text = {name: data[name].to_pylist() for name in TEXT_COLUMNS if name in data.schema.names}
    if not lists:
        return _from_frame(data.drop_columns(list(text)).to_pandas(ignore_metadata=True), text, provenance)
    column = data[lists[0]]
    lengths = set(pc.list_value_length(column).to_pylist())
    if pa.types.is_fixed_size_list(column.type):
        lengths.add(column.type.list_size)
    if len(lists) > 1 or len(lengths) != 1 or None in lengths:
        raise InputError(f"expected one column of lists of equal length, none missing; found {lists or 'no rows'}")
    vectors = np.asarray(pc.list_flatten(column), dtype=np.float32)
    return EmbeddingTable(vectors.reshape(len(data), lengths.pop()), **text, provenance=provenance)


def _write_npz(table: EmbeddingTable, path: Path) -> None:
    text = {name: np.array([value or "" for value in getattr(table, name)], dtype=np.str_) for name in TEXT_COLUMNS}
    arrays: dict[str, Any] = {"vectors": table.vectors, "provenance": np.array(json.dumps(table.provenance)), **text}
    np.savez(path, **arrays)


def _read_npz(path: Path) -> EmbeddingTable:
    if not zipfile.is_zipfile(path):
        raise InputError("it is no npz archive; write it with numpy.savez")
    with np.load(path, allow_pickle=False) as data:
        if "vectors" not in data:
            raise InputError(f"expected an array named vectors, found {data.files}")
        text = {name: data[name] for name in TEXT_COLUMNS if name in data}
        provenance = json.loads(str(data["provenance"])) if "provenance" in data else {}
        return EmbeddingTable(data["vectors"], **text, provenance=provenance)


def _write_csv(table: EmbeddingTable, path: Path) -> None:
    import pyarrow as pa
    from pyarrow.csv import WriteOptions, write_csv

    frame = table.to_frame()
    for position, name in enumerate(_CSV_PROVENANCE):
        if table.provenance.get(name):
            frame.insert(len(TEXT_COLUMNS) + position, name, table.provenance[name])
    with path.open("wb") as file:
        file.write((",".join(map(str, frame)) + "\n").encode())
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        write_csv(rows, file, WriteOptions(include_header=False))  # pandas takes ten times as long


def _read_csv(path: Path) -> EmbeddingTable:
    import pandas as pd

    header = pd.read_csv(path, nrows=0, index_col=False).columns
    as_text: dict[Hashable, Any] = {name: str for name in header if name in (*TEXT_COLUMNS, *_CSV_PROVENANCE)}
    as_numbers = {name: np.float32 for name in header if name not in as_text}

    def read(kinds: dict[Hashable, Any]) -> pd.DataFrame:
        return pd.read_csv(path, dtype=kinds, keep_default_na=False, index_col=False)  # a class may be called NA

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
        try:
            frame = read(as_text | as_numbers)
        except ValueError:  # not all are numbers; which are not is said below
            frame = read(as_text)
    provenance: dict[str, Any] = {}
    for name in _CSV_PROVENANCE:
        if name in frame:
            values = set(frame.pop(name))
            if len(values) > 1:
                raise InputError(f"rows of several models ({name}: {sorted(values)})")
            provenance |= {name: value for value in values - {""}}  # noqa: B035  (one value, or none)
    text = {name: frame.pop(name).tolist() for name in TEXT_COLUMNS if name in frame}
    return _from_frame(frame, text, provenance)


def _from_frame(
    numbers: pd.DataFrame, text: Mapping[str, Sequence[Any]], provenance: Mapping[str, Any]
) -> EmbeddingTable:
    """Every column that is not one of the text columns is a dimension."""
    if any(str(name).startswith("Unnamed: ") for name in numbers):
        raise InputError("a column has no name; if it is a row index, write the file without it")
    strangers = [str(name) for name, kind in numbers.dtypes.items() if kind.kind not in "fiu" and len(numbers)]
    if strangers or numbers.shape[1] == 0:
        raise InputError(
            f"expected one numeric column a dimension beside {', '.join(TEXT_COLUMNS)}; "
            f"found text in {strangers or 'every column'}"
        )
    vectors = numbers.to_numpy(dtype=np.float32)
    return EmbeddingTable(vectors, **text, provenance=dict(provenance))  # type: ignore[arg-type]


TABLE_SUFFIXES = (".parquet", ".npz", ".csv")
_WRITERS = {".parquet": _write_parquet, ".npz": _write_npz, ".csv": _write_csv}
_READERS = {".parquet": _read_parquet, ".npz": _read_npz, ".csv": _read_csv}
