"""Names back to where the images came from: EcoTaxa, and the dashboards of IFCB machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from plankton_embed.errors import SettingError
from plankton_embed.images.catalog import ImageCatalog, read_class_map
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.writers.ecotaxa import EcotaxaCounts, write_ecotaxa
from plankton_embed.images.writers.ifcb import ScoreCounts, write_class_scores
from plankton_embed.spreadsheet import clean_label, read_spreadsheet

Target = Literal["ecotaxa", "ifcb"]
COLUMNS = ("object_id", "label")
TARGETS: tuple[Target, ...] = get_args(Target)


def export(
    names: pd.DataFrame | str | Path,
    catalog: ImageCatalog | str | Path,
    output: str | Path,
    *,
    target: Target = "ecotaxa",
    class_map: Mapping[str, str] | str | Path | None = None,
    replace_validated: bool = False,
    image_names: bool = False,
    copy_images: bool = False,
    model_id: str | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
) -> EcotaxaCounts | ScoreCounts:
    """Write names in the form of the place the images came from.

    Args:
        names: as `classify` returns them, or the CSV it wrote; for `ifcb` with all probabilities.
        catalog: the images named: a catalog, its file, or the source it was read from.
        output: for `ecotaxa` a file called `ecotaxa….tsv`; for `ifcb` a folder, in which each bin has its file of class
            scores.
        target: `ecotaxa` (see `write_ecotaxa`) or `ifcb` (see `write_class_scores`).
        class_map: old -> new class name, or its CSV; for `ifcb`, the scores of classes that become one are added.
        replace_validated: for `ecotaxa`: also write objects that a person has decided.
        image_names: for `ecotaxa`: one row an image, with its path relative to the folder of the table.
        copy_images: for `ecotaxa`: the same, of copies that are made beside the table, in `<table>_images/`.
        model_id: for `ifcb`: what made the names; by default `plankton_embed`.
        overwrite: replace the output.
        root: where the relative paths of a catalog file start.

    Raises:
        SettingError: an unknown target, or an option of the other one.
        InputError: names and catalog do not fit together, or the target would misread them.
        OutputError: the output is taken.
    """
    if target not in TARGETS:
        raise SettingError(f"target: expected one of {', '.join(TARGETS)}; found {target!r}")
    options = {
        "replace_validated (--replace-validated)": ("ecotaxa", replace_validated),
        "image_names (--image-names)": ("ecotaxa", image_names),
        "copy_images (--copy-images)": ("ecotaxa", copy_images),
        "model_id (--model-id)": ("ifcb", model_id is not None),
    }
    for option, (whose, given) in options.items():
        if given and whose != target:
            raise SettingError(f"{option}: it goes with the target {whose}; the target is {target}")
    given_names = names if isinstance(names, pd.DataFrame) else read_spreadsheet(names, "names file", COLUMNS)
    named = {clean_label(str(label)) for label in given_names.get("label", ())}
    named |= {str(column)[2:-1] for column in given_names if _is_score(column)}
    renames = read_class_map(class_map, named) if isinstance(class_map, str | Path) else class_map
    images = read_source(catalog, root)
    if target == "ecotaxa":
        return write_ecotaxa(
            output,
            images,
            given_names,
            class_map=renames,
            replace_validated=replace_validated,
            image_names=image_names,
            copy_images=copy_images,
            overwrite=overwrite,
        )
    scores = _rename_scores(given_names, renames or {})
    classes = [str(column)[2:-1] for column in scores if _is_score(column)]
    return write_class_scores(
        output, images, scores, classes, model_id=model_id or "plankton_embed", overwrite=overwrite
    )


def _is_score(column: object) -> bool:
    return str(column).startswith("p(") and str(column).endswith(")")


def _rename_scores(names: pd.DataFrame, class_map: Mapping[str, str]) -> pd.DataFrame:
    """Return the names with the columns p(<class>) renamed; those that become one are added."""
    renames = {f"p({clean_label(old)})": clean_label(new) for old, new in class_map.items()}
    columns = [str(column) for column in names if _is_score(column)]
    strangers = [column[2:-1] for column in renames if column not in columns]
    if strangers and columns:
        raise SettingError(f"class map: the names hold no scores of the class {', '.join(strangers)}")
    dropped = [column[2:-1] for column, new in renames.items() if not new]
    if dropped:
        raise SettingError(f"class map: a class cannot be left out of class scores; give {', '.join(dropped)} a name")
    if not renames:
        return names
    scores = names[columns].apply(pd.to_numeric, errors="coerce")
    old_names: dict[str, list[str]] = {}
    for column in columns:
        old_names.setdefault(f"p({renames[column]})" if column in renames else column, []).append(column)
    added = {new: scores[old].sum(axis=1, skipna=False).clip(upper=1) for new, old in old_names.items()}
    return pd.concat([names.drop(columns=columns), pd.DataFrame(added)], axis=1)
