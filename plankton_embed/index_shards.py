"""The files of a sharded index: its shards, the list of them, and a change that is not finished."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError, OutputError
from plankton_embed.output import LOCK_FILE, refuse_overwrite, write_folder_atomically, write_json
from plankton_embed.shards import hash_text
from plankton_embed.table import TEXT_COLUMNS, EmbeddingTable
from plankton_embed.vector_index import INDEX_FILE, import_faiss

LIST_FILE, UNFINISHED_FILE = "shards.json", "unfinished.json"
CODES_FILE, VECTORS_FILE, ROWS_FILE, IDS_FILE = INDEX_FILE, "vectors.npy", "rows.parquet", "ids.npy"  # of a shard
FORMAT_VERSION = 1
GROUP_ROWS = 2**16  # of the ids, labels and paths, which are read together


@dataclass(frozen=True)
class IndexShard:
    """A shard: a folder with the codes of some vectors, the vectors, their ids, labels and paths, and hashes of ids.

    `name` is that of its folder in the index; `n_vectors` the number of its vectors.
    """

    name: str
    n_vectors: int

    @classmethod
    def write(cls, index_folder: Path, table: EmbeddingTable, cells: Any) -> IndexShard:
        """Write a table as a shard, completely or not at all; `cells` is an empty index, which gives the codes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        faiss, name = import_faiss(), _new_name()
        with _write_shard(index_folder / name) as folder:
            codes = faiss.clone_index(cells)
            codes.add(table.vectors)
            faiss.write_index(codes, str(folder / CODES_FILE))
            np.save(folder / VECTORS_FILE, table.vectors)
            np.save(folder / IDS_FILE, np.sort(hash_text(table.object_id)))
            columns = {column: pa.array(getattr(table, column), type=pa.string()) for column in TEXT_COLUMNS}
            pq.write_table(pa.table(columns), folder / ROWS_FILE, row_group_size=GROUP_ROWS)
        return cls(name, len(table))

    def copy(self, source: Path, target: Path) -> IndexShard:
        """Copy this shard from one index folder into another, completely or not at all."""
        name = _new_name()
        with _write_shard(target / name) as folder:
            shutil.copytree(source / self.name, folder, dirs_exist_ok=True)
        return IndexShard(name, self.n_vectors)

    def read_codes(self, index_folder: Path, dimension: int) -> Any:
        """Read the codes into memory: a FAISS index."""
        path = index_folder / self.name / CODES_FILE
        try:
            codes = import_faiss().read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path} cannot be read: {error}; build the index again") from error
        if codes.ntotal != self.n_vectors or codes.d != dimension:
            raise InputError(
                f"{path}: expected {self.n_vectors} vectors of {dimension} numbers, found {codes.ntotal} of {codes.d}; "
                "build the index again"
            )
        return codes

    def map_vectors(self, index_folder: Path) -> NDArray[np.float32]:
        """Return the vectors (n, d), of which only what is used is read."""
        return _map_array(index_folder / self.name / VECTORS_FILE)

    def map_hashes(self, index_folder: Path) -> NDArray[np.uint64]:
        """Return the sorted hashes of the ids (n,), of which only what is used is read."""
        return _map_array(index_folder / self.name / IDS_FILE)

    def read_column(self, index_folder: Path, column: str) -> tuple[NDArray[np.object_], NDArray[np.intp]]:
        """Return the different values of one of TEXT_COLUMNS, and the number of each row's, -1 where it has none."""
        rows = _open_rows(index_folder / self.name / ROWS_FILE).read([column])
        encoded = rows[column].combine_chunks().dictionary_encode()
        values = encoded.dictionary.to_numpy(zero_copy_only=False)
        return values, encoded.indices.fill_null(-1).to_numpy().astype(np.intp)

    def read_ids(self, index_folder: Path) -> NDArray[np.object_]:
        """Return the object IDs (n,)."""
        return self.read_column(index_folder, "object_id")[0]

    def read_rows(self, index_folder: Path, rows: NDArray[np.int64]) -> list[Any]:
        """Return TEXT_COLUMNS of sorted rows (m,), as Arrow tables; only the groups with these rows are read."""
        import pyarrow as pa

        if not len(rows):
            return []
        file, groups = _open_rows(index_folder / self.name / ROWS_FILE), rows // GROUP_ROWS
        return [
            file.read_row_group(group, columns=list(TEXT_COLUMNS)).take(pa.array(rows[groups == group] % GROUP_ROWS))
            for group in np.unique(groups).tolist()
        ]


