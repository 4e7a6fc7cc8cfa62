"""What the tests of the figures share."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plankton_embed.analysis.counts import Abundance
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_summary import CatalogSummary
from plankton_embed.images.features import summarize_features

N_IMAGES = 400


@pytest.fixture
def check_given_axes():
    """Return a function that draws into the left one of two axes, and checks that the other stays empty."""

    def check(draw):
        left, right = Figure().subplots(1, 2)
        drawn = draw(left)
        assert drawn is left or drawn in left.child_axes
        assert not right.has_data()

    return check


@pytest.fixture
def overlaps():
    """Return a function that counts neighbouring labels whose boxes overlap."""

    def count(ax, labels):
        ax.figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in labels]
        return sum(a.overlaps(b) for a, b in pairwise(boxes))

    return count


@pytest.fixture
def summary_of():
    """Return a function that makes the summary of a catalog with these images of each class."""

    def summarize(counts, width=(), height=(), n_unlabelled=0, n_unreadable=0):
        classes = pd.DataFrame({"label": list(counts), "count": list(counts.values())})
        sizes = pd.DataFrame({"width": width, "height": height}, dtype="int64")
        n_images = sum(counts.values()) + n_unlabelled
        return CatalogSummary(n_images, n_unlabelled, n_unreadable, classes, pd.DataFrame(), sizes, pd.DataFrame())

    return summarize


@pytest.fixture
def lopsided_scores():
    """Of 4 true "ant", 3 are named "bee"; of 4 true "bee", one is named "cat"; there is no true "cat"."""
    truth = ["ant"] * 4 + ["bee"] * 4
    names = ["ant", "bee", "bee", "bee", "bee", "bee", "bee", "cat"]
    return score_predictions(truth, names, n_bootstrap=0)


@pytest.fixture
def summarize_random():
    """Return a function that summarizes features of all scales; one more is constant, one twice another one.

    A third one is mostly missing.
    """

    def summarize(n_features, split=None, seed=0):
        rng = np.random.default_rng(seed)
        table = pd.DataFrame(rng.normal(size=(200, n_features)) * 10.0 ** rng.integers(-6, 7, n_features))
        table = table.add_prefix("f")
        table["flat"] = 3.3
        table["few"] = np.where(np.arange(200) < 90, np.arange(200), np.nan)
        table["twice"] = 2 * table["f0"]
        rows = table.add_prefix("feature_").assign(path=[f"{k}.png" for k in range(200)])
        return summarize_features(ImageCatalog.from_rows(rows if split is None else rows.assign(split=split)))

    return summarize


@pytest.fixture
def make_survey():
    """Return a function that makes samples with invented counts; class 0 is the commonest."""

    def make(n_samples, n_classes, **tables):
        rng = np.random.default_rng(0)
        labels = [
            f"$family_{row}$ of an order with a name that goes on and on and on {row}" for row in range(n_classes)
        ]
        shares = np.sort(rng.random(n_classes + 1))[::-1]
        corrected = rng.permuted(np.tile(shares / shares.sum(), (n_samples, 1)), axis=1) * 0.5
        corrected[:, 0] += 0.5
        corrected = (N_IMAGES * corrected).ravel()
        names = [f"$net_{row}$ of a cruise with a long name" for row in range(n_samples)]
        table = pd.DataFrame({
            "sample": np.repeat(names, n_classes + 1),
            "label": np.tile(np.array([*labels, "unknown"], dtype=object), n_samples),
            "count": rng.poisson(corrected),
            "corrected": corrected,
            "low": 0.7 * corrected,
            "high": 1.2 * corrected,
        })  # fmt: skip
        samples = pd.DataFrame({"sample": names, "n_images": N_IMAGES, "n_refused": 1})
        summary = {"n_images": n_samples * N_IMAGES, "level": 0.9, "biovolume": "sphere"}
        tables = {"spectra": None, "profile": None, "time_series": None, **tables}
        totals = table.groupby("label", sort=False)[["count", "corrected", "low", "high"]].sum()
        totals = totals.sort_values(["corrected", "count"], ascending=False, kind="stable")
        return Abundance(table, totals, samples, **tables, summary=summary, unknown="unknown")

    return make
