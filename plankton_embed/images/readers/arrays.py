"""Arrays of images, `.npy` or `.npz` (N, height, width[, channels]), with or without a CSV of labels."""

from __future__ import annotations

import csv
import io
import logging
import posixpath
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.folder import list_images
from plankton_embed.spreadsheet import check_quotes, drop_points, read_raw, to_text, to_utf8

ARRAY_SUFFIXES = (".npy", ".npz")
LABEL_SUFFIXES = (".csv", ".tsv")
HEADERS = frozenset({"label", "labels", "class", "classes", "class_name", "category", "name", "taxon", "target"})
NARROWEST = 5  # pixels; an array whose last side is shorter holds channels there

logger = logging.getLogger(__name__)


def recognize(path: Path, files: Sequence[str]) -> bool:
    """Return whether this is an array, or a folder with arrays at its top and no images."""
    if not path.is_dir():
        return path.suffix.lower() in ARRAY_SUFFIXES
    if not any("/" not in file and Path(file).suffix.lower() in ARRAY_SUFFIXES for file in files):
        return False
    return next(list_images(path), None) is None


def read(path: Path, faults: Faults, labels: str | Path | None = None) -> ImageCatalog:
    """Read an array of images; row k of `birds.npy` is the object `birds_<k>`, counted from 0.

    Grey or colour pixels are uint8, bool, 0 to 1 as floats, 0 to 255 in any type, or grey in uint16. A `.npz` contains
    them as `images`, or as its only array of three or four dimensions, and may also contain `labels`.

    Args:
        path: an array, or a folder with one array and at most one CSV, which has the labels.
        faults: collects the faulty rows of the labels; their images are unlabelled.
        labels: a CSV with one column, the classes in the order of the images, or with two, the row number of the image
            (from 0 or 1) and its class, in any order; with a header or without. Classes are text as written. An empty
            cell means that the image has no label.

    Raises:
        InputError: the array does not contain images, or there are faults.
    """
    path = Path(path)
    if path.is_dir():
        path, labels = _look_into_folder(path, labels)
    name, pictures, given = _open_arrays(path)
    _check_pictures(pictures, f"{path}, array {name}" if name else str(path))
    n_images = len(pictures)
    if given is not None and labels is not None:
        raise InputError(f"{path} contains labels; found more labels in {labels}: remove one of the two")
    label = _read_labels(Path(labels), n_images, faults) if labels is not None else _own_labels(path, given, n_images)
    faults.report()
    rows = pd.Series(np.arange(n_images).astype(str), dtype="str")
    inside = f"{path.name}/{name}/" if name else f"{path.name}/"
    frame = pd.DataFrame({"object_id": f"{path.stem}_" + rows, "path": inside + rows, "label": label})
    return ImageCatalog.from_rows(frame, source=str(path), root=path.parent)


def _look_into_folder(folder: Path, labels: str | Path | None) -> tuple[Path, str | Path | None]:
    """Return the only array of a folder, and the labels: those given, else its only CSV, if any."""
    visible = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    arrays = [file for file in visible if file.suffix.lower() in ARRAY_SUFFIXES]
    tables = [file for file in visible if file.suffix.lower() in LABEL_SUFFIXES]
    if len(arrays) != 1:
        found = ", ".join(file.name for file in arrays) or "none"
        raise InputError(
            f"{folder}: expected one array ({', '.join(ARRAY_SUFFIXES)}); found {found}; give the file itself"
        )
    if labels is None and len(tables) > 1:
        found = ", ".join(file.name for file in tables)
        raise InputError(f"{folder}: expected one CSV, the labels; found {found}; choose it with --labels")
    return arrays[0], labels if labels is not None or not tables else tables[0]


