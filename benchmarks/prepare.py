"""Preparing many image files for the network: this version against an earlier one, or against one thread, in one run.

    pip install -e ".[cpu]"
    python benchmarks/prepare.py IMAGES --n 24000 --before EARLIER_VERSION

IMAGES has one folder for each class. Each run is a process of its own and prepares every image anew; its time includes
the start of its workers, but not the imports. The pixels of all runs must be equal. Without an earlier version the
rival is a plain loop over `prepare_image`.
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

START = """
import hashlib, json, sys, time
import numpy as np
from plankton_embed.images.preparation import prepare_image
from plankton_embed.images.store import prepare_images
from plankton_embed.settings import PreparationSettings
paths = json.load(open(sys.argv[1]))
settings = PreparationSettings(target_size=int(sys.argv[2]), white_level_16bit=255)
start = time.perf_counter()
"""
PREPARE = "pixels = prepare_images(paths, paths, settings, cache=sys.argv[3], progress=False).pixels\n"
LOOP = "pixels = np.stack([prepare_image(path, settings)[0] for path in paths])\n"
END = """
seconds = time.perf_counter() - start
print(json.dumps([seconds, hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--before", help="folder of an earlier version")
    parser.add_argument("--n", type=int, default=24_000)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    paths = sorted(str(path) for path in arguments.images.glob("*/*") if path.is_file())[: arguments.n]
    here = str(Path(__file__).parents[1])
    rival = ("before", PREPARE, arguments.before) if arguments.before else ("one loop", LOOP, here)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "paths.json").write_text(json.dumps(paths))
        for repeat in range(arguments.repeats):
            for name, work, version in (rival, ("ours", PREPARE, here)):
                words = [str(Path(temporary) / "paths.json"), str(arguments.side), f"{temporary}/{name}{repeat}"]
                done = subprocess.run(
                    [sys.executable, "-c", START + work + END, *words],
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "PYTHONPATH": version},
                )
                seconds, digest = json.loads(done.stdout.splitlines()[-1])
                found.append({"name": name, "images_per_second": len(paths) / seconds, "digest": digest})
    table = pd.DataFrame(found)
    rates = table.groupby("name")["images_per_second"].median()
    are_equal = table["digest"].nunique() == 1
    ratio = float(rates["ours"] / rates[rival[0]])
    print(f"{len(paths)} images, {arguments.side} px, {os.cpu_count()} cores; pixels equal: {are_equal}")
    print(table[["name", "images_per_second"]].round(1).to_string(index=False))
    print(f"ours / {rival[0]}: {ratio:.2f}")
    if arguments.output:
        figures = {"ratio": ratio, "equal": bool(are_equal), "runs": found}
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
