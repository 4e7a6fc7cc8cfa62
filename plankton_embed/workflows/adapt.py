"""`adapt`: fit a model to the images of another instrument, without labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.grey_levels import find_grey_levels
from plankton_embed.images.preparation import SHARE_DARK, WHITE_LEVEL, prepare_batch, share_dark
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.store import PreparedImages
from plankton_embed.images.workers import CHUNK, map_chunks
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.model_card import CONFIG_FILE
from plankton_embed.output import refuse_overwrite
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import PreparationSettings
from plankton_embed.training.trainer import LEAST_STATISTICS, STATISTICS_IMAGES, adapt_statistics, list_norms
from plankton_embed.workflows.inputs import Source

COLUMNS = ("pixels", "background", "size")
CARD = """
## Adapted

The batch norms were measured on {n} images without labels (`plankton-embed adapt`). Before that it was the model
{hash}, whose card follows.

{card}"""

logger = logging.getLogger(__name__)


def adapt(
    model: EmbeddingModel | str | Path,
    source: Source,
    output: str | Path,
    *,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingModel:
    """Fit a model to the images of another instrument, without labels: its batch norms measure them; weights stay.

    Images of another instrument differ in contrast and sharpness from those that the model was trained on, so the
    features of its trunk have other means and variances. These are measured again, on up to 1,024 of the images (Li et
    al. 2016, arXiv 1603.04779). Embed old and new images with the same model.

    Args:
        model: a model, or its folder, its run, its name in `models`, or its name on the Hugging Face hub.
        source: a catalog or its file, a folder of images, or a list of image files; at least 100 that can be read.
        output: folder of the adapted model.
        root: where the relative paths of a catalog file start.
        status: see `embed`.
        overwrite: replace the output.
        device: where to compute.
        progress: show bars.

    Returns:
        The adapted model.

    Raises:
        InputError: too few images can be read, or the trunk has no batch norms.
        OutputError: the output exists, or is in the folder of a run.
    """
    folder = refuse_overwrite(output, overwrite, made_of=CONFIG_FILE)
    inside = any(RunFolder(parent).exists() for parent in folder.absolute().parents)
    if inside or RunFolder(folder.parent).settings.exists():  # the latter: of a run that is not finished
        raise OutputError(
            f"{output} is in a run, whose vectors and scores are those of its own model; choose a folder elsewhere"
        )
    given = model if isinstance(model, EmbeddingModel) else EmbeddingModel.load(model, device)
    if not list_norms(given.net):
        raise InputError(f"adapt: the trunk {given.network.trunk} has no batch norms, so there is nothing to measure")
    paths = read_source(source, root, status=status).paths
    some = [paths[row] for row in np.sort(np.random.default_rng(0).permutation(len(paths))[:STATISTICS_IMAGES])]
    levels, preparation = find_grey_levels(some, progress, with_colour=False), given.preparation
    if preparation.white_level_16bit == WHITE_LEVEL:  # also of a model that was trained on images of 8 bits
        found = preparation.model_copy(update={"white_level_16bit": "auto"})
        levels.report(found)
        preparation = levels.resolve(found)
    else:
        levels.report_for_model(preparation)
    images = _prepare(some, preparation)
    if len(images) < LEAST_STATISTICS:
        first = next((f", such as {some[row]}: {why}" for row, why in images.faults.items()), "")
        raise InputError(
            f"adapt: expected at least {LEAST_STATISTICS} images that can be read; found {len(images)} of "
            f"{len(some)}{first}; without adapting, embed them with the model as it is"
        )
    training = given.training | {"adapted_to": len(images)}
    adapted = replace(given, net=deepcopy(given.net), preparation=preparation, training=training)
    adapt_statistics(adapted, images)
    if adapted.preparation.background == "border":
        adapted.training[SHARE_DARK] = round(share_dark(*images.batch(slice(None))), 3)
    before = re.sub(r"\A---\n.*?\n---\n", "", given.card or str(given.generate_model_card()), flags=re.DOTALL).strip()
    before = re.sub(r"^(?=#+ )", "##", before, flags=re.MULTILINE)  # below the headings of its own card
    own_card = str(replace(adapted, card="").generate_model_card())
    adapted.card = own_card + CARD.format(n=f"{len(images):,}", hash=given.hash, card=before + "\n")
    adapted.save(folder)
    logger.info("adapted to %d of %d images: %s", len(images), len(paths), folder)
    return adapted


def _prepare(paths: Sequence[str], preparation: PreparationSettings) -> PreparedImages:
    """Prepare images in memory; those that cannot be read are not among the rows."""
    parts = list(map_chunks(partial(prepare_batch, settings=preparation), paths))
    faults = {start + row: why for start, part in zip(count(0, CHUNK), parts) for row, why in part.faults.items()}
    rows = np.delete(np.arange(len(paths)), list(faults))
    pixels, background, size = (np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)
    return PreparedImages(pixels, background, size, rows, faults)
