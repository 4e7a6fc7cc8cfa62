"""Fine-tuned and frozen trunks: what learns when and at which rate, weights in and out, features once, faults."""

import logging
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torchvision
from sklearn.base import clone
from torch import nn

from plankton_embed.baselines import fine_tuned, net_classifier
from plankton_embed.baselines.convnets import LeNet
from plankton_embed.baselines.fine_tuned import FineTunedNet, spread_classes
from plankton_embed.errors import InputError, SettingError
from plankton_embed.network.embedding_net import EmbeddingNet
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.trunks import build_empty_trunk
from plankton_embed.settings import NetworkSettings, PreparationSettings

SMALL = "mobilenet_v3_small"
SCRATCH = {"weights": "none", "head_epochs": 0, "body_share": 1.0}


def tuned(**settings):
    return FineTunedNet(
        **{"weights": "none", "epochs": 2, "batch_size": 16, "device": "cpu", "precision": "float32", **settings}
    )


def trunk_of(net):
    return {name: value.clone() for name, value in net.net_[0].state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def shapes(draw_shapes):
    return draw_shapes(40, 32)


@pytest.fixture
def started(monkeypatch):
    """Return a list of the trunk's weights as each net was built with."""
    states, build = [], FineTunedNet._build

    def note(self, *args, **options):
        build(self, *args, **options)
        states.append(trunk_of(self))

    monkeypatch.setattr(FineTunedNet, "_build", note)
    return states


def test_while_only_the_head_learns_the_trunk_stays_to_the_last_bit(shapes, started):
    net = tuned(epochs=2, head_epochs=2).fit(*shapes)
    assert any("running_mean" in name for name in started[0])
    assert same(trunk_of(net), started[0])
    losses = net.history_["loss"]
    assert losses[1] < losses[0]
    later = tuned(trunk=SMALL, epochs=2, head_epochs=1, watch=None, patience=None).fit(*shapes)
    changed = [name for name, value in trunk_of(later).items() if not torch.equal(value, started[1][name])]
    assert changed == list(started[1])  # weights, biases, moments and counts of batches
    assert all(parameter.requires_grad for parameter in (*net.net_.parameters(), *later.net_.parameters()))


def test_dropout_in_the_trunk_is_off_while_only_the_head_learns(shapes, monkeypatch):
    modes, begin = [], FineTunedNet._begin_epoch

    def note(self, *parts):
        begin(self, *parts)
        modes.append([self.net_[0].training, self.net_[0].classifier[2].training, self.net_[1].training])

    monkeypatch.setattr(FineTunedNet, "_begin_epoch", note)
    monkeypatch.setattr(fine_tuned.FineTunedNet, "_train", lambda self, *parts: self._begin_epoch(1, optimizer))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    monkeypatch.setattr(
        "plankton_embed.network.trunks.build_empty_trunk", lambda name: (TinyTrunk(nn.Dropout(0.5)), 27)
    )
    tuned(head_epochs=1).fit(*shapes)
    tuned(head_epochs=0).fit(*shapes)
    assert modes == [[False, False, True], [True, True, True]]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)  # of the second net


class TinyTrunk(nn.Module):
    """Nine pixels of every channel, for tests of what surrounds a trunk."""

    def __init__(self, last=None):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(27, 27), last or nn.ReLU())

    def forward(self, pixels):
        return self.classifier(self.pool(pixels))


def test_rates_by_hand(shapes):
    net = tuned(trunk=SMALL, epochs=5, head_epochs=2, learning_rate=0.02, body_share=0.25, watch=None, patience=None)
    np.testing.assert_allclose(net.fit(*shapes).history_["learning_rate"], [0.02, 0.02, 0.005, 0.005, 0.005])
    net.set_params(epochs=2, head_epochs=0)
    np.testing.assert_allclose(net.fit(*shapes).history_["learning_rate"], [0.005, 0.005])


