"""Counts of one sample in fractions: intervals, and what adds up; spectra of all samples."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from plankton_embed.analysis.body_size import size_spectrum
from plankton_embed.analysis.counts import count_sample, fit_slope, pool_spectra
from plankton_embed.analysis.quantification import CountCorrection
from plankton_embed.analysis.samples import divide_samples

CENTRES = np.array([0.0, 2.5, 5.0, 7.5, 10.0])
LABELS = ["a", "b", "c", "d", "e", "unknown"]


def classify(codes, rng):
    """Log-probabilities (n, 5) of images of overlapping normal classes."""
    points = rng.normal(CENTRES[codes], 1)
    return log_softmax(-((points[:, None] - CENTRES) ** 2) / 2, axis=1)


def count_tow(codes, factor, rng, correction, unknown_rate=0.0):
    images = pd.DataFrame({"object_id": np.arange(len(codes)), "sample_id": "tow", "subsample_factor": factor})
    logs = classify(codes, rng)
    refused = np.zeros(len(codes), bool) if not unknown_rate else rng.random(len(codes)) < 0.3
    survey = divide_samples(images.assign(volume=1.0))
    kept = np.full((61, 5), 1 - unknown_rate)
    return count_sample(survey, 0, LABELS, logs.argmax(axis=1), logs, refused, correction, kept)


@pytest.fixture(scope="module")
def correction():
    codes = np.repeat(np.arange(5), 30)
    return CountCorrection(classify(codes, np.random.default_rng(0)), codes, n_draws=60)


def test_intervals_hold_the_individuals_of_tows_in_two_fractions(correction):
    """A smaller `benchmarks/tow_fractions.py`."""
    rng = np.random.default_rng(20)
    holds = []
    for _ in range(30):
        factors = rng.choice([2, 4, 8, 16, 32, 64], 2, replace=False)
        shares = np.exp(rng.normal(0, 2, 5)) * rng.dirichlet([0.4, 0.4], 5).T
        shares /= shares.sum(axis=1, keepdims=True)
        individuals = rng.poisson(shares * (rng.uniform(20, 150, 2) * factors)[:, None])
        imaged = rng.binomial(individuals, 1 / factors[:, None])
        codes = np.concatenate([np.repeat(np.arange(5), row) for row in imaged])
        found = count_tow(codes, np.repeat(factors, imaged.sum(axis=1)), rng, correction).individuals[:, :5]
        true = individuals.sum(axis=0)
        holds += list(((found[1] <= true) & (true <= found[2]))[true > 0])
    assert 0.8 <= np.mean(holds) <= 0.98


def test_individuals_of_all_labels_are_the_sum_of_the_factors(correction):
    rng = np.random.default_rng(3)
    factor = np.repeat([2.0, 16, 1.5], [80, 60, 40])
    codes = rng.integers(0, 5, 180)
    for unknown_rate in (0.0, 0.1):
        found = count_tow(codes, factor, rng, correction, unknown_rate)
        low, high = found.individuals[1:]
        assert found.individuals[0].sum() == pytest.approx(factor.sum())
        assert found.corrected.sum() == pytest.approx(180)
        assert ((low <= found.individuals[0]) & (found.individuals[0] <= high)).all()
        assert (found.low <= found.corrected).all()
        assert (found.corrected <= found.high).all()
        assert (found.individuals[0, -1] > 0) == (unknown_rate > 0)
        assert (high[-1] > low[-1]) == (unknown_rate > 0)


def test_fractions_are_corrected_separately(correction):
    """Only a in the first and only b in the second: with one mix for both, doubtful images would be of either."""
    codes, factor = np.repeat([0, 1], 200), np.repeat([1.0, 64.0], 200)
    found = count_tow(codes, factor, np.random.default_rng(4), correction)
    together = factor @ correction.correct(classify(codes, np.random.default_rng(4))).posterior
    assert abs(found.individuals[0, 0] - 200) < abs(together[0] - 200) / 2
    assert found.class_images.shape == found.class_individuals.shape == (61, 5)


def test_more_rejected_images_than_there_are_leave_none_unknown(correction):
    """The rest of the rejected images is 0, and not below it by rounding, which has no negative binomial."""
    rng = np.random.default_rng(4)
    images = pd.DataFrame({"object_id": np.arange(60), "sample_id": "tow", "subsample_factor": 3.0})
    logs, rejected = classify(rng.integers(0, 5, 60), rng), np.arange(60) < 7
    kept = rng.uniform(0.1, 0.5, (61, 5))
    found = count_sample(divide_samples(images), 0, LABELS, logs.argmax(axis=1), logs, rejected, correction, kept)
    assert found.corrected[-1] == found.individuals[0, -1] == 0
    assert (found.individuals[:, -1] >= 0).all()


def test_spectra_of_all_samples_and_their_slope():
    rng = np.random.default_rng(0)
    sizes = [rng.lognormal(0, 2, 300), rng.lognormal(1, 2, 200)]
    parts = [size_spectrum(size, np.ones(len(size)), 2.0 + row) for row, size in enumerate(sizes)]
    spectra = pd.concat([part.assign(sample=name, label="x") for part, name in zip(parts, "pq", strict=True)])
    samples = pd.DataFrame({"sample": ["p", "q", "without sizes"], "volume": [2.0, 3.0, 9.0]})
    pooled = pool_spectra(spectra, samples)
    expected = size_spectrum(np.concatenate(sizes), np.ones(500), 5.0)
    pd.testing.assert_frame_equal(pooled.drop(columns="label"), expected)
    low = 2.0 ** np.arange(5)
    line = pd.DataFrame({"low": low, "high": 2 * low, "count": [1, 9, 9, 9, 0], "nbss": 7 * (low * 2**0.5) ** -1.3})
    assert fit_slope(line.assign(nbss=[*line["nbss"][:4], 0])) == pytest.approx((-1.3, np.log10(7)))
    assert np.isnan(fit_slope(line.head(2))).all()
    missed = line.assign(low=line["low"] / 32, high=line["high"] / 32, nbss=0.01).head(4)  # too small to be caught
    assert fit_slope(pd.concat([missed, line])) == pytest.approx((-1.3, np.log10(7)))
