"""Pixels for the comparison nets: order, shape, stretching, faults; threshold and opening against scikit-image."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plankton_embed.baselines.inputs import find_thresholds, read_pixels, three_channels
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog


@pytest.fixture
def pictures(tmp_path):
    """Three grey images: black, white, and left half black."""
    half = np.full((30, 40), 255, dtype=np.uint8)
    half[:, :20] = 0
    arrays = {"black": np.zeros((10, 20), np.uint8), "white": np.full((20, 10), 255, np.uint8), "half": half}
    for name, array in arrays.items():
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    return [str(tmp_path / f"{name}.png") for name in arrays]


def test_images_come_in_order_stretched_to_the_shape(pictures):
    pixels = read_pixels(pictures, 64, 48, progress=False)
    assert pixels.shape == (3, 64, 48)
    assert pixels.dtype == np.uint8
    assert (pixels[0] == 0).all()
    assert (pixels[1] == 255).all()
    assert (pixels[2, :, :20] == 0).all()
    assert (pixels[2, :, 28:] == 255).all()


def test_other_systems_see_no_scale_bar_either(tmp_path):
    animal = np.full((60, 90), 255, np.uint8)
    animal[15:60, 5:85] = np.random.default_rng(0).integers(60, 160, (45, 80), dtype=np.uint8)
    strip = np.full((20, 90), 255, np.uint8)
    strip[8:12, 10:80] = 0
    Image.fromarray(animal).save(tmp_path / "animal.png")
    Image.fromarray(np.vstack([animal, strip])).save(tmp_path / "marked.png")
    paths = [tmp_path / "animal.png", tmp_path / "marked.png"]
    alone, marked = read_pixels(paths, 64, 48, progress=False)
    np.testing.assert_array_equal(alone, marked)
    _, kept = read_pixels(paths, 64, 48, progress=False, remove_marks="off")
    assert (kept[-16:] < 50).any()
    assert (alone >= 40).all()


def test_a_resize_is_that_of_pillow(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (33, 57), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "noise.png")
    wanted = np.asarray(Image.fromarray(array).resize((48, 64), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(read_pixels([tmp_path / "noise.png"], 64, 48, progress=False)[0], wanted)


def test_a_catalog_of_an_array_is_read_row_by_row(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", array)
    frame = pd.DataFrame(
        {"object_id": list("abcd"), "path": [str(tmp_path / "images.npy" / str(row)) for row in (2, 0, 3, 1)]}
    )
    np.testing.assert_array_equal(read_pixels(ImageCatalog(frame), 8, 8, progress=False), array[[2, 0, 3, 1]])


def test_colour_is_kept_and_grey_is_repeated(tmp_path, pictures):
    red = np.zeros((5, 5, 3), dtype=np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "red.png")
    pixels = read_pixels([tmp_path / "red.png", pictures[1]], 6, 6, "rgb", progress=False)
    assert pixels.shape == (2, 6, 6, 3)
    assert pixels[0, 3, 3].tolist() == [200, 0, 0]
    assert (pixels[1] == 255).all()


def test_three_channels_are_read_and_drawn_from_grey(pictures):
    grey = read_pixels(pictures, 20, 20, progress=False)
    pixels = read_pixels(pictures, 20, 20, "three", progress=False)
    np.testing.assert_array_equal(pixels[..., 0], grey)
    np.testing.assert_array_equal(pixels, three_channels(grey))


def test_broken_images_are_named(tmp_path, pictures):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2 of 5 images cannot be read(.|\n)*broken\.png(.|\n)*gone\.png"):
        read_pixels([*pictures, tmp_path / "broken.png", tmp_path / "gone.png"], 8, 8, progress=False)


@pytest.mark.parametrize(("height", "channels"), [(0, "grey"), (8, "gray")])
def test_wrong_settings_are_named(pictures, height, channels):
    with pytest.raises(SettingError, match=r"channels|height"):
        read_pixels(pictures, height, 8, channels, progress=False)


def test_no_images_give_an_empty_array():
    assert read_pixels([], 6, 4, "three", progress=False).shape == (0, 6, 4, 3)


def test_thresholds_are_those_of_scikit_image():
    filters = pytest.importorskip("skimage.filters")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 20, 30))
    two = np.where(rng.random((6, 20, 30)) < 0.3, rng.normal(60, 15, (6, 20, 30)), rng.normal(180, 20, (6, 20, 30)))
    images = np.concatenate([noise, two.clip(0, 255)]).astype(np.uint8)
    assert find_thresholds(images).tolist() == [filters.threshold_otsu(image) for image in images]


def test_the_threshold_of_four_pixels_by_hand():
    assert find_thresholds(np.array([[[10, 10], [50, 90]], [[7, 7], [7, 7]]], dtype=np.uint8)).tolist() == [10, 7]


def test_the_organism_is_white_whether_dark_or_light():
    dark = np.full((9, 9), 220, dtype=np.uint8)
    dark[3:7, 2:6] = 40
    dark[1, 7] = 40  # a speck
    channels = three_channels(np.stack([dark, 255 - dark]))
    for picture in channels:
        assert (picture[..., 1] == 255).sum() == 17
        assert (picture[..., 2] == 255).sum() == 16
        assert (picture[3:7, 2:6, 2] == 255).all()


def test_the_opening_is_that_of_scikit_image():
    morphology = pytest.importorskip("skimage.morphology")
    grey = np.random.default_rng(3).integers(0, 256, (5, 24, 31), dtype=np.uint8)
    grey[:, 4:15, :12] //= 4  # larger parts, one at the border
    channels = three_channels(grey)
    for picture in channels:
        np.testing.assert_array_equal(picture[..., 2], morphology.opening(picture[..., 1], np.ones((3, 3))))


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)])
def test_three_channels_of_something_else_are_refused(images):
    with pytest.raises(InputError, match="expected grey images"):
        three_channels(images)


def test_real_images_have_two_or_more_parts(ndsb_folder):
    paths = (
        sorted(map(str, ndsb_folder.glob("copepod*/*.jpg")))[:20] or sorted(map(str, ndsb_folder.glob("*/*.jpg")))[:20]
    )
    pixels = read_pixels(paths, 64, 64, "three", progress=False)
    share = (pixels[..., 1] == 255).mean(axis=(1, 2))
    assert ((share > 0) & (share < 0.75)).all()  # the animal, not the water
