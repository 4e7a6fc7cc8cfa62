"""The loop: its learning rate, stopping and going on, the best epoch, and what goes wrong."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.classifiers.scoring import self_centroid_accuracy
from plankton_embed.errors import InputError, PlanktonEmbedError
from plankton_embed.images.drawn import draw_set
from plankton_embed.images.store import prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings, TrainingSettings
from plankton_embed.table import EmbeddingTable
from plankton_embed.training.history import History
from plankton_embed.training.trainer import learning_rate_at, train_model

QUICK = {
    "preparation.target_size": 75,
    "network.trunk": "resnet18",
    "network.dimension": 8,
    "network.dropout": 0.2,
    "training.epochs": 3,
    "training.images_per_class": 6,
    "training.classes_per_batch": 2,
    "training.batch_images_per_class": 3,
    "training.precision": "float32",
}
CLASS_INDEX = np.repeat([0, 1, 2], 6)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=6, classes=("copepod", "fish_egg", "medusa"))
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    settings = Settings.build(overrides=QUICK).preparation
    return prepare_images(paths, paths, settings, cache=tmp_path_factory.mktemp("cache"), progress=False)


def build(settings, seed=0):
    return EmbeddingModel.build(settings.network, settings.preparation, seed).to("cpu")


def train(images, folder, *, class_index=CLASS_INDEX, validate=None, model=None, **changes):
    settings = Settings.build(overrides={**QUICK, **changes})
    model = model or build(settings)
    history = train_model(model, images, class_index, settings, RunFolder(folder), validate=validate, progress=False)
    return model, history


def weights_of(model):
    return {name: value.clone() for name, value in model.net.state_dict().items()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class StopError(Exception):
    """Stands for a plug that is pulled."""


def stop_in(epoch):
    """A validation during which the run is stopped in that epoch."""
    calls = []

    def validate(model):
        calls.append(model)
        if len(calls) == epoch:
            raise StopError
        return {"centroid_accuracy": 0.5, "knn_accuracy": 0.5}

    return validate


@pytest.fixture(scope="module")
def never_stopped(images, tmp_path_factory):
    return train(images, tmp_path_factory.mktemp("runs") / "whole", validate=stop_in(99))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_that_was_stopped_ends_in_the_same_weights_bit_for_bit(images, tmp_path, never_stopped, epoch):
    with pytest.raises(StopError):
        train(images, tmp_path, validate=stop_in(epoch))
    torch.manual_seed(epoch)  # another process has another random state
    fresh = build(Settings.build(overrides=QUICK), seed=0 if epoch == 1 else 77)  # its weights come from the checkpoint
    model, history = train(images, tmp_path, validate=stop_in(99), model=fresh)
    assert equal(weights_of(model), weights_of(never_stopped[0]))
    columns = ["epoch", "loss", "mined_share", "learning_rate"]
    assert history.frame[columns].equals(never_stopped[1].frame[columns])


def test_training_changes_every_weight_and_stays_finite(images, never_stopped):
    before, after = weights_of(build(Settings.build(overrides=QUICK))), weights_of(never_stopped[0])
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(value.isfinite().all() for value in after.values())


def test_another_seed_trains_to_other_weights(images, tmp_path, never_stopped):
    model, _ = train(images, tmp_path, validate=stop_in(99), seed=1, **{"training.epochs": 1})
    assert not equal(weights_of(model), weights_of(never_stopped[0]))


def test_the_best_epoch_ends_in_the_model(images, tmp_path):
    seen = []

    def validate(model):
        seen.append(weights_of(model))
        accuracy = [0.2, 0.9, 0.3][len(seen) - 1]
        return {"centroid_accuracy": accuracy, "knn_accuracy": accuracy}

    model, history = train(images, tmp_path, validate=validate)
    assert history.best.epoch == 2
    assert equal(weights_of(model), seen[1])
    assert not equal(weights_of(model), seen[2])


def test_without_validation_the_last_epoch_ends_in_the_model(images, tmp_path):
    model, history = train(images, tmp_path, **{"training.epochs": 2})
    assert history.best.epoch == 2
    assert all(math.isnan(record.centroid_accuracy) for record in history.records)
    assert equal(weights_of(model), torch.load(RunFolder(tmp_path).last_checkpoint)["net"])


def test_a_finished_run_is_not_trained_again(images, tmp_path):
    first, _ = train(images, tmp_path, **{"training.epochs": 1})
    other = build(Settings.build(overrides=QUICK), seed=5)
    again, history = train(images, tmp_path, model=other, validate=stop_in(1), **{"training.epochs": 1})
    assert equal(weights_of(again), weights_of(first))
    assert len(history) == 1


def test_the_history_on_disk_is_the_history(images, tmp_path):
    _, history = train(images, tmp_path, **{"training.epochs": 2})
    assert History.load(RunFolder(tmp_path).history).frame.equals(history.frame)
    assert history.frame["epoch"].tolist() == [1, 2]
    assert history.frame["mined_share"].between(0, 1).all()
    assert (history.frame[["images_per_second", "seconds", "learning_rate"]] > 0).all(axis=None)


@pytest.mark.parametrize("poison", ["head.bias", "trunk.conv1.weight"])
def test_a_loss_that_is_no_number_says_what_to_do_and_keeps_nothing(images, tmp_path, poison):
    model = build(Settings.build(overrides=QUICK))
    model.net.get_parameter(poison).data.fill_(math.nan)
    with pytest.raises(PlanktonEmbedError, match=r"epoch 1: the loss is nan.*learning_rate.*0\.001.*precision=float32"):
        train(images, tmp_path, model=model)
    assert not RunFolder(tmp_path).last_checkpoint.exists()


def test_one_class_is_refused(images, tmp_path):
    with pytest.raises(InputError, match="at least 2 classes, found 1"):
        train(images, tmp_path, class_index=np.zeros(18, dtype=int))


def test_a_class_of_one_image_takes_part(images, tmp_path):
    class_index = np.array([0] * 12 + [1] * 5 + [2])
    _, history = train(images, tmp_path, class_index=class_index, **{"training.epochs": 1})
    assert math.isfinite(history.best.loss)


@pytest.mark.parametrize(
    ("at", "wanted"),
    [(0, 1e-3 * 0.001 / 0.101), (0.05, 1e-3 * 0.051 / 0.101), (0.1, 1e-3), (0.325, 1e-3 * (0.5 + 0.5**1.5)),
     (0.55, 5e-4), (1, 0)],
)  # fmt: skip
def test_the_learning_rate_by_hand(at, wanted):
    assert learning_rate_at(at, TrainingSettings()) == pytest.approx(wanted, abs=1e-12)


@given(st.floats(0, 0.9), st.floats(1e-6, 1))
def test_the_learning_rate_climbs_then_falls(warmup, peak):
    training = TrainingSettings(warmup=warmup, learning_rate=peak)
    rates = np.array([learning_rate_at(at, training) for at in np.linspace(0, 1, 101)])
    steps = np.diff(rates)
    top = math.ceil(100 * warmup)
    assert (steps[: max(top - 1, 0)] > 0).all()
    assert (steps[top:] <= 0).all()
    assert learning_rate_at(warmup, training) == pytest.approx(peak)
    assert rates.min() >= 0
    assert rates.max() <= peak * (1 + 1e-9)


@pytest.mark.slow
def test_training_learns_to_tell_the_classes_apart(images, tmp_path):
    longer = {"training.epochs": 36, "training.images_per_class": 32, "training.classes_per_batch": 3,
              "training.batch_images_per_class": 4, "training.margin": 0.5, "network.dropout": 0}  # fmt: skip
    model, history = train(images, tmp_path, **longer)
    assert history.records[-1].mined_share < 0.5 * history.records[0].mined_share
    labels = CLASS_INDEX.astype(str)
    assert self_centroid_accuracy(EmbeddingTable(model.embed_prepared(images), label=labels)) > 0.8
