"""Search of parallel relations: the exact search against comparing all pairs with FAISS's range search, in one run.

    python benchmarks/relations.py RUN/vectors/test.parquet --sizes 300 1000

The rival puts all n (n - 1) / 2 relations x - y into a flat FAISS index and searches for relations within ε of each,
and of the reverse of each. If there are more than 100,000, only 20,000 of them, drawn at random, are queries, and its
time is scaled up. The results of both are compared. The window of the 2019 report is also run, with its recall.
"""

from __future__ import annotations

import argparse
import time

import faiss
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.parallelograms import Parallelograms, ParallelogramSearch
from plankton_embed.analysis.relations import find_in_window
from plankton_embed.table import EmbeddingTable

MOST_RELATIONS, N_QUERIES = 100_000, 20_000
TOLERANCE = 1e-5

Corners = dict[tuple[int, ...], float]


def search_all(points: NDArray[np.float64], epsilon: float) -> tuple[float, Corners, float]:
    """Compare relations with all, in both directions; return seconds for all, the results, and the share of queries."""
    first, second = np.triu_indices(len(points), 1)
    relations = (points[first] - points[second]).astype(np.float32)
    rng = np.random.default_rng(0)
    queries = np.sort(
        rng.permutation(len(relations))[: len(relations) if len(relations) <= MOST_RELATIONS else N_QUERIES]
    )
    found: Corners = {}
    start = time.perf_counter()
    index = faiss.IndexFlatL2(relations.shape[1])
    index.add(relations)
    for sign in (1, -1):
        limits, _, rows = index.range_search(sign * relations[queries], (epsilon + TOLERANCE) ** 2)
        own = np.repeat(queries, np.diff(limits).astype(np.int64))
        for p, q in zip(own.tolist(), rows.tolist(), strict=True):
            x1, y1 = first[p], second[p]
            x2, y2 = (first[q], second[q]) if sign == 1 else (second[q], first[q])
            if len({x1, y1, x2, y2}) == 4:
                ends = sorted([tuple(sorted((int(x1), int(y2)))), tuple(sorted((int(y1), int(x2))))])
                found[(*ends[0], *ends[1])] = float(np.linalg.norm(points[x1] - points[y1] - points[x2] + points[y2]))
    share = len(queries) / len(relations)
    return (time.perf_counter() - start) / share, found, share


def gather(blocks: list[Parallelograms]) -> Corners:
    """Return what was found, by its corners."""
    return {
        tuple(int(corner) for corner in corners): float(distance)
        for block in blocks
        for *corners, distance in zip(block.a, block.b, block.c, block.d, block.distance, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", help="vectors file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000], help="numbers of images, drawn at random")
    parser.add_argument("--epsilon", type=float, default=0.2)
    arguments = parser.parse_args()
    table = EmbeddingTable.load(arguments.vectors)
    rows = []
    for n in arguments.sizes:
        points = table.vectors[np.random.default_rng(0).permutation(len(table))[:n]].astype(np.float64)
        start = time.perf_counter()
        ours = gather(list(ParallelogramSearch(points).find(arguments.epsilon, progress=False)))
        seconds = time.perf_counter() - start
        common = {"images": n, "relations": n * (n - 1) // 2}
        rows.append({**common, "method": "ours", "seconds": seconds, "found": len(ours), "recall": 1.0})
        start = time.perf_counter()
        window = gather([find_in_window(points, arguments.epsilon)])
        rows.append({**common, "method": "window of 2019", "seconds": time.perf_counter() - start})
        rows[-1] |= {"found": len(window), "recall": len(window.keys() & ours.keys()) / max(len(ours), 1)}
        rival_seconds, rival, share = search_all(points, arguments.epsilon)
        name = "FAISS range search, both signs" + (f", {share:.1%} of the queries" if share < 1 else "")
        rows.append({**common, "method": name, "seconds": rival_seconds, "found": len(rival)})
        rows[-1]["times ours"] = rival_seconds / seconds
        if share == 1:
            apart = {c: d for c, d in (ours | rival).items() if (c in ours) != (c in rival)}
            far = [d for d in apart.values() if abs(d - arguments.epsilon) > TOLERANCE]
            print(
                f"{n} images: {len(ours)} found; {len(far)} found by only one (not within {TOLERANCE:g} of the limit)"
            )
        else:
            missed = [d for c, d in rival.items() if c not in ours and abs(d - arguments.epsilon) > TOLERANCE]
            print(f"{n} images: of {len(rival)} found by the queries, {len(missed)} are missing in ours")
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(4).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