def _open_arrays(path: Path) -> tuple[str, NDArray[np.generic], NDArray[np.generic] | None]:
    """Return the name of the image array in a .npz (empty for a .npy), the images, and the labels of a .npz, if any."""
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    with path.open("rb") as file:
        start = file.read(6)
    is_single = path.suffix.lower() == ".npy"
    if not start.startswith(b"\x93NUMPY" if is_single else b"PK"):
        raise InputError(
            f"{path}: expected a file saved by NumPy as {path.suffix}; found a file that starts with {start!r}"
        )
    try:
        if is_single:
            return "", np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False)), None
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            wanted = {"images", "labels"}.intersection(names) if "images" in names else names
            arrays = {name: array for name in wanted if isinstance(array := file[name], np.ndarray)}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "object" in str(error).lower():
            raise InputError(
                f"{path}: expected arrays of numbers or text; found Python objects; save pictures of one size as "
                "np.stack(pictures), labels as np.array(labels, dtype=str)"
            ) from error
        raise InputError(f"{path} cannot be read as an array: {error}") from error
    pictures = ["images"] if "images" in arrays else [name for name in arrays if arrays[name].ndim in (3, 4)]
    if len(pictures) != 1:
        raise InputError(
            f"{path}: expected an array named images, or one of three or four dimensions; found "
            f"{', '.join(pictures) or 'none'} among {', '.join(names) or 'no arrays'}"
        )
    if posixpath.normpath(pictures[0]) != pictures[0] or pictures[0].startswith(("/", "..")):
        raise InputError(f"{path}: the array name {pictures[0]!r} cannot be part of a path; save the array as images")
    spare = sorted(set(names) - {*pictures, "labels"})
    if spare:
        logger.warning("%s: ignored the arrays %s; the images are in %s", path, ", ".join(spare), pictures[0])
    return pictures[0], arrays[pictures[0]], arrays.get("labels")


def _check_pictures(array: NDArray[np.generic], where: str) -> None:
    """Make sure that every row can be read as an image."""
    shape = array.shape
    expected = f"{where}: expected images of shape (N, height, width) or (N, height, width, 1 or 3)"
    if array.ndim == 2:
        raise InputError(f"{expected}; found shape {shape}; reshape each row to an image")
    if array.ndim == 3 and shape[2] < NARROWEST:
        raise InputError(f"{expected}; found shape {shape}; if it is one colour image, save array[None]")
    if array.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        raise InputError(f"{expected}; found shape {shape}; move the channels to the end: array.transpose(0, 2, 3, 1)")
    if array.ndim not in (3, 4) or (array.ndim == 4 and shape[3] not in (1, 3)) or 0 in shape:
        raise InputError(f"{expected}, without a dimension of 0; found shape {shape}")
    if array.dtype.kind not in "buif":
        raise InputError(f"{where}: expected pixels as numbers or bool; found {array.dtype}")
    if array.dtype not in (np.uint8, np.bool_):
        _check_values(array, where)


def _check_values(array: NDArray[np.generic], where: str) -> None:
    """Refuse pixel values whose scale is unclear."""
    sides = tuple(range(1, array.ndim))
    low, high = array.min(axis=sides), array.max(axis=sides)  # one number per image; nan where a pixel is nan
    if array.dtype == np.uint16:
        if high.max() <= 255:
            logger.warning(
                "%s: found uint16 pixels of 0 to %d; they are read as 8 bits, so 255 is white", where, high.max()
            )
        elif array.ndim == 4 and array.shape[3] == 3:
            raise InputError(
                f"{where}: expected colour pixels of 0 to 255; found uint16; scale them and save them as uint8"
            )
        return
    bad = ~((low >= 0) & (high <= 255))
    if bad.any():
        first = int(bad.argmax())
        others = f" and in {bad.sum() - 1:,} other images" if bad.sum() > 1 else ""
        raise InputError(
            f"{where}: expected pixels of 0 to 255; found {low[first]} to {high[first]} in image {first}{others}; "
            "scale them, or save 16-bit grey images as uint16"
        )


def _own_labels(path: Path, labels: NDArray[np.generic] | None, n_images: int) -> list[str | None]:
    """Return the labels of a .npz as text, None for all images where it has no labels."""
    if labels is None:
        return [None] * n_images
    if labels.shape not in ((n_images,), (n_images, 1)) or labels.dtype.kind not in "USbuif":
        raise InputError(
            f"{path}, array labels: expected one name or number for each of the {n_images:,} images; found shape "
            f"{labels.shape} of {labels.dtype}"
        )
    labels = labels.reshape(n_images)
    if labels.dtype.kind == "S":
        return [to_utf8(cell).decode() for cell in labels.tolist()]
    return to_text(labels)


