"""Counts in samples whose mix of classes is far from that of training: as predicted, and corrected.

    plankton-embed embed RUN others.csv --root ndsb -o others.parquet       # images of its classes, unseen by RUN
    python benchmarks/abundance.py runs/ndsb40 --others others.parquet
    pip install quapy                                                       # the rivals: QuaPy's EMQ and ACC

For every sample, the images that were not used for training or for choosing settings (test, and the others) are divided
anew. As many images of each class as val has are the calibration set. From the rest, at most 1,000 images are drawn
without replacement, with log-normal shares that are given to the classes at random (standard deviation 2.45: Preston's
canonical distribution, a = 0.2, Ecology 29, 1948; a class gives at most the images it has). Printed for each method of
prediction and of correction: the mean absolute relative error of the counts as predicted and as corrected, over classes
with at least 20 true images, and how often the nominal 90 % intervals contain the true count. QuaPy's methods get the
same probabilities and the same calibration set; they give no intervals. (The epoch and the temperature were chosen on
val; no sample has an image of it.)
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from parts import N_NEIGHBORS, rank_in_classes, shuffle_in_classes
from sklearn.base import BaseEstimator, ClassifierMixin
from tqdm import tqdm

from plankton_embed.analysis.quantification import N_DRAWS, CorrectedCounts, CountCorrection
from plankton_embed.classifiers.enrollment import add_examples
from plankton_embed.classifiers.prediction import METHODS, fit_classifier
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

N_IMAGES, LEAST_COUNT = 1000, 20
RIVALS = ("EMQ", "ACC")


def draw_sample(
    codes: NDArray[np.intp], n_each: NDArray[np.intp], spread: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of the calibration set and the rows of the sample."""
    order, rank = shuffle_in_classes(codes, rng)
    is_calibration = rank < n_each[codes[order]]
    calibration, pool = order[is_calibration], order[~is_calibration]
    shares = np.exp(rng.normal(0, spread, len(n_each)))
    wanted = rng.multinomial(N_IMAGES, shares / shares.sum())
    return calibration, pool[rank_in_classes(codes[pool]) < wanted[codes[pool]]]


class Probabilities(ClassifierMixin, BaseEstimator):
    """A classifier for QuaPy whose inputs are the probabilities themselves."""

    def __init__(self, n_classes: int = 2):
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X: NDArray[np.float64], y: NDArray[np.intp]) -> Self:
        """Learn nothing."""
        return self

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the inputs."""
        return X

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the most probable class of each."""
        return X.argmax(axis=1)


def estimate_by_quapy(
    name: str,
    logs: NDArray[np.float64],
    codes: NDArray[np.intp],
    sample: NDArray[np.float64],
    prior: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the shares of the classes in a sample, as QuaPy estimates them from the calibration images."""
    from quapy.method.aggregative import ACC, EMQ

    classifier = Probabilities(logs.shape[1])
    given = {"fit_classifier": False, "val_split": None}
    quantifier = EMQ(classifier, exact_train_prev=True, **given) if name == "EMQ" else ACC(classifier, **given)
    quantifier.fit(np.exp(logs), codes)
    if name == "EMQ":  # the prevalence that the probabilities assume
        quantifier.train_prevalence = np.full(logs.shape[1], 1 / logs.shape[1]) if prior is None else prior
    return np.asarray(quantifier.predict(np.exp(sample)))


def measure(arguments: argparse.Namespace, method: str, correction: str) -> dict[str, object]:
    """Score one method of prediction and one of correction over all samples."""
    run = RunFolder(arguments.run)
    reference, val, test = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
    images = test if arguments.others is None else add_examples(test, EmbeddingTable.load(arguments.others))
    classifier = fit_classifier(reference, method, N_NEIGHBORS, val)
    logs = classifier.assess(images.vectors)[1]
    codes = np.searchsorted(classifier.classes_, images.label.astype(str))
    n_classes = len(classifier.classes_)
    n_each = pd.Series(val.label.astype(str)).value_counts().reindex(classifier.classes_, fill_value=0).to_numpy()
    prior = None
    if method != "centroid":
        prior = (
            pd.Series(reference.label.astype(str)).value_counts(normalize=True)[list(classifier.classes_)].to_numpy()
        )
    errors, hits = [], []
    for seed in tqdm(range(arguments.samples), desc=f"{method}, {correction}", leave=False):
        calibration, sample = draw_sample(codes, n_each, arguments.spread, np.random.default_rng(arguments.seed + seed))
        true = np.bincount(codes[sample], minlength=n_classes)
        if correction in RIVALS:
            shares = estimate_by_quapy(correction, logs[calibration], codes[calibration], logs[sample], prior)
            nothing = np.full(n_classes, np.nan)
            corrected = CorrectedCounts(shares * len(sample), nothing, nothing, nothing[None], nothing[None])
        else:
            corrected = CountCorrection(
                logs[calibration], codes[calibration], prior, correction, n_draws=arguments.draws, seed=seed
            ).correct(logs[sample])
        predicted = np.bincount(logs[sample].argmax(axis=1), minlength=n_classes)
        is_counted = true >= LEAST_COUNT
        errors.append(
            [(np.abs(count - true)[is_counted] / true[is_counted]).mean() for count in (predicted, corrected.count)]
            if is_counted.any()
            else [np.nan, np.nan]
        )
        hits += list(((corrected.low <= true) & (true <= corrected.high))[is_counted])
    raw, corrected_error = np.nanmean(errors, axis=0)
    return {
        "method": method,
        "correction": correction,
        "error as predicted": raw,
        "error corrected": corrected_error,
        "ratio": corrected_error / raw,
        "coverage": np.nan if correction in RIVALS else np.mean(hits),
        "counts": len(hits),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--others", type=Path, help="vectors of more labelled images that the network has not seen")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--spread", type=float, default=2.45, help="standard deviation of the log shares [2.45]")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--corrections", nargs="+", default=["em", "confusion", *RIVALS], help="[all]")
    parser.add_argument("--draws", type=int, default=N_DRAWS, help=f"draws of the intervals [{N_DRAWS}]")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if set(arguments.corrections) & set(RIVALS) and find_spec("quapy") is None:
        raise SystemExit(
            "QuaPy is not installed: pip install quapy, or leave its methods out (--corrections em confusion)"
        )
    rows = [measure(arguments, m, c) for m in arguments.methods for c in arguments.corrections]
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
