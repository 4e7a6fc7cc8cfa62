"""`classify` of a million vectors: seconds, processor seconds and peak memory, of this version and of an earlier one.

    python benchmarks/classify.py runs/ndsb121 --before ../earlier --output classify.json

The run's training vectors are the reference and its validation vectors the calibration set. The query: copies of its
test vectors, each moved by Gaussian noise whose length is an eighth of the median distance to the nearest test vector,
and renormalised. Every version runs in a process of its own, from files to a CSV on disk, one after the other; each
CSV is compared with the first of its method, byte for byte. `--before`: a folder that contains an earlier
`plankton_embed`. Peak memory is VmHWM of the process (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.output import write_json
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

SCRIPT = """
import json, resource, sys, time
folder, reference, query, method, output = sys.argv[1:]
start = time.perf_counter()
import plankton_embed
assert plankton_embed.__file__.startswith(folder), plankton_embed.__file__
predictions = plankton_embed.classify(reference, query, method, output, progress=False)
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, used.ru_utime + used.ru_stime, int(peak) / 2**20, len(predictions)]))
"""


def copy_vectors(table: EmbeddingTable, n: int, seed: int = 0) -> EmbeddingTable:
    """Return n unlabelled copies of the vectors of a table, moved a little."""
    rng = np.random.default_rng(seed)
    nearest = float(np.median(VectorIndex.build(table).search_others(1).distances))
    rows = np.arange(n) % len(table)
    vectors = table.vectors[rows]
    vectors += rng.normal(scale=nearest / 8 / table.dimension**0.5, size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"sample_{number // 1000}/{number}" for number in range(n)]
    paths = [f"/survey/images/{name}.png" for name in ids]
    return EmbeddingTable(vectors, np.array(ids, object), path=np.array(paths, object), provenance=table.provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--images", type=int, default=1_000_000, help="vectors to predict")
    parser.add_argument("--methods", nargs="+", default=["centroid", "knn"], choices=["centroid", "knn", "mlp"])
    parser.add_argument("--before", type=Path, help="folder of an earlier version")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON to write the measurements to")
    arguments = parser.parse_args()
    versions = {"now": Path(__file__).resolve().parents[1]}
    if arguments.before is not None:
        versions = {"before": arguments.before.resolve(), **versions}
    rows, first = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        query = Path(scratch) / "query.parquet"
        copy_vectors(EmbeddingTable.load(arguments.run / "vectors" / "test.parquet"), arguments.images).save(query)
        reference = arguments.run.resolve() / "vectors" / "train.parquet"
        for repeat in range(arguments.repeats):
            for method in arguments.methods:
                for version, folder in versions.items():
                    output = Path(scratch) / f"{repeat}_{method}_{version}.csv"
                    command = [sys.executable, "-c", SCRIPT, *map(str, (folder, reference, query, method, output))]
                    environment = os.environ | {"PYTHONPATH": str(folder)}
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=scratch)
                    seconds, cpu, peak, n = json.loads(done.stdout)
                    row = {"method": method, "version": version, "seconds": seconds, "cpu": cpu, "GB": peak}
                    row["images/s"] = n / seconds
                    text = output.read_bytes()
                    output.unlink()
                    row["same CSV"] = first.setdefault(method, text) == text
                    rows.append(row)
                    print(row, flush=True)
    table = pd.DataFrame(rows).groupby(["method", "version"], sort=False).median().reset_index()
    if "before" in versions:
        before = table[table["version"] == "before"].set_index("method")
        for name in ("seconds", "cpu"):
            table[f"times as fast ({name})"] = table["method"].map(before[name]) / table[name]
    print(f"{arguments.images:,} vectors, {os.cpu_count()} cores; GB: peak of the process\n")
    print(table.round(2).to_string(index=False))
    if arguments.output:
        write_json(arguments.output, {"n_images": arguments.images, "runs": rows, "median": table.to_dict("records")})


if __name__ == "__main__":
    main()
