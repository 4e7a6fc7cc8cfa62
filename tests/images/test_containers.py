"""Images inside other files."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog, content_hashes
from plankton_embed.images.catalog_summary import summarize
from plankton_embed.images.containers import image_exists, read_image
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import open_image

PICTURE = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30).astype(np.uint8)  # 30 wide, 20 high, no symmetry


@pytest.fixture
def places(tmp_path):
    """The same picture in every kind of container, by the path inside."""
    Image.fromarray(PICTURE).save(tmp_path / "plain.png")
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w") as archive:
        archive.write(tmp_path / "plain.png", "imgs/a b.png")
    (tmp_path / "bin.roi").write_bytes(b"\0" * 7 + PICTURE.tobytes() + b"\0")
    collage = np.full((50, 60), 9, dtype=np.uint8)
    collage[5:25, 11:41] = PICTURE
    Image.fromarray(collage).save(tmp_path / "collage.tif")
    np.save(tmp_path / "rows.npy", np.stack([PICTURE * 0, PICTURE]))
    np.save(tmp_path / "floats.npy", np.stack([PICTURE * 0, PICTURE]).astype(np.float64))
    np.savez(tmp_path / "rows.npz", images=np.stack([PICTURE * 0, PICTURE, PICTURE]))
    ways = ["plain.png", "imgs.zip/imgs/a b.png", "bin.roi/30x20+7", "collage.tif/30x20+11+5", "rows.npy/1"]
    return [str(tmp_path / way) for way in [*ways, "floats.npy/1", "rows.npz/images/2"]]


def test_the_same_pixels_come_out_of_every_container(places):
    for place in places:
        assert np.array_equal(np.asarray(open_image(place)), PICTURE), place


def test_a_catalog_of_them_is_hashed_measured_saved_and_read_again(places, tmp_path):
    catalog = ImageCatalog.from_rows({"path": places})
    hashes = content_hashes(places)
    assert None not in hashes
    assert len(set(hashes)) == 1  # the pixels, wherever they are
    sizes = summarize(catalog).sizes
    assert (sizes["width"] == 30).all()
    assert (sizes["height"] == 20).all()
    assert find_grey_levels(places, progress=False).sizes == [(30, 20)] * len(places)  # without a second look
    catalog.save(tmp_path / "catalog.csv")
    assert ",bin.roi/30x20+7," in (tmp_path / "catalog.csv").read_text().replace('"', "")
    assert ImageCatalog.load(tmp_path / "catalog.csv").paths == places


def test_a_mask_whitens_what_is_outside(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "collage.tif")
    mask = np.zeros_like(PICTURE)
    mask[2:4, 1:5] = 255
    Image.fromarray(mask).save(tmp_path / "collage_bin.tif")
    seen = read_image(tmp_path / "collage.tif/6x6+0+1&collage_bin.tif")
    assert np.array_equal(seen[1:3, 1:5], PICTURE[2:4, 1:5])
    assert (seen == 255).sum() == 36 - 8


def test_raw_boxes_are_joined_at_their_places(tmp_path):
    (tmp_path / "bin.roi").write_bytes(bytes([9] * 6 + [7] * 4))
    joined = read_image(tmp_path / "bin.roi/3x2+0+0+0&2x2+6+2+1")
    assert joined.tolist() == [[9, 9, 9, 9], [9, 9, 7, 7], [9, 9, 7, 7]]  # the median of the edges fills the gaps
    for way in ("3x2+0+0+0&2x2+9+2+1", "3x2+0&", "3x2+0&a.tif", "3x2+0+1", "0x2+0+0+0&2x2+6+2+1"):
        with pytest.raises(InputError, match="has no image"):
            read_image(tmp_path / "bin.roi" / way)
    with pytest.raises(InputError, match="has no image"):
        read_image(tmp_path / f"bin.roi/3x2+0+0+0&2x2+6+{10**9}+{10**9}")


def test_a_collage_of_16_bits_keeps_them_and_one_of_one_bit_is_black_and_white(tmp_path):
    deep = PICTURE.astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(PICTURE > 99).save(tmp_path / "bits.tif")
    assert np.array_equal(read_image(tmp_path / "deep.tif/6x6+2+1"), deep[1:7, 2:8])
    assert np.array_equal(read_image(tmp_path / "bits.tif/9x9+2+1")[..., 0], (PICTURE[1:10, 2:11] > 99) * 255)
    masked = read_image(tmp_path / "deep.tif/9x9+2+1&bits.tif")
    assert np.array_equal(masked, np.where(PICTURE[1:10, 2:11] > 99, deep[1:10, 2:11], 65535))


def test_a_container_written_anew_is_opened_anew(tmp_path):
    np.save(tmp_path / "a.npy", PICTURE[None])
    assert read_image(tmp_path / "a.npy/0").max() > 0
    np.save(tmp_path / "a.npy", np.zeros((1, 5, 5, 3), dtype=np.uint8))
    assert read_image(tmp_path / "a.npy/0").shape == (5, 5, 3)


@pytest.mark.parametrize(
    "way",
    [
        "imgs.zip/imgs/none.png",
        "bin.roi/30x20+9",
        "bin.roi/96",
        "collage.tif/30x20+40+5",
        "collage.tif/0x5+1+1",
        "rows.npy/2",
        "rows.npy/x",
        "rows.npz/labels/0",
        "plain.png/1",
    ],
)
def test_what_is_not_inside_is_reported(places, tmp_path, way):
    with pytest.raises(InputError, match="has no image"):
        open_image(tmp_path / way)
    assert content_hashes([places[0], str(tmp_path / way)])[1] is None


def test_a_missing_container_is_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_image(tmp_path / "none.zip/a.png")
    assert not image_exists(tmp_path / "none.zip/a.png")
    with pytest.raises(InputError, match="cannot be opened: Is a directory"):
        open_image(tmp_path)


def test_pickles_in_arrays_are_not_opened(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([PICTURE, None], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        open_image(tmp_path / "evil.npy/0")
