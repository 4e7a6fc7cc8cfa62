"""An index in shards: time and memory to build and to search it, its recall, its ids, and a writer that is killed.

    python benchmarks/sharded_index.py runs/ndsb121/vectors/train.parquet --folder runs/sharded --output sharded.json

The vectors are copies of the given ones, moved as in `benchmarks/index.py`, by `--noise` of the median distance of a
given vector to its nearest other one, in a folder of Parquet files; 1,000 further copies are the queries. `index` and
each search run in a process of their own; their memory is the largest resident set (Linux; of pages of mapped files,
those that were in use).
The exact answers come from a flat index of each file, merged. Recall@10: the share of the 10 answers that are at most
as far as the 10th nearest vector. An id is right if the vector that the files have under it is as far from the query as
the answer has it. Then vectors are added by a writer that is killed (SIGKILL) when it has written one shard of two: the
index answers as before, and the same command finishes. Files that are there already are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from index import draw_copies
from numpy.typing import NDArray

from plankton_embed.output import progress_bar
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_index import VectorIndex

K, N_QUERIES = 10, 1000
SEARCH = """
import json, sys, time
import numpy as np
from plankton_embed.sharded_index import ShardedIndex
folder, queries, answers, n_open = sys.argv[1:]
queries = np.load(queries)
index = ShardedIndex.load(folder)
index.n_open = int(n_open)
index.search(queries[:1])
start = time.perf_counter()
found = index.search(queries)
seconds = time.perf_counter() - start
start = time.perf_counter()
for row in range(20):
    index.search(queries[row : row + 1])
single = (time.perf_counter() - start) / 20
rows, places = np.unique(found.rows, return_inverse=True)
ids = index.take(rows).object_id[places.reshape(found.rows.shape)]
np.savez(answers, distances=found.distances, ids=ids.astype(str))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024 / 1e9
print(json.dumps({"seconds": seconds, "single_ms": 1e3 * single, "peak_GB": peak, "n": len(index)}))
"""


def make_file(path: Path, given: EmbeddingTable, n: int, first: int, noise: float) -> None:
    """Write a file of moved copies, with ids that have the number of the row."""
    vectors = draw_copies(given.vectors, n, noise, np.random.default_rng([1, first]))
    ids = [f"image_{row:010d}" for row in range(first, first + n)]
    paths = [f"/archive/{row // 1000:07d}/image_{row:010d}.png" for row in range(first, first + n)]
    EmbeddingTable(vectors, object_id=ids, path=paths, provenance={"model_hash": "sharded"}).save(path)


def measure(arguments: list[str]) -> dict[str, float]:
    """Run `plankton-embed index` in a process of its own; return its time and its largest memory.

    The memory is read while it runs: that of `wait4` includes the memory of this process.
    """
    start, peak, ended = time.perf_counter(), 0, 0
    process = subprocess.Popen([sys.executable, "-m", "plankton_embed", "index", *arguments])
    while not ended:
        with suppress(OSError, KeyError):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            peak = int(status["VmHWM"].split()[0]) * 1024
        time.sleep(0.05)
        ended, code, used = os.wait4(process.pid, os.WNOHANG)
    if code:
        sys.exit("index failed")
    cpu = used.ru_utime + used.ru_stime
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu, "peak_GB": peak / 1e9}


def search(index: Path, queries: Path, n_open: int) -> tuple[dict[str, float], NDArray[np.float32], NDArray[np.str_]]:
    """Search in a process of its own; return its figures, the distances and the ids."""
    answers = queries.with_name("answers.npz")
    arguments = [sys.executable, "-c", SEARCH, str(index), str(queries), str(answers), str(n_open)]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE)
    with np.load(answers) as found:
        return json.loads(done.stdout), found["distances"], found["ids"]


def search_files(files: list[Path], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distances of the 10 nearest (q, 10), by a flat index of each file."""
    best = np.full((len(queries), K), np.inf, dtype=np.float32)
    for path in progress_bar(files, "exact search", "file"):
        found = VectorIndex.build(EmbeddingTable.load(path)).search(queries, K)
        best = np.sort(np.concatenate([best, found.distances], axis=1), axis=1)[:, :K]
    return best


