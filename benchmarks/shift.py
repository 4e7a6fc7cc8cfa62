"""Does `shift` flag other instruments, but not further images of the same instrument?

    python benchmarks/shift.py runs/ndsb40 --new ifcb=ifcb.parquet --new zooscan=zooscan.parquet

NAME=VECTORS were made with the model of the run (`plankton-embed embed`). They are compared with draws from the run's
own test images: 20 of 300 and 20 of 50 at random, which should not be flagged; and 20 of 150 whose mix of classes is
far from that of the val images (class weights from a Dirichlet distribution, alpha .1), whose verdict should be `class
mix`. Flagged means p < .001 and an effect above those of 100 draws from val. Last, the time for 5,000 vectors against
20,000.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.shift import find_shift
from plankton_embed.classifiers.prediction import Method
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.shift import shift

N_SEEDS = 20
COLUMNS = ["n_images", "verdict", "vectors_effect", "vectors_draws", "vectors_p", "vectors_flagged", "mix_effect",
           "appearance_effect", "appearance_draws", "appearance_p", "refused", "expected_accuracy"]  # fmt: skip


def draw_rows(test: EmbeddingTable, size: int, seed: int, alpha: float | None = None) -> NDArray[np.intp]:
    """Draw rows; with `alpha`, class weights are drawn first, which are more unequal for a smaller alpha."""
    rng = np.random.default_rng(seed)
    if alpha is None:
        return rng.choice(len(test), size, replace=False)
    classes, codes = np.unique(test.label.astype(str), return_inverse=True)
    weights = rng.dirichlet(np.full(len(classes), alpha))[codes] + 1e-9
    return rng.choice(len(test), size, replace=False, p=weights / weights.sum())


def time_large() -> float:
    """Return the seconds for 5,000 random vectors of 64 numbers against 20,000."""
    rng = np.random.default_rng(0)
    reference, new = (EmbeddingTable(rng.normal(size=(n, 64)), label=np.full(n, "a")) for n in (20_000, 5_000))
    predictions = (
        pd.DataFrame({"best_label": rng.choice(list("abcdefgh"), len(table)), "probability": 0.5,
                      "novelty_score": rng.random(len(table)), "threshold": 1.0})
        for table in (reference, new)
    )  # fmt: skip
    reference_predictions, new_predictions = predictions
    start = time.perf_counter()
    find_shift(reference, reference_predictions, new, new_predictions)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a finished run with val and test")
    parser.add_argument(
        "--new", action="append", default=[], metavar="NAME=VECTORS", help="vectors that should be flagged"
    )
    parser.add_argument(
        "--method", choices=get_args(Method), default="centroid", help="method of prediction [centroid]"
    )
    arguments = parser.parse_args()
    run = RunFolder(Path(arguments.run))
    pd.set_option("display.width", 200, "display.max_columns", 30)

    print("New sources")
    for name, _, path in (text.partition("=") for text in arguments.new):
        found = shift(run.path, path, method=arguments.method, progress=False)
        print(found.samples.head(1)[COLUMNS].assign(sample_id=name).set_index("sample_id").round(4).T.to_string())
    test = EmbeddingTable.load(run.vectors("test"))
    for size, alpha in ((300, None), (50, None), (150, 0.1)):
        tables = [test.select(draw_rows(test, size, seed, alpha)) for seed in range(N_SEEDS)]
        shifts = [shift(run.path, replace(table, sample_id=None), method=arguments.method, progress=False)
                  for table in tables]  # fmt: skip
        rows = pd.concat([found.samples.head(1) for found in shifts], ignore_index=True)
        kind = "skewed" if alpha else "random"
        flagged = {name: int(rows[f"{name}_flagged"].sum()) for name in ("vectors", "mix", "appearance")}
        print(f"\n{N_SEEDS} {kind} draws of {size} test images: flagged {flagged}, "
              f"verdicts {rows['verdict'].value_counts().to_dict()}")  # fmt: skip
        means = {name: rows[name].mean() for name in ("refused", "expected_accuracy")}
        print(f"  largest effect by the vectors {rows['vectors_effect'].max():.4f} (draws of val up to "
              f"{rows['vectors_draws'].max():.4f}), least p {rows['vectors_p'].min():.4f}; by the appearance "
              f"{rows['appearance_effect'].abs().max():.3f} ({rows['appearance_draws'].max():.3f}), "
              f"{rows['appearance_p'].min():.4f}; refused {means['refused']:.3f}, expected accuracy "
              f"{means['expected_accuracy']:.3f}")  # fmt: skip
    calibration = shifts[0].calibration
    print(f"\nval: expected accuracy {calibration['expected_accuracy']:.3f}, accuracy {calibration['accuracy']:.3f}")
    print(f"5,000 vectors against 20,000: {time_large():.1f} s")


if __name__ == "__main__":
    main()
