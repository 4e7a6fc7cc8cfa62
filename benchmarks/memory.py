"""Memory of `embed` over time: many images, which are prepared as they are needed and not stored.

    pip install -e ".[cpu]"
    python benchmarks/memory.py IMAGES --n 200000 --side 96

IMAGES has one folder for each class; the catalog lists its images again and again. The resident memory of the command
and of its worker processes is read four times a second (Linux; memory that they share counts once for each).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import plankton_embed as pe
from plankton_embed.settings import NetworkSettings, PreparationSettings


def read_memory(process: int) -> int:
    """Return the resident memory of a process and its descendants, bytes."""
    total = 0
    waiting = [process]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            total += int((folder / "statm").read_text().split()[1]) * 4096
            for task in (folder / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--trunk", default="resnet18")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    paths = sorted(str(path.resolve()) for path in arguments.images.glob("*/*") if path.is_file())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        preparation = PreparationSettings(target_size=arguments.side)
        pe.EmbeddingModel.build(NetworkSettings(trunk=arguments.trunk), preparation).save(folder / "model")
        rows = range(arguments.n)
        catalog = pd.DataFrame({"path": [paths[row % len(paths)] for row in rows], "object_id": [*map(str, rows)]})
        catalog.to_csv(folder / "catalog.csv", index=False)
        words = ["-m", "plankton_embed", "embed", str(folder / "model"), str(folder / "catalog.csv"), "-q"]
        process = subprocess.Popen([sys.executable, *words, "-o", str(folder / "vectors.parquet")])
        memory = []
        while process.poll() is None:
            memory.append(read_memory(process.pid) / 1e9)
            time.sleep(0.25)
        if process.returncode:
            raise SystemExit(process.returncode)
        n_vectors = len(pe.EmbeddingTable.load(folder / "vectors.parquet"))
    tenths = [float(np.median(part)) for part in np.array_split(memory, 10)]
    figures = {"n": n_vectors, "seconds": len(memory) / 4, "peak_gb": max(memory), "tenths_gb": tenths}
    print(f"{n_vectors} images, {arguments.trunk}, {arguments.side} px, {figures['seconds']:.0f} s")
    print("median of each tenth of the time, GB:", " ".join(f"{value:.2f}" for value in tenths))
    print(f"peak {max(memory):.2f} GB; last tenth / second tenth {tenths[-1] / tenths[1]:.3f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
