"""What the comparison nets share: loss, stop rule, sampling, views, seed, saving, faults."""

import json
import pickle
from itertools import count
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score

from plankton_embed.baselines import net_classifier
from plankton_embed.baselines.convnets import FourConvNet, LeNet
from plankton_embed.baselines.net_batches import balance_weights, draw_epoch
from plankton_embed.baselines.net_classifier import channel_moments, measure, weigh_loss
from plankton_embed.baselines.pixels import PixelMLP
from plankton_embed.errors import InputError, OutputError, SettingError


def draw_blots(n, seed=0, side=8):
    """Return small images whose one bright quarter says the class."""
    rng = np.random.default_rng(seed)
    images, codes = rng.integers(0, 90, (n, side, side), dtype=np.uint8), np.arange(n) % 3
    half = side // 2
    for image, code in zip(images, codes, strict=True):
        top, left = divmod(int(code), 2)
        image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 120
    return images, np.array(["ant", "bee", "cat"])[codes]


def small(**settings):
    return PixelMLP(**{"hidden": (8,), "epochs": 4, "batch_size": 16, "learning_rate": 1e-2, **settings})


def test_class_weights_change_the_loss_as_by_hand():
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    codes = np.array([0, 0, 0, 0, 1])
    weights = balance_weights(codes, 2)
    np.testing.assert_allclose(weights, [5 / 8, 5 / 2])
    each = [np.log1p(np.exp(-gap)) for gap in (2, 1, 0, 3, 1)]
    wanted = (5 / 8 * sum(each[:4]) + 5 / 2 * each[4]) / 5
    loss = weigh_loss(logits, torch.from_numpy(codes), torch.from_numpy(weights))
    assert loss.item() == pytest.approx(wanted)
    assert weigh_loss(logits, torch.from_numpy(codes), torch.ones(2)).item() == pytest.approx(np.mean(each))


def test_balanced_weights_reach_the_training():
    images, labels = draw_blots(60)
    keep = np.r_[np.flatnonzero(labels != "cat"), np.flatnonzero(labels == "cat")[:3]]
    plain = small(epochs=1, watch=None, patience=None).fit(images[keep], labels[keep])
    weighted = small(epochs=1, watch=None, patience=None, class_weight="balanced").fit(images[keep], labels[keep])
    rare = labels == "cat"
    assert weighted.predict_proba(images[rare])[:, 2].mean() > plain.predict_proba(images[rare])[:, 2].mean()


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits, codes = torch.from_numpy(rng.normal(size=(50, 5))), rng.integers(0, 4, 50)  # class 4 is only guessed
    guesses, probabilities = logits.argmax(1).numpy(), torch.softmax(logits, 1).numpy()
    options = {"average": "macro", "zero_division": 0}
    found = measure(logits, codes)
    assert found["loss"] == pytest.approx(log_loss(codes, probabilities, labels=range(5)))
    assert found["accuracy"] == pytest.approx((guesses == codes).mean())
    assert found["f1_macro"] == pytest.approx(f1_score(codes, guesses, **options))
    assert found["precision_macro"] == pytest.approx(precision_score(codes, guesses, **options))
    assert found["recall_macro"] == pytest.approx(recall_score(codes, guesses, **options))


@pytest.mark.parametrize("watch", ["f1_macro", "loss"])
def test_the_stop_rule_by_hand(watch, monkeypatch):
    """The best is the fourth epoch, an equal of the second; training ends after five worse ones in a row."""
    f1 = [0.1, 0.5, 0.4, 0.5, 0.4, 0.3, 0.45, 0.2, 0.49, 0.9]
    states, nets = [], []

    def script(self, pixels):
        states.append({name: value.clone() for name, value in self.net_.state_dict().items()})
        nets.append(self)
        return torch.zeros(len(pixels), 3)

    def figures(logits, codes):
        record = dict.fromkeys(net_classifier.FIGURES, 0.5)
        if not logits.any():  # the validation images of the script
            record |= {"f1_macro": f1[len(states) - 1], "loss": 1 - f1[len(states) - 1]}
        return record

    monkeypatch.setattr(PixelMLP, "_logits", script)
    monkeypatch.setattr(net_classifier, "measure", figures)
    images, labels = draw_blots(30)
    net = small(epochs=20, watch=watch, patience=5).fit(images, labels, (images, labels))
    assert net.history_["val_f1_macro"].tolist() == f1[:9]
    assert net.history_["epoch"][net.history_["kept"]].tolist() == [4]
    for name, value in net.net_.state_dict().items():
        assert (value == states[3][name]).all()
        assert (value != states[8][name]).any()


