"""What a comparison measures of a classifier: scores by hand, peak memory, features."""

import inspect
import json
import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from plankton_embed.errors import DependencyError, InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.settings import Settings
from plankton_embed.workflows import compare_trial
from plankton_embed.workflows.compare_trial import Outcome, Trial, TrialImages, load_features, measure_peak_memory

CLASSES = np.array(["ant", "bee", "cat"])


@pytest.fixture
def dataset(tmp_path):
    """Five images; the class `dog` is not in the training set."""
    for number in range(5):
        Image.new("L", (8, 6), 40 * number).save(tmp_path / f"{number}.png")
    rows = {
        "path": [f"{number}.png" for number in range(5)],
        "label": ["ant", "ant", "bee", "bee", "dog"],
        "split": ["train", "val", "test", "test", "test"],
    }
    return ImageCatalog.from_rows(rows, root=tmp_path)


@pytest.fixture
def images(dataset):
    """The five as test images, and two of them for validation."""
    val = dataset.frame.iloc[:2].assign(split="val", object_id=["val 0", "val 1"])
    return TrialImages(
        ImageCatalog(pd.concat([dataset.frame.assign(split="test"), val], ignore_index=True)), Settings()
    )


TO_CORRECT = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]])  # ant and ant
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],  # ant: right
        [0.2, 0.5, 0.3],  # ant: named bee
        [0.3, 0.6, 0.1],  # bee: right
        [0.1, 0.2, 0.7],  # bee: named cat
        [0.6, 0.3, 0.1],  # dog: named ant
    ]
)


