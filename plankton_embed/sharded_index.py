"""ShardedIndex: a FAISS index in parts (shards), for more vectors than memory holds."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.index_shards import CODES_FILE, Change, IndexShard, ShardList, refuse_index
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar, write_alone
from plankton_embed.shards import hash_text
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import (
    BLAS_FROM,
    BLOCK,
    LEAST_IVF,
    N_TUNING,
    PER_CELL,
    SPARE,
    TUNING_K,
    Neighbors,
    check_queries,
    drop_themselves,
    find_longest,
    import_faiss,
    multiply_from,
)
from plankton_embed.vector_shards import Vectors, VectorShards

SHARD_SIZE = 1_250_000  # vectors; 320 MB of 64 numbers, and about 100 MB of codes
LEAST_SHARD = 1000  # vectors
MOST_CELLS = 2**16  # their training takes 64 vectors of each: 1 GB of 64 numbers
RECALL = 0.98  # of the search of a new index
AT_ONCE = 2**16  # vectors that are read, or compared exactly, at a time
N_OPEN = 1  # shards whose codes stay in memory


class ShardedIndex(Shown):
    """Finds the nearest vectors among more than memory holds: an `ivf_sq8` index (see `VectorIndex`) in shards.

    A shard is a folder with the codes of its vectors, the vectors themselves, and their ids, labels and paths. The
    shards of a build have the same cells, which are found once, on a sample. A search reads the codes of one shard
    after the other, merges what it finds, and compares the best of all with the vectors themselves, so that distances
    are exact. The row of a vector is its number in the whole index, shard by shard.

    The list of shards is replaced last: whoever opens the index finds it as it was before a change, or after it. A
    change that was stopped is continued by the same call; any other call removes what it left.

    Attributes:
        folder: where it is.
        kind: `sharded`.
        provenance: of the vectors (see `EmbeddingTable`).
        dimension: length of the vectors.
        n_probes: cells that a search looks through in each shard.
        recall: share of the 10 nearest that a search finds, as `tune` measures it; None if the index has changed since.
        n_open: shards whose codes stay in memory, 1 by default. With as many as there are, searches after the first
            read no codes.
    """

    kind = "sharded"

    def __init__(self, folder: Path, saved: ShardList):
        self.folder, self.dimension, self.provenance = folder, saved.dimension, saved.provenance
        self.n_probes, self.recall, self.n_open = saved.n_probes, saved.recall, N_OPEN
        self._set_shards(saved.shards)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    @property
    def n_cells(self) -> int:
        """Number of cells of the first shard; of all, unless indexes were merged."""
        return int(self._open(self._shards[0]).nlist)

    @property
    def model_hash(self) -> str | None:
        """Hash of the model that made the vectors; None if not stated."""
        return self.provenance.get("model_hash")

    @property
    def bytes_per_vector(self) -> float:
        """Size of the codes on disk, in bytes per vector; the vectors, 4 bytes per number, are beside them."""
        return sum((self.folder / shard.name / CODES_FILE).stat().st_size for shard in self._shards) / len(self)

    # ---------------------------------------------------------------------------------------------- build and change

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        folder: str | Path,
        *,
        shard_size: int = SHARD_SIZE,
        overwrite: bool = False,
        progress: bool = False,
    ) -> ShardedIndex:
        """Build an index over vectors, one shard at a time, in a folder.

        The cells (4 √n of n vectors, at most 65,536) are found on a sample of 64 vectors for each. Then the shards are
        written, and `tune` chooses how many cells a search looks through.

        Args:
            vectors: a table, or a folder of Parquet files as `VectorShards`.
            folder: where to write.
            shard_size: vectors of a shard. While one is built, about 1.5 kB of memory is needed for each of its vectors
                (of 64 numbers).
            overwrite: replace the index in this folder, which can be read until the new one is complete.
            progress: show a bar.

        Raises:
            SettingError: fewer vectors than the cells need, or than a shard must have (1,000).
            InputError: a vector is too long (see `VectorIndex.build`).
            OutputError: the folder contains something else, or another program is writing to it.
        """
        folder = refuse_index(folder, overwrite)
        _check_size(shard_size)
        if len(vectors) < LEAST_IVF:
            raise SettingError(f"a sharded index needs at least {LEAST_IVF:,} vectors, found {len(vectors)}; use flat")
        n_cells = int(min(4 * np.sqrt(len(vectors)), len(vectors) // 44, MOST_CELLS))
        with write_alone(folder):
            change = Change.begin(folder, f"build {shard_size} {_digest(vectors)}")
            built = cls(folder, ShardList(vectors.dimension, dict(vectors.provenance), 1, None, change.shards))
            with change.undone_on_error():
                cells = built._read_cells() if change.shards else _train_cells(vectors, n_cells)
                built._set_shards(_write_shards(change, vectors, cells, shard_size, progress))
            built._tune(RECALL)
            change.finish(built._as_list())
        return built

    def add(self, vectors: Vectors, *, shard_size: int = SHARD_SIZE, progress: bool = False) -> None:
        """Add vectors as further shards, with the cells of the first shard; all of them, or none.

        After many additions, or those of other images, call `tune`, which measures the recall again, or build the index
        again.

        Raises:
            MismatchError: the vectors were made by another model; both hashes are given.
            InputError: an object ID is in the index already, or a vector is too long (see `VectorIndex.build`).
            OutputError: another program is writing to the index.
        """
        _check_size(shard_size)
        self._as_table().check_same_model(vectors, ("the index", "the vectors to add"))
        if not len(vectors):
            return

        def check(table: EmbeddingTable) -> None:
            self._refuse_known_ids(hash_text(table.object_id), table.object_id.tolist)

        with write_alone(self.folder):
            self._check_current()
            change = Change.begin(self.folder, f"add {shard_size} {_digest(vectors)}")
            with change.undone_on_error():
                added = _write_shards(change, vectors, self._read_cells(), shard_size, progress, check)
            self._set_shards([*self._shards, *added])
            self.recall = None
            change.finish(self._as_list())

    def merge(self, other: ShardedIndex, *, progress: bool = False) -> None:
        """Add copies of the shards of another index, whose cells may differ; all of them, or none.

        Raises:
            MismatchError: the indexes were made by different models.
            InputError: an object ID is in both.
            OutputError: another program is writing to the index.
        """
        self._as_table().check_same_model(other, ("the index", "the index to add"))
        with write_alone(self.folder):
            self._check_current()
            for shard in other._shards:
                self._refuse_known_ids(shard.map_hashes(other.folder), partial(shard.read_ids, other.folder))
            names = " ".join(shard.name for shard in other._shards)
            change = Change.begin(self.folder, f"merge {other.folder.absolute()} {names}")
            for shard in progress_bar(other._shards[len(change.shards) :], "merge", "shard", shown=progress):
                change.append(shard.copy(other.folder, self.folder))
            self._set_shards([*self._shards, *change.shards])
            self.n_probes, self.recall = max(self.n_probes, other.n_probes), None
            change.finish(self._as_list())

    def tune(self, recall: float = RECALL) -> float:
        """Let searches look through as few cells as this recall needs: 1, 2, 4, … or all; return the recall reached.

        Recall@10 is measured on 1,000 vectors of the index (a tenth of a smaller one), each left out of its own answer:
        the share of answers that are at most as far as the 10th nearest vector.

        Raises:
            SettingError: the recall is out of range.
            OutputError: another program is writing to the index.
        """
        if not 0 < recall <= 1:
            raise SettingError(f"recall: expected a share above 0, at most 1; found {recall}")
        with write_alone(self.folder):
            self._check_current()
            self._tune(recall)
            self._as_list().save(self.folder)
        return float(self.recall or 0.0)

    def _tune(self, recall: float) -> None:
        n_chosen = min(N_TUNING, max(len(self) // 10, 1))
        chosen = np.sort(np.random.default_rng(0).choice(len(self), n_chosen, replace=False))
        queries, k = self._take_vectors(chosen), min(TUNING_K + 1, len(self))
        farthest = drop_themselves(*self.search_exactly(queries, k), chosen)[0][:, -1:]
        self.n_probes, n_cells = 1, self.n_cells
        while True:
            missed = drop_themselves(*self._search(queries, k), chosen)[0] > farthest
            self.recall = 1 - float(missed.mean())
            if self.recall >= recall or self.n_probes >= n_cells:
                return
            self.n_probes = min(2 * self.n_probes, n_cells)

    def _refuse_known_ids(self, hashes: NDArray[np.uint64], read_ids: Callable[[], Iterable[str]]) -> None:
        """Raise an error if new ids are in the index: they are read only if some of their hashes are."""
        for shard in self._shards:
            both = np.intersect1d(shard.map_hashes(self.folder), hashes)
            if not len(both):
                continue
            ids = shard.read_ids(self.folder)
            if twice := set(ids[np.isin(hash_text(ids), both)]).intersection(read_ids()):
                raise InputError(
                    f"object_ids of the vectors to add are in the index already, such as {min(twice)}; remove them "
                    "from one of the two"
                )

    def _check_current(self) -> None:
        """Make sure that no other program has changed the index since it was opened."""
        if ShardList.load(self.folder).shards != self._shards:
            raise InputError(f"{self.folder} was changed by another program; open it again")

    def _as_list(self) -> ShardList:
        return ShardList(self.dimension, self.provenance, self.n_probes, self.recall, self._shards)

    @classmethod
    def load(cls, folder: str | Path) -> ShardedIndex:
        """Open an index; only the list of its shards is read.

        Raises:
            InputError: the folder contains no complete index.
        """
        return cls(Path(folder), ShardList.load(Path(folder)))

    # ---------------------------------------------------------------------------------------------- search and read

    def search(self, queries: EmbeddingTable | NDArray[np.float32], k: int = 10) -> Neighbors:
        """Find the k nearest vectors of each query; arguments, result and errors are those of `VectorIndex.search`."""
        return Neighbors(*self._search(check_queries(queries, k, self._as_table(), len(self)), k))

    def _search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        best = _Best(len(queries), min(k + max(k, SPARE), len(self)))
        for shard, start in self._located():
            codes = self._open(shard)
            codes.nprobe = min(self.n_probes, codes.nlist)
            with multiply_from(BLAS_FROM * self.dimension):
                squares, rows = codes.search(queries, min(best.n, shard.n_vectors))
            best.add(np.where(rows < 0, np.inf, squares), np.where(rows < 0, -1, rows + start))
        distances, rows = self._rank(queries, best.rows, k)
        short = np.flatnonzero(rows[:, k - 1] < 0)  # the searched cells contain fewer than k
        if len(short):
            distances[short], rows[short] = self.search_exactly(queries[short], k)
        return distances, rows

    def search_exactly(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Compare queries (q, d) with every vector, read from disk; return distances and rows (q, k), nearest first."""
        faiss, best = import_faiss(), _Best(len(queries), min(k + SPARE, len(self)))
        for shard, start in self._located():
            vectors = shard.map_vectors(self.folder)
            for first in range(0, len(vectors), AT_ONCE):
                part = np.ascontiguousarray(vectors[first : first + AT_ONCE])
                with multiply_from(BLAS_FROM * self.dimension):
                    squares, rows = faiss.knn(queries, part, min(best.n, len(part)))
                best.add(squares, np.asarray(rows, dtype=np.int64) + (start + first))
        return self._rank(queries, best.rows, k)

    def _rank(
        self, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return exact distances and rows of the k nearest candidates, the lower row first among equals; -1 last."""
        nearest, found = np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), BLOCK):
            rows = candidates[start : start + BLOCK]
            distances = np.full(rows.shape, np.inf, dtype=np.float32)
            query, column = np.nonzero(rows >= 0)
            vectors = self._take_vectors(rows[query, column])
            distances[query, column] = np.linalg.norm(queries[start + query] - vectors, axis=1)
            order = np.lexsort((rows, distances), axis=1)[:, :k]
            nearest[start : start + BLOCK] = np.take_along_axis(distances, order, axis=1)
            found[start : start + BLOCK] = np.take_along_axis(rows, order, axis=1)
        return nearest, found

    def take(self, rows: NDArray[np.integer]) -> EmbeddingTable:
        """Read the vectors, ids, labels and paths of rows (m,), in this order; each row once.

        Raises:
            InputError: a row is not in the index.
        """
        import pyarrow as pa

        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise InputError(f"rows: expected 0 to {len(self) - 1}; found {wanted.min()} to {wanted.max()}")
        order = np.argsort(wanted, kind="stable")
        parts = [
            part
            for (shard, start), own in zip(self._located(), self._divide(wanted[order]), strict=True)
            for part in shard.read_rows(self.folder, wanted[order][own] - start)
        ]
        text = pa.concat_tables(parts).to_pydict() if parts else {}
        found = EmbeddingTable(self._take_vectors(wanted[order]), **text, provenance=self.provenance)
        return found.select(np.argsort(order, kind="stable"))

    def _take_vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the vectors of rows (m,), which may be repeated."""
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        for (shard, start), own in zip(self._located(), self._divide(rows[order]), strict=True):
            if own.start < own.stop:
                vectors[order[own]] = shard.map_vectors(self.folder)[rows[order[own]] - start]
        return vectors

    def _divide(self, rows: NDArray[np.int64]) -> list[slice]:
        """Return, of sorted rows, those in each shard."""
        ends = np.searchsorted(rows, self._starts).tolist()
        return [slice(first, last) for first, last in pairwise(ends)]

    def read_labels(self) -> tuple[list[str], NDArray[np.int32]]:
        """Return the class names, sorted, and the class code of every vector (n,), -1 without a label."""
        columns = [shard.read_column(self.folder, "label") for shard in self._shards]
        classes = sorted(set[str]().union(*(names.tolist() for names, _ in columns)))
        number = {name: code for code, name in enumerate(classes)}
        codes = [np.array([*(number[name] for name in names), -1], dtype=np.int32)[own] for names, own in columns]
        return classes, np.concatenate(codes)

    def vector_blocks(self, n_rows: int) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors in the order of the rows, at most `n_rows` at a time."""
        for shard in self._shards:
            vectors = shard.map_vectors(self.folder)
            for start in range(0, len(vectors), n_rows):
                yield np.ascontiguousarray(vectors[start : start + n_rows])

    # ---------------------------------------------------------------------------------------------- shards

    def _set_shards(self, shards: Sequence[IndexShard]) -> None:
        self._shards = list(shards)
        self._starts = np.cumsum([0, *(shard.n_vectors for shard in shards)])
        self._opened: OrderedDict[str, Any] = OrderedDict()

    def _located(self) -> Iterator[tuple[IndexShard, int]]:
        """Yield every shard, with the number of its first row."""
        yield from zip(self._shards, self._starts[:-1].tolist(), strict=True)

    def _open(self, shard: IndexShard) -> Any:
        """Return the codes of a shard; of the others, as many stay in memory as `n_open` allows."""
        if shard.name not in self._opened:
            while len(self._opened) >= max(self.n_open, 1):
                self._opened.popitem(last=False)
            self._opened[shard.name] = shard.read_codes(self.folder, self.dimension)
        self._opened.move_to_end(shard.name)
        return self._opened[shard.name]

    def _read_cells(self) -> Any:
        """Return an empty index with the cells of the first shard."""
        cells = import_faiss().clone_index(self._open(self._shards[0]))
        cells.reset()
        return cells

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}  # another process reads the codes itself

    def _as_table(self) -> EmbeddingTable:
        return EmbeddingTable(np.empty((0, self.dimension), dtype=np.float32), provenance=self.provenance)

    def _describe(self) -> str:
        measured = "not measured" if self.recall is None else f"{self.recall:.3f}"
        return (
            f"{self.kind}, {len(self):,} vectors in {self.n_shards:,} shards, {self.dimension} dimensions, "
            f"{self.n_probes} cells of each searched, recall@{TUNING_K} {measured}"
        )


class _Best:
    """The n nearest rows of each query so far, by their squared distances."""

    def __init__(self, n_queries: int, n: int):
        self.n = n
        self.squares: NDArray[np.float32] = np.full((n_queries, n), np.inf, dtype=np.float32)
        self.rows: NDArray[np.int64] = np.full((n_queries, n), -1, dtype=np.int64)

    def add(self, squares: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Add candidates (q, m)."""
        squares = np.concatenate([self.squares, squares], axis=1)
        rows = np.concatenate([self.rows, rows], axis=1)
        order = np.argsort(squares, axis=1, kind="stable")[:, : self.n]
        self.squares = np.take_along_axis(squares, order, axis=1)
        self.rows = np.take_along_axis(rows, order, axis=1)


def compress_blocks(
    vectors: Vectors, n_means: int, seed: int = 0, *, progress: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Do the same as `compress_vectors`, but read the vectors a part at a time: first for a sample, then all.

    Args:
        vectors: a table, or shards.
        n_means: the largest number of means.
        seed: seed of the sample, and of the vectors with which k-means starts.
        progress: show a bar.

    Raises:
        InputError: a vector is too long (see `VectorIndex.build`).
    """
    faiss, sample = import_faiss(), np.unique(_draw_sample(vectors, 10 * n_means, seed), axis=0)
    center = sample.mean(axis=0, dtype=np.float64).astype(np.float32)  # FAISS expands |x - y|^2
    rounds = {"niter": 2, "min_points_per_centroid": 1, "max_points_per_centroid": 10}
    kmeans = faiss.Kmeans(vectors.dimension, min(n_means, len(sample)), seed=seed, **rounds)
    kmeans.train(sample - center)
    sums = np.zeros((kmeans.k, vectors.dimension))
    nearest, start = np.empty(len(vectors), dtype=np.intp), 0
    with progress_bar(len(vectors), "means", "vector", shown=progress) as bar:
        for block in vectors.vector_blocks(4 * BLOCK):
            find_longest(block, "vectors")
            own = kmeans.index.search(np.ascontiguousarray(block - center), 1)[1][:, 0]
            nearest[start : start + len(block)] = own
            for column, values in enumerate(block.T):
                sums[:, column] += np.bincount(own, values, kmeans.k)
            start += len(block)
            bar.update(len(block))
    used, mean_of, counts = np.unique(nearest, return_inverse=True, return_counts=True)
    return sums[used] / counts[:, None], counts, mean_of


def _check_size(shard_size: int) -> None:
    if shard_size < LEAST_SHARD:
        raise SettingError(f"shard size: expected at least {LEAST_SHARD:,} vectors; found {shard_size}")


def _digest(vectors: Vectors) -> str:
    """Return a text that differs for other vectors; a table in memory differs always, so that it is not continued."""
    if isinstance(vectors, VectorShards):
        return f"{vectors.folder.absolute()} {vectors.digest()} {len(vectors)}"
    return secrets.token_hex(8)


def _draw_sample(vectors: Vectors, n: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw about n vectors at random, reading all of them a part at a time."""
    rng, share = np.random.default_rng(seed), min(n / len(vectors), 1.0)
    sample = np.concatenate([part[rng.random(len(part)) < share] for part in vectors.vector_blocks(AT_ONCE)])
    find_longest(sample, "vectors")
    return sample


def _train_cells(vectors: Vectors, n_cells: int) -> Any:
    """Return an empty index whose cells, and the steps of its codes, are found on a sample."""
    sample = _draw_sample(vectors, PER_CELL * n_cells)
    index = import_faiss().index_factory(vectors.dimension, f"IVF{n_cells},SQ8")
    index.train(np.ascontiguousarray(sample))
    return index


def _write_shards(
    change: Change,
    vectors: Vectors,
    cells: Any,
    shard_size: int,
    progress: bool,
    check: Callable[[EmbeddingTable], None] | None = None,
) -> list[IndexShard]:
    """Write the shards of the vectors that the change does not yet have; return all of the change."""
    start = sum(shard.n_vectors for shard in change.shards)
    rest: Vectors = vectors.select(np.arange(len(vectors)) >= start) if start else vectors
    with progress_bar(len(vectors), "index", "vector", shown=progress, done=start) as bar:
        for table in _read_tables(rest, shard_size):
            find_longest(table.vectors, f"vectors from row {start} on")
            if check is not None:
                check(table)
            change.append(IndexShard.write(change.folder, table, cells))
            start += len(table)
            bar.update(len(table))
    return change.shards


def _read_tables(vectors: Vectors, n_rows: int) -> Iterator[EmbeddingTable]:
    """Yield tables of `n_rows` rows; none without rows."""
    if isinstance(vectors, VectorShards):
        yield from vectors.blocks(n_rows) if len(vectors) else ()
        return
    for start in range(0, len(vectors), n_rows):
        yield vectors.select(np.arange(start, min(start + n_rows, len(vectors))))
