"""`next`: the images to label next, as a table and a CSV."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import InputError, MismatchError, OutputError, SettingError

COLUMNS = ["object_id", "path", "reason", "guess", "second", "group"]


@pytest.fixture
def pool():
    """30 images of three kinds without labels."""
    rng = np.random.default_rng(0)
    kind = np.arange(30) % 3
    vectors = (5 * np.eye(3)[kind] + rng.normal(size=(30, 3))).astype(np.float32)
    names = [f"{number}, <b>.png" for number in range(30)]
    return pe.EmbeddingTable(vectors, names, path=names, provenance={"model_hash": "a"})


@pytest.fixture
def reference(pool):
    """Labelled images of the first two kinds."""
    labels = np.array([["copepod", "shrimp", None][number % 3] for number in range(30)], dtype=object)
    other = replace(
        pool, vectors=pool.vectors + 0.01, object_id=[f"old {n}" for n in range(30)], path=None, label=labels
    )
    return other.select(other.is_labelled)


def test_nothing_is_labelled_at_first(pool, tmp_path):
    pool.save(tmp_path / "vectors.parquet")
    found = pe.next(tmp_path / "vectors.parquet", tmp_path / "next.csv", n_images=12)
    assert found.columns.tolist() == COLUMNS
    assert len(found) == found["object_id"].nunique() == 12
    assert set(found["reason"]) == {"new kind"}
    assert found[["guess", "second"]].isna().all().all()
    row = pool.object_id.tolist().index
    first = found.drop_duplicates("group")["object_id"].map(row) % 3
    assert set(first[:3]) == {0, 1, 2}
    assert found["path"].tolist() == found["object_id"].tolist()
    written = pd.read_csv(tmp_path / "next.csv", encoding="utf-8-sig")
    assert written.columns.tolist() == COLUMNS
    assert written["object_id"].tolist() == found["object_id"].tolist()
    assert written["group"].tolist() == found["group"].tolist()
    with pytest.raises(OutputError, match="exists already"):
        pe.next(pool, tmp_path / "next.csv")
    pe.next(pool, tmp_path / "next.csv", overwrite=True)


def test_a_kind_that_the_reference_lacks_comes_first(pool, reference):
    found = pe.next(pool, reference=reference)
    assert len(found) == 30
    assert found["object_id"].isin(pool.object_id).all()
    row = pool.object_id.tolist().index
    assert set(found["object_id"][found["group"] == 1].map(row) % 3) == {2}
    assert found["reason"][0] == "new kind"
    assert set(found["guess"]) == set(found["second"]) == {"copepod", "shrimp"}
    assert (found["guess"] != found["second"]).all()
    kinds = found["object_id"].map(row) % 3
    assert (found["guess"][kinds == 0] == "copepod").all()
    assert found["reason"][kinds < 2].str.contains("copepod|shrimp").all()


def test_labels_among_the_vectors_are_the_reference(pool, reference):
    labels = pool.label.copy()
    labels[:12] = np.array(["copepod", "shrimp", "larva"] * 4)
    table = replace(pool, label=labels)
    found = pe.next(table)
    assert sorted(found["object_id"]) == sorted(pool.object_id[12:])
    assert set(found["guess"]) == {"copepod", "shrimp", "larva"}
    both = pe.next(table, reference=reference.select(reference.label == "shrimp"))
    assert sorted(both["object_id"]) == sorted(pool.object_id[12:])


def test_what_cannot_be_chosen(pool, reference, tmp_path):
    with pytest.raises(InputError, match="without a label to choose from; all 20 have one"):
        pe.next(reference)
    with pytest.raises(MismatchError, match="the reference was made by model b"):
        pe.next(pool, reference=replace(reference, provenance={"model_hash": "b"}))
    with pytest.raises(SettingError, match="n_images: expected at least 1; found 0"):
        pe.next(pool, n_images=0)
    with pytest.raises(OutputError, match=r"ends in \.csv"):
        pe.next(pool, tmp_path / "next.txt")
    with pytest.raises(InputError, match="unknown"):
        pe.next(pool, reference=replace(reference, label=["unknown"] * len(reference)))


def test_images_that_the_reference_has_labelled_are_not_chosen(pool):
    labelled = replace(pool, label=np.array([["copepod", None, None][n % 3] for n in range(30)], dtype=object))
    found = pe.next(pool, reference=labelled.select(labelled.is_labelled), n_images=30)
    assert len(found) == 20
    assert not set(found["object_id"]) & set(pool.object_id[::3])
