"""IFCB bins of old and new instruments: `.adc` (one row per target), `.hdr` (the settings) and `.roi` (the pixels)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.folder import list_other_files
from plankton_embed.images.readers.table_text import read_rows

logger = logging.getLogger(__name__)

SUFFIXES = (".adc", ".hdr", ".roi")
BIN = re.compile(r"D(?P<new>\d{8}T\d{6})_IFCB\d+|(?P<instrument>IFCB\d+)_(?P<old>\d{4}_\d{3}_\d{6})")
PASSED_OVER = frozenset({"skip", "beads"})  # names of folders that are not read
EMPTY_ROI = 2  # bytes; an old instrument writes one zero before the first image and one after the last

# The columns of an .adc. A new .hdr lists its columns, with these names; those of old files are as in pyifcb.
NEW_COLUMNS = (
    "trigger#, ADC_time, PMTA, PMTB, PMTC, PMTD, peakA, peakB, peakC, peakD, time of flight, grabtimestart, "
    "grabtimeend, ROIx, ROIy, ROIwidth, ROIheight, start_byte, comparator_out, STartPoint, SignalLength, status, "
    "runTime, inhibitTime"
)
OLD_COLUMNS = (
    "trigger#, ADC_time, , , , , , trigger_open, frame_grab, ROIx, ROIy, ROIwidth, ROIheight, start_byte, status"
)
BOX = ("ROIwidth", "ROIheight", "start_byte")
PLACE = ("ROIx", "ROIy")  # in the camera's frame
CLOCKS = ("trigger#", "ADC_time", "runTime", "inhibitTime", "trigger_open", "frame_grab")
FEATURES = ("PMTA", "PMTB", "PMTC", "PMTD", "peakA", "peakB", "peakC", "peakD", "time of flight")
NOT_MEASURED = -999

LEAST_OVERLAP = 2  # px; neighbouring boxes of one trigger that overlap by more in both directions are one image

FLOW_RATE = 0.25e-6 / 60  # m³ per second, of the sample syringe
SYRINGE = 5.0  # ml, where the .hdr does not report it
LARGEST_SYRINGE = 10.0  # ml; a larger value in the .hdr is not a volume
SAMPLE_VOLUMES = {"alt": "altsyringesamplevolume", "beads": "beadssamplevolume"}  # by run type, where it is not normal
DEAD_TIME = 0.073  # seconds; an old instrument is blind at least so long after a trigger
SHORTER_DEAD_TIME = ("IFCB5", "2015-06-01", 0.05)  # this instrument, from this day on
CLOCK_TOLERANCE = 0.02  # relative difference allowed between .hdr and .adc
LARGE_DIFFERENCE = 0.1  # a larger relative difference is reported
VOLUME_TOLERANCE = 0.01  # relative excess allowed over the volume of the syringe
LONGEST_RUN = 1.05  # × the time that the syringe takes; a run goes on for some seconds after it
LAG_TOLERANCE = 0.3  # seconds; allowed deviation of the clocks' difference from its usual value
LEAST_SHIFT = 10  # seconds; with a larger difference of the clocks, one of them does not start at 0
INHIBIT_STEPS = (-0.1, 5)  # seconds; the range of the growth of inhibitTime from row to row
MOST_UNSOUND = 0.05  # share of the rows at the end of a bin; with more, the end of the run is unknown


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Return whether there is a file of a bin."""
    return any(_is_of_bin(name) for name in files)