def test_the_plateau_lowers_the_rate_further(shapes, monkeypatch):
    monkeypatch.setattr(net_classifier, "measure", lambda *_: dict.fromkeys(net_classifier.FIGURES, 0.5))
    plateau = {"plateau_factor": 0.5, "plateau_patience": 2, "patience": None, "learning_rate": 0.02}
    net = tuned(trunk=SMALL, epochs=5, head_epochs=1, **plateau).fit(*shapes)
    np.testing.assert_allclose(net.history_["learning_rate"], [0.02, 0.002, 0.002, 0.001, 0.001])


def test_the_best_epoch_by_validation_loss_is_kept_and_three_worse_ones_end_it(shapes, monkeypatch):
    losses, states = [0.9, 0.8, 0.5, 0.6, 0.7, 0.55, 0.1], []

    def script(self, pixels):
        states.append(trunk_of(self))
        return torch.zeros(len(pixels), 4)

    def figures(logits, codes):
        return dict.fromkeys(net_classifier.FIGURES, 0.5) | ({} if logits.any() else {"loss": losses[len(states) - 1]})

    monkeypatch.setattr(FineTunedNet, "_logits", script)
    monkeypatch.setattr(net_classifier, "measure", figures)
    net = tuned(trunk=SMALL, epochs=13).fit(*shapes, shapes)
    assert net.history_["val_loss"].tolist() == losses[:6]
    assert net.history_["epoch"][net.history_["kept"]].tolist() == [3]
    assert same(trunk_of(net), states[2])
    assert not same(states[5], states[2])


def test_the_defaults_are_those_of_system_c():
    net = FineTunedNet()
    found = (net.trunk, net.weights, net.head_epochs, net.epochs, net.body_share, net.watch, net.patience, net._turns)
    assert found == ("resnet18", "imagenet", 1, 13, 0.1, "loss", 3, True)
    assert not FineTunedNet(frozen=True)._turns


def test_it_learns_four_shapes(draw_shapes):
    images, labels = draw_shapes(100, 32)
    net = tuned(**SCRATCH, epochs=10, patience=None, batch_size=12, turn=False).fit(
        images[:60], labels[:60], (images[60:], labels[60:])
    )
    assert net.score(images[60:], labels[60:]) > 0.8


