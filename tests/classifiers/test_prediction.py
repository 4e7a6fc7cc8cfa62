"""Predictions of a table by the labelled vectors of another."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.classifiers import prediction
from plankton_embed.classifiers.mlp import MLPClassifier
from plankton_embed.classifiers.prediction import (
    METHODS,
    fit_classifier,
    fit_rejector,
    predict_images,
    predict_in_blocks,
    predict_out_of_fold,
)
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

COLUMNS = [
    "object_id", "path", "label", "probability", "distance", "second_label", "second_probability", "second_distance"
]  # fmt: skip
NAMES = ["Calanus finmarchicus", "Calanus finmarchicus", "фиш/egg", "фиш/egg", None]


@pytest.fixture
def reference():
    vectors = np.array([[0, 0], [0, 2], [4, 0], [4, 2], [100, 100]], dtype=np.float32)
    return EmbeddingTable(vectors, label=np.array(NAMES, dtype=object))


@pytest.fixture
def query():
    return EmbeddingTable(
        np.array([[1, 0], [4, 1]], dtype=np.float32),
        object_id=["x", "y"],
        path=["x.png", "y.png"],
        label=["a<b", None],
    )


@pytest.mark.parametrize(
    ("method", "distances", "second"),
    [("centroid", [np.sqrt(2), 0], [np.sqrt(10), 4]), ("knn", [1, 1], [3, np.sqrt(17)])],
)
def test_predictions_and_second_guesses_by_hand(reference, query, method, distances, second):
    names = predict_images(fit_classifier(reference, method, 1), query)
    assert names.columns.tolist() == [*COLUMNS, "true_label"]
    assert names["object_id"].tolist() == ["x", "y"]
    assert names["path"].tolist() == ["x.png", "y.png"]
    assert names["label"].tolist() == ["Calanus finmarchicus", "фиш/egg"]
    assert names["second_label"].tolist() == ["фиш/egg", "Calanus finmarchicus"]
    np.testing.assert_allclose(names["distance"], distances)
    np.testing.assert_allclose(names["second_distance"], second)
    assert names["true_label"][0] == "a<b"
    assert names["true_label"].isna().tolist() == [False, True]


@pytest.mark.parametrize("method", METHODS)
def test_unlabelled_reference_rows_name_nothing(reference, method):
    far = EmbeddingTable(np.array([[100, 100]], dtype=np.float32))
    names = predict_images(fit_classifier(reference, method, 4), far)
    assert names.columns.tolist() == COLUMNS
    assert names["distance"][0] > 100


@pytest.mark.parametrize("method", METHODS)
def test_one_class_leaves_no_second_guess(reference, query, method):
    names = predict_images(fit_classifier(reference.select([0, 1]), method, 1), query)
    assert set(names["label"]) == {"Calanus finmarchicus"}
    assert names[["second_label", "second_distance"]].isna().all(axis=None)


@pytest.mark.parametrize("method", METHODS)
def test_many_images_are_predicted_block_by_block_as_all_at_once(method, blobs, monkeypatch):
    tables = [EmbeddingTable(vectors, label=labels) for vectors, labels in (blobs(1), blobs(2), blobs(3, n=50))]
    reference, calibration, query = tables
    query = EmbeddingTable(query.vectors, path=[None] * 40 + ["x.png"] * 10, label=[None] * 30 + ["a"] * 20)
    classifier = fit_classifier(reference, method, 3, calibration)
    rejector = fit_rejector(reference, classifier, calibration)
    whole = predict_images(classifier, query, rejector, all_probabilities=True)
    assert "unknown" in set(whole["label"])
    np.testing.assert_allclose(whole.filter(like="p(").sum(axis=1), 1)
    monkeypatch.setattr(prediction, "BLOCK", 7)
    blocks = list(predict_in_blocks(classifier, query, rejector, all_probabilities=True))
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    found = predict_images(classifier, query, rejector, all_probabilities=True)
    numbers = found.select_dtypes("number").columns
    pd.testing.assert_frame_equal(found.drop(columns=numbers), whole.drop(columns=numbers))
    # BLAS may round a few rows otherwise than many
    pd.testing.assert_frame_equal(found[numbers], whole[numbers], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_query_gives_an_empty_table(reference, query, method):
    names = predict_images(fit_classifier(reference, method, 1), query.select(np.zeros(2, dtype=bool)))
    assert names.columns.tolist() == COLUMNS
    assert len(names) == 0


@pytest.mark.parametrize("method", METHODS)
def test_an_unlabelled_reference_is_refused(query, method):
    with pytest.raises(InputError, match="expected labelled vectors; found none of 1 with a label"):
        fit_classifier(query.select([1]), method)


@pytest.mark.parametrize(
    ("method", "k", "error", "message"),
    [("svm", 1, SettingError, "centroid, knn.*svm"), ("knn", 5, InputError, "1 to 4.*found 5")],
)
def test_unfit_settings_are_refused(reference, method, k, error, message):
    with pytest.raises(error, match=message):
        fit_classifier(reference, method, k)


@pytest.mark.parametrize(("many", "hidden"), [(30, (256, 256)), (31, (512, 512, 512))])
def test_heads_of_many_images_are_smaller(monkeypatch, many, hidden):
    heads = []

    class Head(MLPClassifier):
        def fit(self, *arguments):
            heads.append(self)
            return super().fit(*arguments)

    monkeypatch.setattr(prediction, "MLPClassifier", Head)
    monkeypatch.setattr(prediction, "MANY", many)
    vectors = np.concatenate([np.zeros((30, 2)), np.ones((30, 2))]).astype(np.float32)
    table = EmbeddingTable(vectors, label=np.array(["a"] * 30 + ["b"] * 30, dtype=object))
    probabilities = predict_out_of_fold(table, 2, seed=0, progress=False)
    assert [head.hidden for head in heads] == [hidden, hidden]
    assert probabilities.sum(axis=1) == pytest.approx(1)
