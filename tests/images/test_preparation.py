from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.images.preparation import open_image, prepare_image
from plankton_embed.settings import PreparationSettings

GREY = PreparationSettings(background="white")
COLOR = PreparationSettings(background="white", color="color")


def ramp(width, height, dtype=np.uint8):
    """Grey values that all differ, as far as they go."""
    return (np.arange(width * height).reshape(height, width) % 251).astype(dtype)


def encode(image, kind, **options):
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def extent(pixels, background=255):
    """Return left, top, width, height of what is not background."""
    rows, columns = np.nonzero((pixels != background).any(axis=2))
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


# --- sizes


@pytest.mark.parametrize(
    ("side", "size", "inside"),
    [
        # T = 299: < 100 grows 4 times, < 200 twice, above 299 shrinks
        (299, (50, 20), (200, 80)),
        (299, (74, 74), (296, 296)),
        (299, (99, 33), (299, 100)),  # 396 x 132, then shrunk
        (299, (100, 50), (200, 100)),
        (299, (149, 60), (298, 120)),
        (299, (199, 99), (299, 149)),  # 398 x 198, then shrunk
        (299, (200, 80), (200, 80)),
        (299, (299, 299), (299, 299)),
        (299, (598, 100), (299, 50)),
        (299, (3000, 3), (299, 1)),
        # T = 96: the limits are 32.1 and 64.2
        (96, (16, 8), (64, 32)),
        (96, (32, 16), (96, 48)),
        (96, (33, 20), (66, 40)),
        (96, (48, 10), (96, 20)),
        (96, (64, 32), (96, 48)),
        (96, (65, 30), (65, 30)),
        (96, (96, 5), (96, 5)),
        (96, (192, 100), (96, 50)),
        (96, (3, 3), (12, 12)),
    ],
)
@pytest.mark.parametrize("portrait", [False, True])
def test_sizes_by_hand(side, size, inside, portrait):
    width, height = size
    shape = (width, height) if portrait else (height, width)
    square, _, original = prepare_image(np.zeros(shape, np.uint8), GREY.model_copy(update={"target_size": side}))
    assert square.shape == (side, side, 1)
    assert original == shape[::-1]
    left, top, *found = extent(square)
    assert tuple(found) == inside
    assert (left, top) == ((side - inside[0]) // 2, (side - inside[1]) // 2)


@given(st.integers(3, 400), st.integers(3, 400), st.sampled_from([75, 96, 150, 299]))
@settings(max_examples=60)
def test_any_size_follows_the_rule_of_the_report(width, height, side):
    """Grow, then shrink, as in the two steps of the report; ours is one step, so a pixel of rounding may differ."""
    long, short = max(width, height), min(width, height)
    growth = 4 if long < 100 * side / 299 else 2 if long < 200 * side / 299 else 1
    shrink = min(1, side / (long * growth))
    square, _, _ = prepare_image(np.zeros((height, width), np.uint8), GREY.model_copy(update={"target_size": side}))
    _, _, found_long, found_short = extent(square)
    assert found_long == round(long * growth * shrink)
    assert abs(found_short - max(1, short * growth * shrink)) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("size", "inside"), [((10, 5), (96, 48)), ((95, 3), (96, 3)), ((96, 40), (96, 40)), ((500, 250), (96, 48))]
)
@pytest.mark.parametrize("portrait", [False, True])
def test_filling_makes_the_longest_side_that_of_the_square(size, inside, portrait):
    width, height = size
    shape = (width, height) if portrait else (height, width)
    square, _, original = prepare_image(np.zeros(shape, np.uint8), GREY.model_copy(update={"scaling": "fill"}))
    assert tuple(extent(square)[2:]) == inside
    assert original == shape[::-1]


# --- polarity


def draw_animal(animal, background):
    pixels = np.full((50, 96), background, np.uint8)
    pixels[15:35, 10:40] = animal
    return pixels