def test_without_a_watch_the_last_epoch_is_kept_and_nothing_held_out():
    images, labels = draw_blots(30)
    history = small(watch=None, patience=None).fit(images, labels).history_
    assert history["kept"].tolist() == [False, False, False, True]
    assert not any(column.startswith("val_") for column in history)


def test_a_tenth_is_held_out_where_it_is_watched(monkeypatch):
    seen = []
    learn = PixelMLP._train
    monkeypatch.setattr(PixelMLP, "_train", lambda self, *parts: (seen.append(parts), learn(self, *parts))[1])
    images, labels = draw_blots(60)
    small().fit(images, labels)
    pixels, codes, (watched, watched_codes) = seen[0]
    assert (len(pixels), len(watched)) == (54, 6)
    assert np.bincount(watched_codes).tolist() == [2, 2, 2]
    both = np.concatenate([pixels, watched])
    assert len(np.unique(both.reshape(60, -1), axis=0)) == len(np.unique(images.reshape(60, -1), axis=0)) == 60
    assert len(codes) == 54


def test_the_plateau_halves_the_rate_down_to_the_least(monkeypatch):
    monkeypatch.setattr(net_classifier, "measure", lambda *_: dict.fromkeys(net_classifier.FIGURES, 0.5))
    images, labels = draw_blots(30)
    net = small(epochs=9, plateau_factor=0.5, plateau_patience=2, learning_rate=0.01, least_rate=0.002)
    rates = net.fit(images, labels).history_["learning_rate"]
    assert rates.tolist() == [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025, 0.002, 0.002]


