"""Names back to EcoTaxa: a table that its import takes."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import ImageCatalog, clean_label
from plankton_embed.images.containers import split_path
from plankton_embed.images.writers.names import UNKNOWN, match_names
from plankton_embed.output import refuse_overwrite, write_atomically

logger = logging.getLogger(__name__)

CATEGORY = "object_annotation_category"
STATUS = "object_annotation_status"
LONGEST = 250  # characters of a text
EMPTY = ("", "na", "nan")  # what EcoTaxa takes for nothing, in any case
OPEN = ("", "predicted", "unclassified")  # what nobody has decided; every other status is kept
LEFT_OUT = {
    "validated": "validated, dubious or discarded",
    "unknown": UNKNOWN,
    "dropped": "dropped by the class map",
    "unnamed": "without a name",
}
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, halves of a character


@dataclass(frozen=True)
class EcotaxaCounts:
    """What went into a table for EcoTaxa.

    `n_rows` written (more than objects where each image has its own), for `n_objects`. Left out are objects that a
    person has decided (`n_validated`: validated, dubious or discarded), that were refused (`n_unknown`), whose class
    the class map drops (`n_dropped`), and objects of the catalog that have no name (`n_unnamed`).
    """

    n_rows: int
    n_objects: int
    n_validated: int
    n_unknown: int
    n_dropped: int
    n_unnamed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def write_ecotaxa(
    path: str | Path,
    catalog: ImageCatalog,
    names: pd.DataFrame,
    *,
    class_map: Mapping[str, str] | None = None,
    replace_validated: bool = False,
    image_names: bool = False,
    overwrite: bool = False,
) -> EcotaxaCounts:
    """Write names as a TSV with which EcoTaxa updates the objects it has, or imports new ones.

    Its columns are `object_id` (the catalog's `ecotaxa_id` where it has one), `img_file_name` if wanted,
    `object_annotation_category` and `object_annotation_status` (predicted); below the header stands EcoTaxa's row of
    types. Text is UTF-8 with a byte order mark, without which EcoTaxa reads Latin-1. An object of several images has
    the name of the first that was named. Whether EcoTaxa knows a category cannot be seen here; its import asks for
    those it does not.

    Args:
        path: file to write; EcoTaxa finds those called `ecotaxa….tsv` or `ecotaxa….txt`.
        catalog: the images named.
        names: `object_id` and `label`, as `classify` returns them; images called `unknown` get no row.
        class_map: class name -> `Name` or `Name<Parent` in EcoTaxa; other classes keep their names, an empty name
            leaves out.
        replace_validated: also write objects whose `annotation_status` in the catalog says that a person has decided;
            they become predictions again.
        image_names: one row an image, with its `img_file_name`: the catalog's column of that name, else its path
            relative to the folder of the table. New objects need it.
        overwrite: replace the output.

    Raises:
        OutputError: the output is taken, or has a name that EcoTaxa does not find.
        SettingError: the class map names refused images.
        InputError: as `match_names`; or EcoTaxa would misread an id, an image's name or a category, or no row is left.
    """
    path = refuse_overwrite(path, overwrite, (".tsv", ".txt"))
    if not path.name.startswith("ecotaxa"):
        raise OutputError(f"{path}: expected a name that starts with ecotaxa, else EcoTaxa does not find it")
    renames = {clean_label(old): clean_label(new) for old, new in (class_map or {}).items()}
    if UNKNOWN in renames:
        raise SettingError(f"class map: images called {UNKNOWN} were refused and are not written; leave out that row")
    frame = catalog.frame
    images = pd.DataFrame({"object_id": _ids(frame), "label": match_names(catalog, names)["label"]})
    images["object"] = _number_objects(images["object_id"], frame)
    objects = images.dropna(subset="label").drop_duplicates("object").reset_index(drop=True)
    category = _rename(objects["label"], renames)
    decided = objects["object"].isin(images["object"][_is_decided(frame)]) & (not replace_validated)
    fate = np.select(
        [decided, objects["label"] == UNKNOWN, category == ""], ["validated", "unknown", "dropped"], "written"
    )
    n = {name: int((fate == name).sum()) for name in ("written", "validated", "unknown", "dropped")}
    n["unnamed"] = images["object"].nunique() - len(objects)
    told = ", ".join(f"{n[name]} {words}" for name, words in LEFT_OUT.items() if n[name])
    if not n["written"]:
        raise InputError(f"{path}: no object is left to write: {told}")
    rows = objects[["object", "object_id"]].assign(**{CATEGORY: category})[fate == "written"]
    _check_samples(rows, images)
    if image_names:
        images["img_file_name"] = _image_names(frame, path)
        rows = images[["object", "object_id", "img_file_name"]].merge(rows.drop(columns="object_id"), on="object")
    rows = rows.drop(columns="object").assign(**{STATUS: "predicted"})
    _check_rows(rows)
    if told:
        logger.warning("objects left out: %s", told)
    with write_atomically(path) as temporary:
        pd.concat([pd.DataFrame([dict.fromkeys(rows, "[t]")]), rows]).to_csv(
            temporary, sep="\t", index=False, encoding="utf-8-sig", quoting=csv.QUOTE_MINIMAL, lineterminator="\n"
        )
    return EcotaxaCounts(len(rows), n["written"], n["validated"], n["unknown"], n["dropped"], n["unnamed"])


def _ids(frame: pd.DataFrame) -> pd.Series:
    """Return the object of every image, as EcoTaxa calls it."""
    ids = frame["object_id"].astype(str)
    return frame["ecotaxa_id"].astype(object).where(frame["ecotaxa_id"].notna(), ids) if "ecotaxa_id" in frame else ids


def _rename(label: pd.Series, class_map: Mapping[str, str]) -> pd.Series:
    """Return the categories of the classes."""
    classes = label.unique()
    kept = sorted(set(classes) - {*class_map, UNKNOWN}) if class_map else []
    if kept:
        logger.warning("not in the class map, so written as they are: %s", ", ".join(kept))
    return label.map({name: class_map.get(name, name) for name in classes})


def _is_decided(frame: pd.DataFrame) -> pd.Series:
    if "annotation_status" not in frame:
        return pd.Series(False, index=frame.index)
    return ~frame["annotation_status"].astype(object).fillna("").astype(str).str.strip().str.lower().isin(OPEN)


def _number_objects(ids: pd.Series, frame: pd.DataFrame) -> pd.Series:
    """Return the number of every image's object: those of one id in several samples are different ones."""
    if "sample_id" not in frame:
        return pd.Series(pd.factorize(ids)[0], index=ids.index)
    sample = frame["sample_id"].astype(object).where(frame["sample_id"].notna(), "")
    return ids.groupby([ids, sample]).ngroup()


def _check_samples(rows: pd.DataFrame, images: pd.DataFrame) -> None:
    """Raise where objects of one id, of several samples, are to be written: one table cannot tell them apart."""
    doubled = rows.loc[rows["object_id"].duplicated(), "object_id"]
    if len(doubled):
        raise InputError(
            f"catalog: several objects are called {doubled.iloc[0]}, each of another sample ({doubled.nunique()} such "
            "ids), and EcoTaxa cannot tell them apart in one table; export the names of each sample on their own"
        )
    written = images[images["object_id"].isin(rows["object_id"])].drop_duplicates("object")
    n_shared = int(written["object_id"].duplicated().sum())
    if n_shared:
        logger.warning(
            "%d of the ids written are also those of objects in other samples; import the table into the project of "
            "its own sample alone",
            n_shared,
        )


def _image_names(frame: pd.DataFrame, path: Path) -> list[str]:
    """Return where EcoTaxa finds each image, seen from the table."""
    if "img_file_name" in frame:
        return frame["img_file_name"].astype(object).fillna("").astype(str).tolist()
    folder = os.path.abspath(path.parent)  # noqa: PTH100  (keeps links as they are)
    names = {}
    for parent in {os.path.dirname(p) for p in frame["path"]}:  # noqa: PTH120
        below = Path(parent).is_relative_to(folder)
        if not below or _is_inside_file(parent):
            why = "lie inside other files" if below else f"do not lie below the folder of the table, {folder}"
            raise InputError(
                f"img_file_name: the images in {parent} {why}, and EcoTaxa does not find them there; write the table "
                "into a folder above plain image files, or leave out the names of the images"
            )
        names[parent] = os.path.relpath(parent, folder).replace(os.sep, "/")
    split = [os.path.split(p) for p in frame["path"]]
    return [name if names[parent] == "." else f"{names[parent]}/{name}" for parent, name in split]


def _is_inside_file(parent: str) -> bool:
    try:
        file, inside = split_path(parent)
    except OSError:
        return False
    return bool(inside) or file.is_file()


def _check_rows(rows: pd.DataFrame) -> None:
    """Raise where EcoTaxa would refuse or misread a value."""
    for column in rows:
        mend = "rename the class with a class map" if column == CATEGORY else "rename it in the catalog"
        _check_texts(rows[column].unique(), str(column), mend)
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
        raise InputError(f"catalog: {found} stands in two rows; EcoTaxa takes an image of an object once")


def _check_texts(texts: Iterable[str], column: str, mend: str) -> None:
    for text in texts:
        fault = ""
        if text.lower() in EMPTY:
            fault = "which EcoTaxa takes for empty"
        elif len(text) > LONGEST:
            fault = f"expected at most {LONGEST} characters, found {len(text)}"
        elif UNFIT.search(text) or text != text.strip():
            fault = "expected text without tabs, line ends, control characters and outer blanks"
        if fault:
            raise InputError(f"{column} {text[:60]!r}: {fault}; {mend}")
