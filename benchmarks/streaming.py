"""Tables beyond memory: rate and peak memory of `classify` and `abundance` on folders of Parquet files.

    python benchmarks/streaming.py --n 10000000 --files 10 --folder runs/streaming --output streaming.json

The catalog and the vectors are made for it: 40 classes of 64-dimensional unit vectors around a random centre each, as
many images in each of `--samples` samples, each with a mix of classes of its own (Dirichlet), a place, a time, depths,
a volume and body sizes. Files that are there already are used again. Each command runs in a process of its own, with
all options at their defaults but `--draws`; the memory is the largest resident set of that process. Reading, starting
Python and writing are counted. `open` is what `embed` does with a folder of catalogs before the first image: it checks
the ids of all files and computes the hash of the job.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.output import progress_bar
from plankton_embed.table import EmbeddingTable

OPEN = """
import sys
from plankton_embed.images.catalog_shards import CatalogParts, CatalogShards
CatalogParts.divide(CatalogShards.open(sys.argv[1]))
"""
N_CLASSES, DIMENSION = 40, 64
NOISE = 0.09  # of each number of a vector, before the vector is normalised: some classes overlap
CLASSES = np.array([f"class {number:02d}" for number in range(N_CLASSES)], dtype=object)


def draw(codes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw vectors of these classes."""
    centres = np.random.default_rng(0).normal(size=(N_CLASSES, DIMENSION)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[codes] + rng.normal(scale=NOISE, size=(len(codes), DIMENSION)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def make_labelled(n_per_class: int, seed: int) -> EmbeddingTable:
    """Make a reference, or a calibration set."""
    codes = np.repeat(np.arange(N_CLASSES), n_per_class)
    ids = [f"labelled {seed} {row}" for row in range(len(codes))]
    vectors = draw(codes, np.random.default_rng([seed, 1]))
    return EmbeddingTable(vectors, object_id=ids, label=CLASSES[codes], provenance={"model_hash": "streaming"})


def make_file(number: int, n: int, first: int, n_samples: int, n_all: int, catalog: Path, vectors: Path) -> None:
    """Write one file of the catalog and one of vectors, with the rows from `first` on."""
    rows = np.arange(first, first + n)
    sample = rows * n_samples // n_all
    rng = np.random.default_rng([2, number])
    codes = np.empty(n, dtype=np.intp)
    for one in np.unique(sample):
        here = sample == one
        mix = np.random.default_rng([3, int(one)]).dirichlet(np.full(N_CLASSES, 0.3))
        codes[here] = rng.choice(N_CLASSES, size=int(here.sum()), p=mix)
    ids = [f"image_{row:010d}" for row in rows]
    paths = [f"/archive/sample_{one:05d}/image_{row:010d}.png" for one, row in zip(sample, rows, strict=True)]
    names = np.array([f"sample_{one:05d}" for one in range(n_samples)], dtype=object)[sample]
    hours = pd.Timestamp("2014-01-01") + pd.to_timedelta(np.arange(n_samples) * 6, "h")
    times = np.array([when.strftime("%Y-%m-%dT%H:%M:%SZ") for when in hours], dtype=object)[sample]
    area = rng.lognormal(6, 1, size=n)
    frame = pd.DataFrame({
        "object_id": ids,
        "path": paths,
        "sample_id": names,
        "time": times,
        "latitude": 40 + sample * 20 / n_samples,
        "longitude": -60 + sample * 40 / n_samples,
        "depth_min": 10.0 * (sample % 20),
        "depth_max": 10.0 * (sample % 20) + 10,
        "volume": 0.5 + sample % 7,
        "pixel_size": 10.6,
        "feature_area": area,
        "feature_major": 1.4 * np.sqrt(area),
        "feature_minor": 0.9 * np.sqrt(area),
    })  # fmt: skip
    ImageCatalog.from_frame(frame).save(catalog)
    table = EmbeddingTable(
        draw(codes, rng), object_id=ids, path=paths, sample_id=names, provenance={"model_hash": "streaming"}
    )  # fmt: skip
    table.save(vectors)


def make(n: int, n_files: int, n_samples: int, folder: Path) -> None:
    """Write the reference, the calibration set, the catalog and the vectors."""
    for name, seed in (("train", 0), ("val", 1)):
        (folder / "labelled").mkdir(parents=True, exist_ok=True)
        make_labelled(100, seed).save(folder / "labelled" / f"{name}.parquet")
    for name in ("catalog", "vectors"):
        (folder / name).mkdir(exist_ok=True)
    ends = np.linspace(0, n, n_files + 1).astype(int)
    for number in progress_bar(range(n_files), "making", "file"):
        catalog, vectors = (folder / name / f"{number:04d}.parquet" for name in ("catalog", "vectors"))
        if not vectors.exists():
            first, end = int(ends[number]), int(ends[number + 1])
            make_file(number, end - first, first, n_samples, n, catalog, vectors)


def measure(name: str, n: int, arguments: list[str]) -> dict[str, Any]:
    """Run Python in a process of its own; return its time, its rate and its largest memory."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments])
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{name} failed")
    row = {"command": name, "n": n, "seconds": round(seconds, 1), "rows_per_second": round(n / seconds)}
    row |= {"peak_GB": round(used.ru_maxrss * 1024 / 1e9, 2), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000_000, help="images")
    parser.add_argument("--files", type=int, default=10, help="Parquet files of the catalog, and of the vectors")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=20, help="random draws of abundance")
    parser.add_argument("--folder", type=Path, required=True, help="folder for all files")
    parser.add_argument("--commands", default="open,classify-folder,classify,abundance", help="which to measure")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    folder = arguments.folder
    make(arguments.n, arguments.files, arguments.samples, folder)
    reference, vectors, catalog = (str(folder / name) for name in ("labelled/train.parquet", "vectors", "catalog"))
    ours = ["-m", "plankton_embed"]
    common = [reference, vectors, "--quiet", "--overwrite"]
    rejecting = ["--unknown-rate", ".05"]
    commands = {
        "open": ["-c", OPEN, catalog],
        "classify-folder": [*ours, "classify", *common, "-o", str(folder / "predictions"), *rejecting],
        "classify": [*ours, "classify", *common, "-o", str(folder / "predictions.csv"), *rejecting],
        "abundance": [*ours, "abundance", *common, "--catalog", catalog, "-o", str(folder / "abundance"),
                      "--draws", str(arguments.draws)],
    }  # fmt: skip
    rows = [measure(name, arguments.n, commands[name]) for name in arguments.commands.split(",")]
    print(pd.DataFrame(rows).to_string(index=False))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
