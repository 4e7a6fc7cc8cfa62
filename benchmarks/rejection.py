"""Rejection at 5 %: is that the share of images that is rejected, and does `abundance` count the others rightly?

    python benchmarks/rejection.py runs/ndsb121

Every draw divides the images of a run's val and test anew: 18 images of each class calibrate (then 38, then 60), of the
classes that leave at least 10, and the rest is scored. The network has seen none of them; its best epoch was chosen on
val. Printed: the share of images that is rejected, the share averaged over classes, and the highest mean share of a
true class and of a predicted one, of those that calibrate. Then what `abundance` counts in the rest and a number
of strangers, which are all rejected (vectors ten times as long as the others): the errors of the total of the
known images and of `unknown`, as means over the draws, and how often the interval of `unknown` holds the true number
(the sample: 1,000 images of the rest, and 250 strangers).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from parts import N_NEIGHBORS
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

LEAST_LEFT, N_SAMPLE, N_STRANGERS, N_BOOTSTRAP = 10, 1000, 250, 40


def divide(codes: NDArray[np.intp], n_each: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows that calibrate, `n_each` of each class that has enough, and the other rows of these classes."""
    order = np.random.default_rng(seed).permutation(len(codes))
    position = pd.Series(order).groupby(codes[order]).cumcount().to_numpy()
    order, position = (a[np.bincount(codes)[codes[order]] >= n_each + LEAST_LEFT] for a in (order, position))
    return order[position < n_each], order[position >= n_each]


def measure(run: RunFolder, method: str, n_each: int, n_draws: int, rate: float) -> dict[str, object]:
    """Score one number of calibration images a class over all draws."""
    known, val, test = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
    images = add_examples(val, test)
    classifier = fit_classifier(known, method, N_NEIGHBORS, val)
    names, n_classes = classifier.classes_, len(classifier.classes_)
    codes = np.searchsorted(names, images.label.astype(str))
    order, logs = classifier.assess(images.vectors)
    predicted = order[:, 0]
    strange = 10 * known.vectors[:1]  # no unit vector is as far from the others
    of_stranger = classifier.assess(strange)
    rejector = Rejector().fit(known.vectors, known.label)
    shares, by_true, by_predicted, counted = [], [], [], []
    for seed in tqdm(range(n_draws), desc=f"{method}, {n_each} a class", leave=False):
        held, rest = divide(codes, n_each, seed)
        rejector.calibrate(images.vectors[held], names[predicted[held]], rate)
        rejected = pd.Series(rejector.reject(images.vectors[rest], names[predicted[rest]]))
        true, prediction = codes[rest], predicted[rest]
        by_true.append(rejected.groupby(true).mean())
        by_predicted.append(rejected.groupby(prediction).agg(["sum", "size"]))
        expected = rejector.thresholds_["rejected"].to_numpy()[prediction].mean()
        shares.append((rejected.mean(), by_true[-1].mean(), expected))

        kept = ~rejector.reject(images.vectors[held], names[predicted[held]])
        prior = None
        if method != "centroid":
            prior = pd.Series(known.label.astype(str)).value_counts(normalize=True)[list(names)].to_numpy()
        correction = CountCorrection(
            logs[held[kept]], codes[held[kept]], prior, "confusion", n_draws=N_BOOTSTRAP, seed=seed
        )
        rejection = rejector.count_rejected(images.vectors[held], names[predicted[held]])
        kept_shares = estimate_kept(rejection, codes[held], n_classes, N_BOOTSTRAP, seed)
        if not rejector.reject(strange, names[of_stranger[0][:, 0]]).all():
            raise SystemExit("a stranger is not rejected; give more calibration images")
        part = np.random.default_rng(seed).permutation(len(rest))[:N_SAMPLE]
        found = count_sample(
            divide_samples(pd.DataFrame({"object_id": range(len(part) + N_STRANGERS), "sample_id": "s"})),
            0,
            [*map(str, names), UNKNOWN],
            np.append(prediction[part], np.repeat(of_stranger[0][:, 0], N_STRANGERS)),
            np.concatenate([logs[rest[part]], np.repeat(of_stranger[1], N_STRANGERS, axis=0)]),
            np.append(rejected.to_numpy()[part], np.ones(N_STRANGERS, dtype=bool)),
            correction,
            kept_shares,
        )
        total, unknown = found.corrected[:-1].sum() / len(part), found.corrected[-1] / N_STRANGERS
        counted.append((total - 1, unknown - 1, found.low[-1] <= N_STRANGERS <= found.high[-1]))
    true = pd.concat(by_true, axis=1).mean(axis=1)
    sums = pd.concat(by_predicted).groupby(level=0).sum()
    prediction = (sums["sum"] / sums["size"])[sums.index.isin(true.index)]
    image, of_class, expected = np.mean(shares, axis=0)
    total, unknown, held_true = np.mean(counted, axis=0)
    return {
        "method": method, "a class": n_each, "classes": len(true), "rejected": image, "of classes": of_class,
        "expected": expected, "highest, true": true.max(), "class": names[true.idxmax()],
        "highest, predicted": prediction.max(), "prediction": names[prediction.idxmax()],
        "known": total, "unknown": unknown, "unknown, sd": np.std([row[1] for row in counted]), "holds": held_true,
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
        print(pd.DataFrame(rows).set_index(["method", "a class"]).T.to_string(float_format="{:.4f}".format))
