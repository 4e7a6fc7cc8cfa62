"""`shift`: what is compared with what, what is written, and what is refused."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.classify import classify
from plankton_embed.workflows.shift import shift

CENTRES = 3 * np.random.default_rng(99).normal(size=(4, 6))


def draw(n, seed, moved=0.0, **columns):
    """Return images of four classes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(4, size=n)
    vectors = (CENTRES[codes] + rng.normal(size=(n, 6)) + moved).astype(np.float32)
    label = np.array([["copepod", "Méduse", "fish<egg", "salp"][code] for code in codes], dtype=object)
    ids = [f"{seed}/{row}" for row in range(n)]
    return EmbeddingTable(vectors, object_id=ids, label=label, provenance={"model_hash": "m"}, **columns)


@pytest.fixture
def folder(tmp_path):
    """Vectors of training and validation side by side, as a run has them."""
    place = tmp_path / "vectors"
    place.mkdir()
    draw(300, 0).save(place / "train.parquet")
    draw(150, 1).save(place / "val.parquet")
    return place


def test_what_is_written(folder, tmp_path):
    ids = np.array(["leg 1", "leg 2"], dtype=object)[np.arange(100) % 2]
    new = draw(100, 2, sample_id=ids)
    new = replace(new, vectors=new.vectors + (ids == "leg 2")[:, None].astype(np.float32), label=None)
    new.save(tmp_path / "new.parquet")
    out = tmp_path / "out"
    found = shift(folder / "train.parquet", tmp_path / "new.parquet", out, progress=False)
    assert {path.name for path in out.iterdir()} == {
        "samples.csv", "classes.csv", "predictions.csv", "shift.png", "summary.json"
    }  # fmt: skip
    samples = pd.read_csv(out / "samples.csv")
    pd.testing.assert_frame_equal(samples.iloc[1:], found.samples.iloc[1:], check_dtype=False)
    assert pd.isna(samples["sample_id"][0])
    assert dict(zip(samples["sample_id"][1:], samples["verdict"][1:], strict=True)) == {
        "leg 1": "alike", "leg 2": "appearance"
    }  # fmt: skip
    predictions = pd.read_csv(out / "predictions.csv")
    expected = classify(folder / "train.parquet", new, unknown_rate=0.05, progress=False)
    for column in ("object_id", "label", "best_label"):
        assert predictions[column].tolist() == expected[column].tolist()
    np.testing.assert_allclose(predictions["novelty_score"], expected["novelty_score"])
    assert predictions["sample_id"].tolist() == ids.tolist()
    rejected = (predictions["label"] == "unknown").groupby(predictions["sample_id"]).mean()
    assert samples.set_index("sample_id")["refused"][["leg 1", "leg 2"]].tolist() == pytest.approx(rejected.tolist())
    classes = pd.read_csv(out / "classes.csv")
    assert classes.groupby("sample_id", dropna=False)["n_images"].sum().tolist() == [50, 50, 100]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["analysis"] == "shift"
    assert (summary["n_samples"], summary["n_alike"], summary["n_appearance"]) == (2, 1, 1)
    assert summary["calibration"]["n_images"] == 150
    assert (summary["method"], summary["unknown_rate"], summary["refuse_by"]) == ("centroid", 0.05, "neighbor")
    with pytest.raises(OutputError, match="exists already"):
        shift(folder / "train.parquet", new, out, progress=False)
    shift(folder / "train.parquet", new.select(range(40)), out, overwrite=True, progress=False)
    assert json.loads((out / "summary.json").read_text())["n_images"] == 40


def test_compared_with_calibration_and_never_with_training(folder, caplog):
    new, train, val = draw(60, 3), draw(300, 0), draw(150, 1)
    beside = shift(folder / "train.parquet", new, progress=False)
    given = shift(train, new, calibration=val, progress=False)
    pd.testing.assert_frame_equal(beside.samples, given.samples)
    with pytest.raises(InputError, match="are in the reference too"):
        shift(train, new, calibration=train, progress=False)
    mixed = EmbeddingTable(
        np.concatenate([val.vectors, train.vectors[:80]]),
        label=np.concatenate([val.label, train.label[:80]]),
        provenance=val.provenance,
    )
    with caplog.at_level(logging.WARNING):
        some = shift(train, new, calibration=mixed, progress=False)
    assert "80 of 230 images are in the reference too and left out" in caplog.text
    pd.testing.assert_frame_equal(some.samples, given.samples)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = shift(train, train.select(range(100)), calibration=val, method="knn", progress=False)
    assert "100 of the new images are in the reference" in caplog.text
    assert again.samples["appearance_effect"][0] < given.samples["appearance_effect"][0]  # the network fits them better


