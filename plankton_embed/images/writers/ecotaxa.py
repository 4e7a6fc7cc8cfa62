"""Writes predictions as a table for import into EcoTaxa."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog
from plankton_embed.images.containers import read_image, split_path
from plankton_embed.images.preparation import open_image
from plankton_embed.images.writers.names import match_predictions
from plankton_embed.output import refuse_overwrite, write_atomically, write_folder_atomically
from plankton_embed.spreadsheet import clean_label

logger = logging.getLogger(__name__)

CATEGORY = "object_annotation_category"
STATUS = "object_annotation_status"
LONGEST = 250  # characters of a text
EMPTY = ("", "na", "nan")  # EcoTaxa reads these as empty, in capitals too
PREDICTED, VALIDATED = "predicted", "validated"
OPEN = ("", PREDICTED, "unclassified")  # statuses of objects that nobody has decided; all others are kept
LEFT_OUT = {
    "deleted": "deleted by a person",
    "validated": "validated, dubious or discarded",
    "unknown": UNKNOWN,
    "dropped": "dropped by the class map",
    "unnamed": "without a prediction",
}
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, halves of a character


@dataclass(frozen=True)
class EcotaxaCounts:
    """The numbers of objects in a table for EcoTaxa.

    `n_rows` written (more than objects if each image has a row), for `n_objects`. Left out are objects that a person
    has decided (`n_validated`: validated, dubious or discarded), that were rejected (`n_unknown`), whose class the
    class map drops (`n_dropped`), and objects of the catalog without a prediction (`n_unnamed`). With corrections,
    `n_corrected` of those written are validated, and `n_deleted` were deleted by a person.
    """

    n_rows: int
    n_objects: int
    n_validated: int
    n_unknown: int
    n_dropped: int
    n_unnamed: int
    n_corrected: int = 0
    n_deleted: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def write_ecotaxa(
    path: str | Path,
    catalog: ImageCatalog,
    predictions: pd.DataFrame,
    *,
    class_map: Mapping[str, str] | None = None,
    replace_validated: bool = False,
    image_names: bool = False,
    copy_images: bool = False,
    corrections: pd.DataFrame | None = None,
    overwrite: bool = False,
) -> EcotaxaCounts:
    """Write predictions as a TSV with which EcoTaxa updates existing objects or imports new ones.

    Its columns are `object_id` (the `ecotaxa_id` of the catalog, if any), optionally `img_file_name`,
    `object_annotation_category` and `object_annotation_status` (`predicted`, or `validated` where a person decided);
    below the header is EcoTaxa's row of types.
    Text is UTF-8 with a byte order mark, without which EcoTaxa reads Latin-1. An object of several images has the
    prediction of the first one that has any. Whether a category exists in EcoTaxa is not checked; its import asks for
    missing ones.

    Args:
        path: file to write; EcoTaxa finds files named `ecotaxa….tsv` or `ecotaxa….txt`.
        catalog: the images that were classified.
        predictions: `object_id` and `label`, as returned by `classify`; images labelled `unknown` get no row.
        class_map: class name -> `Name` or `Name<Parent` in EcoTaxa; other classes keep their names, and an empty name
            leaves the class out.
        replace_validated: also write objects that a person has decided (`annotation_status` of the catalog); they
            become predictions again.
        image_names: write one row per image, with its `img_file_name`, the path relative to the folder of this table.
            New objects need it.
        copy_images: copy the images into `<table>_images/` beside the table, and refer to the copies. Images inside
            other files (collages, IFCB bins, arrays) become PNG files.
        corrections: decisions of a person: `object_id`, `action` and `label` (see `read_corrections`). Relabelled
            images get that label and the status `validated`, also if they have no prediction or were validated before;
            kept images get the label of the catalog and `validated`, or stay `predicted` if it has none; deleted ones
            are left out.
        overwrite: replace the output.

    Raises:
        OutputError: the output or the folder of the copies exists, or EcoTaxa does not find a file of that name.
        SettingError: the class map has rejected images (`unknown`) as a class.
        InputError: as `match_predictions`; or EcoTaxa would misread an id, an image's name or a category, or no row is
            left.
    """
    path = refuse_overwrite(path, overwrite, (".tsv", ".txt"))
    if not path.name.startswith("ecotaxa"):
        raise OutputError(f"{path}: expected a name that starts with ecotaxa, else EcoTaxa does not find it")
    copies = path.with_name(f"{path.stem}_images")
    if copy_images and copies.exists():
        raise OutputError(f"{copies} exists already, and images are not copied over others; delete it, or choose "
                          "another name for the table")  # fmt: skip
    renames = {clean_label(old): clean_label(new) for old, new in (class_map or {}).items()}
    if UNKNOWN in renames:
        raise SettingError(f"class map: images labelled {UNKNOWN} were rejected and are not written; remove that row")
    frame = catalog.frame
    images = pd.DataFrame({"object_id": _ids(frame), "label": match_predictions(catalog, predictions)["label"]})
    images["object"] = _number_objects(images["object_id"], frame)
    images["label"], images[STATUS], action = _correct(images["label"], frame, corrections)
    n_objects = images["object"].nunique()
    if (action == "delete").any():
        rest = (action != "delete").to_numpy()
        images, frame = images[rest].reset_index(drop=True), frame[rest].reset_index(drop=True)
        action = action[rest].reset_index(drop=True)
    objects = _choose_images(images.assign(relabelled=action == "relabel"))
    category = _rename(objects["label"], renames)
    decided = objects["object"].isin(images["object"][_is_decided(frame)]) & (not replace_validated)
    decided &= ~objects["relabelled"]
    outcome = np.select(
        [decided, objects["label"] == UNKNOWN, category == ""], ["validated", "unknown", "dropped"], "written"
    )
    n = {name: int((outcome == name).sum()) for name in ("written", "validated", "unknown", "dropped")}
    n["unnamed"] = images["object"].nunique() - len(objects)
    n["deleted"] = n_objects - images["object"].nunique()
    left_out = ", ".join(f"{n[name]} {words}" for name, words in LEFT_OUT.items() if n[name])
    if not n["written"]:
        raise InputError(f"{path}: no object is left to write: {left_out}")
    rows = objects[["object", "object_id"]].assign(**{CATEGORY: category, STATUS: objects[STATUS]})
    rows = rows[outcome == "written"]
    n_corrected = int((rows[STATUS] == VALIDATED).sum())
    _check_samples(rows, images)
    if image_names or copy_images:
        images["img_file_name"] = _name_copies(frame["path"], copies.name) if copy_images else _image_names(frame, path)
        rows = images[["object", "object_id", "img_file_name"]].merge(rows.drop(columns="object_id"), on="object")
    rows = rows.drop(columns="object")
    _check_rows(rows)
    if left_out:
        logger.warning("objects left out: %s", left_out)
    if copy_images:
        _copy_images(images.assign(path=frame["path"])[images["img_file_name"].isin(rows["img_file_name"])], path)
    with write_atomically(path) as temporary:
        pd.concat([pd.DataFrame([dict.fromkeys(rows, "[t]")]), rows]).to_csv(
            temporary, sep="\t", index=False, encoding="utf-8-sig", quoting=csv.QUOTE_MINIMAL, lineterminator="\n"
        )
    return EcotaxaCounts(
        len(rows), n["written"], n["validated"], n["unknown"], n["dropped"], n["unnamed"], n_corrected, n["deleted"]
    )


def _correct(
    label: pd.Series, frame: pd.DataFrame, corrections: pd.DataFrame | None
) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return label, status and a person's action (empty text: none) of every image."""
    status = pd.Series(PREDICTED, index=label.index, dtype=object)
    if corrections is None:
        return label, status, pd.Series("", index=label.index, dtype=object)
    decided, ids = corrections.set_index("object_id"), frame["object_id"].astype(str)
    n_missing = int((~decided.index.isin(ids)).sum())
    if n_missing and n_missing == len(decided):
        raise InputError(
            f"corrections: none of their {n_missing} images is in the catalog, such as {decided.index[0]}; give the "
            "corrections of these images"
        )
    if n_missing:
        logger.warning("%d of %d corrected images are not in the catalog and left out", n_missing, len(decided))
    action = ids.map(decided["action"]).astype(object).fillna("")
    given = frame["label"].astype(object)
    relabelled, kept = action == "relabel", (action == "keep") & given.notna()
    seen = ids.map(decided["label"]).astype(object).fillna("")
    changed = kept & (seen != "") & (seen != given)
    if changed.any():
        example = ids[changed].iloc[0]
        logger.warning(
            "corrections: %d kept images have another label in the catalog than a person saw, such as %s (%s, now %s); "
            "they stay predicted",
            *(changed.sum(), example, seen[changed].iloc[0], given[changed].iloc[0]),
        )
        kept &= ~changed
    label = label.astype(object).mask(relabelled, ids.map(decided["label"]).astype(object)).mask(kept, given)
    return label, status.mask(relabelled | kept, VALIDATED), action


