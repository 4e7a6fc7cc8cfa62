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
    ("lines", "millilitres"),
    [
        ("runSampleFast: 1\t\nRunFastFactor: 10.000000\t\n", 2.5),
        ("runsamplefast: True\nRUNFASTFACTOR: 4\n", 1.0),
        ("runSampleFast: 1\nRunFastFactor: 0.000000\n", 0.25),
        ("runSampleFast: 0\nRunFastFactor: 10\n", 0.25),
        ("runSampleFast: False\nRunFastFactor: 10\n", 0.25),
        ("RunFastFactor: 10\n", 0.25),
        ("runSampleFast: 1\n", "a fast run (runSampleFast) without RunFastFactor"),
        ("runSampleFast: 1\nRunFastFactor: -2\n", "a fast run (runSampleFast) with RunFastFactor -2"),
        ("SyringeSampleVolume: 0.250000\n", 0.25),
        ("SyringeSampleVolume: 0.24\n", "0.250 ml, more than the 0.24 ml of the syringe"),
        ("runSampleFast: 1\nRunFastFactor: 30\n", "7.500 ml, more than the 5 ml of the syringe"),
        ("SyringeSampleVolume: 5000\nrunSampleFast: 1\nRunFastFactor: 30\n", "7.500 ml, more than the 5 ml"),
        ("SyringeSampleVolume: 0.1\naltSyringeSampleVolume: 5\nrunType: ALT\n", 0.25),
        ("SyringeSampleVolume: 5\naltSyringeSampleVolume: 0.1\nrunType: ALT\n", "more than the 0.1 ml of the syringe"),
    ],
)
def test_a_fast_run_takes_more_water_and_no_run_more_than_the_syringe_holds(tmp_path, lines, millilitres, caplog):
    frame = read_source(write_bin(tmp_path, header=HEADER + lines)).frame
    assert len(frame) == 3
    if isinstance(millilitres, str):
        assert not {"volume", "volume_of"} & {*frame}
        assert f"{NEW}.adc: expected clocks and rows that give a volume; found " in caplog.text
        assert millilitres in caplog.text
    else:
        assert frame["volume"].tolist() == pytest.approx([millilitres * 1e-6] * 3)
        assert set(frame["volume_of"]) == {"sea water"}
        assert not caplog.text


CLOCKS = (1, 22, 23)  # columns of ADC_time, runTime and inhibitTime
TIME, RUN, BLIND = CLOCKS
LOOKED = 999.06 - 10  # seconds: a trigger every 10 s, blind for 0.1 s
HDR = "runTime: 1040\ninhibitTime: 10\n"  # the run went on after the last trigger


def write_clocks(folder, header=HDR, n=100, change=lambda clocks: None):
    """Write a bin of n rows, the first with an image; `change` spoils the clocks, (n, 3)."""
    time = 9.0 + 10 * np.arange(n)
    clocks = np.stack([time, time + 0.06, 0.1 * np.arange(1, n + 1)], axis=1)
    change(clocks)
    rows = [["0"] * 24 for _ in range(n)]
    for number, (row, values) in enumerate(zip(rows, clocks, strict=True)):
        row[0], row[15], row[16], row[17] = str(number + 1), *("4,2,0" if number == 0 else "0,0,8").split(",")
        for column, value in zip(CLOCKS, values, strict=True):
            row[column] = f"{value:f}"
    folder.mkdir(exist_ok=True)
    (folder / f"{NEW}.adc").write_text("".join(",".join(row) + "\n" for row in rows))
    (folder / f"{NEW}.hdr").write_text(header)
    (folder / f"{NEW}.roi").write_bytes(bytes(8))
    return folder


def put(rows, columns, value):
    def change(clocks):
        clocks[rows, [CLOCKS.index(column) for column in columns]] = value

    return change


def add(rows, columns, value):
    def change(clocks):
        for column in columns:
            clocks[rows, CLOCKS.index(column)] += value

    return change


