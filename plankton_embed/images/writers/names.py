"""Reads the predictions of `classify`, and matches them with the rows of a catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, is_unknown, refuse_unknown
from plankton_embed.shards import AT_ONCE, Shards, is_shards, open_parquet
from plankton_embed.spreadsheet import read_spreadsheet, to_text

COLUMNS = ("object_id", "label")


def read_predictions(path: str | Path) -> Iterator[pd.DataFrame]:
    """Yield the predictions that `classify` wrote: a CSV or one Parquet file at once, a folder of these in blocks.

    Raises:
        InputError: they cannot be read, or have no `object_id` or `label`.
    """
    path = Path(path)
    if is_shards(path):
        shards = Shards.open(path)
        names, blocks = shards.schema.names, shards.read(AT_ONCE)
    elif path.is_dir():
        raise InputError(
            f"{path}: expected a CSV of predictions, or a folder with Parquet files of them and nothing else"
        )
    elif path.suffix.lower() == ".parquet" and path.is_file():
        table = open_parquet(path).read()
        names, blocks = table.column_names, iter([table])
    else:
        yield read_spreadsheet(path, "predictions file", COLUMNS)
        return
    if missing := [name for name in COLUMNS if name not in names]:
        raise InputError(f"{path}: expected predictions with object_id and label; found no {' and no '.join(missing)}")
    for block in blocks:
        yield block.to_pandas()


def match_predictions(catalog: ImageCatalog, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions in the order of the catalog's rows; the row of an image without a prediction is empty.

    Args:
        catalog: the images.
        predictions: `object_id`, `label` and any others, one row per image.

    Raises:
        InputError: a column is missing, a label or an id is empty, an id is there twice or not in the catalog, or there
            is no prediction. Rows are counted as in a file whose first line is the header.
    """
    missing = [column for column in COLUMNS if column not in predictions]
    if missing:
        raise InputError(f"predictions: expected the columns object_id, label; {', '.join(missing)} is missing")
    if predictions.empty:
        raise InputError("predictions: expected at least one image; found none")
    check_unknown(predictions, "predictions")
    for column in COLUMNS:
        empty = (predictions[column].isna() | (predictions[column].astype(str).str.strip() == "")).to_numpy()
        if empty.any():
            raise InputError(
                f"predictions, row {int(empty.argmax()) + 2}, column {column}: expected text; found an empty cell; a "
                "class called NA needs a file read as text (pandas.read_csv(…, dtype=str, keep_default_na=False))"
            )
    ids = pd.Series(to_text(predictions["object_id"]), dtype="str")
    doubled = ids.duplicated().to_numpy()
    if doubled.any():
        row = int(doubled.argmax())
        raise InputError(f"predictions, row {row + 2}: object_id {ids.iloc[row]} is in two rows; keep one of them")
    is_new = ~ids.isin(catalog.frame["object_id"]).to_numpy()
    if is_new.any():
        row = int(is_new.argmax())
        raise InputError(
            f"predictions, row {row + 2}: expected images of the catalog; found object_id {ids.iloc[row]}, which is "
            f"not in it ({int(is_new.sum())} of {len(ids)} are not); give the catalog of the classified images"
        )
    labels = pd.Series(to_text(predictions["label"], str), index=predictions.index, dtype="str")
    found = predictions.assign(label=labels).set_axis(pd.Index(ids), axis=0)
    matched: pd.DataFrame = found.reindex(catalog.frame["object_id"].astype(str)).set_axis(catalog.frame.index, axis=0)
    return matched


def check_unknown(predictions: pd.DataFrame, where: str) -> None:
    """Check that the label `unknown` marks rejected images, and is not a class of the classifier.

    Args:
        predictions: as returned by `classify`; or `object_id` and `label` alone, where `unknown` means rejected.
        where: their source, for errors.

    Raises:
        InputError: a class has this name, or an image has this label in another spelling.
    """
    classes = {
        str(column)[2:-1] for column in predictions if str(column).startswith("p(") and str(column).endswith(")")
    }
    guesses = ["best_label", "second_label"] if "best_label" in predictions else ["label", "second_label"]
    if "second_label" in predictions:  # of `classify`
        classes |= {str(name) for column in guesses for name in predictions[column].dropna().unique()}
    refuse_unknown(sorted(classes), where)
    labels = [str(label) for label in predictions["label"].dropna().unique()]
    others = [label for label in labels if label != UNKNOWN and is_unknown(label)]
    if others:
        raise InputError(
            f"{where}: expected the name of a class, or {UNKNOWN}, the label of rejected images; found the label "
            f"{others[0]!r}; write {UNKNOWN} if the image is rejected, or another name if it is a class"
        )