@pytest.mark.parametrize(
    ("polarity", "animal", "background", "expected"),
    [
        ("dark_on_light", 200, 20, (55, 235)),
        ("dark_on_light", 20, 200, (20, 200)),
        ("dark_on_light", 200, 127, (55, 128)),  # 127 is dark, 128 is light
        ("dark_on_light", 200, 128, (200, 128)),
        ("light_on_dark", 200, 20, (200, 20)),
        ("light_on_dark", 20, 200, (235, 55)),
        ("dark_on_light", 90, 100, (90, 100)),  # little light, but the animal is darker than its background
        ("light_on_dark", 90, 100, (165, 155)),
        ("dark_on_light", 10, 60, (10, 60)),
        ("dark_on_light", 10, 20, (245, 235)),  # nearly black is dark, whatever is in front of it
        ("light_on_dark", 0, 0, (0, 0)),
        ("as_is", 200, 20, (200, 20)),
    ],
)
def test_an_image_of_the_other_polarity_is_inverted(polarity, animal, background, expected):
    chosen = PreparationSettings(polarity=polarity)
    square, padding, _ = prepare_image(draw_animal(animal, background), chosen)
    assert padding == [expected[1]]  # the median of the border after inverting
    assert set(np.unique(square)) == set(expected)


def test_noise_and_a_few_bright_pixels_do_not_invert_a_dim_light_background():
    pixels = np.random.default_rng(0).normal(120, 3, (60, 80)).round().astype(np.uint8)
    pixels[20:30, 20:40], pixels[40, 40:60] = 60, 250  # an animal, and a bright line in less than 1 % of the image
    square, padding, _ = prepare_image(pixels, PreparationSettings(polarity="dark_on_light"))
    assert abs(int(padding[0]) - 120) <= 1 and square.min() <= 60


def test_both_polarities_of_a_picture_give_the_same_pixels():
    picture = ramp(60, 40)
    picture[:2], picture[-2:], picture[:, :2], picture[:, -2:] = 230, 230, 230, 230
    light, dark = (
        prepare_image(pixels, PreparationSettings(polarity="dark_on_light")) for pixels in (picture, 255 - picture)
    )
    np.testing.assert_array_equal(light[0], dark[0])
    np.testing.assert_array_equal(light[1], dark[1])


def test_the_border_of_a_colour_image_is_judged_by_its_grey():
    blue = np.zeros((50, 60, 3), np.uint8)
    blue[:, :, 2] = 255  # its grey is 29
    blue[20:30, 20:30] = 200
    chosen = PreparationSettings(polarity="dark_on_light", color="color")
    np.testing.assert_array_equal(prepare_image(blue, chosen)[1], [255, 255, 0])


def test_models_of_earlier_releases_keep_polarity_and_scaling():
    saved = {"target_size": 96, "background": "border", "color": "grey"}
    old = PreparationSettings.from_saved(saved)
    assert (old.polarity, old.scaling) == ("as_is", "report")


# --- pixels


def test_an_image_of_the_right_size_passes_unchanged():
    assert (prepare_image(ramp(96, 96), GREY)[0][:, :, 0] == ramp(96, 96)).all()


def test_growing_is_pillows_bicubic_and_shrinking_its_lanczos():
    for size, inside, filter_ in (((24, 12), (96, 48), "BICUBIC"), ((192, 96), (96, 48), "LANCZOS")):
        expected = Image.fromarray(ramp(*size)).resize(inside, Image.Resampling[filter_])
        assert (prepare_image(ramp(*size), GREY)[0][24:72, :, 0] == np.asarray(expected)).all()


def test_a_portrait_is_turned_by_90_degrees_and_not_mirrored():
    portrait = ramp(40, 96)
    assert (prepare_image(portrait, GREY)[0][28:68, :, 0] == np.rot90(portrait)).all()


def test_an_odd_rest_of_padding_goes_right_and_below():
    square, _, _ = prepare_image(np.zeros((67, 91), np.uint8), GREY)
    assert extent(square) == (2, 14, 91, 67)  # 5 and 29 pixels to spare


@pytest.mark.parametrize(("background", "value"), [("white", 255), ("black", 0), ("border", 7)])
def test_padding_has_the_chosen_background(background, value):
    image = np.full((65, 65), 200, np.uint8)
    image[[0, -1]], image[1:-1, 0] = 7, 9  # the border: 130 of 7, 63 of 9, 63 of 200
    square, found, _ = prepare_image(image, PreparationSettings(background=background))
    assert found.tolist() == [value]
    assert (square[:15] == value).all()
    assert (square[80:] == value).all()
    assert (square[:, [0, 14, 80, 95]] == value).all()
    assert (square[15:80, 15:80, 0] == image).all()


