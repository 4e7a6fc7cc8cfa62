"""One white level a source, whatever its files are; and what is said of bit depths, colour and pages."""

import logging
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from plankton_embed.baselines.inputs import read_pixels
from plankton_embed.images import grey_levels
from plankton_embed.images.drawn import draw_plankton
from plankton_embed.images.grey_levels import find_grey_levels, resolve_white_level
from plankton_embed.images.preparation import prepare_image
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.shape_features import measure_shapes
from plankton_embed.images.store import prepare_images
from plankton_embed.settings import PreparationSettings

AUTO = PreparationSettings(target_size=64, remove_marks="off")


@pytest.fixture(scope="module")
def drawn():
    """Ten drawn animals, 8-bit arrays that reach from black to white."""
    rng = np.random.default_rng(0)
    pictures = [np.array(draw_plankton(label, rng)) for label in ("copepod", "medusa") for _ in range(5)]
    for picture in pictures:
        picture[0, 0], picture[0, 1] = 0, 255
    return pictures


def scale(picture, white):
    return np.rint(picture / 255 * white)


def save(folder, arrays, suffix="tif", dtype=np.uint16):
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{number:03}.{suffix}") for number in range(len(arrays))]
    for array, path in zip(arrays, paths, strict=True):
        Image.fromarray(np.asarray(array, dtype=dtype)).save(path)
    return paths


def write_tiff(values, bits=16, photometric=1, tags=()):
    """Return a little-endian TIFF of one strip; `tags`: (number, type 2 text or 3 short, value)."""
    height, width = values.shape
    if bits == 12:
        pairs = np.pad(values, ((0, 0), (0, width % 2))).astype(int).reshape(height, -1, 2)
        a, b = pairs[..., 0], pairs[..., 1]
        data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=-1).astype(np.uint8).tobytes()
    else:
        data = values.astype({8: "<u1", 16: "<u2"}[bits]).tobytes()
    texts, entries = b"", []
    start = 8 + len(data)
    for number, kind, value in sorted(
        [
            *((256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)),
            *((277, 3, 1), (278, 3, height), (279, 4, len(data)), *tags),
        ]
    ):
        if kind == 2:
            text = value.encode() + b"\0"
            entries.append(struct.pack("<HHII", number, 2, len(text), start + len(texts)))
            texts += text
        else:
            entries.append(struct.pack("<HHII", number, kind, 1, value))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, start + len(texts)) + data + texts + directory


def squares(images, settings):
    return np.stack([prepare_image(image, settings)[0] for image in images]).astype(int)


@pytest.mark.parametrize(
    ("white", "bits", "suffix", "dtype"),
    [
        *[(2**bits - 1, bits, "tif", np.uint16) for bits in (8, 10, 12, 14, 16)],
        *[(2**bits - 1, bits, "png", np.uint16) for bits in (8, 10, 12, 14, 16)],
        *[(2**bits - 1, bits, "tif", np.int32) for bits in (8, 12, 16)],
        *[(2**bits - 1, bits, "tif", np.float32) for bits in (8, 12, 16)],
    ],
)
def test_every_depth_gives_the_squares_of_the_8_bit_images(tmp_path, drawn, white, bits, suffix, dtype):
    paths = save(tmp_path, [scale(picture, white) for picture in drawn], suffix, dtype)
    levels = find_grey_levels(paths)
    assert (levels.white_level, levels.bits, levels.n_more_bits) == (white, bits, 10)
    assert levels.warnings(AUTO) == []
    assert np.abs(squares(paths, levels.resolve(AUTO)) - squares(drawn, AUTO)).max() <= 1


def test_12_bits_are_said_with_the_white_level(tmp_path, drawn, caplog):
    with caplog.at_level(logging.INFO):
        find_grey_levels(save(tmp_path, [scale(picture, 4080) for picture in drawn])).report(AUTO)
    assert caplog.messages == [
        "10 of 10 images have more than 8 bits; their largest value is 4,080: 12 bits, white is 4095 "
        "(preparation.white_level_16bit)"
    ]


