"""FlowCam runs: lists and collages, whole and broken."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.flowcam import read, recognize
from plankton_embed.images.readers.source import read_source, recognize_format

PLACE = ["id|int32", "image_x|int32", "image_y|int32", "image_w|int32", "image_h|int32", "src_x|int32", "src_y|int32"]
MEASURES = ["cal_const|double", "raw_area|double", "abd_area|double", "sphere_count|int32", "elapsed_time|double"]
ENDS = ["timestamp|timestamp", "collage_file|string", "image_id|guid"]
BOXES = [(0, 0, 8, 5), (9, 0, 4, 11), (0, 12, 6, 6)]  # left, top, width, height
RNG = np.random.default_rng(0)


def write_run(folder, name="run", boxes=BOXES, n_fields=15, colour=False, end="\n"):
    """Write a run: a list and its collage of random pixels with the mask beside it; return the pixels and the mask."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = [f"extra_{number}|double" for number in range(n_fields - 15)]
    lines = ["017", f"num-fields|{n_fields}", *PLACE, *MEASURES, *extra, *ENDS]
    for number, (x, y, w, h) in enumerate(boxes, 1):
        measures = [1.5, 10 * number, 22.5 * number, number % 2, 0.25 * number, *range(n_fields - 15)]
        ends = [f"2019-10-08T14:23:0{number}.500", f"{name}_000001.tif", "59F138B2"]
        lines.append("|".join(str(cell) for cell in [number, x, y, w, h, 100, 200, *measures, *ends]))
    (folder / f"{name}.lst").write_bytes("".join(line + end for line in lines).encode())
    size = max((y + h for _, y, _, h in boxes), default=3), max((x + w for x, _, w, _ in boxes), default=3)
    pixels = RNG.integers(0, 255, (*size, 3) if colour else size, dtype=np.uint8)
    mask = RNG.integers(0, 2, size, dtype=np.uint8) * np.uint8(255)
    Image.fromarray(pixels).save(folder / f"{name}_000001.tif", compression="tiff_lzw")
    Image.fromarray(mask).save(folder / f"{name}_000001_bin.tif")
    return pixels, mask


@pytest.mark.parametrize(("n_fields", "end"), [(53, "\n"), (65, "\r\n")])
@pytest.mark.parametrize("named", ["list", "folder"])
def test_a_run_is_read_whatever_its_number_of_fields(tmp_path, n_fields, end, named):
    pixels, _ = write_run(tmp_path / "a", "cruise 7 é", n_fields=n_fields, end=end)
    catalog = read_source(tmp_path / "a" / "cruise 7 é.lst" if named == "list" else tmp_path)
    assert list(catalog.frame["object_id"]) == [f"cruise 7 é_0000{number}" for number in (1, 2, 3)]
    assert set(catalog.frame["sample_id"]) == {"cruise 7 é"}
    assert list(catalog.pixel_size) == [1.5] * 3
    assert list(catalog.frame["time"]) == [f"2019-10-08T14:23:0{number}.500" for number in (1, 2, 3)]
    features = catalog.features
    assert list(features)[:3] == ["raw_area", "abd_area", "sphere_count"]
    assert len(features.columns) == 3 + n_fields - 15  # all numbers but positions, scale and time
    assert features["abd_area"].tolist() == [22.5, 45, 67.5]
    assert catalog.paths[1].endswith("cruise 7 é_000001.tif/4x11+9+0")
    for path, (x, y, w, h) in zip(catalog.paths, BOXES, strict=True):
        assert np.array_equal(np.asarray(open_image(path)), pixels[y : y + h, x : x + w])


@pytest.mark.parametrize("colour", [False, True])
def test_masks_whiten_what_is_no_particle(tmp_path, colour):
    pixels, mask = write_run(tmp_path, colour=colour)
    catalog = read_source(tmp_path, masks=True)
    for path, (x, y, w, h) in zip(catalog.paths, BOXES, strict=True):
        shown = mask[y : y + h, x : x + w] > 0
        seen, there = np.asarray(open_image(path)), pixels[y : y + h, x : x + w]
        assert np.array_equal(seen[shown], there[shown])
        assert (seen[~shown] == 255).all()
    assert "&" not in "".join(read_source(tmp_path, masks=False).paths)


def test_runs_below_a_folder_and_what_is_recognised(tmp_path):
    write_run(tmp_path / "a" / "run1", "run1")
    write_run(tmp_path / "a" / "run2", "run2")
    assert recognize_format(tmp_path) == "flowcam"
    assert recognize(tmp_path / "a" / "run1" / "run1.lst", ["run1.lst"])
    assert list(read_source(tmp_path).frame["sample_id"]) == ["run1"] * 3 + ["run2"] * 3
    other = tmp_path / "other.lst"
    other.write_text("a list of something\n")
    assert not recognize(other, ["other.lst"])
    assert not recognize(tmp_path, ["a/run1/run1.csv", "gone.lst"])