def read(path: Path, faults: Faults) -> ImageCatalog:
    """Read one bin, given by any of its three files, or every bin below a folder.

    Folders named skip or beads, and files whose name is not a bin id, are ignored; the suffixes may be in capitals. A
    target without an image (width or height 0) gives no row. An empty bin gives no row and a warning.

    Old instruments cut a large target into several boxes of one frame. Only in their bins, neighbouring targets of one
    trigger whose boxes overlap by more than 2 px in both directions are one image. The boxes are placed as in the frame
    (see `images.containers`), and the image has the number of the first. (Source: stitching of pyifcb and
    ifcb-analysis.)

    Columns besides the path: `object_id` (bin and target, numbered as on the dashboards: BIN_00007), `sample_id` and
    `ifcb_bin`, `roi_number` (the target: the row of the .adc, from 1), `time` (from the bin id, UTC), `latitude`,
    `longitude`, `depth_min` and `depth_max` where the .hdr has them, `volume` (m³ analysed, of complete bins; see
    `analysed_volume`) and `volume_of` (sea water). For new instruments the signals of the four channels are features.
    There is no `pixel_size`: no file of a bin states it, and instruments differ.

    Args:
        path: a .adc, .hdr or .roi file, or a folder.
        faults: collects files that are missing, empty or too short, rows that cannot be read, images that are counted
            in the .hdr or stored in the .roi but have no row, and bins without a volume.

    Raises:
        InputError: there are faults, or there is no bin.
    """
    bins = _find_bins(path, faults)
    frames = [frame for place, files in bins.items() if (frame := _read_bin(place, files, faults)) is not None]
    faults.report()
    columns = ["object_id", "path", "sample_id", "ifcb_bin", "roi_number", "time"]
    filled = [frame for frame in frames if len(frame)]
    rows = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns, dtype="str")
    return ImageCatalog.from_rows(rows, source=str(path), allow_empty=bool(frames), faults=faults)


def analysed_volume(table: pd.DataFrame, header: str, bin_id: str) -> tuple[float, str]:
    """Return the volume of water analysed for a bin in m³, and a description of wrong clocks.

    The volume is the flow rate times the looking time of the instrument. The rate is 0.25 ml per minute, times the
    header's `RunFastFactor` where `runSampleFast` is on (a factor of 0 means 1). The volume is nan where the clocks do
    not show the time, and where they give more than the syringe holds (1 % tolerance): `SyringeSampleVolume`, for ALT
    and BEADS runs the volumes of these; 5 ml where the .hdr gives none or more than 10 ml. The description is empty
    where all clocks are sound.

    A new instrument records the run time, and the time in it that it was blind (inhibitTime), in the .hdr and in every
    row of the .adc. The .hdr is used, unless it differs from the rows by more than 2 %, or gives more than the syringe
    holds. The clocks of the rows are checked first: runTime must stay as far ahead of ADC_time as in most rows (within
    0.3 s), and inhibitTime must grow by -0.1 to 5 s from row to row. A bad runTime of the last row is replaced by
    ADC_time plus that difference, and a bad step of inhibitTime by the usual step. Where ADC_time is bad too, the run
    ends with the last row whose ADC_time is sound; if more than 5 % of the rows come after it, the rows are not used.
    Clocks that start at some seconds instead of 0 are shifted back, because the looking time is a difference. A single
    row does not show when the run ended.

    For an old instrument the run ends with the last frame, and each trigger blinds it until the next trigger can open,
    at least 73 ms. Rows whose frame is before that of an earlier row are left out.

    (Sources: IFCB_volume_analyzed and IFCB_volume_analyzed_fromADC of ifcb-analysis,
    https://github.com/hsosik/ifcb-analysis, and ml_analyzed of pyifcb; the rate of fast runs is that of the acquisition
    software.)

    Args:
        table: the rows of the .adc, named as in NEW_COLUMNS or OLD_COLUMNS.
        header: the text of the .hdr.
        bin_id: identifies the instrument.
    """
    settings = _read_settings(header)
    rate, most = FLOW_RATE * _speed(settings), _syringe(settings) * 1e-6
    if np.isnan(rate):
        factor = settings.get("runfastfactor")
        given = f"with RunFastFactor {factor}" if factor else "without RunFastFactor"
        return np.nan, f"a fast run (runSampleFast) {given}"
    if "frame_grab" in table:
        seconds, found = _old_looking_time(table.drop_duplicates("trigger#"), bin_id)
        times = [seconds]
    else:
        by_header = _header_clocks(header, settings)
        by_rows, found = _row_clocks(table, most / rate)
        agree = np.abs(by_header - by_rows) <= CLOCK_TOLERANCE * by_rows
        if abs(by_header[0] - by_rows[0]) > LARGE_DIFFERENCE * by_rows[0]:
            runs = f"{by_header[0]:.0f} s of run time in the .hdr and {by_rows[0]:.0f} s in the rows"
            found = f"{runs}; {found}" if found else runs
        chosen = np.where(agree | np.isnan(by_rows), by_header, by_rows)
        times = [run - blind for run, blind in (chosen, by_rows)]
    for seconds in times:
        if 0 < seconds * rate <= most * (1 + VOLUME_TOLERANCE):
            return float(seconds * rate), found
    because = f" ({found})" if found else ""
    if not times[0] > 0:
        return np.nan, f"clocks that do not show the looking time{because}"
    return np.nan, f"{times[0] * rate * 1e6:.3f} ml, more than the {most * 1e6:g} ml of the syringe{because}"


