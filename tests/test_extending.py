"""The examples of docs/extending.md work as described there."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import plankton_embed as pe
from plankton_embed.errors import SettingError
from plankton_embed.images import readers
from plankton_embed.images.drawn import draw_set
from plankton_embed.images.readers import source

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
READER, LOSS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_a_reader_is_one_file_and_one_name(tmp_path, monkeypatch):
    module = types.ModuleType("plankton_embed.images.readers.scenes")
    exec(READER, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for module_with_readers in (readers, source):
        monkeypatch.setattr(module_with_readers, "READERS", (*readers.READERS, "scenes"))
    for name in ("A1", "A2", "B1"):
        Image.fromarray(np.full((8, 9), 200, np.uint8)).save(tmp_path / f"{name}.png")
    rows = {"file": ["A1.png", "A2.png", "B1.png"], "taxon": ["copepod", "medusa", "copepod"]}
    pd.DataFrame(rows).to_csv(tmp_path / "scenes.csv", index=False)
    assert source.read_source(tmp_path).labels == ["copepod", "medusa", "copepod"]
    assert source.read_source(tmp_path, prefix="A").labels == ["copepod", "medusa"]
    with pytest.raises(SettingError, match="prefix: it applies to the format scenes"):
        source.read_source(tmp_path, source_format="folder", prefix="A")


def test_training_with_a_loss_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_set("images", n_per_class=10, classes=("copepod", "medusa", "fish_egg"), progress=False)
    settings = {"preparation.target_size": 32, "network.trunk": "shufflenet_v2_x0_5", "network.dimension": 16,
                "training.epochs": 2, "training.images_per_class": 16, "training.classes_per_batch": 2,
                "training.batch_images_per_class": 2}  # fmt: skip
    calls, train = [], pe.train

    def spy(images, output, objective):
        original = objective.forward
        objective.forward = lambda *given: calls.append(len(given[1])) or original(*given)
        return train(images, output, settings=settings, objective=objective, progress=False)

    monkeypatch.setattr(pe, "train", spy)
    exec(LOSS, {})
    assert len(calls) >= 20 and set(calls) == {4}
    assert Path("runs/spread/scores.json").is_file()
