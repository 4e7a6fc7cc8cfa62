"""Folders of results: what is not replaced, and images that cannot be shown."""

import pytest

import plankton_embed as pe
from plankton_embed.errors import OutputError


def test_another_analysis_is_not_replaced(table, tmp_path):
    pe.relations(table, tmp_path / "out", epsilon=1.0, n_images=12, n_shuffles=0, progress=False)
    with pytest.raises(OutputError, match="contains relations, not dendrogram"):
        pe.dendrogram(table, tmp_path / "out", overwrite=True, progress=False)


def test_images_that_are_gone_are_told(table, tmp_path, caplog):
    gone = pe.EmbeddingTable(table.vectors, label=table.label, path=[*table.path[:58], "gone.png", None])
    pe.clusters(gone, tmp_path / "out", n_clusters=2, progress=False)
    assert "2 of 60 images cannot be shown and are drawn as grey squares, such as gone.png" in caplog.text
