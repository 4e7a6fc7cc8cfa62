"""FlowCam runs: lists and collages, whole and broken."""

import logging
import re

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


def test_a_list_of_any_line_ends_is_read_and_one_in_utf16_without_its_mark_is_reported(tmp_path):
    write_run(tmp_path, end="\r\n")
    file = tmp_path / "run.lst"
    wanted = read_source(tmp_path).frame
    file.write_bytes(file.read_bytes().replace(b"\r\n", b"\r"))
    assert read_source(tmp_path).frame.equals(wanted)
    file.write_bytes(file.read_text().encode("utf-16"))
    assert read_source(tmp_path).frame.equals(wanted)
    file.write_bytes(file.read_text(encoding="utf-16").encode("utf-16-le"))
    with pytest.raises(InputError, match=r"run\.lst: expected text in UTF-8; found a zero byte"):
        read_source(tmp_path)


@pytest.mark.parametrize("count", ["²", "9" * 5000, "-1"])
def test_a_count_of_fields_that_is_none_is_reported(tmp_path, count):
    write_run(tmp_path)
    replace("num-fields|15", f"num-fields|{count}")(tmp_path)
    with pytest.raises(
        InputError, match=r"run\.lst, row 2: expected num-fields\| and the number of fields that follow; found num"
    ):
        read_source(tmp_path)