def _choose_images(images: pd.DataFrame) -> pd.DataFrame:
    """Return the image from which each object has its label: the first that a person decided, else the first."""
    labelled = images.dropna(subset="label")
    decided = labelled[labelled[STATUS] == VALIDATED]
    n_labels = decided.groupby("object")["label"].nunique()
    if (n_labels > 1).any():
        found = decided[decided["object"] == n_labels.idxmax()]
        raise InputError(
            f"corrections: images of the object {found['object_id'].iloc[0]} have different labels, "
            f"{' and '.join(map(repr, found['label'].unique()[:2]))}; give them one label"
        )
    first = labelled.sort_values(STATUS, ascending=False, kind="stable").drop_duplicates("object")
    return first.sort_index().reset_index(drop=True)


def _ids(frame: pd.DataFrame) -> pd.Series:
    """Return the EcoTaxa id of every image's object."""
    ids = frame["object_id"].astype(str)
    return frame["ecotaxa_id"].astype(object).where(frame["ecotaxa_id"].notna(), ids) if "ecotaxa_id" in frame else ids


def _rename(label: pd.Series, class_map: Mapping[str, str]) -> pd.Series:
    """Return the categories of the classes."""
    classes = label.unique()
    kept = sorted(set(classes) - {*class_map, UNKNOWN}) if class_map else []
    if kept:
        logger.warning(
            "classes that are not in the class map, so written with their names unchanged: %s", ", ".join(kept)
        )
    return label.map({name: class_map.get(name, name) for name in classes})


