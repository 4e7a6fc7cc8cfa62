import io
import logging
from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_summary import summarize
from plankton_embed.images.marks import find_marks, remove_marks
from plankton_embed.images.preparation import prepare_image
from plankton_embed.images.shape_features import add_shape_features, measure_shapes
from plankton_embed.settings import PreparationSettings
from plankton_embed.workflows.contact_sheets import marks_sheet

GLYPHS = {  # 5 × 7 pixels, as ImageJ and ZooProcess draw them
    "1": ("..#..", ".##..", "..#..", "..#..", "..#..", "..#..", ".###."),
    "0": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    "5": ("#####", "#....", "####.", "....#", "....#", "#...#", ".###."),
    "m": (".....", ".....", "##.#.", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    "n": (".....", ".....", "#.##.", "##..#", "#...#", "#...#", "#...#"),
    "u": (".....", ".....", "#...#", "#...#", "#...#", "#..##", ".##.#"),
    "_": (".....", ".....", ".....", ".....", ".....", ".....", "#####"),
    " ": (".....",) * 7,
}


def write(pixels, text, top, left, ink=0):
    for number, letter in enumerate(text):
        glyph = np.array([[cell == "#" for cell in row] for row in GLYPHS[letter]])
        place = pixels[top : top + 7, left + 6 * number : left + 6 * number + 5]
        place[glyph[: place.shape[0], : place.shape[1]]] = ink


def draw_animal(height=60, width=80, ground=255, level=120, blur=1.5, seed=0):
    """Return a blurred body with antennae, as a lens gives it."""
    rng = np.random.default_rng(seed)
    big = Image.new("L", (8 * width, 8 * height), ground)
    pen = ImageDraw.Draw(big)
    cx, cy = 4 * width, 4 * height
    rx, ry = 8 * width * rng.uniform(0.15, 0.25), 8 * height * rng.uniform(0.15, 0.25)
    pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=level)
    for side in (-1, 1):
        pen.line((cx, cy, cx + side * 3 * width, cy - 2.5 * height), fill=level, width=10)
    pixels = np.asarray(big.resize((width, height), Image.Resampling.BOX)).astype(float)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def add_strip(animal, bar=(2, 60), text="1 mm", ground=255, ink=0, left=9):
    """Put a white strip with text and bar below an animal; a picture too narrow for the bar is made wider."""
    thickness, length = bar
    width = max(animal.shape[1], length + 2 * left)
    pixels = np.full((animal.shape[0] + 24 + thickness, width), ground, dtype=np.uint8)
    pixels[: animal.shape[0], : animal.shape[1]] = animal
    write(pixels, text, animal.shape[0] + 5, left + 1, ink)
    pixels[animal.shape[0] + 16 : animal.shape[0] + 16 + thickness, left : left + length] = ink
    return pixels


def compress(pixels, quality):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=quality)
    return np.asarray(Image.open(stream))


def area(pixels, remove="auto"):
    return measure_shapes([pixels], progress=False, remove_marks=remove)["area"][0]


def removed(pixels):
    return np.asarray(remove_marks(Image.fromarray(pixels)))


def test_the_strip_of_a_zooscan_vignette_is_cut_off():
    animal = draw_animal()
    marked = add_strip(animal)
    assert find_marks(marked).kinds == ("bar", "text")
    rest = removed(marked)
    assert rest.shape[0] <= animal.shape[0] + 1 and rest.shape[1] == animal.shape[1]
    np.testing.assert_array_equal(rest[: animal.shape[0]], animal[: rest.shape[0]])
    assert rest[:, :2].min() == 255  # and nothing of the strip is left


def test_a_picture_that_was_widened_for_the_bar_becomes_narrow_again():
    animal = draw_animal(40, 30)
    marked = add_strip(animal, bar=(2, 96))
    assert marked.shape[1] == 114
    rest = removed(marked)
    assert rest.shape[1] <= 31
    shown = np.flatnonzero((rest < 250).any(axis=0))
    assert shown[0] == rest.shape[1] - 1 - shown[-1]  # as much ground on either side
    assert area(marked) == pytest.approx(area(animal), rel=0.02)


def test_the_bar_is_not_measured_as_the_body():
    for level in (120, 200, 235):
        animal = draw_animal(60, 60, level=level)
        marked = add_strip(animal, bar=(2, 96))
        assert area(marked) == pytest.approx(area(animal), rel=0.05)
    assert area(marked, "off") < area(animal) / 2  # a pale animal: bar and text alone


