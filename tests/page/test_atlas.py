"""The table for Embedding Atlas, read as it reads it: by pandas, with the columns named in its options."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from plankton_embed.errors import InputError, OutputError
from plankton_embed.page.atlas import write_atlas
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable


@pytest.fixture
def images(small_tables):
    return gather_images(small_tables)


def test_the_columns_are_those_that_its_options_take(images, tmp_path):
    counts = write_atlas(tmp_path / "a.parquet", images, n_neighbors=5)
    assert counts.to_dict() == {"n_rows": 60, "n_pictures": 60, "n_without_coordinates": 0}
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.field("neighbors").type == pa.struct(
        [("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float64()))]
    )
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    frame = pd.read_parquet(tmp_path / "a.parquet")
    table = images.table
    assert frame["object_id"].tolist() == table.object_id.tolist()
    assert frame["label"].fillna("").tolist() == [label or "" for label in table.label]
    assert frame["guess"].tolist() == [images.classes[code] for code in images.guess]
    assert frame["split"].tolist() == images.split.tolist()
    assert frame["sample_id"].tolist() == table.sample_id.tolist()
    centred = table.vectors - table.vectors.mean(axis=0)
    axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)[2][:2]
    for name, axis in zip("xy", axes, strict=True):
        np.testing.assert_allclose(np.abs(frame[name]), np.abs(centred @ axis), atol=1e-4)


def test_neighbors_are_rows_nearest_first_without_the_image_itself(images, tmp_path):
    write_atlas(tmp_path / "a.parquet", images, n_neighbors=7, pictures=False)
    vectors = images.table.vectors.astype(np.float64)
    for row, found in enumerate(pd.read_parquet(tmp_path / "a.parquet")["neighbors"]):
        distances = np.linalg.norm(vectors - vectors[row], axis=1)
        distances[row] = np.inf
        np.testing.assert_allclose(found["distances"], np.sort(distances)[:7], atol=1e-5)
        np.testing.assert_allclose(distances[found["ids"]], found["distances"], atol=1e-5)
    assert "image" not in pq.read_schema(tmp_path / "a.parquet").names


def test_pictures_are_png_and_missing_ones_are_empty(images, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("plankton_embed.page.atlas.PER_GROUP", 7)
    table = images.table
    paths = table.path.copy()
    paths[3], paths[4] = None, str(tmp_path / "missing.png")
    page = gather_images({"": EmbeddingTable(table.vectors, table.object_id, table.label, paths)})
    counts = write_atlas(tmp_path / "a.parquet", page, side=16)
    assert counts.n_pictures == 58
    assert "2 of 60 images cannot be read" in caplog.text
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["image"].isna().to_numpy().nonzero()[0].tolist() == [3, 4]
    for row in (0, 59):
        picture = Image.open(io.BytesIO(frame["image"][row]["bytes"]))
        assert picture.format == "PNG"
        assert max(picture.size) == 16
        original = Image.open(table.path[row])
        assert picture.width / picture.height == pytest.approx(original.width / original.height, rel=0.2)
        assert frame["image"][row]["path"] == f"{table.object_id[row]}.png"
    assert not {"split", "sample_id"} & set(frame)


def test_coordinates_of_a_map_and_the_images_that_it_lacks(images, tmp_path, caplog):
    ids = images.table.object_id[::-1][:40]
    umap = pd.DataFrame({"object_id": ids, "umap1": np.arange(40.0), "umap2": -np.arange(40.0)})
    umap.to_csv(tmp_path / "coordinates.csv", index=False)
    counts = write_atlas(tmp_path / "a.parquet", images, coordinates=tmp_path / "coordinates.csv", n_neighbors=3)
    assert (counts.n_rows, counts.n_without_coordinates) == (40, 20)
    assert "20 of 60 images have no coordinates" in caplog.text
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["object_id"].tolist() == ids[::-1].tolist()
    assert frame["x"].tolist() == list(range(39, -1, -1))
    assert max(max(found["ids"]) for found in frame["neighbors"]) < 40
    umap.rename(columns={"umap1": "PC1"}).to_csv(tmp_path / "pca.csv", index=False)
    with pytest.raises(InputError, match="expected the columns umap1 and umap2, or tsne1 and tsne2"):
        write_atlas(tmp_path / "b.parquet", images, coordinates=tmp_path / "pca.csv")
    umap[:1].to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(InputError, match="expected at least 2 of the 60 images"):
        write_atlas(tmp_path / "b.parquet", images, coordinates=tmp_path / "one.csv")
    assert not (tmp_path / "b.parquet").exists()


def test_two_images_of_one_dimension_and_without_labels(tmp_path):
    page = gather_images({"": EmbeddingTable(np.array([[0.0], [2.0]]))})
    write_atlas(tmp_path / "a.parquet", page)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["guess"].isna().all()
    assert frame["label"].isna().all()
    assert np.abs(frame["x"]).tolist() == [1, 1]
    assert frame["y"].tolist() == [0, 0]
    assert [found["ids"].tolist() for found in frame["neighbors"]] == [[1], [0]]


def test_nothing_is_overwritten(images, tmp_path):
    (tmp_path / "a.parquet").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_atlas(tmp_path / "a.parquet", images)
    with pytest.raises(OutputError, match=r"ends in \.parquet"):
        write_atlas(tmp_path / "a.csv", images)
    assert (tmp_path / "a.parquet").read_text() == "mine"