LAST, ALL = -1, slice(None)
SPOILT = {  # and what is reported
    "blind time in the last row": (put(LAST, [BLIND], 9999), "1 of 100 rows with bad clocks"),
    "run time in the last row": (put(LAST, [RUN], 0), "1 of 100 rows with bad clocks"),
    "time in the last row": (put(LAST, [TIME], 9999), "1 of 100 rows with bad clocks"),
    "no clocks in the last row": (put(LAST, [RUN, BLIND], np.nan), "1 of 100 rows with bad clocks"),
    "a step back": (put(LAST, [BLIND], 3), "1 of 100 rows with bad clocks"),
    "zeros in many rows": (lambda clocks: clocks[-40:, 1:].fill(0), "40 of 100 rows with bad clocks"),
    "a peak": (put(50, [RUN, BLIND], 5000), "2 of 100 rows with bad clocks"),
    "a jump": (add(slice(70, None), [RUN, BLIND], 300), "30 of 100 rows with bad clocks"),
    "the first row": (put(0, [RUN, BLIND], 9999), "2 of 100 rows with bad clocks"),
    "two clocks later": (add(ALL, [RUN, BLIND], 500), "runTime +500 s from ADC_time in most rows"),
    "two clocks earlier": (add(ALL, [RUN, BLIND], -500), "runTime -500 s from ADC_time in most rows"),
    "all clocks later": (add(ALL, CLOCKS, 500), None),
    "run time later": (add(ALL, [RUN], 500), "runTime +500 s from ADC_time in most rows"),
    "blind time later": (add(ALL, [BLIND], 5000), None),
    "time later": (add(ALL, [TIME], 500), "runTime -500 s from ADC_time in most rows"),
}


@pytest.mark.parametrize("header", [HDR, "x\n", "runTime: 12,5\ninhibitTime: ?\n", "runTime: 10\ninhibitTime: 1040\n"])
@pytest.mark.parametrize("name", SPOILT)
def test_bad_clocks_of_rows_are_left_out_and_reported(tmp_path, name, header, caplog):
    change, found = SPOILT[name]
    frame = read_source(write_clocks(tmp_path, header, change=change)).frame
    assert frame["volume"].iloc[0] == pytest.approx(LOOKED * 0.25e-6 / 60, rel=1e-3)
    if found:
        assert "kept: " in caplog.text
        assert found in caplog.text


def test_sound_clocks_are_not_reported(tmp_path, caplog):
    frame = read_source(write_clocks(tmp_path)).frame
    assert frame["volume"].iloc[0] == pytest.approx(LOOKED * 0.25e-6 / 60)
    assert not caplog.text


@pytest.mark.parametrize(
    ("change", "n", "header", "seconds"),
    [
        (lambda clocks: clocks[-3:].fill(0), 100, HDR, 969.06 - 9.7),  # the last row that has clocks
        (lambda clocks: clocks[-30:].fill(0), 100, HDR, 1030),  # by the header: too many are missing
        (lambda clocks: clocks[-30:].fill(0), 100, "x\n", None),
        (lambda clocks: clocks[:, 1:].fill(0), 100, HDR, 1030),
        (lambda clocks: clocks[:, 1:].fill(0), 100, "x\n", None),
        (lambda clocks: None, 1, HDR, 1030),  # a single row does not show the end of the run
        (lambda clocks: None, 1, "x\n", None),
        (lambda clocks: clocks[:, 1:].fill(0), 100, "runTime: 9\ninhibitTime: 10\n", None),
        (lambda clocks: clocks[:, 1:].fill(0), 100, "runTime: inf\ninhibitTime: 10\n", None),
        (lambda clocks: None, 100, "FileComment: run time: 5\nrunTime: 1001\ninhibitTime: 10\n", 991),
        (lambda clocks: None, 100, "runTime: 1.2e2\ninhibitTime: 1e1\n", LOOKED),
    ],
)
def test_what_gives_the_volume_where_clocks_are_missing(tmp_path, change, n, header, seconds, caplog):
    frame = read_source(write_clocks(tmp_path, header, n, change)).frame
    if seconds is None:
        assert "volume" not in frame
        assert "clocks that do not show the looking time" in caplog.text
    else:
        assert frame["volume"].iloc[0] == pytest.approx(seconds * 0.25e-6 / 60, rel=1e-4)