def _speed(settings: dict[str, str]) -> float:
    """Return how many times faster than usual the syringe was emptied; nan where the .hdr does not give it."""
    on = settings.get("runsamplefast", "").lower()
    if on not in ("true", "yes", "on") and not _to_float(on) > 0:
        return 1.0
    factor = _to_float(settings.get("runfastfactor", ""))
    return 1.0 if factor == 0 else factor if 0 < factor < np.inf else np.nan


def _syringe(settings: dict[str, str]) -> float:
    """Return the largest volume of sample of a run, ml."""
    names = (SAMPLE_VOLUMES.get(settings.get("runtype", "").lower(), ""), "syringesamplevolume", "syringesize")
    found = [_to_float(settings.get(name, "")) for name in names]
    return next((volume for volume in found if 0 < volume <= LARGEST_SYRINGE), SYRINGE)


def _old_looking_time(triggers: pd.DataFrame, bin_id: str) -> tuple[float, str]:
    times = triggers[["trigger_open", "frame_grab"]].to_numpy(dtype=float)
    opened, grabbed = (times + 86_400 * (times < 0)).T  # a bin over midnight
    rises = grabbed >= np.fmax.accumulate(grabbed) if len(grabbed) else np.zeros(0, dtype=bool)
    found = "" if rises.all() else f"{(~rises).sum()} of {len(rises)} triggers whose frame is before an earlier one"
    if not rises.any() or _is_cut_short(rises):
        return np.nan, found
    opened, grabbed = opened[rises], grabbed[rises]
    instrument, since, shorter = SHORTER_DEAD_TIME
    least = shorter if bin_id.startswith(f"{instrument}_") and time_of_bin(bin_id) >= since else DEAD_TIME
    return float(grabbed[-1] - np.fmax(opened[1:] - grabbed[:-1], least).sum() - least), found


def _is_cut_short(is_sound: NDArray[np.bool_]) -> bool:
    """Return whether more than one row, and more than a share of MOST_UNSOUND, at the end are not sound."""
    return int(is_sound[::-1].argmax()) > max(1, MOST_UNSOUND * len(is_sound))


def _header_clocks(header: str, settings: dict[str, str]) -> NDArray[np.float64]:
    """Return run time and inhibited time of the .hdr in seconds, nan where one is missing or not a time."""
    found = [
        _to_float(settings[f"{name}time"])
        if f"{name}time" in settings
        else _to_float(match[1])
        if (match := re.search(rf"\b{name} time\s*[:=]\s*([-+.\deE]+)", header, re.IGNORECASE))
        else np.nan
        for name in ("run", "inhibit")
    ]
    run, blind = (time if 0 <= time < np.inf else np.nan for time in found)
    return np.array([run or np.nan, blind])


def _rises(time: NDArray[np.float64], longest: float) -> NDArray[np.bool_]:
    """Return for each row whether its time may belong to the run and is not before that of an earlier row."""
    near = np.abs(time - np.nanmedian(time)) <= longest * LONGEST_RUN
    return near & (time >= np.fmax.accumulate(np.where(near, time, np.nan)) + INHIBIT_STEPS[0])


