"""`film`: how classes separate during training."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.projection import N_PER_CLASS, Film, project_epochs, select_per_class
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog, content_hashes
from plankton_embed.output import progress_bar, refuse_overwrite
from plankton_embed.plots.film import check_seconds, name_film, write_film
from plankton_embed.run_folder import RunFolder
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.inputs import load_split

logger = logging.getLogger(__name__)


def film(
    run: str | Path,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    basis_epoch: int | None = None,
    per_class: int = N_PER_CLASS,
    seconds: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Film:
    """Show how classes separate during training: every kept epoch on the axes of one epoch.

    Args:
        run: folder of a finished run, trained with `training.keep_every_epoch`.
        output: `.mp4` (extra `video`), `.webp` or `.gif` to write; without a suffix the first format that is available.
        split: see `pca`.
        basis_epoch: epoch whose principal components are the axes; by default the last.
        per_class: images of each class, drawn at random once for all epochs.
        seconds: length of the film; by default it depends on the number of epochs.
        seed: of the random draw.
        overwrite: replace the output.
        device: where to embed.
        progress: show a bar.

    Raises:
        InputError: the folder is not a run, or fewer than two epochs were kept.
    """
    folder = RunFolder(Path(run))
    if not folder.settings.exists():
        raise InputError(f"{run} is not a run (it has no settings.yaml); a film shows the epochs of a run")
    epochs = folder.kept_epochs()
    if len(epochs) < 2:
        raise InputError(
            f"{run} kept the weights of {len(epochs)} epoch{'s' * (len(epochs) != 1)}; a film needs at least 2: "
            "train with --set training.keep_every_epoch=true"
        )
    if basis_epoch is not None and basis_epoch not in epochs:
        raise SettingError(f"basis: epoch {basis_epoch} was not kept; expected one of {', '.join(map(str, epochs))}")
    check_seconds(seconds)
    path = None if output is None else refuse_overwrite(name_film(output), overwrite)
    table = select_per_class(load_split(run, split)[0], per_class, seed)
    by_epoch = _embed_epochs(folder, table, epochs, device, progress)
    history = pd.read_csv(folder.history)
    accuracies = dict(zip(history["epoch"].tolist(), history["centroid_accuracy"].tolist(), strict=True))
    made = project_epochs(table, by_epoch, accuracies, basis_epoch=basis_epoch)
    if path is not None:
        logger.info("film: %s", write_film(made, path, seconds=seconds))
    return made


def _embed_epochs(
    run: RunFolder, table: EmbeddingTable, epochs: dict[int, Path], device: str, progress: bool
) -> dict[int, NDArray[np.float32]]:
    """Embed the images of a table with the weights of every epoch."""
    from plankton_embed.images.store import prepare_images
    from plankton_embed.network.model import EmbeddingModel
    from plankton_embed.training.checkpoints import load_weights

    paths = [str(path) for path in table.path]
    model = EmbeddingModel.load(run.model, device)
    prepared = prepare_images(paths, content_hashes(paths, progress), model.preparation, progress=progress)
    catalog = ImageCatalog.load(run.catalog)
    if catalog.pixel_size is not None:  # a network may take the true size
        rows = pd.Index(catalog.frame["object_id"]).get_indexer(pd.Index(table.object_id))
        prepared = replace(prepared, pixel_size=catalog.pixel_size[rows])
    if prepared.faults:
        row, reason = next(iter(prepared.faults.items()))
        raise InputError(f"{len(prepared.faults)} images of the run cannot be read, such as {paths[row]}: {reason}")
    by_epoch = {}
    for epoch, path in progress_bar(epochs.items(), "epochs", "epoch", shown=progress):
        load_weights(path, model.net)
        by_epoch[epoch] = model.embed_prepared(prepared)
    return by_epoch
