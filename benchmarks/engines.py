"""One process against two local workers of Ray: time, and whether every image is embedded once when they are killed.

    python benchmarks/engines.py two_thousand.csv --n 5000 --folder runs/engines --output engines.json

The images are the first `--n` of the catalog; if it has fewer, they are repeated under other ids. All runs use the CPU:
one process on `--workers` cores, and as many workers of Ray, each on one core (for two: `taskset -c 0,1 python …`).

1. `embed -o FILE`, `embed -o FOLDER` (one process, in parts) and `embed -o FOLDER --engine ray`: seconds, and seconds
   of processor, which other programs change less (Linux only). The start of Python and of Ray is included.
2. The same with Ray; when a quarter of the parts is written, one worker is killed (SIGKILL), and when half of them are,
   the driver. The same command is run again.
3. Checks: every id is there once, the cosine of each vector to that of one process, and the number of parts that were
   worked on again after they had been written, by the log of the workers.
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.jobs import Job, count_repeated, read_log
from plankton_embed.table import EmbeddingTable


def make_catalog(source: Path, n: int) -> ImageCatalog:
    """Return the first n images, repeated under other ids where there are fewer."""
    catalog = ImageCatalog.load(source)
    rows = np.arange(n)
    frame = catalog.frame.iloc[rows % len(catalog)].reset_index(drop=True)
    return ImageCatalog(frame.assign(object_id=[f"{row:06d}" for row in rows]))


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "plankton_embed", "embed", *command, "--quiet"])


def measure(command: list[str]) -> dict[str, float]:
    """Return the seconds of a command, and the seconds of processor of all of its processes."""
    begun, used, driver = time.perf_counter(), dict[str, float](), start(command)
    while driver.poll() is None:
        used |= list_used(driver.pid)
        time.sleep(0.2)
    if driver.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return {"seconds": round(time.perf_counter() - begun, 1), "cpu_seconds": round(sum(used.values()), 1)}


def list_used(driver: int) -> dict[str, float]:
    """Return the seconds of processor of a process and its descendants, by id."""
    parents, used = dict[str, str](), dict[str, float]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            pid, fields = path.parent.name, path.read_text().rpartition(")")[2].split()
            parents[pid] = fields[1]
            used[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    own = {str(driver)}
    for _ in range(9):  # generations
        own |= {pid for pid, parent in parents.items() if parent in own}
    return {pid: used[pid] for pid in own if pid in used}


def wait_until(driver: subprocess.Popen[bytes], is_so: Callable[[], bool]) -> None:
    while not is_so():
        if driver.poll() is not None:
            sys.exit("the job ended before its processes could be killed; give more images, or smaller parts")
        time.sleep(0.1)


def kill_and_resume(command: list[str], output: Path, n_parts: int) -> dict[str, Any]:
    """Kill a worker, then the driver, and run the command again."""
    driver = start(command)
    wait_until(driver, lambda: count_written(output) >= n_parts // 4)
    at_work = {process: (event, part) for _, event, part, process in read_log(output)}
    worker = next(process for process, (event, _) in at_work.items() if event == "begun")
    os.kill(int(worker.rpartition("-")[2]), signal.SIGKILL)
    wait_until(driver, lambda: count_written(output) >= n_parts // 2)
    driver.kill()
    driver.wait()
    found = {"killed_worker_at_part": at_work[worker][1], "written_before_the_driver_was_killed": count_written(output)}
    return {**found, "second_run": measure(command)}


def count_written(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def compare(found: EmbeddingTable, wanted: EmbeddingTable) -> dict[str, Any]:
    """Return whether the ids are the same, once each, and how similar the vectors are."""
    cosine = (found.vectors * wanted.vectors).sum(axis=1)
    cosine /= np.linalg.norm(found.vectors, axis=1) * np.linalg.norm(wanted.vectors, axis=1)
    return {
        "n_ids": len(set(found.object_id)),
        "ids_equal": found.object_id.tolist() == wanted.object_id.tolist(),
        "smallest_cosine": float(cosine.min()),
        "equal_vectors": float((found.vectors == wanted.vectors).all(axis=1).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path, help="a catalog of images")
    parser.add_argument("--model", default="isiis-resnet18")
    parser.add_argument("--n", type=int, default=5000, help="images")
    parser.add_argument("--part-size", type=int, default=250, help="images of a part")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True, help="folder for all files; it is deleted first")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    folder = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = str(make_catalog(arguments.catalog, arguments.n).save(folder / "catalog.csv"))
    common = [arguments.model, source, "--device", "cpu"]
    parts = ["--part-size", str(arguments.part_size)]
    ray = ["--engine", "ray", "--workers", str(arguments.workers), "--address", "local"]
    n_parts = -(-arguments.n // arguments.part_size)
    measure([arguments.model, source, "-o", str(folder / "warm.parquet"), "--device", "cpu"])  # files in memory
    runs = {
        "one process, file": measure([*common, "-o", str(folder / "one.parquet")]),
        "one process, folder": measure([*common, "-o", str(folder / "parts"), *parts]),
        "ray": measure([*common, "-o", str(folder / "ray"), *parts, *ray]),
    }
    command = [*common, "-o", str(folder / "killed"), *parts, *ray]
    killed = kill_and_resume(command, folder / "killed", n_parts)
    wanted = EmbeddingTable.load(folder / "one.parquet")
    events = read_log(folder / "killed")
    result = {
        "n": arguments.n,
        "n_parts": n_parts,
        **runs,
        **{f"overhead_of_{name}": {unit: round(runs[name][unit] / runs["one process, file"][unit] - 1, 3)
                                   for unit in ("seconds", "cpu_seconds")} for name in ("one process, folder", "ray")},
        **killed,
        **{f"vectors of {name}": compare(EmbeddingTable.load(folder / name), wanted)
           for name in ("parts", "ray", "killed")},
        "parts_begun": sum(event == "begun" for _, event, _, _ in events),
        "parts_written": sum(event == "written" for _, event, _, _ in events),
        "parts_repeated_after_they_were_written": count_repeated(events),
        "complete": not Job.open(folder / "killed", json.loads((folder / "killed" / "job.json").read_text())["inputs"],
                                 n_parts).missing(),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
