"""FAISS similarity index: build, search, save, load (the only file that imports faiss)."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import weakref
from collections.abc import Mapping
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

IndexKind = Literal["flat", "ivf_sq8"]
FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
INDEX_FILE, TABLE_FILE, CONFIG_FILE = "index.faiss", "vectors.parquet", "config.json"
BLOCK = 4096  # queries at a time
GPU_MOST_NEIGHBORS = 2048  # FAISS's own limit there
SPARE = 8  # candidates beyond k, sorted again by their exact distances
FEW = 16  # queries at a time for which FAISS subtracts vectors instead of expanding the square


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

    `flat` compares with every vector and is exact. `ivf_sq8` searches the nearest cells only and stores one byte per
    number, for millions of vectors. Distances are Euclidean, not squared, and computed from the original vectors, so
    they are exact for both kinds.
    """

    def __init__(self, table: EmbeddingTable, index: Any, kind: IndexKind, searcher: Any = None):
        self.table = table
        self.kind = kind
        self._index = index
        self._searcher = _to_gpu(index) if searcher is None else searcher
        self._longest = float(np.linalg.norm(table.vectors, axis=1).max())

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def build(cls, table: EmbeddingTable, kind: IndexKind = "flat") -> VectorIndex:
        """Build an index over a table; a flat index over the same array that is still in use is shared.

        Raises:
            SettingError: an unknown kind, or too few vectors for `ivf_sq8` (it needs 1,000).
            DependencyError: no usable FAISS is installed; the message contains the command that fixes it.
        """
        faiss = import_faiss()
        n, d = table.vectors.shape
        if n == 0:
            raise InputError("an index needs at least one vector, found none")
        if kind == "flat":
            shared = _flat_indexes.get(id(table.vectors))
            if shared is not None and shared._still_holds(table.vectors):
                built = cls(table, shared._index, kind, shared._searcher)
            else:
                index = faiss.IndexFlatL2(d)
                index.add(table.vectors)
                built = cls(table, index, kind)
            _flat_indexes[id(table.vectors)] = built
            return built
        if kind != "ivf_sq8":
            raise SettingError(f"index kind: expected flat or ivf_sq8, found {kind!r}")
        if n < 1000:
            raise SettingError(f"ivf_sq8 needs at least 1,000 vectors, found {n}; use flat")
        n_cells = int(np.clip(4 * np.sqrt(n), 1, n // 39))
        index = faiss.index_factory(d, f"IVF{n_cells},SQ8")
        index.train(table.vectors)
        index.nprobe = max(1, n_cells // 16)
        index.add(table.vectors)
        return cls(table, index, kind)

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
            InputError: k is out of range, or the vectors have a wrong length or are not finite.
        """
        if isinstance(queries, EmbeddingTable):
            self.table.check_same_model(queries, ("the index", "the query"))
            queries = queries.vectors
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.table.dimension:
            raise InputError(f"queries: expected shape (q, {self.table.dimension}), found {queries.shape}")
        if not np.isfinite(queries).all():
            raise InputError("queries: expected finite numbers, found nan or infinity")
        if not 1 <= k <= len(self):
            raise InputError(f"k: expected 1 to {len(self)} (the size of the index), found {k}")
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
        itself = found.rows == np.arange(len(self))[:, None]
        itself[~itself.any(axis=1), -1] = True  # among copies it may not find itself: then leave out the farthest
        return Neighbors(found.distances[~itself].reshape(-1, k), found.rows[~itself].reshape(-1, k))

    def _search_block(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        n_candidates = min(k + SPARE, len(self)) if self.kind == "flat" else k
        searcher = self._searcher if n_candidates <= GPU_MOST_NEIGHBORS else self._index
        squares, rows = searcher.search(queries, n_candidates)
        if (rows < 0).any():  # the searched cells contain fewer than k
            rows = _search_all(self.table.vectors, queries, k)
        distances, rows = self._rank(queries, rows)
        if k < n_candidates < len(self):
            # FAISS expands |q - v|^2, with an error up to `error`: search again where it could hide a nearer vector
            length = np.linalg.norm(queries, axis=1) + self._longest
            error = np.finfo(np.float32).eps * (self.table.dimension + 4) * length**2
            doubtful = np.flatnonzero(distances[:, k - 1] ** 2 + error >= squares[:, -1])
            for start in range(0, len(doubtful), FEW):
                few = doubtful[start : start + FEW]
                _, found = self._index.search(queries[few], n_candidates)
                distances[few], rows[few] = self._rank(queries[few], found)
        return distances[:, :k], rows[:, :k]

    def _rank(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return exact distances and rows, nearest first, the lower row first among equals."""
        distances = np.empty(rows.shape, dtype=np.float32)
        for column in range(rows.shape[1]):
            distances[:, column] = np.linalg.norm(queries - self.table.vectors[rows[:, column]], axis=1)
        order = np.lexsort((rows, distances), axis=1)
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def save(self, folder: str | Path) -> Path:
        """Write the index and its table to a folder, completely or not at all."""
        faiss = import_faiss()
        refuse_overwrite(folder, overwrite=True, made_of=INDEX_FILE)
        with write_folder_atomically(folder) as temporary:
            self.table.save(temporary / TABLE_FILE)
            faiss.write_index(self._index, str(temporary / INDEX_FILE))
            config = {"kind": self.kind, "n_vectors": len(self), "model_hash": self.table.model_hash}
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
            kind = config["kind"]
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{folder} contains no complete index: {error}") from error
        if index.ntotal != len(table) or index.d != table.dimension:
            raise InputError(f"{folder}: the index has {index.ntotal} vectors, its table {len(table)}; build it again")
        return cls(table, index, kind)

    def _describe(self) -> str:
        return f"{self.kind}, {len(self):,} vectors, {self.table.dimension} dimensions"


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


def _search_all(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    faiss = import_faiss()
    _, rows = faiss.knn(queries, vectors, k)
    return np.asarray(rows, dtype=np.int64)


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
    """Replace vectors by means of a few similar ones each, found by k-means.

    Two rounds on a sample of ten vectors a mean are enough for a tree of the means: more change it very little.

    Args:
        vectors: float32 (n, d), finite.
        n_means: the largest number of means; below n.
        seed: seed of the vectors with which k-means starts.
        progress: show a bar.

    Returns:
        The means (m, d), of how many vectors each is the mean (m,), and the mean of each vector (n,). Copies of a
        vector have the same mean, so that m is lower than `n_means` where there are many.
    """
    faiss = import_faiss()
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    rounds = {"niter": 2, "min_points_per_centroid": 1, "max_points_per_centroid": 10}
    kmeans = faiss.Kmeans(vectors.shape[1], n_means, seed=seed, **rounds)
    kmeans.train(vectors)
    nearest = np.empty(len(vectors), dtype=np.int64)
    for start in progress_bar(range(0, len(vectors), 4 * BLOCK), "means", "block", shown=progress):
        block = slice(start, start + 4 * BLOCK)
        nearest[block] = kmeans.index.search(vectors[block], 1)[1][:, 0]
    _, mean_of, counts = np.unique(nearest, return_inverse=True, return_counts=True)
    return class_means(vectors, mean_of), counts, mean_of
