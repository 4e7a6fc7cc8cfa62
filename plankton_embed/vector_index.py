"""FAISS similarity index: build, search, save, load (the only file that imports faiss)."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import DependencyError, InputError, SettingError
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar, refuse_overwrite, write_folder_atomically
from plankton_embed.table import EmbeddingTable, class_means

logger = logging.getLogger(__name__)

IndexKind = Literal["flat", "ivf_flat", "ivf_sq8", "auto"]  # and `sharded`, see `sharded_index`
FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
INDEX_FILE, TABLE_FILE, CONFIG_FILE = "index.faiss", "vectors.parquet", "config.json"
BLOCK = 4096  # queries at a time
GPU_MOST = 2048  # neighbours, and cells searched: FAISS's own limits there
SPARE = 8  # candidates beyond k, sorted again by their exact distances
MOST_FLAT, MOST_IVF_FLAT = 200_000, 2_000_000  # vectors for which `auto` chooses these kinds
FACTORY = {"ivf_flat": "Flat", "ivf_sq8": "SQ8"}
LEAST_IVF = 1000  # vectors that cells need
PER_CELL = 64  # vectors a cell that its training takes
N_TUNING, TUNING_K = 1000, 10  # vectors whose neighbours the recall is measured on, and neighbours of each
BLAS_FROM = 20  # queries at a time for which FAISS expands the square, and multiplies matrices
FEW = 16  # queries at a time for which it subtracts vectors instead
LONGEST = 1e18  # length of a vector: the square of a larger distance exceeds float32, and FAISS leaves it out


@dataclass(frozen=True, repr=False)
class Neighbors(Shown):
    """The nearest reference rows of each query, nearest first.

    `distances` float32 (q, k), Euclidean; `rows` int64 (q, k).
    """

    distances: NDArray[np.float32]
    rows: NDArray[np.int64]

    def _describe(self) -> str:
        n_queries, k = self.rows.shape
        return f"{n_queries:,} queries, {k} nearest rows of each"


class VectorIndex(Shown):
    """Finds the nearest vectors of a table.

    `flat` compares with every vector and is exact. `ivf_flat` and `ivf_sq8` divide the vectors into cells (k-means) and
    search only the cells nearest to the query; `ivf_sq8` stores one byte per number, for many millions of vectors.
    Distances are Euclidean, not squared, and computed from the vectors of the table, so they are exact for all kinds.

    Attributes:
        table: the vectors with their object ids and labels.
        kind: `flat`, `ivf_flat` or `ivf_sq8`.
        recall: share of the 10 nearest that a search finds, as `tune` measures it: 1 if `flat`; None if the index has
            changed since, or comes from an earlier release.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        index: Any,
        kind: IndexKind,
        searcher: Any = None,
        recall: float | None = None,
    ):
        self.kind: IndexKind = kind
        self._set(table, index, recall, searcher)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def model_hash(self) -> str | None:
        """Hash of the model that made the vectors; None if not stated."""
        return self.table.model_hash

    @property
    def n_cells(self) -> int:
        """Number of cells; 1 if `flat`."""
        return 1 if self.kind == "flat" else int(self._index.nlist)

    @property
    def n_probes(self) -> int:
        """Number of cells that a search looks through (`nprobe` in FAISS)."""
        return 1 if self.kind == "flat" else int(self._index.nprobe)

    @property
    def bytes_per_vector(self) -> float:
        """Size of the saved index by its vectors, in bytes; the table, 4 bytes per number of a vector, is beside it."""
        if self.kind == "flat":
            return 4.0 * self.table.dimension
        centroids = 4 * self.table.dimension * self.n_cells
        return float(self._index.code_size + 8 + centroids / len(self))  # each code has an id of 8 bytes

    @classmethod
    def build(cls, table: EmbeddingTable, kind: IndexKind = "flat") -> VectorIndex:
        """Build an index over a table; a flat index over the same array that is still in use is shared.

        `auto` is `flat` up to 200,000 vectors, `ivf_flat` up to 2,000,000, else `ivf_sq8`. An IVF index has 4 √n cells,
        and searches as many of them as `tune` chooses, on vectors that its cells were not trained on.

        Raises:
            SettingError: an unknown kind, or too few vectors for an IVF index (it needs 1,000).
            InputError: no vector, or one so long (above 1e18) that distances exceed float32.
            DependencyError: no usable FAISS is installed; the message contains the command that fixes it.
        """
        faiss = import_faiss()
        n, d = table.vectors.shape
        if n == 0:
            raise InputError("an index needs at least one vector, found none")
        if kind == "auto":
            kind = "flat" if n <= MOST_FLAT else "ivf_flat" if n <= MOST_IVF_FLAT else "ivf_sq8"
        if kind == "flat":
            shared = _flat_indexes.get(id(table.vectors))
            if shared is not None and shared._still_holds(table.vectors):
                built = cls(table, shared._index, kind, shared._searcher)
            else:
                built = cls(table, _build_flat(table.vectors), kind)
            _flat_indexes[id(table.vectors)] = built
            return built
        if kind not in FACTORY:
            raise SettingError(f"index kind: expected flat, ivf_flat, ivf_sq8 or auto, found {kind!r}")
        if n < LEAST_IVF:
            raise SettingError(f"{kind} needs at least {LEAST_IVF:,} vectors, found {n}; use flat")
        find_longest(table.vectors, "vectors")
        n_cells = int(min(4 * np.sqrt(n), n // 44))  # FAISS wants 39 vectors of each cell, beside those of the tuning
        _, rest = _draw_tuning(n)
        index = faiss.index_factory(d, f"IVF{n_cells},{FACTORY[kind]}")
        index.train(table.vectors[rest[: PER_CELL * n_cells]])
        index.add(table.vectors)
        built = cls(table, index, kind, searcher=index)
        built.tune()
        return built

    def tune(self, recall: float = 0.98) -> float:
        """Let searches look through as few cells as this recall needs: 1, 2, 4, … or all; return the recall reached.

        Recall@10 is measured on vectors of the index (a tenth of them, at most 1,000), each left out of its own answer,
        against an exact search: the share of answers that are at most as far as the 10th nearest vector. It may be
        lower for queries that are unlike the vectors of the index. A flat index is exact and is not changed. A warning
        if all cells of an `ivf_sq8` do not reach this recall, as its codes are too coarse.

        Args:
            recall: the least share to find, above 0 and at most 1.

        Raises:
            SettingError: the recall is out of range.
        """
        if not 0 < recall <= 1:
            raise SettingError(f"recall: expected a share above 0, at most 1; found {recall}")
        if self.kind == "flat":
            return 1.0
        chosen, _ = _draw_tuning(len(self))
        queries, n_probes = self.table.vectors[chosen], 1
        every = self._search_exactly(self._search_all, queries, min(TUNING_K + 1, len(self)))
        farthest = drop_themselves(*every, chosen)[0][:, -1:]
        while True:
            self._index.nprobe = n_probes
            with multiply_from(BLAS_FROM * self.table.dimension):  # as a search does
                _, candidates = self._index.search(queries, self._count_candidates(TUNING_K + 1))
            distances, rows = self._rank(queries, candidates)
            missed = drop_themselves(distances[:, : TUNING_K + 1], rows[:, : TUNING_K + 1], chosen)[0] > farthest
            reached = 1 - float(missed.sum() / max(missed.size, 1))
            if reached >= recall or n_probes == self.n_cells:
                break
            n_probes = min(2 * n_probes, self.n_cells)
        if reached < recall:
            logger.warning(
                "%s: a search of all %d cells finds %.1f %% of the %d nearest, less than %.1f %%, because its codes "
                "are too coarse for these vectors; build the index again, with kind ivf_flat",
                *(self.kind, self.n_cells, 100 * reached, TUNING_K, 100 * recall),
            )
        self._set(self.table, self._index, reached)
        return reached

    def add(self, table: EmbeddingTable) -> None:
        """Add the rows of a table to this index, after its own.

        The cells of an IVF index, and how many of them a search looks through, stay as they are. After many additions,
        or those of other images, call `tune`, which measures the recall again, or build the index again.

        Raises:
            MismatchError: the vectors were made by another model; both hashes are given.
            InputError: an object ID is in the index already, or a vector is too long (see `build`).
        """
        self.table.check_same_model(table, ("the index", "the table to add"))
        new = set(table.object_id)
        twice = [name for name in self.table.object_id if name in new]
        if twice:
            raise InputError(
                f"{len(twice)} object_ids of the table to add are in the index already, such as {twice[0]}; "
                "remove them from one of the two"
            )
        if not len(table):
            return
        find_longest(table.vectors, "the table to add")
        joined = self.table.join(table)
        if self.kind == "flat":  # others may search the same index
            index = _build_flat(joined.vectors)
        else:
            index = self._index
            index.add(table.vectors)
        self._set(joined, index)

    def remove(self, object_ids: Iterable[str]) -> None:
        """Remove the vectors with these object ids from this index; the rows after them move up.

        Raises:
            InputError: an object ID is not in the index, or no vector would remain.
        """
        unwanted = {object_ids} if isinstance(object_ids, str) else set(map(str, object_ids))
        if not unwanted:
            return
        keep = np.array([name not in unwanted for name in self.table.object_id])
        missing = unwanted.difference(self.table.object_id[~keep])
        if missing:
            raise InputError(f"{len(missing)} object_ids to remove are not in the index, such as {min(missing)}")
        if not keep.any():
            raise InputError(f"all {len(self)} vectors would be removed; an index needs at least one")
        left = self.table.select(keep)
        if self.kind == "flat":
            index = _build_flat(left.vectors)
        else:
            index = self._index
            index.remove_ids(np.flatnonzero(~keep))
            _renumber(index.invlists, np.cumsum(keep) - 1)
        self._set(left, index)

    def merge(self, other: VectorIndex) -> None:
        """Add the rows of another index to this one (see `add`); its kind may differ, and it is not changed."""
        self.add(other.table)

    def _set(self, table: EmbeddingTable, index: Any, recall: float | None = None, searcher: Any = None) -> None:
        self.table = table
        self._index = index
        self.recall = 1.0 if self.kind == "flat" else recall
        if searcher is None:
            searcher = _to_gpu(index) if self.n_probes <= GPU_MOST else index
        self._searcher = searcher
        self._longest = find_longest(table.vectors, "vectors")

    def _still_holds(self, vectors: NDArray[np.float32]) -> bool:
        """Return whether this flat index was built over this array, and the array has not been changed."""
        faiss = import_faiss()
        stored = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        return self.table.vectors is vectors and np.array_equal(stored.reshape(len(self), -1), vectors)

    def search(self, queries: EmbeddingTable | NDArray[np.float32], k: int = 10) -> Neighbors:
        """Find the k nearest vectors of each query.

        Args:
            queries: a table (made by the same model), or float (q, d).
            k: neighbours; at most the size of the index.

        Raises:
            MismatchError: the queries were made by another model.
            InputError: k is out of range, or the vectors have another dimension, are not finite, or are too long (see
                `build`).
        """
        queries = check_queries(queries, k, self.table, len(self))
        distances = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), BLOCK):
            block = slice(start, start + BLOCK)
            distances[block], rows[block] = self._search_block(queries[block], k)
        return Neighbors(distances, rows)

    def search_others(self, k: int = 10) -> Neighbors:
        """Find the k nearest other vectors of each vector in the index.

        Args:
            k: neighbours; less than the size of the index.

        Raises:
            InputError: k is out of range.
        """
        if not 1 <= k < len(self):
            raise InputError(f"k: expected 1 to {len(self) - 1} (the others in the index), found {k}")
        found = self.search(self.table.vectors, k + 1)
        return Neighbors(*drop_themselves(found.distances, found.rows, np.arange(len(self))))

    def _count_candidates(self, k: int) -> int:
        """Return how many candidates FAISS is to find, of which the k nearest by their exact distances are kept."""
        spare = {"flat": SPARE, "ivf_sq8": max(k, SPARE)}.get(self.kind, 0)
        return min(k + spare, len(self))

    def _search_block(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        n_candidates = self._count_candidates(k)
        searcher = self._searcher if n_candidates <= GPU_MOST else self._index
        if self.kind == "flat":
            return self._search_exactly(searcher.search, queries, k)
        with multiply_from(BLAS_FROM * self.table.dimension):
            _, rows = searcher.search(queries, n_candidates)
        distances, rows = self._rank(queries, rows)
        short = np.flatnonzero(rows[:, k - 1] < 0)  # the searched cells contain fewer than k
        if len(short):
            distances[short, :k], rows[short, :k] = self._search_exactly(self._search_all, queries[short], k)
        return distances[:, :k], rows[:, :k]

    def _search_all(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Compare queries with every vector of the table, by FAISS on the processor; return squares and rows."""
        squares, rows = import_faiss().knn(queries, self.table.vectors, k)
        return squares, np.asarray(rows, dtype=np.int64)

    def _search_exactly(
        self, search: Callable[..., Any], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return exact distances and rows of the k nearest, given a search of all vectors that rounds.

        FAISS expands |q - v|^2, with an error up to `error`: subtract where it could hide a nearer vector.
        """
        n_candidates = min(k + SPARE, len(self))
        with multiply_from(BLAS_FROM * self.table.dimension):
            squares, rows = search(queries, n_candidates)
        distances, rows = self._rank(queries, rows)
        if n_candidates < len(self):
            length = np.linalg.norm(queries, axis=1) + self._longest
            error = np.finfo(np.float32).eps * (self.table.dimension + 4) * length**2
            doubtful = np.flatnonzero(distances[:, k - 1] ** 2 + error >= squares[:, -1])
            for start in range(0, len(doubtful), FEW):
                few = doubtful[start : start + FEW]
                with multiply_from(BLAS_FROM * self.table.dimension):
                    _, found = self._search_all(queries[few], n_candidates)
                distances[few], rows[few] = self._rank(queries[few], found)
        return distances[:, :k], rows[:, :k]

    def _rank(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return exact distances and rows, nearest first, the lower row first among equals; rows of -1 last."""
        distances = np.empty(rows.shape, dtype=np.float32)
        for column in range(rows.shape[1]):
            distances[:, column] = np.linalg.norm(queries - self.table.vectors[rows[:, column]], axis=1)
        distances[rows < 0] = np.inf
        order = np.lexsort((rows, distances), axis=1)
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def save(self, folder: str | Path) -> Path:
        """Write the index and its table to a folder, completely or not at all."""
        faiss = import_faiss()
        refuse_overwrite(folder, overwrite=True, made_of=INDEX_FILE)
        with write_folder_atomically(folder) as temporary:
            self.table.save(temporary / TABLE_FILE)
            faiss.write_index(self._index, str(temporary / INDEX_FILE))
            config = {
                "kind": self.kind,
                "n_vectors": len(self),
                "model_hash": self.table.model_hash,
                "n_cells": self.n_cells,
                "n_probes": self.n_probes,
                "recall": self.recall,
            }
            (temporary / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> VectorIndex:
        """Load an index from its folder, or from the folder of a run.

        Raises:
            InputError: the folder contains no complete index.
        """
        faiss = import_faiss()
        folder = Path(folder)
        if not (folder / CONFIG_FILE).is_file() and (folder / "index" / CONFIG_FILE).is_file():
            folder = folder / "index"
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            table = EmbeddingTable.load(folder / TABLE_FILE)
            index = faiss.read_index(str(folder / INDEX_FILE))
            kind, recall = config["kind"], config.get("recall")
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{folder} contains no complete index: {error}") from error
        if index.ntotal != len(table) or index.d != table.dimension:
            raise InputError(f"{folder}: the index has {index.ntotal} vectors, its table {len(table)}; build it again")
        return cls(table, index, kind, recall=recall)

    def _describe(self) -> str:
        shown = f"{self.kind}, {len(self):,} vectors, {self.table.dimension} dimensions"
        if self.kind == "flat":
            return shown
        measured = "not measured" if self.recall is None else f"{self.recall:.3f}"
        return f"{shown}, {self.n_probes} of {self.n_cells:,} cells searched, recall@{TUNING_K} {measured}"


_limit_lock = threading.Lock()  # the limit is one for the process
if hasattr(os, "register_at_fork"):  # a fork waits for searches in other threads, which do not go on in the new process
    os.register_at_fork(
        before=_limit_lock.acquire, after_in_parent=_limit_lock.release, after_in_child=_limit_lock.release
    )
_flat_indexes: weakref.WeakValueDictionary[int, VectorIndex] = weakref.WeakValueDictionary()  # by the id of the array


def _to_gpu(index: Any) -> Any:
    """Return a copy of the index on all GPUs, or the index itself if this build of FAISS finds none."""
    resources = _gpu_resources()
    return import_faiss().index_cpu_to_gpu_multiple_py(resources, index) if resources else index


@functools.cache
def _gpu_resources() -> list[Any]:
    """Return the scratch memory (about 1.5 GB) of every GPU, which all indexes share."""
    faiss = import_faiss()
    n_gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return [faiss.StandardGpuResources() for _ in range(n_gpus)]


@contextmanager
def multiply_from(n_numbers: int) -> Iterator[None]:
    """Let FAISS multiply matrices if the queries have at least so many numbers in all.

    FAISS 1.15 does so only from 128,000 numbers on: 20 to 2,000 queries of 64 numbers then take five times as long. The
    limit of older releases, 20 queries, is lower and stays.
    """
    variables = import_faiss().cvar
    with _limit_lock:
        before = variables.distance_compute_blas_threshold
        variables.distance_compute_blas_threshold = min(before, n_numbers)
        try:
            yield
        finally:
            variables.distance_compute_blas_threshold = before


def _build_flat(vectors: NDArray[np.float32]) -> Any:
    index = import_faiss().IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return index


def check_queries(
    queries: EmbeddingTable | NDArray[np.float32], k: int, table: EmbeddingTable, n_vectors: int
) -> NDArray[np.float32]:
    """Return the vectors of queries if an index of `n_vectors`, made as `table`, can be searched for them.

    Errors are those of `VectorIndex.search`.
    """
    if isinstance(queries, EmbeddingTable):
        table.check_same_model(queries, ("the index", "the query"))
        queries = queries.vectors
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != table.dimension:
        raise InputError(f"queries: expected shape (q, {table.dimension}), found {queries.shape}")
    if not np.isfinite(queries).all():
        raise InputError("queries: expected finite numbers, found nan or infinity")
    find_longest(queries, "queries")
    if not 1 <= k <= n_vectors:
        raise InputError(f"k: expected 1 to {n_vectors} (the size of the index), found {k}")
    return queries


def find_longest(vectors: NDArray[np.float32], what: str) -> float:
    """Return the length of the longest vector, 0 if there is none.

    Raises:
        InputError: it is above 1e18.
    """
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    row = int(lengths.argmax()) if len(lengths) else 0
    longest = float(lengths[row]) if len(lengths) else 0.0
    if longest > LONGEST:
        raise InputError(
            f"{what}: expected lengths up to {LONGEST:g}, as squared distances between longer vectors exceed float32; "
            f"found a value of {float(np.abs(vectors[row]).max()):g} in row {row}; is it a fill value for missing data?"
        )
    return longest


def _draw_tuning(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows, of n, whose neighbours the recall is measured on, and the others in random order."""
    rows = np.random.default_rng(0).permutation(n)
    n_tuning = min(N_TUNING, max(n // 10, 1))
    return rows[:n_tuning], rows[n_tuning:]


def drop_themselves(
    distances: NDArray[np.float32], rows: NDArray[np.int64], own: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Leave the own row of each query out of its k + 1 neighbours."""
    itself = rows == own[:, None]
    itself[~itself.any(axis=1), -1] = True  # among copies it may not find itself: then leave out the farthest
    shape = len(rows), rows.shape[1] - 1
    return distances[~itself].reshape(shape), rows[~itself].reshape(shape)


def _renumber(lists: Any, numbers: NDArray[np.int64]) -> None:
    """Replace each row i in the lists of the cells by numbers[i]."""
    faiss = import_faiss()
    for cell in range(lists.nlist):
        if length := lists.list_size(cell):
            rows = faiss.rev_swig_ptr(lists.get_ids(cell), length)
            rows[:] = numbers[rows]


def installed_faiss() -> dict[str, str]:
    """Return the installed FAISS packages, with their versions."""
    found = {}
    for name in FAISS_BUILDS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def import_faiss() -> ModuleType:
    """Import faiss.

    Raises:
        DependencyError: it is missing, or several builds overwrote one another; the message contains the fix.
    """
    found = installed_faiss()
    try:
        import faiss
    except ImportError as error:
        raise DependencyError(
            "FAISS cannot be imported; install one build of it, without a GPU: "
            "pip install 'plankton_embed[cpu]', with one: pip install 'plankton_embed[gpu]'"
            f" ({error})"
        ) from error
    if not hasattr(faiss, "IndexFlatL2"):
        raise DependencyError(f"FAISS is broken. {fixing_command(found)}")
    if len(found) > 1:
        logger.warning("FAISS is installed more than once. %s", fixing_command(found))
    return faiss


def fixing_command(found: Mapping[str, str]) -> str:
    """Return the command that installs one complete build of FAISS."""
    keep = next((name for name in ("faiss-gpu", "faiss-gpu-cuvs") if name in found), "faiss-cpu")
    return (
        f"Installed: {', '.join(found) or 'none'}; several builds overwrite one another. "
        f"Fix it: pip uninstall -y {' '.join(FAISS_BUILDS)} && pip install {keep}"
    )


def compress_vectors(
    vectors: NDArray[np.float32], n_means: int, seed: int = 0, *, progress: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Replace vectors by means of a few similar ones each, found by k-means, or of copies only if these are few enough.

    Two rounds on a sample of ten vectors a mean are enough for a tree of the means: more change it very little.

    Args:
        vectors: float32 (n, d), finite.
        n_means: the largest number of means; below n.
        seed: seed of the vectors with which k-means starts.
        progress: show a bar.

    Returns:
        The means (m, d), of how many vectors each is the mean (m,), and the mean of each vector (n,). Copies of a
        vector have the same mean, so that m is lower than `n_means` where there are many.

    Raises:
        InputError: a vector is too long (see `VectorIndex.build`).
    """
    faiss = import_faiss()
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    find_longest(vectors, "vectors")
    _, first, copy_of = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    if len(first) <= n_means:
        return class_means(vectors, copy_of), np.bincount(copy_of), copy_of
    distinct = vectors[first] - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)  # FAISS expands |x - y|^2
    rounds = {"niter": 2, "min_points_per_centroid": 1, "max_points_per_centroid": 10}
    kmeans = faiss.Kmeans(vectors.shape[1], n_means, seed=seed, **rounds)
    kmeans.train(distinct)
    nearest = np.empty(len(distinct), dtype=np.int64)
    for start in progress_bar(range(0, len(distinct), 4 * BLOCK), "means", "block", shown=progress):
        block = slice(start, start + 4 * BLOCK)
        nearest[block] = kmeans.index.search(distinct[block], 1)[1][:, 0]
    _, mean_of, counts = np.unique(nearest[copy_of], return_inverse=True, return_counts=True)
    return class_means(vectors, mean_of), counts, mean_of
