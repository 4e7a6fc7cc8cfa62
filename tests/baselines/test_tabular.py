"""Boosted trees on features, and the model of embedding and features."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from plankton_embed.baselines.tabular import BoostedTreesClassifier, EmbeddingAndFeaturesClassifier
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.errors import DependencyError, InputError, SettingError
from plankton_embed.images.features import FeaturePreparation

try:
    import lightgbm  # noqa: F401

    KINDS = ["histogram", "lightgbm"]
except ImportError:
    KINDS = ["histogram"]


@parametrize_with_checks(
    [BoostedTreesClassifier(kind, n_rounds=5, learning_rate=0.5, min_images_leaf=2) for kind in KINDS]
)
def test_it_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def make_table(n=300, seed=0):
    """Three classes that differ in length and grey level, a copy of length, a constant, an empty column, and noise."""
    rng = np.random.default_rng(seed)
    y = rng.choice(["copepod", "detritus", "noctiluca"], n, p=[0.2, 0.6, 0.2])
    length = np.select([y == "copepod", y == "detritus"], [30.0, 10.0], 10.0) + rng.normal(size=n)
    grey = np.where(y == "noctiluca", 200.0, 100.0) + 5 * rng.normal(size=n)
    columns = {"length": length, "grey": grey, "feret": length * 1.1 + 3, "constant": 7.0, "empty": np.nan}
    return pd.DataFrame(columns | {"noise": rng.normal(size=n)}), y


@pytest.mark.parametrize("kind", KINDS)
def test_it_tells_classes_apart_by_the_columns_that_help(kind):
    table, y = make_table()
    trees = BoostedTreesClassifier(kind, n_rounds=20).fit(table[:200], y[:200])
    assert trees.classes_.tolist() == ["copepod", "detritus", "noctiluca"]
    assert np.mean(trees.predict(table[200:]) == y[200:]) > 0.97
    assert trees.preparation_.kept_.tolist() == [True, True, False, False, False, True]
    probabilities = trees.predict_proba(table[200:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(trees.predict(table[200:]), trees.classes_[probabilities.argmax(axis=1)])
    again = clone(trees).fit(table[:200], y[:200])
    np.testing.assert_array_equal(again.predict_proba(table[200:]), probabilities)


def test_it_is_what_scikit_learn_makes_of_the_prepared_columns():
    table, y = make_table()
    prepared = FeaturePreparation().fit(table[:200])
    rival = HistGradientBoostingClassifier(
        max_depth=3,
        max_iter=100,
        learning_rate=0.1,
        class_weight="balanced",
        early_stopping=False,
        random_state=0,
        min_samples_leaf=1,
        l2_regularization=1.0,
    ).fit(prepared.transform(table[:200]), y[:200])
    found = BoostedTreesClassifier().fit(table[:200], y[:200]).predict_proba(table[200:])
    np.testing.assert_allclose(found, rival.predict_proba(prepared.transform(table[200:])), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_can_tell_the_class(kind):
    rng = np.random.default_rng(1)
    y = np.repeat(["a", "b"], 100)
    values = rng.normal(size=(200, 2))
    values[100:, 0] = rng.choice([np.nan, np.inf, -np.inf], 100)  # the mean of the column would hide it
    trees = BoostedTreesClassifier(kind, n_rounds=20).fit(values, y)
    assert trees.predict([[0.0, 0.0], [np.nan, 0.0], [np.inf, 0.0]]).tolist() == ["a", "b", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_help_the_rare_class(kind):
    rng = np.random.default_rng(2)
    y = np.where(np.arange(2000) % 40 == 0, "rare", "common")
    values = rng.normal(size=(2000, 1)) + 1.5 * (y == "rare")[:, None]
    found = {
        weight: np.mean(
            BoostedTreesClassifier(kind, n_rounds=30, class_weight=weight).fit(values, y).predict(values) == "rare"
        )
        for weight in ("balanced", None)
    }
    assert found["balanced"] > 0.15 > 0.03 > found[None]


@pytest.mark.parametrize("kind", KINDS)
def test_validation_images_tell_how_many_rounds_to_use(kind):
    rng = np.random.default_rng(3)
    values, y = rng.normal(size=(400, 3)), rng.choice(["a", "b", "c"], 400)  # nothing to learn, so the fewer the better
    new, truth = rng.normal(size=(100, 3)), np.append(rng.choice(["a", "b", "c"], 99), "unknown class")
    settings = {"kind": kind, "n_rounds": 30, "learning_rate": 0.3}
    trees = BoostedTreesClassifier(**settings).fit(values, y, validation=(new, truth))
    assert trees.n_rounds_ < 10
    shorter = BoostedTreesClassifier(**settings | {"n_rounds": trees.n_rounds_}).fit(values, y)
    np.testing.assert_allclose(trees.predict_proba(new), shorter.predict_proba(new), rtol=1e-6)
    longer = BoostedTreesClassifier(**settings).fit(values, y)
    assert longer.n_rounds_ == 30
    losses = [log_loss(truth[:99], model.predict_proba(new[:99])) for model in (trees, longer)]
    assert losses[0] < losses[1]
    with pytest.raises(InputError, match=r"validation: expected a label for each row.*0 of its classes"):
        trees.fit(values, y, validation=(new, np.full(100, "unknown class")))


def test_validation_images_weigh_as_training_images_of_their_class():
    def draw(n_many, n_few, rng):
        y = np.repeat(["many", "few"], [n_many, n_few])
        return rng.normal(size=(len(y), 2)) + (y == "few")[:, None], y

    (values, y), (new, truth) = draw(380, 20, np.random.default_rng(0)), draw(190, 10, np.random.default_rng(1))
    trees = BoostedTreesClassifier(n_rounds=15).fit(values, y, validation=(new, truth))
    probabilities = [BoostedTreesClassifier(n_rounds=n).fit(values, y).predict_proba(new) for n in range(1, 16)]
    weights = np.where(truth == "few", 400 / (2 * 20), 400 / (2 * 380))
    weighted = [log_loss(truth, c, sample_weight=weights) for c in probabilities]
    assert trees.n_rounds_ == np.argmin(weighted) + 1 != np.argmin([log_loss(truth, c) for c in probabilities]) + 1


def test_what_cannot_be_learned_is_said():
    y = np.repeat(["a", "b"], 5)
    with pytest.raises(InputError, match=r"none of the 2 columns .* dropped: constant"):
        BoostedTreesClassifier().fit(np.ones((10, 2)), y)
    with pytest.raises(InputError, match="at least two classes; found 1 class, a"):
        BoostedTreesClassifier().fit(np.arange(10.0)[:, None], ["a"] * 10)
    for settings in (
        {"kind": "xgboost"},
        {"max_depth": 0},
        {"n_rounds": 0},
        {"learning_rate": 0},
        {"penalty": -1},
        {"class_weight": "no"},
    ):
        with pytest.raises(SettingError, match=next(iter(settings))):
            BoostedTreesClassifier(**settings).fit(np.arange(10.0)[:, None], y)


def test_without_lightgbm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(DependencyError, match=r"plankton_embed\[tabular\]"):
        BoostedTreesClassifier("lightgbm").fit(np.arange(10.0)[:, None], np.repeat(["a", "b"], 5))


def make_four(n=400, seed=0):
    """a and b (and c and d) have the same features, a and c (and b and d) the same vectors."""
    rng = np.random.default_rng(seed)
    y = rng.choice(["a", "b", "c", "d"], n)
    angle = np.where(np.isin(y, ["b", "d"]), 1.5, 0.0) + 0.2 * rng.normal(size=n)
    size = np.where(np.isin(y, ["c", "d"]), 50.0, 20.0) + 3 * rng.normal(size=n)
    features = np.column_stack([size, np.full(n, 4.0), np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))])
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32), features, y


@pytest.mark.parametrize("embedding", [None, NearestCentroidClassifier()])
def test_embedding_and_features_tell_what_neither_tells_alone(embedding):
    vectors, features, y = make_four()
    learned, calibration, new = slice(200), slice(200, 300), slice(300, None)
    model = EmbeddingAndFeaturesClassifier(embedding, BoostedTreesClassifier(n_rounds=20))
    model.fit(
        vectors[learned], features[learned], y[learned], (vectors[calibration], features[calibration], y[calibration])
    )
    alone = np.mean(model.embedding_classifier_.predict(vectors[new]) == y[new])
    by_features = np.mean(model.feature_classifier_.predict(features[new]) == y[new])
    assert max(alone, by_features) < 0.7
    assert np.mean(model.predict(vectors[new], features[new]) == y[new]) > 0.97
    probabilities = model.predict_proba(vectors[new], features[new])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    logs = [
        model.embedding_classifier_.predict_proba(vectors[new]),
        model.feature_classifier_.predict_proba(features[new]),
    ]
    product = np.prod([part**weight for part, weight in zip(logs, model.weights_, strict=True)], axis=0)
    np.testing.assert_allclose(probabilities, product / product.sum(axis=1, keepdims=True), atol=1e-6)


def test_features_of_noise_get_no_say():
    vectors, _, y = make_four()
    noise = np.random.default_rng(5).normal(size=(400, 3))
    y = np.where(np.isin(y, ["a", "c"]), "one", "two")
    calibration = (vectors[200:300], noise[200:300], y[200:300])
    model = EmbeddingAndFeaturesClassifier(NearestCentroidClassifier()).fit(
        vectors[:200], noise[:200], y[:200], calibration
    )
    assert model.weights_[1] < 0.1 * model.weights_[0]
    assert np.mean(model.predict(vectors[300:], noise[300:]) == y[300:]) > 0.97


def test_an_embedding_that_knows_its_training_images_too_well_is_not_trusted():
    rng = np.random.default_rng(6)
    y = rng.choice(["a", "b"], 400)
    size = (y == "b") * 3.0 + rng.normal(size=400)
    side = np.where(y == "b", 1.0, -1.0)
    side[200:] = rng.choice([-1.0, 1.0], 200)  # in new images it carries no information
    vectors = np.column_stack([side, np.ones(400)]) + 0.1 * rng.normal(size=(400, 2))
    parts = [(vectors[rows], size[rows, None], y[rows]) for rows in (slice(200), slice(200, 300), slice(300, None))]
    model = EmbeddingAndFeaturesClassifier(NearestCentroidClassifier()).fit(*parts[0], calibration=parts[1])
    assert np.mean(model.predict(*parts[2][:2]) == parts[2][2]) > 0.85
    joined = BoostedTreesClassifier().fit(np.hstack(parts[0][:2]), parts[0][2])
    assert np.mean(joined.predict(np.hstack(parts[2][:2])) == parts[2][2]) < 0.7


def test_a_tenth_is_held_out_where_no_calibration_is_given():
    vectors, features, y = make_four()
    model = EmbeddingAndFeaturesClassifier(NearestCentroidClassifier(), BoostedTreesClassifier(n_rounds=20))
    model.fit(vectors[:300], features[:300], y[:300])
    assert (model.weights_ > 0).all() and np.isfinite(model.weights_).all()
    assert np.mean(model.predict(vectors[300:], features[300:]) == y[300:]) > 0.97
    assert clone(model).get_params()["random_state"] == 0


def test_what_does_not_fit_together_is_said():
    vectors, features, y = make_four(60)
    model = EmbeddingAndFeaturesClassifier(NearestCentroidClassifier(), BoostedTreesClassifier(n_rounds=2))
    with pytest.raises(InputError, match="found 60 vectors, 59 rows of features, 60 class names"):
        model.fit(vectors, features[1:], y)
    with pytest.raises(InputError, match="calibration: none of the images is of one of the 4 classes"):
        model.fit(vectors, features, y, (vectors, features, np.full(60, "unknown class")))
    with pytest.raises(InputError, match="found 60 vectors, 1 rows of features"):
        model.fit(vectors, features, y).predict(vectors, features[:1])