@dataclass(frozen=True)
class ShardList:
    """The list of an index: its shards, and what a search needs. The file is replaced last in every change."""

    dimension: int
    provenance: dict[str, Any]
    n_probes: int
    recall: float | None
    shards: list[IndexShard]

    def save(self, index_folder: Path) -> None:
        """Replace the list, completely or not at all."""
        n_vectors = sum(shard.n_vectors for shard in self.shards)
        facts = {"format_version": FORMAT_VERSION, "kind": "sharded", "n_vectors": n_vectors}
        write_json(index_folder / LIST_FILE, facts | asdict(self))

    @classmethod
    def load(cls, index_folder: Path) -> ShardList:
        """Read the list, and make sure that its shards are there.

        Raises:
            InputError: the folder contains no complete index.
        """
        try:
            saved = json.loads((index_folder / LIST_FILE).read_text(encoding="utf-8"))
            if saved["format_version"] != FORMAT_VERSION:
                raise InputError(
                    f"{index_folder}: expected format_version {FORMAT_VERSION}, found {saved['format_version']}; "
                    "another release of plankton_embed has written it"
                )
            names = ("dimension", "provenance", "n_probes", "recall")
            found = cls(**{name: saved[name] for name in names}, shards=[IndexShard(**s) for s in saved["shards"]])
        except InputError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            unfinished = (index_folder / UNFINISHED_FILE).is_file()
            what = "; it was stopped while it was built: run the same command again" if unfinished else f": {error}"
            raise InputError(f"{index_folder} contains no complete sharded index{what}") from error
        missing = [shard.name for shard in found.shards if not (index_folder / shard.name / CODES_FILE).is_file()]
        if missing:
            raise InputError(
                f"{index_folder}: {len(missing)} of {len(found.shards)} shards are missing, such as {missing[0]}; copy "
                "the whole folder, or build the index again"
            )
        return found


@dataclass
class Change:
    """A change of an index: the shards written so far, noted in a file, with which the same call continues."""

    folder: Path
    key: str
    shards: list[IndexShard]

    @classmethod
    def begin(cls, index_folder: Path, key: str) -> Change:
        """Continue the change of this key if it was stopped; remove what any other left."""
        change, kept = cls(index_folder, key, []), list_shards(index_folder)
        with suppress(OSError, ValueError, TypeError, KeyError):
            saved = json.loads((index_folder / UNFINISHED_FILE).read_text(encoding="utf-8"))
            if saved["key"] == key and saved["beside"] == [shard.name for shard in kept]:
                change.shards = [IndexShard(**shard) for shard in saved["shards"]]
        _remove_others(index_folder, [*kept, *change.shards])
        change._save()
        return change

    def append(self, shard: IndexShard) -> None:
        """Note a shard that is on disk."""
        self.shards.append(shard)
        self._save()

    def finish(self, shard_list: ShardList) -> None:
        """Replace the list of the index, then remove the shards that are no longer in it."""
        shard_list.save(self.folder)
        (self.folder / UNFINISHED_FILE).unlink(missing_ok=True)
        _remove_others(self.folder, shard_list.shards)

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Remove what was written if the input is at fault: the same call would end in the same way."""
        try:
            yield
        except InputError:
            (self.folder / UNFINISHED_FILE).unlink(missing_ok=True)
            _remove_others(self.folder, list_shards(self.folder))
            raise

    def _save(self) -> None:
        beside = [shard.name for shard in list_shards(self.folder)]
        shards = [asdict(shard) for shard in self.shards]
        write_json(self.folder / UNFINISHED_FILE, {"key": self.key, "beside": beside, "shards": shards})


def is_sharded_index(folder: str | Path) -> bool:
    """Return whether a folder contains a sharded index, also one whose build was stopped."""
    return any((Path(folder) / name).is_file() for name in (LIST_FILE, UNFINISHED_FILE))


def refuse_index(folder: str | Path, overwrite: bool = False) -> Path:
    """Return the folder; raise OutputError if a sharded index cannot, or must not, be written there.

    A build that was stopped may be continued, whatever `overwrite` is.
    """
    folder = Path(folder)
    if (folder / UNFINISHED_FILE).is_file() and not (folder / LIST_FILE).is_file():
        return folder
    if folder.is_dir() and all(path.name == LOCK_FILE for path in folder.iterdir()):
        return folder
    return refuse_overwrite(folder, overwrite, made_of=LIST_FILE)


def list_shards(index_folder: Path) -> list[IndexShard]:
    """Return the shards in the list of an index; none if there is no index yet."""
    return ShardList.load(index_folder).shards if (index_folder / LIST_FILE).is_file() else []


def _remove_others(index_folder: Path, shards: Sequence[IndexShard]) -> None:
    """Remove the shards that are not among these, and what a killed process was writing."""
    kept = {shard.name for shard in shards}
    for path in index_folder.iterdir():
        if path.is_dir() and path.name.lstrip(".").startswith("shard-") and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _new_name() -> str:
    return f"shard-{secrets.token_hex(6)}"


def _open_rows(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; build the index again") from error


def _map_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; build the index again") from error
    return array


@contextmanager
def _write_shard(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; it is renamed to `path` only if the block succeeds, when its files are on disk.

    Raises:
        OutputError: the files cannot be written.
    """
    try:
        with write_folder_atomically(path) as folder:
            yield folder
            for written in folder.iterdir():
                with written.open("rb+") as file:
                    os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # FAISS raises the second
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {path}: {error}; the shards before it are kept: make room on the disk, and run the same "
            "command again"
        ) from error