def test_8_bit_images_need_no_white_level(drawn, caplog):
    levels = find_grey_levels(drawn)
    with caplog.at_level(logging.INFO):
        levels.report(AUTO)
    assert (caplog.messages, levels.white_level, levels.bits, levels.n_more_bits) == ([], None, 8, 0)
    assert levels.resolve(AUTO).white_level_16bit == 65535


def test_a_source_of_nothing_readable(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no image")
    for source in ([], [str(tmp_path / "a.tif"), str(tmp_path / "missing.png")]):
        levels = find_grey_levels(source)
        assert (levels.n_images, levels.white_level, levels.warnings(AUTO)) == (0, None, [])


def test_one_dark_image_of_a_12_bit_source_stays_dark(tmp_path, drawn):
    for dtype in (np.uint16, np.int32, np.float32):
        dark = np.full_like(drawn[0], 200, dtype=np.uint16)
        paths = save(tmp_path, [*(scale(picture, 4095) for picture in drawn), dark], dtype=dtype)
        assert (squares(paths[-1:], find_grey_levels(paths).resolve(AUTO)) == round(200 / 4095 * 255)).all()


def test_a_white_level_that_is_not_nearly_reached_is_doubted(tmp_path, drawn):
    (doubt,) = find_grey_levels(save(tmp_path, [scale(picture, 2600) for picture in drawn])).warnings(AUTO)
    assert "largest value of the images of more than 8 bits is 2,600, so 12 bits are assumed" in doubt
    assert "--set preparation.white_level_16bit=65535" in doubt


@pytest.mark.parametrize(
    ("bits", "tags"),
    [
        (12, []),
        (16, [(281, 3, 4095)]),
        (16, [(341, 3, 4095)]),
        (16, [(270, 2, '<OME><Pixels SignificantBits="12" Type="uint16"/></OME>')]),
        (16, [(51123, 2, '{"Camera-BitDepth":"16", "BitDepth": 12}')]),
    ],
)
def test_what_a_tiff_declares_is_the_white_level_of_dark_images(bits, tags):
    dark = np.arange(24 * 30).reshape(24, 30)
    levels = find_grey_levels([write_tiff(dark, bits, tags=tags)])
    assert (levels.white_level, levels.warnings(AUTO), levels.looked["largest"][0]) == (4095, [], 719)


def test_the_room_of_16_bits_declares_nothing():
    tags = [(281, 3, 65535), (270, 2, '<OME><Pixels SignificantBits="16"/></OME>')]
    assert find_grey_levels([write_tiff(np.full((9, 9), 4095), tags=tags)]).white_level == 4095


def test_a_pgm_of_12_bits_is_read_in_16():
    values = np.full((9, 9), 1365, ">u2")
    dark = b"P5 9 9 4095\n" + values.tobytes()
    settings = find_grey_levels([dark]).resolve(AUTO)
    assert settings.white_level_16bit == 65535
    assert (squares([dark], settings) == 85).all()
    assert find_grey_levels([b"P5 9 9 65535\n" + values.tobytes()]).white_level == 4095


@pytest.mark.parametrize("n_hot", [1, 2])
def test_hot_pixels_of_one_image_in_hundreds_do_not_count_and_are_reported(n_hot):
    pictures = [np.full((12, 12), 4000, np.uint16) for _ in range(200)]
    pictures[17][3, 3 : 3 + n_hot] = 60000
    levels = find_grey_levels(pictures)
    (line,) = levels.warnings(AUTO)
    assert levels.white_level == 4095
    assert "1 of 200 images, such as image 17, have one or two pixels above the white level 4095 (up to 60,000)" in line
    assert "--set preparation.white_level_16bit=65535" in line


@pytest.mark.parametrize(("n_images", "n_bright"), [(200, 5), (20, 1)])
def test_what_moves_the_white_level_in_few_images_is_reported(n_images, n_bright):
    pictures = [np.full((12, 12), 4000, np.uint16) for _ in range(n_images)]
    pictures[7][3, 3 : 3 + n_bright] = 60000
    levels = find_grey_levels(pictures)
    (line,) = levels.warnings(AUTO)
    assert levels.white_level == 65535
    assert f"only 1 of {n_images} images, such as image 7, have values above 4,000; because of them white is" in line
    assert "--set preparation.white_level_16bit=4095" in line


def test_images_are_drawn_evenly_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr(grey_levels, "MOST_DECODED", 5)
    pictures = [np.full((9, 9), 1000 + number, np.uint16) for number in range(21)]
    levels = find_grey_levels(pictures)
    assert list(levels.looked["example"]) == [f"image {number}" for number in (0, 5, 10, 15, 20)]
    with caplog.at_level(logging.INFO):
        levels.report(AUTO)
    assert "21 of 21 images have more than 8 bits (5 of them decoded, evenly spaced); their largest" in caplog.text


def test_8_bits_beside_12_are_reported(tmp_path, drawn):
    paths = save(tmp_path, [scale(picture, 4095) for picture in drawn[:4]])
    levels = find_grey_levels([*paths, *drawn[4:]])
    (line,) = levels.warnings(AUTO)
    assert levels.white_level == 4095
    assert "6 images of 8 bits, which keep their values, and 4 images of more bits, whose white is 4095" in line
    assert levels.to_dict()["kinds"] == {"TIFF I;16": 4, "array uint8": 6}


def test_int32_of_8_bits_beside_12_bits_is_reported(tmp_path, drawn):
    deep = save(tmp_path / "a", [scale(picture, 4095) for picture in drawn[:4]])
    (line,) = find_grey_levels([*deep, *save(tmp_path / "b", drawn[4:], dtype=np.int32)]).warnings(AUTO)
    assert "6 images (TIFF I) have values of at most 255, others up to 4,095; all have the white level 4095" in line


def test_two_cameras_of_which_one_ends_at_12_bits_are_reported(tmp_path, drawn):
    pictures = [scale(picture, 4095 if number % 2 else 65535) for number, picture in enumerate(drawn)]
    (line,) = find_grey_levels(save(tmp_path, pictures)).warnings(AUTO)
    assert "5 of 10 images, such as" in line
    assert "end at 4095 (12 bits), others at 65,535" in line


def test_floats_of_two_scales_are_reported():
    pictures = [Image.fromarray(np.full((9, 9), value, np.float32)) for value in (200, 60000)]
    (line,) = find_grey_levels(pictures).warnings(AUTO)
    assert "1 of 2 images, such as image 0, are floats of at most 255, read as 0 to 255" in line
    one = [Image.fromarray(np.full((9, 9), value, np.float32)) for value in (0.2, 1)]
    levels = find_grey_levels(one)
    assert (levels.white_level, levels.warnings(AUTO)) == (None, [])
    assert np.unique(squares(one, levels.resolve(AUTO))).tolist() == [51, 255]


def test_values_that_no_grey_level_holds_are_reported(tmp_path):
    values = np.full((9, 9), 70000)
    values[0] = -5
    line = " ".join(find_grey_levels(save(tmp_path, [values], dtype=np.int32)).warnings(AUTO))
    assert "values above 65535 (up to 70,000), which become white" in line
    assert "values below 0 (down to -5), which become black" in line


def test_colour_is_counted_unless_it_is_kept_or_grey_in_truth(tmp_path, drawn):
    grey = [np.stack([picture] * 3, axis=-1) for picture in drawn[:6]]
    coloured = [picture.copy() for picture in grey[:2]]
    for picture in coloured:
        picture[5:15, 5:15] = (200, 30, 30)
    paths = save(tmp_path, [*grey, *coloured], "png", np.uint8)
    levels = find_grey_levels(paths)
    assert levels.warnings(AUTO) == [
        "2 of 8 images are in colour and will be converted to grey; --set preparation.color=color keeps it"
    ]
    assert levels.warnings(AUTO.model_copy(update={"color": "color"})) == []
    assert find_grey_levels(save(tmp_path, grey, "jpg", np.uint8)).warnings(AUTO) == []
    assert find_grey_levels(paths, with_colour=False).warnings(AUTO) == []


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_pages_after_the_first_are_reported(tmp_path, drawn, suffix):
    first, *others = [Image.fromarray(picture).resize((40, 30)) for picture in drawn[:3]]
    first.save(tmp_path / f"many.{suffix}", save_all=True, append_images=others)
    first.save(tmp_path / f"one.{suffix}")
    paths = [str(tmp_path / f"{name}.{suffix}") for name in ("one", "many")]
    (line,) = find_grey_levels(paths).warnings(AUTO)
    assert line.startswith(f"1 of 2 images have several pages or frames, such as {paths[1]}: the first of each is used")
    assert (squares(paths[1:], AUTO) == squares(paths[:1], AUTO)).all()


def test_16_bits_in_each_channel_are_reported():
    rows = b"".join(b"\0" + np.full(9 * 3, 4095, ">u2").tobytes() for _ in range(9))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (line,) = find_grey_levels([png]).warnings(AUTO)
    assert "1 of 1 images have 16 bits in each of several channels, such as image 0; only the upper 8 bits" in line


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (16, 4095), (16, 65535)])
def test_where_0_is_white_the_picture_is_inverted(drawn, bits, white):
    plain = [scale(picture, white) for picture in drawn]
    twins = [write_tiff(white - values, bits, photometric=0) for values in plain]
    files = [write_tiff(values, bits) for values in plain]
    found = find_grey_levels(twins).resolve(AUTO)
    assert np.abs(squares(twins, found) - squares(files, find_grey_levels(files).resolve(AUTO))).max() <= 1
    if bits == 16:  # models of earlier releases saw it as it is stored
        before = found.model_copy(update={"scaling_16bit": "image"})
        stored = [write_tiff(white - values, bits) for values in plain]
        assert (squares(twins, before) == squares(stored, before)).all()


