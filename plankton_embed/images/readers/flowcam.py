"""FlowCam runs as VisualSpreadsheet saves them: a `.lst` (one row per particle) and collages of the images."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.preparation import DECODER_FAULTS
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.folder import list_other_files
from plankton_embed.images.readers.table_text import read_rows
from plankton_embed.spreadsheet import read_text

logger = logging.getLogger(__name__)

VERSION = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe)?\d{3}\s*[\r\n]")  # the first line, such as 017
COUNT = "num-fields"  # the first word of the second line
NUMBERS = {"int32": "a whole number", "double": "a number"}  # the types of the fields that are numbers
BOX = ("image_w", "image_h", "image_x", "image_y")  # as in a path: WIDTHxHEIGHT+LEFT+TOP
NEEDED = ("id", *BOX, "collage_file")
# position of the particle, its picture, its time in the run, and the scale: they do not describe the particle
NO_FEATURES = frozenset(
    {"id", *BOX, "src_x", "src_y", "src_image", "cal_image", "camera", "cal_const", "fringe_size", "elapsed_time"}
)
SUMMARY = "_run_summary.txt"  # follows the name of the run; the file is in the folder of the list
VOLUME, PARTICLES, SCALE = "fluid volume imaged", "particle count", "calibration factor"  # in a summary
DECIMALS = (SCALE, "particles per used image", "particles per image", VOLUME)  # they show the decimal sign
PER_CUBIC_METRE = {"l": 1e3, "ml": 1e6, "cm³": 1e6, "cm3": 1e6, "cc": 1e6, "µl": 1e9, "μl": 1e9, "ul": 1e9}
DECIMAL_SIGN = re.compile(
    r"\d+([.,])(?!\d{3}(?!\d))\d+(?![\d.,])"
)  # of a number with a decimal sign and without separators of thousands
POINT = re.compile(r"\|[-+]?\d+\.\d+(?=\||$)")  # a field that is a number with a decimal point
SCALE_TOLERANCE = 1e-3  # relative difference allowed between the scales of list and summary
MASK = "_bin"  # the end of a mask's name; it is in the folder of its collage, with the same boxes


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Return whether there is a `.lst` of a FlowCam run."""
    lists = [path / name if path.is_dir() else path for name in files if name.lower().endswith(".lst")]
    return any(_starts_well(file) for file in lists)


def read(path: Path, faults: Faults, masks: bool = False) -> ImageCatalog:
    """Read one run, given by its `.lst`, or every run below a folder.

    Columns besides the path: `object_id` (RUN_00007, from the id of the particle), `sample_id` (the run: the name of
    the `.lst`), `pixel_size` (`cal_const`) and `time` (`timestamp`, the clock of the instrument's computer). Every
    other numeric field is a feature under its own name (sizes are in µm; those that start with `raw_` in pixels),
    except NO_FEATURES. With `<run>_run_summary.txt` in the folder of the `.lst` there are also `volume` (m³, its Fluid
    Volume Imaged) and `volume_of` (fluid that was run, because a sample may have been concentrated or diluted before).
    A run with missing rows or images, or with different numbers of particles in summary and list, has no volume; a
    warning gives the reason.

    Args:
        path: a `.lst` file, or a folder.
        faults: collects missing collages, boxes outside them, rows that cannot be read, lists that were cut, and
            summaries without a volume.
        masks: make white what the instrument did not count as particle; the masks (`COLLAGE_bin.tif`) are in the folder
            of the collages.

    Raises:
        InputError: there are faults, or there is no run.
    """
    sizes: dict[Path, tuple[int, int] | str] = {}
    lists = _find_lists(path, faults)
    beside = {folder: sorted(one.name for one in folder.iterdir()) for folder in {file.parent for file in lists}}
    summaries = {file: _find_summary(file, beside[file.parent]) for file in lists}
    frames = [
        frame
        for file in lists
        if (frame := _read_list(file, summaries[file], beside[file.parent], faults, masks, sizes)) is not None
    ]
    faults.report()
    without = [file for file in lists if summaries[file] is None]
    if without:
        count = f"{len(without)} of {len(lists)} runs have" if len(lists) > 1 else "the run has"
        missing = f"{without[0].stem}{SUMMARY}"
        logger.warning(
            "%s: %s no summary in the folder of the list (%s): no volume, so no concentration", path, count, missing
        )
    filled = [frame for frame in frames if len(frame)]
    empty = pd.DataFrame(columns=["object_id", "path", "sample_id"], dtype="str")
    rows = pd.concat(filled, ignore_index=True) if filled else empty
    return ImageCatalog.from_rows(rows, source=str(path), allow_empty=bool(frames), faults=faults)