def test_runs_of_one_name_are_a_fault_and_no_runs_an_error(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    with pytest.raises(
        InputError,
        match=r"b/run\.lst: expected each run name once .*; found a run of the same name at .*a/run\.lst; rename",
    ):
        read_source(tmp_path)
    assert len(read_source(tmp_path, keep_going=True)) == 3
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match=r"expected FlowCam runs \(.lst\); found none"):
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
        "run.lst, row 18, column collage_file: expected the collage run_000001.tif; found that it is not in",
    ),
    "no picture": (
        lambda f: (f / "run_000001.tif").write_text("x"), 0,
        "row 18, column collage_file: expected the collage run_000001.tif; found that it cannot be opened",
    ),
    "other collage": (
        lambda f: change_cell(f, 19, "collage_file", "run_2.tif"), 2,
        "row 19, column collage_file: expected the collage run_2.tif; found that it is not in",
    ),
    "small collage": (
        lambda f: Image.new("L", (12, 18)).save(f / "run_000001.tif"), 2,
        "run.lst, row 19, column image_x: expected a box in the collage run_000001.tif of 12×18 pixels; "
        "found 4×11 at 9, 0",
    ),
    "no width": (lambda f: change_cell(f, 20, "image_w", "0"), 2, "row 20, column image_x: expected a box in the coll"),
    "left of it": (lambda f: change_cell(f, 20, "image_x", "-1"), 2, "row 20, column image_x: expected a number from"),
    "no box": (lambda f: change_cell(f, 20, "image_h", ""), 2, "image_h: expected a number from 0; found nothing"),
    "fields": (replace("|59F138B2", ""), 2, "run.lst, row 18: expected 15 fields separated by |; found 14"),
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
    "id": (lambda f: change_cell(f, 19, "id", "1"), 2, "id: expected a different id in every row; found 1, which"),
    "no id": (lambda f: change_cell(f, 19, "id", ""), 2, "row 19, column id: expected a whole number; found nothing"),
    "count": (replace("num-fields|15", "num-fields|"), 0, "row 2: expected num-fields| and the number of fields"),
    "fewer": (replace("num-fields|15", "num-fields|20"), 0, "run.lst, row 3: expected 20 lines of name|type"),
    "doubled": (replace("src_y|", "src_x|"), 0, "row 3: expected 15 lines of name|type, each with its own name"),
    "needed": (replace("image_w|", "breadth|"), 0, "row 2: expected the fields id, image_w, image_h, image_x, image_y, "
                                                   "collage_file; found no image_w"),
    "binary": (lambda f: (f / "run.lst").write_bytes(b"017\nnum-fields|\0"), 0, "run.lst: expected text in UTF-8"),
    "nothing": (lambda f: (f / "run.lst").write_text(""), 0, "run.lst, row 2: expected num-fields|"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_faults_are_reported_and_good_rows_are_offered(tmp_path, name, caplog):
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
            "row 18, column collage_file: expected the mask run_000001_bin.tif; found that it is not .*3 rows need it",
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
    with pytest.raises(InputError, match="expected images; found none"):
        read_source(tmp_path / "b", keep_going=True)
    for row in (18, 19, 20):
        change_cell(tmp_path / "b", row, "image_id", "1|2")
    with pytest.raises(InputError, match="expected images; found none"):
        read_source(tmp_path / "b", keep_going=True)


def test_a_gap_among_the_measures_is_no_fault(tmp_path):
    write_run(tmp_path)
    change_cell(tmp_path, 19, "raw_area", "")
    assert np.isnan(read_source(tmp_path).features["raw_area"]).tolist() == [False, True, False]


SUMMARY = "Run:\n\tMode:  AutoImage\n\tFluid Volume Imaged: {volume}\n\tParticle Count: {count}\n\nDate/Time:\n"


def write_summary(folder, volume="0.8500 ml", count=3, scale="1.5000", encoding="utf-8", name="run_run_summary.txt"):
    text = (
        SUMMARY.format(volume=volume, count=count) + f"\tStart:  2017-11-18 10:02:06\n\tCalibration Factor: {scale}\n"
    )
    (folder / name).write_bytes(text.encode(encoding))


@pytest.mark.parametrize(
    ("written", "volume"),
    [
        ({}, 8.5e-7),
        ({"volume": "0,8500 ml", "scale": "1,5000"}, 8.5e-7),
        ({"volume": "0.8500 mL", "encoding": "utf-16"}, 8.5e-7),
        ({"encoding": "utf-16-le"}, 8.5e-7),
        ({"encoding": "utf-8-sig"}, 8.5e-7),
        ({"volume": "850 µl", "encoding": "latin-1"}, 8.5e-7),
        ({"volume": "850 µL"}, 8.5e-7),
        ({"volume": "0.00085 L"}, 8.5e-7),
        ({"volume": "289.6065 ml"}, 2.896065e-4),
        ({"volume": "1,234 ml"}, 1.234e-3),  # 1234 ml: the scale has a point
        ({"volume": "1,234 ml", "scale": "1,5000"}, 1.234e-6),
        ({"volume": "1.234 ml", "scale": "1,5000"}, 1.234e-3),
        ({"volume": "1.234 ml"}, 1.234e-6),
        ({"volume": "1,234.5 ml"}, 1.2345e-3),
        ({"name": "RUN_Run_Summary.TXT"}, 8.5e-7),
    ],
)
def test_the_summary_of_a_run_gives_the_fluid_that_was_imaged(tmp_path, written, volume, caplog):
    write_run(tmp_path)
    write_summary(tmp_path, **written)
    for source in (tmp_path, tmp_path / "run.lst"):
        frame = read_source(source).frame
        assert frame["volume"].tolist() == pytest.approx([volume] * 3, rel=1e-12)
        assert set(frame["volume_of"]) == {"fluid that was run"}
    assert not caplog.text


def test_a_summary_with_commas_between_names_and_values_is_read(tmp_path):
    write_run(tmp_path)
    text = 'Fluid Volume Imaged, 0.8500 ml\n"Particle Count","3"\nCalibration Factor,1.5\n'
    (tmp_path / "run_run_summary.txt").write_text(text)
    assert read_source(tmp_path).frame["volume"].tolist() == [8.5e-7] * 3


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"volume": "0.85"},
            "_summary.txt: expected Fluid Volume Imaged, like 0.85 ml; found 0.85; the run has no volume",
        ),
        ({"volume": ""}, "expected Fluid Volume Imaged, like 0.85 ml; found nothing; the run has no volume"),
        ({"volume": "0.0000 ml"}, "found 0.0000 ml; the run has no volume"),
        ({"volume": "-1 ml"}, "found -1 ml; the run has no volume"),
        ({"volume": "0.85 gallons"}, "found 0.85 gallons; the run has no volume"),
        ({"volume": "1,234 ml", "scale": "1"}, "found 1,234 ml; the run has no volume"),  # 1.234 or 1234?
        (
            {"count": 2},
            "run.lst: expected 2 rows, the Particle Count of run_run_summary.txt; found 3; the run has no volume",
        ),
        ({"encoding": "utf-32"}, "the run has no volume"),
    ],
)
def test_a_summary_that_gives_no_volume_is_reported(tmp_path, written, message, caplog):
    write_run(tmp_path)
    write_summary(tmp_path, **written)
    frame = read_source(tmp_path).frame
    assert len(frame) == 3
    assert not {"volume", "volume_of"} & {*frame}
    assert message in caplog.text


def test_what_else_a_summary_may_be_wrong_in_is_reported(tmp_path, caplog):
    write_run(tmp_path / "a", "a")
    write_summary(tmp_path / "a", scale="2.4000", count="many", name="a_run_summary.txt")
    write_run(tmp_path / "b", "b")
    (tmp_path / "b" / "b_run_summary.txt").mkdir()
    write_run(tmp_path / "c", "c")
    frame = read_source(tmp_path).frame
    assert frame["volume"].tolist()[:3] == [8.5e-7] * 3
    assert frame["volume"].isna().tolist() == [False] * 3 + [True] * 6
    assert list(frame["pixel_size"]) == [1.5] * 9
    assert "expected Calibration Factor 1.5, the cal_const of the list; found 2.4; the pixel size is" in caplog.text
    assert "expected a Particle Count; found many; the number of rows of the list is not checked" in caplog.text
    assert "b_run_summary.txt: expected a run summary; found a file that cannot be read" in caplog.text
    assert "1 of 3 runs have no summary in the folder of the list (c_run_summary.txt): no volume" in caplog.text


