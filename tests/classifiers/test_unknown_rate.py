"""The unknown rate chosen by the error of the composition, with classes withheld in turn."""

import logging
from functools import partial

import numpy as np
import pytest

import plankton_embed as pe
from plankton_embed.classifiers.prediction import PredictionOptions, fit_classifier, rejector_for
from plankton_embed.classifiers.unknown_rate import RATES, choose_unknown_rate, score_unknown_rates
from plankton_embed.errors import InputError, SettingError

N_CLASSES = 6


def draw_table(spread, n_each, seed, n_classes=N_CLASSES):
    """Classes around the unit vectors of a space."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"class {code}" for code in range(n_classes)], n_each)
    centers = np.repeat(np.eye(8)[:n_classes], n_each, axis=0)
    vectors = centers + spread * rng.normal(size=centers.shape)
    return pe.EmbeddingTable(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), label=labels)


def score(spread, n_each=60):
    reference, calibration = draw_table(spread, n_each, 0), draw_table(spread, n_each, 1)
    return score_unknown_rates(reference, calibration, partial(fit_classifier, method="centroid"))


def test_classes_far_apart_are_rejected_whole_at_the_lowest_rates():
    scores = score(0.02)
    assert scores["bray_curtis"].is_monotonic_increasing
    # all unknown images are rejected, and of the known ones, 60 to 95 % of the images, about as many as the rate says
    known = np.mean([0.95, 0.9, 0.8, 0.6])
    np.testing.assert_allclose(scores["bray_curtis"], scores["rate"] * known, atol=0.02)


def test_classes_that_overlap_need_a_higher_rate():
    assert choose_unknown_rate(score(0.02)) < choose_unknown_rate(score(0.3))


def test_the_error_is_that_of_a_composition_by_hand():
    # two of the classes are withheld; nothing is rejected at any rate: the unknown images are counted as known ones
    reference, calibration = draw_table(0.01, 30, 0, 4), draw_table(0.01, 30, 1, 4)
    same = calibration.vectors * 0 + reference.vectors[:1]
    blind = pe.EmbeddingTable(same, label=calibration.label)
    flat = pe.EmbeddingTable(same, label=reference.label)
    scores = score_unknown_rates(flat, blind, partial(fit_classifier, method="centroid"))
    # every image gets the first of two classes, each (1 - share) / 2 of the images, beside the unknown share
    wanted = np.mean([(1 - share) / 2 + share for share in (0.05, 0.1, 0.2, 0.4)])
    np.testing.assert_allclose(scores["bray_curtis"], wanted)
    assert choose_unknown_rate(scores) == RATES[1]  # the lowest for which 60 images are enough


def test_auto_is_the_rate_of_the_rejector(caplog):
    reference, calibration = draw_table(0.3, 60, 0), draw_table(0.3, 60, 1)
    options = PredictionOptions("knn", unknown_rate="auto")
    with caplog.at_level(logging.INFO):
        rejector = rejector_for(options, reference, options.fit(reference, calibration), calibration)
    scores = score_unknown_rates(reference, calibration, lambda part: options.fit(part, None))
    assert rejector.rate_ == choose_unknown_rate(scores)
    assert f"unknown rate: {rejector.rate_:g}, at which the composition" in caplog.text


def test_auto_takes_a_k_that_a_part_of_the_reference_does_not_have():
    reference, calibration = draw_table(0.3, 10, 0, 5), draw_table(0.3, 60, 1, 5)
    options = PredictionOptions("knn", n_neighbors=len(reference), unknown_rate="auto")
    assert rejector_for(options, reference, options.fit(reference, calibration), calibration).rate_ in RATES


def test_too_few_classes_or_images_are_refused():
    few = draw_table(0.02, 60, 0, 3)
    with pytest.raises(InputError, match="at least 4 classes, found 3; give a share"):
        score_unknown_rates(few, few, fit_classifier)
    single = draw_table(0.02, 1, 0, 4)
    assert score_unknown_rates(draw_table(0.02, 5, 1, 4), single, fit_classifier)["rate"].tolist() == [0.4, 0.5]


def test_another_word_is_refused():
    with pytest.raises(SettingError, match=r"expected a share such as 0\.05, or auto; found 'automatic'"):
        PredictionOptions(unknown_rate="automatic")