def _row_clocks(table: pd.DataFrame, longest: float) -> tuple[NDArray[np.float64], str]:
    """Return run time and inhibited time from the rows (nan where unknown), and a description of wrong clocks.

    `longest`: seconds that the syringe takes. See `analysed_volume`.
    """
    unknown = np.full(2, np.nan)
    if len(table) < 2 or not {"ADC_time", "runTime", "inhibitTime"} <= {*table.columns}:
        return unknown, ""
    time, run, inhibit = table[["ADC_time", "runTime", "inhibitTime"]].to_numpy(dtype=float).T
    runs = (run != 0) & np.isfinite(run - time)
    if not runs.any() or not (np.nan_to_num(inhibit) != 0).any():
        return unknown, ""  # these clocks were not recorded
    lag = float(np.median((run - time)[runs]))
    shift = lag if lag > LEAST_SHIFT or (lag < -LEAST_SHIFT and np.nanmin(run) < 0) else 0.0
    agrees = np.abs(run - time - lag) < LAG_TOLERANCE
    time = np.where(_rises(time, longest), time, run - lag)
    rises = _rises(time, longest)
    steps = np.diff(inhibit)
    grows = (inhibit[1:] != 0) & (steps > INHIBIT_STEPS[0]) & (steps < INHIBIT_STEPS[1])
    n_bad = int((~(agrees & rises & np.r_[True, grows])).sum())
    found = f"{n_bad} of {len(table)} rows with bad clocks" if n_bad else ""
    if abs(lag) > LEAST_SHIFT:
        found += " and " * bool(found) + f"runTime {lag:+.0f} s from ADC_time in most rows"
    if _is_cut_short(rises) or not rises.any() or (~grows).mean() > 0.5 or (~agrees).mean() > 0.5:
        return unknown, found
    end = len(rises) - 1 - int(rises[::-1].argmax())
    end_of_run = run[end] if agrees[end] else time[end] + lag
    step = np.median(steps[grows])
    # a first inhibitTime longer than the run so far: this clock does not start at 0 either
    first = inhibit[0] if INHIBIT_STEPS[0] < inhibit[0] <= time[0] + lag - shift + LAG_TOLERANCE else step
    return np.array([end_of_run - shift, first + np.where(grows, steps, step)[:end].sum()]), found


def time_of_bin(bin_id: str) -> str:
    """Return the date and time in a bin id, ISO 8601 in UTC.

    Raises:
        ValueError: there is no such date or time.
    """
    found = BIN.fullmatch(bin_id)
    if found is None:
        raise ValueError(f"{bin_id} is not a bin id")
    form = "%Y%m%dT%H%M%S" if found["new"] else "%Y_%j_%H%M%S"
    return datetime.strptime(found["new"] or found["old"], form).isoformat() + "Z"


def _is_of_bin(name: str) -> bool:
    file = PurePosixPath(name)
    return file.suffix.lower() in SUFFIXES and BIN.fullmatch(file.stem) is not None


def _find_bins(path: Path, faults: Faults) -> dict[Path, dict[str, Path]]:
    """Return the files of every bin: path without suffix -> lower-case suffix -> file."""
    if not path.is_dir():
        if not _is_of_bin(path.name):
            raise InputError(
                f"{path}: expected a file of an IFCB bin, named like D20130526T095207_IFCB013.adc or "
                "IFCB5_2012_028_081515.adc, with .adc, .hdr or .roi"
            )
        beside = [file.name for file in path.parent.iterdir() if file.stem == path.stem and file.is_file()]
        return _group_files(path.parent, beside, faults)
    names = [PurePosixPath(name) for name in list_other_files(path) if _is_of_bin(name)]
    wanted = [name for name in names if not PASSED_OVER & {part.lower() for part in name.parts[:-1]}]
    if not wanted:
        n_bins = len({name.with_suffix("") for name in names})
        passed = f"; the {n_bins} below folders named skip or beads are ignored" if n_bins else ""
        raise InputError(f"{path}: expected IFCB bins (.adc, .hdr and .roi); found none{passed}")
    bins = _group_files(path, map(str, wanted), faults)
    seen: dict[str, Path] = {}
    for place in bins:
        first = seen.setdefault(place.name, place)
        if first != place:
            faults.add(place, "each bin once", f"the same bin at {first}", remedy="remove one of the two")
    return {place: bins[place] for place in seen.values()}


