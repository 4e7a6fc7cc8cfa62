"""Corrected counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import norm

from plankton_embed.analysis.quantification import CountCorrection, draw_whole, estimate_prevalence
from plankton_embed.errors import InputError, SettingError

CENTRES = np.array([0.0, 1.5, 3.0, 4.5, 6.0])


def draw(rng, counts, bias=0.0):
    """Images of overlapping normal classes in one dimension: log-probabilities under an even mix, and classes."""
    codes = np.repeat(np.arange(len(counts)), counts)
    x = rng.normal(CENTRES[codes], 1)
    return log_softmax(norm.logpdf(x[:, None], CENTRES[: len(counts)], 1) + bias, axis=1), codes


def test_the_prevalences_of_two_classes_are_the_most_likely():
    likelihood = np.array([[1.0, 0.5]] * 7 + [[0.2, 1.0]] * 3)
    best = minimize_scalar(
        lambda p: -7 * np.log(p + 0.5 * (1 - p)) - 3 * np.log(0.2 * p + 1 - p), bounds=(0, 1), method="bounded"
    ).x
    assert estimate_prevalence(likelihood)[0] == pytest.approx(best, abs=1e-4)
    assert estimate_prevalence(likelihood[[0, 7]], times=np.array([7.0, 3.0]))[0] == pytest.approx(best, abs=1e-4)


def test_images_beyond_doubt_are_counted():
    assert estimate_prevalence(np.eye(3)[[0, 0, 2, 2, 2]]).tolist() == pytest.approx([0.4, 0, 0.6])


def test_adjusted_counts_by_hand():
    # of class 0, 900 of 1,000 get its name, of class 1, 800; 60 % named 0 in the sample: .9 p + .2 (1 - p) = .6
    logs = np.log([[0.9, 0.1], [0.1, 0.9]])
    named = np.repeat([0, 1, 0, 1], [900, 100, 200, 800])
    correction = CountCorrection(logs[named], np.repeat([0, 1], 1000), method="confusion")
    counts = correction.correct(logs[np.repeat([0, 1], [6000, 4000])])
    assert counts.count[0] == pytest.approx(1e4 * 0.4 / 0.7, abs=100)  # the prior makes the classes a little more alike
    assert counts.low[0] < counts.count[0] < counts.high[0]


def test_counts_by_predictions_do_not_depend_on_the_order_of_images():
    rng = np.random.default_rng(0)
    correction = CountCorrection(*draw(rng, [20] * 5), method="confusion", n_draws=20)
    logs, _ = draw(rng, [60, 20, 10, 5, 5])
    counts = correction.correct(logs)
    again = correction.correct(rng.permutation(logs) - 1e-12)
    np.testing.assert_array_equal(again.draws, counts.draws)
    assert again.count == pytest.approx(counts.count)


@pytest.mark.parametrize("method", ["em", "confusion"])
def test_a_rare_class_is_not_swamped(method):
    rng = np.random.default_rng(0)
    correction = CountCorrection(*draw(rng, [200] * 5), method=method, n_draws=20)
    true = np.array([4000, 40, 400, 400, 40])
    logs, _ = draw(rng, true)
    named, counts = np.bincount(logs.argmax(axis=1), minlength=5), correction.correct(logs)
    assert named[1] > 15 * true[1]  # false ones of class 0
    assert abs(counts.count[1] - true[1]) < abs(named[1] - true[1]) / 5
    assert counts.count.sum() == pytest.approx(len(logs))
    assert np.allclose(counts.posterior.sum(axis=1), 1)
    assert np.allclose(counts.posterior.sum(axis=0), counts.count)
    assert (counts.low <= counts.count).all()
    assert (counts.count <= counts.high).all()


def test_the_prior_is_taken_out_of_the_probabilities():
    rng = np.random.default_rng(1)
    calibration, sample = draw(rng, [100] * 5), draw(rng, [500, 20, 50, 50, 20])[0]
    prior = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    plain = CountCorrection(*calibration, n_draws=20).correct(sample)
    shifted = log_softmax(calibration[0] + np.log(prior), axis=1), calibration[1]
    there = CountCorrection(*shifted, prior, n_draws=20).correct(log_softmax(sample + np.log(prior), axis=1))
    assert np.allclose(there.count, plain.count, atol=0.05)


def test_the_mix_of_the_calibration_images_does_not_matter():
    rng = np.random.default_rng(2)
    sample = draw(rng, [900, 30, 100, 100, 30])[0]
    even = CountCorrection(*draw(rng, [400] * 5), n_draws=20).correct(sample).count
    uneven = CountCorrection(*draw(rng, [1500, 150, 50, 150, 150]), n_draws=20).correct(sample).count
    assert np.abs(even - uneven).max() < 40


def test_the_same_seed_gives_the_same_interval():
    calibration, sample = draw(np.random.default_rng(3), [30] * 5), draw(np.random.default_rng(4), [100] * 5)[0]
    first, second = (CountCorrection(*calibration, n_draws=20, seed=7).correct(sample) for _ in range(2))
    assert np.array_equal(first.low, second.low)
    assert not np.array_equal(first.low, CountCorrection(*calibration, n_draws=20, seed=8).correct(sample).low)


def test_draws_of_two_samples_add_up():
    rng = np.random.default_rng(8)
    correction = CountCorrection(*draw(rng, [20] * 5))
    one, other = (correction.correct(draw(rng, [300, 20, 20, 20, 20])[0]).draws for _ in range(2))
    assert (one.sum(axis=1) == 380).all()
    assert np.corrcoef(one[:, 0], other[:, 0])[0, 1] > 0.3  # what the calibration images do not tell is missing in both


def test_a_wider_level_gives_a_wider_interval():
    calibration, sample = draw(np.random.default_rng(3), [30] * 5), draw(np.random.default_rng(4), [100] * 5)[0]
    narrow, wide = (CountCorrection(*calibration, level=level).correct(sample) for level in (0.5, 0.95))
    assert ((wide.high - wide.low) > (narrow.high - narrow.low)).all()


def test_a_class_without_calibration_images_and_an_empty_sample():
    logs, codes = draw(np.random.default_rng(5), [50] * 5)
    correction = CountCorrection(logs[codes != 2], codes[codes != 2], n_draws=20)
    assert np.isfinite(correction.correct(logs).count).all()
    empty = correction.correct(np.empty((0, 5)))
    assert empty.count.tolist() == empty.high.tolist() == [0] * 5
    assert empty.posterior.shape == (0, 5)


def test_bad_settings_are_refused():
    logs, codes = draw(np.random.default_rng(6), [5] * 5)
    with pytest.raises(SettingError, match="expected one of em, confusion"):
        CountCorrection(logs, codes, method="magic")
    with pytest.raises(SettingError, match="at least 20"):
        CountCorrection(logs, codes, n_draws=5)
    with pytest.raises(SettingError, match="between 0 and 1"):
        CountCorrection(logs, codes, level=90)
    with pytest.raises(InputError, match="log-probabilities and m classes"):
        CountCorrection(logs, codes[:-1])
    with pytest.raises(InputError, match="found \\(0, 5\\)"):
        CountCorrection(logs[:0], codes[:0])
    for prior in ([0.5, 0.5, 0, 0, 0], [0.5, 0.5], [np.nan] * 5):
        with pytest.raises(InputError, match="expected 5 shares above 0"):
            CountCorrection(logs, codes, prior)


@pytest.mark.slow
def test_nine_intervals_in_ten_hold_the_true_count():
    hits = []
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        true = rng.multinomial(500, rng.dirichlet([0.4] * 5))
        bias = rng.normal(0, 0.4, 5)  # the classifier's own, unknown to whoever corrects
        correction = CountCorrection(*draw(rng, [20] * 5, bias), n_draws=100, seed=seed)
        counts = correction.correct(draw(rng, true, bias)[0])
        hits += list(((counts.low <= true) & (true <= counts.high))[true >= 20])
    assert 0.85 <= np.mean(hits) <= 0.95


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_whole_samples_are_drawn_and_no_class_is_lost(images, n_drawn):
    samples, classes = map(np.array, zip(*images, strict=True))
    drawn = draw_whole(samples, np.random.default_rng(0), n_drawn)
    times = np.bincount(drawn, minlength=len(samples))
    assert all(len(set(times[samples == sample])) == 1 for sample in samples)
    assert sum(times[np.argmax(samples == sample)] for sample in set(samples)) == n_drawn
    with_all = draw_whole(samples, np.random.default_rng(0), n_drawn, classes)
    assert set(classes[with_all]) == set(classes) and (with_all[: len(drawn)] == drawn).all()


@pytest.mark.parametrize(("method", "n_draws"), [("em", 60), ("confusion", 400)])  # the widths of fewer vary by a fifth
def test_samples_whose_errors_differ_have_wider_intervals(method, n_draws):
    rng = np.random.default_rng(0)
    parts = [draw(rng, [10] * 5, bias=np.linspace(-1, 1, 5) * 2 * step) for step in rng.normal(size=12)]
    logs, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
    query, _ = draw(rng, [60] * 5)
    tows, eight = np.repeat(np.arange(12), 50), np.arange(300) % 8
    by_image = CountCorrection(logs, codes, method=method, n_draws=n_draws).correct(query)
    corrector = CountCorrection(logs, codes, method=method, samples=tows, n_draws=n_draws)
    one, several = corrector.correct(query), corrector.correct(query, eight)
    np.testing.assert_array_equal(one.count, by_image.count)  # the draws are for the intervals alone
    widths = [(found.high - found.low).mean() for found in (by_image, several, one)]
    assert widths[0] < widths[1] < widths[2]
    np.testing.assert_array_equal(several.draws, corrector.correct(query, eight).draws)
