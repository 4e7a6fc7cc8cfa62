"""Features of drawn bodies, by hand; what must not change them; and real plankton."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, stats

from plankton_embed.errors import DependencyError, InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.shape_features import (
    DEFINITIONS,
    N_FOR_PROCESSES,
    add_shape_features,
    find_body,
    measure_shape,
    measure_shapes,
)

pytest.importorskip("skimage", reason="needs the extra features")

LEVELS = ("mean", "mode", "min", "max", "median", "intden", "histcum1", "histcum2", "histcum3", "cv")
GREY_FEATURES = (*LEVELS, "meanpos", "stddev", "range", "skew", "slope", "kurt", "sr")
TURNING = ("width", "height", "angle")


def draw(mask, body=40, ground=230):
    return np.where(mask, body, ground).astype(np.uint8)


def disc(radius, size=101):
    y, x = np.mgrid[:size, :size] - size // 2
    return x**2 + y**2 <= radius**2


def rectangle(width, height, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[10 : 10 + height, 20 : 20 + width] = True
    return mask


def blob(seed):
    """Return a grey picture of a lumpy body without mirror symmetry."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(48, 56)), 3)
    field[:6] = field[-6:] = field[:, :6] = field[:, -6:] = field.min()
    scaled = (field - field.min()) / np.ptp(field)
    return np.rint(200 - 150 * scaled).astype(np.uint8)


def test_a_disc():
    found = measure_shape(draw(disc(30)))
    assert sorted(found) == sorted(DEFINITIONS)
    area = int(disc(30).sum())
    assert found["area"] == found["area_exc"] == area
    assert found["%area"] == 0
    assert found["width"] == found["height"] == 61
    for name, value in {"major": 60, "minor": 60, "feret": 61, "esd": 60}.items():
        assert found[name] == pytest.approx(value, rel=0.02)
    assert found["perim."] == pytest.approx(2 * math.pi * 30.5, rel=0.03)
    assert found["circ."] == pytest.approx(1, abs=0.06)
    assert found["elongation"] == pytest.approx(1, abs=1e-9)
    assert found["convarea_area"] == pytest.approx(1, abs=0.05)
    assert found["symetrieh"] == found["symetriev"] == 0
    assert found["centroids"] == pytest.approx(0, abs=1e-9)
    assert found["fractal"] == pytest.approx(1, abs=0.1)
    assert (found["nb1"], found["nb2"], found["nb3"]) == (1, 1, 1)