def _group_files(folder: Path, names: Iterable[str], faults: Faults) -> dict[Path, dict[str, Path]]:
    bins: dict[Path, dict[str, Path]] = {}
    for file in sorted(folder / name for name in names if _is_of_bin(name)):
        first = bins.setdefault(file.with_suffix(""), {}).setdefault(file.suffix.lower(), file)
        if first != file:
            expected = f"one {file.suffix.lower()} of the bin"
            faults.add(file, expected, f"{first.name} beside it", remedy="remove one of the two")
    return dict(sorted(bins.items()))


def _read_bin(place: Path, files: dict[str, Path], faults: Faults) -> pd.DataFrame | None:
    """Return one row per image; None where the bin cannot be read."""
    n_before = len(faults.found)
    missing = [suffix for suffix in SUFFIXES if suffix not in files]
    if missing and missing != [".hdr"]:
        faults.add(place, ".adc, .hdr and .roi", f"no {', no '.join(missing)}", remedy="copy the whole bin")
        return None
    adc, roi, hdr = files[".adc"], files[".roi"], files.get(".hdr", place)
    try:
        header = "" if missing else hdr.read_text(encoding="latin-1")
        text = adc.read_text(encoding="latin-1").rstrip()
        n_bytes = roi.stat().st_size
        time = time_of_bin(place.name)
    except OSError as error:
        faults.add(place, "a bin that can be read", str(error.strerror or error))
        return None
    except ValueError:
        faults.add(place, "a date and a time in the name of the bin", "an impossible one")
        return None
    if missing and text:
        found = "no .hdr; its images are read, without volume and position"
        faults.add(place, ".adc, .hdr and .roi", found, kept=True, remedy="copy the whole bin")
    elif missing:
        faults.add(place, ".adc, .hdr and .roi", "no .hdr, and an empty .adc", remedy="copy the whole bin")
        return None
    elif not header.strip():
        others = "" if text or n_bytes else ", and so are the .adc and the .roi: the bin holds no data"
        others = "; its images are read, without volume and position" if text else others
        expected, found = "the settings of the instrument", f"an empty file{others}"
        faults.add(hdr, expected, found, kept=bool(text), remedy="copy the bin again")
        if not text:
            return None
    settings = _read_settings(header)
    if not text and (n_bytes > EMPTY_ROI or _to_float(settings.get("roicount", "")) > 0):
        why = f"{roi.name} has {n_bytes} bytes" if n_bytes > EMPTY_ROI else f"roiCount is {settings['roicount']}"
        faults.add(adc, "one row per target", f"an empty file, but {why}", remedy="copy it again")
        return None
    if not text:
        logger.warning("%s: the bin is empty: 0 images", adc)
        return pd.DataFrame()

    is_new = place.name.startswith("D")
    declared = _name_columns(settings.get("adcfileformat", "") if is_new else OLD_COLUMNS)
    names = declared if {*BOX} <= {*declared} else _name_columns(NEW_COLUMNS)
    table = _parse_rows(text, names, (*BOX, *CLOCKS, *(FEATURES if is_new else PLACE)), adc, faults)
    if table is None or table.empty:
        return None
    imaged = table[(table["ROIwidth"] > 0) & (table["ROIheight"] > 0)]
    ends = imaged["start_byte"] + imaged["ROIwidth"] * imaged["ROIheight"]
    for target, end in ends[ends > n_bytes].items():
        expected, found = f"bytes up to {end:.0f} in {roi.name}", f"{n_bytes} bytes there"
        faults.add(adc, expected, found, row=int(str(target)), column="start_byte", remedy="copy it again")
    for target in imaged.index[imaged["start_byte"].duplicated()]:
        found = "the bytes of an earlier row: one image is there twice"
        faults.add(adc, "bytes that no other row uses", found, row=int(target), column="start_byte", kept=True)
    _check_complete(table, imaged, ends, settings, (adc, hdr, roi), faults)
    if imaged.empty:
        logger.warning("%s: none of the %d targets has an image: 0 images", adc, len(table))
    volume, found = analysed_volume(table, header, place.name)
    if not header.strip() or any(not fault.kept for fault in faults.found[n_before:]):
        volume, found = np.nan, "a bin with missing images, rows or settings"
    if found:
        expected = "sound clocks in every row" if volume > 0 else "clocks and rows that give a volume"
        remedy = (
            "the volume is taken from the sound rows"
            if volume > 0
            else "its images have no volume, so no concentration"
        )
        faults.add(adc, expected, found, kept=True, remedy=remedy)
    imaged = imaged[ends <= n_bytes]
    images = _name_boxes(imaged, joins=not is_new)
    imaged = imaged.loc[images.index]
    frame = pd.DataFrame(
        {
            "object_id": [f"{place.name}_{target:05d}" for target in imaged.index],
            "path": [f"{roi}/{inside}" for inside in images],
            "sample_id": place.name,
            "ifcb_bin": place.name,
            "roi_number": imaged.index,
            "time": time,
        }
    )
    if volume > 0:
        frame = frame.assign(volume=volume, volume_of="sea water")
    signals = [name for name in FEATURES if is_new and name in imaged]
    features = imaged[signals].astype("float64").replace(NOT_MEASURED, np.nan).reset_index(drop=True)
    features.columns = pd.Index([f"feature_{name.replace(' ', '_')}" for name in signals])
    frame = frame.assign(**_read_position(settings, hdr))
    return pd.concat([frame, features], axis=1).dropna(axis="columns", how="all")


