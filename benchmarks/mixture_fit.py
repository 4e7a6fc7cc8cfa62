"""Does the test of corrected counts fail where it should, and only there?

    plankton-embed embed runs/ndsb121 ifcb_groups -o ifcb.parquet
    python benchmarks/mixture_fit.py runs/ndsb121 --others ifcb.parquet zooscan.parquet

Samples of at most 1,000 test images are drawn as in `benchmarks/abundance.py` (log-normal shares; a class gives no more
images than it has); val calibrates. Printed first: the test of uniformity (Kolmogorov-Smirnov) of the p-values under
label shift alone, and how many are below .05, .01 and .001. Then the power where a tenth of the sample comes from other
images: of unseen classes (20, drawn by the seed, which reference and calibration lack; the network has seen them), and
of each file of `--others`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from abundance import N_IMAGES, draw_sample
from numpy.typing import NDArray
from scipy.stats import kstest
from tqdm import tqdm

from plankton_embed.analysis.abundance import CountCorrection
from plankton_embed.analysis.mixture_fit import MixtureTest
from plankton_embed.classifiers.naming import fit_classifier
from plankton_embed.classifiers.refusal import Refuser
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable

N_UNSEEN, SHARE = 20, 0.1
Described = tuple[NDArray[np.float64], NDArray[np.float64]]  # log-probabilities and novelty


@dataclass(frozen=True)
class World:
    """A reference with its calibration and test images, without some classes."""

    known: EmbeddingTable
    calibration: EmbeddingTable
    test: EmbeddingTable

    @classmethod
    def load(cls, run: RunFolder, without: NDArray[np.str_]) -> World:
        """Read the vectors of a run, without those classes."""
        tables = (EmbeddingTable.load(run.vectors(name)) for name in ("train", "val", "test"))
        return cls(*(table.select(~np.isin(table.label.astype(str), without)) for table in tables))

    def p_values(
        self, others: EmbeddingTable | None, correction: str, n_samples: int, spread: float
    ) -> NDArray[np.float64]:
        """Return the p-values of samples, a tenth of which are other images where there are such."""
        classifier = fit_classifier(self.known, "centroid", calibration=self.calibration)
        measures = Refuser().fit(self.known.vectors, self.known.label)

        def describe(table: EmbeddingTable) -> Described:
            order, logs = classifier.assess(table.vectors)
            return logs, measures.novelty(table.vectors, classifier.classes_[order[:, 0]])

        calibration, test = describe(self.calibration), describe(self.test)
        codes = np.searchsorted(classifier.classes_, self.calibration.label.astype(str))
        of_test = np.searchsorted(classifier.classes_, self.test.label.astype(str))
        fit = MixtureTest(
            CountCorrection(calibration[0], codes, method=correction, n_draws=20), calibration[0], codes, calibration[1]
        )
        other = None if others is None else describe(others)
        found = []
        for seed in tqdm(range(n_samples), leave=False):
            rng = np.random.default_rng(seed)
            _, rows = draw_sample(of_test, np.zeros(len(classifier.classes_), dtype=int), spread, rng)
            sample = [part[rows] for part in test]
            if other is not None:
                kept = rng.permutation(len(rows))[: round((1 - SHARE) * N_IMAGES)]
                n_other = min(round(len(kept) * SHARE / (1 - SHARE)), len(other[0]))
                drawn = rng.choice(len(other[0]), n_other, replace=False)
                sample = [np.concatenate([part[kept], more[drawn]]) for part, more in zip(sample, other, strict=True)]
            found.append(fit.p_value(*sample))
        return np.array(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with val and test")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="vectors of other images, by the same model")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--spread", type=float, default=2.45, help="standard deviation of the log shares [2.45]")
    parser.add_argument("--corrections", nargs="+", default=["em"])
    parser.add_argument("--seed", type=int, default=5, help="of the unseen classes [5]")
    arguments = parser.parse_args()
    run = RunFolder(arguments.run)
    whole = World.load(run, np.array([], dtype=str))
    unseen = np.random.default_rng(arguments.seed).choice(whole.known.classes, N_UNSEEN, replace=False)
    strangers = whole.test.select(np.isin(whole.test.label.astype(str), unseen))
    cases: dict[str, tuple[World, EmbeddingTable | None]] = {
        "label shift alone": (whole, None),
        "a tenth of unseen classes": (World.load(run, unseen), strangers),
        **{f"a tenth of {path.stem}": (whole, EmbeddingTable.load(path)) for path in arguments.others},
    }
    rows = []
    for correction in arguments.corrections:
        for name, (world, others) in cases.items():
            p = world.p_values(others, correction, arguments.samples, arguments.spread)
            shares = {f"p < {limit:g}": (p < limit).mean() for limit in (0.05, 0.01, 0.001)}
            uniform = kstest(p, "uniform").pvalue if others is None else np.nan
            rows.append({"correction": correction, "sample": name, **shares, "uniform, p": uniform})
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