def _is_decided(frame: pd.DataFrame) -> pd.Series:
    if "annotation_status" not in frame:
        return pd.Series(False, index=frame.index)
    return ~frame["annotation_status"].astype(object).fillna("").astype(str).str.strip().str.lower().isin(OPEN)


def _number_objects(ids: pd.Series, frame: pd.DataFrame) -> pd.Series:
    """Number the object of every image; objects of several samples or acquisitions are different, even with one id."""
    parts = [frame[name].astype(object) for name in ("sample_id", "acq_id") if name in frame]
    return ids.groupby([ids, *parts], dropna=False).ngroup()


def _check_samples(rows: pd.DataFrame, images: pd.DataFrame) -> None:
    """Raise if several objects with one id would be written: one table cannot distinguish them."""
    doubled = rows.loc[rows["object_id"].duplicated(), "object_id"]
    if len(doubled):
        raise InputError(
            f"catalog: several objects have the id {doubled.iloc[0]}, each in another sample or acquisition "
            f"({doubled.nunique()} such ids), and EcoTaxa cannot distinguish them in one table; export the predictions "
            "of each sample or acquisition separately"
        )
    written = images[images["object_id"].isin(rows["object_id"])].drop_duplicates("object")
    n_shared = int(written["object_id"].duplicated().sum())
    if n_shared:
        logger.warning(
            "%d of the ids written are also ids of objects in other samples or acquisitions; import the table only "
            "into the project of its own sample",
            n_shared,
        )


