"""Error rates of a classifier from few images of each class."""

import numpy as np
import pytest

from plankton_embed.analysis.error_rates import ErrorRates


def predict_images(rng, right, n_each):
    """Images of classes with these shares of right predictions, the wrong ones at random; uniform probabilities."""
    n_classes = len(right)
    true = np.repeat(np.arange(n_classes), n_each)
    other = (true + rng.integers(1, n_classes, len(true))) % n_classes
    predicted = np.where(rng.random(len(true)) < np.asarray(right)[true], true, other)
    return np.full((len(true), n_classes), 1 / n_classes), predicted, true


def test_rows_are_distributions_and_draws_vary_around_their_mean():
    rng = np.random.default_rng(0)
    rates = ErrorRates(*predict_images(rng, [0.9, 0.5, 0.7, 0.8], [30, 5, 12, 40]))
    draws = np.array([rates.draw(rng) for _ in range(3000)])
    assert np.allclose(draws.sum(axis=2), 1)
    assert np.allclose(rates.mean().sum(axis=1), 1)
    assert np.abs(draws.mean(axis=0) - rates.mean()).max() < 0.02
    assert draws[:, 1, 1].std() > draws[:, 0, 0].std()  # fewer images, more uncertain


def test_of_many_images_the_share_itself_is_learned():
    probabilities, predicted, true = predict_images(np.random.default_rng(1), [0.9, 0.5, 0.7, 0.8], [20_000] * 4)
    found = np.zeros((4, 4))
    np.add.at(found, (true, predicted), 1 / 20_000)
    assert np.abs(ErrorRates(probabilities, predicted, true).mean() - found).max() < 0.003


def test_a_class_without_images_errs_as_the_others_do():
    # 20 images each of 15 classes, 16 right; half of the wrong ones are predicted 15, which has no image, nor has 16
    true = np.repeat(np.arange(15), 20)
    turn = np.tile(np.arange(20), 15)
    predicted = np.select([turn < 16, turn < 18], [true, 15], (true + turn) % 15)
    rates = ErrorRates(np.full((300, 17), 1 / 17), predicted, true).mean()
    assert rates[16, 16] == pytest.approx(0.8, abs=0.02)
    assert rates[16, 15] == pytest.approx(0.1, abs=0.02)
    assert rates[16, :15].max() < 0.02


def test_probabilities_show_which_classes_are_mixed_up():
    # the probabilities of right images point to the next class, and so do the wrong predictions; class 0 has none
    true = np.repeat(np.arange(6), 40)
    predicted = np.where((np.arange(240) % 40 >= 30) & (true > 0), (true + 1) % 6, true)
    probabilities = np.full((240, 6), 0.01)
    probabilities[np.arange(240), true] = 0.7
    probabilities[np.arange(240), (true + 1) % 6] = 0.26
    rates = ErrorRates(probabilities, predicted, true).mean()
    assert rates[0, 1] > 5 * rates[0, 2:].max()


@pytest.mark.parametrize(("n_classes", "n_each"), [(5, 10), (30, 20)])
def test_intervals_hold_the_shares_of_right_and_of_wrong_predictions(n_classes, n_each):
    inside, held_wrong = [], []
    for seed in range(120 // n_classes):
        rng = np.random.default_rng(seed)
        right = rng.beta(6, 2, n_classes)
        rates = ErrorRates(*predict_images(rng, right, n_each))
        draws = np.array([rates.draw(rng) for _ in range(200)])
        low, high = np.quantile(np.diagonal(draws, axis1=1, axis2=2), [0.05, 0.95], axis=0)
        inside.append((low <= right) & (right <= high))
        false_positives = draws.sum(axis=1) - np.diagonal(draws, axis1=1, axis2=2)
        low, high = np.quantile(false_positives, [0.05, 0.95], axis=0)
        truth = ((1 - right).sum() - (1 - right)) / (n_classes - 1)
        held_wrong.append((low <= truth) & (truth <= high))
    assert np.mean(inside) > 0.82  # 90 % is the level
    assert np.mean(held_wrong) > 0.82


def test_a_prior_of_like_classes_is_strong():
    rng = np.random.default_rng(2)
    alike, unlike = ([0.8] * 40, np.tile([0.6, 1.0], 20))
    spreads = []
    for right in (alike, unlike):
        rates = ErrorRates(*predict_images(rng, [*right, 0.5], [50] * 40 + [0]))
        spreads.append(np.std([rates.draw(rng)[-1, -1] for _ in range(300)]))
    assert spreads[0] < 0.06 < 0.15 < spreads[1]


def test_one_class_is_always_predicted_right():
    rates = ErrorRates(np.ones((5, 1)), np.zeros(5, dtype=int), np.zeros(5, dtype=int))
    assert rates.mean() == rates.draw(np.random.default_rng(0)) == [[1.0]]
