"""Is the share of rejected images the requested one? Over twenty divisions of a run's val and test images.

    python benchmarks/thresholds.py runs/ndsb40

For each seed, the labelled vectors of val and test are divided anew, class by class: as many as in val are the
calibration set of the thresholds (kNN, k = 10, gives the predictions), the others are rejected or not. Printed for
every measure and rate: the rejected share of known images, averaged over classes and seeds, and how it differs between
classes. The network was not trained on these images; its best epoch was chosen on val, as always.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from parts import N_NEIGHBORS

from plankton_embed.classifiers.calibrated import hold_out
from plankton_embed.classifiers.enrollment import add_examples
from plankton_embed.classifiers.prediction import fit_classifier
from plankton_embed.classifiers.rejection import NoveltyScore, Rejector
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

RATES = (0.05, 0.1, 0.2)


def measure_shares(run: RunFolder, n_seeds: int) -> pd.DataFrame:
    """Return the rejected share of known images: one row per measure, rate, seed and class."""
    reference, val, test = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
    images = add_examples(val, test)
    truth = images.label.astype(str)
    predicted = fit_classifier(reference, "knn", N_NEIGHBORS).predict(images.vectors)
    classes, codes = np.unique(truth, return_inverse=True)
    rows = []
    for measure in get_args(NoveltyScore):
        rejector = Rejector(measure).fit(reference.vectors, reference.label)
        for rate in RATES:
            for seed in range(n_seeds):
                is_calibration = hold_out(codes, len(val) / len(images), seed)
                rejector.calibrate(images.vectors[is_calibration], predicted[is_calibration], rate)
                rejected = rejector.reject(images.vectors[~is_calibration], predicted[~is_calibration])
                shares = pd.Series(rejected).groupby(truth[~is_calibration]).mean()
                rows += [(measure, rate, seed, label, shares[label]) for label in classes]
    return pd.DataFrame(rows, columns=["measure", "rate", "seed", "label", "rejected"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a finished run with val and test")
    parser.add_argument("--seeds", type=int, default=20, help="divisions [20]")
    arguments = parser.parse_args()
    shares = measure_shares(RunFolder(Path(arguments.run)), arguments.seeds)
    by_class = shares.groupby(["measure", "rate", "label"])["rejected"].mean()
    spread = by_class.groupby(["measure", "rate"]).agg(["mean", "std", "min", "median", "max"])
    by_seed = shares.groupby(["measure", "rate", "seed"])["rejected"].mean()
    spread["sd over seeds"] = by_seed.groupby(["measure", "rate"]).std()
    print("Rejected share of known images: mean over classes and seeds, then how the classes differ")
    print(spread.round(3).to_string())
    worst = by_class.xs(RATES[0], level="rate").unstack("measure").sort_values(get_args(NoveltyScore)[0])
    print(f"\nBy class, {RATES[0]:.0%} requested")
    print(worst.round(3).to_string())


if __name__ == "__main__":
    main()
