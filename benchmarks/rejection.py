"""Rejection at 5 %: is 5 % of the images rejected, and are the counts of `abundance` right?

    python benchmarks/rejection.py runs/ndsb121

In every draw, the images of a run's val and test are divided anew: 18 images of each class (then 38, then 60) are the
calibration set, for classes with at least 10 further images, and the rest is scored. The network was not trained on
them; its best epoch was chosen on val. Printed: the share of rejected images, its average over classes, and the highest
mean share of a true class and of a predicted one, over the classes of the calibration set. Then `abundance` counts a
sample of 1,000 images of the rest and 250 images of an unknown class, which are all rejected (vectors ten times as long
as the others). Printed: the relative errors of the total of known images and of `unknown`, as means over the draws, and
how often the interval of `unknown` contains the true number.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from parts import N_NEIGHBORS, shuffle_in_classes
from tqdm import tqdm

from plankton_embed.analysis.counts import count_sample
from plankton_embed.analysis.quantification import CountCorrection
from plankton_embed.analysis.samples import divide_samples
from plankton_embed.classifiers.enrollment import add_examples
from plankton_embed.classifiers.prediction import METHODS, fit_classifier
from plankton_embed.classifiers.rejection import Rejector, estimate_kept
from plankton_embed.images.catalog import UNKNOWN
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

LEAST_LEFT, N_SAMPLE, N_UNKNOWN, N_BOOTSTRAP = 10, 1000, 250, 40


def divide(codes: NDArray[np.intp], n_each: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the calibration rows, `n_each` of each class with enough images, and the other rows of these classes."""
    order, rank = shuffle_in_classes(codes, np.random.default_rng(seed))
    order, rank = (a[np.bincount(codes)[codes[order]] >= n_each + LEAST_LEFT] for a in (order, rank))
    return order[rank < n_each], order[rank >= n_each]


def measure(run: RunFolder, method: str, n_each: int, n_draws: int, rate: float) -> dict[str, object]:
    """Score one number of calibration images per class over all draws."""
    reference, val, test = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
    images = add_examples(val, test)
    classifier = fit_classifier(reference, method, N_NEIGHBORS, val)
    names, n_classes = classifier.classes_, len(classifier.classes_)
    codes = np.searchsorted(names, images.label.astype(str))
    order, logs = classifier.assess(images.vectors)
    predicted = order[:, 0]
    unknown_vector = 10 * reference.vectors[:1]  # farther from the others than any unit vector
    of_unknown = classifier.assess(unknown_vector)
    rejector = Rejector().fit(reference.vectors, reference.label)
    shares, by_true, by_predicted, counted = [], [], [], []
    for seed in tqdm(range(n_draws), desc=f"{method}, {n_each} per class", leave=False):
        calibration, rest = divide(codes, n_each, seed)
        rejector.calibrate(images.vectors[calibration], names[predicted[calibration]], rate)
        rejected = pd.Series(rejector.reject(images.vectors[rest], names[predicted[rest]]))
        true, prediction = codes[rest], predicted[rest]
        by_true.append(rejected.groupby(true).mean())
        by_predicted.append(rejected.groupby(prediction).agg(["sum", "size"]))
        expected = rejector.thresholds_["rejected"].to_numpy()[prediction].mean()
        shares.append((rejected.mean(), by_true[-1].mean(), expected))

        kept = ~rejector.reject(images.vectors[calibration], names[predicted[calibration]])
        prior = None
        if method != "centroid":
            prior = pd.Series(reference.label.astype(str)).value_counts(normalize=True)[list(names)].to_numpy()
        correction = CountCorrection(
            logs[calibration[kept]], codes[calibration[kept]], prior, "confusion", n_draws=N_BOOTSTRAP, seed=seed
        )
        rejection = rejector.count_rejected(images.vectors[calibration], names[predicted[calibration]])
        kept_shares = estimate_kept(rejection, codes[calibration], n_classes, N_BOOTSTRAP, seed)
        if not rejector.reject(unknown_vector, names[of_unknown[0][:, 0]]).all():
            raise SystemExit("an image of an unknown class is not rejected; give more calibration images")
        part = np.random.default_rng(seed).permutation(len(rest))[:N_SAMPLE]
        found = count_sample(
            divide_samples(pd.DataFrame({"object_id": range(len(part) + N_UNKNOWN), "sample_id": "s"})),
            0,
            [*map(str, names), UNKNOWN],
            np.append(prediction[part], np.repeat(of_unknown[0][:, 0], N_UNKNOWN)),
            np.concatenate([logs[rest[part]], np.repeat(of_unknown[1], N_UNKNOWN, axis=0)]),
            np.append(rejected.to_numpy()[part], np.ones(N_UNKNOWN, dtype=bool)),
            correction,
            kept_shares,
        )
        total, unknown = found.corrected[:-1].sum() / len(part), found.corrected[-1] / N_UNKNOWN
        counted.append((total - 1, unknown - 1, found.low[-1] <= N_UNKNOWN <= found.high[-1]))
    true = pd.concat(by_true, axis=1).mean(axis=1)
    sums = pd.concat(by_predicted).groupby(level=0).sum()
    prediction = (sums["sum"] / sums["size"])[sums.index.isin(true.index)]
    image, of_class, expected = np.mean(shares, axis=0)
    total, unknown, coverage = np.mean(counted, axis=0)
    return {
        "method": method, "per class": n_each, "classes": len(true), "rejected": image, "mean of classes": of_class,
        "expected": expected, "highest, true": true.max(), "class": names[true.idxmax()],
        "highest, predicted": prediction.max(), "prediction": names[prediction.idxmax()],
        "known": total, "unknown": unknown, "unknown, sd": np.std([row[1] for row in counted]), "coverage": coverage,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with val and test")
    parser.add_argument("--draws", type=int, default=200, help="divisions [200]")
    parser.add_argument("--rate", type=float, default=0.05, help="share of known images to reject [0.05]")
    parser.add_argument("--each", type=int, nargs="+", default=[18, 38, 60], help="calibration images [18 38 60]")
    parser.add_argument("--methods", nargs="+", default=METHODS[:1], help="[centroid]")
    arguments = parser.parse_args()
    rows = [
        measure(RunFolder(arguments.run), method, n_each, arguments.draws, arguments.rate)
        for method in arguments.methods
        for n_each in arguments.each
    ]
    with pd.option_context("display.width", 250):
        print(pd.DataFrame(rows).set_index(["method", "per class"]).T.to_string(float_format="{:.4f}".format))
