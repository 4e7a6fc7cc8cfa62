"""The MLP head: seconds and accuracy of this version and of an earlier one, in one run.

    python benchmarks/heads.py runs/ndsb121 --before ../earlier --output heads.json

The head learns from the run's training vectors, is stopped by its validation vectors, and names its test vectors. The
versions take turns for each seed, each in a process of its own; reading the vectors and the imports are not counted.
`--before`: a folder that contains an earlier `plankton_embed`; without it, the rival is the report's recipe (at most
100 epochs, batches of 64) in this version.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from plankton_embed.classifiers.mlp import REPORT
from plankton_embed.output import write_json

SCRIPT = """
import json, sys, time
import torch  # the head imports it late
import plankton_embed as pe
from plankton_embed.classifiers.mlp import MLPClassifier
run, seed, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
train, val, test = (pe.EmbeddingTable.load(f"{run}/vectors/{split}.parquet") for split in ("train", "val", "test"))
start = time.perf_counter()
head = MLPClassifier(random_state=seed, **options).fit(train.vectors, train.label, (val.vectors, val.label))
seconds = time.perf_counter() - start
accuracy = float((head.predict(test.vectors) == test.label).mean())
print(json.dumps({"images": len(train), "seconds": seconds, "epochs": len(head.history_), "accuracy": accuracy}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--before", type=Path, help="folder of an earlier version")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON to write the measurements to")
    arguments = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    before = ("before", arguments.before, {}) if arguments.before else ("report's recipe", here, REPORT._asdict())
    rows = []
    for seed in range(arguments.seeds):
        for version, folder, options in (before, ("now", here, {})):
            words = [sys.executable, "-c", SCRIPT, str(arguments.run.resolve()), str(seed), json.dumps(options)]
            environment = os.environ | {"PYTHONPATH": str(folder.resolve())}
            with tempfile.TemporaryDirectory() as elsewhere:  # Python would import from the current folder first
                done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment, cwd=elsewhere)
            rows.append({"version": version, "seed": seed, **json.loads(done.stdout)})
            print(rows[-1], flush=True)
    mean = pd.DataFrame(rows).groupby("version", sort=False)[["seconds", "epochs", "accuracy"]].mean()
    ratio = float(mean["seconds"].iloc[0] / mean["seconds"].iloc[1])
    difference = float(mean["accuracy"].iloc[1] - mean["accuracy"].iloc[0])
    print(f"\n{rows[0]['images']:,} training vectors, {os.cpu_count()} cores, means over {arguments.seeds} seeds\n")
    print(mean.round(4).to_string())
    print(f"\ntimes as fast: {ratio:.2f}; accuracy {difference:+.4f}")
    if arguments.output:
        write_json(arguments.output, {"runs": rows, "times_as_fast": ratio, "difference": difference})


if __name__ == "__main__":
    main()
