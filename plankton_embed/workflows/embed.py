"""`embed`: turn images into vectors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plankton_embed.embedding import embed_source
from plankton_embed.errors import InputError, OutputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_shards import CatalogParts, CatalogShards
from plankton_embed.images.readers.source import read_source
from plankton_embed.jobs import Engine, Job, check_folder_options, refuse_overlap
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import refuse_overwrite, write_frames
from plankton_embed.settings import Compile, Precision
from plankton_embed.shards import FAULTS_FILE, is_shards
from plankton_embed.table import SEEN, TABLE_SUFFIXES, EmbeddingTable, read_provenance
from plankton_embed.vector_shards import VectorShards

if TYPE_CHECKING:
    from plankton_embed.workflows.inputs import Source  # needs scikit-learn, which is slow to import

logger = logging.getLogger(__name__)


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
    engine: Engine = "local",
    address: str | None = None,
    n_workers: int | None = None,
    part_size: int | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> EmbeddingTable | VectorShards:
    """Embed the images of a catalog, a folder, or a list of image files.

    Images that cannot be read are left out; a warning counts them, and `provenance["faults"]` lists each with its
    reason. Images of more than 8 bits use the white level of the model; a warning reports images that it does not fit.
    A warning reports images whose polarity (dark or light background) is not that of the training images. Images that
    the model was trained on have True in the column `seen`. To embed PIL images or arrays, call `model.embed`.

    If the output is a folder, the images are embedded in parts, and the vectors of each part are one Parquet file
    (shard) of it. The same call continues a job that was stopped, with the parts that are missing. Images that cannot
    be read are rows of `faults.csv` in the folder.

    Args:
        model: a model, or its folder, its run, its name in `models`, or its name on the Hugging Face hub.
        source: a catalog or its file, a folder of Parquet catalogs (shards), a folder of images, or a list of image
            files (whose paths become the ids).
        output: file to write, `.parquet`, `.csv` or `.npz`; or a folder, whose name has no suffix.
        root: where the relative paths of a catalog file start.
        status: for sources with a status (EcoTaxa, challenge sets): the statuses whose class names are used as
            labels, such as `validated,predicted`; by default `validated`.
        views: views of each image to average (test-time augmentation): 1, 2, 4 or 8; by default the model's own.
        batch_size: images at a time; by default chosen by their size and the device.
        precision: `auto` (bfloat16 if the device computes fast with it) or `float32`.
        compile: compile the network first: `on`, `off`, or `auto` (from 300,000 images on, where it pays).
        engine: for a folder as output: `local`, one part after the other in this process; or `ray`, on all machines of
            a Ray cluster, which needs the extra `scale`, and a file system that all machines share.
        address: of the Ray cluster; by default the one that this machine is in, else this machine alone.
        n_workers: processes of Ray that embed; by default one for each GPU, else one for each four cores.
        part_size: images of a part; by default a hundredth of all, at least 500 and at most 100,000.
        overwrite: replace the output.
        device: where to compute if `model` is a name.
        progress: show a bar.

    Returns:
        The table; if the output is a folder, the `VectorShards` in it.

    Raises:
        InputError: there are no images, or none can be read; or the model needs pixel sizes and the catalog has none.
        SettingError: an option for a folder is given with another output.
        OutputError: the folder contains something else, or the parts of other inputs; or it overlaps with the source.
        DependencyError: Ray is not installed.
    """
    options = {"views": views, "batch_size": batch_size, "precision": precision, "compile": compile}
    of_folder = {"engine": engine, "address": address, "n_workers": n_workers}
    if output is not None and check_folder_options(output, {**of_folder, "part_size": part_size}):
        refuse_overlap(output, [source, root], [model])
        catalog = _read_catalog(source, root, status)
        parts = CatalogParts.divide(catalog, part_size)
        return _embed_parts(model, parts, output, options, of_folder, overwrite, device, progress)
    if output is None:
        check_folder_options(None, {**of_folder, "part_size": part_size})
    else:
        refuse_overwrite(output, overwrite, TABLE_SUFFIXES)
    table = embed_source(model, source, root=root, status=status, **options, device=device, progress=progress)  # type: ignore[arg-type]
    if output is not None:
        table.save(output)
    return table


def _read_catalog(
    source: Source, root: str | Path | None, status: str | Sequence[str] | None
) -> ImageCatalog | CatalogShards:
    if not isinstance(source, str | Path) or not is_shards(source):
        return read_source(source, root, status=status)
    if status is not None:
        raise SettingError("status: it applies to images with a status; the source is a folder of Parquet catalogs")
    return CatalogShards.open(source, root)


@dataclass
class EmbedPart:
    """Embeds the images of a part of a catalog; `moves` the model to the device of a process first."""

    model: EmbeddingModel
    options: dict[str, Any]
    moves: bool

    def start(self, device: str) -> None:
        """Move the model to a device."""
        if self.moves:
            self.model.to(device)

    def __call__(self, part: ImageCatalog, path: Path) -> None:
        """Write the vectors of a part; its faults are in the provenance, as rows of `object_id`, `path` and reason."""
        table = embed_source(self.model, part, **self.options, progress=False, allow_empty=True)
        reasons = table.provenance.pop("faults", {})
        lost = part.frame[~part.frame["object_id"].isin(table.object_id)]
        faults = [[name, file, reasons[file]] for name, file in zip(lost["object_id"], lost["path"], strict=True)]
        columns = table.columns
        if len(self.model.seen) and SEEN not in columns:  # all parts have the same columns
            columns = {**columns, SEEN: np.zeros(len(table), dtype=bool)}
        provenance = {**table.provenance, **({"faults": faults} if faults else {})}
        replace(table, columns=columns, provenance=provenance).save(path)


def _embed_parts(
    model: EmbeddingModel | str | Path,
    parts: CatalogParts,
    output: str | Path,
    options: dict[str, Any],
    of_folder: dict[str, Any],
    overwrite: bool,
    device: str,
    progress: bool,
) -> VectorShards:
    """Embed a catalog in parts into a folder."""
    from plankton_embed.distributed import run_job

    is_own = isinstance(model, EmbeddingModel)
    loaded = model if isinstance(model, EmbeddingModel) else EmbeddingModel.load(model, "cpu")
    loaded.check_options(options["views"], options["precision"], options["compile"])
    loaded.choose_batch_size(options["batch_size"])
    if parts.n_images == 0:
        raise InputError("there are no images to embed")
    inputs = {
        "command": "embed",
        "images": parts.digest,
        "n_images": parts.n_images,
        "part_size": parts.part_size,
        "model": loaded.hash,
        "views": options["views"] or loaded.views,
        "precision": options["precision"],
    }
    if of_folder["engine"] == "ray" and is_own:
        loaded = deepcopy(loaded).to("cpu")  # other machines may have other devices
    work = EmbedPart(loaded, options, moves=not is_own or of_folder["engine"] == "ray")
    with Job.alone(output, inputs, len(parts.sizes), overwrite=overwrite) as job:
        run_job(job, work, parts.read, parts.sizes, "embedding", **of_folder, device=device, progress=progress)
        _finish(job, parts.sizes)
    return VectorShards.open(output, check_ids=False)  # those of the catalog were checked


def _finish(job: Job, sizes: Sequence[int]) -> None:
    """Check that every image is in its part or is a fault, write the faults, and complete the job."""
    import pandas as pd

    n_vectors, n_faults, first = 0, 0, None
    path = job.folder / FAULTS_FILE
    with write_frames(path) as write:
        write(pd.DataFrame(columns=["object_id", "path", "found", "part"], dtype=str))
        for number, size in enumerate(sizes):
            n, provenance = read_provenance(job.part(number))
            faults = pd.DataFrame(provenance.get("faults", []), columns=["object_id", "path", "found"], dtype=str)
            if n + len(faults) != size:
                raise OutputError(
                    f"{job.part(number)}: expected {size} images; found {n} vectors and {len(faults)} faults; delete "
                    "the file and run the command again"
                )
            first = first if first is not None or faults.empty else faults.iloc[0]
            n_vectors, n_faults = n_vectors + n, n_faults + len(faults)
            if len(faults):
                write(faults.assign(part=job.part(number).name))
    if n_faults == 0:
        path.unlink()
    elif n_vectors:
        logger.warning(
            "%d of %d images cannot be read and are left out, see %s; to try one again, delete its part and give the "
            "same command",
            *(n_faults, n_vectors + n_faults, path),
        )
    if first is not None and n_vectors == 0:
        raise InputError(f"none of the {n_faults} images can be read; {first['path']}: {first['found']}")
    job.finish(n_vectors=n_vectors, n_faults=n_faults)
