"""IFCB bins of old and new instruments: `.adc` (a row a target), `.hdr` (the settings) and `.roi` (the pixels)."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.folder import list_other_files

logger = logging.getLogger(__name__)

SUFFIXES = (".adc", ".hdr", ".roi")
BIN = re.compile(r"D(?P<new>\d{8}T\d{6})_IFCB\d+|(?P<instrument>IFCB\d+)_(?P<old>\d{4}_\d{3}_\d{6})")
PASSED_OVER = frozenset({"skip", "beads"})  # folders, by their name
EMPTY_ROI = 2  # bytes: an old instrument writes a zero before the first image and one after the last

# The columns of an .adc. A new .hdr names its own, in these words; those of old files are as pyifcb counts them.
NEW_COLUMNS = (
    "trigger#, ADC_time, PMTA, PMTB, PMTC, PMTD, peakA, peakB, peakC, peakD, time of flight, grabtimestart, "
    "grabtimeend, ROIx, ROIy, ROIwidth, ROIheight, start_byte, comparator_out, STartPoint, SignalLength, status, "
    "runTime, inhibitTime"
)
OLD_COLUMNS = (
    "trigger#, ADC_time, , , , , , trigger_open, frame_grab, ROIx, ROIy, ROIwidth, ROIheight, start_byte, status"
)
BOX = ("ROIwidth", "ROIheight", "start_byte")
CLOCKS = ("trigger#", "ADC_time", "runTime", "inhibitTime", "trigger_open", "frame_grab")
FEATURES = ("PMTA", "PMTB", "PMTC", "PMTD", "peakA", "peakB", "peakC", "peakD", "time of flight")
NOT_MEASURED = -999

FLOW_RATE = 0.25e-6 / 60  # m³ a second, of the sample syringe
DEAD_TIME = 0.073  # seconds at least that an old instrument is blind after a trigger
SHORTER_DEAD_TIME = ("IFCB5", "2015-06-01", 0.05)  # of this instrument, from this day on
CLOCK_TOLERANCE = 0.02  # by which the .hdr may differ from the .adc


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Say whether there is a file of a bin."""
    return any(_is_of_bin(name) for name in files)


def read(path: Path, faults: Faults) -> ImageCatalog:
    """Read one bin, named by any of its three files, or every bin below a folder.

    Folders named skip or beads, and files whose name is no bin id, are passed over. A target without an image (width
    or height 0) gives no row; an empty bin gives none either, and a warning.

    Columns besides the path: `object_id` (bin and target, as the dashboards number them: BIN_00007), `sample_id` and
    `ifcb_bin`, `roi_number` (the target: the row of the .adc, from 1), `time` (from the bin id, UTC), `latitude`,
    `longitude`, `depth_min` and `depth_max` where the .hdr has them, `volume` (m³ analysed; see `analysed_volume`), and
    of new instruments the signals of the four channels as features. `pixel_size` is not given: no file of a bin
    states it, and instruments differ.

    Args:
        path: a .adc, .hdr or .roi file, or a folder.
        faults: gathers files that are missing, empty or too short, and rows that cannot be read.

    Raises:
        InputError: there are faults, or no bins.
    """
    frames = [frame for place in _find_bins(path, faults) if (frame := _read_bin(place, faults)) is not None]
    faults.report()
    columns = ["object_id", "path", "sample_id", "ifcb_bin", "roi_number", "time"]
    filled = [frame for frame in frames if len(frame)]
    rows = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns, dtype="str")
    return ImageCatalog.from_rows(rows, source=str(path), allow_empty=bool(frames))


def analysed_volume(table: pd.DataFrame, header: str, bin_id: str) -> float:
    """Return the m³ of water in which a bin's targets were looked for; nan where its clocks do not tell.

    It is the flow rate (0.25 ml a minute) times the time that the instrument looked. A new instrument counts the run
    and the time it was blind (inhibitTime) in the .hdr and in every row of the .adc; the .hdr counts, unless it is
    more than 2 % off from the last row. For an old one the run ends with the last frame, and each trigger
    blinds it until the next trigger can open, 73 ms at the least. (Source: IFCB_volume_analyzed of ifcb-analysis,
    https://github.com/hsosik/ifcb-analysis, and ml_analyzed of pyifcb.)

    Args:
        table: the rows of the .adc, named as in NEW_COLUMNS or OLD_COLUMNS.
        header: the text of the .hdr.
        bin_id: tells the instrument.
    """
    if "frame_grab" in table:
        seconds = _old_looking_time(table.drop_duplicates("trigger#"), bin_id)
    else:
        seconds = _new_looking_time(table, header)
    return seconds * FLOW_RATE if seconds > 0 else np.nan


