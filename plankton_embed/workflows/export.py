"""`export`: predictions to EcoTaxa or an IFCB dashboard, vectors to Embedding Atlas."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from plankton_embed.errors import SettingError
from plankton_embed.images.catalog import ImageCatalog, read_class_map, refuse_unknown
from plankton_embed.images.corrections import check_corrections, read_corrections
from plankton_embed.images.decisions import is_journal
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.writers.ecotaxa import EcotaxaCounts, write_ecotaxa
from plankton_embed.images.writers.ifcb import ScoreCounts, write_class_scores
from plankton_embed.images.writers.names import read_predictions
from plankton_embed.page.atlas import AtlasCounts, write_atlas
from plankton_embed.spreadsheet import clean_label, read_spreadsheet
from plankton_embed.vector_shards import Vectors
from plankton_embed.workflows.inputs import is_vector_shards
from plankton_embed.workflows.page_parts import gather_page

logger = logging.getLogger(__name__)

Target = Literal["ecotaxa", "ifcb", "atlas"]
DECIDED_AT = "decided_at"  # column of the corrections that the page writes: when a person decided
TARGETS: tuple[Target, ...] = get_args(Target)


def export(
    names: pd.DataFrame | Vectors | str | Path,
    catalog: ImageCatalog | str | Path | None = None,
    output: str | Path | None = None,
    *,
    target: Target = "ecotaxa",
    class_map: Mapping[str, str] | str | Path | None = None,
    corrections: pd.DataFrame | str | Path | None = None,
    replace_validated: bool = False,
    image_names: bool = False,
    copy_images: bool = False,
    model_id: str | None = None,
    coordinates: str | Path | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
    progress: bool = False,
) -> EcotaxaCounts | ScoreCounts | AtlasCounts:
    """Export predictions to EcoTaxa (TSV) or an IFCB dashboard (HDF5), or vectors to Embedding Atlas (Parquet).

    Args:
        names: predictions as `classify` returns them, or the CSV or folder it wrote; for `ifcb` with all probabilities.
            For `atlas` vectors: a table, its file, or the folder of a run.
        catalog: the images predicted: a catalog, its file, or the source it was read from. Not for `atlas`.
        output: for `ecotaxa` a file called `ecotaxa….tsv`; for `ifcb` a folder, which gets one file of class scores for
            each bin; for `atlas` a file `.parquet`.
        target: `ecotaxa` (see `write_ecotaxa`), `ifcb` (see `write_class_scores`) or `atlas` (see `write_atlas`).
        class_map: old -> new class name, or its CSV; for `ifcb`, the scores of merged classes are added.
        corrections: for `ecotaxa`: the journal of `review`, or `corrections.csv`: relabelled images get their new label
            and the status `validated`, also without a prediction; kept ones the label of the catalog and `validated`;
            deleted ones are left out. The other images stay `predicted`. `keep` counts in a table only with a value in
            `decided_at`, which the page writes: `suspects` writes `keep` before anybody has looked.
        replace_validated: for `ecotaxa`: also write objects that a person has validated.
        image_names: for `ecotaxa`: one row for each image, with its path relative to the folder of the table.
        copy_images: for `ecotaxa`: as `image_names`, with copies of the images in `<table>_images/`.
        model_id: for `ifcb`: name of the model, written into each file; by default `plankton_embed`.
        coordinates: for `atlas`: the `coordinates.csv` that `pca --projection umap` (or `tsne`) wrote; by default the
            first two principal components.
        overwrite: replace the output.
        root: where the relative paths of a catalog file start.
        progress: show a bar.

    Raises:
        SettingError: an unknown target, or an option of the other one.
        InputError: predictions and catalog do not fit together, or the target would misread them.
        OutputError: the output exists already.
    """
    if target not in TARGETS:
        raise SettingError(f"target: expected one of {', '.join(TARGETS)}; found {target!r}")
    options = {
        "class_map (--class-map)": (("ecotaxa", "ifcb"), class_map is not None),
        "corrections (--corrections)": ("ecotaxa", corrections is not None),
        "replace_validated (--replace-validated)": ("ecotaxa", replace_validated),
        "image_names (--image-names)": ("ecotaxa", image_names),
        "copy_images (--copy-images)": ("ecotaxa", copy_images),
        "model_id (--model-id)": ("ifcb", model_id is not None),
        "coordinates (--coordinates)": ("atlas", coordinates is not None),
        "CATALOG": (("ecotaxa", "ifcb"), catalog is not None),
        "root (--root)": (("ecotaxa", "ifcb"), root is not None),
    }
    for option, (whose, given) in options.items():
        targets = (whose,) if isinstance(whose, str) else whose
        if given and target not in targets:
            raise SettingError(
                f"{option}: it can only be used with the target {' or '.join(targets)}; the target is {target}"
            )
    if output is None:
        raise SettingError("output (-o): expected a file or folder to write; found none")
    if target == "atlas":
        if isinstance(names, pd.DataFrame):
            raise SettingError("the target atlas takes vectors; found a data frame of predictions")
        page = gather_page(names)
        return write_atlas(output, page, coordinates=coordinates, overwrite=overwrite, progress=progress)
    if catalog is None:
        raise SettingError(f"CATALOG: the target {target} needs the catalog of the images predicted; give it")
    if isinstance(names, Vectors) or (not isinstance(names, pd.DataFrame) and is_vector_shards(names)):
        raise SettingError(f"the target {target} takes predictions of classify; found vectors")
    predictions = names if isinstance(names, pd.DataFrame) else pd.concat(read_predictions(names), ignore_index=True)
    predicted = {clean_label(str(label)) for label in predictions.get("label", ())} | set(_list_scores(predictions))
    decided = _read_corrections(corrections)
    if decided is not None:
        predicted |= set(decided["label"]) - {""}
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
            corrections=decided,
            overwrite=overwrite,
        )
    scores = _rename_scores(predictions, renames or {})
    return write_class_scores(
        output, images, scores, _list_scores(scores), model_id=model_id or "plankton_embed", overwrite=overwrite
    )


def _read_corrections(corrections: pd.DataFrame | str | Path | None) -> pd.DataFrame | None:
    if corrections is None:
        return None
    if isinstance(corrections, str | Path) and is_journal(corrections):
        decided = read_corrections(corrections)
    else:
        given = corrections
        if isinstance(given, str | Path):
            given = read_spreadsheet(given, "corrections file", ("object_id", "action"))
        decided = check_corrections(given, "corrections" if given is corrections else f"corrections {corrections}")
        at = given.get(DECIDED_AT, pd.Series("", given.index)).fillna("").astype(str).str.strip()
        untouched = ((decided["action"] == "keep") & (at == "").to_numpy()).to_numpy()
        if untouched.any():
            logger.warning(
                "%d corrections with the action keep have no time in %s, so nobody may have looked at these images; "
                "they are written as predicted",
                *(untouched.sum(), DECIDED_AT),
            )
        decided = decided[~untouched].reset_index(drop=True)
    labels = decided["label"][decided["action"] == "relabel"].unique()
    refuse_unknown(labels, "corrections", "Give these images another name, or delete them.")
    return decided


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
