"""Search among millions of vectors: IVF-SQ8 against the exact index, and that against scikit-learn, in one run.

    python benchmarks/index.py runs/ndsb121/vectors/train.parquet --output index.json

The vectors are copies of the given ones, drawn at random. To each, Gaussian noise is added, whose expected norm is an
eighth of the median distance of a given vector to its nearest other one; then it is renormalised. 1,000 further copies
are the queries: they are not in the index. Recall@10: the share of the 10 answers that are at most as far as the 10th
nearest vector, by the exact index. Single queries alternate between the two indexes; medians.

scikit-learn: `NearestNeighbors(algorithm="brute")`, on the first 200,000 vectors, which alternates with the exact index
of the same vectors. A smaller `--n` is a trial.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

K, N_QUERIES, N_SINGLE, N_SKLEARN, N_TIMES = 10, 1000, 100, 200_000, 3
BLOCK = 1_000_000  # vectors drawn at a time


def draw_copies(vectors: NDArray[np.float32], n: int, noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw n vectors, each moved by Gaussian noise of this expected norm, and renormalise them."""
    copies = np.empty((n, vectors.shape[1]), dtype=np.float32)
    for start in range(0, n, BLOCK):
        block = copies[start : start + BLOCK]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= noise / np.sqrt(vectors.shape[1])
        block += vectors[rng.integers(len(vectors), size=len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return copies


def time_call(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def compare_with_sklearn(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> dict[str, float]:
    """Time the exact index and scikit-learn: 1,000 queries at once, and one at a time."""
    ours = VectorIndex.build(EmbeddingTable(vectors))
    rival = NearestNeighbors(n_neighbors=K, algorithm="brute", n_jobs=-1).fit(vectors)
    seconds: dict[str, list[float]] = {name: [] for name in ("flat", "sklearn", "flat_single", "sklearn_single")}
    for _ in range(N_TIMES):
        took, found = time_call(lambda: ours.search(queries, K))
        seconds["flat"].append(took)
        took, (distances, _) = time_call(lambda: rival.kneighbors(queries))
        seconds["sklearn"].append(took)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-3, atol=1e-3)
    for row in range(N_SINGLE // 5):
        query = queries[row : row + 1]
        seconds["flat_single"].append(time_call(lambda query=query: ours.search(query, K))[0])
        seconds["sklearn_single"].append(time_call(lambda query=query: rival.kneighbors(query))[0])
    return {name: float(np.median(times)) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", help="vectors to copy, of unit length")
    parser.add_argument("--n", type=int, default=10_000_000, help="vectors in the index")
    parser.add_argument("--kind", default="ivf_sq8", choices=["ivf_flat", "ivf_sq8"], help="the approximate index")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON to write")
    arguments = parser.parse_args()
    given = EmbeddingTable.load(arguments.vectors)
    nearest = float(np.median(VectorIndex.build(given).search_others(1).distances))
    rng = np.random.default_rng(0)
    vectors = draw_copies(given.vectors, arguments.n, nearest / 8, rng)
    queries = draw_copies(given.vectors, N_QUERIES, nearest / 8, rng)
    result: dict[str, Any] = {"n": arguments.n, "dimension": given.dimension, "threads": faiss.omp_get_max_threads()}
    result |= {"kind": arguments.kind, "median_nearest": nearest}
    result["sklearn"] = compare_with_sklearn(vectors[:N_SKLEARN], queries)

    table = EmbeddingTable(vectors)
    result["build_seconds"], index = time_call(lambda: VectorIndex.build(table, arguments.kind))
    result |= {name: getattr(index, name) for name in ("n_cells", "n_probes", "bytes_per_vector")}
    result["recall_stated"] = index.recall
    result["flat_build_seconds"], flat = time_call(lambda: VectorIndex.build(table))
    result["flat_batch_seconds"], exact = time_call(lambda: flat.search(queries, K))
    result["batch_seconds"], found = time_call(lambda: index.search(queries, K))
    farthest = exact.distances[:, -1:]
    result["recall"] = float((found.distances <= farthest).mean())
    _, rows = index._index.search(queries, K)  # the answers of FAISS, not sorted by the original vectors
    alone = np.stack([np.linalg.norm(queries - vectors[rows[:, rank]], axis=1) for rank in range(K)], axis=1)
    result["recall_of_codes_alone"] = float(((alone <= farthest) & (rows >= 0)).mean())
    singles: dict[str, list[float]] = {"flat": [], "index": []}
    for row in range(N_SINGLE):
        query = queries[row : row + 1]
        singles["flat"].append(time_call(lambda query=query: flat.search(query, K))[0])
        singles["index"].append(time_call(lambda query=query: index.search(query, K))[0])
    result |= {f"{name}_single_seconds": float(np.median(times)) for name, times in singles.items()}
    result["peak_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    small, n_small = result["sklearn"], min(N_SKLEARN, arguments.n)
    show = [
        (f"{n_small:,} vectors, flat, {N_QUERIES:,} queries: seconds", "scikit-learn", small["sklearn"], small["flat"]),
        ("the same, one query: ms", "scikit-learn", 1e3 * small["sklearn_single"], 1e3 * small["flat_single"]),
        (f"{arguments.n:,} vectors, {arguments.kind}, one query: ms", "flat",
         1e3 * result["flat_single_seconds"], 1e3 * result["index_single_seconds"]),
        (f"the same, {N_QUERIES:,} queries: seconds", "flat", result["flat_batch_seconds"], result["batch_seconds"]),
        ("the same, built: seconds", "flat", result["flat_build_seconds"], result["build_seconds"]),
        ("the same, saved index: bytes a vector", "flat", 4.0 * given.dimension, result["bytes_per_vector"]),
    ]  # fmt: skip
    frame = pd.DataFrame(show, columns=["what", "rival", "its figure", "ours"])
    frame["times ours"] = frame["its figure"] / frame["ours"]
    print(frame.round(3).to_string(index=False))
    print(
        f"recall@10 {result['recall']:.4f} ({result['recall_of_codes_alone']:.4f} without the original vectors; stated "
        f"when built: {result['recall_stated']:.4f}); {result['n_probes']} of {result['n_cells']} cells searched; "
        f"{result['threads']} threads; peak memory with the table and the flat index {result['peak_GB']:.1f} GB"
    )
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