def test_a_header_with_more_than_the_syringe_holds_gives_way_to_the_rows(tmp_path):
    header = "runTime: 1018\ninhibitTime: 10\nSyringeSampleVolume: 4.13\n"
    frame = read_source(write_clocks(tmp_path, header)).frame
    assert frame["volume"].iloc[0] == pytest.approx(LOOKED * 0.25e-6 / 60)


@pytest.mark.parametrize(("opened", "grabbed"), [("0", "0"), ("", "")])
def test_a_bad_last_clock_of_an_old_bin_is_left_out(tmp_path, opened, grabbed, caplog):
    write_bin(tmp_path, OLD)
    adc = tmp_path / f"{OLD}.adc"
    rows = [row.split(",") for row in adc.read_text().split()]
    rows[-1][7], rows[-1][8] = opened, grabbed
    adc.write_text("".join(",".join(row) + "\n" for row in rows))
    volume = read_source(tmp_path).frame["volume"].iloc[0]
    assert volume == pytest.approx((2.5 - 2 * 0.6 - 0.073) * 0.25e-6 / 60)
    assert "1 of 4 triggers whose frame is before an earlier one" in caplog.text


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


def test_beads_skip_and_files_of_other_names_are_ignored(tmp_path):
    write_bin(tmp_path / "data" / "a")
    write_bin(tmp_path / "beads" / "b", OLD)
    write_bin(tmp_path / "data" / "Skip", "D20130526T095208_IFCB013")
    (tmp_path / "data" / "decoy.adc").touch()
    (tmp_path / "data" / f"{NEW}_class.h5").touch()
    assert set(read_source(tmp_path).frame["ifcb_bin"]) == {NEW}
    assert set(read_source(tmp_path / "beads").frame["ifcb_bin"]) == {OLD}  # because it is given by name
    with pytest.raises(InputError, match="found none; the 1 below folders named skip or beads are ignored"):
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
    "no hdr and no rows": (
        lambda p: (p.with_suffix(".hdr").unlink(), p.with_suffix(".adc").write_text("")),
        0,
        "found no .hdr, and an empty .adc; copy the whole bin",
    ),
    "empty adc": (write(".adc", ""), 0, f"expected one row per target; found an empty file, but {NEW}.roi has 125"),
    "empty all": (
        lambda p: [p.with_suffix(s).write_text("") for s in (".adc", ".hdr", ".roi")],
        0,
        "found an empty file, and so are the .adc and the .roi: the bin contains no data",
    ),
    "short roi": (
        lambda p: p.with_suffix(".roi").write_bytes(bytes(100)),
        2,
        f"{NEW}.adc, row 4, column start_byte: expected bytes up to 125 in {NEW}.roi; found 100 bytes there",
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
    "no columns": (write(".adc", "1 2 3\n4 5 6\n"), 0, "row 1: expected 18 comma-separated columns or more; found 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_faults_are_reported_and_good_rows_are_offered(tmp_path, name, caplog):
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


def test_a_name_without_a_date_and_a_bin_that_is_there_twice_are_faults(tmp_path):
    write_bin(tmp_path / "a")
    write_bin(tmp_path / "b")
    write_bin(tmp_path / "c", "D20131326T095207_IFCB013")
    with pytest.raises(InputError) as raised:
        read_source(tmp_path)
    assert f"{tmp_path / 'b' / NEW}: expected each bin once; found the same bin at {tmp_path / 'a' / NEW}" in str(
        raised.value
    )
    assert "D20131326T095207_IFCB013: expected a date and a time in the name" in str(raised.value)
    assert len(read_source(tmp_path, keep_going=True)) == 3


def test_a_source_without_any_good_bin_is_refused_even_so(tmp_path):
    write_bin(tmp_path)
    (tmp_path / f"{NEW}.roi").unlink()
    with pytest.raises(InputError, match="expected images; found none"):
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


def cut(suffix, n_bytes):
    def spoil(place):
        file = place.with_suffix(suffix)
        file.write_bytes(file.read_bytes()[:n_bytes])

    return spoil


def test_an_image_that_two_rows_name_is_reported(tmp_path, caplog):
    write_bin(tmp_path)
    adc = tmp_path / f"{NEW}.adc"
    rows = adc.read_text().splitlines(keepends=True)
    adc.write_text("".join([*rows, rows[-1]]))
    assert len(read_source(tmp_path)) == 4
    assert (
        f"{NEW}.adc, row 5, column start_byte: expected bytes that no other row uses; found the bytes of" in caplog.text
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda hdr: hdr.unlink(), f"{NEW}: expected .adc, .hdr and .roi; found no .hdr; its images are read, without"),
        (lambda hdr: hdr.write_text(""), f"{NEW}.hdr: expected the settings of the instrument; found an empty file; i"),
    ],
)
def test_a_bin_without_settings_has_no_volume(tmp_path, spoil, message, caplog):
    write_bin(tmp_path)
    spoil(tmp_path / f"{NEW}.hdr")  # which would tell a fast run
    faults = Faults()
    frame = read_source(tmp_path, faults=faults).frame
    assert len(frame) == 3
    assert "volume" not in frame
    assert (faults.n_lost, faults.n_kept) == (0, 2)
    assert message in caplog.text
    assert "found a bin with missing images, rows or settings; its images have no volume" in caplog.text


