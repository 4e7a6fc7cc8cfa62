"""Does the test of corrected counts fail where it should, and only there?

    plankton-embed embed runs/ndsb121 ifcb_groups -o ifcb.parquet
    python benchmarks/mixture_fit.py runs/ndsb121 --others ifcb.parquet zooscan.parquet

Each sample divides the images of val and test anew: half of each class calibrate, and 1,000 of the rest are the sample.
The share of each class in it is that of val and test times a log-normal factor of its own (--spread); a class gives no
more images than it has. Printed first: the test of uniformity (Kolmogorov-Smirnov) of the p-values under label shift
alone, and how many are below .05, .01 and .001. Then the power where a tenth of the sample comes from other images: of
unseen classes (20, drawn by each --seeds, which reference and calibration lack; the network has seen them), and of each
file of `--others`. The temperature of the probabilities is that of all images of val.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kstest
from tqdm import tqdm

from plankton_embed.analysis.mixture_fit import MixtureTest
from plankton_embed.analysis.quantification import CorrectionMethod, CountCorrection
from plankton_embed.classifiers.prediction import fit_classifier
from plankton_embed.classifiers.rejection import Rejector
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

N_IMAGES, N_UNSEEN, SHARE = 1000, 20, 0.1
Described = tuple[NDArray[np.float64], NDArray[np.float64]]  # log-probabilities and novelty


def draw_sample(codes: NDArray[np.intp], n: int, spread: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return n rows, without replacement, in which each class is a log-normal factor commoner than among all."""
    order = rng.permutation(len(codes))
    left = np.bincount(codes)
    share = left * np.exp(rng.normal(0, spread, len(left)))
    taken = np.zeros_like(left)
    while (missing := n - taken.sum()) > 0:  # a class may have too few
        weight = share * (left > taken)
        taken += np.minimum(rng.multinomial(missing, weight / weight.sum()), left - taken)
    turn = pd.Series(order).groupby(codes[order]).cumcount().to_numpy()
    return order[turn < taken[codes[order]]]


@dataclass(frozen=True)
class World:
    """A reference, calibration images for its temperature, and images that are divided anew; without some classes."""

    known: EmbeddingTable
    val: EmbeddingTable
    divided: EmbeddingTable

    @classmethod
    def load(cls, run: RunFolder, without: NDArray[np.str_]) -> World:
        """Read the vectors of a run, without those classes."""
        tables = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
        known, val, test = (table.select(~np.isin(table.label.astype(str), without)) for table in tables)
        return cls(known, val, val.join(test))

    def p_values(
        self, others: EmbeddingTable | None, correction: CorrectionMethod, n_samples: int, spread: float
    ) -> NDArray[np.float64]:
        """Return the p-values of samples, a tenth of which are other images where there are such."""
        classifier = fit_classifier(self.known, "centroid", calibration=self.val)
        measures = Rejector().fit(self.known.vectors, self.known.label)

        def describe(table: EmbeddingTable) -> Described:
            order, logs = classifier.assess(table.vectors)
            return logs, measures.novelty_scores(table.vectors, classifier.classes_[order[:, 0]])

        logs, novelty = describe(self.divided)
        codes = np.searchsorted(classifier.classes_, self.divided.label.astype(str))
        other = None if others is None else describe(others)
        n_other = 0 if other is None else min(round(SHARE * N_IMAGES), len(other[0]))
        found = []
        for seed in tqdm(range(n_samples), leave=False):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(codes))
            turn = pd.Series(order).groupby(codes[order]).cumcount().to_numpy()
            held, pool = order[turn % 2 == 0], order[turn % 2 == 1]
            correct = CountCorrection(logs[held], codes[held], method=correction)
            fit = MixtureTest(correct, logs[held], codes[held], novelty[held], seed)
            rows = pool[draw_sample(codes[pool], N_IMAGES - n_other, spread, rng)]
            sample = [logs[rows], novelty[rows]]
            if other is not None:
                drawn = rng.choice(len(other[0]), n_other, replace=False)
                sample = [np.concatenate([part, more[drawn]]) for part, more in zip(sample, other, strict=True)]
            found.append(fit.p_value(*sample))
        return np.array(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with val and test")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="vectors of other images, by the same model")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--spread", type=float, default=1.0, help="standard deviation of the log factors [1]")
    parser.add_argument("--corrections", nargs="+", default=["em"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 9, 11], help="of the unseen classes [5 9 11]")
    arguments = parser.parse_args()
    run = RunFolder(arguments.run)
    whole = World.load(run, np.array([], dtype=str))
    cases: dict[str, tuple[World, EmbeddingTable | None]] = {"label shift alone": (whole, None)}
    for seed in arguments.seeds:
        unseen = np.random.default_rng(seed).choice(whole.known.classes, N_UNSEEN, replace=False)
        strangers = whole.divided.select(np.isin(whole.divided.label.astype(str), unseen))
        cases[f"a tenth of unseen classes, {seed}"] = (World.load(run, unseen), strangers)
    cases |= {f"a tenth of {path.stem}": (whole, EmbeddingTable.load(path)) for path in arguments.others}
    rows = []
    for correction in arguments.corrections:
        for name, (world, others) in cases.items():
            p = world.p_values(others, correction, arguments.samples, arguments.spread)
            shares = {f"p < {limit:g}": (p < limit).mean() for limit in (0.05, 0.01, 0.001)}
            uniform = kstest(p, "uniform").pvalue if others is None else np.nan
            rows.append({"correction": correction, "sample": name, **shares, "uniform, p": uniform})
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
