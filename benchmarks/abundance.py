"""Counts in samples whose mix of classes is far from that of training: as named, and corrected.

    plankton-embed embed RUN others.csv --root ndsb -o others.parquet       # images of its classes, unseen by RUN
    python benchmarks/abundance.py runs/ndsb40 others.parquet

Every sample divides the images that the network was not trained on (val, test and the others) anew: as many of each
class as val holds calibrate, and from the rest 1,000 images are drawn without replacement, their classes in shares that
are log-normal and given to the classes at random (standard deviation 2.45: Preston's canonical distribution, a = 0.2,
Ecology 29, 1948; a class gives no more images than it has). Printed for each method of naming and of correcting: the
mean absolute relative error of the counts as named and as corrected, over classes with at least 20 true images, and how
often the nominal 90 % intervals hold the true count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from parts import N_NEIGHBORS
from tqdm import tqdm

from plankton_embed.analysis.abundance import CorrectionMethod, CountCorrection
from plankton_embed.classifiers.enrollment import add_examples
from plankton_embed.classifiers.naming import METHODS, fit_classifier
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

N_IMAGES, LEAST_COUNT = 1000, 20


def draw_sample(
    codes: NDArray[np.intp], n_held: NDArray[np.intp], spread: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows that calibrate and the rows of the sample."""
    order = rng.permutation(len(codes))
    place = pd.Series(order).groupby(codes[order]).cumcount().to_numpy()
    is_held = place < n_held[codes[order]]
    held, pool = order[is_held], order[~is_held]
    shares = np.exp(rng.normal(0, spread, len(n_held)))
    wanted = rng.multinomial(N_IMAGES, shares / shares.sum())
    turn = pd.Series(pool).groupby(codes[pool]).cumcount().to_numpy()
    return held, pool[turn < wanted[codes[pool]]]


def measure(arguments: argparse.Namespace, method: str, correction: CorrectionMethod) -> dict[str, object]:
    """Score one way of naming and one of correcting over all samples."""
    run = RunFolder(arguments.run)
    known, val, test = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
    images = add_examples(add_examples(val, test), EmbeddingTable.load(arguments.others))
    classifier = fit_classifier(known, method, N_NEIGHBORS, val)
    logs = classifier.assess(images.vectors)[1]
    codes = np.searchsorted(classifier.classes_, images.label.astype(str))
    n_classes = len(classifier.classes_)
    n_held = np.bincount(codes[: len(val)], minlength=n_classes)
    prior = None
    if method != "centroid":
        prior = pd.Series(known.label.astype(str)).value_counts(normalize=True)[list(classifier.classes_)].to_numpy()
    errors, hits = [], []
    for seed in tqdm(range(arguments.samples), desc=f"{method}, {correction}", leave=False):
        held, sample = draw_sample(codes, n_held, arguments.spread, np.random.default_rng(arguments.seed + seed))
        corrected = CountCorrection(logs[held], codes[held], prior, correction, seed=seed).correct(logs[sample])
        true = np.bincount(codes[sample], minlength=n_classes)
        named = np.bincount(logs[sample].argmax(axis=1), minlength=n_classes)
        asked = true >= LEAST_COUNT
        errors.append(
            [(np.abs(count - true)[asked] / true[asked]).mean() for count in (named, corrected.count)]
            if asked.any()
            else [np.nan, np.nan]
        )
        hits += list(((corrected.low <= true) & (true <= corrected.high))[asked])
    raw, mended = np.nanmean(errors, axis=0)
    return {
        "names by": method,
        "correction": correction,
        "error as named": raw,
        "error corrected": mended,
        "ratio": mended / raw,
        "intervals hold": np.mean(hits),
        "counts": len(hits),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("others", type=Path, help="vectors of labelled images that it has not seen")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--spread", type=float, default=2.45, help="standard deviation of the log shares [2.45]")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--corrections", nargs="+", default=["em", "confusion"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = [measure(arguments, m, c) for m in arguments.methods for c in arguments.corrections]
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
