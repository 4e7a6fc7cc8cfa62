"""Is a sample a mixture of the calibration images' classes? p-values under label shift, and power."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import kstest

from plankton_embed.analysis.mixture_fit import MixtureTest, draw_tested, find_misfits
from plankton_embed.analysis.quantification import CountCorrection

CENTRES = np.random.default_rng(1).normal(0, 2, (6, 3))


def draw(rng, counts, offset=0.0):
    """Log-probabilities (n, 6), classes, and novelty (n, 2) of images of overlapping normal classes."""
    codes = np.repeat(np.arange(6), counts)
    points = rng.normal(CENTRES[codes] + offset, np.linspace(0.7, 1.3, 6)[codes, None])
    distances = np.sqrt(((points[:, None] - CENTRES) ** 2).sum(axis=2))
    nearest = distances.min(axis=1)
    return log_softmax(-(distances**2) / 2, axis=1), codes, np.stack([nearest, nearest**2], axis=1)


def p_of(seed, n_unknown=0, n_each=(30, 20, 8, 30, 3, 30)):
    rng = np.random.default_rng(seed)
    logs, codes, novelty = draw(rng, n_each)
    test = MixtureTest(CountCorrection(logs, codes, n_draws=20), logs, codes, novelty, seed)
    sample = draw(rng, rng.multinomial(300 - n_unknown, rng.dirichlet([0.5] * 6)))
    unknown = draw(rng, rng.multinomial(n_unknown, [1 / 6] * 6), offset=4.0)
    return test.p_value(*(np.concatenate([sample[part], unknown[part]]) for part in (0, 2)))


def test_p_is_uniform_under_label_shift():
    p = np.array([p_of(seed) for seed in range(60)])
    assert kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.01).mean() < 0.05


def test_a_tenth_of_other_images_is_noticed():
    assert np.mean([p_of(seed, 30, [30] * 6) < 0.01 for seed in range(10)]) > 0.8


def test_few_images_are_not_tested_and_samples_are_independent():
    rng = np.random.default_rng(0)
    logs, codes, novelty = draw(rng, [20] * 6)
    test = MixtureTest(CountCorrection(logs, codes, n_draws=20), logs, codes, novelty)
    assert np.isnan(test.p_value(logs[:19], novelty[:19]))
    first = test.p_value(logs[:60], novelty[:60])
    assert 0 < first < 1
    test.p_value(logs, novelty)
    assert test.p_value(logs[:60], novelty[:60]) == first
    assert test.p_value(logs[59::-1], novelty[59::-1]) == first
    copies = np.zeros((40, 6)) - np.log(6), np.zeros(40, dtype=int), np.zeros((40, 2))
    alike = MixtureTest(CountCorrection(copies[0], copies[1], n_draws=20), *copies)
    assert alike.p_value(copies[0], copies[2]) == pytest.approx(0.5, abs=1e-4)


def test_a_thousand_images_are_tested_whatever_their_order():
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(1500, 3)).astype(np.float32), 2, axis=0)
    drawn = draw_tested(vectors)
    assert len(drawn) == 1000
    assert np.array_equal(drawn, draw_tested(vectors[rng.permutation(3000)]))
    assert 500 < len(np.unique(drawn, axis=0)) < 1000  # from all of them, without replacement
    assert np.array_equal(draw_tested(vectors[:1000]), vectors[:1000])


def p_of_tow(seed, by_sample):
    """Of a tow whose images look otherwise by as much as those of the 12 calibration tows do."""
    rng = np.random.default_rng(seed)
    tows = [draw(rng, [8] * 6, offset=rng.normal(0, 0.8, 3)) for _ in range(13)]
    logs, codes, novelty = (np.concatenate([tow[part] for tow in tows[:12]]) for part in range(3))
    correction = CountCorrection(logs, codes, n_draws=20)
    samples = np.repeat(np.arange(12), 48) if by_sample else None
    return MixtureTest(correction, logs, codes, novelty, seed, samples).p_value(tows[12][0], tows[12][2])


def test_tows_that_differ_as_calibration_tows_do_are_mixtures_where_tows_are_drawn():
    p = np.array([p_of_tow(seed, True) for seed in range(40)])
    assert (p < 0.01).mean() <= 0.05
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean([p_of_tow(seed, False) < 0.01 for seed in range(40)]) > 0.1  # else some are not


def test_of_many_samples_some_small_p_values_are_chance():
    p = np.array([np.nan, 0.001, *np.linspace(0.005, 1, 98)])
    assert not find_misfits(p).any()  # .001 * 99 / 1 > .01
    p[1:30] = 0.003  # .003 * 99 / 29 > .01
    assert not find_misfits(p).any()
    p[1:32] = 0.003  # .003 * 99 / 31 < .01
    assert np.flatnonzero(find_misfits(p)).tolist() == list(range(1, 32))
    assert find_misfits([0.009]).all()
    assert not find_misfits([np.nan]).any()
