"""The images to label next, for the page; they follow decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from plankton_embed.analysis.labelling import REASONS, LabellingQueue
from plankton_embed.page.images import PageImages

N_SHOWN = 300  # images of the queue on a page that is a file, where it does not follow decisions
N_LIVE = 100  # after each decision


class PageQueue:
    """The images of a page to label next; labels change with `change`.

    Args:
        images: of the page. All labels count, also those of images that are not in the reference.
        n_images: images that `describe` returns at most.
    """

    def __init__(self, images: PageImages, n_images: int = N_LIVE) -> None:
        self._queue = LabellingQueue(images.table.vectors, images.label_index)
        self._n_images = n_images

    def change(self, rows: ArrayLike, label_index: ArrayLike) -> None:
        """Take over new labels (see `LabellingQueue.change`): -1 for none, -2 for images that are not to be shown."""
        self._queue.change(rows, label_index)

    def describe(self) -> dict[str, Any]:
        """Return the queue as the page shows it.

        Returns:
            `rows`, `group` (number of each image's group, from 1), `reason` (its index in REASONS), `guess` and
            `second` (class indices, -1 for none).
        """
        chosen = self._queue.next(self._n_images)
        reason = np.array([REASONS.index(name) for name in chosen.reason], dtype=np.uint8)
        return {
            "rows": chosen.rows, "group": chosen.group, "reason": reason, "guess": chosen.guess,
            "second": chosen.second,
        }  # fmt: skip


def build_queue(images: PageImages, *, n_images: int = N_SHOWN) -> dict[str, Any] | None:
    """Return the images to label next (see `PageQueue.describe`); None if every image has a label."""
    if images.table.is_labelled.all():
        return None
    return PageQueue(images, n_images).describe()