@pytest.mark.parametrize("bin_id", [NEW, OLD])
def test_half_copied_bins_are_faults_and_have_no_volume(tmp_path, bin_id, caplog):
    write_bin(tmp_path, bin_id)
    whole = (tmp_path / f"{bin_id}.adc").read_text()
    two_rows = len("".join(whole.splitlines(keepends=True)[:2]))
    for n_kept, n_unnamed in ((two_rows, 80), (two_rows + 20, 80), (0, 125)):
        cut(".adc", n_kept)(tmp_path / bin_id)
        expected = f"{bin_id}.roi: expected images with a row in {bin_id}.adc; found {n_unnamed + bin_id[0].count('I')}"
        with pytest.raises(InputError) as raised:
            read_source(tmp_path)
        assert (expected if n_kept else "expected one row per target; found an empty file, but") in str(raised.value)
        if n_kept:
            frame = read_source(tmp_path, keep_going=True).frame
            assert len(frame) == 1
            assert "volume" not in frame
            assert "found a bin with missing images, rows or settings" in caplog.text
        (tmp_path / f"{bin_id}.adc").write_text(whole)
    rows = whole.splitlines(keepends=True)
    (tmp_path / f"{bin_id}.adc").write_text("".join(rows[:2] + rows[3:]))  # a row in the middle
    with pytest.raises(InputError, match=r"\.roi: expected images .* found 44 of .* bytes that no row refers to; copy"):
        read_source(tmp_path)
    (tmp_path / f"{bin_id}.adc").write_text(whole)
    (tmp_path / f"{bin_id}.roi").write_bytes((tmp_path / f"{bin_id}.roi").read_bytes() + b"\0\0\0")
    with pytest.raises(InputError, match=r"found [34] of \d+ bytes that no row refers to"):
        read_source(tmp_path)


