"""`enroll`: add labelled images to a reference, without training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from plankton_embed.analysis.clusters import load_named
from plankton_embed.classifiers.enrollment import add_examples, correct_examples, measure_learning
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import SPLITS, warn_of_similar_classes
from plankton_embed.images.corrections import is_corrections, read_corrections
from plankton_embed.output import refuse_overwrite
from plankton_embed.table import TABLE_SUFFIXES, EmbeddingTable
from plankton_embed.workflows.inputs import (
    Query,
    Reference,
    as_run,
    find_contradictions,
    load_labelled,
    load_query,
    load_settings,
)
from plankton_embed.workflows.result_folder import write_curve

logger = logging.getLogger(__name__)


def enroll(
    reference: Reference,
    new: Query,
    output: str | Path | None = None,
    *,
    curve: bool = False,
    query: Reference | None = None,
    n_neighbors: int | None = None,
    n_draws: int | None = None,
    seed: int | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingTable:
    """Add labelled images to a reference, new classes or more examples, without training.

    Args:
        reference: a table, its file, or the folder of a run (its training vectors). Images in it without a label that
            are among the new ones get their label; so the vectors that were grouped can be the reference themselves.
        new: labelled vectors; or the folder of `clusters` with `cluster_names.csv` filled in; or the journal of
            `review` (or `corrections.csv`) about images of the reference, which are relabelled, or left out where
            deleted; with a run as reference also labelled images, which its model embeds. A journal about a run also
            adds the images of val and test that were relabelled or kept.
        output: vectors file to write.
        curve: also write a learning curve, the scores of the new classes with 1, 2, 5, … examples of each, into
            `<output>_curve/`: `draws.csv`, `learning_curve.csv` (mean and spread over the draws) and its picture.
        query: labelled vectors to classify for the curve, of new and old classes; by default half of the new images.
        n_neighbors: k of kNN in the curve; by default as in `classify`.
        n_draws: random draws of each number of examples; by default 10.
        seed: of the draws; by default 0.
        status: of new images: statuses whose class names become labels (see `embed`).
        overwrite: replace the output.
        device: where to embed.
        progress: show bars.

    Returns:
        The reference with the new vectors added.

    Raises:
        MismatchError: made by different models; the message contains both hashes.
        InputError: the new vectors have no labels, or an image is in the reference already.
    """
    if curve and output is None:
        raise SettingError("curve needs an output, beside which its files are written")
    if not curve and not (query is None and n_neighbors is None and n_draws is None and seed is None):
        raise SettingError(
            "query, n_neighbors, n_draws and seed are for the learning curve; turn it on (curve=True, --curve)"
        )
    if as_run(new):
        raise InputError(f"{new} is a run; give the vectors or images to enroll, such as {new}/vectors/test.parquet")
    folder = None
    if output is not None:
        refuse_overwrite(output, overwrite, TABLE_SUFFIXES)
        folder = Path(output).with_name(f"{Path(output).stem}_curve") if curve else None
        if folder is not None:
            refuse_overwrite(folder, overwrite, made_of="draws.csv")
    if isinstance(new, str | Path) and is_corrections(new):
        if curve or status is not None:
            raise SettingError(
                f"curve and status: they are for new images; {new} has corrections of the reference's images"
            )
        corrected = _correct(reference, new)
        if output is not None:
            corrected.save(output)
        return corrected
    old = load_labelled(reference)
    added = load_named(new) if isinstance(new, str | Path) else None
    if added is not None and status is not None:
        raise SettingError(
            f"status: it can only be used with images; {new} is a folder of named clusters; leave it out"
        )
    if added is None:
        added = load_query(reference, new, device, progress, status)
    enrolled = add_examples(old, added)
    warn_of_similar_classes(enrolled.label)
    if len(copies := find_contradictions(added, old)):
        logger.warning(
            "%d of the %d new images have a copy (an equal vector) with another label, such as %s (%s); only one of "
            "these labels can be right",
            *(len(copies), len(added), added.object_id[copies[0]], added.label[copies[0]]),
        )
    if folder is not None:
        draws = measure_learning(
            old,
            added,
            None if query is None else load_query(reference, query, device, progress),
            n_neighbors=load_settings(reference).classification.n_neighbors if n_neighbors is None else n_neighbors,
            n_draws=10 if n_draws is None else n_draws,
            seed=seed or 0,
            progress=progress,
        )
        write_curve(folder, draws)
    if output is not None:
        enrolled.save(output)
    return enrolled


def _correct(reference: Reference, corrections: str | Path) -> EmbeddingTable:
    """Return the reference with a person's corrections; of a run, also its corrected images of val and test."""
    run = as_run(reference)
    others = [] if run is None else [EmbeddingTable.load(p) for p in map(run.vectors, SPLITS[1:]) if p.is_file()]
    decided = read_corrections(corrections)
    return correct_examples(load_labelled(reference), decided, EmbeddingTable.concat(others) if others else None)
