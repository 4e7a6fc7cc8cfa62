"""From files to a table: order, labels, faults."""

import numpy as np
import pytest

from plankton_embed.embedding import embed, embed_prepared
from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.drawn import draw_set
from plankton_embed.images.store import prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings
from plankton_embed.table import EmbeddingTable


@pytest.fixture(scope="module")
def model():
    network = NetworkSettings(trunk="resnet18", dimension=8)
    return EmbeddingModel.build(network, PreparationSettings(target_size=75), seed=0).to("cpu")


@pytest.fixture
def catalog(tmp_path):
    folder = draw_set(tmp_path / "drawn", n_per_class=3, classes=("copepod", "medusa"))
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    labels = ["Cop epod", "é<", None] * 2
    return ImageCatalog.from_rows(
        {"path": paths, "object_id": list("abcdef"), "label": labels, "sample_id": list("112233")}
    )


def test_a_table_has_the_rows_of_its_catalog(model, catalog):
    table = embed(model, catalog, progress=False)
    np.testing.assert_array_equal(table.vectors, model.embed(catalog.paths))
    assert table.object_id.tolist() == list("abcdef")
    assert table.label.tolist() == ["Cop epod", "é<", None] * 2
    assert table.path.tolist() == catalog.paths
    assert table.sample_id.tolist() == list("112233")
    assert table.provenance == model.provenance


def test_paths_become_the_object_ids(model, catalog):
    table = embed(model, catalog.paths, progress=False)
    np.testing.assert_array_equal(table.vectors, model.embed(catalog.paths))
    assert table.object_id.tolist() == table.path.tolist() == catalog.paths
    assert not table.is_labelled.any()


@pytest.mark.parametrize("batch_size", [1, 4, 6, 7])
def test_batches_keep_the_order(model, catalog, batch_size):
    table = embed(model, catalog, batch_size=batch_size, progress=False)
    np.testing.assert_allclose(table.vectors, model.embed(catalog.paths), atol=1e-5)


def test_a_model_may_come_by_its_folder(model, catalog, tmp_path):
    table = embed(model.save(tmp_path / "model"), catalog, device="cpu", progress=False)
    np.testing.assert_array_equal(table.vectors, embed(model, catalog, progress=False).vectors)


def test_prepared_images_give_the_same_table(model, catalog, tmp_path):
    prepared = prepare_images(catalog.paths, list("abcdef"), model.preparation, cache=tmp_path / "c", progress=False)
    table, wanted = embed_prepared(model, catalog, prepared, progress=False), embed(model, catalog, progress=False)
    np.testing.assert_array_equal(table.vectors, wanted.vectors)
    assert table.to_frame().equals(wanted.to_frame())
    assert table.provenance == wanted.provenance


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_broken_files_are_left_out_and_named_with_their_reason(model, catalog, tmp_path, caplog, batch_size):
    with open(catalog.paths[1], "wb") as broken:  # noqa: PTH123
        broken.write(b"no image")
    missing = catalog.paths[4]
    catalog = ImageCatalog(catalog.frame.assign(path=[p if p != missing else f"{p}.gone" for p in catalog.paths]))
    table = embed(model, catalog, batch_size=batch_size, progress=False)
    good = [0, 2, 3, 5]
    assert table.object_id.tolist() == list("acdf")
    np.testing.assert_allclose(table.vectors, model.embed([catalog.paths[row] for row in good]), atol=1e-5)
    faults = table.provenance["faults"]
    assert list(faults) == [catalog.paths[1], f"{missing}.gone"]
    assert "no image" in faults[catalog.paths[1]]
    assert "does not exist" in faults[f"{missing}.gone"]
    assert "2 of 6 images left out" in caplog.text
    table.save(tmp_path / "vectors.parquet")
    assert EmbeddingTable.load(tmp_path / "vectors.parquet").provenance["faults"] == faults


def test_not_one_readable_image_is_an_error_that_names_the_first(model):
    with pytest.raises(InputError, match=r"none of the 2 images.*gone\.png: the file does not exist"):
        embed(model, ["gone.png", "lost.png"], progress=False)


def test_no_image_at_all_is_an_error(model, catalog):
    with pytest.raises(InputError, match="found none"):
        embed(model, [], progress=False)
    with pytest.raises(InputError, match="no image to embed"):
        embed(model, catalog.select(np.zeros(6, dtype=bool)), progress=False)


def test_a_folder_is_read_and_a_single_image_must_come_in_a_list(model, catalog, drawn_folder):
    folder = drawn_folder / "medusa"
    assert len(embed(model, folder, progress=False)) == len(list(folder.iterdir()))
    with pytest.raises(InputError, match="expected a folder of images, or a catalog"):
        embed(model, catalog.paths[0], progress=False)