def _old_looking_time(triggers: pd.DataFrame, bin_id: str) -> float:
    if triggers.empty:
        return np.nan
    times = triggers[["trigger_open", "frame_grab"]].to_numpy(dtype=float)
    opened, grabbed = (times + 86_400 * (times < 0)).T  # a bin over midnight
    instrument, since, shorter = SHORTER_DEAD_TIME
    least = shorter if bin_id.startswith(f"{instrument}_") and time_of_bin(bin_id) >= since else DEAD_TIME
    return float(grabbed[-1] - np.maximum(opened[1:] - grabbed[:-1], least).sum() - least)


def _new_looking_time(table: pd.DataFrame, header: str) -> float:
    found = [re.search(rf"\b{name} ?time\s*[:=]\s*([\d.]+)", header, re.IGNORECASE) for name in ("run", "inhibit")]
    told = np.array([_to_float(match[1]) if match else np.nan for match in found])
    counted = np.full(2, np.nan)
    if len(table) and {"ADC_time", "runTime", "inhibitTime"} <= {*table.columns}:
        time, run, inhibit = table[["ADC_time", "runTime", "inhibitTime"]].to_numpy(dtype=float).T
        steps = np.diff(inhibit)
        if inhibit[-1] > 0 and ((steps > -0.1) & (steps < 5)).all() and abs(run[-1] - time[-1]) < 0.3:  # sound clocks
            counted = np.array([run[-1], inhibit[-1]])
    agree = np.abs(told - counted) <= CLOCK_TOLERANCE * counted
    run_time, blind_time = np.where(agree | np.isnan(counted), told, counted)
    return float(run_time - blind_time)


def time_of_bin(bin_id: str) -> str:
    """Return the date and time in a bin id, ISO 8601 in UTC.

    Raises:
        ValueError: there is no such date or time.
    """
    found = BIN.fullmatch(bin_id)
    if found is None:
        raise ValueError(f"{bin_id} is no bin id")
    form = "%Y%m%dT%H%M%S" if found["new"] else "%Y_%j_%H%M%S"
    return datetime.strptime(found["new"] or found["old"], form).isoformat() + "Z"


def _is_of_bin(name: str) -> bool:
    file = PurePosixPath(name)
    return file.suffix in SUFFIXES and BIN.fullmatch(file.stem) is not None


def _find_bins(path: Path, faults: Faults) -> list[Path]:
    """Return the place of every bin: the path of its files without their suffix."""
    if not path.is_dir():
        if not _is_of_bin(path.name):
            raise InputError(
                f"{path}: expected a file of an IFCB bin, named like D20130526T095207_IFCB013.adc or "
                "IFCB5_2012_028_081515.adc, with .adc, .hdr or .roi"
            )
        return [path.with_suffix("")]
    names = [name for name in list_other_files(path) if _is_of_bin(name)]
    places = sorted({PurePosixPath(name).with_suffix("") for name in names})
    wanted = [place for place in places if not PASSED_OVER & {part.lower() for part in place.parts[:-1]}]
    if not wanted:
        passed = f"; the {len(places)} below folders named skip or beads are passed over" if places else ""
        raise InputError(f"{path}: expected IFCB bins (.adc, .hdr and .roi), found none{passed}")
    seen: dict[str, Path] = {}
    for place in wanted:
        first = seen.setdefault(place.name, path / place)
        if first != path / place:
            faults.add(path / place, "every bin once", f"the same bin at {first}", remedy="leave one of the two")
    return list(seen.values())


