"""EmbeddingTable: vectors with object ids, labels, paths, sample ids and provenance; Parquet, CSV, npz."""

from __future__ import annotations

import functools
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plankton_embed.dimension_columns import VECTOR_NAMES, find_dimensions, find_families, is_dimension_name
from plankton_embed.errors import InputError, MismatchError
from plankton_embed.notebook import N_ROWS, Shown
from plankton_embed.output import write_atomically
from plankton_embed.shards import Shards, is_shards, open_parquet
from plankton_embed.spreadsheet import (
    MISSING,
    clean_label,
    drop_points,
    list_lines,
    parse_table,
    read_decimal_commas,
    read_header,
    read_raw,
    to_text,
    to_utf8,
)

if TYPE_CHECKING:
    import pandas as pd

TEXT_COLUMNS = ("object_id", "path", "label", "sample_id")
SEEN = "seen"  # column of vectors: whether the model was trained on the image; missing if it was on none of them
METADATA_KEY = b"plankton_embed"
UNKNOWN_START = "unknown_start"  # in the provenance: it is not known which images the model was trained on
_CSV_PROVENANCE = ("model_hash", "preparation_hash", UNKNOWN_START)
_READER_FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
_NOT_GIVEN: Any = None  # filled when the table is made

logger = logging.getLogger(__name__)


