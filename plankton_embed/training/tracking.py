"""A log for TensorBoard: curves during the training, and the vectors in the projector at its end (extra: track)."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from plankton_embed.errors import needs_extra
from plankton_embed.training.history import EpochRecord

SPRITE_SIDE = 48  # pixels of a thumbnail in the projector
BLOCK = 1024  # images resized at a time
MOST_POINTS = (8192 // SPRITE_SIDE) ** 2  # the projector's sprite is at most 8192 pixels wide


class Tracker:
    """Writes to one log folder; a context manager. See `check_tensorboard`."""

    def __init__(self, folder: Path):
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def log_epoch(self, record: EpochRecord) -> None:
        """Add a point to every curve."""
        for name, value in asdict(record).items():
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def log_space(self, vectors: NDArray[np.floating], labels: list[str], pixels: NDArray[np.uint8]) -> None:
        """Show vectors (n, d), their labels and prepared pixels uint8 (n, T, T, channels) in the projector.

        Only the first `MOST_POINTS` images are shown.
        """
        blocks = torch.from_numpy(pixels[:MOST_POINTS]).permute(0, 3, 1, 2).split(BLOCK)  # type: ignore[no-untyped-call]
        small = [torch.nn.functional.interpolate(b.float() / 255, size=SPRITE_SIDE, mode="area") for b in blocks]
        thumbnails = torch.cat(small).expand(-1, 3, -1, -1)
        self._writer.add_embedding(
            torch.from_numpy(vectors[:MOST_POINTS]), labels[:MOST_POINTS], thumbnails, tag="space"
        )


def check_tensorboard() -> None:
    """Raise DependencyError where tensorboard is not installed."""
    with needs_extra("training.tensorboard", "track"):
        import torch.utils.tensorboard  # noqa: F401
