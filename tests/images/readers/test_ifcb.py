"""IFCB bins, old and new, whole and broken."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankton_embed.errors import InputError
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.ifcb import NEW_COLUMNS, read, recognize, time_of_bin
from plankton_embed.images.readers.source import read_source, recognize_format

NEW, OLD = "D20130526T095207_IFCB013", "IFCB5_2012_028_081515"
PICTURES = [np.arange(w * h, dtype=np.uint8).reshape(h, w) for w, h in ((9, 5), (4, 11), (6, 6))]
HEADER = "softwareVersion: 2.0\nsampleTime: x\nrunTime: 61.0\ninhibitTime: 1.0\n"


def write_bin(folder, bin_id=NEW, pictures=PICTURES, header=HEADER, clocks=("60.9", "1.0"), gap_after=1):
    """Write a bin; a target without an image follows target `gap_after`."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, rows = (b"\0" if bin_id.startswith("I") else b""), []
    for number, picture in enumerate(pictures, 1):
        height, width = picture.shape
        for w, h in ((width, height), (0, 0))[: 1 + (number == gap_after)]:
            box, trigger = f"3,7,{w},{h},{len(pixels)}", len(rows) + 1
            if bin_id.startswith("I"):
                opened, grabbed = trigger - 0.9, trigger - 0.5
                rows.append(f"{trigger},{trigger},.1,.2,.3,.4,.5,{opened},{grabbed},{box},-.1")
            else:
                signals = ",".join(f".{trigger}{channel}" for channel in range(1, 9))
                rows.append(f"{trigger},60.8,{signals},-999.0,.1,.2,{box},-999.0,0,0,0,{clocks[0]},{clocks[1]}")
            pixels += picture.tobytes() if w else b""
    (folder / f"{bin_id}.adc").write_text("".join(f"{row}\n" for row in rows))
    (folder / f"{bin_id}.hdr").write_text(header)
    (folder / f"{bin_id}.roi").write_bytes(pixels + (b"\0" if bin_id.startswith("I") else b""))
    return folder


def pictures_of(catalog):
    return [np.asarray(open_image(path)) for path in catalog.paths]


@pytest.mark.parametrize("bin_id", [NEW, OLD])
@pytest.mark.parametrize("named", ["", ".adc", ".hdr", ".roi"])
def test_a_bin_is_read_by_any_of_its_files_and_by_its_folder(tmp_path, bin_id, named):
    write_bin(tmp_path / "2012" / "a", bin_id)
    catalog = read_source(tmp_path / "2012" / "a" / f"{bin_id}{named}" if named else tmp_path)
    assert list(catalog.frame["object_id"]) == [f"{bin_id}_00001", f"{bin_id}_00003", f"{bin_id}_00004"]
    assert list(catalog.frame["roi_number"]) == [1, 3, 4]
    assert set(catalog.frame["sample_id"]) == set(catalog.frame["ifcb_bin"]) == {bin_id}
    assert catalog.labels == [None] * 3
    for seen, written in zip(pictures_of(catalog), PICTURES, strict=True):
        assert np.array_equal(seen, written)


def test_the_signals_of_a_new_bin_are_features_without_what_was_not_measured(tmp_path):
    features = read_source(write_bin(tmp_path)).features
    assert list(features) == ["PMTA", "PMTB", "PMTC", "PMTD", "peakA", "peakB", "peakC", "peakD"]
    assert features["PMTA"].tolist() == [0.11, 0.31, 0.41]
    assert features["peakD"].tolist() == [0.18, 0.38, 0.48]


def test_the_columns_that_the_header_names_are_taken(tmp_path):
    write_bin(tmp_path)
    adc = tmp_path / f"{NEW}.adc"
    rows = [row.split(",") for row in adc.read_text().split()]
    adc.write_text("".join(",".join([*row[15:18], row[0], *row[22:24], row[1]]) + "\n" for row in rows))
    form = "ADCFileFormat: roiWidth, roiHeight, StartByte, Trigger#, runtime, inhibittime, ADCtime\n"
    (tmp_path / f"{NEW}.hdr").write_text(HEADER + form)
    catalog = read_source(tmp_path)
    assert [picture.shape for picture in pictures_of(catalog)] == [picture.shape for picture in PICTURES]
    assert catalog.frame["volume"].iloc[0] == pytest.approx(0.25e-6)