def test_a_list_of_any_line_ends_is_read_and_one_in_utf16_is_told(tmp_path):
    write_run(tmp_path, end="\r\n")
    file = tmp_path / "run.lst"
    wanted = read_source(tmp_path).frame
    file.write_bytes(file.read_bytes().replace(b"\r\n", b"\r"))
    assert read_source(tmp_path).frame.equals(wanted)
    file.write_bytes(file.read_text().encode("utf-16"))
    with pytest.raises(InputError, match=r"run\.lst: expected text in UTF-8; found a zero byte"):
        read_source(tmp_path)


@pytest.mark.parametrize("count", ["²", "9" * 5000, "-1"])
def test_a_count_of_fields_that_is_none_is_told(tmp_path, count):
    write_run(tmp_path)
    replace("num-fields|15", f"num-fields|{count}")(tmp_path)
    with pytest.raises(
        InputError, match=r"run\.lst, row 2: expected num-fields\| and how many fields follow; found num"
    ):
        read_source(tmp_path)


def test_runs_of_one_name_are_a_fault_and_no_runs_an_error(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    with pytest.raises(InputError, match=r"b/run\.lst: a run of the same name is at .*a/run\.lst; rename"):
        read_source(tmp_path)
    assert len(read_source(tmp_path, keep_going=True)) == 3
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match=r"expected FlowCam runs \(.lst\), found none"):
        read_source(tmp_path / "c", source_format="flowcam")


def change_cell(folder, row, name, value):
    names = [field.split("|")[0] for field in [*PLACE, *MEASURES, *ENDS]]
    lines = (folder / "run.lst").read_text().split("\n")
    cells = lines[row - 1].split("|")
    cells[names.index(name)] = value
    lines[row - 1] = "|".join(cells)
    (folder / "run.lst").write_text("\n".join(lines))


def replace(old, new):
    def spoil(folder):
        text = (folder / "run.lst").read_text()
        assert old in text
        (folder / "run.lst").write_text(text.replace(old, new, 1))

    return spoil


BREAKS = {  # rows 18, 19 and 20 hold the particles
    "collage": (
        lambda f: (f / "run_000001.tif").unlink(), 0,
        "run.lst, row 18, column collage_file: the collage run_000001.tif is not in",
    ),
    "no picture": (
        lambda f: (f / "run_000001.tif").write_text("x"), 0,
        "row 18, column collage_file: the collage run_000001.tif cannot be opened",
    ),
    "other collage": (
        lambda f: change_cell(f, 19, "collage_file", "run_2.tif"), 2,
        "row 19, column collage_file: the collage run_2.tif is not in",
    ),
    "small collage": (
        lambda f: Image.new("L", (12, 18)).save(f / "run_000001.tif"), 2,
        "run.lst, row 19, column image_x: expected a box in the collage run_000001.tif of 12×18 pixels; "
        "found 4×11 at 9, 0",
    ),
    "no width": (lambda f: change_cell(f, 20, "image_w", "0"), 2, "row 20, column image_x: expected a box in the coll"),
    "left of it": (lambda f: change_cell(f, 20, "image_x", "-1"), 2, "row 20, column image_x: expected a number from"),
    "no box": (lambda f: change_cell(f, 20, "image_h", ""), 2, "image_h: expected a number from 0; found nothing"),
    "fields": (replace("|59F138B2", ""), 2, "run.lst, row 18: expected 15 fields parted by |; found 14"),
    "text": (
        lambda f: change_cell(f, 19, "raw_area", "1,5"), 2,
        "run.lst, row 19, column raw_area: expected a number; found '1,5'",
    ),
    "fraction": (
        lambda f: change_cell(f, 19, "sphere_count", "1.5"), 2,
        "row 19, column sphere_count: expected a whole number; found '1.5'",
    ),
    "infinite": (lambda f: change_cell(f, 19, "abd_area", "inf"), 2, "column abd_area: expected a number; found 'inf'"),
    "time": (
        lambda f: change_cell(f, 19, "timestamp", "noon"), 2,
        "row 19, column timestamp: expected a timestamp; found 'noon'",
    ),
    "id": (lambda f: change_cell(f, 19, "id", "1"), 2, "row 19, column id: expected another id in every row; 1 stands"),
    "no id": (lambda f: change_cell(f, 19, "id", ""), 2, "row 19, column id: expected a whole number; found nothing"),
    "count": (replace("num-fields|15", "num-fields|"), 0, "run.lst, row 2: expected num-fields| and how many fields"),
    "fewer": (replace("num-fields|15", "num-fields|20"), 0, "run.lst, row 3: expected 20 lines of name|type"),
    "doubled": (replace("src_y|", "src_x|"), 0, "row 3: expected 15 lines of name|type, each with its own name"),
    "needed": (replace("image_w|", "breadth|"), 0, "row 2: expected the fields id, image_w, image_h, image_x, image_y, "
                                                   "collage_file; image_w is missing"),
    "binary": (lambda f: (f / "run.lst").write_bytes(b"017\nnum-fields|\0"), 0, "run.lst: expected text in UTF-8"),
    "nothing": (lambda f: (f / "run.lst").write_text(""), 0, "run.lst, row 2: expected num-fields|"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_faults_are_told_and_good_rows_are_offered(tmp_path, name, caplog):
    spoil, n_good, message = BREAKS[name]
    write_run(tmp_path)
    write_run(tmp_path / "good", "good")
    spoil(tmp_path)
    with pytest.raises(InputError) as raised:
        read_source(tmp_path)
    assert message in str(raised.value)
    catalog = read_source(tmp_path, keep_going=True)
    assert (catalog.frame["sample_id"] == "run").sum() == n_good
    assert (catalog.frame["sample_id"] == "good").sum() == 3
    assert message in caplog.text
    assert all(np.asarray(open_image(path)).size for path in catalog.paths)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda mask: mask.unlink(),
            "row 18, column collage_file: the mask run_000001_bin.tif is not in .*3 rows need it",
        ),
        (
            lambda mask: Image.new("L", (13, 8)).save(mask),
            r"row 19, column image_x: expected a box in the mask run_000001_bin\.tif of 13×8 pixels",
        ),
    ],
)
def test_a_missing_or_small_mask_is_a_fault_where_masks_are_wanted(tmp_path, spoil, message):
    write_run(tmp_path)
    spoil(tmp_path / "run_000001_bin.tif")
    assert len(read_source(tmp_path)) == 3
    with pytest.raises(InputError, match=message):
        read_source(tmp_path, masks=True)


