"""The overview: counts, settings, scores and curves as the files of a run have them."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.page.document import build_document
from plankton_embed.page.overview import build_overview
from plankton_embed.page.run_facts import RunFacts


def make_scores(**changed):
    """Return the scores of one method, as in scores.json."""
    per_class = [{"label": name, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 50} for name in ("a", "b")]
    return {
        "n_images": 100, "accuracy": 0.9, "balanced_accuracy": 0.88, "f1_macro": 0.87, "f1_weighted": 0.9,
        "intervals_95": {name: [0.85, 0.93] for name in ("accuracy", "balanced_accuracy", "f1_macro")},
        "per_class": per_class, "calibration": {"ece": 0.02}, **changed,
    }  # fmt: skip


@pytest.fixture
def facts():
    scores = {"split": "test", "n_images": 100, "n_train": 400, "n_seen": 0, "knn": make_scores()}
    scores["centroid"] = make_scores(accuracy=0.8, intervals_95=None, no_intervals="few")
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [0.9, 0.5, 0.25], "knn_accuracy": [np.nan, 0.5, 0.7],
                            "score": np.nan})  # fmt: skip
    return RunFacts(
        settings={"seed": 0, "split.fractions": [0.7, 0.1, 0.2], "split.group_by": None, "embedding.views": 2},
        model={"network": {"trunk": "resnet18", "weights": "none", "frozen": True}, "training": {"n_images": 400}},
        scores=scores | {"retrieval": {"recall_at_1": 0.75, "map_at_r": 0.5}},
        history=history,
        by_rank=pd.DataFrame({"rank": ["family"], "accuracy": [0.95]}),
    )


def test_classes_are_counted_in_every_split(small_images):
    data = build_overview(small_images)["data"]
    assert data["classes"][0] == {"label": "copepod", "n": 12, "train": 8, "val": 1, "test": 3}
    assert dict(data["facts"]) == {"images": "60", "classes": "4", "train": "32", "val": "4", "test": "24",
                                   "without a label": "12", "samples": "3"}  # fmt: skip


def test_scores_are_those_of_the_run_with_their_intervals(small_images, facts):
    scores = build_overview(small_images, facts)["scores"]
    assert scores["of"] == "100 labelled images of test, predicted from 400 of train"
    by_centroid, by_knn = scores["methods"]
    assert (by_knn["accuracy"], by_knn["accuracy_low"], by_knn["accuracy_high"]) == (0.9, 0.85, 0.93)
    assert by_centroid["accuracy_low"] is None and by_centroid["ece"] == 0.02
    assert scores["retrieval"] == {"recall_at_1": 0.75, "map_at_r": 0.5}


def test_settings_model_and_curves(small_images, facts):
    overview = build_overview(small_images, facts)
    assert overview["settings"][:3] == [["seed", "0"], ["split.fractions", "0.7, 0.1, 0.2"], ["split.group_by", "none"]]
    model = dict(overview["model"])
    assert model["started from"] == "random weights" and model["trained"] == "the last layer only"
    assert overview["history"] == {
        "epoch": [1, 2, 3],
        "curves": [{"name": "loss", "values": [0.9, 0.5, 0.25]},
                   {"name": "accuracy by kNN, val", "values": [None, 0.5, 0.7]}],
    }  # fmt: skip


def test_a_file_of_vectors_has_data_only(small_images):
    overview = build_overview(small_images)
    assert overview["scores"] is None and overview["history"] is None and overview["settings"] == []


def test_the_page_shows_all_of_it(small_images, facts, open_page, tmp_path):
    text = build_document(small_images, {"overview": build_overview(small_images, facts)}, title="Run")
    (tmp_path / "run.html").write_text(text, encoding="utf-8")
    page = open_page(tmp_path / "run.html")
    shown = page.locator("main").inner_text()
    for words in ("0.900 (0.850–0.930)", "Retrieval: recall@1 0.750, MAP@R 0.500", "started from", "family", "0.95"):
        assert words in shown
    curves = page.locator(".curve svg")
    assert [curve.get_attribute("aria-label") for curve in curves.all()] == [
        "loss: from 0.9 to 0.25 in 3 epochs", "accuracy by kNN, val: from 0.5 to 0.7 in 3 epochs"
    ]  # fmt: skip
    points = page.locator(".curve").first.locator("circle")
    heights = [float(point.get_attribute("cy")) for point in points.all()]
    assert heights[0] < heights[1] < heights[2]  # the loss falls, so its points go down
    page.get_by_text("All settings").click()
    assert page.get_by_text("split.group_by").is_visible()
    page.get_by_role("button", name="copepod").click()
    assert page.get_by_role("dialog").locator(".tile").count() == 12


def test_a_doubt_opens_its_images(small_images, facts, open_page, tmp_path):
    pairs = pd.DataFrame({"object_id": [small_images.table.object_id[40]], "copy_object_id": ["copepod_0003"]})
    facts = RunFacts(scores=facts.scores, near_copies=pairs)
    text = build_document(small_images, {"overview": build_overview(small_images, facts)}, title="Run")
    (tmp_path / "run.html").write_text(text, encoding="utf-8")
    page = open_page(tmp_path / "run.html")
    page.get_by_role("button", name="Show 2 images").click()
    rows = [int(tile.get_attribute("data-row")) for tile in page.get_by_role("dialog").locator(".tile").all()]
    assert small_images.table.object_id[rows].tolist() == pairs.iloc[0].tolist()
