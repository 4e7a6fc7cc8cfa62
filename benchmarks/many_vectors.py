"""Many vectors: time and memory of `clusters` and `suspects`, now and in an earlier version; the tree of the means.

    python benchmarks/many_vectors.py runs/ndsb121/vectors/train.parquet --before ../earlier --output many_vectors.json

The vectors: copies of those given, with their labels, each moved by Gaussian noise and renormalised. The length of the
noise is an eighth of the median distance to the nearest neighbour. Each command writes its folder, in a process of its
own, with all options at their defaults, on all cores (for two: `taskset -c 0,1 python …`); reading the vectors and
starting Python are not counted. An earlier version (`--before`, a folder that contains `plankton_embed/`) runs first,
and is stopped at `--limit` seconds.

Agreement: Ward's tree of the means of similar images, against the exact tree of the images, both cut into the default
number of groups: adjusted mutual information, and the sum of squares within groups over that of the exact tree. Also
with one mean for 50 images, as among 1,000,000.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

import plankton_embed
from plankton_embed.analysis import clusters
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

NOISE = 1 / 8
SCRIPT = """
import json, logging, resource, sys, time
import plankton_embed as pe
logging.disable()
command, vectors, folder = sys.argv[1:]
table = pe.EmbeddingTable.load(vectors)
start = time.perf_counter()
getattr(pe, command)(table, folder, progress=False)
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def copy_with_noise(table: EmbeddingTable, n: int, seed: int = 0) -> EmbeddingTable:
    """Draw n images of a table, and move each a little."""
    rng = np.random.default_rng(seed)
    length = NOISE * np.median(VectorIndex.build(table).search_others(1).distances)
    rows = rng.integers(len(table), size=n)
    noise = rng.normal(scale=length / table.dimension**0.5, size=(n, table.dimension))
    vectors = (table.vectors[rows] + noise).astype(np.float32)
    return EmbeddingTable(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), label=table.label[rows])


def measure(command: str, table: EmbeddingTable, versions: dict[str, Path], limit: float) -> list[dict[str, Any]]:
    """Run a command of each version; None: not done within the limit."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        vectors = str(table.save(Path(folder) / "vectors.parquet"))
        for version, code in versions.items():
            arguments = [sys.executable, "-c", SCRIPT, command, vectors, str(Path(folder) / version)]
            row: dict[str, Any] = {"command": command, "n": len(table), "version": version, "seconds": None, "MB": None}
            environment = {**os.environ, "PYTHONPATH": str(code)}
            try:
                done = subprocess.run(
                    arguments, check=True, stdout=subprocess.PIPE, env=environment, timeout=limit, cwd=folder
                )
                row["seconds"], row["MB"] = json.loads(done.stdout)
            except subprocess.TimeoutExpired:
                row["not done in"] = limit
            rows.append(row)
            print(row, flush=True)
    return rows


def sum_of_squares(vectors: NDArray[np.float32], group: NDArray[np.intp]) -> float:
    """Return the sum of squared distances to the mean of the own group."""
    return sum(float(((own - own.mean(axis=0)) ** 2).sum()) for own in (vectors[group == g] for g in np.unique(group)))


def compare_trees(table: EmbeddingTable) -> list[dict[str, Any]]:
    """Compare groups of means with groups of the images."""
    rows, most_means = list[dict[str, Any]](), clusters.MOST_MEANS
    clusters.MOST_EXACT = len(table)
    exact = clusters.find_clusters(table, progress=False).cluster
    clusters.MOST_EXACT = 0
    for n_means in (min(most_means, len(table) * 2 // 5), len(table) // 50):
        clusters.MOST_MEANS = n_means
        found = clusters.find_clusters(table, progress=False)
        row = {"n": len(table), "means": found.n_means, "groups": len(found.groups)}
        row["AMI"] = adjusted_mutual_info_score(exact, found.cluster)
        row["squares"] = sum_of_squares(table.vectors, found.cluster) / sum_of_squares(table.vectors, exact)
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", help="labelled vectors to copy")
    parser.add_argument("--clusters", type=int, default=1_000_000, help="number of vectors; 0: not run")
    parser.add_argument("--suspects", type=int, default=200_000, help="number of vectors; 0: not run")
    parser.add_argument("--agreement", type=int, default=50_000, help="number of vectors; 0: not run")
    parser.add_argument("--before", type=Path, help="folder of an earlier version")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a command is stopped")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    table = EmbeddingTable.load(arguments.vectors).labelled
    versions = {} if arguments.before is None else {"before": arguments.before.resolve()}
    versions["now"] = Path(plankton_embed.__file__).resolve().parents[1]
    times, trees = [], []
    for command in ("clusters", "suspects"):
        if n := getattr(arguments, command):
            times += measure(command, copy_with_noise(table, n), versions, arguments.limit)
    if arguments.agreement:
        trees = compare_trees(copy_with_noise(table, arguments.agreement))
    for rows in (times, trees):
        print(pd.DataFrame(rows).round(3).to_string(index=False, na_rep=""))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"times": times, "agreement": trees}, indent=2) + "\n")


if __name__ == "__main__":
    main()