def count_right(
    files: list[Path], queries: NDArray[np.float32], distances: NDArray[np.float32], ids: NDArray[np.str_]
) -> int:
    """Count the answers whose id belongs to a vector at the distance of the answer."""
    n_right = 0
    for path in files:
        table = EmbeddingTable.load(path)
        first = int(table.object_id[0].removeprefix("image_"))
        rows = np.char.replace(ids, "image_", "").astype(int) - first
        query, rank = np.nonzero((rows >= 0) & (rows < len(table)))
        found = rows[query, rank]
        far = np.linalg.norm(queries[query] - table.vectors[found], axis=1)
        same_id = table.object_id[found].astype(str) == ids[query, rank]
        n_right += int((same_id & (np.abs(far - distances[query, rank]) < 1e-5)).sum())
    return n_right


def kill_while_adding(more: Path, index: Path, shard_size: int) -> int:
    """Start to add two shards, and kill the writer when one is written; return the number of shards on disk."""
    before = len(list(index.glob("shard-*")))
    command = ["index", str(more), "-o", str(index), "--add", "--shard-size", str(shard_size)]
    process = subprocess.Popen([sys.executable, "-m", "plankton_embed", *command])
    while len(list(index.glob("shard-*"))) == before and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(list(index.glob("shard-*"))) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", help="vectors to copy, of unit length")
    parser.add_argument("--n", type=int, default=10_000_000, help="vectors in the index")
    parser.add_argument("--shards", type=int, default=8, help="files, and shards of the index")
    parser.add_argument("--noise", type=float, default=1 / 8, help="how far the copies are moved")
    parser.add_argument("--folder", type=Path, required=True, help="where the files and the index are written")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON to write")
    arguments = parser.parse_args()
    folder, size = arguments.folder, arguments.n // arguments.shards
    for name in ("vectors", "more"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    given = EmbeddingTable.load(arguments.vectors)
    noise = arguments.noise * float(np.median(VectorIndex.build(given).search_others(1).distances))
    queries = draw_copies(given.vectors, N_QUERIES, noise, np.random.default_rng(0))
    np.save(folder / "queries.npy", queries)
    files = [folder / "vectors" / f"{number:03d}.parquet" for number in range(arguments.shards)]
    for number, path in enumerate(progress_bar(files, "making", "file")):
        if not path.exists():
            make_file(path, given, size, number * size, noise)
    n_more = size // 4
    make_file(folder / "more" / "new.parquet", given, n_more, arguments.n, noise)

    index = folder / "index"
    shutil.rmtree(index, ignore_errors=True)
    options = ["--kind", "sharded", "--shard-size", str(size)]
    result: dict[str, Any] = {"n": arguments.n, "shards": arguments.shards, "dimension": given.dimension}
    result |= {"noise": arguments.noise, "threads": faiss.omp_get_max_threads()}
    result["build"] = measure([str(folder / "vectors"), "-o", str(index), *options])
    listed = json.loads((index / "shards.json").read_text())
    result |= {"n_probes": listed["n_probes"], "recall_stated": listed["recall"], "written": len(listed["shards"])}
    result["bytes"] = {
        name: sum(path.stat().st_size for path in index.glob(f"shard-*/{name}")) / arguments.n
        for name in ("index.faiss", "vectors.npy", "rows.parquet", "ids.npy")
    }
    exact = search_files(files, queries)
    result["search"], distances, ids = search(index, folder / "queries.npy", 1)
    result["search_in_memory"], again, _ = search(index, folder / "queries.npy", arguments.shards)
    result["same_in_memory"] = bool(np.array_equal(again, distances))
    result["recall"] = float((distances <= exact[:, -1:]).mean())
    result["ids_right"] = count_right(files, queries, distances, ids) / ids.size
    result["shards_when_killed"] = kill_while_adding(folder / "more", index, n_more // 2)
    _, after, ids_after = search(index, folder / "queries.npy", 1)
    result["same_after_the_kill"] = bool(np.array_equal(after, distances) and np.array_equal(ids_after, ids))
    result["add"] = measure([str(folder / "more"), "-o", str(index), "--add", "--shard-size", str(n_more // 2)])
    result["n_after_the_addition"] = search(index, folder / "queries.npy", 1)[0]["n"]
    print(json.dumps(result, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