@pytest.mark.parametrize(
    ("quality", "thickness", "text"), [*product((95, 75), (1, 2, 4, 8, 12), ("1 mm", "500 um", ""))]
)
def test_bars_of_many_kinds_are_found_through_jpeg(quality, thickness, text):
    for ground, ink, level in ((255, 0, 120), (255, 0, 220), (0, 255, 140), (20, 250, 120)):
        animal = draw_animal(ground=ground, level=level)
        marked = compress(add_strip(animal, (thickness, 60), text, ground, ink), quality)
        assert "bar" in find_marks(marked).kinds
        left = removed(marked).astype(int)
        assert quality < 95 or left.shape[0] <= animal.shape[0] + 1
        assert np.abs(left[61:] - ground).max(initial=0) <= 40  # nothing that a threshold would see
        height = min(len(left), len(animal))
        width = min(left.shape[1], animal.shape[1])
        assert np.abs(left[:height, :width] - animal[:height, :width]).mean() < 4


def test_a_grey_strip_and_a_strip_on_top_are_cut_at_their_edge():
    animal = draw_animal(ground=150, level=60)
    marked = add_strip(animal)
    np.testing.assert_array_equal(removed(marked), animal)
    top = np.ascontiguousarray(marked[::-1])
    write(top, "1 mm", 14, 9)
    top = np.concatenate([np.full((0, top.shape[1]), 255, np.uint8), top])
    assert find_marks(top).box[1] == 26


def draw_ecotaxa(seed=0):
    """Return a picture with corner marks across the animal, a short bar, text, and a code that the border cuts."""
    animal = draw_animal(70, 64, seed=seed)
    pixels = np.full((100, 64), 255, dtype=np.uint8)
    pixels[:70] = animal
    pixels[6, 5:16] = pixels[6:17, 5] = 0
    pixels[58, 48:59] = pixels[48:59, 58] = 0
    write(pixels, "100 um m_10_1", 76, 11)
    pixels[88:90, 9:20] = 0
    return animal, pixels


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_bar_text_code_and_corner_marks_of_an_ecotaxa_vignette_are_gone(mode):
    animal, marked = draw_ecotaxa()
    image = Image.fromarray(marked).convert(mode)
    assert find_marks(image).kinds == ("bar", "text", "corner")
    rest = remove_marks(image)
    assert rest.mode == mode and rest.height <= 71
    grey = np.asarray(rest.convert("L")).astype(int)
    assert np.abs(grey[: len(animal)] - animal[: len(grey)]).max() < 80  # no black line is left across the animal
    assert area(marked) == pytest.approx(area(animal), rel=0.02)


def test_a_code_at_the_other_border_is_found_beside_a_bar():
    marked = add_strip(draw_animal(90, 120), bar=(2, 60))
    write(marked, "m10_mn01_n1", 4, 6)
    assert find_marks(marked).kinds == ("bar", "text", "code")
    assert removed(marked)[:14].min() > 240


def test_a_bar_in_the_picture_is_filled_with_the_ground_and_its_noise():
    rng = np.random.default_rng(0)
    animal = np.clip(draw_animal(120, 140, ground=180, level=90) + rng.normal(0, 6, (120, 140)), 0, 255)
    clean = animal.astype(np.uint8)
    marked = clean.copy()
    marked[108:112, 80:130] = 0
    write(marked, "100 um", 98, 85)
    rest = removed(marked)
    assert rest.shape == clean.shape
    place = find_marks(marked).mask
    assert 200 < place.sum() < 1500
    np.testing.assert_array_equal(rest[~place], clean[~place])
    assert abs(rest[place].mean() - 180) < 3 and 3 < rest[place].std() < 9


def test_a_mark_is_found_again_in_the_same_pixels_and_not_twice():
    marked = add_strip(draw_animal())
    once = removed(marked)
    np.testing.assert_array_equal(removed(marked), once)
    assert not find_marks(once).kinds


def draw_unmarked():
    """Yield pictures of bodies that look a little like marks, by name."""
    yield "an animal", draw_animal()
    fibre = np.full((60, 90), 255, dtype=np.uint8)
    soft = np.array([225, 150, 110, 150, 225])
    fibre[50:55, 10:80] = soft[:, None]
    yield "a fibre that lies straight", fibre
    both = draw_animal(80, 90)
    both[70:73, 15:70] = 110
    yield "a grey fibre below an animal", both
    antenna = draw_animal(80, 100)
    antenna[38:40, 50:98] = 120
    yield "an antenna that lies straight", antenna
    spine = draw_animal(60, 100)
    spine[30:58, 50] = 60
    spine[57:59, 50:90] = 60
    yield "a spine near the border", spine
    alone = np.full((40, 90), 255, dtype=np.uint8)
    alone[30:32, 10:70] = 0
    yield "a straight line that is all there is", alone
    chain = Image.new("L", (120, 60), 255)
    pen = ImageDraw.Draw(chain)
    for number in range(12):
        pen.ellipse((6 + 9 * number, 44, 12 + 9 * number, 51), outline=40)
    yield "a chain of cells near the border", np.asarray(chain)
    touching = draw_animal(80, 90)
    touching[66:68, 20:70] = 0
    touching[40:80, 44:48] = 0
    yield "a line that is part of a body", touching
    yield "one grey level", np.full((50, 50), 128, dtype=np.uint8)
    yield "noise", np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    yield "three pixels", np.array([[0, 255, 0]] * 3, dtype=np.uint8)