def test_the_images_are_counted_by_the_header(tmp_path, caplog):
    read_source(write_bin(tmp_path, header=HEADER + "triggerCount: 4\nroiCount: 3\n"))
    assert not caplog.text
    write_bin(tmp_path, header=HEADER + "triggerCount: 5\nroiCount: 3\n")
    assert "volume" in read_source(tmp_path).frame
    assert f"{NEW}.hdr: expected 5 triggers in {NEW}.adc (triggerCount); found 4" in caplog.text
    write_bin(tmp_path, header=HEADER + "roiCount: 4\n")
    expected = rf"{NEW}\.hdr: expected 4 rows with an image in {NEW}\.adc \(roiCount\); found 3; copy {NEW}\.adc again"
    with pytest.raises(InputError, match=expected):
        read_source(tmp_path)
    assert "volume" not in read_source(tmp_path, keep_going=True).frame
    for suffix in (".adc", ".roi"):
        (tmp_path / f"{NEW}{suffix}").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected one row per target; found an empty file, but roiCount is 4"):
        read_source(tmp_path)


@pytest.mark.parametrize("bin_id", [NEW, OLD])
def test_suffixes_in_capitals_are_read(tmp_path, bin_id):
    wanted = [path.rpartition("/")[2] for path in read_source(write_bin(tmp_path, bin_id)).paths]
    for suffix in (".ADC", ".Hdr", ".ROI"):
        (tmp_path / f"{bin_id}{suffix.lower()}").rename(tmp_path / f"{bin_id}{suffix}")
        for source in (tmp_path, tmp_path / f"{bin_id}{suffix}"):
            assert recognize_format(source) == "ifcb"
            catalog = read_source(source)
            assert [path.rpartition("/")[2] for path in catalog.paths] == wanted
            assert all(np.array_equal(*pair) for pair in zip(pictures_of(catalog), PICTURES, strict=True))
    (tmp_path / f"{bin_id}.adc").write_text("")
    if len(list(tmp_path.iterdir())) == 4:  # the disk keeps capitals apart
        with pytest.raises(
            InputError, match=rf"{bin_id}\.adc: expected one \.adc of the bin; found {bin_id}\.ADC beside"
        ):
            read_source(tmp_path)


FRAME = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)


def write_frames(folder, boxes, bin_id=OLD):
    """Write a bin whose images are boxes (trigger, left, top, width, height) of FRAME."""
    pixels, rows = b"\0", []
    for trigger, x, y, w, h in boxes:
        cells = ["0"] * (24 if bin_id == NEW else 15)
        place = 13 if bin_id == NEW else 9
        cells[0], cells[place : place + 5] = str(trigger), map(str, (x, y, w, h, len(pixels)))
        rows.append(",".join(cells) + "\n")
        pixels += FRAME[y : y + h, x : x + w].tobytes() if w else b""
    (folder / f"{bin_id}.adc").write_text("".join(rows))
    (folder / f"{bin_id}.hdr").write_text("x\n")
    (folder / f"{bin_id}.roi").write_bytes(pixels + b"\0")
    return folder


A, B, C = (3, 10, 10, 20, 12), (3, 27, 5, 15, 10), (3, 39, 12, 9, 9)  # each overlaps the next by 3 px or more


@pytest.mark.parametrize(
    ("boxes", "images"),
    [
        ([A, B], [[0, 1]]),
        ([B, A], [[0, 1]]),
        ([A, B, C], [[0, 1, 2]]),
        ([A, C, B], [[0], [1, 2]]),  # A and B are no neighbours
        ([(2, *A[1:]), A, B, (4, *B[1:])], [[0], [1, 2], [3]]),  # of other triggers
        ([A, (3, 0, 0, 0, 0), B], [[0, 2]]),  # neighbours among those with an image
        ([A, (3, 28, 5, 15, 10)], [[0], [1]]),  # 2 px across
        ([A, (3, 27, 2, 15, 10)], [[0], [1]]),  # 2 px down
        ([A, (3, 12, 12, 5, 5)], [[0, 1]]),  # inside
        ([A], [[0]]),
    ],
)
def test_overlapping_images_of_a_trigger_are_joined_in_old_bins(tmp_path, boxes, images):
    catalog = read_source(write_frames(tmp_path, boxes))
    assert catalog.frame["roi_number"].tolist() == [parts[0] + 1 for parts in images]
    assert catalog.frame["object_id"].tolist() == [f"{OLD}_{parts[0] + 1:05d}" for parts in images]
    for picture, parts in zip(pictures_of(catalog), images, strict=True):
        places = np.array([boxes[part][1:] for part in parts])
        left, top = places[:, :2].min(axis=0)
        right, bottom = (places[:, :2] + places[:, 2:]).max(axis=0)
        is_seen = np.zeros_like(FRAME, dtype=bool)
        for x, y, w, h in places:
            is_seen[y : y + h, x : x + w] = True
        wanted, is_seen = FRAME[top:bottom, left:right], is_seen[top:bottom, left:right]
        assert picture.shape == wanted.shape
        assert np.array_equal(picture[is_seen], wanted[is_seen])
        assert len(set(picture[~is_seen])) <= 1
    new = read_source(write_frames(tmp_path / "..", [box for box in boxes if box[3]], NEW) / f"{NEW}.adc")
    assert len(new) == sum(box[3] > 0 for box in boxes)


