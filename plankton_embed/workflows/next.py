"""`next`: choose the images to label next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from plankton_embed.analysis.labelling import LEFT_OUT, NONE, choose_next
from plankton_embed.classifiers.enrollment import find_same
from plankton_embed.errors import InputError
from plankton_embed.output import refuse_overwrite, write_frame
from plankton_embed.workflows.inputs import Reference, load_labelled


def next(
    vectors: Reference,
    output: str | Path | None = None,
    *,
    reference: Reference | None = None,
    n_images: int = 100,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Choose the images whose labels teach most, in groups of one kind that can be labelled at once.

    Typical images of kinds without labels come first, then images between two classes, or far from all labelled ones;
    an outlier comes late. Nothing needs a label yet (see `LabellingQueue`).

    Args:
        vectors: a table, its file, or the folder of a run (its training vectors); images are chosen from those without
            a label.
        output: CSV to write.
        reference: labelled vectors of the present classes; the labelled images of `vectors` count as well.
        n_images: number of images to choose.
        overwrite: replace the output.

    Returns:
        One row per image, in the order to label them: `object_id`, `path`, `reason` (`new kind`, `unsure between A and
        B`, `far from labelled A` or `few labels of A`), `guess` and `second` (the classes with the nearest means; empty
        where there is none), and `group`: images of the same number are probably of one kind.

    Raises:
        InputError: all images have a label.
        MismatchError: vectors and reference were made by different models.
        SettingError: less than one image to choose.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, (".csv",))
    table = load_labelled(vectors)
    if table.is_labelled.all():
        raise InputError(
            f"vectors: expected images without a label to choose from; all {len(table)} have one; give vectors of new "
            "images (suspects lists labels that may be wrong)"
        )
    given, is_labelled = [table], np.zeros(len(table), dtype=bool)
    if reference is not None:
        known = load_labelled(reference)
        known.check_same_model(table, ("the reference", "the vectors"))
        given.append(known)
        is_labelled = find_same(table, known.labelled)
    classes = sorted({name for part in given for name in part.classes})
    code_of = {name: code for code, name in enumerate(classes)}
    index = [[code_of.get(label, NONE) for label in part.label] for part in given]
    index[1:] = [[code if code > NONE else LEFT_OUT for code in codes] for codes in index[1:]]
    index[0] = [LEFT_OUT if known_already else code for code, known_already in zip(index[0], is_labelled, strict=True)]
    chosen = choose_next(np.concatenate([part.vectors for part in given]), np.concatenate(index), n_images)
    names = np.array([*classes, None], dtype=object)  # the last for -1
    frame = pd.DataFrame(
        {
            "object_id": table.object_id[chosen.rows],
            "path": table.path[chosen.rows],
            "reason": chosen.describe_reasons(classes),
            "guess": names[chosen.guess],
            "second": names[chosen.second],
            "group": chosen.group,
        }
    )
    if output is not None:
        write_frame(Path(output), frame)
    return frame
