"""Fixtures of the tests of classifiers."""

import numpy as np
import pytest


@pytest.fixture
def blobs():
    """Return a function that draws vectors of up to four normal classes, and their labels."""

    def draw(seed, n=600, n_classes=4, dimension=5, apart=1.5):
        rng = np.random.default_rng(seed)
        codes = rng.integers(n_classes, size=n)
        means = np.random.default_rng(99).normal(size=(n_classes, dimension)) * apart
        return (means[codes] + rng.normal(size=(n, dimension))).astype(np.float32), np.array(list("abcd"))[codes]

    return draw
