"""What a reader should not trust: each warning where it holds, and none where it does not."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.page.doubts import find_doubts
from plankton_embed.page.images import gather_images
from plankton_embed.page.run_facts import RunFacts
from plankton_embed.table import EmbeddingTable


def make_images(n_train=30, n_test=15, samples=(None, None), missing=()):
    """Return images of two classes, far from each other, in train and test."""
    parts = {}
    for split, n, sample in (("train", n_train, samples[0]), ("test", n_test, samples[1])):
        labels = np.array([name for name in ("a", "b") for _ in range(n) if (split, name) not in missing], dtype=object)
        vectors = np.where((labels == "a")[:, None], [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
        ids = [f"{split}{number}" for number in range(len(labels))]
        parts[split] = EmbeddingTable(vectors, ids, labels, sample_id=[sample] * len(labels))
    return gather_images(parts)


def make_facts(*, changed=(), **others):
    of_class = [{"label": name, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 15} for name in ("a", "b")]
    method = {
        "n_images": 300, "accuracy": 0.9, "balanced_accuracy": 0.9, "intervals_95": {"accuracy": [0.87, 0.93]},
        "per_class": of_class, "calibration": {"ece": 0.02}, **dict(changed),
    }  # fmt: skip
    scores = {"split": "test", "n_images": 300, "n_train": 60, "n_seen": 0, "centroid": method, "knn": method}
    return RunFacts(**{"scores": scores, **others})


def texts(images, facts):
    return [doubt["text"] for doubt in find_doubts(images, facts)]


ALWAYS = "Images of train are nearer"


def test_a_good_run_has_one_warning():
    assert [text[: len(ALWAYS)] for text in texts(make_images(), make_facts())] == [ALWAYS]


@pytest.mark.parametrize(
    ("images", "facts", "expected"),
    [
        ({}, {"scores": {}}, "no scores: scores.json is missing, though 30 images outside train have labels"),
        ({"n_test": 0}, {"scores": {}}, "no scores: no labelled images outside train."),
        ({"n_train": 0}, {}, "There are no vectors of train. Guesses of labelled images"),
        ({}, {"changed": {"intervals_95": None, "no_intervals": "9 images"}}, "no intervals: 9 images"),
        ({}, {"changed": {"intervals_95": {"accuracy": [0.7, 0.95]}}}, "may be 0.70 or 0.95"),
        ({}, {"changed": {"calibration": {"ece": 0.2}}}, "differ from the share of right predictions by 0.20"),
        ({}, {"changed": {"balanced_accuracy": 0.6}}, "Balanced accuracy is 0.30 lower"),
        ({"samples": ("s1", "s1")}, {}, "1 of the 1 samples with scored images have images in train"),
        ({"n_train": 5}, {}, "2 classes with fewer than 20 training images: a (5), b (5)"),
        ({"missing": [("train", "b")]}, {}, "1 class without a training image, so never predicted: b"),
        ({}, {"n_lost": 3}, "3 images, rows or files"),
    ],
)
def test_a_warning_is_there_where_it_holds(images, facts, expected):
    assert sum(expected in text for text in texts(make_images(**images), make_facts(**facts))) == 1


def test_scores_without_calibration_of_val_or_of_training_images():
    facts = make_facts()
    method = {name: value for name, value in facts.scores["knn"].items() if name != "calibration"}
    found = texts(make_images(), RunFacts(scores={"split": "val", "n_images": 300, "n_seen": 12, "knn": method}))
    facts.scores["n_seen"] = None
    assert sum("It is not known which images" in text for text in texts(make_images(), facts)) == 1
    for expected in ("those of val", "12 of the 300 scored images were training images", "No calibration set"):
        assert sum(expected in text for text in found) == 1


def test_classes_scored_on_few_images_and_never_predicted_right():
    images = make_images()
    of_class = [{"label": "a", "recall": 0.0, "support": 15}, {"label": "b", "recall": 1.0, "support": 4}]
    doubts = find_doubts(images, make_facts(changed={"per_class": of_class}))
    few, never = doubts[-2:]
    assert few["text"] == "1 class scored on fewer than 10 images: b (4)."
    assert never["text"] == "1 class of which kNN predicted no image right: a (15)."
    assert never["rows"].tolist() == np.flatnonzero((images.split == "test") & (images.table.label == "a")).tolist()


def test_copies_are_rows_of_the_page():
    images = make_images()
    copies = pd.DataFrame({"object_id": ["test0", "test1"], "copy_object_id": ["train4", "gone"]})
    doubts = find_doubts(images, make_facts(near_copies=copies, contradictions=["train7"]))
    assert "2 images of val and test with a near-copy" in doubts[-2]["text"]
    assert images.table.object_id[doubts[-2]["rows"]].tolist() == ["test0", "train4", "test1"]
    assert images.table.object_id[doubts[-1]["rows"]].tolist() == ["train7"]


def test_a_file_of_vectors(small_tables):
    with_labels = texts(gather_images({"": small_tables["test"]}), None)
    assert "vectors of a file" in with_labels[0] and "12 of 24 images without a label" in with_labels[-1]
    without = small_tables["test"].select(~small_tables["test"].is_labelled)
    assert texts(gather_images({"": without}), None) == ["No image has a label: there are no guesses."]


def test_a_long_list_of_classes_is_cut():
    labels = [f"class {number:02d}" for number in range(12)]
    images = gather_images({"": EmbeddingTable(np.eye(12, dtype=np.float32), label=labels)})
    few = next(text for text in texts(images, None) if "fewer than" in text)
    assert few.startswith("12 classes with fewer than 20 labelled images: class 00 (1)") and few.endswith("(1), ….")
