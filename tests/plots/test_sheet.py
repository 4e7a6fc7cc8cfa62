"""Contact sheets: tiles, frames and captions."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.plots.figure import save_figure
from plankton_embed.plots.sheet import Sheet, Tile, draw_sheet

SIDE = 24


def noise(seed, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).integers(0, 200, shape, dtype=np.uint8)


def mosaic_of(sheet, **options):
    return np.asarray(draw_sheet(sheet, tile_size=SIDE, **options).images[0].get_array())[..., :3]


def corner(mosaic, pixels):
    """Where a grey tile stands in a mosaic, as (x, y)."""
    windows = np.lib.stride_tricks.sliding_window_view(mosaic[..., 0], pixels.shape)
    found = np.argwhere((windows == pixels).all(axis=(2, 3)))
    assert len(found) == 1
    return found[0][1], found[0][0]


def test_mosaic_holds_every_tile_at_its_place():
    a, b, c = noise(1), noise(2), noise(3)
    mosaic = mosaic_of(Sheet("", [("", [Tile(a), Tile(b)]), ("", [Tile(c)])]))
    (ax, ay), (bx, by), (cx, cy) = corner(mosaic, a), corner(mosaic, b), corner(mosaic, c)
    assert bx >= ax + SIDE
    assert by == ay
    assert cx == ax
    assert cy >= ay + SIDE
    assert (mosaic[cy : cy + SIDE, bx : bx + SIDE] == 255).all(), "a shorter row leaves white"


@pytest.mark.filterwarnings("error")
def test_a_single_tile_under_a_long_title_is_as_large_as_any(tmp_path):
    ax = draw_sheet(Sheet("1 of 320 images named wrongly; the surest 1", [("", [Tile(noise(1), frame="wrong")])]))
    save_figure(ax, tmp_path / "one.png")
    (left, top), (right, bottom) = ax.transData.transform([[0, 0], [110, 110]])
    assert min(right - left, top - bottom) > 0.9 * 1.1 * ax.figure.dpi  # tiles are 1.1 inches a side


def test_images_keep_their_proportions():
    dark = np.zeros((30, 90), dtype=np.uint8)
    mosaic = mosaic_of(Sheet("", [("", [Tile(dark)])]))
    rows, columns = np.nonzero((mosaic == 0).all(axis=-1))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (SIDE, SIDE // 3)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("L", (5, 5), 90), (90, 90, 90)),
        (Image.new("1", (5, 5), 1), (255, 255, 255)),
        (Image.new("RGB", (5, 5), (10, 20, 30)), (10, 20, 30)),
        (Image.new("RGBA", (5, 5), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (5, 5), (7, 255)), (7, 7, 7)),
        (Image.new("P", (5, 5), 0), (0, 0, 0)),
        (Image.fromarray(np.full((5, 5), 4000, dtype=np.uint16)), (255, 255, 255)),
        (np.full((5, 5), 4000, dtype=np.uint16), (255, 255, 255)),
        (np.zeros((5, 5), dtype=np.uint16), (0, 0, 0)),
        (np.full((5, 5, 1), 60, dtype=np.uint8), (60, 60, 60)),
        (np.full((5, 5, 3), (1, 2, 3), dtype=np.uint8), (1, 2, 3)),
    ],
)
def test_every_kind_of_image_becomes_colour(image, colour):
    mosaic = mosaic_of(Sheet("", [("", [Tile(image)])]))
    middle = mosaic.shape[0] // 2
    assert tuple(mosaic[middle, middle]) == colour


def test_an_array_that_is_not_an_image_is_refused():
    with pytest.raises(InputError, match="is not an image"):
        draw_sheet(Sheet("", [("", [Tile(np.zeros((3, 3, 7), dtype=np.uint8))])]))


def test_frames_are_told_apart_around_the_tile():
    tiles = [Tile(noise(seed), frame=frame) for seed, frame in enumerate(("none", "right", "wrong", "query"))]
    ax = draw_sheet(Sheet("", [("", tiles)]), tile_size=SIDE)
    mosaic = np.asarray(ax.images[0].get_array())[..., :3]
    above = []
    for tile in tiles:
        x, y = corner(mosaic, tile.image)
        above.append(tuple(mosaic[y - 1, x + SIDE // 2].tolist()))
    assert above[0] == (228, 228, 228)
    assert above[3] == (0, 0, 0)
    assert len(set(above)) == 4
    assert [text.get_text() for text in ax.texts] == ["■ right", "■ wrong", "■ query"]


def test_sheets_without_images_say_so():
    for rows in ([], [("copepod", [])]):
        ax = draw_sheet(Sheet("Nothing", rows))
        assert [text.get_text() for text in ax.texts] == ["no images"]
        assert ax.get_title(loc="left") == "Nothing"


def test_captions_stand_below_their_tile_and_do_not_overlap():
    long = "appendicularian_slight_curve_and_more_words\n→ siphonophore_calycophoran_rocketship_young"
    rows = [(f"a_very_long_class_name_number_{r}\nF1 0.53, n 12", [Tile(noise(r), long)] * 12) for r in range(3)]
    ax = draw_sheet(Sheet("title", rows))
    ax.figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in ax.texts]
    assert len(boxes) == 3 * 13
    crossing = [(a, b) for i, (a, p) in enumerate(boxes) for b, q in boxes[i + 1 :] if p.overlaps(q)]
    assert crossing == []
    captions = [text for text in ax.texts if "→" in text.get_text()]
    assert all("…" in caption.get_text() for caption in captions)
    assert captions[0].get_position()[1] > 110, "below the first tile"
    assert captions[0].get_fontsize() / 72 * 1000 / ax.figure.get_size_inches()[0] >= 9, "read at 1000 px"


def test_a_given_place_is_used_and_lettering_shrinks_with_it():
    rows = [("copepod", [Tile(noise(1), "copepod\n0.3")] * 8)] * 6
    own = draw_sheet(Sheet("", rows))
    figure = Figure(figsize=(6, 3))
    left, right = figure.subplots(1, 2)
    assert draw_sheet(Sheet("", rows), left) is left
    assert not right.has_data()
    assert left.texts[0].get_fontsize() < own.texts[0].get_fontsize() / 2


def test_names_that_differ_in_the_middle_read_differently():
    tiles = [Tile(noise(1), "chaetognath_sagitta\n→ chaetognath_non_sagitta")] * 8
    (caption, *_) = draw_sheet(Sheet("", [("", tiles)])).texts
    assert caption.get_text().replace("\n", "") == "chaetognath_sagitta→ chaetognath_non_sagitta"
