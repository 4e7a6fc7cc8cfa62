"""TensorBoard's log: the curves, the projector, and what is said where TensorBoard is not installed."""

import math
import sys
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from plankton_embed.errors import DependencyError
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.history import EpochRecord
from plankton_embed.training.tracking import MOST_POINTS, SPRITE_SIDE, Tracker
from plankton_embed.training.trainer import train_model


def read_scalars(folder):
    """Return {name: [(step, value), …]} as TensorBoard itself reads the log."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = event_accumulator.EventAccumulator(str(folder))
    log.Reload()
    return {name: [(event.step, event.value) for event in log.Scalars(name)] for name in log.Tags()["scalars"]}


def test_every_number_of_an_epoch_is_a_point_on_its_curve_but_nan(tmp_path):
    pytest.importorskip("tensorboard")
    records = [EpochRecord(e, loss=0.5 / e, active_share=0.1 * e, learning_rate=1e-3, n_empty_steps=e) for e in (1, 2)]
    with Tracker(tmp_path / "log") as tracker:
        for record in records:
            tracker.log_epoch(record)
    scalars = read_scalars(tmp_path / "log")
    known = {name for name, value in asdict(records[0]).items() if not math.isnan(value)} - {"epoch"}
    assert set(scalars) == known
    for name in known:
        wanted = [(record.epoch, pytest.approx(getattr(record, name))) for record in records]
        assert scalars[name] == wanted


def test_a_training_that_goes_on_goes_on_with_its_curves(images, tmp_path):
    pytest.importorskip("tensorboard")
    run = RunFolder(tmp_path)
    for n_epochs in (1, 2):
        settings = Settings.build(
            overrides={"preparation.target_size": 75, "network.trunk": "shufflenet_v2_x0_5", "network.dimension": 8,
                       "training.epochs": n_epochs, "training.images_per_class": 2, "training.precision": "float32",
                       "training.tensorboard": True},
        )  # fmt: skip
        model = EmbeddingModel.build(settings.network, settings.preparation).to("cpu")
        history = train_model(model, images, np.repeat([0, 1, 2], 6), settings, run, progress=False)
    curve = [(record.epoch, pytest.approx(record.loss)) for record in history.records]
    assert read_scalars(run.tensorboard)["loss"] == curve
    assert len(curve) == 2


@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_projector_gets_vectors_labels_and_thumbnails(tmp_path, n_channels):
    pytest.importorskip("tensorboard")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 4)).astype(np.float32)
    pixels = np.broadcast_to(np.array([0, 60, 120, 180, 240])[:, None, None, None], (5, 75, 75, n_channels))
    labels = ["copepod", "Méduse<Cnidaria", "fish egg", "copepod", "фиш"]
    with Tracker(tmp_path) as tracker:
        tracker.log_space(vectors, labels, pixels.astype(np.uint8))
    (config,) = tmp_path.rglob("projector_config.pbtxt")
    assert "space" in config.read_text()
    (table,) = tmp_path.rglob("tensors.tsv")
    assert np.loadtxt(table, delimiter="\t") == pytest.approx(vectors, abs=1e-5)
    (metadata,) = tmp_path.rglob("metadata.tsv")
    assert metadata.read_text(encoding="utf-8").splitlines() == labels
    (sprite,) = tmp_path.rglob("sprite.png")
    # three thumbnails a row
    shown = np.asarray(Image.open(sprite).convert("L"), dtype=int)
    assert shown.shape[1] == 3 * SPRITE_SIDE
    tiles = [shown[row * SPRITE_SIDE :, column * SPRITE_SIDE :][:SPRITE_SIDE, :SPRITE_SIDE] for row, column in
             ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))]  # fmt: skip
    assert [tile.mean() for tile in tiles] == pytest.approx([0, 60, 120, 180, 240], abs=1)


def test_the_sprite_stays_within_what_the_projector_takes():
    assert math.ceil(MOST_POINTS**0.5) * SPRITE_SIDE <= 8192


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(DependencyError, match=r"training\.tensorboard.*pip install 'plankton_embed\[track\]'"):
        Tracker(tmp_path / "log")
    assert not (tmp_path / "log").exists()
