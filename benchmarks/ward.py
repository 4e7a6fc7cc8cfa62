"""Ward's linkage of many vectors: ours against fastcluster, one after the other in one run.

    pip install -e ".[cpu,bench]"
    python benchmarks/ward.py --sizes 20000 100000

Each runs in a separate process, which reports its time and its peak memory, with the vectors and the libraries. The
vectors: `classes`, unit vectors of 100 classes with a decreasing spectrum, similar to an embedding; `gauss`, normal in
all 64 dimensions. Heights are compared one by one. SciPy's linkage needs all distances at once: 4 n (n - 1) bytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

METHODS = {
    "ours": "from plankton_embed.analysis.ward import ward_linkage\ntree = ward_linkage(vectors, progress=False)",
    "fastcluster": "import fastcluster\ntree = fastcluster.linkage_vector(vectors.astype(float), 'ward')",
}
SCRIPT = """
import json, resource, sys, time
import numpy as np
vectors = np.load(sys.argv[1])
start = time.perf_counter()
{method}
seconds = time.perf_counter() - start
np.save(sys.argv[2], tree[:, 2])
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def draw_vectors(kind: str, n: int, dimension: int = 64, n_classes: int = 100) -> NDArray[np.float32]:
    """Draw vectors to join, (n, d)."""
    rng = np.random.default_rng(0)
    if kind == "gauss":
        return rng.normal(size=(n, dimension)).astype(np.float32)
    spread = 0.75 ** np.arange(dimension)
    vectors = rng.normal(size=(n_classes, dimension))[rng.integers(n_classes, size=n)] * spread**0.5
    vectors += 0.5 * rng.gamma(4, 0.25, size=(n, 1)) * rng.normal(size=(n, dimension)) * spread**0.5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000], help="numbers of vectors")
    parser.add_argument("--kinds", nargs="+", default=["classes", "gauss"], choices=["classes", "gauss"])
    arguments = parser.parse_args()
    rows = []
    for n in arguments.sizes:
        for kind in arguments.kinds:
            heights = {}
            with tempfile.TemporaryDirectory() as folder:
                np.save(Path(folder) / "vectors.npy", draw_vectors(kind, n))
                for name, method in METHODS.items():
                    paths = [str(Path(folder) / file) for file in ("vectors.npy", "heights.npy")]
                    script = SCRIPT.format(method=method)
                    done = subprocess.run([sys.executable, "-c", script, *paths], check=True, stdout=subprocess.PIPE)
                    seconds, memory = json.loads(done.stdout)
                    heights[name] = np.load(paths[1])
                    rows.append({"n": n, "vectors": kind, "method": name, "seconds": seconds, "MB": memory})
                    rows[-1]["difference"] = np.abs(heights[name] - heights["ours"]).max()
                    rows[-1]["times ours"] = seconds / next(
                        row["seconds"] for row in rows if (row["n"], row["vectors"]) == (n, kind)
                    )
                    print(rows[-1], flush=True)
        needed = 8 * n * (n - 1) / 2 / 2**20
        rows.append({"n": n, "method": "scipy: not run, its distances alone would take", "MB": needed})
    print(pd.DataFrame(rows).round(6).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