def _read_bin(place: Path, faults: Faults) -> pd.DataFrame | None:
    """Return a row an image; None where the bin cannot be read."""
    adc, hdr, roi = (place.with_name(place.name + suffix) for suffix in SUFFIXES)
    missing = [file.suffix for file in (adc, hdr, roi) if not file.is_file()]
    if missing:
        faults.add(place, ".adc, .hdr and .roi", f"no {', no '.join(missing)}", remedy="copy the whole bin")
        if missing != [".hdr"]:
            return None
    try:
        header = "" if missing else hdr.read_text(encoding="latin-1")
        text = adc.read_text(encoding="latin-1").rstrip()
        n_bytes = roi.stat().st_size
        time = time_of_bin(place.name)
    except OSError as error:
        faults.add(place, "a bin that can be read", str(error.strerror or error))
        return None
    except ValueError:
        faults.add(place, "a date and a time in the name of the bin", "none that exists")
        return None
    if not header.strip() and not missing:
        others = "" if text or n_bytes else ", and so are the .adc and the .roi: the bin holds no data"
        faults.add(hdr, "the settings of the instrument", f"an empty file{others}", remedy="copy the bin again")
        if not text:
            return None
    if not text and n_bytes > EMPTY_ROI:
        found = f"an empty file, but {roi.name} has {n_bytes} bytes"
        faults.add(adc, "a row a target", found, remedy="copy it again")
        return None
    if not text:
        logger.warning("%s: the bin is empty: 0 images", adc)
        return pd.DataFrame()

    settings = {key.strip().lower(): value.strip() for key, _, value in (s.partition(":") for s in header.split("\n"))}
    is_new = place.name.startswith("D")
    declared = _name_columns(settings.get("adcfileformat", "") if is_new else OLD_COLUMNS)
    names = declared if {*BOX} <= {*declared} else _name_columns(NEW_COLUMNS)
    table = _parse_rows(text, names, adc, faults)
    if table is None or table.empty:
        return None
    imaged = table[(table["ROIwidth"] > 0) & (table["ROIheight"] > 0)]
    ends = imaged["start_byte"] + imaged["ROIwidth"] * imaged["ROIheight"]
    for target, end in ends[ends > n_bytes].items():
        expected, found = f"bytes up to {end:.0f} in {roi.name}", f"{n_bytes} bytes there"
        faults.add(adc, expected, found, row=int(str(target)), column="start_byte", remedy="copy it again")
    if imaged.empty:
        logger.warning("%s: none of the %d targets has an image: 0 images", adc, len(table))
    imaged = imaged[ends <= n_bytes]
    boxes = zip(*(imaged[name].astype("int64") for name in BOX), strict=True)
    frame = pd.DataFrame(
        {
            "object_id": [f"{place.name}_{target:05d}" for target in imaged.index],
            "path": [f"{roi}/{width}x{height}+{start}" for width, height, start in boxes],
            "sample_id": place.name,
            "ifcb_bin": place.name,
            "roi_number": imaged.index,
            "time": time,
        }
    )
    known = {**_read_position(settings, hdr), "volume": analysed_volume(table, header, place.name)}
    signals = [name for name in FEATURES if is_new and name in imaged]
    features = imaged[signals].astype("float64").replace(NOT_MEASURED, np.nan).reset_index(drop=True)
    features.columns = pd.Index([f"feature_{name.replace(' ', '_')}" for name in signals])
    return pd.concat([frame.assign(**known), features], axis=1).dropna(axis="columns", how="all")


def _name_columns(declared: str) -> list[str]:
    """Return the names of the columns, spelt as in NEW_COLUMNS: programs differ in case and in `_`."""
    ours = {_letters(name): name.strip() for name in NEW_COLUMNS.split(",")}
    names = [name.strip() for name in declared.split(",")]
    return [ours.get(_letters(name), name) or f"column {number}" for number, name in enumerate(names, 1)]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _parse_rows(text: str, names: list[str], adc: Path, faults: Faults) -> pd.DataFrame | None:
    """Return the columns in use of the good rows as numbers, by target; None where no row has enough columns."""
    lines = text.split("\n")
    n_columns = np.array([line.count(",") + 1 for line in lines])
    usual = int(np.bincount(n_columns).argmax())
    least = max(names.index(name) for name in BOX) + 1
    if usual < least:
        faults.add(adc, f"{least} comma-separated columns or more", str(usual), row=1)
        return None
    targets = np.flatnonzero(n_columns == usual) + 1
    for row in np.flatnonzero(n_columns != usual):
        faults.add(adc, f"{usual} columns, as in most rows", str(n_columns[row]), row=int(row) + 1)
    table = pd.read_csv(
        io.StringIO("\n".join(lines[target - 1] for target in targets)),
        header=None,
        names=[*names, *(f"column {number}" for number in range(len(names) + 1, usual + 1))][:usual],
        quoting=csv.QUOTE_NONE,
        low_memory=False,
    )
    table.index = pd.Index(targets)
    table = table[[name for name in (*BOX, *CLOCKS, *FEATURES) if name in table]]
    numbers = table.apply(pd.to_numeric, errors="coerce").astype("float64")
    boxes = numbers[[*BOX]]
    bad = numbers.isna() & table.notna() | np.isinf(numbers)
    bad[[*BOX]] |= boxes.isna() | (boxes < 0) | (boxes % 1 != 0)
    empty = table.isna()
    for row, column in np.argwhere(bad.to_numpy()):
        name = table.columns[column]
        expected = "a whole number, 0 or more" if name in BOX else "a number"
        found = "nothing" if empty.iat[row, column] else repr(str(table.iat[row, column]))
        faults.add(adc, expected, found, row=int(targets[row]), column=name)
    good: pd.DataFrame = numbers[~bad.any(axis=1)]
    return good


def _read_position(settings: dict[str, str], hdr: Path) -> dict[str, float]:
    """Return the place in degrees and m; what is out of range, or 0°, 0° as without a fix, is missing."""
    place = {"latitude": np.nan, "longitude": np.nan}
    for name, most in (("latitude", 90), ("longitude", 180)):
        text = settings.get(f"gps{name}") or settings.get(name) or ""
        place[name] = _to_float(text)
        if text and not abs(place[name]) <= most:
            logger.warning("%s: %s: expected degrees from -%d to %d; found %r; left out", hdr, name, most, most, text)
            place[name] = np.nan
    if not any(place.values()) or np.isnan([*place.values()]).any():
        place = dict.fromkeys(place, np.nan)
    depth = _to_float(settings.get("depth", ""))
    return {**place, "depth_min": depth, "depth_max": depth}


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
