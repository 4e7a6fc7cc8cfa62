"""The loop: its learning rate, stopping and going on, the best epoch, and what goes wrong."""

import itertools
import logging
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plankton_embed.classifiers.scoring import self_centroid_accuracy
from plankton_embed.errors import InputError, PlanktonEmbedError
from plankton_embed.network.embedding_net import EmbeddingNet
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings, TrainingSettings
from plankton_embed.table import EmbeddingTable
from plankton_embed.training import trainer
from plankton_embed.training.checkpoints import Checkpoints, load_checkpoint
from plankton_embed.training.collapse import PATIENCE, active_share, measure_spread
from plankton_embed.training.history import History
from plankton_embed.training.objectives import Objective, build_objective
from plankton_embed.training.trainer import (
    Validation,
    learning_rate_at,
    measure_statistics,
    should_compile,
    train_model,
)

QUICK = {  # three batches an epoch
    "preparation.target_size": 75,
    "network.trunk": "shufflenet_v2_x0_5",
    "network.dimension": 8,
    "network.dropout": 0.2,
    "training.objective": "triplet",
    "training.epochs": 3,
    "training.images_per_class": 6,
    "training.classes_per_batch": 2,
    "training.batch_images_per_class": 3,
    "training.learning_rate": 1e-3,
    "training.warmup": 0.1,
    "training.precision": "float32",
}
EVERY_STEP = {"training.checkpoint_minutes": 0, "training.keep_checkpoints": 99}
CLASS_INDEX = np.repeat([0, 1, 2], 6)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
TIMES = ["images_per_second", "seconds"]


def build(settings, seed=0):
    return EmbeddingModel.build(settings.network, settings.preparation, seed).to("cpu")


def train(images, folder, *, class_index=CLASS_INDEX, start=None, validate=None, model=None, objective=None, **changes):
    settings = Settings.build(overrides={**QUICK, **changes})
    model = model or build(settings)
    history = train_model(
        model, images, class_index, settings, RunFolder(folder),
        start=start, validate=validate, objective=objective, progress=False,
    )  # fmt: skip
    return model, history


def weights_of(model):
    return {name: value.clone() for name, value in model.net.state_dict().items()}