def _read_labels(path: Path, n_images: int, faults: Faults) -> list[str | None]:
    """Return the label of every image; None where it is missing or faulty."""
    raw = read_raw(path, "labels")
    lines, delimiter = _parse_labels(path, raw.decode())
    if len(lines[0]) == 1 or len(lines) < n_images + (not _is_number(lines[0][0])):  # a quote may have swallowed rows
        try:
            check_quotes(raw, delimiter)
        except InputError as error:
            raise InputError(f"labels {path}: {error}") from error
    if len(lines[0]) == 2:
        found = _place_labels(path, lines, n_images, faults)
    else:
        by_line = csv.reader(io.StringIO(raw.decode(), newline=""), delimiter=delimiter)
        found = _order_labels(path, ["".join(cells).strip() for cells in by_line], n_images, faults)
    return list(drop_points(pd.Series(found, dtype="str"), raw))


def _order_labels(path: Path, lines: list[str], n_images: int, faults: Faults) -> list[str | None]:
    """Return the labels of a single column, with or without a header; an empty line is an image without a label.

    Raises:
        InputError: empty lines may be images without a label, or mean nothing.
    """
    filled = [line for line in lines if line]
    has_header = filled[0].lower() in HEADERS
    readings = []
    while len(lines) > n_images + has_header and not lines[-1]:  # empty lines below the last image
        lines = lines[:-1]
    for rows in (filled, lines):
        if len(rows) == n_images + 1 and (has_header or rows[0] == "0" or rows[0] not in rows[1:]):  # 0: of pandas
            readings.append(rows[1:])
        elif len(rows) == n_images and not has_header:
            readings.append(rows)
    if len(readings) == 2 and readings[0] != readings[1]:
        row = lines.index("") + 1
        raise InputError(
            f"labels {path}, row {row}: expected a class; found an empty line, which may mean an image without a "
            "class, or nothing; write two columns, the number of the image from 0 and its class, as in 0,copepod"
        )
    if readings:
        return [*readings[0]]
    found = f"{len(filled) - 1:,} below the header" if has_header else f"{len(filled):,}"
    faults.add(path, f"{n_images:,} rows, one for each image, or one more with a header", found)
    return [None] * n_images


def _parse_labels(path: Path, text: str) -> tuple[list[list[str]], str]:
    """Return the rows of one or two cells, and the delimiter that gives equal rows: comma, semicolon or tab."""
    try:
        tables = [[row for row in csv.reader(io.StringIO(text, newline=""), delimiter=by) if row] for by in ",;\t"]
    except csv.Error as error:
        raise InputError(f"labels {path} cannot be read as CSV: {error}") from error
    if not tables[0]:
        raise InputError(f"labels {path}: expected a class for each image; found an empty file")
    several = [rows for rows in tables if all(len(row) > 1 for row in rows)]
    pairs = [rows for rows in several if all(len(row) == 2 for row in rows)]
    single = [rows for rows in tables if not several and all(len(row) == 1 for row in rows)]
    for rows in (*[rows for rows in pairs if _is_number(rows[-1][0].strip())], *pairs, *single):
        return [[cell.strip() for cell in row] for row in rows], ",;\t"[tables.index(rows)]
    rows = max(tables, key=lambda rows: sum(map(len, rows)))
    other = next((k for k, row in enumerate(rows) if len(row) != len(rows[0])), 0)
    raise InputError(
        f"labels {path}: expected one column (class) or two (row number, class); found {len(rows[other])} cells in row "
        f"{other + 1}; put quotes around cells that contain the delimiter"
    )


def _place_labels(path: Path, lines: list[list[str]], n_images: int, faults: Faults) -> list[str | None]:
    """Return the labels in the order of the images, sorted by their row numbers."""
    header = 0 if _is_number(lines[0][0]) else 1
    lines = lines[header:]
    if len(lines) != n_images:
        below = " below the header" if header else ""
        faults.add(path, f"{n_images:,} rows, one for each image", f"{len(lines):,}{below}")
    place = np.array([float(cell) if _is_number(cell) else np.nan for cell, _ in lines])
    first = 1 if n_images in place and 0 not in place else 0  # counted from 1, or from 0
    place -= first
    within = (place >= 0) & (place < n_images)
    again = within & pd.Series(place).duplicated().to_numpy()
    for line in np.flatnonzero(~within | again):
        expected = f"every number from {first} to {n_images - 1 + first} once"
        found = repr(lines[line][0]) + " again" * bool(again[line])
        faults.add(path, expected, found, row=int(line) + header + 1, column="1 (row number)")
    labels: list[str | None] = [None] * n_images
    for line in np.flatnonzero(within & ~pd.Series(place).duplicated(keep=False).to_numpy()):
        labels[int(place[line])] = lines[line][1]
    return labels


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal()