def test_the_gaps_of_a_joined_image_are_background(tmp_path):
    write_frames(tmp_path, [A, B])
    (tmp_path / f"{OLD}.roi").write_bytes(b"\0" + bytes([200] * 240 + [200] * 150) + b"\0")
    (picture,) = pictures_of(read_source(tmp_path))
    assert (picture == 200).all()


sides = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda wh: wh if min(wh) else (0, 0))


@settings(max_examples=20)
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
    [("data", 5, 1, 71_083 - 1, 0.003391470833), ("white", 19, 0, 98_472, 4.885070)],
)
def test_real_bins(data_folder, folder, n_images, first_byte, n_bytes, millilitres):
    source = data_folder / "ifcb" / folder
    assert recognize_format(source) == "ifcb"
    frame = (catalog := read_source(source)).frame
    assert len(frame) == n_images
    assert frame["volume"].iloc[0] * 1e6 == pytest.approx(millilitres, rel=1e-5)
    assert set(frame["volume_of"]) == {"sea water"}
    boxes = frame["path"].str.extractall(r"[/&](\d+)x(\d+)\+(\d+)").astype(int).to_numpy()
    ends = boxes[:, 2] + boxes[:, 0] * boxes[:, 1]
    assert [first_byte, *ends] == [*boxes[:, 2], n_bytes]  # the boxes lie end to end, from the first byte to the last
    for picture in pictures_of(catalog):
        pixels = picture.astype(float)
        sheared = pixels.reshape(pixels.shape[::-1])  # as if width and height were swapped
        assert np.abs(np.diff(pixels, axis=0)).mean() < 0.6 * np.abs(np.diff(sheared, axis=0)).mean()
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert np.median(border) > 140  # a light ground


def test_the_old_real_bin_is_joined(data_folder):
    catalog = read_source(data_folder / "ifcb" / "data")
    assert catalog.frame["roi_number"].tolist() == [1, 2, 3, 5, 6]
    picture = pictures_of(catalog)[2]
    assert picture.shape == (86, 263)
    raw = catalog.paths[0].rpartition("/")[0]
    first, second = (np.asarray(open_image(f"{raw}/{box}")) for box in ("180x86+36927", "113x45+52407"))
    assert np.array_equal(first[25:70, 150:], second[:, :30])  # both are of one frame
    assert np.array_equal(picture[:, :180], first)
    assert np.array_equal(picture[25:70, 150:], second)


def test_real_bins_that_are_broken(data_folder, caplog):
    ifcb = data_folder / "ifcb"
    with pytest.raises(InputError, match=r"IFCB5_2012_028_081515: expected .adc, .hdr and .roi; found no .roi; copy"):
        read_source(ifcb / "partial")
    with pytest.raises(InputError, match=r"IFCB099\.hdr: expected the settings of the instrument; found an empty"):
        read_source(ifcb / "invalid")
    caplog.set_level(logging.WARNING)
    assert len(read_source(ifcb / "empty")) == 0
    assert caplog.text.count("the bin is empty: 0 images") == 2
    assert len(read_source(ifcb, keep_going=True)) == 24
