"""`search`: the nearest indexed images."""

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
