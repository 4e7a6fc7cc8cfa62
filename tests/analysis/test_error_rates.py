"""Error rates of a classifier from few images of each class."""

import numpy as np
import pytest

from plankton_embed.analysis.error_rates import ErrorRates


def name_images(rng, right, n_each):
    """Images of classes that are named right so often, and wrong by any other name; probabilities that show nothing."""
    n_classes = len(right)
    known = np.repeat(np.arange(n_classes), n_each)
    other = (known + rng.integers(1, n_classes, len(known))) % n_classes
    named = np.where(rng.random(len(known)) < np.asarray(right)[known], known, other)
    return np.full((len(known), n_classes), 1 / n_classes), named, known


def test_rows_are_distributions_and_draws_vary_around_their_mean():
    rng = np.random.default_rng(0)
    rates = ErrorRates(*name_images(rng, [0.9, 0.5, 0.7, 0.8], [30, 5, 12, 40]))
    draws = np.array([rates.draw(rng) for _ in range(3000)])
    assert np.allclose(draws.sum(axis=2), 1)
    assert np.allclose(rates.mean().sum(axis=1), 1)
    assert np.abs(draws.mean(axis=0) - rates.mean()).max() < 0.02
    assert draws[:, 1, 1].std() > draws[:, 0, 0].std()  # fewer images, less is known


def test_of_many_images_the_share_itself_is_learned():
    probabilities, named, known = name_images(np.random.default_rng(1), [0.9, 0.5, 0.7, 0.8], [20_000] * 4)
    found = np.zeros((4, 4))
    np.add.at(found, (known, named), 1 / 20_000)
    assert np.abs(ErrorRates(probabilities, named, known).mean() - found).max() < 0.003


def test_a_class_without_images_errs_as_the_others_do():
    # 20 images each of classes 0 and 1, 8 of 10 right; half of the wrong ones are named 3, class 2 has no image
    named = np.r_[[0] * 16, 1, 1, 3, 3, [1] * 16, 0, 0, 3, 3]
    known = np.repeat([0, 1], 20)
    rates = ErrorRates(np.full((40, 4), 0.25), named, known).mean()
    assert rates[2, 2] == pytest.approx(0.8, abs=0.01)
    assert rates[2, 3] == pytest.approx(0.2 * 4.5 / (2.5 + 2.5 + 4.5), abs=0.01)


def test_probabilities_show_which_classes_are_mixed_up():
    named, known = np.repeat([0, 1, 2], 10), np.repeat([0, 1, 2], 10)
    probabilities = np.full((30, 3), 0.1)
    probabilities[:10] = 0.6, 0.39, 0.01
    rates = ErrorRates(probabilities, named, known).mean()
    assert rates[0, 1] > 2 * rates[0, 2]


def test_a_prior_of_like_classes_is_strong():
    rng = np.random.default_rng(2)
    alike, unlike = ([0.8] * 40, np.tile([0.6, 1.0], 20))
    spreads = []
    for right in (alike, unlike):
        rates = ErrorRates(*name_images(rng, [*right, 0.5], [50] * 40 + [0]))
        spreads.append(np.std([rates.draw(rng)[-1, -1] for _ in range(300)]))
    assert spreads[0] < 0.06 < 0.15 < spreads[1]


def test_one_class_is_always_named_right():
    rates = ErrorRates(np.ones((5, 1)), np.zeros(5, dtype=int), np.zeros(5, dtype=int))
    assert rates.mean() == rates.draw(np.random.default_rng(0)) == [[1.0]]
