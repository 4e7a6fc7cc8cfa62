"""Tows that differ more than independent images: how often do intervals contain the truth, by image and by sample?

    python benchmarks/tows.py                                   # 20 stations for each of three seeds

Every station is simulated anew. Its classes are overlapping normal distributions. Every tow has its own mix of classes
(log-normal, standard deviation 1 over the classes) and shifts all its images by its own step (normal, standard
deviation 0.5 in each of three dimensions; that of a class is 1), so the errors of the classifier differ from tow to
tow. 20 tows of 40 images are the calibration set. The station has 1 tow of 240 images or 8 tows of 30, not used for
calibration. Printed for each seed: the share of classes (with at least 5 true images) whose nominal 90 % interval
contains the true count, with intervals by image and by sample, and the mean width of the intervals / true count. Then
the same for nominal 95 % intervals of the accuracy, from 20 labelled tows; they should contain the accuracy over 4,000
other tows.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax
from tqdm import tqdm

from plankton_embed.analysis.quantification import LEVEL, METHODS, CorrectionMethod, CountCorrection
from plankton_embed.classifiers.scoring import score_predictions

N_CLASSES, LEAST_COUNT, N_DRAWS = 10, 5, 100
N_TOWS, N_EACH = 20, 40  # of the calibration set
STATIONS = {"1 tow": (1, 240), "8 tows": (8, 30)}
MIX, SPREAD, N_REFERENCE = 1.0, 2.2, 4000


class Sea:
    """Classes, and tows through them."""

    def __init__(self, rng: np.random.Generator, step: float):
        self.rng, self.step = rng, step
        self.centres, self.bias = rng.normal(0, SPREAD, (N_CLASSES, 3)), rng.normal(0, 0.4, N_CLASSES)

    def tow(self, n_tows: int, n_each: int) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
        """Return the classes (n,) of the images of some tows, their log-probabilities (n, C) and their tows (n,)."""
        shares = np.exp(self.rng.normal(0, MIX, (n_tows, N_CLASSES)))
        shares /= shares.sum(axis=1, keepdims=True)
        codes = np.concatenate([self.rng.choice(N_CLASSES, n_each, p=share) for share in shares])
        tows = np.repeat(np.arange(n_tows), n_each)
        points = self.rng.normal(self.centres[codes] + self.rng.normal(0, self.step, (n_tows, 3))[tows], 1)
        distances = ((points[:, None] - self.centres) ** 2).sum(axis=2)
        return codes, log_softmax(self.bias - 0.65 * distances, axis=1), tows  # overconfident by 30 %, and biased


def measure_counts(rng: np.random.Generator, step: float, method: CorrectionMethod, station: str) -> pd.DataFrame:
    """Return one row per resampling unit and class of a station: `true`, `low`, `high`."""
    sea = Sea(rng, step)
    true_codes, logs, tows = sea.tow(N_TOWS, N_EACH)
    codes, query, of = sea.tow(*STATIONS[station])
    true, rows = np.bincount(codes, minlength=N_CLASSES), []
    for drawn_by, samples, here in (("image", None, None), ("sample", tows, of)):
        found = CountCorrection(logs, true_codes, None, method, samples=samples, n_draws=N_DRAWS).correct(query, here)
        rows.append(pd.DataFrame({"drawn by": drawn_by, "true": true, "low": found.low, "high": found.high}))
    return pd.concat(rows).query("true >= @LEAST_COUNT")


def measure_accuracy(rng: np.random.Generator, step: float) -> pd.DataFrame:
    """Return one row per resampling unit: `true`, the accuracy over many tows, and `low` and `high` from a few."""
    sea = Sea(rng, step)
    codes, logs, _ = sea.tow(N_REFERENCE, N_EACH)
    true, rows = float((logs.argmax(axis=1) == codes).mean()), []
    codes, logs, tows = sea.tow(N_TOWS, N_EACH)
    for drawn_by, samples in (("image", None), ("sample", tows)):
        low, high = score_predictions(codes, logs.argmax(axis=1), samples=samples).intervals["accuracy"]
        rows.append({"drawn by": drawn_by, "true": true, "low": low, "high": high})
    return pd.DataFrame(rows)


def summarise(found: pd.DataFrame) -> dict[str, float]:
    """Return how often the intervals contain the truth, and how wide they are, by image and by sample."""
    holds = found["true"].between(found["low"], found["high"]).groupby(found["drawn by"]).mean()
    width = ((found["high"] - found["low"]) / found["true"]).groupby(found["drawn by"]).mean()
    return {
        **holds.add_prefix("coverage by ").to_dict(),
        **width.add_prefix("width by ").to_dict(),
        "n": len(found) // 2,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--stations", type=int, default=20)
    parser.add_argument("--step", type=float, default=0.5, help="standard deviation of the steps of the tows [0.5]")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14, 15])
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        numbers = tqdm(range(arguments.stations), f"seed {seed}", leave=False)
        rngs = [np.random.default_rng([seed, number]) for number in numbers]
        for method in arguments.methods:
            for station in STATIONS:
                bar = tqdm(rngs, f"seed {seed}, {method}, {station}", leave=False)
                found = pd.concat([measure_counts(rng, arguments.step, method, station) for rng in bar])
                rows.append({"seed": seed, "interval": f"{LEVEL:.0%}, {method}, {station}", **summarise(found)})
        found = pd.concat([measure_accuracy(rng, arguments.step) for rng in rngs])
        rows.append({"seed": seed, "interval": "95%, accuracy", **summarise(found)})
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