def test_the_border_median_is_taken_of_each_channel():
    image = np.zeros((65, 65, 3), np.uint8)
    image[:] = (10, 20, 30)
    image[20:40, 20:40] = 255
    assert prepare_image(image, PreparationSettings(color="color"))[1].tolist() == [10, 20, 30]


def test_color_is_kept_or_turned_to_grey_as_pillow_does():
    image = np.stack([ramp(96, 96), ramp(96, 96).T, 255 - ramp(96, 96)], axis=2)
    assert (prepare_image(image, COLOR)[0] == image).all()
    assert (prepare_image(image, GREY)[0][:, :, 0] == np.asarray(Image.fromarray(image).convert("L"))).all()


def test_grey_is_copied_to_three_channels():
    assert (prepare_image(ramp(96, 96), COLOR)[0] == ramp(96, 96)[:, :, None]).all()


# --- modes and files


def grey_image(mode):
    """One picture, 80 in the middle of 200, in any mode."""
    base = np.full((96, 96), 200, np.uint8)
    base[30:60, 30:60] = 80
    if mode in ("I;16", "I"):
        return Image.fromarray(base.astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    if mode == "F":
        return Image.fromarray(base.astype(np.float32) / 255)
    if mode == "1":
        return Image.fromarray(base > 100)
    return Image.fromarray(base).convert("RGB" if mode == "CMYK" else mode).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"])
@pytest.mark.parametrize("chosen", [GREY, COLOR], ids=["grey", "color"])
def test_every_mode_shows_the_same_picture(mode, chosen):
    square, _, _ = prepare_image(grey_image(mode), chosen)
    outside, inside = (255, 0) if mode == "1" else (200, 80)
    assert square.shape == (96, 96, chosen.n_channels)
    assert (square[0, 0] == outside).all()
    assert (square[45, 45] == inside).all()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *[(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
        *[(mode, "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")],
        *[(mode, "BMP") for mode in ("1", "L", "P", "RGB")],
        *[(mode, "GIF") for mode in ("L", "P", "RGB")],
        *[(mode, "JPEG") for mode in ("L", "RGB", "CMYK")],
        ("L", "WEBP"),
        ("I;16", "JPEG2000"),
    ],
)
@pytest.mark.parametrize("as_path", [True, False])
def test_every_kind_of_file_shows_the_same_picture(tmp_path, mode, kind, as_path):
    data = encode(grey_image(mode), kind)
    (tmp_path / "image").write_bytes(data)  # the content counts, not the name
    square, _, _ = prepare_image(str(tmp_path / "image") if as_path else data, GREY)
    expected = (255, 0) if mode == "1" else (200, 80)
    assert np.abs(square[[0, 45], [0, 45], 0] - np.float64(expected)).max() <= (3 if kind in ("JPEG", "WEBP") else 0)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_tiff_of_every_compression(mode, compression):
    data = encode(grey_image(mode), "TIFF", compression=compression)
    assert prepare_image(data, GREY)[0][45, 45] == 80


@pytest.mark.parametrize(("level", "value", "expected"), [(65535, 65535, 255), (65535, 32768, 128), (4095, 819, 51)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bit_values_are_scaled_by_the_white_level(level, value, expected, dtype):
    image = Image.fromarray(np.full((65, 65), value, dtype))
    chosen = PreparationSettings(white_level_16bit=level)
    assert (prepare_image(encode(image, "TIFF"), chosen)[0] == expected).all()


def test_16_bit_values_above_the_white_level_are_white():
    image = np.full((65, 65), 5000, np.uint16)
    assert (prepare_image(image, PreparationSettings(white_level_16bit=4095))[0] == 255).all()


@pytest.mark.parametrize(("largest", "expected"), [(1.0, 51), (255.0, 51), (65535.0, 51), (-1.0, 0)])
def test_a_float_image_is_scaled_by_its_range(largest, expected):
    values = np.full((65, 65), np.float32(0.2 * largest))
    values[30, 30] = largest
    assert prepare_image(Image.fromarray(values), GREY)[0][20, 20] == expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((65, 65), 51, np.uint8), 51),
        (np.full((65, 65, 1), 51, np.uint8), 51),
        (np.full((65, 65, 3), 51, np.uint8), 51),
        (np.full((65, 65), 51 * 257, np.uint16), 51),
        (np.full((65, 65, 1), 51 * 257, np.uint16), 51),
        (np.full((65, 65), True), 255),
        (np.full((65, 65), False), 0),
        (np.full((65, 65), 0.2, np.float32), 51),
        (np.full((65, 65, 3), 0.2, np.float64), 51),
        (np.full((65, 65), 1.0, np.float16), 255),
        (np.full((65, 130), 51, np.uint8)[:, ::2], 51),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else None,
)
def test_arrays_of_every_kind(array, expected):
    assert (prepare_image(array, GREY)[0][15:80, 15:80] == expected).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(9, np.uint8), "shape"),
        (np.zeros((9, 9, 4), np.uint8), r"shape \(9, 9, 4\)"),
        (np.zeros((0, 9), np.uint8), "shape"),
        (np.zeros((9, 9), np.int64), "found int64"),
        (np.zeros((9, 9, 3), np.uint16), "found uint16"),
        (np.full((9, 9), 200.0), "between 0 and 1"),
        (np.full((9, 9), -0.1), "between 0 and 1"),
        (np.full((9, 9), np.nan), "between 0 and 1"),
        (np.zeros((2, 9), np.uint8), "9×2 pixels"),
    ],
)
def test_arrays_of_other_kinds_are_refused(array, reason):
    with pytest.raises(InputError, match=reason):
        prepare_image(array, GREY)