def equal(first, second):
    """Whether nested dictionaries and lists of tensors and values are equal, bit for bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def states_in(folder):
    """Read the states on disk, oldest first."""
    return [load_checkpoint(path) for path in Checkpoints(RunFolder(folder), TrainingSettings()).states]


class StopError(Exception):
    """Stands for a plug that is pulled."""


def seen(accuracy=0.5, vectors=None):
    """What a validation has seen: by default a sound space, the corners of a cube."""
    cube = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], dtype=np.float32)
    return Validation(cube if vectors is None else vectors, np.arange(8) // 2, accuracy, accuracy)


def stop_in(epoch):
    """A validation during which the run is stopped in that epoch."""
    calls = []

    def validate(model):
        calls.append(model)
        if len(calls) == epoch:
            raise StopError
        return seen()

    return validate


class Watched(Objective):
    """The objective of the settings, whose every loss goes through `change(number of the call, loss)`."""

    def __init__(self, change=lambda number, loss: loss, **changes):
        super().__init__()
        torch.manual_seed(0)
        self.inner = build_objective(Settings.build(overrides={**QUICK, **changes}).training, 3, 8)
        self.change, self.calls = change, []

    def forward(self, vectors, labels, progress=0.0):
        loss = self.inner(vectors, labels, progress)
        self.calls.append((loss.item(), vectors.detach(), labels, progress))
        return self.change(len(self.calls), loss)


def stop_at(call):
    def change(number, loss):
        if number == call:
            raise StopError
        return loss

    return change


# ------------------------------------------------------------------------------------------ stopping and going on


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
    assert history.frame.drop(columns=TIMES).equals(never_stopped[1].frame.drop(columns=TIMES))


VARIANTS = {
    "dropout": {},
    "ema": {"training.ema": 0.9},
    "sgd": {"training.optimizer": "sgd", "training.learning_rate": 0.05},
    "memory": {"training.memory": 8},
    "scheduled": {"training.objective": "scheduled", "training.proxy_share": 0.6},  # switches after its 4th step
    "reference_2019": {
        "training.objective": "reference_2019",
        "training.steps_per_epoch": 3,
        "network.weights": "none",
    },
    "sizes": {"training.sampling": "natural", "network.size_inputs": "pixels", "training.schedule": "rounds"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_was_stopped_between_two_steps_ends_in_the_same_weights_too(images, tmp_path, variant):
    changes = {**VARIANTS[variant], "training.epochs": 2}
    whole, history = train(images, tmp_path / "whole", objective=Watched(**changes), **changes)

    # stopped in the second step, then, three whole steps later, in the fifth
    folder, changes = tmp_path / "stopped", {**changes, "training.checkpoint_minutes": 0}
    for call, states in ((2, [(1, 1)]), (4, [(2, 0), (2, 1)])):
        with pytest.raises(StopError):
            train(images, folder, objective=Watched(stop_at(call), **changes), **changes)
        run = RunFolder(folder)
        assert sorted(run.checkpoints.glob("state-*")) == [run.training_state(*place) for place in states]
    other = build(Settings.build(overrides={**QUICK, **changes}), seed=77)
    watched = Watched(**changes)
    resumed, resumed_history = train(images, folder, objective=watched, model=other, **changes)
    assert len(watched.calls) == 2
    assert equal(weights_of(resumed), weights_of(whole))
    assert equal(states_in(folder)[-1]["objective"], states_in(tmp_path / "whole")[-1]["objective"])
    assert resumed_history.frame.drop(columns=TIMES).equals(history.frame.drop(columns=TIMES))


WRITERS = [(Checkpoints, "save_weights"), (Checkpoints, "save_state"), (Checkpoints, "drop_weights"), (History, "save")]


def stop_in_writer(owner, method, call):
    """Return what stands for the method of that name and stops the run the n-th time it is called."""
    original, calls = getattr(owner, method), []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise StopError
        return original(*arguments)

    return stop


@pytest.mark.parametrize(("owner", "method"), WRITERS)
def test_a_run_that_was_stopped_while_an_epoch_was_written_ends_in_the_same_weights(
    images, tmp_path, never_stopped, monkeypatch, owner, method
):
    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(owner, method, stop_in_writer(owner, method, 3))
        train(images, tmp_path, validate=stop_in(99))
    model, history = train(images, tmp_path, validate=stop_in(99))
    assert equal(weights_of(model), weights_of(never_stopped[0]))
    assert history.frame.drop(columns=TIMES).equals(never_stopped[1].frame.drop(columns=TIMES))


@pytest.mark.parametrize(("owner", "method"), WRITERS)
def test_a_run_that_was_stopped_while_its_last_epoch_was_written_has_its_history(
    images, tmp_path, monkeypatch, owner, method
):
    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(owner, method, stop_in_writer(owner, method, 1))
        train(images, tmp_path, **{"training.epochs": 1})
    _, history = train(images, tmp_path, **{"training.epochs": 1})
    assert History.load(RunFolder(tmp_path).history).frame.equals(history.frame)


def test_a_finished_run_is_not_trained_again(images, tmp_path):
    first, _ = train(images, tmp_path, **{"training.epochs": 1})
    other = build(Settings.build(overrides=QUICK), seed=5)
    again, history = train(images, tmp_path, model=other, validate=stop_in(1), **{"training.epochs": 1})
    assert equal(weights_of(again), weights_of(first))
    assert len(history) == 1


def test_a_newest_state_that_is_cut_costs_what_came_after_the_one_before_and_no_more(images, tmp_path, never_stopped):
    with pytest.raises(StopError):
        train(images, tmp_path, validate=stop_in(3))
    newest = RunFolder(tmp_path).training_state(3, 0)
    newest.write_bytes(newest.read_bytes()[:1000])
    model, _ = train(images, tmp_path, validate=stop_in(99))
    assert equal(weights_of(model), weights_of(never_stopped[0]))


def test_a_run_whose_states_are_all_cut_is_refused_and_left_as_it_is(images, tmp_path):
    train(images, tmp_path, **{"training.epochs": 1})
    state = RunFolder(tmp_path).training_state(2, 0)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state-00002-0000000\.pt is not a readable checkpoint"):
        train(images, tmp_path)
    assert state.stat().st_size == 1000


# ------------------------------------------------------------------------------------------ what is learnt and kept


def test_training_changes_every_weight_and_stays_finite(images, never_stopped):
    before, after = weights_of(build(Settings.build(overrides=QUICK))), weights_of(never_stopped[0])
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(value.isfinite().all() for value in after.values())


def test_another_seed_trains_to_other_weights(images, tmp_path, never_stopped):
    model, _ = train(images, tmp_path, validate=stop_in(99), seed=1)
    assert not equal(weights_of(model), weights_of(never_stopped[0]))


@pytest.mark.parametrize("keep_every_epoch", [False, True])
def test_the_best_epoch_ends_in_the_model_and_on_disk(images, tmp_path, keep_every_epoch):
    shown = []

    def validate(model):
        shown.append(weights_of(model))
        return seen([0.2, 0.9, 0.3][len(shown) - 1])

    model, history = train(images, tmp_path, validate=validate, **{"training.keep_every_epoch": keep_every_epoch})
    assert history.best.epoch == 2
    assert equal(weights_of(model), shown[1])
    assert not equal(weights_of(model), shown[2])
    run = RunFolder(tmp_path)
    kept = [1, 2, 3] if keep_every_epoch else [2]
    assert sorted(run.checkpoints.glob("epoch-*")) == [run.epoch_weights(epoch) for epoch in kept]
    for epoch in kept:
        Checkpoints(run, TrainingSettings()).load_weights(epoch, model.net)
        assert equal(weights_of(model), shown[epoch - 1])


@pytest.mark.parametrize(
    ("every", "accuracies", "best"),
    [(1, [0.2, 0.9, 0.3, 0.4, 0.1], 2), (2, [0.5, 0.2, 0.4], 2), (2, [0.5, 0.2, 0.6], 5), (9, [0.1], 5)],
)
def test_the_best_of_the_epochs_that_are_validated_is_kept(images, tmp_path, monkeypatch, every, accuracies, best):
    given, shown, measured, real = iter(accuracies), {}, [], measure_statistics
    epochs = [*range(every, 5, every), 5]  # the last always

    def validate(model):
        shown[epochs[len(shown)]] = weights_of(model)
        return seen(next(given))

    monkeypatch.setattr(trainer, "measure_statistics", lambda *inputs: measured.append(real(*inputs)))
    changes = {"training.validate_every": every, "training.epochs": 5}
    model, history = train(images, tmp_path, validate=validate, **changes)
    assert next(given, None) is None
    assert history.frame["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history.frame["epoch"][history.frame["knn_accuracy"].notna()].tolist() == epochs
    assert history.frame["epoch"][history.frame["between_distance"].notna()].tolist() == epochs
    assert history.frame[["loss", "active_share", "seconds", "images_per_second"]].notna().all(axis=None)
    assert history.best.epoch == best
    assert equal(weights_of(model), shown[best])
    assert len(measured) == len(epochs) + epochs[0] - 1  # up to the first validation after every epoch
    run = RunFolder(tmp_path)
    assert list(run.checkpoints.glob("epoch-*")) == [run.epoch_weights(best)]


def test_how_often_is_validated_does_not_change_what_is_learned(images, tmp_path, never_stopped):
    with pytest.raises(StopError):
        train(images, tmp_path, validate=stop_in(2), **{"training.validate_every": 2})  # in the last
    model, history = train(images, tmp_path, validate=stop_in(99), **{"training.validate_every": 2})
    assert history.frame["knn_accuracy"].notna().tolist() == [False, True, True]
    assert equal(weights_of(model), weights_of(never_stopped[0]))


@pytest.mark.parametrize("seconds", range(12, 18))  # within the steps of an epoch, between them and the validation
def test_the_epoch_in_which_the_minutes_end_is_validated(images, tmp_path, monkeypatch, seconds):
    clock = itertools.count()  # a second passes at every call
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    changes = {"training.minutes": seconds / 60, "training.epochs": 99, "training.validate_every": 98,
               "training.checkpoint_minutes": 1e9}  # fmt: skip
    _, history = train(images, tmp_path, validate=lambda model: seen(), **changes)
    assert 1 < len(history) < 98
    assert history.frame["knn_accuracy"].notna().tolist() == [False] * (len(history) - 1) + [True]


def test_without_validation_the_last_epoch_ends_in_the_model(images, tmp_path):
    model, history = train(images, tmp_path, **{"training.epochs": 2})
    assert history.best.epoch == 2
    unseen = ["centroid_accuracy", "knn_accuracy", "within_distance", "between_distance", "effective_rank"]
    assert history.frame[unseen].isna().all(axis=None)
    assert equal(weights_of(model), states_in(tmp_path)[-1]["net"])


def test_a_record_holds_what_the_steps_and_the_validation_gave(images, tmp_path):
    watched, rng = Watched(), np.random.default_rng(0)
    vectors = [rng.normal(size=(8, 3)) for _ in range(2)]
    views = iter(
        [Validation(vectors[0], np.arange(8) // 2, 0.1, 0.2, 0.15, 3), Validation(vectors[1], np.arange(8) // 4)]
    )
    changes = {"training.epochs": 2}
    _, history = train(images, tmp_path, validate=lambda model: next(views), objective=watched, **changes)
    for number, record in enumerate(history.records):
        losses, shown, labels, _ = zip(*watched.calls[3 * number :][:3], strict=True)
        assert record.loss == pytest.approx(np.mean(losses))
        shares = [active_share(*pair, 0.2).item() for pair in zip(shown, labels, strict=True)]
        assert record.active_share == pytest.approx(np.mean(shares))
        assert record.learning_rate == learning_rate_at((number + 2 / 3) / 2, Settings.build(overrides=QUICK).training)
        spread = measure_spread(vectors[number], np.arange(8) // [2, 4][number])
        assert vars(spread).items() <= vars(record).items()
    first, second = history.records
    assert (first.centroid_accuracy, first.knn_accuracy, first.score, first.n_never_predicted) == (0.1, 0.2, 0.15, 3)
    assert math.isnan(second.centroid_accuracy)
    assert (first.n_empty_steps, first.n_broken_steps) == (0, 0)


def test_an_epoch_is_shown_with_the_objective_that_its_loss_is_of(images, tmp_path, capsys, caplog):
    built = Settings.build(overrides={**QUICK, "training.epochs": 3, "training.objective": "scheduled"})
    caplog.set_level("INFO")
    train_model(build(built), images, CLASS_INDEX, built, RunFolder(tmp_path), progress=True)
    assert "objective: normalized_softmax, and triplet from 80 % of the training on" in caplog.text
    shown = re.findall(r"epoch (\d)/3  (\w+) loss", capsys.readouterr().err)
    assert shown == [("1", "normalized_softmax"), ("2", "normalized_softmax"), ("3", "triplet")]


def test_the_history_on_disk_is_the_history(images, tmp_path):
    _, history = train(images, tmp_path, **{"training.epochs": 2})
    assert History.load(RunFolder(tmp_path).history).frame.equals(history.frame)
    assert history.frame["epoch"].tolist() == [1, 2]
    assert history.frame["active_share"].between(0, 1).all()
    assert (history.frame[["images_per_second", "seconds", "learning_rate"]] > 0).all(axis=None)


@pytest.mark.parametrize("variant", ["dropout", "ema", "sgd", "scheduled"])
def test_more_steps_do_not_wait_more_often_for_the_device(images, tmp_path, waits, variant):
    n_waits = []
    for n_steps in (2, 6):
        with waits as found:
            train(images, tmp_path / str(n_steps), **VARIANTS[variant], **{"training.steps_per_epoch": n_steps})
        n_waits.append(len(found.names))
        found.names.clear()
    assert n_waits[0] == n_waits[1] > 0


def test_an_objective_hears_how_far_the_training_is(images, tmp_path):
    watched = Watched()
    train(images, tmp_path, objective=watched)
    assert [progress for *_, progress in watched.calls] == pytest.approx(np.arange(9) / 9)


def test_minutes_end_the_training_within_an_epoch_with_the_rates_fallen(images, tmp_path, monkeypatch):
    clock, watched = itertools.count(), Watched()  # a second passes each time somebody looks
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    minutes = {"training.minutes": 8 / 60, "training.epochs": 50, "training.checkpoint_minutes": 1e9}
    _, history = train(images, tmp_path / "run", objective=watched, **minutes)
    heard = [progress for *_, progress in watched.calls]
    assert heard == sorted(heard) and heard[0] < 0.2 and heard[-1] == 1.0
    assert (len(history), len(heard)) == (2, 5)  # the second epoch of three batches ends after two
    assert history.records[-1].learning_rate == pytest.approx(0, abs=1e-12)
    _, again = train(images, tmp_path / "run", **minutes)
    assert len(again) == len(history)


def test_steps_per_epoch_sets_the_length_of_an_epoch(images, tmp_path):
    watched = Watched()
    changes = {"training.steps_per_epoch": 2, "training.epochs": 2}
    changes |= {"training.classes_per_batch": 3, "training.batch_images_per_class": 2}
    train(images, tmp_path, objective=watched, **changes)
    assert [len(labels) for _, _, labels, _ in watched.calls] == [6] * 4


class Point(Objective):
    """Draws all vectors to one learned point."""

    def __init__(self):
        super().__init__()
        self.point = torch.nn.Parameter(torch.zeros(8))

    def forward(self, vectors, labels, progress=0.0):
        return (vectors - self.point).square().sum(dim=1).mean()


def test_an_objective_of_ones_own_is_trained_kept_and_gone_on_with(images, tmp_path):
    objective, again = Point(), Point()
    _, history = train(images, tmp_path, objective=objective)
    assert history.records[-1].loss < history.records[0].loss
    assert objective.point.norm() > 0
    assert equal(states_in(tmp_path)[-1]["objective"], {"point": objective.point.detach()})
    train(images, tmp_path, objective=again)
    assert torch.equal(again.point, objective.point)


def test_a_start_prepares_the_model_and_places_the_proxies_once(images, tmp_path):
    starts, means = [], np.eye(3, 8)[::-1].copy()

    def start(model):
        starts.append(model)
        torch.nn.init.zeros_(model.net.head.weight)
        return means

    slow = {"training.objective": "scheduled", "training.learning_rate": 1e-9, "training.weight_decay": 0}
    with pytest.raises(StopError):
        train(images, tmp_path, start=start, validate=stop_in(2), **slow)
    model, _ = train(images, tmp_path, start=start, **slow)  # goes on, so it does not start again
    assert len(starts) == 1
    assert model.net.head.weight.abs().max() < 1e-6
    (proxies,) = states_in(tmp_path)[-1]["objective"].values()
    torch.testing.assert_close(proxies.T, torch.from_numpy(means).float(), atol=1e-6, rtol=0)


def test_given_weights_are_trained_at_a_lower_rate(images, tmp_path):
    rates = []
    model = build(Settings.build(overrides=QUICK))
    given = {"network.weights": "a model"}
    for number, changes in enumerate([{}, given, {**given, "training.pretrained_rate": 0.01}]):
        rates.append(train(images, tmp_path / str(number), model=model, **changes)[1].records[0].learning_rate)
    assert np.array(rates) / rates[0] == pytest.approx([1, 1 / 3, 0.01])


def test_the_time_of_the_start_is_part_of_the_minutes(images, tmp_path, monkeypatch):
    clock = itertools.count()  # a second passes each time somebody looks
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    minutes = {"training.minutes": 30 / 60, "training.epochs": 50, "training.checkpoint_minutes": 1e9}
    n_epochs = []
    for seconds in (0, 20):

        def start(model, seconds=seconds):
            for _ in range(seconds):
                next(clock)
            return np.eye(3, 8)

        n_epochs.append(len(train(images, tmp_path / str(seconds), start=start, **minutes)[1]))
    assert n_epochs[1] < n_epochs[0]


def test_matrices_decay_and_proxies_have_their_own_rate(images, tmp_path):
    changes = {"training.objective": "scheduled", "training.proxy_rate": 20, "training.weight_decay": 0.03}
    train(images, tmp_path, **changes, **{"training.epochs": 1})
    state, net = states_in(tmp_path)[-1]["optimizer"], build(Settings.build(overrides=QUICK)).net
    matrices, others, proxies = state["param_groups"]
    assert [group["weight_decay"] for group in (matrices, others, proxies)] == [0.03, 0, 0]
    assert others["lr"] == matrices["lr"]
    assert proxies["lr"] == pytest.approx(20 * matrices["lr"])
    shapes = [p.shape for p in net.parameters()]
    assert len(matrices["params"]) == sum(len(shape) > 1 for shape in shapes)
    assert len(others["params"]) == sum(len(shape) == 1 for shape in shapes)
    assert [state["state"][number]["exp_avg"].shape for number in proxies["params"]] == [(8, 3)]


# ------------------------------------------------------------------------------------------ batch norms


class Feed:
    """Five images of one pixel, two channels."""

    device = torch.device("cpu")
    pixels = torch.tensor([[1.0, 0], [3, 0], [5, 0], [9, 0], [2, 10]])[:, :, None, None]

    def __call__(self, rows):
        return self.pixels[rows], None, None, None


class Norm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(2)

    def forward(self, pixels, sides):
        return self.norm(pixels)


def test_the_statistics_of_a_norm_by_hand():
    net = Norm()
    net(Feed.pixels, None)  # leaves a trace
    settings = TrainingSettings(classes_per_batch=2, batch_images_per_class=2, precision="float32")
    measure_statistics(net, Feed(), np.array([0, 1, 2, 3]), settings)  # one batch: 1, 3, 5, 9
    assert net.norm.running_mean.tolist() == [4.5, 0]
    assert net.norm.running_var.tolist() == pytest.approx([(3.5**2 + 1.5**2 + 0.5**2 + 4.5**2) / 3, 0])
    measure_statistics(net, Feed(), np.array([0, 1, 0, 1, 2, 3, 2, 3]), settings)  # two: 1, 3, 1, 3 and 5, 9, 5, 9
    assert net.norm.running_mean.tolist() == [4.5, 0]
    assert net.norm.running_var.tolist() == pytest.approx([(4 / 3 + 16 / 3) / 2, 0])
    measure_statistics(net, Feed(), np.array([0, 1, 2, 3, 4]), settings)  # no batch of one image
    assert net.norm.running_mean.tolist() == [4, 2]
    assert net.norm.num_batches_tracked == 1
    assert net.norm.momentum == 0.1


def test_measuring_the_statistics_does_not_change_what_is_learned(images, tmp_path, monkeypatch):
    with_it, _ = train(images, tmp_path / "with")
    monkeypatch.setattr(trainer, "measure_statistics", lambda *_: None)
    without, _ = train(images, tmp_path / "without")
    assert all(map(torch.equal, with_it.net.parameters(), without.net.parameters()))
    assert not equal(weights_of(with_it), weights_of(without))


# ------------------------------------------------------------------------------------------ compiling


@pytest.mark.parametrize(
    ("changes", "n_steps", "device", "wanted"),
    [
        ({}, 5000, "cuda", True),
        ({}, 4999, "cuda", False),
        ({}, 10**6, "cpu", False),
        ({}, 10**6, "mps", False),
        ({"minutes": 6.0}, 5000, "cuda", True),
        ({"minutes": 5.0}, 10**6, "cuda", False),  # the clock ends it long before
        ({"compile": "on"}, 1, "cpu", True),
        ({"compile": "off"}, 10**6, "cuda", False),
    ],
)
def test_auto_compiles_on_a_gpu_where_it_repays(changes, n_steps, device, wanted):
    assert should_compile(TrainingSettings(**changes), n_steps, torch.device(device)) == wanted


def test_only_the_trunk_is_compiled_and_only_for_batches_of_one_shape(images, tmp_path, monkeypatch, caplog):
    compiled, shapes = [], []

    def stand_in(module, compile, setting, **options):
        compiled.append((compile, setting, options))
        return lambda inputs: shapes.append((inputs.shape, module.training)) or module(inputs)

    monkeypatch.setattr(trainer, "compile_module", stand_in)
    uneven = {"class_index": np.repeat([0, 1, 2], [11, 5, 2]), "validate": lambda model: seen()}
    changes = {"training.sampling": "natural", "training.batch_images_per_class": 4}
    plain, _ = train(images, tmp_path / "off", **uneven, **changes, **{"training.compile": "off"})
    assert not compiled
    with caplog.at_level("INFO"):
        model, _ = train(images, tmp_path / "on", **uneven, **changes, **{"training.compile": "on"})
    assert "the trunk is compiled in the first step" in caplog.text
    assert compiled == [("on", "training.compile", {"dynamic": False})]
    assert set(shapes) == {((8, 3, 75, 75), True)}
    assert equal(weights_of(model), weights_of(plain))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_trunk_learns_the_same_from_one_compilation(images, tmp_path, precision):
    losses = []
    for compile in ("off", "on"):
        changes = {"training.compile": compile, "training.precision": precision, "training.objective": "supcon"}
        model = build(Settings.build(overrides={**QUICK, **changes}))
        torch.manual_seed(0)
        small = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
                                    torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())  # fmt: skip
        model = replace(model, net=EmbeddingNet(small, 8, Settings.build(overrides=QUICK).network))
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        _, history = train(images, tmp_path / compile, model=model, **changes)
        losses.append(history.frame["loss"].to_numpy())
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (compile == "on")
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4 if precision == "float32" else 0.05)


# ------------------------------------------------------------------------------------------ running mean


def test_the_running_mean_by_hand(images, tmp_path):
    shown = []

    def validate(model):
        shown.append(weights_of(model))

    changes = {**EVERY_STEP, "training.ema": 0.15, "training.epochs": 1}
    model, _ = train(images, tmp_path, validate=validate, **changes)
    states = states_in(tmp_path)
    assert len(states) == 3
    for name, _ in model.net.named_parameters():
        first, second, third = (state["net"][name] for state in states)
        means = [state["mean_net"][name] for state in states]
        assert torch.equal(means[0], first)  # the random start weighs nothing
        torch.testing.assert_close(means[1], 0.1 * first + 0.9 * second)  # 1 / (1 + 9), until that exceeds .15
        torch.testing.assert_close(means[2], 0.15 * (0.1 * first + 0.9 * second) + 0.85 * third)
    mean = states[-1]["mean_net"]
    assert equal(shown[0], mean)  # it is what is validated, and what is left
    assert equal(weights_of(model), mean)
    assert not equal(mean, states[-1]["net"])


# ------------------------------------------------------------------------------------------ broken and empty steps


def nan_loss(loss):
    return loss * math.nan


def nan_gradient(loss):
    return loss + (0 * loss).sqrt()  # its value is that of the loss, its gradient 0 / 0


def change_at(calls, change):
    return lambda number, loss: change(loss) if number in calls else loss


def learned(state):
    """The weights in a state; statistics of batch norms are no weights, and are measured anew after the epoch."""
    return {name: value for name, value in state["net"].items() if not name.endswith(STATISTICS)}


def train_with(change, images, folder, **changes):
    """Train one epoch of three steps; return its record and what is on disk after each step."""
    changes = {**EVERY_STEP, "training.epochs": 1, **changes}
    _, history = train(images, folder, objective=Watched(change, **changes), **changes)
    return history.records[-1], states_in(folder)


@pytest.mark.parametrize("change", [nan_loss, nan_gradient])
@pytest.mark.parametrize("variant", ["dropout", "sgd", "ema", "scheduled"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(images, tmp_path, variant, change):
    record, states = train_with(change_at({2}, change), images, tmp_path, **VARIANTS[variant])
    assert (record.n_broken_steps, record.n_empty_steps) == (1, 0)
    assert equal(learned(states[0]), learned(states[1]))
    assert not equal(learned(states[1]), learned(states[2]))  # the next goes on
    assert equal(states[0]["objective"], states[1]["objective"])
    assert equal(states[0]["optimizer"]["state"], states[1]["optimizer"]["state"])
    assert math.isfinite(record.loss)


@pytest.mark.parametrize("variant", ["dropout", "sgd", "ema"])
def test_a_device_whose_optimizers_do_not_look_at_the_mark_ends_in_the_same_weights(
    images, tmp_path, monkeypatch, variant
):
    change = change_at({2}, nan_gradient)
    wanted = train_with(change, images, tmp_path / "marked", **VARIANTS[variant])
    marked = []
    monkeypatch.setattr(trainer, "skips_on_device", lambda device: marked.append(device) or False)
    monkeypatch.setattr(torch.optim.Optimizer, "found_inf", property(lambda _: None), raising=False)  # refuses a mark
    record, states = train_with(change, images, tmp_path / "decided", **VARIANTS[variant])
    assert len(marked) == 3 and (record.n_broken_steps, record.loss) == (1, wanted[0].loss)
    for name in ("net", "objective", "optimizer", "mean_net"):
        assert equal(states[-1].get(name), wanted[1][-1].get(name))


@pytest.mark.parametrize("variant", ["dropout", "ema"])
def test_a_batch_that_is_no_numbers_is_not_seen_in_the_model(images, tmp_path, monkeypatch, variant):
    shown = []

    def spoil(batch, *_):
        shown.append(len(batch))
        return batch * (math.nan if len(shown) == 2 else 1)

    monkeypatch.setattr(trainer, "augment", spoil)
    model, history = train(images, tmp_path, **VARIANTS[variant], **{"training.epochs": 1})
    assert history.best.n_broken_steps == 1
    assert all(value.isfinite().all() for value in weights_of(model).values())


@pytest.mark.parametrize("variant", ["dropout", "sgd"])
def test_a_first_step_that_is_not_finite_leaves_no_trace_in_the_optimizer(images, tmp_path, variant):
    _, states = train_with(change_at({1}, nan_loss), images, tmp_path, **VARIANTS[variant])
    assert equal(learned(states[0]), learned({"net": weights_of(build(Settings.build(overrides=QUICK)))}))
    moments = [value for one in states[0]["optimizer"]["state"].values() for value in one.values()]
    assert all(value is None or not value.any() for value in moments)


def test_the_mean_loss_is_that_of_the_steps_that_were_taken(images, tmp_path):
    changes = {"training.epochs": 1}
    watched = Watched(lambda number, loss: loss * [1, math.nan, 0][number - 1], **changes)
    _, history = train(images, tmp_path, objective=watched, **changes)
    assert history.best.loss == pytest.approx(watched.calls[0][0])
    shares = [active_share(*watched.calls[number][1:3], 0.2).item() for number in (0, 2)]  # whether learned from or not
    assert history.best.active_share == pytest.approx(np.mean(shares))
    assert (history.best.n_broken_steps, history.best.n_empty_steps) == (1, 1)


@pytest.mark.parametrize("variant", ["dropout", "sgd"])
def test_a_step_with_nothing_to_learn_changes_no_weights_and_is_counted(images, tmp_path, variant):
    record, states = train_with(change_at({2}, lambda loss: 0 * loss), images, tmp_path, **VARIANTS[variant])
    assert (record.n_broken_steps, record.n_empty_steps) == (0, 1)
    assert equal(learned(states[0]), learned(states[1]))
    assert not any(torch.equal(value, states[2]["net"][name]) for name, value in learned(states[1]).items())
    assert equal(states[0]["optimizer"]["state"], states[1]["optimizer"]["state"])


def test_batches_without_a_triplet_that_breaks_the_margin_change_no_weights(images, tmp_path):
    changes = {"training.epochs": 1, "training.margin": 1e-12}  # semi-hard needs a gap of less
    model, history = train(images, tmp_path, **changes)
    assert (history.best.n_empty_steps, history.best.loss) == (3, 0)
    before, after = build(Settings.build(overrides=QUICK)).net, model.net
    assert all(map(torch.equal, before.parameters(), after.parameters()))


@pytest.mark.parametrize("poison", ["head.bias", "trunk.conv1.0.weight"])
def test_a_loss_that_is_never_a_number_says_what_to_do_and_keeps_nothing(images, tmp_path, poison):
    model = build(Settings.build(overrides=QUICK))
    model.net.get_parameter(poison).data.fill_(math.nan)
    with pytest.raises(PlanktonEmbedError, match=r"epoch 1: .*finite loss.*learning_rate.*0\.001.*precision=float32"):
        train(images, tmp_path, model=model)
    assert states_in(tmp_path) == []


def test_a_gradient_of_the_proxies_that_is_not_finite_changes_nothing_either(images, tmp_path):
    class Spoilt(Point):
        def forward(self, vectors, labels, progress=0.0):
            return super().forward(vectors, labels) + (0 * self.point.sum()).sqrt()  # the vectors' gradient is finite

    objective, model = Spoilt(), build(Settings.build(overrides=QUICK))
    before = weights_of(model)
    with pytest.raises(PlanktonEmbedError, match="epoch 1: none of the last steps"):
        train(images, tmp_path, model=model, objective=objective)
    assert equal(learned({"net": weights_of(model)}), learned({"net": before}))
    assert not objective.point.any()


def test_a_space_on_one_point_has_all_its_triplets_active(images, tmp_path):
    model = build(Settings.build(overrides=QUICK))
    torch.nn.init.zeros_(model.net.head.weight)  # every image on the bias; no triplet is semi-hard, so none is learned
    _, history = train(images, tmp_path, model=model, **{"training.epochs": 1})
    assert (history.best.active_share, history.best.n_empty_steps) == (1, 3)


def test_a_loss_that_is_no_number_any_more_leaves_the_state_before_it(images, tmp_path):
    with pytest.raises(PlanktonEmbedError, match=r"epoch 2: .*the last state on disk is good"):
        train(images, tmp_path, objective=Watched(change_at({4, 5, 6}, nan_loss)))
    run = RunFolder(tmp_path)
    assert list(run.checkpoints.glob("state-*")) == [run.training_state(2, 0)]
    assert len(states_in(tmp_path)[0]["history"]) == 1
    train(images, tmp_path)  # and can be gone on with


def test_one_broken_step_after_a_look_at_the_losses_does_not_end_the_training(images, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "STEPS_BETWEEN_CHECKS", 2)  # checks after the second step, and after the last
    _, history = train(images, tmp_path, objective=Watched(change_at({3}, nan_loss)), **{"training.epochs": 1})
    assert history.best.n_broken_steps == 1


@pytest.mark.parametrize("codes", [[0, 2], [1, 2], [-1, 0]])
def test_class_codes_with_a_gap_are_refused(images, tmp_path, codes):
    with pytest.raises(InputError, match="every code from 0 to 1, found 2 from"):
        train(images, tmp_path, class_index=np.array(codes)[CLASS_INDEX % 2])


def test_one_class_is_refused(images, tmp_path):
    with pytest.raises(InputError, match="at least 2 classes, found 1"):
        train(images, tmp_path, class_index=np.zeros(18, dtype=int))


def test_a_class_of_one_image_takes_part(images, tmp_path):
    class_index = np.array([0] * 12 + [1] * 5 + [2])
    _, history = train(images, tmp_path, class_index=class_index, **{"training.epochs": 1})
    assert math.isfinite(history.best.loss)


# ------------------------------------------------------------------------------------------ collapse


def see_collapse(model):
    return seen(vectors=np.ones((8, 3), dtype=np.float32))


FOUND = 1 + PATIENCE  # the first epoch is not judged
SHORT = {"training.images_per_class": 2, "training.epochs": FOUND + 2}


def test_a_collapse_ends_the_training_when_asked_for_and_is_told_once(images, tmp_path, caplog):
    changes = {**SHORT, "training.stop_on_collapse": True}
    model, history = train(images, tmp_path, validate=see_collapse, **changes)
    assert len(history) == FOUND
    assert caplog.text.count("the space is collapsing") == 1
    again, resumed = train(images, tmp_path, validate=stop_in(1), **changes)
    assert len(resumed) == FOUND
    assert equal(weights_of(again), weights_of(model))
    assert caplog.text.count("the space is collapsing") == 1


def test_a_collapse_is_told_once_and_training_goes_on_unless_told_to_stop(images, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, history = train(images, tmp_path, validate=see_collapse, **SHORT)
    assert len(history) == FOUND + 2
    assert [f"epoch {FOUND}: the space is collapsing" in record.message for record in caplog.records] == [True]


def test_a_sound_space_does_not_end_the_training(images, tmp_path, caplog):
    _, history = train(images, tmp_path, validate=stop_in(99), **SHORT, **{"training.stop_on_collapse": True})
    assert len(history) == FOUND + 2
    assert caplog.text == ""


# ------------------------------------------------------------------------------------------ learning rate


@pytest.mark.parametrize(
    ("at", "wanted"),
    [(0, 1e-3 * 0.001 / 0.101), (0.05, 1e-3 * 0.051 / 0.101), (0.1, 1e-3), (0.325, 1e-3 * (0.5 + 0.5**1.5)),
     (0.55, 5e-4), (1, 0)],
)  # fmt: skip
def test_the_learning_rate_by_hand(at, wanted):
    training = TrainingSettings(learning_rate=1e-3, warmup=0.1)
    assert learning_rate_at(at, training) == pytest.approx(wanted, abs=1e-12)


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


@pytest.mark.parametrize("epochs", [3, 20, 23, 500])
def test_in_rounds_the_rate_falls_by_a_tenth_after_every_five_epochs(epochs):
    training = TrainingSettings(schedule="rounds", warmup=0, learning_rate=0.01, epochs=epochs)
    for epoch in range(epochs):
        for step in (0, 1, 999):  # of a thousand an epoch
            rate = learning_rate_at((epoch + step / 1000) / epochs, training)
            assert rate == pytest.approx(0.01 * 0.9 ** (epoch // 5))


def test_rounds_can_be_warmed_up_to():
    training = TrainingSettings(schedule="rounds", warmup=0.1, learning_rate=0.01, epochs=10)
    rates = [learning_rate_at(at, training) for at in (0, 0.05, 0.0999, 0.1, 0.4, 0.6)]
    assert rates == pytest.approx([0.01 * 0.001 / 0.101, 0.01 * 0.051 / 0.101, 0.01, 0.01, 0.01, 0.009], rel=2e-3)


@pytest.mark.slow
def test_training_learns_to_tell_the_classes_apart(images, tmp_path):
    longer = {"training.epochs": 36, "training.images_per_class": 32, "training.classes_per_batch": 3,
              "training.batch_images_per_class": 4, "training.margin": 0.5, "network.dropout": 0,
              "network.trunk": "resnet18"}  # fmt: skip
    model, history = train(images, tmp_path, **longer)
    assert history.records[-1].active_share < 0.5 * history.records[0].active_share
    labels = CLASS_INDEX.astype(str)
    assert self_centroid_accuracy(EmbeddingTable(model.embed_prepared(images), label=labels)) > 0.8
