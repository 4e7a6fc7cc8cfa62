"""A process that is killed at any moment, again and again, loses nothing but time."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

from plankton_embed.images.drawn import draw_set
from plankton_embed.run_folder import RunFolder
from plankton_embed.training.history import History

N_KILLS = 20
EARLY = (3, 9, 15)  # these while the process starts; the others while it trains
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.store import prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.trainer import Validation, train_model

settings = Settings.build(overrides={
    "preparation.target_size": 75, "network.trunk": "resnet18", "network.dimension": 8, "network.dropout": 0.2,
    "training.objective": "scheduled", "training.epochs": 16, "training.images_per_class": 18,
    "training.learning_rate": 1e-3,
    "training.classes_per_batch": 3, "training.batch_images_per_class": 2, "training.precision": "float32",
    "training.checkpoint_minutes": 0.01,
})
catalog = read_source(sys.argv[1])
images = prepare_images(catalog.paths, catalog.paths, settings.preparation, progress=False)
classes, class_index = np.unique(np.array(catalog.labels, dtype=str), return_inverse=True)
model = EmbeddingModel.build(settings.network, settings.preparation, settings.seed).to("cpu")

def validate(model):
    return Validation(model.embed_prepared(images), class_index, 0.5, 0.5)

print("training", flush=True)
train_model(model, images, class_index, settings, RunFolder(Path(sys.argv[2])), validate=validate, progress=False)
print("trained", flush=True)
model.save(sys.argv[2] + "/model")
"""


def start(source, folder):
    """Start the training in a process, or go on with it."""
    command = [sys.executable, "-c", SCRIPT, str(source), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finish(process):
    """Let a process end; return the seconds it took to train."""
    assert process.stdout.readline() == "training\n"
    began = time.monotonic()
    assert process.stdout.readline() == "trained\n"
    seconds = time.monotonic() - began
    process.communicate()
    assert process.returncode == 0
    return seconds


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_in_the_weights_of_one_that_was_left_alone(tmp_path):
    source = draw_set(tmp_path / "images", n_per_class=6, classes=("copepod", "fish_egg", "medusa"))
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    seconds = finish(start(source, whole.path))

    # all the delays together are about half of the training, so that it cannot end before the last
    chance, n_with_state, places = random.Random(0), 0, set()
    for number in range(N_KILLS):
        process = start(source, killed.path)
        if number not in EARLY:
            assert process.stdout.readline() == "training\n"
        time.sleep(chance.uniform(0, 1.4 * seconds / N_KILLS))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        states = sorted(killed.checkpoints.glob("state-*.pt"))
        n_with_state += bool(states)
        for path in states:
            places.add((path.name, len(torch.load(path, weights_only=True)["history"])))
    assert n_with_state >= 10
    assert len(places) >= 4  # it came forward between the kills
    finish(start(source, killed.path))

    first, second = (safetensors.torch.load_file(run.model / "model.safetensors") for run in (whole, killed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    frames = [History.load(run.history).frame.drop(columns=["images_per_second", "seconds"]) for run in (whole, killed)]
    assert frames[0].equals(frames[1])
    assert not list(killed.checkpoints.glob(".*"))  # nor is a half-written file left