def test_a_rectangle():
    found = measure_shape(draw(rectangle(40, 20), body=50))
    expected = {
        "area": 800,
        "esd": 2 * math.sqrt(800 / math.pi),
        "width": 40,
        "height": 20,
        "major": 40 * 2 / math.sqrt(3),  # of a rectangle with sides a, b: 4 · a / √12
        "minor": 20 * 2 / math.sqrt(3),
        "elongation": 2,
        "angle": 0,
        "feret": math.hypot(40, 20),
        "convperim": 120,
        "convarea": 800,
        "feretareaexc": math.hypot(40, 20) / math.sqrt(800),
        "symetrieh": 0,
        "symetriev": 0,
        "mean": 50,
        "mode": 50,
        "range": 0,
        "stddev": 0,
        "intden": 40_000,
        "histcum2": 50,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found["perim."] == pytest.approx(120, rel=0.08)  # Crofton's of four directions rounds corners
    assert all(math.isnan(found[name]) for name in ("skew", "kurt", "sr", "slope", "meanpos"))


def test_a_ring_has_a_hole_and_the_outline_of_a_disc():
    ring, whole = disc(30) & ~disc(20), disc(30)
    found, full = measure_shape(draw(ring)), measure_shape(draw(whole))
    assert found["area"] == full["area"]
    assert found["area_exc"] == ring.sum()
    assert found["%area"] == pytest.approx(100 * disc(20).sum() / disc(30).sum())
    for name in ("perim.", "feret", "major", "fractal", "skelarea"):
        assert found[name] == full[name]
    assert found["circex"] == pytest.approx(found["circ."] * ring.sum() / whole.sum())


def test_grey_levels_of_six_pixels_by_hand():
    grey = np.full((9, 12), 250, np.uint8)
    grey[4, 3:9] = [10, 20, 20, 30, 40, 60]
    found = measure_shape(grey)
    levels = np.array([10, 20, 20, 30, 40, 60])
    expected = {
        "area": 6,
        "mean": 30,
        "stddev": math.sqrt((400 + 100 + 100 + 0 + 100 + 900) / 5),
        "mode": 20,
        "min": 10,
        "max": 60,
        "range": 50,
        "median": 25,
        "intden": 180,
        "skew": stats.skew(levels),
        "kurt": stats.kurtosis(levels),
        "histcum1": 20,
        "histcum3": 37.5,
        "meanpos": (30 - 60) / (30 - 10),
        "cv": 100 * levels.std(ddof=1) / 30,
        "sr": 100 * levels.std(ddof=1) / 50,
        "nb1": 1,
        "skelarea": 6,
        "skeleton_area": 1,
        "thickr": 1,
        "elongation": 6,
        "slope": np.polyfit(np.arange(10, 61), [np.mean(levels <= g) for g in range(10, 61)], 1)[0],
        "centroids": abs(np.average(np.arange(6), weights=250 - levels) - 2.5),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("slope", "angle"), [(1, 135), (-1, 45)])
def test_the_angle_is_counter_clockwise(slope, angle):
    y, x = np.mgrid[:61, :61] - 30
    bar = (np.abs(y - slope * x) < 3) & (np.abs(x) < 20)  # rows run downwards
    assert measure_shape(draw(bar))["angle"] == pytest.approx(angle, abs=1)


def test_symmetry_shows_the_axis():
    y, x = np.mgrid[:80, :120]
    wedge = (np.abs(y - 40) <= (x - 20) / 5) & (x < 110)  # pointed on the left, alike above and below
    found = measure_shape(draw(wedge))
    assert found["symetrieh"] < 0.02
    assert found["symetriev"] > 0.1


def test_nb_counts_dark_spots():
    grey = draw(disc(30), body=120)
    for column in (35, 50, 65):
        grey[48:53, column - 2 : column + 3] = 30
    assert measure_shape(grey)["nb1"] == 1  # a quarter of the body is more than the spots
    for row in (30, 40, 60, 70):
        grey[row - 4 : row + 5, 36:66] = 30
    assert measure_shape(grey)["nb1"] == 7


def test_all_regions_or_the_largest_on_either_ground():
    two = rectangle(30, 15) | rectangle(3, 3)
    two[50:55, 60:70] = True
    for grey in (draw(two), draw(two, body=220, ground=15)):
        np.testing.assert_array_equal(find_body(grey)[0], two)
        mask, ground = find_body(grey, largest_only=True)
        np.testing.assert_array_equal(mask, rectangle(30, 15))
        assert ground == grey[0, 0]
        whole, largest = measure_shape(grey), measure_shapes([grey], largest_only=True).iloc[0]
        assert (whole["area"], largest["area"]) == (500, 450)
        assert (whole["width"], largest["width"]) == (50, 30)


def test_a_body_at_the_border_and_one_of_one_pixel():
    touching = np.zeros((20, 30), bool)
    touching[0:8, 3:9] = True
    assert measure_shape(draw(touching))["area"] == 48
    one = np.zeros((5, 5), bool)
    one[2, 2] = True
    found = measure_shape(draw(one))
    assert (found["area"], found["skelarea"], found["elongation"]) == (1, 1, 1)
    assert math.isnan(found["stddev"]) and math.isnan(found["thickr"])


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=20)
def test_quarter_turns_change_little(seed, turns):
    grey = blob(seed)
    before, after = measure_shape(grey), measure_shape(np.rot90(grey, turns))
    if turns % 2:
        assert (before["width"], before["height"]) == (after["height"], after["width"])
    for name in set(DEFINITIONS) - {*TURNING, "skelarea", "skeleton_area", "thickr", "symetrieh", "symetriev"}:
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-7), name
    for name in ("symetrieh", "symetriev"):  # pixels that lie half-way between two others
        assert after[name] == pytest.approx(before[name], abs=0.1), name


