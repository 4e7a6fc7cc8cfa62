"""`classify`: names with probabilities, for vectors of any model and for images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.classifiers import prediction as prediction_module
from plankton_embed.classifiers.calibration import measure_reliability
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.errors import InputError, OutputError, SettingError


def test_classify_takes_a_run_and_a_folder_of_images(finished, images, tmp_path):
    names = pe.classify(finished.folder.path, images / "detritus", "knn", tmp_path / "names.csv", progress=False)
    assert len(names) == 12
    written = pd.read_csv(tmp_path / "names.csv")
    assert written["label"].tolist() == names["label"].tolist()
    with pytest.raises(OutputError, match="overwrite"):
        pe.classify(finished.folder.path, images / "detritus", "knn", tmp_path / "names.csv", progress=False)


def test_classify_distinguishes_vectors_from_a_catalog_whatever_the_file(finished, images, tmp_path):
    table = pe.embed(finished.folder.path, images / "detritus", progress=False)
    catalog = pe.catalog(images / "detritus", progress=False)
    sources = [table.save(tmp_path / "v.csv"), table.save(tmp_path / "v.npz"), table.save(tmp_path / "v.parquet")]
    sources += [catalog.save(tmp_path / "c.csv"), catalog.save(tmp_path / "c.parquet")]
    expected = pe.classify(finished.folder.path, table)["label"].tolist()
    for source in sources:
        assert pe.classify(finished.folder.path, source, progress=False)["label"].tolist() == expected, source


METHODS = ["centroid", "knn", "mlp"]


@pytest.mark.parametrize("method", METHODS)
def test_vectors_of_any_model_are_named_with_their_probability_and_refused(vector_files, query, method, tmp_path):
    names = pe.classify(
        vector_files["train"], vector_files["asked"], method, tmp_path / "names.csv",
        calibration=vector_files["calibration"], unknown_rate=0.1, progress=False,
    )  # fmt: skip
    columns = ["object_id", "path", "label", "probability", "distance"]
    seconds = ["second_label", "second_probability", "second_distance"]
    assert names.columns.tolist() == [*columns, *seconds, "best_label", "novelty_score", "threshold", "true_label"]
    assert (tmp_path / "names.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # by which Excel knows UTF-8
    written = pd.read_csv(tmp_path / "names.csv", keep_default_na=False)
    assert written["label"].tolist() == names["label"].tolist()
    refused = names["label"] == "unknown"
    np.testing.assert_array_equal(refused, names["novelty_score"] > names["threshold"])
    assert 0.03 < refused.mean() < 0.2
    assert (names["best_label"][~refused] == names["label"][~refused]).all()
    assert (names["best_label"] != names["second_label"]).all()
    assert names["probability"].between(0.25, 1).all()
    assert (names["probability"] >= names["second_probability"]).all()
    right = names["best_label"] == query.label
    assert right.mean() > 0.8
    assert measure_reliability(names["probability"], right).ece < 0.08


@pytest.mark.parametrize("method", METHODS)
def test_blocks_are_written_as_they_come_and_the_file_is_whole(
    reference, calibration, query, method, tmp_path, monkeypatch
):
    monkeypatch.setattr(prediction_module, "BLOCK", 7)
    given = {"calibration": calibration, "all_probabilities": True, "unknown_rate": 0.1, "progress": False}
    names = pe.classify(reference, query, method, tmp_path / "names.csv", **given)
    assert len(names) == len(query) > 7
    assert names.index.tolist() == list(range(len(query)))
    names.to_csv(tmp_path / "wanted.csv", index=False, encoding="utf-8-sig")
    assert (tmp_path / "names.csv").read_bytes() == (tmp_path / "wanted.csv").read_bytes()


def test_a_fault_after_some_blocks_leaves_no_file(reference, calibration, query, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_module, "BLOCK", 7)
    assess, asked = NearestCentroidClassifier.assess_best, []

    def fail_later(classifier, vectors, n_best):
        asked.append(len(vectors))
        if len(asked) == 3:
            raise MemoryError
        return assess(classifier, vectors, n_best)

    monkeypatch.setattr(NearestCentroidClassifier, "assess_best", fail_later)
    with pytest.raises(MemoryError):
        pe.classify(reference, query, output=tmp_path / "names.csv", calibration=calibration, progress=False)
    assert asked == [7, 7, 7]
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_refused_unless_asked_for(reference, calibration, query):
    names = pe.classify(reference, query, "knn", calibration=calibration, progress=False)
    assert "unknown" not in set(names["label"])
    assert "best_label" not in names
    assert names["probability"].notna().all()


def test_without_a_calibration_set_there_is_no_probability_and_no_refusing(reference, calibration, query):
    assert pe.classify(reference, query, progress=False)["probability"].isna().all()
    assert (
        pe.classify(reference, query, calibration=calibration, probabilities=False, progress=False)["probability"]
        .isna()
        .all()
    )
    for asking in ({"probabilities": True}, {"unknown_rate": 0.05}):
        with pytest.raises(InputError, match=r"needs a calibration set.*--calibration"):
            pe.classify(reference, query, progress=False, **asking)


def test_unlabelled_calibration_images_set_no_threshold(reference, calibration, query):
    others = np.random.default_rng(0).normal(size=(100, 6)) * 9
    more = pe.EmbeddingTable(np.concatenate([calibration.vectors, others]), label=[*calibration.label, *[None] * 100])
    names = [
        pe.classify(reference, query, calibration=t, unknown_rate=0.1, progress=False) for t in (calibration, more)
    ]
    np.testing.assert_array_equal(names[0]["threshold"], names[1]["threshold"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"refuse_by": "density"}, "give the unknown rate too"),
        ({"refuse_by": "nonsense", "unknown_rate": 0.1}, "nonsense"),
        ({"unknown_rate": 5}, "unknown rate"),
        ({"n_neighbors": 3}, "method knn"),
        ({"method": "knn", "n_neighbors": 0}, "at least 1; found 0"),
        ({"method": "tree"}, "tree"),
    ],
)
def test_options_that_cannot_be_used_are_refused(reference, calibration, query, arguments, message):
    with pytest.raises(SettingError, match=message):
        pe.classify(reference, query, calibration=calibration, progress=False, **arguments)


def test_an_empty_query_gets_no_names(reference, calibration):
    for method in METHODS:
        names = pe.classify(
            reference, reference.select([]), method, calibration=calibration, unknown_rate=0.1, progress=False
        )
        assert len(names) == 0
        assert {"label", "probability", "novelty_score"} <= set(names)


def test_a_reference_of_few_images_is_named_by_all_of_them(calibration, query, make_table):
    few = make_table(2, 0)
    names = pe.classify(few, query, "knn", calibration=calibration, unknown_rate=0.1, progress=False)
    assert set(names["label"]) - {"unknown"} <= set(few.classes)
    with pytest.raises(InputError, match=r"1 to 8.*found 9"):
        pe.classify(few, query, "knn", n_neighbors=9, progress=False)


def test_a_class_with_one_example_can_be_named(reference, calibration, query):
    lone = pe.EmbeddingTable(np.full((1, 6), 9.0), object_id=["lone"], label=["lone"])
    from plankton_embed.classifiers.enrollment import add_examples

    for method in ("centroid", "knn"):
        same = pe.EmbeddingTable(np.full((1, 6), 9.0))
        k = {"n_neighbors": 1} if method == "knn" else {}
        names = pe.classify(
            add_examples(reference, lone), same, method, calibration=calibration, unknown_rate=0.1, progress=False, **k
        )
        assert names["best_label"].tolist() == ["lone"]


@pytest.mark.parametrize("method", METHODS)
def test_the_probabilities_of_all_classes_stand_beside_the_names(reference, calibration, query, method, tmp_path):
    arguments = {"calibration": calibration, "unknown_rate": 0.1, "progress": False}
    plain = pe.classify(reference, query, method, **arguments)
    names = pe.classify(reference, query, method, tmp_path / "names.csv", all_probabilities=True, **arguments)
    columns = [f"p({name})" for name in reference.classes]
    assert names.columns.tolist() == [*plain.columns, *columns]
    pd.testing.assert_frame_equal(names[plain.columns], plain)
    probabilities = names[columns].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    named = [row[f"p({row['best_label']})"] for row in names.to_dict("records")]
    np.testing.assert_array_equal(named, names["probability"])
    assert pd.read_csv(tmp_path / "names.csv").columns.tolist() == names.columns.tolist()
    empty = pe.classify(
        reference, reference.select([]), method, calibration=calibration, all_probabilities=True, progress=False
    )
    assert len(empty) == 0
    assert set(columns) <= set(empty)


def test_all_probabilities_need_a_calibration_set_too(reference, calibration, query):
    with pytest.raises(InputError, match=r"probabilities needs a calibration set.*--calibration"):
        pe.classify(reference, query, all_probabilities=True, progress=False)
    with pytest.raises(SettingError, match="probabilities are turned off"):
        pe.classify(
            reference, query, calibration=calibration, probabilities=False, all_probabilities=True, progress=False
        )


def test_new_images_get_one_line_about_shift(reference, calibration, query, caplog):
    with caplog.at_level("INFO"):
        pe.classify(reference, query, calibration=calibration, progress=False)
    assert [record.message for record in caplog.records if "shift" in record.message] == ["shift: alike"]
    caplog.clear()
    other = replace(query, vectors=query.vectors + np.float32(3)).select(np.arange(400) < 17)
    with caplog.at_level("INFO"):
        pe.classify(reference, other, calibration=calibration, progress=False)
    (line,) = [record for record in caplog.records if "shift" in record.message]
    assert line.levelname == "WARNING"
    assert line.message.startswith("shift: the images look unlike the calibration images (appearance)")
