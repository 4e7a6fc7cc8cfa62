"""`search`: the nearest indexed images."""

import pytest
from PIL import Image

import plankton_embed as pe


def test_search_finds_an_indexed_image_first_at_distance_zero(finished, tmp_path):
    train = pe.EmbeddingTable.load(finished.folder.vectors("train"))
    found = pe.search(finished.folder.path, finished.folder.path, list(train.path[:3]), k=4, sheet=tmp_path / "s.png")
    first = found[found["rank"] == 1]
    assert first["object_id"].tolist() == train.object_id[:3].tolist()
    assert first["distance"].to_numpy() == pytest.approx(0, abs=1e-5)
    assert found.groupby("query")["distance"].apply(lambda d: d.is_monotonic_increasing).all()
    assert Image.open(tmp_path / "s.png").width > 300