@given(st.integers(0, 10_000), st.integers(-45, 55))
@settings(max_examples=20)
def test_brightness_changes_grey_levels_only(seed, change):
    grey = blob(seed)
    before, after = measure_shape(grey), measure_shape((grey.astype(int) + change).astype(np.uint8))
    assert after["mean"] == pytest.approx(before["mean"] + change)
    for name in DEFINITIONS:
        if name not in LEVELS:
            assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-7), name


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_light_on_dark_has_the_same_shape(seed):
    grey = blob(seed)
    before, after = measure_shape(grey), measure_shape(255 - grey)
    for name in set(DEFINITIONS) - set(GREY_FEATURES):
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-7), name
    assert after["mean"] == pytest.approx(255 - before["mean"])
    assert after["skew"] == pytest.approx(-before["skew"], abs=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_it_agrees_with_scipy(seed):
    grey = blob(seed)
    mask, _ = find_body(grey)
    filled = ndimage.binary_fill_holes(mask)
    found = measure_shape(grey)
    assert found["area"] == ndimage.sum_labels(filled)
    assert found["mean"] == pytest.approx(ndimage.mean(grey, filled))
    assert found["stddev"] == pytest.approx(np.std(grey[filled], ddof=1))
    assert (found["min"], found["max"]) == (ndimage.minimum(grey, filled), ndimage.maximum(grey, filled))
    assert found["median"] == ndimage.median(grey, filled)
    rows, columns = ndimage.find_objects(mask.astype(int))[0]
    assert (found["width"], found["height"]) == (columns.stop - columns.start, rows.stop - rows.start)


def test_it_agrees_with_regionprops():
    from skimage.measure import regionprops

    for seed in range(5):
        mask, _ = find_body(blob(seed))
        filled = ndimage.binary_fill_holes(mask)
        region, found = regionprops(filled.astype(int))[0], measure_shape(blob(seed))
        assert found["major"] ** 2 == pytest.approx(region.axis_major_length**2 + 16 / 12)  # it takes pixels as points
        assert found["minor"] ** 2 == pytest.approx(region.axis_minor_length**2 + 16 / 12)
        assert found["angle"] == pytest.approx((math.degrees(region.orientation) + 90) % 180)
        assert found["convarea_area"] == pytest.approx(1 / region.solidity, rel=0.1)


def save(folder, **images):
    for name, grey in images.items():
        Image.fromarray(grey).save(folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in images]


def test_images_without_a_body_are_gaps_and_counted(tmp_path, caplog):
    paths = save(tmp_path, empty=np.full((20, 20), 200, np.uint8), disc=draw(disc(10, 41)))
    (tmp_path / "broken.png").write_bytes(b"no image")
    table = measure_shapes([*paths, tmp_path / "broken.png"], progress=False)
    assert table.index.tolist() == [0, 1, 2]
    assert table.columns.tolist() == list(DEFINITIONS)
    assert (table.dtypes == np.float64).all()
    assert table.isna().all(axis=1).tolist() == [True, False, True]
    assert table["area"][1] == disc(10, 41).sum()
    message = [record.getMessage() for record in caplog.records]
    assert any("1 of 3 images cannot be read" in text and "broken.png" in text for text in message)
    assert any("1 of 3 images have only one grey level" in text for text in message)
    with pytest.raises(InputError, match=r"none of the 1 images can be read.*broken\.png"):
        measure_shapes([tmp_path / "broken.png"], progress=False)
    assert measure_shapes([], progress=False).shape == (0, len(DEFINITIONS))


def test_columns_that_are_there_stay(tmp_path):
    paths = save(tmp_path, a=draw(disc(8, 31)), b=draw(rectangle(12, 6)))
    rows = pd.DataFrame({"path": paths, "label": ["x", "y"], "feature_area": [1.5, np.nan]})
    catalog = add_shape_features(ImageCatalog.from_rows(rows), progress=False)
    np.testing.assert_array_equal(catalog.features["area"], [1.5, np.nan])
    assert catalog.features["width"].tolist() == [17, 12]
    assert set(catalog.features) == set(DEFINITIONS)
    again = add_shape_features(catalog, progress=False)
    pd.testing.assert_frame_equal(again.frame, catalog.frame)
    saved = ImageCatalog.load(catalog.save(tmp_path / "c.csv"))
    pd.testing.assert_frame_equal(saved.features, catalog.features)


@pytest.mark.slow
def test_several_processes_give_the_same_in_order(tmp_path, monkeypatch):
    pictures = [draw(rectangle(4 + k % 40, 5)) for k in range(140)]
    alone = measure_shapes(pictures, progress=False)
    assert len(pictures) < N_FOR_PROCESSES
    monkeypatch.setattr("plankton_embed.images.shape_features.N_FOR_PROCESSES", 100)
    pd.testing.assert_frame_equal(measure_shapes(pictures, progress=False), alone)
    assert alone["width"].tolist() == [4 + k % 40 for k in range(140)]


def test_colour_and_16_bit_are_made_grey(tmp_path):
    grey = draw(disc(10, 41))
    colour, deep = np.stack([grey] * 3, axis=-1), grey.astype(np.uint16) * 257
    table = measure_shapes([grey, colour, deep], progress=False)
    assert table.round(9).drop_duplicates().shape[0] == 1


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DependencyError, match=r"plankton_embed\[features\]"):
        measure_shapes([draw(disc(5))], progress=False)


def test_real_plankton(ndsb_folder):
    folders = [ndsb_folder / name for name in ("chaetognath_other", "fecal_pellet", "protist_noctiluca")]
    means = [measure_shapes(sorted(folder.glob("*.jpg"))[:40], progress=False).median() for folder in folders]
    arrow_worm, pellet, noctiluca = means
    assert arrow_worm["elongation"] > 5 > 3 > noctiluca["elongation"]
    assert noctiluca["circ."] > arrow_worm["circ."]
    assert pellet["area"] > 20