def test_a_list_cut_after_a_row_is_a_fault_by_the_summary(tmp_path):
    write_run(tmp_path)
    write_summary(tmp_path)
    text = (tmp_path / "run.lst").read_text()
    for n_kept, n_good in ((2, 2), (0, 0)):
        (tmp_path / "run.lst").write_text("".join(text.splitlines(keepends=True)[: 17 + n_kept]))
        expected = (
            rf"run\.lst: expected 3 rows, the Particle Count of run_run_summary\.txt; found {n_kept}; copy the list"
        )
        with pytest.raises(InputError, match=expected):
            read_source(tmp_path)
        frame = read_source(tmp_path, keep_going=True).frame
        assert len(frame) == n_good
        assert "volume" not in frame


def test_a_list_cut_in_its_last_field_or_before_a_collage_is_a_fault(tmp_path):
    write_run(tmp_path)
    text = (tmp_path / "run.lst").read_text()
    (tmp_path / "run.lst").write_text(text[:-5])
    with pytest.raises(InputError, match=r"run\.lst, row 20, column image_id: expected a guid; found '59F1'"):
        read_source(tmp_path)
    (tmp_path / "run.lst").write_text(text)
    for other in ("run_000001_bin.tif", "run_00002.tif", "cal_image_000001.tif", "run_2_000002.tif", "run_000002.txt"):
        (tmp_path / other).touch()
    assert len(read_source(tmp_path)) == 3
    (tmp_path / "run_000002.tif").touch()
    with pytest.raises(
        InputError, match=r"run\.lst: expected rows with images of run_000002\.tif; found none; copy the"
    ):
        read_source(tmp_path)


def test_a_run_that_lost_images_has_no_volume(tmp_path, caplog):
    write_run(tmp_path)
    write_summary(tmp_path)
    change_cell(tmp_path, 19, "collage_file", "run_2.tif")
    frame = read_source(tmp_path, keep_going=True).frame
    assert len(frame) == 2
    assert "volume" not in frame
    assert "run.lst: expected a complete run; found missing rows or images; the run has no volume" in caplog.text


sides = st.tuples(st.integers(3, 12), st.integers(3, 12))


@settings(max_examples=15)
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
    assert "the run has no summary in the folder of the list" in caplog.text
    assert len(caplog.records) == 2

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


def test_a_list_without_its_count_of_fields_does_not_make_the_collages_images(tmp_path):
    write_run(tmp_path)
    file = tmp_path / "run.lst"
    file.write_text(file.read_text().replace("num-fields|15\n", ""))
    with pytest.raises(
        InputError, match=r"run\.lst, row 2: expected num-fields\| and the number of fields that follow"
    ):
        read_source(tmp_path)


@pytest.mark.parametrize("field", ["id", "image_h", "cal_const"])
def test_a_number_that_is_none_by_its_type_is_a_fault(tmp_path, field):
    write_run(tmp_path)
    file = tmp_path / "run.lst"
    file.write_text(re.sub(rf"\n{field}\|\w+", f"\n{field}|string", file.read_text()))
    with pytest.raises(InputError, match=rf"column {field}: expected a type of int32 or double; found 'string'"):
        read_source(tmp_path)


def test_decimal_commas_in_a_list_are_numbers(tmp_path):
    write_run(tmp_path)
    file = tmp_path / "run.lst"
    head, rows = file.read_text().split("image_id|guid\n")
    lines = [[cell.replace(".", ",") if cell[0] != "2" else cell for cell in row.split("|")] for row in rows.split()]
    for line, area in zip(lines, ("22,5000", "1,125", "67,5"), strict=True):
        line[9], line[13] = area, line[13].replace(",", ".")
    file.write_text(f"{head}image_id|guid\n" + "".join("|".join(line) + "\n" for line in lines))
    catalog = read_source(tmp_path)
    assert list(catalog.pixel_size) == [1.5] * 3
    assert catalog.features["abd_area"].tolist() == [22.5, 1.125, 67.5]
    file.write_text(file.read_text().replace("|22,5000|", "|22.5|"))
    with pytest.raises(InputError, match=r"row 19, column abd_area: expected a number; found '1,125'"):
        read_source(tmp_path)
