"""Prepared pixels, written once to memory-mapped files, keyed by image content and preparation settings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError, OutputError
from plankton_embed.images.containers import image_exists
from plankton_embed.images.grey_levels import resolve_white_level
from plankton_embed.images.preparation import prepare_batch
from plankton_embed.images.workers import map_chunks
from plankton_embed.output import progress_bar, write_json
from plankton_embed.settings import PreparationSettings, SizeInputs

LAYOUT_VERSION = "4"  # increase when preparation or the files change
READY, FAULTY = 1, 2  # 0: not prepared yet


@dataclass(frozen=True)
class PreparedImages:
    """Prepared images, in the order of their catalog.

    `pixels` uint8 (m, T, T, channels), memory-mapped; `background` uint8 (m, channels); `size` int32 (m, 2), original
    width and height; `rows` int (n,): the selected rows of these m. `faults`: row -> reason, for images that could not
    be prepared (their pixels are meaningless). `pixel_size` float32 (m,): µm per pixel, where known.
    """

    pixels: NDArray[np.uint8]
    background: NDArray[np.uint8]
    size: NDArray[np.int32]
    rows: NDArray[np.int64]
    faults: dict[int, str]
    pixel_size: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the pixels as the name of their file, which the other process opens too."""
        file = {"pixels": Path(str(self.pixels.filename))} if isinstance(self.pixels, np.memmap) else {}
        return {**self.__dict__, **file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file of the pixels; InputError if it is not there."""
        if isinstance(file := state["pixels"], Path):
            try:
                state = {**state, "pixels": np.load(file, mmap_mode="r")}
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{file}, the prepared images that another process has written, cannot be read: {error}; set "
                    "PLANKTON_EMBED_CACHE to a folder that all processes can read"
                ) from error
        self.__dict__.update(state)

    def batch(self, positions: NDArray[np.integer] | slice) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return copies of the pixels (b, T, T, channels) and backgrounds (b, channels) at these positions."""
        rows = self.rows[positions]
        return self.pixels[rows], self.background[rows]

    def log_sides(self, size_inputs: SizeInputs) -> NDArray[np.float32]:
        """Return `log_sides` of these images (n, 2)."""
        pixel_size = None if self.pixel_size is None else self.pixel_size[self.rows]
        return log_sides(self.size[self.rows], size_inputs, pixel_size)

    def select(self, mask: NDArray[Any]) -> PreparedImages:
        """Keep the positions of a boolean mask or of numbers; the pixels are not copied."""
        return replace(self, rows=self.rows[mask])


def log_sides(
    size: NDArray[np.integer], size_inputs: SizeInputs, pixel_size: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Return the size inputs of a network: float32 (n, 2), log(side / 100) of both sides, the longer side first.

    Args:
        size: (n, 2) width and height, pixels.
        size_inputs: unit of the sides, `pixels` or `micrometres`; `none` is as `pixels`.
        pixel_size: (n,) µm per pixel, for sides in µm.

    Raises:
        InputError: the unit is µm, and an image has no pixel size above 0.
    """
    sides = np.sort(size, axis=1)[:, ::-1].astype(float)
    if size_inputs == "micrometres":
        scale = np.zeros(len(size)) if pixel_size is None else np.asarray(pixel_size, dtype=float)
        n_missing = int((~(np.isfinite(scale) & (scale > 0))).sum())
        if n_missing:
            raise InputError(
                "side lengths in µm (network.size_inputs) need a pixel size above 0 for every image: expected a column "
                f"pixel_size (µm per pixel), found none for {n_missing} of {len(scale)} images"
            )
        sides *= scale[:, None]
    return np.log(sides / 100).astype(np.float32)


def cache_folder() -> Path:
    """Return the folder of prepared pixels: $PLANKTON_EMBED_CACHE, or plankton_embed in the user's cache folder."""
    named = os.environ.get("PLANKTON_EMBED_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plankton_embed"


def prepare_images(
    paths: Sequence[str],
    hashes: Sequence[str | None],
    settings: PreparationSettings,
    *,
    cache: str | Path | None = None,
    progress: bool = True,
) -> PreparedImages:
    """Prepare every image on all cores, or open the prepared ones if they exist.

    The files are keyed by the pixels of the images (not their names) and by the settings, so runs share them and they
    are never out of date. If it is stopped, it continues there the next time.

    Args:
        paths: image files.
        hashes: their content hashes (`catalog.content_hashes`).
        settings: the preparation; a white level `auto` is found from these images.
        cache: folder of the files; by default `cache_folder()`.
        progress: show a progress bar.

    Raises:
        OutputError: the cache cannot be written, or the disk is too small.
    """
    settings = resolve_white_level(settings, paths, progress)
    key = hashlib.sha256("\n".join([LAYOUT_VERSION, settings.hash(), *(h or "-" for h in hashes)]).encode())
    folder = Path(cache or cache_folder()) / "prepared" / key.hexdigest()[:32]
    n, side, channels = len(paths), settings.target_size, settings.n_channels
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "pixels": ((n, side, side, channels), np.uint8),
        "background": ((n, channels), np.uint8),
        "size": ((n, 2), np.int32),
        "status": ((n,), np.uint8),
    }
    faults_path = folder / "faults.json"  # written last: if it exists, all images are prepared
    if not faults_path.exists():
        arrays = _open_arrays(folder, shapes)
        faults = _fill(paths, settings, arrays, progress)
        for array in arrays.values():
            array.flush()
        # an image that has disappeared since it was hashed is tried again the next time
        if all(hashes[row] is None or image_exists(paths[row]) for row in faults):
            write_json(faults_path, faults)
    else:
        faults = {int(row): reason for row, reason in json.loads(faults_path.read_text(encoding="utf-8")).items()}
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}
    return PreparedImages(
        arrays["pixels"], np.array(arrays["background"]), np.array(arrays["size"]), np.arange(n), faults
    )


def _open_arrays(folder: Path, shapes: dict[str, tuple[tuple[int, ...], Any]]) -> dict[str, np.memmap[Any, Any]]:
    """Open the files of an interrupted preparation, or create new ones."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        begun = (folder / "status.npy").exists()  # created last: if it exists, the other files are complete
        needed = int(np.prod(shapes["pixels"][0], dtype=np.int64))
        if not begun and needed > (free := shutil.disk_usage(folder).free):
            raise OutputError(
                f"{folder} needs {needed / 1e9:.1f} GB for prepared images; {free / 1e9:.1f} GB are free. "
                "Set another folder with the environment variable PLANKTON_EMBED_CACHE."
            )
        arrays = {}
        for name, (shape, dtype) in shapes.items():
            mode = "r+" if begun else "w+"
            arrays[name] = np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode, shape=shape, dtype=dtype)
        return arrays
    except OSError as error:
        raise error if isinstance(error, OutputError) else OutputError(f"cannot write {folder}: {error}") from error


def _fill(
    paths: Sequence[str], settings: PreparationSettings, arrays: dict[str, np.memmap[Any, Any]], progress: bool
) -> dict[int, str]:
    """Prepare the images that are not ready yet; return the faults."""
    faults: dict[int, str] = {}
    rows = np.flatnonzero(arrays["status"] != READY).tolist()
    done = 0
    with progress_bar(len(rows), "preparing", "image", shown=progress) as bar:
        for batch in map_chunks(partial(prepare_batch, settings=settings), [paths[row] for row in rows]):
            here = rows[done : done + len(batch.size)]
            for name in ("pixels", "background", "size"):
                arrays[name][here] = getattr(batch, name)
            faults.update({here[position]: why for position, why in batch.faults.items()})
            arrays["status"][here] = [FAULTY if position in batch.faults else READY for position in range(len(here))]
            done += len(here)
            bar.update(len(here))
    return faults
