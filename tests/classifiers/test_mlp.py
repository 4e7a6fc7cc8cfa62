"""The MLP head: shape, stopping, saving, and against a network of torch."""

import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from plankton_embed.classifiers import mlp
from plankton_embed.classifiers.calibrated import hold_out
from plankton_embed.classifiers.calibration import fit_temperature
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.errors import InputError, OutputError, SettingError

SMALL = {"hidden": (16,), "epochs": 15, "learning_rate": 1e-3}


@parametrize_with_checks([MLPClassifier((32,), epochs=40, learning_rate=1e-2)])
def test_scikit_learn_accepts_the_estimator(estimator, check):
    check(estimator)


@pytest.fixture
def images():
    """Two classes on two rings, which no line parts."""
    rng = np.random.default_rng(0)
    angle, outer = rng.uniform(0, 2 * np.pi, 400), rng.random(400) < 0.5
    radius = np.where(outer, 2.0, 0.7) + rng.normal(scale=0.1, size=400)
    vectors = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    return vectors, np.where(outer, "outer", "inner")


def test_the_default_shape_is_that_of_the_report(images):
    vectors = np.random.default_rng(0).normal(size=(40, 64))
    head = MLPClassifier(epochs=1).fit(vectors, np.arange(40))
    (layers,) = head.nets_
    assert [weight.shape for weight, _ in layers] == [(64, 512), (512, 512), (512, 512), (512, 40)]
    assert sum(weight.size + bias.size for weight, bias in layers) == 579_112


def test_it_learns_what_no_centroid_can(images):
    head = MLPClassifier((32, 32), epochs=60, learning_rate=1e-3).fit(images[0][:300], images[1][:300])
    assert (head.predict(images[0][300:]) == images[1][300:]).mean() > 0.95


def in_torch(head, layers, vectors):
    values = torch.from_numpy((vectors - head.mean_) / head.scale_)
    for number, (weight, bias) in enumerate(layers):
        values = torch.nn.functional.linear(values, torch.from_numpy(weight.T), torch.from_numpy(bias))
        values = values.relu() if number < len(layers) - 1 else values
    return values


def cross_entropy(head, layers, vectors, codes):
    return torch.nn.functional.cross_entropy(in_torch(head, layers, vectors), torch.from_numpy(codes)).item()


def test_predictions_are_those_of_the_same_layers_in_torch(images, monkeypatch):
    monkeypatch.setattr(mlp, "BLOCK", 7)
    head = MLPClassifier((8, 5), epochs=3).fit(*images)
    logits = [in_torch(head, layers, images[0]) for layers in head.nets_]
    assert len(logits) == 2
    wanted = torch.softmax((logits[0] + logits[1]) / 2 / head.temperature_, dim=1).numpy()
    np.testing.assert_allclose(head.predict_proba(images[0]), wanted, atol=1e-5)


def test_each_half_of_the_calibration_images_stops_one_net_and_tests_the_other(images, monkeypatch):
    rng = np.random.default_rng(1)
    noise = rng.permutation(images[1])  # nothing to learn: the loss on other images only rises
    calibration, codes = images[0][:80], np.searchsorted(["inner", "outer"], noise[:80])
    build, nets, epochs = mlp._build_net, [], []
    monkeypatch.setattr(mlp, "_build_net", lambda *shape: nets.append(build(*shape)) or nets[0])

    def follow(numbers, *_, **__):
        for number in numbers:
            yield number
            epochs.append(mlp._read_layers(nets[0]))

    monkeypatch.setattr(mlp, "progress_bar", follow)
    head = MLPClassifier((64,), patience=4, learning_rate=1e-2).fit(
        images[0][80:], noise[80:], (calibration, noise[:80])
    )
    half = hold_out(codes, 0.5)
    assert half.sum() == 40
    assert abs(codes[half].sum() - codes.sum() / 2) <= 1  # as many of each class
    best = []
    for layers, own in zip(head.nets_, (half, ~half), strict=True):
        losses = [cross_entropy(head, one, calibration[own], codes[own]) for one in epochs]
        best.append(int(np.argmin(losses)))
        assert cross_entropy(head, layers, calibration[own], codes[own]) == pytest.approx(min(losses), rel=1e-5)
    assert len(head.history_) == max(best) + 1 + 4 < 100
    assert np.flatnonzero(head.history_["kept"]).tolist() == sorted(set(best))
    others = [
        in_torch(head, layers, calibration[rows]).numpy()
        for layers, rows in zip(head.nets_, (~half, half), strict=True)
    ]
    wanted = fit_temperature(np.concatenate(others), np.concatenate([codes[~half], codes[half]]))
    assert head.temperature_ == pytest.approx(wanted, rel=1e-4)