def test_a_run_without_particles_has_a_note_and_one_without_good_rows_is_refused(tmp_path, caplog):
    write_run(tmp_path / "a", boxes=[])
    assert len(read_source(tmp_path / "a")) == 0
    assert "run.lst: the run has no particles: 0 images" in caplog.text
    write_run(tmp_path / "b")
    (tmp_path / "b" / "run_000001.tif").unlink()
    with pytest.raises(InputError, match="expected images, found none"):
        read_source(tmp_path / "b", keep_going=True)
    for row in (18, 19, 20):
        change_cell(tmp_path / "b", row, "image_id", "1|2")
    with pytest.raises(InputError, match="expected images, found none"):
        read_source(tmp_path / "b", keep_going=True)


def test_a_gap_among_the_measures_is_no_fault(tmp_path):
    write_run(tmp_path)
    change_cell(tmp_path, 19, "raw_area", "")
    assert np.isnan(read_source(tmp_path).features["raw_area"]).tolist() == [False, True, False]


sides = st.tuples(st.integers(3, 12), st.integers(3, 12))


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(sides, min_size=1, max_size=9), colour=st.booleans())
def test_any_boxes_come_back_pixel_by_pixel(tmp_path_factory, sizes, colour):
    lefts = np.cumsum([0, *(w + 1 for w, _ in sizes)])[:-1].tolist()
    boxes = [(x, number % 3, w, h) for number, (x, (w, h)) in enumerate(zip(lefts, sizes, strict=True))]
    folder = tmp_path_factory.mktemp("run")
    pixels, _ = write_run(folder, boxes=boxes, colour=colour)
    catalog = read(folder, Faults(folder))
    for path, (x, y, w, h) in zip(catalog.paths, boxes, strict=True):
        assert np.array_equal(np.asarray(open_image(path)), pixels[y : y + h, x : x + w])


def test_the_real_run(data_folder, caplog):
    source = data_folder / "flowcam"
    assert recognize_format(source) == "flowcam"
    caplog.set_level(logging.WARNING)
    frame = read_source(source).frame
    masked = read_source(source, masks=True)
    assert len(frame) == len(masked) == 506
    assert frame["object_id"].iloc[0] == "flowcam_COMICS_DY086_20171118_MSC019_t0_4x_00001"
    assert frame["time"].iloc[0] == "2019-10-08T14:23:07.847"
    assert not caplog.text

    large = frame[frame["feature_raw_area"] > 500]  # px against µm: the scale is µm a pixel
    scale = large["feature_esd_diameter"] / large["feature_raw_feret_mean"]
    assert np.median(scale) == pytest.approx(large["pixel_size"].iloc[0], rel=0.1)

    for row in np.r_[:20, frame["feature_raw_area"].nlargest(20).index]:
        plain = np.asarray(open_image(frame["path"].iloc[row]), dtype=int)
        seen = np.asarray(open_image(masked.paths[row]), dtype=int)
        particle = (seen != 255).any(axis=2)
        assert particle.sum() == frame["feature_raw_area"].iloc[row]  # as the instrument counted
        assert plain[particle].mean(axis=0) == pytest.approx(
            frame.loc[row, ["feature_avg_red", "feature_avg_green", "feature_avg_blue"]].tolist(), abs=1e-3
        )
        assert np.median(plain[~particle]) > plain[particle].mean() - 10  # a light ground
