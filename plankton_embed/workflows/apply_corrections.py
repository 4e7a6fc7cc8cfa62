"""`apply-corrections`: relabel or leave out images, as a person decided."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.catalog import ImageCatalog, refuse_unknown
from plankton_embed.images.corrections import CorrectedCatalog, read_corrections, undo_corrections
from plankton_embed.images.corrections import apply_corrections as correct_catalog
from plankton_embed.images.decisions import is_journal
from plankton_embed.output import refuse_overwrite


def apply_corrections(
    catalog: ImageCatalog | str | Path,
    corrections: pd.DataFrame | str | Path,
    output: str | Path | None = None,
    *,
    undo: bool = False,
    root: str | Path | None = None,
    overwrite: bool = False,
) -> CorrectedCatalog:
    """Relabel or leave out images in a new catalog, as a person decided; image files are not changed.

    Args:
        catalog: a catalog or its file.
        corrections: `corrections.csv` filled in, or the journal of `review`; with `undo`, the changes to undo.
        output: new catalog file to write, not `catalog` itself; the changes are written to `<output>_changes.csv`.
            Without it nothing is written, and what would change is returned.
        undo: undo changes; they are returned as `changes`, and not written again.
        root: where the relative paths of the catalog start.
        overwrite: replace the output.
    """
    changes_path = None
    if output is not None:
        output = refuse_overwrite(output, overwrite, (".csv", ".parquet"))
        changes_path = refuse_overwrite(output.with_name(f"{output.stem}_changes.csv"), overwrite, (".csv",))
        for given in (catalog, corrections):
            if isinstance(given, str | Path) and Path(given).resolve() in (output.resolve(), changes_path.resolve()):
                raise OutputError(f"{given} would be replaced; choose another output, so that nothing is lost")
    images = catalog if isinstance(catalog, ImageCatalog) else ImageCatalog.load(catalog, root)
    if undo:
        if isinstance(corrections, str | Path) and is_journal(corrections):
            raise InputError(
                f"{corrections}: undo expects the changes that apply-corrections wrote beside its output; found "
                "a journal"
            )
        changes = corrections if isinstance(corrections, pd.DataFrame) else ImageCatalog.load(corrections).frame
        done = CorrectedCatalog(undo_corrections(images, changes), changes, 0)
    else:
        wanted = corrections if isinstance(corrections, pd.DataFrame) else read_corrections(corrections)
        done = correct_catalog(images, wanted)
        labels = done.changes["correction_label"].dropna().unique()
        refuse_unknown(labels, "corrections", "Write another name into the column label, or delete as the action.")
    if output is not None and changes_path is not None:
        done.catalog.save(output)
        if undo or done.changes.empty:
            changes_path.unlink(missing_ok=True)  # of the catalog that is replaced
        else:
            ImageCatalog(done.changes).save(changes_path)
    return done
