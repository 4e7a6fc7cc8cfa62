"""The head of a frozen trunk: against scikit-learn, by hand, and on features without spread."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings
from plankton_embed.training import discriminant
from plankton_embed.training.discriminant import REST_SCALE, find_discriminants, fit_head


def draw_features(n_classes=5, n_each=30, n_features=12, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_classes), n_each)
    spread = np.eye(n_features) + 0.2 * rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_classes, n_features))[codes] * 3 + rng.normal(
        size=(len(codes), n_features)
    ) @ spread, codes


def test_discriminants_are_those_of_scikit_learn_where_little_is_shrunk():
    features, codes = draw_features(n_each=5000)
    weight, bias = find_discriminants(features, codes, 3)
    rival = LinearDiscriminantAnalysis(solver="eigen").fit(features, codes)
    wanted = (features - features.mean(axis=0)) @ rival.scalings_[:, :3]
    found = features @ weight.T + bias
    correlations = np.corrcoef(found.T, wanted.T)[:3, 3:]
    np.testing.assert_allclose(np.abs(correlations), np.eye(3), atol=0.01)
    np.testing.assert_allclose(found.std(axis=0), wanted.std(axis=0), rtol=0.01)


def test_classes_have_unit_covariance_and_uncorrelated_means_of_falling_variance():
    features, codes = draw_features()
    weight, bias = find_discriminants(features, codes, 4)
    means = np.stack([features[codes == code].mean(axis=0) for code in range(5)])
    within = features - means[codes]
    shrinkage, covariance = ledoit_wolf_shrinkage(within, assume_centered=True), within.T @ within / len(within)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 12 * np.eye(12)
    np.testing.assert_allclose(weight @ shrunk @ weight.T, np.eye(4), atol=1e-9)
    between = np.cov((means @ weight.T + bias).T, bias=True)
    np.testing.assert_allclose(between, np.diag(np.diag(between)), atol=1e-9)
    assert (np.diff(np.diag(between)) < 0).all()
    total = np.trace(np.linalg.solve(shrunk, np.cov(means.T, bias=True)))  # what all directions together keep apart
    assert np.diag(between).sum() == pytest.approx(total)


def test_a_large_class_counts_as_much_as_a_small_one():
    features, codes = draw_features()
    many = np.concatenate([np.flatnonzero(codes == 0)] * 20 + [np.flatnonzero(codes > 0)])
    weight, bias = find_discriminants(features[many], codes[many], 4)
    means = np.stack([features[codes == code].mean(axis=0) for code in range(5)])
    np.testing.assert_allclose((means @ weight.T + bias).mean(axis=0), 0, atol=1e-9)


def test_dimensions_beyond_the_discriminants_vary_less_and_independently_of_them():
    features, codes = draw_features(n_each=3000)
    weight, bias = find_discriminants(features, codes, 14)
    assert (weight[12:] == 0).all() and (bias[12:] == 0).all()  # there are 12 features
    np.testing.assert_array_equal(weight[:4], find_discriminants(features, codes, 4)[0])
    found = (features @ weight.T + bias)[:, :12]
    means = np.stack([found[codes == code].mean(axis=0) for code in range(5)])
    np.testing.assert_allclose(means[:, 4:], 0, atol=1e-9)  # the classes do not differ in them
    within = np.cov((found - means[codes]).T)
    np.testing.assert_allclose(within, np.diag([1.0] * 4 + [REST_SCALE**2] * 8), atol=0.01)


def test_a_new_class_differs_from_the_others_beside_their_discriminants():
    features, codes = draw_features(n_classes=6, n_each=200)
    known = codes < 2
    weight, bias = find_discriminants(features[known], codes[known], 8)
    found = features @ weight.T + bias
    own = found[known, 1:].std(axis=0)
    assert (np.abs(found[~known, 1:] / own).max(axis=1) > 3).mean() > 0.9


@pytest.mark.parametrize("n_each", [1, 2])
def test_classes_without_spread_are_kept_apart(n_each):
    features = np.repeat(np.eye(4), n_each, axis=0)
    weight, bias = find_discriminants(features, np.repeat(np.arange(4), n_each), 8)
    found = (features @ weight.T + bias)[::n_each]
    distances = np.linalg.norm(found[:, None] - found, axis=2)[~np.eye(4, dtype=bool)]
    assert np.isfinite(weight).all()
    np.testing.assert_allclose(distances, distances[0])
    assert distances[0] > 0


def test_a_spread_in_one_direction_alone_is_no_fault():
    features, codes = np.array([[0, 1], [0, -1], [3, 1], [3, -1]], dtype=float), np.array([0, 0, 1, 1])
    weight, bias = find_discriminants(features, codes, 2)
    found = features @ weight.T + bias
    assert np.isfinite(found).all()
    assert np.abs(found[:2, 0] - found[2:, 0]).min() > 0


def test_fewer_features_than_discriminants_leave_zeros():
    features, codes = draw_features(n_classes=9, n_features=4)
    weight, bias = find_discriminants(features, codes, 7)
    np.testing.assert_allclose(weight[:4], find_discriminants(features, codes, 4)[0])
    assert (weight[4:] == 0).all() and (bias[4:] == 0).all() and (weight[:4] != 0).any(axis=1).all()


def test_of_very_many_images_some_of_each_class_give_the_head_and_all_are_embedded(images, monkeypatch):
    network = NetworkSettings(trunk="shufflenet_v2_x0_5", weights="none", dimension=8)
    model = EmbeddingModel.build(network, PreparationSettings(target_size=75), 0).to("cpu")
    codes = np.r_[np.repeat([0, 1], [12, 4]), -1, -1]  # the last two have no label
    extract = model.extract_features
    used = []
    monkeypatch.setattr(discriminant, "MOST_IMAGES", 6)
    monkeypatch.setattr(model, "extract_features", lambda some, *more: used.extend(some.rows) or extract(some))
    vectors = fit_head(model, images, codes)
    assert np.bincount(codes[used]).tolist() == [3, 3]
    weight, bias = find_discriminants(extract(images.select(np.array(used))).mean(axis=1), codes[used], 8)
    np.testing.assert_array_equal(model.net.head.weight.detach(), weight.astype(np.float32))
    np.testing.assert_array_equal(model.net.head.bias.detach(), bias.astype(np.float32))
    np.testing.assert_array_equal(vectors, model.embed_prepared(images))
