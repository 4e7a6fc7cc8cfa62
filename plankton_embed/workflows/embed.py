"""`embed`: turn images into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plankton_embed.embedding import embed_source
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import refuse_overwrite
from plankton_embed.settings import Compile, Precision
from plankton_embed.table import TABLE_SUFFIXES, EmbeddingTable

if TYPE_CHECKING:
    from plankton_embed.workflows.inputs import Source  # needs scikit-learn, which is slow to import


def embed(
    model: EmbeddingModel | str | Path,
    source: Source,
    output: str | Path | None = None,
    *,
    root: str | Path | None = None,
    status: str | Sequence[str] | None = None,
    views: int | None = None,
    batch_size: int | None = None,
    precision: Precision = "auto",
    compile: Compile = "auto",
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingTable:
    """Embed the images of a catalog, a folder, or a list of image files.

    Images that cannot be read are left out; a warning counts them, and `provenance["faults"]` lists each with its
    reason. Images of more than 8 bits use the white level of the model; a warning reports images that it does not fit.
    A warning reports images whose polarity (dark or light background) is not that of the training images. Images that
    the model was trained on have True in the column `seen`. To embed PIL images or arrays, call `model.embed`.

    Args:
        model: a model, or its folder, its run, its name in `models`, or its name on the Hugging Face hub.
        source: a catalog or its file, a folder of images, or a list of image files (whose paths become the ids).
        output: file to write, `.parquet`, `.csv` or `.npz`.
        root: where the relative paths of a catalog file start.
        status: for sources with a status (EcoTaxa, challenge sets): the statuses whose class names are used as
            labels, such as `validated,predicted`; by default `validated`.
        views: views of each image to average (test-time augmentation): 1, 2, 4 or 8; by default the model's own.
        batch_size: images at a time; by default chosen by their size and the device.
        precision: `auto` (bfloat16 if the device computes fast with it) or `float32`.
        compile: compile the network first: `on`, `off`, or `auto` (from 300,000 images on, where it pays).
        overwrite: replace the output.
        device: where to compute if `model` is a name.
        progress: show a bar.

    Raises:
        InputError: there are no images, or none can be read; or the model needs pixel sizes and the catalog has none.
    """
    if output is not None:
        refuse_overwrite(output, overwrite, TABLE_SUFFIXES)
    table = embed_source(
        model,
        source,
        root=root,
        status=status,
        views=views,
        batch_size=batch_size,
        precision=precision,
        compile=compile,
        device=device,
        progress=progress,
    )
    if output is not None:
        table.save(output)
    return table