def test_times_come_from_the_name_of_the_bin():
    assert time_of_bin(NEW) == "2013-05-26T09:52:07Z"
    assert time_of_bin(OLD) == "2012-01-28T08:15:15Z"  # day 28
    assert time_of_bin("IFCB1_2008_366_235959") == "2008-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("header", "clocks", "millilitres"),
    [
        (HEADER, ("60.9", "1.0"), 0.25),  # (61 - 1) s at 0.25 ml a minute
        ("x\nRunTime:61\nInhibitTime:1\n", ("0", "0"), 0.25),  # clocks of the rows stand still
        ("x\nrun time = 61.0 s   inhibit time = 1.0 s\n", ("60.9", "1.0"), 0.25),
        ("x\nrunTime: 90\ninhibitTime: 1.0\n", ("60.9", "0.9"), 0.25),  # over 2 % off: 60.9 and 0.9 of the last row
        ("x\n", ("60.9", "0.9"), 0.25),
        ("x\n", ("0", "0"), None),
        ("x\nrunTime: 1\ninhibitTime: 61\n", ("0", "0"), None),
    ],
)
def test_volume_of_a_new_bin(tmp_path, header, clocks, millilitres):
    frame = read_source(write_bin(tmp_path, header=header, clocks=clocks)).frame
    assert ("volume" in frame) == (millilitres is not None)
    if millilitres:
        assert frame["volume"].tolist() == pytest.approx([millilitres * 1e-6] * 3)


def test_volume_of_an_old_bin(tmp_path):
    """Four triggers open at .1, 1.1, … and grab at .5, 1.5, …: 3.5 s less three waits of .6 s and one of 73 ms."""
    frame = read_source(write_bin(tmp_path, OLD)).frame
    assert frame["volume"].tolist() == pytest.approx([(3.5 - 3 * 0.6 - 0.073) * 0.25e-6 / 60] * 3)
    late = read_source(write_bin(tmp_path / "late", "IFCB5_2015_152_000000")).frame  # 1 June 2015: 50 ms
    assert late["volume"].tolist() == pytest.approx([(3.5 - 3 * 0.6 - 0.05) * 0.25e-6 / 60] * 3)


def test_volume_of_an_old_bin_over_midnight_and_with_two_images_of_a_trigger(tmp_path):
    write_bin(tmp_path, OLD)
    adc = tmp_path / f"{OLD}.adc"
    rows = [row.split(",") for row in adc.read_text().split()]
    for row, opened, grabbed in zip(
        rows, ("9.9", "10.02", "10.02", "-86388"), ("10", "11", "11", "-86387"), strict=True
    ):
        row[7], row[8] = opened, grabbed
    rows[2][0] = rows[1][0]
    adc.write_text("".join(",".join(row) + "\n" for row in rows))
    volume = read_source(tmp_path).frame["volume"].iloc[0]
    assert volume == pytest.approx((13 - 0.073 - 1 - 0.073) * 0.25e-6 / 60)  # waits of 20 ms and of 1 s


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("gpsLatitude: 41.5\ngpsLongitude: -70.6\ndepth: 4\n", [41.5, -70.6, 4, 4]),
        ("latitude: -9.25\nLongitude: 170\n", [-9.25, 170, None, None]),
        ("gpsLatitude: 0.0\ngpsLongitude: 0.0\n", [None] * 4),
        ("gpsLatitude: 41.5\n", [None] * 4),
        ("gpsLatitude: -999\ngpsLongitude: 5\n", [None] * 4),
        ("gpsLatitude: nan\ngpsLongitude: 5\ndepth: 2.5\n", [None, None, 2.5, 2.5]),
        ("gpsLatitude:\ngpsLongitude:\n", [None] * 4),
    ],
)
def test_position(tmp_path, lines, place):
    frame = read_source(write_bin(tmp_path, header=HEADER + lines)).frame
    for name, value in zip(("latitude", "longitude", "depth_min", "depth_max"), place, strict=True):
        assert (frame[name].iloc[0] if name in frame else None) == value


def test_beads_skip_and_files_of_other_names_are_passed_over(tmp_path):
    write_bin(tmp_path / "data" / "a")
    write_bin(tmp_path / "beads" / "b", OLD)
    write_bin(tmp_path / "data" / "Skip", "D20130526T095208_IFCB013")
    (tmp_path / "data" / "decoy.adc").touch()
    (tmp_path / "data" / f"{NEW}_class.h5").touch()
    assert set(read_source(tmp_path).frame["ifcb_bin"]) == {NEW}
    assert set(read_source(tmp_path / "beads").frame["ifcb_bin"]) == {OLD}  # for it is asked for by name
    with pytest.raises(InputError, match="found none; the 1 below folders named skip or beads are passed over"):
        read_source(write_bin(tmp_path / "c" / "beads", OLD).parent)
    with pytest.raises(InputError, match=r"decoy\.adc: expected a file of an IFCB bin, named like"):
        read_source(tmp_path / "data" / "decoy.adc", source_format="ifcb")


def test_what_is_recognised(tmp_path):
    assert recognize(tmp_path, ["a/b.csv", f"2012/{OLD}.hdr"])
    assert recognize(tmp_path / f"{NEW}.roi", [f"{NEW}.roi"])
    assert not recognize(tmp_path, ["decoy.adc", f"{NEW}.csv", f"{NEW}_class.h5", "x.hdr"])
    assert recognize_format(write_bin(tmp_path)) == "ifcb"