def _check_complete(
    table: pd.DataFrame,
    imaged: pd.DataFrame,
    ends: pd.Series,
    settings: dict[str, str],
    files: tuple[Path, Path, Path],
    faults: Faults,
) -> None:
    """Report an .adc with fewer rows than the .hdr counts, and bytes of the .roi that no row refers to."""
    adc, hdr, roi = files
    n_counted = _to_float(settings.get("roicount", ""))
    if len(imaged) < n_counted:
        expected = f"{n_counted:.0f} rows with an image in {adc.name} (roiCount)"
        faults.add(hdr, expected, f"{len(imaged)}", remedy=f"copy {adc.name} again")
    n_counted, n_triggers = _to_float(settings.get("triggercount", "")), table.get("trigger#", pd.Series()).nunique()
    if n_triggers < n_counted:
        # programs count several images of one trigger in different ways, so the bin is not refused
        expected, remedy = f"{n_counted:.0f} triggers in {adc.name} (triggerCount)", "check whether rows are missing"
        faults.add(hdr, expected, f"{n_triggers}", kept=True, remedy=remedy)
    n_bytes = roi.stat().st_size
    order = np.argsort(imaged["start_byte"].to_numpy(), kind="stable")
    starts, stops = (np.minimum(column.to_numpy()[order], n_bytes) for column in (imaged["start_byte"], ends))
    gaps = np.append(starts, n_bytes) - np.maximum.accumulate(np.append(0, stops))
    unused = gaps[gaps > EMPTY_ROI].sum()
    if unused:
        expected, found = f"images with a row in {adc.name}", f"{unused:.0f} of {n_bytes} bytes that no row refers to"
        faults.add(roi, expected, found, remedy=f"copy {adc.name} again")