def _image_names(frame: pd.DataFrame, path: Path) -> list[str]:
    """Return the path of each image relative to the table."""
    folder = os.path.abspath(path.parent)  # noqa: PTH100  (keeps links as they are)
    names = {}
    for parent in {os.path.dirname(p) for p in frame["path"]}:  # noqa: PTH120
        below = Path(parent).is_relative_to(folder)
        if not below or _is_inside_file(parent):
            why = "are inside another file" if below else f"are not below the folder of the table, {folder}"
            raise InputError(
                f"img_file_name: the images in {parent} {why}, so EcoTaxa does not find them; copy them beside the "
                "table (--copy-images), or write the table into a folder above plain image files"
            )
        names[parent] = os.path.relpath(parent, folder).replace(os.sep, "/")
    split = [os.path.split(p) for p in frame["path"]]
    return [name if names[parent] == "." else f"{names[parent]}/{name}" for parent, name in split]


def _name_copies(paths: Iterable[str], folder: str) -> list[str]:
    """Return a unique name, relative to the table, for the copy of each image."""
    taken: dict[str, int] = {}  # lower-case name (some disks ignore case) -> last number used
    names = []
    for path in paths:
        name = _name_copy(path)
        unique = name.name
        while unique.lower() in taken:
            number = taken[name.name.lower()] = taken[name.name.lower()] + 1
            unique = f"{name.stem}_{number}{name.suffix}"
        taken[unique.lower()] = 1
        names.append(f"{folder}/{unique}")
    return names


def _name_copy(path: str) -> PurePath:
    try:
        file, inside = split_path(path)
    except OSError:  # the error is raised when it is copied
        return PurePath(path)
    if not inside or file.suffix.lower() == ".zip":
        return PurePath(path)
    return PurePath(re.sub(r"\W+", "_", f"{file.name}_{inside}") + ".png")


def _copy_images(images: pd.DataFrame, path: Path) -> None:
    """Copy images to their names beside the table; those inside other files become PNG."""
    with write_folder_atomically(path.with_name(f"{path.stem}_images")) as folder:
        for source, name in zip(images["path"], images["img_file_name"], strict=True):
            try:
                content = read_image(source)
                if isinstance(content, bytes):
                    (folder / PurePath(name).name).write_bytes(content)
                else:
                    open_image(source).save(folder / PurePath(name).name)
            except (OSError, InputError) as error:
                raise InputError(f"{source} cannot be copied: {error}; leave it out of the catalog") from error


def _is_inside_file(parent: str) -> bool:
    try:
        file, inside = split_path(parent)
    except OSError:
        return False
    return bool(inside) or file.is_file()


def _check_rows(rows: pd.DataFrame) -> None:
    """Raise if EcoTaxa would refuse or misread a value."""
    for column in rows:
        remedy = "rename the class with a class map" if column == CATEGORY else "rename it in the catalog"
        _check_texts(rows[column].unique(), str(column), remedy)
    for category in rows[CATEGORY].unique():
        parts = category.split("<")
        if len(parts) > 2 or any(not part or part != part.strip() for part in parts):
            raise InputError(
                f"{CATEGORY} {category!r}: expected Name or Name<Parent; rename the class with a class map"
            )
    keys = [column for column in rows if column in ("object_id", "img_file_name")]
    doubled = rows.duplicated(keys)
    if doubled.any():
        found = ", ".join(f"{key} {value}" for key, value in rows.loc[doubled, keys].iloc[0].items())
        raise InputError(
            f"catalog: {found} is in two rows, and EcoTaxa takes an image of an object once; remove "
            "one of them from the catalog"
        )


def _check_texts(texts: Iterable[str], column: str, remedy: str) -> None:
    for text in texts:
        fault = ""
        if text.lower() in EMPTY:
            fault = "which EcoTaxa reads as empty"
        elif len(text) > LONGEST:
            fault = f"expected at most {LONGEST} characters, found {len(text)}"
        elif UNFIT.search(text) or text != text.strip():
            fault = "expected text without tabs, line ends, control characters and outer blanks"
        if fault:
            raise InputError(f"{column} {text[:60]!r}: {fault}; {remedy}")
