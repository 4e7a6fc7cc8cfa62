"""A million rows: a catalog is written and read, and plain pandas does the same with the same frame, in one run.

    python benchmarks/catalogs.py --rows 1000000

Each line is a separate process, which draws the rows and writes them, or reads them. The peak memory is that of the
whole process, drawn rows included; the seconds (wall clock, and of all processors) are those of the call alone. `build`
is `ImageCatalog.from_rows`. Pandas does not clean text, check values or resolve paths, and its CSV has quotes only
where they are needed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.images.catalog import ImageCatalog

N_SAMPLES, N_CLASSES, N_FEATURES = 500, 100, 10
MOST_SECONDS, MOST_GB = 30, 2


def draw_rows(n: int) -> pd.DataFrame:
    """Draw rows as of a survey: samples with position, time and depth, a tenth without label, numeric features."""
    rng = np.random.default_rng(0)
    sample, class_index = rng.integers(0, N_SAMPLES, n), rng.integers(0, N_CLASSES, n)
    label = np.array([f"Class name {i:03}" for i in range(N_CLASSES)], dtype=object)[class_index]
    label[rng.random(n) < 0.1] = None
    day = pd.date_range("2020-01-01T03:20", periods=N_SAMPLES, freq="31h")
    columns = {
        "object_id": [f"sample_{s:03}_{i:07}" for i, s in enumerate(sample.tolist())],
        "path": [f"images/sample_{s:03}/{i:07}.png" for i, s in enumerate(sample.tolist())],
        "label": label,
        "split": np.array(["train", "val", "test"], dtype=object)[rng.choice(3, n, p=[0.7, 0.1, 0.2])],
        "sample_id": np.array([f"sample_{i:03}" for i in range(N_SAMPLES)], dtype=object)[sample],
        "latitude": rng.uniform(-90, 90, N_SAMPLES).round(5)[sample],
        "longitude": rng.uniform(-180, 180, N_SAMPLES).round(5)[sample],
        "time": day.strftime("%Y-%m-%dT%H:%M:%SZ").to_numpy(dtype=object)[sample],
        "depth_min": rng.uniform(0, 50, N_SAMPLES).round(1)[sample],
        "depth_max": rng.uniform(50, 500, N_SAMPLES).round(1)[sample],
        "lineage": np.array([f"living>Eukaryota>Group {i % 7}>Class name {i:03}" for i in range(N_CLASSES)])[
            class_index
        ],
        "annotation_status": np.array(["validated", "predicted"])[rng.integers(0, 2, n)],
    }
    features = {f"feature_{i}": rng.lognormal(size=n) for i in range(N_FEATURES)}
    return pd.DataFrame(columns | features)


def measure(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return the result of a call, and its seconds."""
    wall, processors = time.perf_counter(), time.process_time()
    result = call()
    return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processors}


def run_step(who: str, step: str, path: Path, n: int) -> list[dict[str, Any]]:
    """Write or read the rows, as a catalog or with pandas alone; return one line per call."""
    is_csv = path.suffix == ".csv"
    lines = []
    if step == "write":
        frame = draw_rows(n)
        if who == "catalog":
            catalog, seconds = measure(lambda: ImageCatalog.from_rows(frame, root=path.parent))
            lines.append({"step": "build", **seconds})
            _, seconds = measure(lambda: catalog.save(path))
        else:
            _, seconds = measure(
                lambda: frame.to_csv(path, index=False) if is_csv else frame.to_parquet(path, index=False)
            )
    elif who == "catalog":
        _, seconds = measure(lambda: ImageCatalog.load(path))
    else:
        _, seconds = measure(lambda: pd.read_csv(path) if is_csv else pd.read_parquet(path))
    lines.append({"step": step, **seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6})
    return [{"format": path.suffix.removeprefix("."), "who": who, **line} for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # one process: who, step, path
    arguments = parser.parse_args()
    if arguments.step:
        who, step, path = arguments.step
        print(json.dumps(run_step(who, step, Path(path), arguments.rows)))
        return
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("csv", "parquet"):
            for who in ("catalog", "pandas"):
                for step in ("write", "read"):
                    step_options = [who, step, f"{folder}/{who}.{suffix}", "--rows", str(arguments.rows)]
                    command = [sys.executable, __file__, "--step", *step_options]
                    lines += json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    table = pd.DataFrame(lines)
    print(table.round(2).to_string(index=False, na_rep=""))
    sums = table.groupby(["format", "who"])[["seconds", "cpu_seconds"]].sum().unstack("who")
    for name, row in sums.iterrows():
        ratios = ", ".join(
            f"{row[kind, 'catalog'] / row[kind, 'pandas']:.2f} ({kind})" for kind in sums.columns.levels[0]
        )
        print(f"{name}: built, written and read, ratios of the catalog to pandas: {ratios}")
    seconds = sums["seconds", "catalog"].max()
    peak = table.loc[table["who"] == "catalog", "peak_gb"].max()
    print(f"at most {seconds:.1f} s (limit: {MOST_SECONDS}) and {peak:.2f} GB (limit: {MOST_GB})")


if __name__ == "__main__":
    main()
