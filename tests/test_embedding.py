"""From files to a table: order, labels, faults, views and sizes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plankton_embed.embedding import embed_prepared
from plankton_embed.embedding import embed_source as embed
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.drawn import draw_set
from plankton_embed.images.store import prepare_images
from plankton_embed.network.device import has_fast_bfloat16
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings
from plankton_embed.table import EmbeddingTable


def build(**network):
    network = NetworkSettings(trunk="resnet18", dimension=8, **network)
    return EmbeddingModel.build(network, PreparationSettings(target_size=75), seed=0).to("cpu")


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def catalog(tmp_path):
    folder = draw_set(tmp_path / "drawn", n_per_class=3, classes=("copepod", "medusa"))
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    labels = ["Cop epod", "é<", None] * 2
    return ImageCatalog.from_rows(
        {"path": paths, "object_id": list("abcdef"), "label": labels, "sample_id": list("112233")}
    )


def test_images_of_the_other_polarity_are_warned_of(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = np.full((40, 50), 230, dtype=np.uint8)
        pixels[10:30, 15:35] = rng.integers(0, 120, (20, 20))
        Image.fromarray(pixels).save(tmp_path / f"light{number}.png")
        Image.fromarray(255 - pixels).save(tmp_path / f"dark{number}.png")
    light, dark = (sorted(map(str, tmp_path.glob(f"{name}*.png"))) for name in ("light", "dark"))
    network = NetworkSettings(trunk="shufflenet_v2_x0_5", dimension=8)
    for polarity, warns in (("as_is", True), ("dark_on_light", False)):
        model = EmbeddingModel.build(network, PreparationSettings(target_size=32, polarity=polarity))
        model.training["share_dark"] = 0.0  # as that of these light images
        embed(model, light, progress=False)
        assert "have a dark background" not in caplog.text
        embed(model, dark, progress=False)
        assert ("100 % of these images have a dark background, but 0 %" in caplog.text) == warns
        caplog.clear()
        model.training["share_dark"] = 1.0  # as that of the dark images; those that cannot be read are neither
        embed(model, dark + [str(tmp_path / f"missing{number}.png") for number in range(9)], progress=False)
        assert ("of these images have a dark background" in caplog.text) != warns
        caplog.clear()


def test_a_table_has_the_rows_of_its_catalog(model, catalog):
    table = embed(model, catalog, progress=False)
    np.testing.assert_array_equal(table.vectors, model.embed(catalog.paths))
    assert table.object_id.tolist() == list("abcdef")
    assert table.label.tolist() == ["Cop epod", "é<", None] * 2
    assert table.path.tolist() == catalog.paths
    assert table.sample_id.tolist() == list("112233")
    precision = "bfloat16" if has_fast_bfloat16(model.device) else "float32"
    assert table.provenance == {**model.provenance, "precision": precision}


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
    assert "not an image" in faults[catalog.paths[1]]
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
    with pytest.raises(InputError, match="no images to embed"):
        embed(model, catalog.select(np.zeros(6, dtype=bool)), progress=False)


def test_a_folder_is_read_and_a_single_image_must_come_in_a_list(model, catalog, drawn_folder):
    folder = drawn_folder / "medusa"
    assert len(embed(model, folder, progress=False)) == len(list(folder.iterdir()))
    with pytest.raises(InputError, match="expected a folder of images, or a catalog"):
        embed(model, catalog.paths[0], progress=False)


# --- views


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_views_are_the_models_own_unless_asked_for(model, catalog, views):
    wanted = model.embed(catalog.paths, views=views)
    np.testing.assert_array_equal(embed(model, catalog, views=views, progress=False).vectors, wanted)
    own = replace(model, views=views)
    np.testing.assert_array_equal(embed(own, catalog, progress=False).vectors, wanted)
    np.testing.assert_array_equal(embed(own, catalog, views=1, progress=False).vectors, model.embed(catalog.paths))


def test_prepared_images_are_seen_in_the_models_own_views(model, catalog, tmp_path):
    four = replace(model, views=4)
    prepared = prepare_images(catalog.paths, list("abcdef"), model.preparation, cache=tmp_path / "c", progress=False)
    np.testing.assert_array_equal(
        embed_prepared(four, catalog, prepared, progress=False).vectors, model.embed(catalog.paths, views=4)
    )


def test_three_views_are_refused(model, catalog):
    with pytest.raises(SettingError, match=r"^views: .*found 3$"):
        embed(model, catalog, views=3, progress=False)


@pytest.mark.parametrize("option", [{"views": 3}, {"precision": "half"}, {"compile": "yes"}, {"batch_size": 0}])
def test_a_wrong_option_is_refused_before_any_image_is_looked_for(model, option):
    (name,) = option
    with pytest.raises(SettingError, match=f"^{name}: expected"):
        embed(model, ["gone.png"], progress=False, **option)
    with pytest.raises(SettingError, match=f"^{name}: expected"):
        model.embed(["gone.png"], **option)


# --- size inputs


def with_pixel_size(catalog, values):
    return ImageCatalog(catalog.frame.assign(pixel_size=values))


@pytest.fixture
def sized(catalog):
    """The catalog, its images cut to sizes that all differ."""
    for number, path in enumerate(catalog.paths):
        with Image.open(path) as image:
            cut = image.crop((0, 0, 30 + 9 * number, 80 - 7 * number))
        cut.save(path)
    return catalog


@pytest.mark.parametrize("batch_size", [2, 64])
def test_sizes_in_pixels_are_the_same_from_files_in_memory_and_prepared(in_pixels, sized, tmp_path, batch_size):
    table = embed(in_pixels, sized, batch_size=batch_size, progress=False)
    pictures = [Image.open(path) for path in sized.paths]
    np.testing.assert_allclose(table.vectors, in_pixels.embed(pictures), atol=1e-5)
    prepared = prepare_images(sized.paths, list("abcdef"), in_pixels.preparation, cache=tmp_path / "c", progress=False)
    again = embed_prepared(in_pixels, sized, prepared, progress=False)
    np.testing.assert_allclose(again.vectors, table.vectors, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_every_image_keeps_its_size_where_others_are_broken(in_micrometres, sized, batch_size):
    for row in (1, 4):
        Path(sized.paths[row]).write_text("no image")
    pixel_size = np.array([0.5, 1, 2, 3, 4, 5])
    table = embed(in_micrometres, with_pixel_size(sized, pixel_size), batch_size=batch_size, progress=False)
    good = [0, 2, 3, 5]
    wanted = in_micrometres.embed([sized.paths[row] for row in good], pixel_size=pixel_size[good])
    np.testing.assert_allclose(table.vectors, wanted, atol=1e-5)


def test_sizes_in_micrometres_come_from_the_column_pixel_size(in_micrometres, sized, tmp_path):
    scaled = with_pixel_size(sized, [0.5, 1, 2, 3, 4, 5])
    table = embed(in_micrometres, scaled, progress=False)
    np.testing.assert_array_equal(
        table.vectors, in_micrometres.embed(sized.paths, pixel_size=np.float32([0.5, 1, 2, 3, 4, 5]))
    )
    from_file = embed(in_micrometres, scaled.save(tmp_path / "c.csv"), progress=False)
    np.testing.assert_array_equal(from_file.vectors, table.vectors)
    other = embed(in_micrometres, with_pixel_size(sized, [0.5, 1, 2, 3, 4, 50]), progress=False)
    assert (np.abs(other.vectors - table.vectors).max(axis=1) > 1e-3).tolist() == [False] * 5 + [True]


def test_twice_as_fine_and_half_as_large_is_the_same_image(in_micrometres, tmp_path):
    for name, size in (("coarse.png", (60, 40)), ("fine.png", (120, 80))):
        Image.new("L", size, 200).save(tmp_path / name)  # both are prepared to one grey square
    paths = [tmp_path / "coarse.png", tmp_path / "fine.png"]
    table = embed(in_micrometres, ImageCatalog.from_rows({"path": paths, "pixel_size": [2, 1]}), progress=False)
    np.testing.assert_allclose(table.vectors[0], table.vectors[1], atol=1e-5)


@pytest.mark.parametrize(
    ("values", "found"),
    [([None] * 6, "6 of 6 images"), ([1, 1, None, 1, 0, -2], "3 of 6 images")],
)
def test_micrometres_that_are_not_known_are_refused(in_micrometres, catalog, values, found):
    with pytest.raises(InputError, match=f"side lengths in µm .*column pixel_size .*found none for {found}"):
        embed(in_micrometres, with_pixel_size(catalog, values), progress=False)


def test_micrometres_without_a_column_pixel_size_are_refused(in_micrometres, catalog, drawn_folder):
    for source in (catalog, catalog.paths, drawn_folder):
        with pytest.raises(InputError, match=r"column pixel_size .*found none for"):
            embed(in_micrometres, source, progress=False)


def test_a_pixel_size_that_is_no_number_is_refused(in_micrometres, catalog):
    with pytest.raises(InputError, match=r"column pixel_size: expected µm per pixel; .*'abc'"):
        embed(in_micrometres, with_pixel_size(catalog, ["abc"] * 6), progress=False)


def test_a_model_without_size_inputs_embeds_the_same_with_pixel_sizes(model, catalog):
    np.testing.assert_array_equal(
        embed(model, with_pixel_size(catalog, [1, 2, None, 4, 5, 6]), progress=False).vectors,
        model.embed(catalog.paths),
    )


@pytest.mark.parametrize("values", [[2.0] * 6, [None] * 6], ids=["known", "empty"])
def test_sizes_in_pixels_stay_in_pixels_though_the_catalog_has_a_pixel_size(in_pixels, catalog, values):
    np.testing.assert_array_equal(
        embed(in_pixels, with_pixel_size(catalog, values), progress=False).vectors, in_pixels.embed(catalog.paths)
    )