def test_it_sees_what_an_embedding_net_sees(shapes):
    """The same trunk and head give the same features and logits for grey and colour."""
    images = shapes[0]
    for pixels in (images, np.stack([images, images // 2, 255 - images], axis=3)):
        net = tuned(trunk=SMALL, epochs=1, head_epochs=1).fit(pixels, shapes[1])
        trunk, head = net.net_
        reference = EmbeddingNet(trunk, head.in_features, NetworkSettings(trunk=SMALL, dimension=4)).eval()
        seen = torch.from_numpy(pixels).float()
        seen = seen[:, None] if seen.ndim == 3 else seen.permute(0, 3, 1, 2)
        with torch.inference_mode():
            reference.head.weight.copy_(head.weight)
            reference.head.bias.copy_(head.bias)
            wanted = reference(seen)
        found = nn.functional.normalize(net._logits(pixels), dim=1)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_other_nets_take_imagenets_scale_too(draw_shapes):
    images, labels = draw_shapes(24, 32)
    net = LeNet(epochs=1, scaling="imagenet", device="cpu").fit(images, labels)
    assert net.net_[0].in_channels == 3
    assert net._to_inputs(images)[0, 2, 5, 7] == pytest.approx((images[0, 5, 7] / 255 - 0.406) / 0.225, abs=1e-5)


def test_parameters_and_the_layer_table(shapes):
    net = tuned(epochs=1).fit(*shapes)
    whole = sum(p.numel() for p in torchvision.models.resnet18(num_classes=4).parameters())
    assert net.n_parameters_ == whole == net.layers_["parameters"].sum()
    table = net.layers_.set_index("name")
    parts = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    assert table.index.tolist() == [*(f"trunk.{part}" for part in parts), "head"]
    assert table.loc["trunk.conv1"].tolist() == ["Conv2d", "64×16×16", 64 * 3 * 49]
    assert table.loc["trunk.layer4", "output_shape"] == "512×1×1"
    assert table.loc["head"].tolist() == ["Linear", "4", 4 * 513]
    frozen = tuned(frozen=True, epochs=1).fit(*shapes)
    assert frozen.n_parameters_ == 4 * 513
    assert frozen.layers_["parameters"].tolist() == [0] * 9 + [4 * 513]
    assert frozen.layers_["output_shape"].tolist() == net.layers_["output_shape"].tolist()


def test_the_table_counts_what_stands_in_no_part():
    images = np.random.default_rng(0).integers(0, 256, (4, 224, 224), dtype=np.uint8)
    net = tuned(trunk="vit_b_32")
    net.classes_, net.image_shape_ = np.array(["a", "b"]), (224, 224)
    net.mean_, net.scale_ = net._find_scale(images)
    net._build(torch.device("cpu"), empty=True)
    assert net.layers_["name"].tolist()[0] == "trunk"
    assert net.layers_["parameters"][0] == 768  # the class token
    assert net.n_parameters_ == sum(parameter.numel() for parameter in net.net_.parameters())


# --- frozen


def count_forwards(monkeypatch, trunk):
    """Return a list that grows by the size of each batch of images that any trunk of that class sees."""
    kind, sizes = type(build_empty_trunk(trunk)[0]), []
    forward = kind.forward

    def note(self, pixels):
        sizes.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(kind, "forward", note)
    return sizes


def test_a_frozen_trunk_sees_every_image_once(draw_shapes, monkeypatch):
    images, labels = draw_shapes(240, 32)
    sizes = count_forwards(monkeypatch, "resnet18")
    net = tuned(frozen=True, epochs=5, patience=None).fit(images[:200], labels[:200], (images[200:], labels[200:]))
    assert len(net.history_) == 5
    assert sizes == [1, 40, 64, 64, 64, 8]  # the layer table; the validation images; the training images


def test_a_frozen_trunk_stays_and_its_head_learns_from_its_features(shapes, started):
    net = tuned(frozen=True, epochs=30, learning_rate=0.01, watch=None, patience=None).fit(*shapes)
    assert same(trunk_of(net), started[0])
    assert not any(parameter.requires_grad for parameter in net.net_[0].parameters())
    assert net.history_["loss"].iloc[-1] < 0.5 * net.history_["loss"].iloc[0]
    with torch.inference_mode():
        features = net.net_[0].eval()(net._to_inputs(shapes[0]))
        wanted = torch.softmax(net.net_[1](features).double(), dim=1)
    np.testing.assert_allclose(net.predict_proba(shapes[0]), wanted, atol=1e-6)


def test_frozen_is_what_only_a_learning_head_gives(shapes):
    """Without turned views, a frozen trunk and one that always waits for its head end with the same head."""
    settings = {"trunk": SMALL, "turn": False, "epochs": 4, "watch": None, "patience": None}
    slow = tuned(**settings, head_epochs=4).fit(*shapes)
    frozen = tuned(**settings, frozen=True).fit(*shapes)
    torch.testing.assert_close(frozen.net_[1].weight, slow.net_[1].weight, rtol=0, atol=1e-5)
    np.testing.assert_allclose(frozen.history_["loss"], slow.history_["loss"], atol=1e-5)
    assert (slow.net_[1].weight != tuned(**settings, frozen=True, seed=1).fit(*shapes).net_[1].weight).any()


def test_validation_chooses_the_epoch_of_a_frozen_net(shapes):
    net = tuned(trunk=SMALL, frozen=True, epochs=8, learning_rate=0.05).fit(*shapes, shapes)
    kept = net.history_[net.history_["kept"]].iloc[0]
    assert kept["val_loss"] == net.history_["val_loss"].min()
    probabilities = net.predict_proba(shapes[0])[np.arange(40), np.searchsorted(net.classes_, shapes[1])]
    assert -np.log(probabilities).mean() == pytest.approx(kept["val_loss"], abs=1e-5)


def test_a_short_precision_moves_a_frozen_net_little(shapes):
    settings = {"frozen": True, "epochs": 3, "watch": None, "patience": None}
    short, full = (tuned(**settings, precision=precision).fit(*shapes) for precision in ("bfloat16", "float32"))
    assert short.net_[1].weight.dtype == torch.float32
    np.testing.assert_allclose(short.predict_proba(shapes[0]), full.predict_proba(shapes[0]), atol=0.05)
    assert (short.net_[1].weight != full.net_[1].weight).any()


def test_classes_are_spread_over_the_order():
    codes = np.array([0] * 80 + [1] * 16 + [2] * 3 + [3])
    rows = spread_classes(codes, 0)
    assert sorted(rows) == list(range(100))
    assert sorted(codes[rows[:4]]) == [0, 1, 2, 3]
    assert np.bincount(codes[rows[:52]])[:2].tolist() == pytest.approx([41, 8], abs=2)


def test_the_seconds_count_the_features_and_leave_time_for_the_head(draw_shapes, monkeypatch, caplog):
    images, labels = draw_shapes(400, 32)
    forward = torchvision.models.MobileNetV3.forward

    now = 0.0

    def pass_time(seconds):
        nonlocal now
        now += seconds
        return now

    def slowly(self, pixels):
        pass_time(0.2)
        return forward(self, pixels)

    monkeypatch.setattr(torchvision.models.MobileNetV3, "forward", slowly)
    for module in (fine_tuned, net_classifier):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: pass_time(0.001)))
    with caplog.at_level(logging.WARNING):
        net = tuned(trunk=SMALL, frozen=True, epochs=10_000, seconds=1.0, patience=None).fit(images, labels)
    # 40 validation images in one block of 64, then four blocks until 0.9 s have passed, then a step of the head
    assert "has time for 256 of 360 training images in 1.0 s" in caplog.messages[0]
    assert len(net.history_) == 1
    assert net.history_["seconds"][0] == pytest.approx(1.0, abs=0.01)  # with the features
    assert len(net.classes_) == 4

    caplog.clear()
    now = 0.0
    few = slice(0, 100)
    with caplog.at_level(logging.WARNING):
        tuned(trunk=SMALL, frozen=True, epochs=10_000, seconds=1.0, patience=None).fit(
            images[few], labels[few], validation=(images, labels)
        )
    # many validation images keep to the time as well: four blocks until 0.72 s have passed, then one of training images
    assert "has time for 256 of 400 validation images in 1.0 s" in caplog.messages[0]
    assert "has time for 64 of 100 training images in 1.0 s" in caplog.messages[1]
    assert now == pytest.approx(1.2, abs=0.01)  # with 0.2 s before training


# --- weights in and out


def test_weights_of_a_file_are_really_those(tmp_path, shapes, started):
    generator = torch.Generator().manual_seed(3)
    weights = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    weights = {
        name: 0.1 * torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    torch.save(weights, tmp_path / "mobile.pth")
    net = tuned(trunk=SMALL, weights=tmp_path / "mobile.pth", head_epochs=2).fit(*shapes)
    for state in (started[0], trunk_of(net)):
        assert all(torch.equal(value, weights[name]) for name, value in state.items())
    assert net.net_[1].weight.shape == (4, 1024)


def test_weights_come_from_an_embedding_model_and_a_run(tmp_path, shapes, started):
    model = EmbeddingModel.build(NetworkSettings(trunk=SMALL, dimension=8), PreparationSettings(), seed=1)
    model.save(tmp_path / "model")
    for place in (tmp_path, tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        tuned(trunk=SMALL, weights=str(place), epochs=1).fit(*shapes)
        assert same(started.pop(), model.net.trunk.state_dict())


def test_a_net_of_other_classes_is_the_trunk_of_a_new_one(tmp_path, shapes, started):
    images, labels = shapes
    old = np.isin(labels, ["disc", "ring"])
    first = tuned(trunk=SMALL, **SCRATCH).fit(images[old], labels[old])
    folder = first.save(tmp_path / "first")
    for place in (folder, folder / "weights.safetensors"):
        second = tuned(trunk=SMALL, weights=str(place), frozen=True).fit(images[~old], labels[~old])
        assert same(started[-1], trunk_of(first))
        assert not same(started[-1], started[0])
        assert second.classes_.tolist() == ["bar", "cross"]


def test_weights_of_another_net_are_refused(tmp_path, shapes):
    folder = tuned(trunk=SMALL, epochs=1).fit(*shapes).save(tmp_path / "net")
    with pytest.raises(InputError, match=r"net: does not fit the trunk .*missing"):
        tuned(weights=folder).fit(*shapes)
    lenet = LeNet(epochs=1, device="cpu").fit(*shapes).save(tmp_path / "lenet")
    with pytest.raises(InputError, match=r"lenet: does not fit the trunk"):
        tuned(weights=lenet).fit(*shapes)
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        tuned(weights="nowhere.pt").fit(*shapes)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_saved_net_loads_alone(tmp_path, shapes, monkeypatch, frozen):
    """Without the file it started from, and without ImageNet's weights."""
    source = tmp_path / "start.safetensors"
    safetensors.torch.save_file(build_empty_trunk(SMALL)[0].state_dict(), source)
    net = tuned(trunk=SMALL, weights=source, frozen=frozen).fit(*shapes)
    source.unlink()
    folders = {"file": net.save(tmp_path / "file")}
    folders["imagenet"] = net.set_params(weights="imagenet").save(tmp_path / "imagenet")
    fetched = []
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **options: fetched.append(args))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **options: fetched.append(args))
    for weights, folder in folders.items():
        again = FineTunedNet.load(folder, device="cpu")
        assert str(again.weights) == (str(source) if weights == "file" else "imagenet")
        np.testing.assert_array_equal(again.predict_proba(shapes[0]), net.predict_proba(shapes[0]))
        pd.testing.assert_frame_equal(again.layers_, net.layers_)
        pd.testing.assert_frame_equal(again.history_, net.history_)
        assert again.n_parameters_ == net.n_parameters_
    assert not fetched


def test_clone_pickle_and_seed(shapes):
    net = tuned(trunk=SMALL, frozen=True, epochs=1).fit(*shapes)
    fresh = clone(net)
    assert not hasattr(fresh, "net_")
    assert fresh.get_params() == net.get_params()
    assert fresh.turn is None
    probabilities = net.predict_proba(shapes[0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict_proba(shapes[0]), probabilities)
    np.testing.assert_array_equal(fresh.fit(*shapes).predict_proba(shapes[0]), probabilities)
    other = clone(net).set_params(seed=1).fit(*shapes).predict_proba(shapes[0])
    assert (other != probabilities).any()


# --- faults


def test_images_too_small_for_the_trunk_are_named(draw_shapes):
    images, labels = draw_shapes(8, 64)
    with pytest.raises(InputError, match=r"64×64 pixels do not fit the trunk inception_v3; read them in a larger size"):
        tuned(trunk="inception_v3").fit(images, labels)


def test_a_trunk_of_one_size_says_so(draw_shapes):
    images, labels = draw_shapes(8, 64)
    with pytest.raises(InputError, match=r"do not fit the trunk vit_b_32.*Expected 224"):
        tuned(trunk="vit_b_32").fit(images, labels)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"trunk": "resnet19"}, "'resnet19' is not a torchvision model"),
        ({"trunk": "squeezenet1_1"}, "squeezenet1_1 does not end in a linear layer"),
        ({"head_epochs": -1}, "head_epochs"),
        ({"body_share": 0}, "body_share"),
        ({"body_share": 1.5}, "body_share"),
        ({"frozen": True, "turn": True}, "turn"),
        ({"frozen": True, "grow_rare": True}, "grow_rare"),
        ({"frozen": True, "head_epochs": 3}, "head_epochs"),
        ({"frozen": True, "body_share": 0.5}, "body_share"),
        ({"scaling": "standard"}, "scaling.*imagenet"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_wrong_settings_are_named(settings, named, shapes):
    with pytest.raises(SettingError, match=named):
        tuned(**settings).fit(*shapes)


def test_other_scales_are_for_colour(shapes):
    images = np.repeat(shapes[0][..., None], 3, axis=3)
    net = tuned(trunk=SMALL, scaling="standard", epochs=1).fit(images, shapes[1])
    assert float(net._to_inputs(images).mean()) == pytest.approx(0, abs=0.05)