def test_training_ends_with_its_seconds(monkeypatch):
    images, labels = draw_blots(600)
    clock = count(0, 0.01)  # a step takes 0.01 s
    monkeypatch.setattr(net_classifier, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    net = small(epochs=1_000_000, seconds=1.0).fit(images, labels)
    assert next(clock) == pytest.approx(1.02)  # the step in which the time ran out, and the end of its epoch
    assert len(net.history_) == 3  # of 34 steps, 34 and 29
    assert net.history_["seconds"].sum() == pytest.approx(1.01 - 2 * 0.01)
    assert net.history_["kept"].sum() == 1


def test_the_same_seed_gives_the_same_weights_and_leaves_other_draws_alone():
    images, labels = draw_blots(40, side=20)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    settings = {"epochs": 2, "sampling": "balanced", "grow_rare": True}
    first = FourConvNet(**settings).fit(images, labels)
    assert torch.rand(1) == wanted
    again, other = FourConvNet(**settings).fit(images, labels), FourConvNet(**settings, seed=1).fit(images, labels)
    for name, value in first.net_.state_dict().items():
        assert (value == again.net_.state_dict()[name]).all()
    assert (first.predict_proba(images) != other.predict_proba(images)).any()


def test_an_image_is_named_alike_alone_and_among_others():
    images, labels = draw_blots(40, side=20)
    net = FourConvNet(epochs=2, device="cpu").fit(images, labels)  # with dropout and batch normalisation
    together = net.predict_proba(images)
    np.testing.assert_allclose(net.predict_proba(images[:1]), together[:1], atol=1e-5)
    np.testing.assert_array_equal(net.predict_proba(images), together)


def test_natural_epochs_show_every_image_once():
    codes = np.array([0] * 90 + [1] * 10)
    rows, views = draw_epoch(codes, (8, 8), "natural", False, False, np.random.default_rng(0))
    assert sorted(rows) == list(range(100))
    assert not views.any()


def test_balanced_epochs_show_every_class_alike():
    codes = np.array([0] * 90 + [1] * 8 + [2] * 2)
    rows, views = draw_epoch(codes, (8, 8), "balanced", False, False, np.random.default_rng(0))
    assert np.bincount(codes[rows]).tolist() == [34, 34, 34]
    assert np.bincount(rows, minlength=100)[90:].tolist() != [0] * 10
    assert set(np.bincount(rows, minlength=100)[98:]) == {17}
    assert not views.any()


@pytest.mark.parametrize(("shape", "n_views"), [((8, 8), 8), ((8, 6), 4)])
def test_rare_classes_are_grown_until_all_views_have_come(shape, n_views):
    codes = np.array([0] * 90 + [1] * 8 + [2] * 2)
    rows, views = draw_epoch(codes, shape, "natural", False, True, np.random.default_rng(0))
    assert np.bincount(codes[rows]).tolist() == [90, min(34, 8 * n_views), 2 * n_views]
    pairs = pd.DataFrame({"row": rows, "view": views})
    assert not pairs.duplicated().any()
    assert (pairs.loc[codes[rows] == 0, "view"] == 0).all()
    assert set(pairs.loc[codes[rows] == 2, "view"]) == set(range(n_views))


def test_every_image_may_be_turned():
    codes = np.array([0] * 400 + [1] * 10)
    rows, views = draw_epoch(codes, (8, 8), "natural", True, False, np.random.default_rng(0))
    assert sorted(rows) == list(range(410))
    assert (np.bincount(views, minlength=8) > 25).all()  # of 51 on average


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 3)])
def test_moments_are_those_of_numpy(shape, monkeypatch):
    monkeypatch.setattr(net_classifier, "BLOCK", 2)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mean, deviation = channel_moments(pixels)
    np.testing.assert_allclose(mean, np.atleast_1d(pixels.mean(axis=(0, 1, 2))))
    np.testing.assert_allclose(deviation, np.atleast_1d(pixels.std(axis=(0, 1, 2))))
    assert channel_moments(np.full((2, 3, 3), 9, np.uint8))[1].tolist() == [1]


def test_the_net_sees_scaled_pixels_or_raw_ones():
    images, labels = draw_blots(30)
    net = small(watch=None, patience=None, epochs=1).fit(images, labels)
    inputs = net._to_inputs(images)
    assert inputs.shape == (30, 1, 8, 8)
    assert float(inputs.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inputs.std(correction=0)) == pytest.approx(1, abs=1e-5)
    raw = small(watch=None, patience=None, epochs=1, scaling="raw").fit(images, labels)._to_inputs(images)
    np.testing.assert_array_equal(raw[:, 0].numpy(), images)


@pytest.mark.parametrize(
    "names",
    [
        np.array(["ant", "bee", "cat"]),
        np.array([7, 3, 40]),
        np.array(["NA", "007", "x"], dtype=object),
        np.array([True, False, True]),
    ],
)
def test_labels_come_back_as_they_came_also_from_disk(names, tmp_path):
    images, labels = draw_blots(60)
    labels = names[np.searchsorted(["ant", "bee", "cat"], labels)]
    net = small().fit(images, pd.Series(labels))
    again = PixelMLP.load(net.save(tmp_path / "net"), device="cpu")
    for found in (net.predict(images), again.predict(images)):
        assert set(found.tolist()) <= set(names.tolist())
        assert {type(name) for name in found.tolist()} == {type(names.tolist()[0])}
    np.testing.assert_array_equal(again.predict_proba(images), net.predict_proba(images))
    pd.testing.assert_frame_equal(again.history_, net.history_)
    pd.testing.assert_frame_equal(again.layers_, net.layers_)
    assert again.get_params() == {**net.get_params(), "device": "cpu"}
    assert net.score(images, labels) == (net.predict(images) == labels).mean()


