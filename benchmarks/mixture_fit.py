"""Does the test of corrected counts reject samples where it should, and only there?

    plankton-embed embed runs/ndsb121 ifcb_groups -o ifcb.parquet
    python benchmarks/mixture_fit.py runs/ndsb121 --others ifcb.parquet zooscan.parquet

For each sample, the images of val and test are divided anew: half of each class are the calibration set, and 1,000 of
the rest are the sample. The share of each class in it is that in val and test times a log-normal factor of its own
(--spread); a class gives at most the images it has. Printed first: the test of uniformity (Kolmogorov-Smirnov) of the
p-values under label shift alone, and how many are below .05, .01 and .001. Then the power where a tenth of the sample
are other images: of unseen classes (20, drawn with each of --seeds; reference and calibration set have none of them,
but the network has seen them), and of each file of `--others`. The temperature of the probabilities is fitted on all
images of val.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from parts import shuffle_in_classes
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
    """Return n rows, without replacement, in which the share of each class is multiplied by a log-normal factor."""
    order, rank = shuffle_in_classes(codes, rng)
    left = np.bincount(codes)
    share = left * np.exp(rng.normal(0, spread, len(left)))
    taken = np.zeros_like(left)
    while (missing := n - taken.sum()) > 0:  # a class may have too few
        weight = share * (left > taken)
        taken += np.minimum(rng.multinomial(missing, weight / weight.sum()), left - taken)
    return order[rank < taken[codes[order]]]


@dataclass(frozen=True)
class World:
    """A reference, calibration images for its temperature, and images to divide anew; without some classes."""

    reference: EmbeddingTable
    val: EmbeddingTable
    divided: EmbeddingTable

    @classmethod
    def load(cls, run: RunFolder, without: NDArray[np.str_]) -> World:
        """Read the vectors of a run, without those classes."""
        tables = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
        reference, val, test = (table.select(~np.isin(table.label.astype(str), without)) for table in tables)
        return cls(reference, val, val.join(test))

    def p_values(
        self, others: EmbeddingTable | None, correction: CorrectionMethod, n_samples: int, spread: float
    ) -> NDArray[np.float64]:
        """Return the p-values of samples; a tenth of each are other images, if given."""
        classifier = fit_classifier(self.reference, "centroid", calibration=self.val)
        measures = Rejector().fit(self.reference.vectors, self.reference.label)

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
            order, rank = shuffle_in_classes(codes, rng)
            calibration, pool = order[rank % 2 == 0], order[rank % 2 == 1]
            correct = CountCorrection(logs[calibration], codes[calibration], method=correction)
            fit = MixtureTest(correct, logs[calibration], codes[calibration], novelty[calibration], seed)
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
        unseen = np.random.default_rng(seed).choice(whole.reference.classes, N_UNSEEN, replace=False)
        unseen_images = whole.divided.select(np.isin(whole.divided.label.astype(str), unseen))
        cases[f"a tenth of unseen classes, {seed}"] = (World.load(run, unseen), unseen_images)
    cases |= {f"a tenth of {path.stem}": (whole, EmbeddingTable.load(path)) for path in arguments.others}
    rows = []
    for correction in arguments.corrections:
        for name, (world, others) in cases.items():
            p = world.p_values(others, correction, arguments.samples, arguments.spread)
            shares = {f"p < {limit:g}": (p < limit).mean() for limit in (0.05, 0.01, 0.001)}
            uniform = kstest(p, "uniform").pvalue if others is None else np.nan
            rows.append({"correction": correction, "sample": name, **shares, "uniform, p": uniform})
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