def change_cell(place, row, column, value):
    adc = place.with_suffix(".adc")
    rows = [line.split(",") for line in adc.read_text().split()]
    rows[row - 1][NEW_COLUMNS.split(", ").index(column)] = value
    adc.write_text("\n".join(",".join(cells) for cells in rows))


def write(suffix, content):
    return lambda place: place.with_suffix(suffix).write_text(content)


BREAKS = {
    "no roi": (lambda p: p.with_suffix(".roi").unlink(), 0, f"{NEW}: expected .adc, .hdr and .roi; found no .roi"),
    "only roi": (
        lambda p: [p.with_suffix(s).unlink() for s in (".adc", ".hdr")],
        0,
        f"{NEW}: expected .adc, .hdr and .roi; found no .adc, no .hdr",
    ),
    "no hdr": (lambda p: p.with_suffix(".hdr").unlink(), 3, "found no .hdr"),
    "empty hdr": (write(".hdr", ""), 3, f"{NEW}.hdr: expected the settings of the instrument; the file is empty; copy"),
    "empty adc": (write(".adc", ""), 0, f"expected a row a target; the file is empty, but {NEW}.roi has 125"),
    "empty all": (
        lambda p: [p.with_suffix(s).write_text("") for s in (".adc", ".hdr", ".roi")],
        0,
        "the file is empty, and so are the .adc and the .roi: the bin holds no data",
    ),
    "short roi": (
        lambda p: p.with_suffix(".roi").write_bytes(bytes(100)),
        2,
        f"{NEW}.adc, row 4, column start_byte: expected bytes up to 125 in {NEW}.roi, which has 100",
    ),
    "width": (
        lambda p: change_cell(p, 3, "ROIwidth", "4x"),
        2,
        f"{NEW}.adc, row 3, column ROIwidth: expected a whole number, 0 or more; found '4x'",
    ),
    "half a pixel": (lambda p: change_cell(p, 3, "ROIheight", "4.5"), 2, "row 3, column ROIheight: expected a whole"),
    "negative": (lambda p: change_cell(p, 1, "start_byte", "-1"), 2, "row 1, column start_byte: expected a whole"),
    "huge": (lambda p: change_cell(p, 1, "ROIwidth", "1e300"), 2, "row 1, column start_byte: expected bytes up to"),
    "infinite": (lambda p: change_cell(p, 1, "ROIwidth", "inf"), 2, "row 1, column ROIwidth: expected a whole"),
    "no number": (lambda p: change_cell(p, 4, "ROIwidth", ""), 2, "expected a whole number, 0 or more; found nothing"),
    "signal": (lambda p: change_cell(p, 4, "PMTB", "?"), 2, "row 4, column PMTB: expected a number; found '?'"),
    "cut row": (
        lambda p: p.with_suffix(".adc").write_text(p.with_suffix(".adc").read_text()[:-20]),
        2,
        f"{NEW}.adc, row 4: expected 24 columns, as in most rows; found",
    ),
    "blank row": (
        lambda p: p.with_suffix(".adc").write_text(p.with_suffix(".adc").read_text().replace("\n", "\n\n", 1)),
        3,
        "row 2: expected 24 columns, as in most rows; found 1",
    ),
    "no columns": (write(".adc", "1 2 3\n4 5 6\n"), 0, "row 1: expected 18 columns or more, parted by commas"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_faults_are_told_and_good_rows_are_offered(tmp_path, name, caplog):
    spoil, n_good, message = BREAKS[name]
    write_bin(tmp_path)
    write_bin(tmp_path / "good", OLD)
    spoil(tmp_path / NEW)
    with pytest.raises(InputError) as raised:
        read_source(tmp_path)
    assert message in str(raised.value)
    assert "--keep-going" in str(raised.value)
    catalog = read_source(tmp_path, keep_going=True)
    assert (catalog.frame["ifcb_bin"] == NEW).sum() == n_good
    assert (catalog.frame["ifcb_bin"] == OLD).sum() == 3
    assert message in caplog.text
    assert all(picture.size for picture in pictures_of(catalog))


def test_a_name_without_a_date_and_a_bin_that_stands_twice_are_faults(tmp_path):
    write_bin(tmp_path / "a")
    write_bin(tmp_path / "b")
    write_bin(tmp_path / "c", "D20131326T095207_IFCB013")
    with pytest.raises(InputError) as raised:
        read_source(tmp_path)
    assert f"{tmp_path / 'b' / NEW}: the same bin is at {tmp_path / 'a' / NEW}" in str(raised.value)
    assert "D20131326T095207_IFCB013: expected a date and a time in the name" in str(raised.value)
    assert len(read_source(tmp_path, keep_going=True)) == 3


def test_a_source_without_any_good_bin_is_refused_even_so(tmp_path):
    write_bin(tmp_path)
    (tmp_path / f"{NEW}.roi").unlink()
    with pytest.raises(InputError, match="expected images, found none"):
        read_source(tmp_path, keep_going=True)


@pytest.mark.parametrize(("bin_id", "roi"), [(NEW, b""), (OLD, b"\0\0")])
def test_an_empty_bin_has_no_images_and_a_note(tmp_path, bin_id, roi, caplog):
    write_bin(tmp_path, bin_id)
    (tmp_path / f"{bin_id}.adc").write_text("")
    (tmp_path / f"{bin_id}.roi").write_bytes(roi)
    catalog = read_source(tmp_path)
    assert len(catalog) == 0
    assert {"object_id", "path", "label", "sample_id", "ifcb_bin", "roi_number"} <= {*catalog.frame}
    assert f"{bin_id}.adc: the bin is empty: 0 images" in caplog.text
    write_bin(tmp_path / "full", "D20140526T095207_IFCB013")
    assert len(read_source(tmp_path)) == 3


def test_a_bin_of_targets_without_images_has_a_note(tmp_path, caplog):
    write_bin(tmp_path, pictures=[np.zeros((0, 0), dtype=np.uint8)] * 2, gap_after=0)
    assert len(read_source(tmp_path)) == 0
    assert "none of the 2 targets has an image" in caplog.text


sides = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda wh: wh if min(wh) else (0, 0))


@settings(max_examples=20, deadline=None)
@given(boxes=st.lists(sides, min_size=1, max_size=8), bin_id=st.sampled_from([NEW, OLD]), seed=st.integers(0, 99))
def test_any_boxes_come_back_pixel_by_pixel(tmp_path_factory, boxes, bin_id, seed):
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 256, (h, w), dtype=np.uint8) for w, h in boxes]
    folder = write_bin(tmp_path_factory.mktemp("bin"), bin_id, pictures, gap_after=0)
    catalog = read(folder, Faults(folder))
    imaged = [number for number, (w, _) in enumerate(boxes, 1) if w]
    assert catalog.frame["roi_number"].tolist() == imaged
    roi = (folder / f"{bin_id}.roi").read_bytes()
    for path, number in zip(catalog.paths, imaged, strict=True):
        width, height = boxes[number - 1]
        start = int(path.rpartition("+")[2])
        assert path.endswith(f"{bin_id}.roi/{width}x{height}+{start}")
        assert roi[start : start + width * height] == pictures[number - 1].tobytes()