def test_a_single_calibration_image_does_both(images):
    head = MLPClassifier(**SMALL).fit(images[0][1:], images[1][1:], (images[0][:1], images[1][:1]))
    assert "calibration_loss" in head.history_
    assert head.temperature_ > 0


def test_without_images_to_watch_all_epochs_are_trained():
    head = MLPClassifier((4,), epochs=12, patience=2).fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])
    assert len(head.history_) == 12
    assert list(head.history_) == ["epoch", "loss", "kept"]
    assert head.history_["kept"].tolist() == [False] * 11 + [True]
    assert head.temperature_ == 1


def test_the_same_seed_gives_the_same_head_and_leaves_the_others_draws_alone(images):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    first = MLPClassifier(**SMALL).fit(*images).predict_proba(images[0])
    assert torch.rand(1) == wanted
    np.testing.assert_array_equal(MLPClassifier(**SMALL).fit(*images).predict_proba(images[0]), first)
    assert (MLPClassifier(**SMALL, random_state=1).fit(*images).predict_proba(images[0]) != first).any()


def test_many_images_are_learned_in_few_epochs_and_given_settings_are_kept(images, monkeypatch):
    few = MLPClassifier((8,)).fit(*images)
    monkeypatch.setattr(mlp, "MANY", 300)
    many = MLPClassifier((8,)).fit(*images)
    assert len(many.history_) == 15 < len(few.history_)
    assert len(MLPClassifier((8,), epochs=12).fit(*images).history_) == 12
    report = MLPClassifier((8,), epochs=100, patience=10, batch_size=64, learning_rate=1e-4).fit(*images)
    np.testing.assert_array_equal(report.predict_proba(images[0]), few.predict_proba(images[0]))


def test_the_loss_of_an_epoch_is_the_mean_over_images(images):
    still = MLPClassifier((8,), epochs=1, batch_size=150, learning_rate=1e-12, precision="float32")
    still.fit(images[0], images[1], images)  # 400 images in batches of 150, 150 and 100
    assert still.history_["loss"][0] == pytest.approx(still.history_["calibration_loss"][0], rel=1e-5)


def test_the_precision_of_training_changes_a_head_little(images):
    single, half = (MLPClassifier(**SMALL, precision=name).fit(*images) for name in ("float32", "bfloat16"))
    assert (single.nets_[0][0][0] != half.nets_[0][0][0]).any()
    np.testing.assert_allclose(half.predict_proba(images[0]), single.predict_proba(images[0]), atol=0.05)


def test_distances_are_those_to_the_class_means(images):
    head = MLPClassifier(**SMALL).fit(*images)
    mean = images[0][images[1] == "outer"].astype(float).mean(axis=0)
    np.testing.assert_allclose(head.distances(images[0])[:, 1], np.linalg.norm(images[0] - mean, axis=1), rtol=1e-5)


@pytest.mark.parametrize("names", [["фиш, egg", "Méduse<Cnidaria"], [3, 7]])
def test_a_head_comes_back_bit_for_bit(images, tmp_path, names):
    labels = np.array(names)[(images[1] == "outer").astype(int)]
    head = MLPClassifier(**SMALL, dropout=0.1).fit(images[0], labels)
    head.save(tmp_path / "head")
    assert sorted(p.name for p in (tmp_path / "head").iterdir()) == ["config.json", "weights.safetensors"]
    again = MLPClassifier.load(tmp_path / "head")
    np.testing.assert_array_equal(again.predict_proba(images[0]), head.predict_proba(images[0]))
    np.testing.assert_array_equal(again.predict(images[0]), head.predict(images[0]))
    np.testing.assert_array_equal(again.distances(images[0]), head.distances(images[0]))
    assert again.get_params() == head.get_params()
    assert again.history_.equals(head.history_)
    with pytest.raises(OutputError, match="exists already"):
        head.save(tmp_path / "head")
    with pytest.raises(ValueError, match="3 features"):
        again.predict(np.zeros((1, 3)))