class OfModel(Protocol):
    """Vectors of a model, wherever they are."""

    @property
    def model_hash(self) -> str | None: ...  # noqa: D102
    @property
    def dimension(self) -> int: ...  # noqa: D102
    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingTable(Shown):
    """Vectors of images with their metadata, one row per image.

    Args:
        vectors: float32 (n, d), finite.
        object_id: (n,) unique text; by default `0`, `1`, ….
        label: (n,) class names, None where unknown.
        path: (n,) image files, None where unknown.
        sample_id: (n,) samples, None where unknown.
        columns: (n,) other measurements of the images, by name.
        provenance: plain values; `model_hash` and `preparation_hash` identify the model that made the vectors.

    Raises:
        InputError: lengths differ, an id occurs twice, or a vector is not finite.
    """

    vectors: NDArray[np.float32]
    object_id: NDArray[np.object_] = _NOT_GIVEN
    label: NDArray[np.object_] = _NOT_GIVEN
    path: NDArray[np.object_] = _NOT_GIVEN
    sample_id: NDArray[np.object_] = _NOT_GIVEN
    provenance: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise InputError(f"vectors: expected an array (n, d), found shape {vectors.shape}")
        object.__setattr__(self, "vectors", vectors)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise InputError(f"vectors: {len(bad)} rows contain values that are not finite, first in row {bad[0]}")
        if self.object_id is _NOT_GIVEN:
            object.__setattr__(self, "object_id", [str(row) for row in range(len(vectors))])
        for name in TEXT_COLUMNS:
            column = clean_column(getattr(self, name), len(vectors), name)
            object.__setattr__(self, name, column)
        object.__setattr__(self, "columns", {name: np.asarray(values) for name, values in self.columns.items()})
        for name, values in self.columns.items():
            if values.shape != (len(vectors),):
                raise InputError(f"{name}: expected {len(vectors)} values, one a vector; found shape {values.shape}")
        if None in self.object_id:
            raise InputError(f"object_id: row {list(self.object_id).index(None)} has none; each row needs a unique one")
        if len(set(self.object_id)) < len(self):
            ids, counts = np.unique(self.object_id.astype(str), return_counts=True)
            raise InputError(f"object_id {ids[counts.argmax()]} is in {counts.max()} rows; each row needs a unique one")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def model_hash(self) -> str | None:
        """Hash of the model that made the vectors; None if not stated."""
        return self.provenance.get("model_hash")

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted({label for label in self.label if label is not None})

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """(n,) whether the image has a label."""
        return np.array([label is not None for label in self.label], dtype=bool)

    @property
    def labelled(self) -> EmbeddingTable:
        """The labelled rows; this table itself if all rows are labelled."""
        mask = self.is_labelled  # not cached: labels may be corrected in place
        return self if mask.all() else self.select(mask)

    def select(self, mask: ArrayLike) -> EmbeddingTable:
        """Keep the rows of a boolean mask, or the rows with these numbers."""
        rows = np.asarray(mask) if np.size(mask) else np.zeros(0, dtype=np.intp)
        columns = {name: getattr(self, name)[rows] for name in ("vectors", *TEXT_COLUMNS)}
        return replace(self, **columns, columns={name: values[rows] for name, values in self.columns.items()})

    def vector_blocks(self, n_rows: int) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors, `n_rows` at a time."""
        for start in range(0, len(self), n_rows):
            yield self.vectors[start : start + n_rows]

    def join(self, other: EmbeddingTable) -> EmbeddingTable:
        """Append the rows of another table; a column that one of the tables lacks is nan in its rows."""
        both = (self, other)
        rows: dict[str, Any] = {
            name: np.concatenate([getattr(table, name) for table in both]) for name in ("vectors", *TEXT_COLUMNS)
        }
        columns = {
            name: np.concatenate([table.columns.get(name, np.full(len(table), np.nan)) for table in both])
            for name in self.columns | other.columns
        }
        return replace(self, **rows, columns=columns)

    def check_same_model(self, other: OfModel, names: tuple[str, str] = ("reference", "query")) -> None:
        """Make sure that distances between the vectors of two tables are meaningful.

        Raises:
            MismatchError: the models differ, or only one is stated; both hashes are given.
            InputError: the vectors have different lengths.
        """
        if self.model_hash != other.model_hash:
            raise MismatchError(
                f"{names[0]} was made by model {self.model_hash or '(not stated)'}, "
                f"{names[1]} by model {other.model_hash or '(not stated)'}: distances between them are meaningless. "
                "Embed both with the same model."
            )
        if self.dimension != other.dimension:
            raise InputError(
                f"{names[0]} has vectors of length {self.dimension}, {names[1]} of length {other.dimension}; "
                "embed both with the same model"
            )
        precisions = [table.provenance.get("precision") for table in (self, other)]
        if all(precisions) and precisions[0] != precisions[1]:
            logger.warning(
                "%s was embedded in %s, %s in %s: the vectors of one image differ by rounding, and copies are not "
                "found; embed both with the same --precision",
                *(names[0], precisions[0], names[1], precisions[1]),
            )

    def to_frame(self) -> pd.DataFrame:
        """Return the text columns, the other columns, and one column per dimension (`v0`, `v1`, …)."""
        import pandas as pd

        text = pd.DataFrame({name: getattr(self, name) for name in TEXT_COLUMNS})
        numbers = pd.DataFrame(self.vectors, columns=[f"v{i}" for i in range(self.dimension)])
        return pd.concat([text, pd.DataFrame(self.columns, index=text.index), numbers], axis=1)

    def save(self, path: str | Path) -> Path:
        """Write `.parquet` (a fixed-size list of float32), `.npz`, or `.csv`, according to the suffix, without loss.

        Of the provenance, a CSV keeps only `model_hash`, `preparation_hash` and `unknown_start`, as columns.
        """
        path = Path(path)
        if path.suffix not in _WRITERS:
            raise InputError(f"{path}: expected a name that ends in {', '.join(_WRITERS)}")
        with write_atomically(path) as temporary:
            _WRITERS[path.suffix](self, temporary)
        return path

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Read a table, or vectors that another model made: a file, or a folder of Parquet files (shards).

        Parquet: a column of lists of numbers, all of one length, or one numeric column per dimension. CSV: one numeric
        column per dimension. npz: an array `vectors` (n, d). Columns or arrays named `object_id`, `label`, `path` and
        `sample_id` are read as such; other numbers are kept in `columns`. The dimensions are the columns whose names
        are a word followed by the numbers 0, 1, … or 1, 2, … (`v0`, `dim_1`), in this order. The word is one of
        DIMENSION_NAMES, or the word of most numeric columns. If several columns contain lists, the vectors are in the
        one with a name in VECTOR_NAMES, else in the only one of floats. Without lists, other text is an error.

        Raises:
            InputError: the file is missing, or it is not clear which columns are the vectors; or the shards of a folder
                do not fit together.
            MismatchError: the shards were made by different models.
        """
        path = Path(path)
        shards = Shards.open(path) if is_shards(path) else None
        provenance = {} if shards is None else join_provenance(shards)
        if shards is None and path.suffix not in _READERS:
            raise InputError(f"{path}: expected a file that ends in {', '.join(_READERS)}, or a folder of such Parquet")
        if shards is None and not path.is_file():
            raise InputError(f"vectors {path} do not exist")
        try:
            table = _READERS[path.suffix](path) if shards is None else _read_shards(shards, provenance)
        except _READER_FAULTS as error:
            raise InputError(f"{path} cannot be read as vectors: {error}") from error
        if others := [name for name in table.columns if name != SEEN]:
            logger.info("%s: %d dimensions; not among them: %s", path, table.dimension, ", ".join(others))
        return table

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> EmbeddingTable:
        """Make a table from a data frame: a column `vector` of lists, or one numeric column per dimension (see `load`).

        Args:
            frame: columns named `object_id`, `label`, `path` and `sample_id` are read as such; other numbers are kept.
            provenance: plain values, such as `model_hash`.
        """
        text: dict[str, Any] = {name: frame[name].tolist() for name in TEXT_COLUMNS if name in frame}
        rest = frame.drop(columns=list(text))
        named = next((name for name in VECTOR_NAMES if name in rest and rest[name].dtype == object), None)
        if named is None:
            return _from_frame(rest, text, dict(provenance or {}))
        try:
            vectors = np.stack(rest[named].tolist()).astype(np.float32)
        except (ValueError, TypeError) as error:
            raise InputError(f"column {named}: expected lists of numbers of one length; {error}") from error
        columns = _keep_columns(rest.drop(columns=named))
        return cls(vectors, **text, provenance=dict(provenance or {}), columns=columns)

    @classmethod
    def concat(cls, tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
        """Concatenate the rows of several tables; all must be of the same model.

        Raises:
            InputError: no table, or an object ID is in two of them.
            MismatchError: the tables were made by different models; both hashes are given.
        """
        if not tables:
            raise InputError("concat: expected at least one table; found none")
        for other in tables[1:]:
            tables[0].check_same_model(other, ("the first table", "another table"))
        return functools.reduce(cls.join, tables)

    def _describe(self) -> str:
        parts = [f"{len(self):,} images", f"{self.dimension} dimensions"]
        parts += [f"{len(self.classes)} classes"] if self.classes else []
        return ", ".join([*parts, f"model {self.model_hash}"] if self.model_hash else parts)

    def _preview(self) -> pd.DataFrame:
        import pandas as pd

        first = slice(N_ROWS)
        columns = {name: getattr(self, name)[first] for name in ("path", "object_id", "label", "sample_id")}
        return pd.DataFrame(columns).dropna(axis=1, how="all")


def class_means(vectors: NDArray[Any], codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean vector of every class, (C, d), not renormalised; each code 0 … C-1 is present."""
    n_images = np.bincount(codes)
    means = np.empty((len(n_images), vectors.shape[1]))
    for column, values in enumerate(vectors.T):
        means[:, column] = np.bincount(codes, values) / n_images
    return means


def holds_vectors(path: Path) -> bool:
    """Return whether a file looks like vectors rather than a catalog of images; true if it cannot be read.

    Of a folder of shards, the first file.
    """
    if is_shards(path):
        return next((holds_vectors(file) for file in sorted(path.glob("[!._]*.parquet"))), True)
    if path.suffix in (".parquet", ".csv") and not path.is_file():
        return not path.exists()
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(path)
        except (ValueError, OSError):
            return True
        kinds = _list_kinds(schema)
        return "path" not in schema.names or any(
            name.lower() in VECTOR_NAMES or pa.types.is_floating(kind) for name, kind in kinds.items()
        )
    if path.suffix == ".csv":
        with path.open("rb") as file:
            start = file.read(1 << 20)
        try:
            names = [name.strip() for name in read_header(to_utf8(start))[0]]
        except InputError:
            return True
        return "path" not in names or "v0" in names
    return path.suffix == ".npz"


def clean_column(values: Any, n: int, name: str) -> NDArray[np.object_]:
    """Return a column of TEXT_COLUMNS as (n,) text or None; numbers become text, nan and empty text become None."""
    column = np.full(n, None, dtype=object)
    if values is None:
        return column
    if len(values) != n:
        raise InputError(f"{name}: expected {n} values, one a vector; found {len(values)}")
    cleaners: dict[str, Callable[[str], str]] = {"label": clean_label, "sample_id": str.strip}
    clean = cleaners.get(name)
    values = values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind in "OU" else values
    if not set(map(type, values)) <= {str, type(None)}:
        column[:] = to_text(values, clean or str)
    elif clean is None:  # these two do what to_text does, for millions of values in a fraction of its time
        column[:] = [value or None for value in values]
    else:
        cleaned = {value: clean(value) or None if value else None for value in set(values)}
        column[:] = [cleaned[value] for value in values]
    if "\0" in "".join(filter(None, column)):
        raise InputError(f"{name}: found a zero byte, which a file name or class name cannot contain")
    return column


def _write_parquet(table: EmbeddingTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(table.vectors.reshape(-1), type=pa.float32())
    columns = {name: pa.array(getattr(table, name), type=pa.string()) for name in TEXT_COLUMNS}
    columns |= {name: pa.array(values) for name, values in table.columns.items()}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, table.dimension)
    metadata = {METADATA_KEY: json.dumps(table.provenance, ensure_ascii=False).encode()}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def _read_parquet(path: Path) -> EmbeddingTable:
    import pyarrow.parquet as pq

    data = pq.read_table(path)
    return from_arrow(data, json.loads((data.schema.metadata or {}).get(METADATA_KEY, b"{}")))


def read_provenance(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of rows and the provenance of a Parquet file of vectors."""
    found = open_parquet(path).metadata
    return found.num_rows, json.loads((found.metadata or {}).get(METADATA_KEY, b"{}"))


def _read_shards(shards: Shards, provenance: Mapping[str, Any]) -> EmbeddingTable:
    table = from_arrow(next(shards.read(max(len(shards), 1))), provenance)
    is_used = SEEN in table.columns and table.columns[SEEN].any()
    return table if is_used else replace(table, columns={n: v for n, v in table.columns.items() if n != SEEN})


def join_provenance(shards: Shards) -> dict[str, Any]:
    """Return the provenance of the vectors in the files of a folder; the faults of all files together.

    Raises:
        MismatchError: the files were made by different models; both hashes are given.
    """
    every = [json.loads(metadata.get(METADATA_KEY, b"{}")) for metadata in shards.metadata]
    faults: dict[str, str] = {}
    for one in every:
        own = one.pop("faults", {})  # path -> why; of a job, rows of object_id, path, why
        faults |= own if isinstance(own, dict) else {path: why for _, path, why in own}
    for path, other in zip(shards.files, every, strict=True):
        if other.get("model_hash") != every[0].get("model_hash"):
            first, second = (one.get("model_hash") or "(not stated)" for one in (every[0], other))
            raise MismatchError(
                f"{path} was made by model {second}, {shards.files[0].name} by model {first}: distances between them "
                "are meaningless. Embed all images of a folder with the same model."
            )
    if len({one.get("precision") for one in every}) > 1:
        logger.warning(
            "%s: some files were embedded in bfloat16, others in float32: the vectors of one image differ by rounding, "
            "and copies are not found; embed all with --precision float32",
            shards.folder,
        )
    return {**every[0], **({"faults": faults} if faults else {})}


def from_arrow(data: Any, provenance: Mapping[str, Any], warn: bool = True) -> EmbeddingTable:
    """Make a table from a table of Arrow (see `EmbeddingTable.load`)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data = data.drop_columns([name for name in data.schema.names if name.startswith("__index_level_")])  # of pandas
    text: dict[str, Any] = {}
    for column in TEXT_COLUMNS:
        if column in data.schema.names:
            is_text = pa.types.is_string(data[column].type) or pa.types.is_large_string(data[column].type)
            text[column] = data[column].to_numpy() if is_text else data[column].to_pylist()
    nested = [field.name for field in data.schema if field.type.num_fields]
    frame = data.drop_columns([*text, *nested]).to_pandas(ignore_metadata=True)
    name = choose_list(data)
    is_sure = name is not None and name.lower() in VECTOR_NAMES
    if not nested or (not is_sure and any(map(is_dimension_name, find_families(map(str, frame))))):
        return _from_frame(frame, text, dict(provenance))
    if name is None:
        raise InputError(
            f"expected one column of lists of numbers, called vector; found lists in {nested}; rename one of them"
        )
    kind = _list_kinds(data.schema)[name]
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(f"column {name}: expected lists of numbers; found lists of {kind}; save one flat list per row")
    if not is_sure and warn:
        logger.warning("no column is called vector: the lists in %s are read as the vectors", name)
    lengths = _list_lengths(data[name])
    if len(lengths) != 1 or None in lengths:
        found = "no rows" if not len(data) else ", ".join(map(str, sorted(lengths, key=str)))
        raise InputError(f"column {name}: expected lists of equal length, none missing; found lengths {found}")
    vectors = np.asarray(pc.list_flatten(data[name]), dtype=np.float32).reshape(len(data), lengths.pop())
    return EmbeddingTable(vectors, **text, provenance=dict(provenance), columns=_keep_columns(frame))


def _list_kinds(schema: Any) -> dict[str, Any]:
    """Return the columns of lists, and the type of their values."""
    import pyarrow as pa

    kinds = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    return {field.name: field.type.value_type for field in schema if any(is_kind(field.type) for is_kind in kinds)}


def _list_lengths(column: Any) -> set[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = set(pc.list_value_length(column).unique().to_pylist())
    return lengths | {column.type.list_size} if pa.types.is_fixed_size_list(column.type) else lengths


def choose_list(data: Any) -> str | None:
    """Return the column of lists that contains the vectors; None if there is none, or it is not clear which."""
    import pyarrow as pa

    kinds = _list_kinds(data.schema)
    named = [name for name in kinds if name.lower() in VECTOR_NAMES]
    floats = [name for name, kind in kinds.items() if pa.types.is_floating(kind)]
    if len(floats) > 1:
        floats = [name for name in floats if len(_list_lengths(data[name])) == 1]
    alone = [name for name, kind in kinds.items() if len(kinds) == 1 and not pa.types.is_integer(kind)]
    return next((found[0] for found in (named, floats, alone) if len(found) == 1), None)


def _write_npz(table: EmbeddingTable, path: Path) -> None:
    text = {name: np.array([value or "" for value in getattr(table, name)], dtype=np.str_) for name in TEXT_COLUMNS}
    arrays: dict[str, Any] = {"vectors": table.vectors, "provenance": np.array(json.dumps(table.provenance)), **text}
    np.savez(path, **(table.columns | arrays))


def _read_npz(path: Path) -> EmbeddingTable:
    if not zipfile.is_zipfile(path):
        raise InputError("it is not an npz archive; write it with numpy.savez")
    with np.load(path, allow_pickle=False) as data:
        if "vectors" not in data:
            raise InputError(f"expected an array named vectors, found {data.files}")
        try:
            text = {name: data[name] for name in TEXT_COLUMNS if name in data}
            vectors = data["vectors"]
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            raise InputError(
                "expected arrays of numbers or text; found Python objects; save text as np.array(names, dtype=str)"
            ) from error
        provenance = json.loads(str(data["provenance"])) if "provenance" in data else {}
        others = dict[str, NDArray[Any]]()
        for name in data.files:
            try:
                others[name] = data[name]
            except ValueError:  # Python objects
                continue
        columns = {name: values for name, values in others.items() if values.shape == vectors.shape[:1]}
        return EmbeddingTable(vectors, **text, provenance=provenance, columns=_keep_columns(columns))


def _write_csv(table: EmbeddingTable, path: Path) -> None:
    import pyarrow as pa
    from pyarrow.csv import WriteOptions, write_csv

    frame = table.to_frame()
    for position, name in enumerate(_CSV_PROVENANCE):
        if table.provenance.get(name):
            frame.insert(len(TEXT_COLUMNS) + position, name, table.provenance[name])
    with path.open("wb") as file:
        file.write(frame.iloc[:0].to_csv(index=False, lineterminator="\n").encode())
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        write_csv(rows, file, WriteOptions(include_header=False))  # pandas takes ten times as long


def _read_csv(path: Path) -> EmbeddingTable:
    raw = read_raw(path, "vectors")
    header, delimiter = read_header(raw)
    as_text: dict[Hashable, Any] = {c: str for c in header if c.strip() in (*TEXT_COLUMNS, *_CSV_PROVENANCE)}
    dimensions = find_dimensions([c.strip() for c in header if c not in as_text])
    as_numbers = {c: np.float32 for c in header if c.strip() in dimensions}
    options: dict[str, Any] = {"na_values": {c: MISSING for c in header if c not in as_text and c not in as_numbers}}
    try:
        frame = parse_table(raw, path, dtype=as_text | as_numbers, **options)
    except InputError:
        raise
    except ValueError:  # not all are numbers; those that are not are reported below
        frame = parse_table(raw, dtype=as_text, **options)
    for column in frame.columns.difference(list(as_text)):
        if (numbers := read_decimal_commas(frame[column], delimiter)) is not None:
            frame[column] = numbers
    frame = frame.rename(columns=str.strip)
    provenance: dict[str, Any] = {}
    for name in _CSV_PROVENANCE:
        if name in frame:
            values = set(frame.pop(name))
            if len(values) > 1:
                raise InputError(f"rows of several models ({name}: {sorted(values)})")
            provenance |= {name: value for value in values - {""}}  # noqa: B035  (one value, or none)
    text = {name: drop_points(frame.pop(name), raw).tolist() for name in TEXT_COLUMNS if name in frame}
    return _from_frame(frame, text, provenance, raw)


def _from_frame(
    frame: pd.DataFrame,
    text: Mapping[str, Sequence[Any]],
    provenance: Mapping[str, Any],
    raw: bytes | None = None,
) -> EmbeddingTable:
    """Read the columns of dimensions as vectors, and keep the other numbers; `raw` is the text of a CSV."""
    import pandas as pd

    if any(str(name).startswith("Unnamed: ") for name in frame):
        raise InputError("a column has no name; if it is a row index, write the file without it")
    frame = frame.rename(columns=str)
    text_columns = [name for name, kind in frame.dtypes.items() if kind.kind not in "fiub" and len(frame)]
    if text_columns or frame.shape[1] == 0:
        shown = ""
        if text_columns and raw is not None:  # the first cell that is not a number
            cells = frame[text_columns[0]]
            row = int(pd.to_numeric(cells, errors="coerce").isna().argmax())
            shown = f", such as {cells.iloc[row]!r} in row {list_lines(raw)[row]}"
        raise InputError(
            f"expected one numeric column per dimension beside {', '.join(TEXT_COLUMNS)}; "
            f"found text in {text_columns or 'every column'}{shown}"
        )
    dimensions = find_dimensions(frame.columns)
    if not dimensions:
        shown = ", ".join(frame.columns[:8]) + (", …" if frame.shape[1] > 8 else "")
        raise InputError(
            f"expected one numeric column per dimension, called v0, v1, …; found {shown}, which may or may not be "
            "dimensions; rename the dimensions"
        )
    vectors = frame[dimensions].to_numpy(dtype=np.float32)
    columns = _keep_columns(frame.drop(columns=dimensions))
    return EmbeddingTable(vectors, **text, provenance=dict(provenance), columns=columns)  # type: ignore[arg-type]


def _keep_columns(columns: Mapping[str, Any] | pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return the columns of numbers and booleans, without those whose names are reserved for dimensions and arrays."""
    arrays = {str(name): np.asarray(values) for name, values in columns.items()}
    own = re.compile("|".join((r"v\d+", "provenance", *VECTOR_NAMES, *TEXT_COLUMNS, *_CSV_PROVENANCE)))
    return {name: values for name, values in arrays.items() if values.dtype.kind in "biuf" and not own.fullmatch(name)}


TABLE_SUFFIXES = (".parquet", ".npz", ".csv")
_WRITERS = {".parquet": _write_parquet, ".npz": _write_npz, ".csv": _write_csv}
_READERS = {".parquet": _read_parquet, ".npz": _read_npz, ".csv": _read_csv}