@pytest.mark.parametrize(
    ("folder", "n_images", "first_byte", "n_bytes", "millilitres"),
    # the volumes: 0.25 ml a minute for the 0.813953 s and the 1172.417 s that pyifcb's own tests expect of these bins
    [("data", 6, 1, 71_083 - 1, 0.003391470833), ("white", 19, 0, 98_472, 4.885070)],
)
def test_real_bins(data_folder, folder, n_images, first_byte, n_bytes, millilitres):
    source = data_folder / "ifcb" / folder
    assert recognize_format(source) == "ifcb"
    frame = (catalog := read_source(source)).frame
    assert len(frame) == n_images
    assert frame["volume"].iloc[0] * 1e6 == pytest.approx(millilitres, rel=1e-5)
    boxes = frame["path"].str.extract(r"/(\d+)x(\d+)\+(\d+)$").astype(int).to_numpy()
    ends = boxes[:, 2] + boxes[:, 0] * boxes[:, 1]
    assert [first_byte, *ends] == [*boxes[:, 2], n_bytes]  # the boxes lie end to end, from the first byte to the last
    for picture in pictures_of(catalog):
        pixels = picture.astype(float)
        sheared = pixels.reshape(pixels.shape[::-1])  # as if width and height were swapped
        assert np.abs(np.diff(pixels, axis=0)).mean() < 0.6 * np.abs(np.diff(sheared, axis=0)).mean()
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert np.median(border) > 140  # a light ground


def test_real_bins_that_are_broken(data_folder, caplog):
    ifcb = data_folder / "ifcb"
    with pytest.raises(InputError, match=r"IFCB5_2012_028_081515: expected .adc, .hdr and .roi; found no .roi; copy"):
        read_source(ifcb / "partial")
    with pytest.raises(InputError, match=r"IFCB099\.hdr: expected the settings of the instrument; the file is empty"):
        read_source(ifcb / "invalid")
    caplog.set_level(logging.WARNING)
    assert len(read_source(ifcb / "empty")) == 0
    assert caplog.text.count("the bin is empty: 0 images") == 2
    assert len(read_source(ifcb, keep_going=True)) == 25
