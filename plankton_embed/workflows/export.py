"""`export`: predictions to EcoTaxa or an IFCB dashboard."""

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
    """Export predictions to EcoTaxa (TSV) or an IFCB dashboard (HDF5).

    Args:
        names: predictions as `classify` returns them, or the CSV it wrote; for `ifcb` with all probabilities.
        catalog: the images predicted: a catalog, its file, or the source it was read from.
        output: for `ecotaxa` a file called `ecotaxa….tsv`; for `ifcb` a folder, which gets one file of class scores for
            each bin.
        target: `ecotaxa` (see `write_ecotaxa`) or `ifcb` (see `write_class_scores`).
        class_map: old -> new class name, or its CSV; for `ifcb`, the scores of merged classes are added.
        replace_validated: for `ecotaxa`: also write objects that a person has validated.
        image_names: for `ecotaxa`: one row for each image, with its path relative to the folder of the table.
        copy_images: for `ecotaxa`: as `image_names`, with copies of the images in `<table>_images/`.
        model_id: for `ifcb`: name of the model, written into each file; by default `plankton_embed`.
        overwrite: replace the output.
        root: where the relative paths of a catalog file start.

    Raises:
        SettingError: an unknown target, or an option of the other one.
        InputError: predictions and catalog do not fit together, or the target would misread them.
        OutputError: the output exists already.
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
            raise SettingError(f"{option}: it can only be used with the target {whose}; the target is {target}")
    predictions = names if isinstance(names, pd.DataFrame) else read_spreadsheet(names, "predictions file", COLUMNS)
    predicted = {clean_label(str(label)) for label in predictions.get("label", ())} | set(_list_scores(predictions))
    renames = read_class_map(class_map, predicted) if isinstance(class_map, str | Path) else class_map
    images = read_source(catalog, root)
    if target == "ecotaxa":
        return write_ecotaxa(
            output,
            images,
            predictions,
            class_map=renames,
            replace_validated=replace_validated,
            image_names=image_names,
            copy_images=copy_images,
            overwrite=overwrite,
        )
    scores = _rename_scores(predictions, renames or {})
    return write_class_scores(
        output, images, scores, _list_scores(scores), model_id=model_id or "plankton_embed", overwrite=overwrite
    )


def _list_scores(predictions: pd.DataFrame) -> list[str]:
    """Return the classes that have a column p(<class>)."""
    return [name[2:-1] for name in map(str, predictions) if name.startswith("p(") and name.endswith(")")]


def _rename_scores(predictions: pd.DataFrame, class_map: Mapping[str, str]) -> pd.DataFrame:
    """Rename the columns p(<class>); the scores of merged classes are added."""
    renames = {clean_label(old): clean_label(new) for old, new in class_map.items()}
    classes = _list_scores(predictions)
    unknown = [old for old in renames if old not in classes]
    if unknown and classes:
        raise SettingError(f"class map: the predictions have no scores of the class {', '.join(unknown)}")
    dropped = [old for old, new in renames.items() if not new]
    if dropped:
        raise SettingError(f"class map: a class cannot be left out of class scores; give {', '.join(dropped)} a name")
    if not renames:
        return predictions
    columns = [f"p({name})" for name in classes]
    scores = predictions[columns].apply(pd.to_numeric, errors="coerce")
    old_columns: dict[str, list[str]] = {}
    for name, column in zip(classes, columns, strict=True):
        old_columns.setdefault(f"p({renames.get(name, name)})", []).append(column)
    merged = {new: scores[old].sum(axis=1, skipna=False).clip(upper=1) for new, old in old_columns.items()}
    return pd.concat([predictions.drop(columns=columns), pd.DataFrame(merged)], axis=1)