def test_arrays_and_images_inside_files_are_looked_at(tmp_path, drawn):
    small = np.stack([picture[:30, :30] for picture in drawn])
    np.save(tmp_path / "deep.npy", scale(small, 4095).astype(np.uint16))
    np.save(tmp_path / "flat.npy", small.astype(np.uint16))
    catalog = read_source(tmp_path / "deep.npy")
    levels = find_grey_levels(catalog.paths)
    assert (levels.white_level, levels.kinds) == (4095, {"array uint16": 10})
    assert np.abs(squares(catalog.paths, levels.resolve(AUTO)) - squares(small, AUTO)).max() <= 1
    flat = read_source(tmp_path / "flat.npy").paths
    assert (squares(flat, AUTO) == squares(small, AUTO)).all()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.tif", write_tiff(scale(drawn[0], 1023)))
    assert find_grey_levels([str(tmp_path / "a.zip" / "a.tif")]).white_level == 1023


@pytest.mark.parametrize(
    ("level", "largest", "line"),
    [
        (65535, 4080, "is 4,080 (12 bits), far below the model's white level 65535"),
        (65535, 16383, "is 16,383 (14 bits), far below the model's white level 65535"),
        (4095, 65535, "have values above the model's white level 4095 (up to 65,535), which become white"),
        (4095, 3000, None),
        (4095, 1000, None),  # dark, perhaps
        (65535, 65535, None),
        (65535, 15300, "is 15,300 (14 bits), far below the model's white level 65535"),
    ],
)
def test_a_model_with_another_white_level_is_reported(caplog, level, largest, line):
    pictures = [np.full((9, 9), value, np.uint16) for value in (largest, largest, 30)]
    model = AUTO.model_copy(update={"white_level_16bit": level})
    find_grey_levels(pictures).report_for_model(model)
    assert (line in caplog.text) if line else not caplog.messages


