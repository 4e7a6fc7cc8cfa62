"""Pictures of the page: every image where its row says, with its own proportions, and under the cap."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from plankton_embed.page.thumbnails import GREY, pack_thumbnails, read_thumbnail


def open_webp(data):
    return Image.open(io.BytesIO(data)).convert("L")


def tile_of(packed, row):
    """Return the picture of a row as the page cuts it out of its sheet."""
    at, side, per_row = packed["rows"][row], packed["side"], packed["per_row"]
    sheet, within = divmod(at, packed["per_sheet"])
    head, text = packed["sheets"][sheet].split(",")
    assert head == "data:image/webp;base64"
    left, top = within % per_row * side, within // per_row * side
    return np.asarray(open_webp(base64.b64decode(text)).crop((left, top, left + side, top + side)))


@pytest.fixture
def many_greys(tmp_path):
    """Return 450 images of 8 × 4 px, each of another grey, on more than one sheet."""
    paths = []
    for number in range(450):
        path = tmp_path / f"{number}.png"
        Image.new("L", (8, 4), number % 250).save(path)
        paths.append(str(path))
    return paths


def test_every_row_has_its_own_picture(many_greys):
    packed = pack_thumbnails(many_greys, side=16)
    assert len(packed["sheets"]) == 2
    assert packed["rows"].tolist() == list(range(450))
    for row in (0, 1, 37, 399, 400, 449):
        assert abs(tile_of(packed, row).mean() - row % 250) < 6


def test_a_picture_keeps_its_proportions_on_the_colour_of_its_border(tmp_path):
    pixels = np.full((40, 80), 250, dtype=np.uint8)
    pixels[10:30, 20:60] = 0
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    tile = np.asarray(open_webp(read_thumbnail(str(tmp_path / "wide.png"), 64)))
    assert tile.shape == (64, 64)
    dark = np.argwhere(tile < 125)
    height, width = np.ptp(dark, axis=0) + 1
    assert abs(width - 32) <= 2 and abs(height - 16) <= 2
    assert tile[:10].min() > 235  # filled up with the colour of the border


def test_what_cannot_be_read_is_grey_and_reported(tmp_path, many_greys, caplog):
    (tmp_path / "broken.png").write_bytes(b"no image")
    packed = pack_thumbnails([many_greys[0], None, str(tmp_path / "broken.png"), str(tmp_path / "gone.png")], side=16)
    for row in (1, 2, 3):
        assert abs(tile_of(packed, row).mean() - GREY) < 3
    assert "3 of 4 images cannot be read" in caplog.text
    assert abs(np.asarray(open_webp(read_thumbnail(None, 16))).mean() - GREY) < 3


def test_pictures_get_smaller_and_then_fewer_to_stay_under_the_cap(tmp_path, caplog):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(60):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (90, 90), dtype=np.uint8)).save(path)  # noise: the largest files
        paths.append(str(path))
    whole = pack_thumbnails(paths)
    size = sum(map(len, whole["sheets"]))
    assert whole["side"] == 128 and (whole["rows"] >= 0).all()
    smaller = pack_thumbnails(paths, max_bytes=size // 3)
    assert smaller["side"] < 128 and (smaller["rows"] >= 0).all() and not caplog.text
    fewer = pack_thumbnails(paths, max_bytes=size // 40)
    assert sum(map(len, fewer["sheets"])) <= size // 40
    shown = np.flatnonzero(fewer["rows"] >= 0)
    assert 0 < len(shown) < 60 and fewer["rows"][shown].tolist() == list(range(len(shown)))
    assert f"pictures of {len(shown)} of 60 images" in caplog.text


def test_images_of_more_bits_and_of_colour_are_shown(tmp_path):
    dark = np.zeros((20, 20), dtype=np.uint16)
    dark[5:15, 5:15] = 900  # of 65535
    Image.fromarray(dark).save(tmp_path / "deep.png")
    assert np.asarray(open_webp(read_thumbnail(str(tmp_path / "deep.png"), 20))).max() > 240
    Image.new("RGB", (20, 20), (200, 30, 30)).save(tmp_path / "red.png")
    red = np.asarray(Image.open(io.BytesIO(read_thumbnail(str(tmp_path / "red.png"), 20))).convert("RGB")).mean((0, 1))
    assert red[0] > 180 and red[1] < 60


def test_a_large_picture_is_not_cut_and_not_enlarged(tmp_path):
    Image.new("L", (1000, 500), 7).save(tmp_path / "large.png")
    assert open_webp(read_thumbnail(str(tmp_path / "large.png"), 800, square=False)).size == (800, 400)
    Image.new("L", (30, 20), 7).save(tmp_path / "small.png")
    assert open_webp(read_thumbnail(str(tmp_path / "small.png"), 800, square=False)).size == (30, 20)


def test_no_images_are_no_sheets():
    assert pack_thumbnails([])["rows"].tolist() == []