def test_a_head_of_an_earlier_release_has_one_net(images, tmp_path):
    head = MLPClassifier(**SMALL).fit(*images)
    folder = head.save(tmp_path / "head")
    config = json.loads((folder / "config.json").read_text())
    del config["n_nets"]
    (folder / "config.json").write_text(json.dumps(config))
    (layers,) = MLPClassifier.load(folder).nets_
    np.testing.assert_array_equal(layers[0][0], head.nets_[0][0][0])


def test_a_head_made_with_numbers_of_numpy_comes_back(images, tmp_path):
    plain = {"epochs": 3, "batch_size": 50, "learning_rate": 0.5, "dropout": 0.25, "random_state": 1}
    kinds = np.int16, np.int32, np.float32, np.float16, np.uint8
    given = {name: kind(value) for kind, (name, value) in zip(kinds, plain.items(), strict=True)}
    made = MLPClassifier(np.array([8]), **given).fit(*images)
    made.save(tmp_path / "head")
    loaded = MLPClassifier.load(tmp_path / "head")
    assert loaded.get_params() == MLPClassifier((8,), **plain).get_params()
    np.testing.assert_array_equal(loaded.predict_proba(images[0]), made.predict_proba(images[0]))


def test_a_pickled_head_of_an_earlier_release_has_the_default_precision(images):
    head = MLPClassifier(**SMALL).fit(*images)
    del head.__dict__["precision"]
    loaded = pickle.loads(pickle.dumps(head))
    assert loaded.get_params() == MLPClassifier(**SMALL).get_params()
    np.testing.assert_array_equal(loaded.predict_proba(images[0]), head.predict_proba(images[0]))


def test_a_folder_without_a_head_is_refused(images, tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not contain a complete MLP"):
        MLPClassifier.load(tmp_path / "nowhere")
    folder = MLPClassifier(**SMALL).fit(*images).save(tmp_path / "head")
    (folder / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"head does not contain a complete MLP"):
        MLPClassifier.load(folder)
    folder = MLPClassifier(**SMALL).fit(*images).save(tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    del config["classes"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="classes"):
        MLPClassifier.load(folder)


def test_a_loss_that_is_not_finite_is_said(images):
    with pytest.raises(SettingError, match=r"not finite in epoch 1; lower learning_rate"):
        MLPClassifier((8,), learning_rate=1e30).fit(*images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"epochs": 0}, "epochs"), ({"patience": 0}, "patience"), ({"batch_size": 0}, "batch_size"),
     ({"learning_rate": -1}, "learning_rate"), ({"dropout": 1}, "dropout"), ({"hidden": (4, 0)}, "widths"),
     ({"precision": "half"}, "precision: expected auto"), ({"epochs": 1.5}, "epochs: expected a whole number"),
     ({"epochs": np.inf}, "epochs"), ({"batch_size": "64"}, "batch_size"), ({"weight_decay": None}, "weight_decay"),
     ({"learning_rate": 0}, "above 0"), ({"learning_rate": np.nan}, "learning_rate"), ({"dropout": "0"}, "dropout"),
     ({"random_state": None}, "random_state"), ({"hidden": 8}, "widths"), ({"hidden": (8.0,)}, "widths")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(images, settings, message):
    with pytest.raises(SettingError, match=message):
        MLPClassifier(**settings).fit(*images)


@pytest.mark.parametrize(("batch_size", "n_threads"), [(64, 1), (128, 2)])
def test_small_batches_use_one_thread(monkeypatch, batch_size, n_threads):
    used = []
    build = mlp._build_net
    monkeypatch.setattr(mlp, "_build_net", lambda *given: (used.append(torch.get_num_threads()), build(*given))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
        MLPClassifier((8,), epochs=1, batch_size=batch_size).fit(vectors, ["a", "b"] * 10)
        assert (used, torch.get_num_threads()) == ([n_threads], 2)
    finally:
        torch.set_num_threads(before)
