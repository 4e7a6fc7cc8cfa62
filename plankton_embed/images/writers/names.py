"""Names, as `classify` gives them, beside the rows of the catalog they belong to."""

from __future__ import annotations

import pandas as pd

from plankton_embed.errors import InputError
from plankton_embed.images.catalog import UNKNOWN, ImageCatalog, is_unknown, refuse_unknown
from plankton_embed.spreadsheet import to_text


def match_names(catalog: ImageCatalog, names: pd.DataFrame) -> pd.DataFrame:
    """Return the names in the order of the catalog's rows; all is missing in a row whose image has no name.

    Args:
        catalog: the images.
        names: `object_id`, `label` and any others, one row an image.

    Raises:
        InputError: a column is missing, a label or an id is empty, an id is doubled or not in the catalog, or there is
            no name. Rows are counted as in the names' file, whose first line is the header.
    """
    missing = [column for column in ("object_id", "label") if column not in names]
    if missing:
        raise InputError(f"names: expected the columns object_id, label; {', '.join(missing)} is missing")
    if names.empty:
        raise InputError("names: expected a name for at least one image; found none")
    check_unknown(names, "names")
    for column in ("object_id", "label"):
        empty = (names[column].isna() | (names[column].astype(str).str.strip() == "")).to_numpy()
        if empty.any():
            raise InputError(
                f"names, row {int(empty.argmax()) + 2}, column {column}: expected text; found an empty cell; a class "
                "called NA needs a file read as text (pandas.read_csv(…, dtype=str, keep_default_na=False))"
            )
    ids = pd.Series(to_text(names["object_id"]), dtype="str")
    doubled = ids.duplicated().to_numpy()
    if doubled.any():
        row = int(doubled.argmax())
        raise InputError(f"names, row {row + 2}: object_id {ids.iloc[row]} is in two rows; give every image one name")
    strange = ~ids.isin(catalog.frame["object_id"]).to_numpy()
    if strange.any():
        row = int(strange.argmax())
        raise InputError(
            f"names, row {row + 2}: expected images of the catalog; found object_id {ids.iloc[row]}, which is not in "
            f"it ({int(strange.sum())} of {len(ids)} are not); give the catalog of the images that were classified"
        )
    labels = pd.Series(to_text(names["label"], str), index=names.index, dtype="str")
    found = names.assign(label=labels).set_axis(pd.Index(ids), axis=0)
    matched: pd.DataFrame = found.reindex(catalog.frame["object_id"].astype(str)).set_axis(catalog.frame.index, axis=0)
    return matched


def check_unknown(names: pd.DataFrame, where: str) -> None:
    """Make sure that the label `unknown` marks rejected images, and is not a class that the classifier knows.

    Args:
        names: as `classify` returns them; or `object_id` and `label` alone, where `unknown` is taken as rejected.
        where: what an error calls them.

    Raises:
        InputError: a class is called so, or an image has that label in another spelling.
    """
    classes = {str(column)[2:-1] for column in names if str(column).startswith("p(") and str(column).endswith(")")}
    guesses = ["best_label", "second_label"] if "best_label" in names else ["label", "second_label"]
    if "second_label" in names:  # of `classify`
        classes |= {str(name) for column in guesses for name in names[column].dropna().unique()}
    refuse_unknown(sorted(classes), where)
    labels = [str(label) for label in names["label"].dropna().unique()]
    others = [label for label in labels if label != UNKNOWN and is_unknown(label)]
    if others:
        raise InputError(
            f"{where}: expected the name of a class, or {UNKNOWN}, the label of rejected images; found the label "
            f"{others[0]!r}; write {UNKNOWN} where the image is rejected, and another name where it is a class"
        )