@pytest.mark.parametrize(("name", "pixels"), [*draw_unmarked()])
def test_what_is_not_a_mark_stays(name, pixels):
    for version in (pixels, 255 - pixels, compress(pixels, 90)):
        assert find_marks(version).kinds == (), name
        image = Image.fromarray(version)
        assert remove_marks(image) is image


def test_preparing_and_the_size_follow_the_setting():
    animal = draw_animal()
    marked = add_strip(animal)
    auto, off = (PreparationSettings(target_size=64, remove_marks=value) for value in ("auto", "off"))
    for image, settings, size in ((marked, off, (80, 86)), (animal, auto, (80, 60)), (animal, off, (80, 60))):
        assert prepare_image(image, settings)[2] == size
    pixels, _, (width, height) = prepare_image(marked, auto)
    assert width == 80 and 50 <= height <= 61
    assert (pixels < 20).sum() == 0 < (prepare_image(marked, off)[0] < 20).sum()
    np.testing.assert_array_equal(prepare_image(animal, auto)[0], prepare_image(animal, off)[0])
    deep = prepare_image(marked.astype(np.uint16) * 257, auto)
    np.testing.assert_array_equal(deep[0], pixels)
    assert auto.hash() != off.hash()


@pytest.fixture
def marked_catalog(tmp_path):
    for number in range(6):
        animal = draw_animal(seed=number)
        Image.fromarray(add_strip(animal) if number % 2 else animal).save(tmp_path / f"{number}.png")
    (tmp_path / "6.png").write_bytes(b"no image")
    return ImageCatalog.from_rows(pd.DataFrame({"path": [str(tmp_path / f"{number}.png") for number in range(7)]}))


def test_a_summary_counts_and_reports_marks(marked_catalog, caplog, monkeypatch):
    with caplog.at_level(logging.INFO):
        summary = summarize(marked_catalog, progress=False)
    assert summary.marked == (1, 3, 5) and summary.to_dict()["n_marked"] == 3
    assert [r.message.split(";")[0] for r in caplog.records] == [
        "marks: 3 of 7 images have a scale bar, text or corner marks burnt in"
    ]
    caplog.clear()
    monkeypatch.setattr("plankton_embed.images.catalog_summary.MOST_SEARCHED", 5)
    with caplog.at_level(logging.INFO):
        summary = summarize(marked_catalog, progress=False)
    assert summary.n_searched == 5 and "marks: 2 of 5 images searched" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert summarize(ImageCatalog(marked_catalog.frame.iloc[[0]]), progress=False).marked == ()
    assert caplog.text == ""


def test_the_sheet_shows_each_image_before_and_after(marked_catalog):
    sheet = marks_sheet(marked_catalog, (1, 3, 5), PreparationSettings())
    before, after = sheet.rows[0][1][:2]
    assert len(sheet.rows[0][1]) == 6 and before.image.height > after.image.height
    assert "bar, text" in after.caption and "keeps" not in sheet.title
    assert "off keeps" in marks_sheet(marked_catalog, (1,), PreparationSettings(remove_marks="off")).title


def test_features_of_the_instrument_win_over_measured_ones(marked_catalog):
    catalog = ImageCatalog(marked_catalog.frame.iloc[:6].assign(feature_area=7.0))
    features = add_shape_features(catalog, progress=False).features
    assert (features["area"] == 7).all()
    assert features["major"].iloc[1] == pytest.approx(
        measure_shapes([draw_animal(seed=1)], False)["major"][0], rel=0.05
    )


def test_real_vignettes_lose_their_marks_and_nothing_else(data_folder):
    paths = sorted((data_folder / "zooscan").rglob("*.jpg"))[::4]
    alone = [np.asarray(Image.open(path).convert("L"))[:-31] for path in paths]
    measured, truth = (measure_shapes(images, progress=False)["area"] for images in (paths, alone))
    assert measured.corr(truth, method="spearman") > 0.98
    assert all(find_marks(Image.open(path)).kinds == ("bar", "text") for path in paths)
    for path in sorted((data_folder / "ecotaxa" / "import").rglob("*.jpg")):
        image = Image.open(path)
        assert find_marks(image).kinds == ("bar", "text", "corner")
        assert not find_marks(remove_marks(image)).kinds
    for path in sorted((data_folder / "ifcb_groups").rglob("*.jpg"))[::4]:
        assert find_marks(Image.open(path)).kinds == (), path


def test_no_image_of_ndsb_is_changed(ndsb_folder):
    paths = sorted(ndsb_folder.rglob("*.jpg"))[::24]
    assert [path for path in paths if find_marks(Image.open(path)).kinds] == []