def transparent_images():
    """Black pictures whose left half is not there, by every way to say so."""
    alpha = Image.fromarray(np.repeat(np.uint8([0, 255]), 48)[None].repeat(96, 0))
    black = Image.new("L", (96, 96), 0)
    la, rgba = Image.merge("LA", (black, alpha)), Image.merge("RGBA", (black, black, black, alpha))
    half = Image.fromarray(np.repeat(np.uint8([9, 0]), 48)[None].repeat(96, 0))
    palette = half.convert("P")
    return {
        "LA": encode(la, "PNG"),
        "RGBA": encode(rgba, "PNG"),
        "RGBA in TIFF": encode(rgba, "TIFF"),
        "L with a key": encode(half, "PNG", transparency=9),
        "RGB with a key": encode(half.convert("RGB"), "PNG", transparency=(9, 9, 9)),
        "P with a key": encode(palette, "PNG", transparency=palette.getpixel((0, 0))),
        "GIF": encode(palette, "GIF", transparency=palette.getpixel((0, 0))),
    }


@pytest.mark.parametrize("name", transparent_images())
@pytest.mark.parametrize("chosen", [GREY, COLOR], ids=["grey", "color"])
def test_transparent_pixels_become_white(name, chosen):
    square, _, _ = prepare_image(transparent_images()[name], chosen)
    assert (square[:, :48] == 255).all()
    assert (square[:, 48:] == 0).all()


def test_half_transparent_pixels_are_mixed_with_white():
    image = Image.new("RGBA", (96, 96), (0, 0, 0, 51))
    assert (prepare_image(image, COLOR)[0] == 204).all()


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
@pytest.mark.parametrize("opened", [False, True])
def test_images_are_turned_by_their_exif(orientation, upright, opened):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(ramp(90, 70)), "PNG", exif=exif)
    image = open_image(Image.open(io.BytesIO(data)) if opened else data)
    assert (np.asarray(image) == upright(ramp(90, 70))).all()


def test_only_the_first_picture_of_a_film_counts():
    frames = [Image.new("L", (65, 65), value) for value in (10, 200)]
    assert (prepare_image(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]), GREY)[0][40, 40]) == 10


# --- faults


