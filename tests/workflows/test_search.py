"""`search`: the nearest indexed images."""

from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

import plankton_embed as pe
from plankton_embed.errors import InputError, SettingError


def test_search_finds_an_indexed_image_first_at_distance_zero(finished, tmp_path):
    train = pe.EmbeddingTable.load(finished.folder.vectors("train"))
    found = pe.search(finished.folder.path, list(train.path[:3]), n_results=4, sheet=tmp_path / "s.png")
    first = found[found["rank"] == 1]
    assert first["object_id"].tolist() == train.object_id[:3].tolist()
    assert first["distance"].to_numpy() == pytest.approx(0, abs=1e-5)
    assert found.groupby("query")["distance"].apply(lambda d: d.is_monotonic_increasing).all()
    assert Image.open(tmp_path / "s.png").width > 300


def test_the_order_of_earlier_releases_is_understood_with_a_warning(finished):
    path = finished.folder.path
    train = pe.EmbeddingTable.load(finished.folder.vectors("train"))
    expected = pe.search(path, list(train.path[:1]), n_results=2, progress=False)
    with pytest.warns(UserWarning, match="is now search"):
        assert pe.search(path, path, list(train.path[:1]), 2, progress=False).equals(expected)
    with pytest.warns(UserWarning, match="is now search"):
        assert pe.search(path, path, list(train.path[:1]), k=2, progress=False).equals(expected)


def test_an_index_needs_a_model(finished, tmp_path):
    pe.index(finished.folder.vectors("train"), tmp_path / "index")
    with pytest.raises(InputError, match="is not a run; give the model"):
        pe.search(tmp_path / "index", ["a.png"], progress=False)


def test_arguments_that_no_release_had_are_refused():
    for more, model in ((("model", 3, "s.png"), None), (("model",), "model")):
        with pytest.raises(SettingError, match="found more arguments"):
            pe.search("run", "images", *more, model=model)


def test_a_sharded_index_is_searched_like_any_other(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("plankton_embed.sharded_index.LEAST_IVF", 1)
    monkeypatch.setattr("plankton_embed.sharded_index.LEAST_SHARD", 1)
    train = pe.EmbeddingTable.load(finished.folder.vectors("train"))
    many = pe.EmbeddingTable.concat([
        replace(train, object_id=[f"{number} {name}" for name in train.object_id]) for number in range(4)
    ])  # fmt: skip
    pe.index(many, tmp_path / "flat")
    index = pe.index(many, tmp_path / "sharded", kind="sharded", shard_size=50)
    index.tune(1.0)
    options = {"model": finished.model, "n_results": 5, "progress": False}
    wanted = pe.search(tmp_path / "flat", list(train.path[:3]), **options)
    for sharded in (tmp_path / "sharded", index):
        found = pe.search(sharded, list(train.path[:3]), sheet=tmp_path / "s.png", overwrite=True, **options)
        pd.testing.assert_frame_equal(found, wanted)
    assert Image.open(tmp_path / "s.png").width > 300