def test_scores_by_hand_and_after_scikit_learn(dataset, images, tmp_path):
    outcome = Outcome("net", CLASSES, PROBABILITIES, TO_CORRECT, learning=90.0, predicting=0.5, size=2_500_000)
    row = outcome.measure(images, tmp_path / "out")
    # ant: 1 right of 2 true and 2 named; bee: 1 of 2 and 2; cat: 0 of 0 and 1; dog: 0 of 1 and 0
    assert row["accuracy"] == 2 / 5
    assert row["f1_macro"] == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)
    assert row["precision_macro"] == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)
    assert row["recall_macro"] == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)
    assert row["balanced_accuracy"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)  # of classes with images
    assert row["loss"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.2]).mean())  # dog has no chance to be named
    assert (row["worst_class"], row["worst_class_f1"]) == ("dog", 0)  # cat has no image
    assert (row["training_minutes"], row["images_per_second"], row["size_mb"]) == (1.5, 10, 2.5)
    truth, names = dataset.labels, CLASSES[PROBABILITIES.argmax(axis=1)]
    for name, score in {"precision": precision_score, "recall": recall_score, "f1": f1_score}.items():
        assert row[f"{name}_macro"] == pytest.approx(score(truth, names, average="macro", zero_division=0))
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, names))

    written = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert written["label"].tolist() == ["ant", "bee", "bee", "cat", "ant"]
    assert written["true_label"].tolist() == truth and written["probability"].tolist() == [0.8, 0.5, 0.6, 0.7, 0.6]
    classes = pd.read_csv(tmp_path / "out" / "per_class.csv").set_index("label")
    assert classes["support"].to_dict() == {"ant": 2, "bee": 2, "cat": 0, "dog": 1}
    losses = pd.read_csv(tmp_path / "out" / "highest_losses.csv")
    assert losses["object_id"].tolist() == ["val 1", "val 0"]  # no test image
    np.testing.assert_allclose(losses["loss"], -np.log([0.2, 0.8]))
    for name in ("confusion.png", "highest_losses.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 100


def test_a_chance_of_zero_costs_much_but_not_everything(images, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_trial, "save_figure", lambda *_: None)
    sure = np.eye(3)[[1, 0, 1, 1, 1]]
    row = Outcome("net", CLASSES, sure, TO_CORRECT, 1.0, 1.0, 1).measure(images, tmp_path / "out")
    assert row["loss"] == pytest.approx(-np.log(compare_trial.LEAST_PROBABILITY) / 4)


def test_no_image_of_a_training_class_is_an_error(dataset, tmp_path):
    dogs = TrialImages(ImageCatalog(dataset.frame.iloc[[4]]), Settings())
    with pytest.raises(InputError, match="none of the 1 test images belongs to one of the 3 classes of training"):
        Outcome("net", CLASSES, PROBABILITIES[4:], TO_CORRECT, 1.0, 1.0, 1).measure(dogs, tmp_path / "out")


# --- memory


def measure_in_a_process_of_its_own(words):
    source = inspect.getsource(measure_peak_memory)
    words = f"import re, sys\nfrom pathlib import Path\n{source}\n{words}"
    reported = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    return [float(number) for number in reported.split()]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc reports memory on Linux only")


@linux
def test_peak_memory_grows_with_what_is_allocated_and_stays():
    block = "block = bytearray(b'1') * 200_000_000"
    before, grown, after = measure_in_a_process_of_its_own(
        f"print(measure_peak_memory())\n{block}\nprint(measure_peak_memory())\ndel block\nprint(measure_peak_memory())"
    )
    assert grown - before == pytest.approx(200, abs=20)
    assert after == pytest.approx(grown, abs=1)


@linux
def test_peak_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    block = np.ones(300_000_000, dtype=np.uint8)
    (peak,) = measure_in_a_process_of_its_own("print(measure_peak_memory())")
    assert 1 < peak < 100 < len(block) / 1e6


# --- features and squares


@pytest.fixture
def trial(tmp_path):
    return Trial(tmp_path, "boosted_trees", 0, "cpu", progress=False)


def test_the_features_of_the_catalog_are_taken(dataset, trial):
    frame = dataset.frame.assign(feature_area=[1.0, 2, 3, 4, np.nan], feature_seconds=[5.0, 6, 7, 8, 9])
    features, seconds = load_features(trial, TrialImages(ImageCatalog(frame), Settings()))
    assert seconds == 0  # nothing was measured, though a feature is called so
    assert features["train"].to_dict("list") == {"area": [1], "seconds": [5]}
    assert features["val"].to_dict("list") == {"area": [2], "seconds": [6]}
    np.testing.assert_array_equal(features["test"], [[3, 7], [4, 8], [np.nan, 9]])


def test_features_are_measured_once_and_shared(dataset, trial, monkeypatch):
    calls = []

    def measure(catalog, progress, white_level, remove_marks):
        calls.append(len(catalog))
        return pd.DataFrame({"area": np.arange(5) / 3, "mean": [1.0, np.nan, 3, 4, 5]})

    monkeypatch.setattr(compare_trial, "measure_shapes", measure)
    images = TrialImages(dataset, Settings())
    first, seconds = load_features(trial, images)
    other, again = load_features(Trial(trial.folder, "embedding", 1), images)
    assert calls == [5] and seconds == again > 0
    for name in ("train", "val", "test"):
        pd.testing.assert_frame_equal(first[name], other[name])
        assert list(first[name]) == ["area", "mean"]
    np.testing.assert_array_equal(first["test"]["area"], np.arange(2, 5) / 3)  # to the last bit


def test_a_missing_scikit_image_is_reported_and_leaves_nothing(dataset, trial, monkeypatch):
    def refuse(*_, **__):
        raise DependencyError("scikit-image is missing")

    monkeypatch.setattr(compare_trial, "measure_shapes", refuse)
    with pytest.raises(DependencyError, match="scikit-image"):
        load_features(trial, TrialImages(dataset, Settings()))
    assert list(trial.folder.glob("features*")) == []


def test_squares_are_those_of_their_split(dataset):
    images = TrialImages(dataset, Settings())
    squares = images.squares("test")
    pixels, _ = squares.batch(slice(None))
    assert [int(square.max()) for square in pixels] == [80, 120, 160]
    np.testing.assert_array_equal(images.labels("test"), ["bee", "bee", "dog"])


# --- as a process


def test_a_fault_is_left_for_the_comparison(dataset, tmp_path, monkeypatch):
    dataset.save(tmp_path / "catalog.csv")
    Settings().save(tmp_path / "settings.yaml")
    (tmp_path / "comparison.json").write_text(json.dumps({"budget": None, "weights": {}}))
    monkeypatch.setattr(sys, "argv", ["measurement", str(tmp_path), "pixel_mlp", "1", "cpu", "False"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(compare_trial.__file__, run_name="__main__")
    assert ended.value.code == 1
    assert "expected at least two classes" in (tmp_path / "systems" / "pixel_mlp" / "seed_1" / "fault.txt").read_text()
