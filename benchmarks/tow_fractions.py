"""Tows in two fractions: how often do intervals of concentrations contain the true concentration of the tow?

    python benchmarks/tow_fractions.py                              # 200 tows for each of three seeds: 15 minutes

Every tow is simulated anew. Its classes are overlapping normal distributions, and the classifier has a random bias that
25 calibration images per class do not show fully. The numbers of individuals are log-normal over the classes (standard
deviation 2), and each class prefers one of the two size fractions, some nearly always. The sub-sampling factors are two
different powers of 2 from 2 to 64, with 60 to 1,500 expected images per fraction. An individual is imaged with the
probability 1 / factor. Printed for each seed: the accuracy of the classifier; the share of intervals that contain the
true concentration, over the classes in the tow, and by the expected number of images of the class; and the mean
absolute relative error.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax
from tqdm import tqdm

from plankton_embed.analysis.counts import count_sample
from plankton_embed.analysis.quantification import LEVEL, CountCorrection
from plankton_embed.analysis.samples import Survey, divide_samples

N_CLASSES, N_CALIBRATION, VOLUME = 10, 25, 100.0
FACTORS = (2, 4, 8, 16, 32, 64)
EXPECTED = {"under 1": (0, 1), "1 to 5": (1, 5), "5 to 20": (5, 20), "20 and more": (20, np.inf)}


def simulate_tow(
    rng: np.random.Generator, spread: float, n_fractions: int = 2
) -> tuple[Survey, NDArray[np.float64], CountCorrection, pd.DataFrame, float]:
    """Return the survey of one tow, the log-probabilities of its images, their correction, the truth, and the accuracy.

    Args:
        rng: source of random numbers.
        spread: standard deviation of the class centres; that of each class is 1 in each of three dimensions.
        n_fractions: number of fractions, of different factors.

    Returns:
        The truth has one row per class: `individuals` in the tow, and expected `images`.
    """
    centres, bias = rng.normal(0, spread, (N_CLASSES, 3)), rng.normal(0, 0.4, N_CLASSES)

    def classify(codes: NDArray[np.intp]) -> NDArray[np.float64]:
        points = rng.normal(centres[codes], 1)
        distances = ((points[:, None] - centres) ** 2).sum(axis=2)
        return np.asarray(log_softmax(bias - 0.65 * distances, axis=1))  # overconfident by 30 %, and biased

    calibration = np.repeat(np.arange(N_CLASSES), N_CALIBRATION)
    correction = CountCorrection(classify(calibration), calibration, seed=int(rng.integers(2**31)))
    factors = rng.choice(FACTORS, n_fractions, replace=False)
    n_images = np.exp(rng.uniform(np.log(60), np.log(1500), n_fractions))
    shares = np.exp(rng.normal(0, 2, N_CLASSES)) * rng.dirichlet(np.full(n_fractions, 0.4), N_CLASSES).T
    shares /= shares.sum(axis=1, keepdims=True)
    individuals = rng.poisson(shares * (n_images * factors)[:, None])
    imaged = rng.binomial(individuals, 1 / factors[:, None])
    codes = np.concatenate([np.repeat(np.arange(N_CLASSES), row) for row in imaged])
    factor = np.repeat(factors, imaged.sum(axis=1))
    logs = classify(codes)
    images = pd.DataFrame({"object_id": np.arange(len(codes)), "sample_id": "tow", "volume": VOLUME})
    truth = {"individuals": individuals.sum(axis=0), "images": (individuals / factors[:, None]).sum(axis=0)}
    accuracy = float((logs.argmax(axis=1) == codes).mean())
    return divide_samples(images.assign(subsample_factor=factor)), logs, correction, pd.DataFrame(truth), accuracy


def measure_tow(rng: np.random.Generator, spread: float, n_fractions: int = 2) -> pd.DataFrame:
    """Return one row per class: the truth, `estimate`, `low`, `high` (m⁻³) and `accuracy`."""
    survey, logs, correction, truth, accuracy = simulate_tow(rng, spread, n_fractions)
    labels = [str(code) for code in range(N_CLASSES)] + ["unknown"]
    rejected = np.zeros(len(logs), bool)
    counted = count_sample(survey, 0, labels, logs.argmax(axis=1), logs, rejected, correction)
    amounts = counted.individuals[:, :N_CLASSES] / survey.column("volume")[0]
    found = pd.DataFrame(amounts.T, columns=["estimate", "low", "high"])
    return truth.assign(concentration=truth["individuals"] / VOLUME, accuracy=accuracy).join(found)


def summarise(tows: pd.DataFrame) -> dict[str, object]:
    """Return the share of intervals that contain the truth, and the error of the estimates."""
    seen = tows[tows["individuals"] > 0]
    holds = (seen["low"] <= seen["concentration"]) & (seen["concentration"] <= seen["high"])
    of = {name: seen["images"].between(*ends, inclusive="left") for name, ends in EXPECTED.items()}
    many = seen[of["20 and more"]]
    return {
        "accuracy": tows["accuracy"].mean(),
        "coverage": holds.mean(),
        **{f"images {name}": holds[rows].mean() for name, rows in of.items()},
        "error (20 and more)": ((many["estimate"] - many["concentration"]).abs() / many["concentration"]).mean(),
        "classes": len(seen),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tows", type=int, default=200)
    parser.add_argument("--fractions", type=int, default=2)
    parser.add_argument(
        "--spread", type=float, default=2.2, help="standard deviation of the class centres; smaller: more errors [2.2]"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    arguments = parser.parse_args()
    print(f"nominal {LEVEL:.0%} intervals of concentrations, {arguments.tows} tows per seed")
    rows = []
    for seed in arguments.seeds:
        tows = [
            measure_tow(np.random.default_rng([seed, tow]), arguments.spread, arguments.fractions)
            for tow in tqdm(range(arguments.tows), f"seed {seed}", leave=False)
        ]
        rows.append({"seed": seed, **summarise(pd.concat(tows))})
    print(pd.DataFrame(rows).T.to_string(header=False, float_format="{:.3f}".format))