def test_every_optimizer_lowers_the_loss():
    images, labels = draw_blots(90)
    for optimizer, rate in (("adam", 1e-2), ("rmsprop", 1e-2), ("adadelta", 1.0), ("sgd", 1e-2)):
        losses = small(optimizer=optimizer, learning_rate=rate, epochs=8).fit(images, labels).history_["loss"]
        assert losses.iloc[-1] < 0.7 * losses.iloc[0]


def test_clone_refit_and_pickle():
    images, labels = draw_blots(30)
    net = small().fit(images, labels)
    fresh = clone(net)
    assert not hasattr(fresh, "net_")
    assert fresh.get_params() == net.get_params()
    wider = np.pad(images, ((0, 0), (0, 2), (0, 0)))
    assert net.set_params(hidden=(5,), epochs=1).fit(wider, labels).predict(wider).shape == (30,)
    assert net.layers_["output_shape"].tolist() == ["80", "5", "5", "3"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict(wider), net.predict(wider))
    assert net.predict_proba(wider[:0]).shape == (0, 3)
    np.testing.assert_allclose(net.predict_proba(wider).sum(axis=1), 1)


def test_a_last_batch_of_one_image_does_not_stop_batch_normalisation():
    images, labels = draw_blots(31, side=12)
    net = FourConvNet(epochs=1, batch_size=10, watch=None, plateau_factor=1).fit(images, labels)
    assert np.isfinite(net.history_["loss"]).all()


def test_wrong_images_are_named():
    images, labels = draw_blots(30)
    net = small().fit(images, labels)
    for wrong in (images.astype(float), images[0], np.zeros((2, 8, 8, 4), np.uint8)):
        with pytest.raises(InputError, match="expected images as uint8"):
            net.predict(wrong)
    with pytest.raises(InputError, match="of one shape"):
        net.predict([images[0], images[1, :4]])
    with pytest.raises(InputError, match=r"shape \(8, 8\), as in training; found \(7, 8\)"):
        net.predict(images[:, 1:])
    with pytest.raises(InputError, match="30 images and 29 labels"):
        small().fit(images, labels[1:])
    with pytest.raises(InputError, match="two classes"):
        small().fit(images, ["a"] * 30)
    with pytest.raises(InputError, match="labels are missing, the first in row 2"):
        small().fit(images, ["a", "b", None] * 10)
    with pytest.raises(InputError, match="one kind"):
        small().fit(images, np.array(["a", 1] * 15, dtype=object))
    with pytest.raises(InputError, match=r"validation: .* 0 of its classes"):
        small().fit(images, labels, (images, ["dog"] * 30))
    with pytest.raises(InputError, match="too small for LeNet"):
        LeNet().fit(images[:, :4, :4], labels)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": "20"},
        {"learning_rate": "fast"},
        {"plateau_patience": 3},  # where the rate never falls
        {"least_rate": 1e-4},
        {"batch_size": 1},
        {"optimizer": "lion"},
        {"scaling": "unit"},
        {"class_weight": "heavy"},
        {"sampling": "square_root"},
        {"watch": "accuracy"},
        {"plateau_factor": 0},
        {"patience": 0},
        {"patience": 3, "watch": None},
        {"seconds": -1},
        {"precision": "half"},
        {"device": "abacus"},
        {"hidden": (0,)},
        {"hidden": 100},
    ],
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        small(**settings).fit(*draw_blots(12))


def test_a_rate_that_blows_up_is_named():
    with pytest.raises(SettingError, match="not finite"):
        small(optimizer="sgd", learning_rate=1e30, scaling="raw").fit(*draw_blots(30))


def test_folders_that_hold_no_net_are_named(tmp_path):
    with pytest.raises(InputError, match="not a complete PixelMLP"):
        PixelMLP.load(tmp_path)
    folder = small().fit(*draw_blots(30)).save(tmp_path / "net")
    with pytest.raises(OutputError):
        small().fit(*draw_blots(30)).save(folder)
    with pytest.raises(InputError, match=r"is a PixelMLP; read it with PixelMLP\.load"):
        LeNet.load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "settings": {**config["settings"], "hidden": [9]}}))
    with pytest.raises(InputError, match="not a complete PixelMLP"):
        PixelMLP.load(folder)
