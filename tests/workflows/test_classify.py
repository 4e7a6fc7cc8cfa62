"""`classify`: names with probabilities, for vectors of any model and for images."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.classifiers import prediction as prediction_module
from plankton_embed.classifiers.calibration import measure_reliability
from plankton_embed.classifiers.centroid import NearestCentroidClassifier
from plankton_embed.cli import app
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


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_of_vectors_is_predicted_as_its_table(reference, calibration, query, method, tmp_path, write_shards):
    """Blocks go on from file to file, so that even the last bits are equal."""
    folder = write_shards(query, tmp_path / "query")
    given = {"calibration": calibration, "unknown_rate": 0.1, "progress": False}
    wanted = pe.classify(reference, query, method, tmp_path / "one.csv", **given)
    found = pe.classify(reference, folder, method, tmp_path / "many.csv", **given)
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    pd.testing.assert_frame_equal(pe.classify(reference, folder, method, **given), wanted)
    assert len(found) == len(query) and found.output == tmp_path / "many.csv"
    counts = wanted["label"].value_counts()
    assert dict(zip(found.counts["label"], found.counts["count"], strict=True)) == counts.to_dict()
    assert found.counts["count"].is_monotonic_decreasing and "labels, in" in repr(found)
    pd.testing.assert_frame_equal(pe.classify(reference, pe.VectorShards.open(folder), method, **given), wanted)


def test_predictions_of_a_folder_in_a_folder(reference, calibration, query, tmp_path, write_shards, caplog):
    folder, out = write_shards(replace(query, label=None), tmp_path / "query"), tmp_path / "out"
    given = {"calibration": calibration, "progress": False}
    wanted = pe.classify(reference, folder, **given)
    found = pe.classify(reference, folder, output=out, **given)
    files = sorted(out.glob("*.parquet"))
    read = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    wanted = wanted.astype({"path": "str"})  # None is nan in Parquet
    pd.testing.assert_frame_equal(read, wanted, check_dtype=False)
    assert [len(pd.read_parquet(path)) for path in files] == pe.VectorShards.open(folder).counts
    assert found.counts["count"].sum() == len(query)

    times = [path.stat().st_mtime_ns for path in files]
    files[2].unlink()
    assert pe.classify(reference, folder, output=out, **given).counts.equals(found.counts)
    again = [path.stat().st_mtime_ns for path in files]
    assert [before == after for before, after in zip(times, again, strict=True)] == [True, True, False, True, True]
    with pytest.raises(OutputError, match=r"other inputs.*method \(before: centroid; now: knn\)"):
        pe.classify(reference, folder, "knn", out, **given)
    with pytest.raises(OutputError, match=r"reference \(before"):
        pe.classify(reference.select(np.arange(len(reference)) % 7 > 0), folder, output=out, **given)
    pe.classify(reference, folder, "knn", out, overwrite=True, **given)
    assert [len(pd.read_parquet(path)) for path in files] == pe.VectorShards.open(folder).counts


def test_a_folder_of_predictions_needs_a_folder_of_vectors(reference, query, tmp_path, write_shards):
    with pytest.raises(OutputError, match=r"a folder of predictions is made of a folder of vectors"):
        pe.classify(reference, query, output=tmp_path / "out", progress=False)
    folder = write_shards(query, tmp_path / "query")
    for output in (folder, folder / "predictions", tmp_path):
        with pytest.raises(OutputError, match="overlap"):
            pe.classify(reference, folder, output=output, progress=False, overwrite=True)
    assert len(list(folder.iterdir())) == 5
    with pytest.raises(SettingError, match="engine: it applies to a folder"):
        pe.classify(reference, folder, output=tmp_path / "p.csv", engine="ray", progress=False)


def test_a_folder_on_the_command_line(reference, calibration, query, tmp_path, write_shards):
    files = {name: t.save(tmp_path / f"{name}.parquet") for name, t in (("train", reference), ("val", calibration))}
    folder = write_shards(query, tmp_path / "query")
    done = CliRunner().invoke(
        app, ["classify", str(files["train"]), str(folder), "-o", str(tmp_path / "out"), "--json"]
    )
    result = json.loads(done.stdout)
    assert (done.exit_code, result["n_images"]) == (0, len(query))
    assert sum(row["count"] for row in result["counts"]) == len(query)


def test_a_sharded_index_is_a_reference_of_knn(tmp_path, write_shards):
    rng = np.random.default_rng(0)
    codes = rng.integers(4, size=2000)
    vectors = 2 * rng.normal(size=(4, 8))[codes] + rng.normal(size=(2000, 8))
    table = pe.EmbeddingTable(vectors, label=[f"class {code}" for code in codes])
    reference, query = table.select(np.arange(1500)), table.select(np.arange(1500, 2000))
    pe.index(reference, tmp_path / "index", kind="sharded", shard_size=1000).tune(1.0)
    wanted = pe.classify(reference, query, "knn", progress=False)
    found = pe.classify(tmp_path / "index", query, "knn", progress=False)
    pd.testing.assert_frame_equal(found.drop(columns="second_distance"), wanted.drop(columns="second_distance"))
    voted = found["second_distance"].notna()
    assert 0 < voted.sum() < 500
    np.testing.assert_allclose(found["second_distance"][voted], wanted["second_distance"][voted], rtol=1e-5)
    written = pe.classify(
        tmp_path / "index", write_shards(query, tmp_path / "q"), "knn", tmp_path / "out", progress=False
    )
    assert written.counts.set_index("label")["count"].to_dict() == wanted["label"].value_counts().to_dict()
    for options, message in (
        ({"method": "centroid"}, "expected knn"),
        ({"method": "knn", "unknown_rate": 0.05}, "unknown_rate: not available with a sharded index"),
        ({"method": "knn", "calibration": reference}, "calibration: not available"),
        ({"method": "knn", "all_probabilities": True}, "all_probabilities: not available"),
    ):
        with pytest.raises(SettingError, match=message):
            pe.classify(tmp_path / "index", query, progress=False, **options)