def _name_boxes(imaged: pd.DataFrame, joins: bool) -> pd.Series:
    """Return the path of each image inside the .roi, by its first target; `joins`: parts of one image are joined."""
    width, height, start = (imaged[name].astype("int64") for name in BOX)
    boxes = width.astype(str) + "x" + height.astype(str) + "+" + start.astype(str)
    if not joins or len(imaged) < 2:
        return boxes
    left, top = (imaged[name].to_numpy() for name in PLACE)
    overlaps = [
        np.minimum(low[1:] + size[1:], low[:-1] + size[:-1]) - np.maximum(low[1:], low[:-1])
        for low, size in ((left, width.to_numpy()), (top, height.to_numpy()))
    ]
    trigger = imaged["trigger#"].to_numpy()
    is_next = (trigger[1:] == trigger[:-1]) & (np.minimum(*overlaps) > LEAST_OVERLAP)
    image = np.append(0, np.cumsum(~is_next))
    in_many = (np.bincount(image) > 1)[image]
    parts, image_of_part = imaged.loc[in_many, [*PLACE]], image[in_many]
    places = (parts - parts.groupby(image_of_part).transform("min")).astype("int64").astype(str)
    boxes[in_many] = boxes[in_many] + "+" + places["ROIx"] + "+" + places["ROIy"]
    return boxes.groupby(image).agg("&".join).set_axis(boxes.index[np.append(True, ~is_next)])


def _read_settings(header: str) -> dict[str, str]:
    """Return the values of the .hdr by their lower-case names; of a repeated name, the last."""
    pairs = (line.partition(":") for line in header.split("\n"))
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _name_columns(declared: str) -> list[str]:
    """Return the names of the columns, spelled as in NEW_COLUMNS: programs differ in case and in `_`."""
    ours = {_letters(name): name.strip() for name in NEW_COLUMNS.split(",")}
    names = [name.strip() for name in declared.split(",")]
    return [ours.get(_letters(name), name) or f"column {number}" for number, name in enumerate(names, 1)]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _parse_rows(text: str, names: list[str], wanted: Sequence[str], adc: Path, faults: Faults) -> pd.DataFrame | None:
    """Return the wanted columns of the good rows as numbers, indexed by target; None without enough columns."""
    lines = text.split("\n")
    n_columns = np.array([line.count(",") + 1 for line in lines])
    counts = np.bincount(n_columns)
    usual = int(len(counts) - 1 - counts[::-1].argmax())  # in a tie the larger: a row may be cut
    least = max(names.index(name) for name in BOX) + 1
    if usual < least:
        faults.add(adc, f"{least} comma-separated columns or more", str(usual), row=1)
        return None
    targets = np.flatnonzero(n_columns == usual) + 1
    expected = f"{usual} columns, as in most rows"
    for row in np.flatnonzero(n_columns != usual):
        faults.add(adc, expected, str(n_columns[row]), row=int(row) + 1, remedy="copy it again")
    names = [*names, *(f"column {number}" for number in range(len(names) + 1, usual + 1))][:usual]
    table = read_rows([lines[target - 1] for target in targets], ",", names, targets)
    table = table[[name for name in wanted if name in table]]
    numbers = table.apply(pd.to_numeric, errors="coerce").astype("float64")
    boxes = numbers[[*BOX]]
    bad = numbers.isna() & table.notna() | np.isinf(numbers)
    bad[[*BOX]] |= boxes.isna() | (boxes < 0) | (boxes % 1 != 0)
    faults.add_cells(
        adc, table, bad, dict.fromkeys(map(str, table), "a number") | dict.fromkeys(BOX, "a whole number, 0 or more")
    )
    good: pd.DataFrame = numbers[~bad.any(axis=1)]
    return good


def _read_position(settings: dict[str, str], hdr: Path) -> dict[str, float]:
    """Return latitude, longitude and depth, in degrees and m; values out of range, and 0°, 0° (no fix), are missing."""
    position = {"latitude": np.nan, "longitude": np.nan}
    for name, most in (("latitude", 90), ("longitude", 180)):
        text = settings.get(f"gps{name}") or settings.get(name) or ""
        position[name] = _to_float(text)
        if text and not abs(position[name]) <= most:
            logger.warning("%s: %s: expected degrees from -%d to %d; found %r; left out", hdr, name, most, most, text)
            position[name] = np.nan
    if not any(position.values()) or np.isnan([*position.values()]).any():
        position = dict.fromkeys(position, np.nan)
    depth = _to_float(settings.get("depth", ""))
    return {**position, "depth_min": depth, "depth_max": depth}


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