def _starts_well(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            start = opened.read(64).replace(b"\0", b"")  # of UTF-16
            return COUNT.encode() in start or VERSION.match(start) is not None
    except OSError:
        return False


def _find_lists(path: Path, faults: Faults) -> list[Path]:
    if not path.is_dir():
        return [path]
    seen: dict[str, Path] = {}
    for name in sorted(name for name in list_other_files(path) if name.lower().endswith(".lst")):
        file = path / name
        first = seen.setdefault(file.stem, file)
        if first != file:
            found = f"a run of the same name at {first}"
            faults.add(file, "each run name once (object ids contain it)", found, remedy="rename one of the two")
    if not seen:
        raise InputError(f"{path}: expected FlowCam runs (.lst); found none")
    return list(seen.values())


def _find_summary(file: Path, beside: list[str]) -> Path | None:
    return next((file.with_name(name) for name in beside if name.lower() == f"{file.stem}{SUMMARY}".lower()), None)


def _read_list(
    file: Path,
    summary: Path | None,
    names: list[str],
    faults: Faults,
    masks: bool,
    sizes: dict[Path, tuple[int, int] | str],
) -> pd.DataFrame | None:
    """Return one row per image; None where no row is good.

    `names`: the files in the folder of the list. `sizes` is filled with the size, or the fault, of each picture.
    """
    n_before = len(faults.found)
    try:
        text = read_text(file, "FlowCam list").rstrip().replace("\r\n", "\n").replace("\r", "\n")
    except InputError as error:
        faults.add(file, "a FlowCam list", str(error))
        return None
    lines = text.split("\n")
    types = _read_fields(lines, file, faults)
    if types is None:
        return None
    n_rows = len(lines) - 2 - len(types)
    values: dict[str, str] | str = {}
    volume = np.nan
    if summary is not None:
        values = _read_summary(summary)
        volume = _read_volume(values, n_rows, file, summary, faults)
    if n_rows == 0:
        logger.warning("%s: the run has no particles: 0 images", file)
        return pd.DataFrame()
    table = _parse_rows(lines, types, file, faults)
    if table.empty:
        return None
    _check_collages(table["collage_file"], names, file, faults)
    collages = table["collage_file"].map({name: file.parent / name for name in table["collage_file"].unique()})
    good = _fit_boxes(table, collages, "collage", sizes, file, faults)
    if masks:
        beside = collages.map({collage: collage.with_stem(collage.stem + MASK) for collage in collages.unique()})
        good &= _fit_boxes(table, beside, "mask", sizes, file, faults)
    if not good.any():
        return None
    if summary is not None and isinstance(values, dict) and "cal_const" in table:
        _check_scale(table["cal_const"], values, summary, faults)
    if volume > 0 and any(not fault.kept for fault in faults.found[n_before:]):
        volume = np.nan
        faults.add(file, "a complete run", "missing rows or images", kept=True, remedy="the run has no volume")
    table, collages = table[good], collages[good]
    boxes = zip(*(table[name].astype("int64") for name in BOX), strict=True)
    paths = [f"{path}/{w}x{h}+{x}+{y}" for path, (w, h, x, y) in zip(collages, boxes, strict=True)]
    if masks:
        paths = [f"{whole}&{path.stem}{MASK}{path.suffix}" for whole, path in zip(paths, collages, strict=True)]
    columns: dict[str, object] = {
        "object_id": [f"{file.stem}_{number:05d}" for number in table["id"].astype("int64")],
        "path": paths,
        "sample_id": file.stem,
    }
    columns |= {
        ours: table[name] for ours, name in {"time": "timestamp", "pixel_size": "cal_const"}.items() if name in table
    }
    if volume > 0:
        columns |= {"volume": volume, "volume_of": "fluid that was run"}
    features = [name for name, kind in types.items() if kind in NUMBERS and name not in NO_FEATURES]
    return pd.DataFrame(columns | {f"feature_{name}": table[name].astype("float64") for name in features})


def _read_fields(lines: list[str], file: Path, faults: Faults) -> dict[str, str] | None:
    """Return the name and the type of every field, in order; None where the head of the file does not give them."""
    word, bar, count = lines[1].partition("|") if len(lines) > 1 else ("", "", "")
    if word != COUNT or not re.fullmatch(r"\d{1,4}", count.strip(), re.ASCII):
        found = (word + bar + count)[:40] or "nothing"
        faults.add(file, f"{COUNT}| and the number of fields that follow", found, row=2)
        return None
    heads = [line.partition("|") for line in lines[2 : 2 + int(count)]]
    types = {name.strip(): kind.strip() for name, _, kind in heads}
    whole = len(types) == int(count)
    if not whole or not all(bar for _, bar, _ in heads):
        faults.add(file, f"{int(count)} lines of name|type, each with its own name, as in row 2", "others", row=3)
        return None
    missing = [name for name in NEEDED if name not in types]
    if missing:
        faults.add(file, f"the fields {', '.join(NEEDED)}", f"no {', no '.join(missing)}", row=2)
        return None
    wrong = [name for name in ("id", *BOX, "cal_const") if types.get(name, "double") not in NUMBERS]
    if wrong:
        row = 3 + [*types].index(wrong[0])
        faults.add(file, f"a type of {' or '.join(NUMBERS)}", repr(types[wrong[0]]), row=row, column=wrong[0])
        return None
    return types


def _read_volume(values: dict[str, str] | str, n_rows: int, file: Path, summary: Path, faults: Faults) -> float:
    """Return the m³ of fluid that were imaged; nan where the summary does not give it, or is of other rows."""
    without = "the run has no volume, so no concentration"
    if isinstance(values, str):
        faults.add(summary, "a run summary", values, kept=True, remedy=without)
        return np.nan
    count = re.sub(r"[.,'\s]", "", values.get(PARTICLES, ""))
    if not re.fullmatch(r"\d{1,12}", count, re.ASCII):
        found = values.get(PARTICLES) or "nothing"
        faults.add(
            summary, "a Particle Count", found, kept=True, remedy="the number of rows of the list is not checked"
        )
    elif int(count) != n_rows:
        is_lost = n_rows < int(count)  # otherwise nothing is missing, and the summary belongs to another list
        expected, remedy = f"{int(count)} rows, the Particle Count of {summary.name}", "copy the list again"
        faults.add(file, expected, f"{n_rows}", kept=not is_lost, remedy=remedy if is_lost else without)
        return np.nan
    number, unit = _split_number(values.get(VOLUME, ""), values)
    volume = number / PER_CUBIC_METRE.get(unit.lower(), np.nan)
    if not 0 < volume < np.inf:
        found = values.get(VOLUME) or "nothing"
        faults.add(summary, "Fluid Volume Imaged, like 0.85 ml", found, kept=True, remedy=without)
        return np.nan
    return volume


def _check_scale(scales: pd.Series, values: dict[str, str], summary: Path, faults: Faults) -> None:
    """Report a summary whose scale differs from that of the list."""
    factor = _split_number(values.get(SCALE, ""), values)[0]
    if (np.abs(scales - factor) > SCALE_TOLERANCE * factor).any():
        expected = f"Calibration Factor {scales.iloc[0]:g}, the cal_const of the list"
        faults.add(summary, expected, f"{factor:g}", kept=True, remedy="the pixel size is cal_const")


def _check_collages(named: pd.Series, beside: list[str], file: Path, faults: Faults) -> None:
    """Report collages of the run that no row of the list refers to."""
    pattern = re.compile(rf"^{re.escape(file.stem)}_(\d+)(\.\w+)$", re.IGNORECASE)
    used = {name.lower() for name in named.unique()}
    kinds = {(len(number), suffix) for name in used for number, suffix in pattern.findall(name)}
    for name in beside:
        kind = {(len(number), suffix) for number, suffix in pattern.findall(name.lower())}
        if kind & kinds and name.lower() not in used:
            faults.add(file, f"rows with images of {name}", "none", remedy="copy the list again")


def _read_summary(file: Path) -> dict[str, str] | str:
    """Return the values of a run summary by their lower-case names, or what is wrong with it."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        return f"a file that cannot be read: {error.strerror or error}"
    marked = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    wide = "utf-16" if marked else "utf-16-le" if raw[1:2] == b"\0" else "utf-16-be"
    try:
        text = raw.decode(wide if marked or b"\0" in raw else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    pairs = (re.match(r"([^:,;=\t]+)[:,;=\t](.*)", line.replace('"', "").strip()) for line in text.splitlines())
    return {" ".join(pair[1].lower().split()): pair[2].strip(" \t,;") for pair in pairs if pair}


def _split_number(text: str, values: dict[str, str]) -> tuple[float, str]:
    """Return a number and the text after it; nan without a number, or where 1.234 may mean 1234 (see other values)."""
    found = re.match(r"(\d[\d.,'\s]*)(.*)", text, re.ASCII)
    if found is None:
        return np.nan, text
    number, unit = re.sub(r"['\s]", "", found[1]).rstrip(".,"), found[2].strip()
    signs = re.sub(r"\d", "", number)
    decimal = signs[-1:] if len(signs) == 1 or len({*signs}) == 2 else ""
    if re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", number):  # as in 10,381 or 1.234
        shown = {sign for name in DECIMALS for sign in DECIMAL_SIGN.findall(values.get(name, ""))}
        if len(shown) == 1:
            (decimal,) = shown
        elif shown or decimal == ",":
            return np.nan, unit
    whole, _, fraction = number.rpartition(decimal) if decimal and decimal in number else (number, "", "")
    return float(f"{re.sub('[.,]', '', whole)}.{fraction}"), unit


def _parse_rows(lines: list[str], types: dict[str, str], file: Path, faults: Faults) -> pd.DataFrame:
    """Return the good rows, indexed by line in the file; fields of the types NUMBERS are numbers, the others text."""
    before = 2 + len(types)
    n_fields = np.array([line.count("|") + 1 for line in lines[before:]], dtype=int)
    kept = np.flatnonzero(n_fields == len(types))
    for row in np.flatnonzero(n_fields != len(types)):
        expected, line = f"{len(types)} fields separated by |", before + 1 + int(row)
        faults.add(file, expected, str(n_fields[row]), row=line, remedy="copy the list again")
    is_number = [name for name, kind in types.items() if kind in NUMBERS]
    texts = {name: "str" for name in types if name not in is_number}
    table = read_rows([lines[before + row] for row in kept], "|", [*types], before + 1 + kept, texts)
    cells = table[is_number]
    if not any(POINT.search(lines[before + row]) for row in kept):  # else a comma is a fault
        cells = cells.replace(",", ".", regex=True)
    numbers = cells.apply(pd.to_numeric, errors="coerce").astype("float64")
    bad = pd.DataFrame(False, index=table.index, columns=table.columns)
    bad[is_number] = numbers.isna() & table[is_number].notna() | np.isinf(numbers)
    whole = [name for name, kind in types.items() if kind == "int32"]
    bad[whole] |= numbers[whole] % 1 > 0
    bad[[*NEEDED]] |= table[[*NEEDED]].isna()
    bad[[*BOX]] |= numbers[[*BOX]] < 0
    if "timestamp" in types:
        times = pd.to_datetime(table["timestamp"], format="ISO8601", errors="coerce")
        bad["timestamp"] = times.isna() & table["timestamp"].notna()
    for name in (name for name, kind in types.items() if kind == "guid"):
        lengths = table[name].str.len()
        bad[name] = lengths < lengths.max()  # usually the last field: the list was cut there
    needed = {name: NUMBERS.get(kind, f"a {kind}") for name, kind in types.items()}
    faults.add_cells(file, table, bad, needed | dict.fromkeys(BOX, "a number from 0"))
    doubled = numbers["id"].duplicated() & ~bad["id"]
    for line, number in numbers.loc[doubled, "id"].items():
        found = f"{number:.0f}, which is also in an earlier row"
        faults.add(file, "a different id in every row", found, row=int(str(line)), column="id")
    table[is_number] = numbers
    good: pd.DataFrame = table[~bad.any(axis=1) & ~doubled]
    return good


def _fit_boxes(
    table: pd.DataFrame,
    pictures: pd.Series,
    what: str,
    sizes: dict[Path, tuple[int, int] | str],
    file: Path,
    faults: Faults,
) -> pd.Series:
    """Return for each row whether its box is inside its picture, a collage or a mask; other boxes are faults."""
    for picture in pictures.unique():
        if picture not in sizes:
            sizes[picture] = _measure(picture)
        size = sizes[picture]
        if isinstance(size, str):
            needed_by = table.index[pictures == picture]
            found = f"that it {size}; {len(needed_by)} rows need it"
            faults.add(file, f"the {what} {picture.name}", found, row=int(needed_by[0]), column="collage_file")
    measured = {picture: sizes[picture] for picture in pictures.unique() if not isinstance(sizes[picture], str)}
    is_measured = pictures.isin([*measured])
    width = pictures.map({picture: size[0] for picture, size in measured.items()})
    height = pictures.map({picture: size[1] for picture, size in measured.items()})
    inside = (table["image_x"] + table["image_w"] <= width) & (table["image_y"] + table["image_h"] <= height)
    inside &= (table["image_w"] > 0) & (table["image_h"] > 0)
    for line in table.index[is_measured & ~inside]:
        w, h, x, y = table.loc[line, [*BOX]].astype(int)
        room = f"a box in the {what} {pictures[line].name} of {width[line]:.0f}×{height[line]:.0f} pixels"
        faults.add(file, room, f"{w}×{h} at {x}, {y}", row=int(line), column="image_x")
    return is_measured & inside


def _measure(picture: Path) -> tuple[int, int] | str:
    """Return width and height of a picture from its header, or what is wrong with it."""
    if not picture.is_file():
        return f"is not in {picture.parent}"
    try:
        with Image.open(picture) as opened:
            return opened.size
    except DECODER_FAULTS as error:
        return f"cannot be opened: {error}"