@pytest.mark.parametrize(("others", "line"), [([], None), ([4080, 4080], "is 4,080 (12 bits), far below")])
def test_float_images_of_0_to_255_fit_a_model_of_8_bits(caplog, others, line):
    pictures = [np.full((9, 9), 255, np.float32), np.full((9, 9), 30, np.float32)]
    pictures = [Image.fromarray(picture) for picture in pictures]
    integers = [np.full((9, 9), value, np.uint16) for value in others]
    model = AUTO.model_copy(update={"white_level_16bit": 65535})
    find_grey_levels([*pictures, *integers]).report_for_model(model)
    assert (line in caplog.text) if line else not caplog.messages


def test_a_white_level_of_the_user_wins_and_is_checked():
    pictures = [np.full((9, 9), 4080, np.uint16)]
    own = AUTO.model_copy(update={"white_level_16bit": 65535})
    (line,) = find_grey_levels(pictures).warnings(own)
    assert "far below preparation.white_level_16bit 65535" in line
    assert "leave preparation.white_level_16bit out" in line
    assert find_grey_levels(pictures).resolve(own) == own == resolve_white_level(own, pictures)


def test_the_store_the_nets_and_the_features_have_the_white_level_too(tmp_path, drawn):
    paths = save(tmp_path, [scale(picture, 4095) for picture in drawn])
    plain = save(tmp_path / "8", drawn, "png", np.uint8)
    hashes = [str(number) for number in range(10)]
    prepared = prepare_images(paths, hashes, AUTO, progress=False).batch(slice(None))[0]
    assert np.abs(prepared.astype(int) - squares(drawn, AUTO)).max() <= 1
    same = prepare_images(paths, hashes, AUTO.model_copy(update={"white_level_16bit": 4095}), progress=False)
    assert same.pixels.filename == prepare_images(paths, hashes, AUTO, progress=False).pixels.filename
    read = [read_pixels(files, 48, 48, progress=False).astype(int) for files in (paths, plain)]
    assert np.abs(read[0] - read[1]).max() <= 1
    assert read_pixels(paths, 48, 48, progress=False, white_level=65535).max() <= 16
    features = [measure_shapes(files, progress=False) for files in (paths, plain)]
    np.testing.assert_allclose(features[0], features[1])


def test_the_case_of_twelve_bits(data_folder):
    folder = data_folder.parent / "cases" / "twelve_bit"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    catalog = read_source(folder)
    levels = find_grey_levels(catalog.paths)
    assert (levels.white_level, levels.warnings(AUTO)) == (4095, [])
    assert squares(catalog.paths, levels.resolve(AUTO)).max() > 240


@pytest.mark.parametrize("n_above", [2, 5])
def test_bit_depths_are_reported_where_no_image_reaches_its_white(drawn, n_above):
    grounds = [scale(np.minimum(picture, 230), white) for white in (16383, 65535) for picture in drawn]
    levels = find_grey_levels([np.asarray(ground, np.uint16) for ground in grounds[: 10 + n_above]])
    (line,) = levels.warnings(PreparationSettings())
    assert line.startswith("bit depths may be mixed: 10 of ")
    assert "end at 14777 (14 bits), others at 59,110; all have the white level 65535" in line


def test_images_of_all_brightnesses_are_not_of_several_depths(drawn):
    shades = [scale(picture, white) for picture, white in zip(drawn, np.linspace(3000, 65535, 10), strict=True)]
    assert find_grey_levels([np.asarray(shade, np.uint16) for shade in shades]).warnings(PreparationSettings()) == []