def test_calibration_images_without_label_are_ignored(folder):
    new, train, val = draw(60, 3), draw(300, 0), draw(150, 1)
    far = draw(50, 8, moved=9.0)
    unknown = replace(far, label=np.where(np.arange(50) < 25, None, "never seen"))
    more = EmbeddingTable(
        np.concatenate([val.vectors, unknown.vectors]),
        label=np.concatenate([val.label, unknown.label]),
        provenance=val.provenance,
    )
    one, other = (shift(train, new, calibration=table, progress=False) for table in (val, more))
    pd.testing.assert_frame_equal(one.samples, other.samples)
    assert other.calibration["n_images"] == 150


@pytest.mark.parametrize("method", ["centroid", "knn"])
@pytest.mark.parametrize("measure", [None, "centroid", "density"])
def test_every_method_and_novelty_score(folder, method, measure):
    found = shift(
        folder / "train.parquet", draw(60, 5, 1.5), method=method, refuse_by=measure, unknown_rate=0.1, progress=False
    )
    assert found.samples["verdict"][0] == "appearance"
    assert found.samples["refused"][0] > 0.15
    assert found.calibration["accuracy"] > 0.8
    assert found.calibration["expected_accuracy"] == pytest.approx(found.calibration["accuracy"], abs=0.1)


def test_what_is_refused(folder, tmp_path):
    new, train = draw(60, 3), draw(300, 0)
    with pytest.raises(InputError, match="shift needs a calibration set"):
        shift(train, new, progress=False)
    with pytest.raises(InputError, match="contains images of the query"):
        shift(folder / "train.parquet", folder / "val.parquet", progress=False)
    with pytest.raises(InputError, match="no labelled image of the 4 classes"):
        shift(train, new, calibration=replace(draw(150, 1), label=None), progress=False)
    with pytest.raises(MismatchError, match="other"):
        shift(train, replace(new, provenance={"model_hash": "other"}), calibration=draw(150, 1), progress=False)
    with pytest.raises(SettingError, match="unknown rate"):
        shift(train, new, calibration=draw(150, 1), unknown_rate=1.5, progress=False)
    with pytest.raises(SettingError, match=r"expected a share between 0 and 1, such as 0\.05; found 'auto'"):
        shift(train, new, unknown_rate="auto", progress=False)
    with pytest.raises(SettingError, match="k of kNN"):
        shift(train, new, calibration=draw(150, 1), n_neighbors=3, progress=False)
    with pytest.raises(SettingError, match="permutations"):
        shift(train, new, calibration=draw(150, 1), n_permutations=10, progress=False)
    with pytest.raises(InputError, match=r"none\.parquet do not exist"):
        shift(folder / "train.parquet", tmp_path / "none.parquet", progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text('{"analysis": "pca"}')
    with pytest.raises(OutputError, match="contains pca, not shift"):
        shift(train, new, tmp_path / "other", calibration=draw(150, 1), overwrite=True, progress=False)


@pytest.mark.parametrize("method", ["centroid", "knn"])
def test_a_folder_of_vectors_gives_what_its_table_gives(folder, tmp_path, write_shards, method):
    new = draw(200, 2, 0.5, sample_id=np.array(["leg 1", "leg 2", None, "leg 3"], dtype=object)[np.arange(200) % 4])
    shards = write_shards(new, tmp_path / "new")
    results = []
    for query, out in ((new, tmp_path / "one"), (shards, tmp_path / "many")):
        results.append(shift(folder / "train.parquet", query, out, method=method, n_permutations=1000, progress=False))
    pd.testing.assert_frame_equal(results[1].samples, results[0].samples)
    pd.testing.assert_frame_equal(results[1].classes, results[0].classes)
    for name in ("samples.csv", "classes.csv", "predictions.csv", "summary.json"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
