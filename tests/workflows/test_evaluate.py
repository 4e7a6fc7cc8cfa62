"""`evaluate`: scores, tables and pictures, withheld classes, and intervals by sample."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import plankton_embed as pe
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.scoring import score_predictions
from plankton_embed.errors import InputError, SettingError
from plankton_embed.workflows.inputs import find_contradictions


def test_scoring_images_of_the_reference_is_said(finished, images, caplog):
    pe.evaluate(finished.folder.path, images, progress=False)
    assert "in the reference too" in caplog.text


def test_images_that_the_model_was_trained_on_are_counted(finished, images, tmp_path, caplog):
    vectors = pe.embed(finished.folder.path, images, progress=False)
    n_seen = len(finished.vectors["train"])
    assert set(vectors.object_id[vectors.columns["seen"]]) == set(finished.vectors["train"].object_id)
    path = vectors.save(tmp_path / "v.parquet")
    found = pe.evaluate(finished.folder.path, path, output=tmp_path / "e", progress=False)
    assert f"{n_seen} of the {len(vectors)} scored images were training images" in caplog.text
    assert found.n_seen == n_seen
    assert json.loads((tmp_path / "e" / "scores.json").read_text(encoding="utf-8"))["n_seen"] == n_seen
    assert pe.evaluate(finished.folder.path, finished.folder.path).n_seen == 0  # its test split
    others = finished.folder.vectors("val"), finished.folder.vectors("train")
    assert pe.evaluate(*others, progress=False).n_seen == n_seen


def test_evaluate_replaces_its_own_folder_whole(finished, tmp_path):
    pe.evaluate(finished.folder.path, finished.folder.path, "centroid", tmp_path / "e")
    assert (tmp_path / "e" / "centroid_distances.csv").exists()
    pe.evaluate(finished.folder.path, finished.folder.path, "knn", tmp_path / "e", overwrite=True)
    assert not (tmp_path / "e" / "centroid_distances.csv").exists()


def test_evaluate_without_labels_says_so(finished, images):
    unlabelled = pe.embed(finished.folder.path, sorted((images / "detritus").glob("*.png")), progress=False)
    with pytest.raises(InputError, match="no labels"):
        pe.evaluate(finished.folder.path, unlabelled)


METHODS = ["centroid", "knn", "mlp"]


def test_a_status_goes_with_images(reference, calibration, query, vector_files, tmp_path):
    for given in (query, vector_files["asked"]):
        with pytest.raises(SettingError, match="status: it is for images; the query is vectors"):
            pe.evaluate(reference, given, calibration=calibration, status="validated")
    unlabelled = replace(query, label=np.full(len(query), None, dtype=object))
    with pytest.raises(InputError, match=r"the query has no labels.* --status validated,predicted takes more"):
        pe.evaluate(reference, unlabelled, calibration=calibration)


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_leaves_its_tables_and_pictures(vector_files, method, tmp_path):
    found = pe.evaluate(
        vector_files["train"], vector_files["asked"], method, tmp_path / "out", calibration=vector_files["calibration"],
        unseen=["detritus"], progress=False,
    )  # fmt: skip
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {
        "scores.json", "predictions.csv", "per_class.csv", "confusion.csv", "reliability.csv", "reliability.png",
        "thresholds.csv", "counts.csv", "counts.png", "open_set_curve.csv", "open_set.png",
    }  # fmt: skip
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert scores["n_images"] == 300  # those of the three known classes
    assert 0 <= scores["calibration"]["ece"] <= 1
    assert scores["refusing"]["unknown_rate"] == 0.05
    assert scores["open_set"]["n_unseen"] == 100
    names = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert "detritus" not in set(names["best_label"])
    assert scores["open_set"]["auroc"] == pytest.approx(
        roc_auc_score(names["true_label"] == "detritus", names["novelty_score"])
    )
    reference = names[names["true_label"] != "detritus"]
    assert scores["accuracy"] == pytest.approx((reference["best_label"] == reference["true_label"]).mean())
    counts = pd.read_csv(tmp_path / "out" / "counts.csv").set_index("label")
    assert counts.loc["unknown", "kept"] == (names["label"] == "unknown").sum()
    assert counts.loc["detritus", "forced"] == 0
    if method == "mlp":
        assert (tmp_path / "out" / "head_curves.png").exists()
        head = MLPClassifier.load(tmp_path / "out" / "classifier")
        vectors = pe.EmbeddingTable.load(vector_files["asked"]).vectors
        np.testing.assert_array_equal(head.predict(vectors), names["best_label"])
    assert found.open_set.auroc > 0.6


def test_the_temperature_mends_the_probabilities(reference, calibration, query):
    found = pe.evaluate(reference, query, "centroid", calibration=calibration, progress=False)
    before, after = found.reliability
    assert after.ece < before.ece
    assert after.ece < 0.06


def test_without_a_calibration_set_scores_are_as_they_were(reference, query):
    found = pe.evaluate(reference, query, "knn", progress=False)
    assert found.reliability is None
    assert found.open_set is None
    assert not {"calibration", "refusing", "open_set"} & set(found.to_dict())
    with pytest.raises(InputError, match="needs a calibration set"):
        pe.evaluate(reference, query, unseen=["detritus"], progress=False)


def test_classes_to_withhold_must_be_there(reference, calibration, query):
    with pytest.raises(InputError, match=r"unseen: expected classes of the reference, .*; found \['whale'\]"):
        pe.evaluate(reference, query, calibration=calibration, unseen=["whale"], progress=False)


def test_withheld_classes_must_be_in_the_query(reference, calibration, query):
    without = query.select(query.label != "detritus")
    for one_kind in (without, query.select(query.label == "detritus")):
        with pytest.raises(
            InputError, match="expected images of these classes and of others in the query; found one kind"
        ):
            pe.evaluate(reference, one_kind, calibration=calibration, unseen=["detritus"], progress=False)


def test_labels_that_the_reference_lacks_are_scored_apart(reference, query, tmp_path, caplog):
    other = query.label.copy()
    other[other == "detritus"] = "Detritus (dead)"
    found = pe.evaluate(reference, replace(query, label=other), "knn", tmp_path / "out", progress=False)
    reported = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    missing = {"label": "Detritus (dead)", "n_images": 100, "share": 0.25, "nearest": "detritus"}
    assert reported["missing_classes"] == found.missing.to_dict("records") == [missing]
    right = (found.names["label"] == found.names["true_label"]).to_numpy()
    assert reported["accuracy"] == right.mean()
    shared = reported["shared_classes"]
    assert (shared["n_images"], shared["accuracy"]) == (300, right[other != "Detritus (dead)"].mean())
    assert set(shared["intervals_95"]) == set(reported["intervals_95"])
    assert "1 labels of the query (100 images, 25.0 %) are not among the 4 classes" in caplog.text
    assert reported["retrieval_of"] == "queries: a table, gallery: a table"
    whole = pe.evaluate(reference, query, "knn", progress=False).to_dict()
    assert whole["missing_classes"] == [] and "shared_classes" not in whole


def test_a_query_without_a_shared_class_has_no_score_over_them(reference, query):
    found = pe.evaluate(reference, replace(query, label=["whale"] * len(query)), progress=False).to_dict()
    assert found["shared_classes"] is None and found["missing_classes"][0]["share"] == 1


def test_withheld_classes_are_not_listed_as_missing(reference, calibration, query):
    found = pe.evaluate(reference, query, calibration=calibration, unseen=["detritus"], progress=False)
    assert found.missing.empty


def test_copies_with_two_labels_in_the_query_are_reported(caplog):
    reference = pe.EmbeddingTable([[0.0, 0], [1, 1]], label=["a", "b"])
    query = pe.EmbeddingTable([[0.0, 0.1], [0, 0.1], [1, 1], [2, 2]], label=["a", "b", "b", None])
    pe.evaluate(reference, query, progress=False)
    assert "2 of 3 images of the query have a copy (an equal vector) with another label, such as 0 (a)" in caplog.text


def test_intervals_by_a_column_of_the_vectors_or_of_the_catalog(run_of_three, query, tmp_path, caplog):
    numbers = np.arange(len(query)) % 8
    tow = np.array([f"tow {number}" for number in numbers], dtype=object)
    wanted = score_predictions(query.label, pe.classify(run_of_three.path, query, progress=False)["label"], samples=tow)
    catalog = pe.ImageCatalog.from_rows({"object_id": query.object_id, "path": query.object_id, "tow": tow})
    catalog.frame[["object_id", "path", "tow"]].sample(frac=1, random_state=0).to_csv(run_of_three.catalog, index=False)
    for given, column in (
        (replace(query, sample_id=tow), "sample_id"),
        (replace(query, columns={"net": numbers}), "net"),
        (run_of_three.path, "tow"),
        (run_of_three.vectors("test"), "tow"),
    ):
        found = pe.evaluate(run_of_three.path, given, intervals_by=column, progress=False)
        assert found.scores.intervals == wanted.intervals
        assert found.to_dict()["intervals_by"] == column
    assert pe.evaluate(run_of_three.path, query, progress=False).to_dict()["intervals_by"] == "image"
    with pytest.raises(InputError, match=r"intervals_by: .*400 images; found nothing in 'leg'; there are .*tow"):
        pe.evaluate(run_of_three.path, run_of_three.path, intervals_by="leg", progress=False)
    with pytest.raises(InputError, match="found nothing in 'sample_id'; there are no such columns"):
        pe.evaluate(run_of_three.path, query, intervals_by="sample_id", progress=False)
    tow[:30] = None
    pe.evaluate(run_of_three.path, replace(query, sample_id=tow), intervals_by="sample_id", progress=False)
    assert "30 of 400 images have no sample_id; they are drawn as one sample" in caplog.text


@pytest.mark.parametrize("method", ["centroid", "knn", "mlp"])
def test_a_folder_of_vectors_scores_as_its_table(reference, calibration, query, method, tmp_path, write_shards):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(query)) < 0.1, None, query.label)
    labels[:30] = "other"  # not in the reference
    changed = replace(query, label=labels, columns={"station": rng.integers(7, size=len(query))})
    folder = write_shards(changed, tmp_path / "query")
    given = {"calibration": calibration, "unknown_rate": 0.1, "intervals_by": "station", "progress": False}
    one = pe.evaluate(reference, changed, method, **given)
    many = pe.evaluate(reference, folder, method, **given)
    assert many.to_dict() == one.to_dict() | {"retrieval_of": "queries: query, gallery: a table"}
    pd.testing.assert_frame_equal(many.names.reset_index(drop=True), one.names.reset_index(drop=True))
    assert many.retrieval["map_at_r"] > 0.5 and many.self_centroid_accuracy > 0.5


def test_copies_with_two_labels_are_found_in_a_folder(query, reference, tmp_path, write_shards, caplog):
    copy = pe.EmbeddingTable(query.vectors[[3, 3, 150]], object_id=list("abc"), label=["x", None, query.label[150]])
    changed = query.join(copy)
    folder = write_shards(changed, tmp_path / "query")
    rows = [find_contradictions(vectors).tolist() for vectors in (changed, pe.VectorShards.open(folder))]
    assert rows[0] == rows[1] == [3, 400]
    pe.evaluate(reference, folder, progress=False)
    assert "2 of 402 images of the query have a copy" in caplog.text


def test_unseen_classes_that_the_network_knows_are_warned_of(finished, caplog):
    run = finished.folder.path
    rest = {"calibration": finished.vectors["val"], "unknown_rate": 0.5, "progress": False}
    pe.evaluate(run, finished.vectors["test"], unseen=["detritus"], **rest)
    assert f"the network of {run} was trained on 1 of the unseen classes, such as detritus" in caplog.text
    caplog.clear()
    pe.evaluate(finished.folder.vectors("train"), finished.vectors["test"], unseen=["detritus"], **rest)
    assert "train.parquet was trained on 1 of the unseen classes, such as detritus" in caplog.text