def write_png(path, side):
    """Write a black PNG row by row, at next to no cost."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(side // 8 + 2)) for _ in range(side)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + png)


JPEG = encode(Image.fromarray(ramp(200, 200)), "JPEG")
FAULTS = {
    "empty.png": (b"", "the file is empty"),
    "text.jpg": (b"this is no image", "not an image of a known format"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "cannot be decoded: image file is truncated"),
    "head.png": (encode(grey_image("L"), "PNG")[:60], "cannot be decoded"),
    "cut.tif": (encode(grey_image("L"), "TIFF")[:-5000], "cannot be decoded"),
    "one.png": (encode(Image.new("L", (1, 1)), "PNG"), "1×1 pixels: a side is under 3"),
    "thin.png": (encode(Image.new("L", (500, 2)), "PNG"), "500×2 pixels: a side is under 3"),
    "nan.tif": (encode(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"), "not finite"),
    "lab.tif": (encode(Image.new("LAB", (9, 9)), "TIFF"), "mode LAB cannot be converted"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("as_path", [True, False])
def test_every_fault_has_its_own_reason(tmp_path, name, as_path):
    data, reason = FAULTS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=reason):
        prepare_image(tmp_path / name if as_path else data, GREY)


def test_files_that_cannot_be_opened_give_the_reason(tmp_path):
    with pytest.raises(InputError, match="the file does not exist"):
        prepare_image(tmp_path / "none.png", GREY)
    with pytest.raises(InputError, match="cannot be opened: Is a directory"):
        prepare_image(tmp_path, GREY)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("opened", [False, True])
def test_too_many_pixels_are_refused_below_pillows_own_error_too(tmp_path, opened):
    write_png(tmp_path / "large.png", 9600)
    source = Image.open(tmp_path / "large.png") if opened else tmp_path / "large.png"
    with pytest.raises(InputError, match="9600×9600 pixels: over the limit of 89,478,485"):
        prepare_image(source, GREY)


HUGE = """
import sys
from plankton_embed.errors import InputError
from plankton_embed.images.preparation import prepare_image
from plankton_embed.settings import PreparationSettings
from plankton_embed.workflows.compare_trial import measure_peak_memory
from PIL import Image
Image.init()
before = measure_peak_memory()
try:
    prepare_image(sys.argv[1], PreparationSettings())
except InputError as error:
    print(measure_peak_memory() - before, error, sep="|")
"""


@pytest.mark.parametrize("name", ["huge.png", "raw.bmp"])
def test_a_picture_of_30000_by_30000_is_refused_in_little_memory(tmp_path, name):
    path = tmp_path / name
    if name == "huge.png":
        write_png(path, 30_000)
    else:  # of the right size, but sparse
        path.write_bytes(
            struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 30000, 30000, 1, 8, 0, 0, 0, 0, 0, 0)
        )
        with path.open("r+b") as file:
            file.truncate(900_000_000)
    run = subprocess.run([sys.executable, "-c", HUGE, str(path)], capture_output=True, text=True, check=True)
    megabytes, _, reason = run.stdout.partition("|")
    assert "pixels" in reason
    assert float(megabytes) < 50


@given(data=st.data(), name=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM"]))
@settings(max_examples=150)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_damaged_file_is_prepared_or_refused_and_nothing_else(data, name):
    file = bytearray(encode(Image.fromarray(ramp(30, 20)), name))
    for _ in range(data.draw(st.integers(1, 5))):
        file[data.draw(st.integers(0, min(len(file), 200) - 1))] = data.draw(st.integers(0, 255))
    try:
        square, _, _ = prepare_image(bytes(file), GREY)
    except InputError as error:
        assert str(error)
    else:
        assert square.shape == (96, 96, 1)


def test_real_images_are_prepared(data_folder):
    paths = (
        sorted((data_folder / "ifcb_groups").rglob("*.*"))[::40]
        + sorted((data_folder / "zooscan").rglob("*.jpg"))[::40]
    )
    assert len(paths) > 20
    for path in paths:
        square, background, (width, height) = prepare_image(path, PreparationSettings())
        assert square.std() > 1
        whole = Image.open(path).size
        assert prepare_image(path, PreparationSettings(remove_marks="off"))[2] == whole
        if "zooscan" in str(path):  # the strip below the animal is cut off
            assert width <= whole[0] and height < whole[1] - 20
        else:
            assert (width, height) == whole
        corner = square[0, 0] if width != height else background
        assert corner.tolist() == background.tolist()
