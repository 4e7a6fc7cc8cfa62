"""The batches of an epoch: P classes x K images, or random triplets; and their transfer to the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plankton_embed.images.augmentation import WHOLE
from plankton_embed.images.balance import EpochPlan, balance_epoch
from plankton_embed.images.store import PreparedImages
from plankton_embed.settings import TrainingSettings

BLOCK = 4096  # images copied to the device at a time

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]  # row numbers, and the view of each (see `EpochPlan`)


def plan_epoch(class_index: NDArray[np.integer], settings: TrainingSettings, rng: np.random.Generator) -> list[Batch]:
    """Return the batches of one epoch, according to the settings."""
    p, k = settings.classes_per_batch, settings.batch_images_per_class
    n_classes = int(class_index.max()) + 1
    n_images = settings.steps_per_epoch * min(p, n_classes) * k or n_classes * settings.images_per_class
    if settings.sampling == "random_triplets":
        n_batches = settings.steps_per_epoch or -(-n_images // (3 * p))
        return draw_triplets(class_index, n_batches, p, rng)
    return compose_batches(balance_epoch(class_index, n_images, rng, settings.sampling), p, k, rng)


def compose_batches(
    plan: EpochPlan, classes_per_batch: int, images_per_class: int, rng: np.random.Generator
) -> list[Batch]:
    """Cut an epoch into batches of P classes x K images, all of the same size, so that a network is compiled once.

    Every image of the plan is used, each class evenly over the epoch. Where the numbers do not divide, some images are
    used again: they fill up the last group of K images of their class (several times, if it has few), or are a further
    group of a class at random, so that the last batch has as many groups as the others. Where there are more classes
    than `classes_per_batch`, batches have that many or slightly fewer, so that few groups are added. A class is twice
    in a batch only where it has more groups than there are batches.

    Args:
        plan: the images of the epoch.
        classes_per_batch: P; all classes where there are fewer.
        images_per_class: K.
        rng: random generator.
    """
    n_classes = len(plan.rows)
    n_groups = np.array([-(-len(rows) // images_per_class) for rows in plan.rows])
    n_batches = -(-n_groups.sum() // min(classes_per_batch, n_classes))
    size = -(-n_groups.sum() // n_batches)  # in groups
    for _ in range(n_batches * size - n_groups.sum()):
        n_groups[rng.choice(np.flatnonzero(n_groups < n_batches))] += 1
    all_rows, all_views = (
        [np.resize(part, n * images_per_class) for part, n in zip(parts, n_groups, strict=True)]
        for parts in (plan.rows, plan.views)
    )
    groups_left = n_groups.copy()
    n_used = np.zeros(n_classes, dtype=int)
    batches = []
    for number in range(n_batches):
        # a class with more groups than there are batches left is in this batch more than once
        copies = np.maximum(np.minimum(groups_left, 1), -(-groups_left // (n_batches - number)))
        candidates = np.repeat(np.arange(n_classes), copies)
        nth_copy = np.arange(len(candidates)) - np.repeat(np.cumsum(copies) - copies, copies)
        # classes that lag go first, ties at random; before them the classes that must be in every batch left
        lag = (groups_left[candidates] - nth_copy - rng.random(len(candidates))) / n_groups[candidates]
        lag[nth_copy < groups_left[candidates] // (n_batches - number)] = np.inf
        rows, views = [], []
        for c in candidates[np.argsort(-lag)[:size]]:
            span = slice(n_used[c], n_used[c] + images_per_class)
            rows.append(all_rows[c][span])
            views.append(all_views[c][span])
            n_used[c] += images_per_class
            groups_left[c] -= 1
        batches.append((np.concatenate(rows), np.concatenate(views)))
    return batches


def draw_triplets(
    class_index: NDArray[np.integer], n_batches: int, n_triplets: int, rng: np.random.Generator
) -> list[Batch]:
    """Draw batches of random triplets: all anchors, then all positives, then all negatives.

    The class of the anchor is uniform over all classes, that of the negative over the others; images are uniform
    within their class, and anchor and positive may be the same image. (Source: plankton-siamese, 2019.)
    """
    members = [np.flatnonzero(class_index == c) for c in range(int(class_index.max()) + 1)]
    sizes = np.array([len(m) for m in members])
    order, first = np.concatenate(members), np.cumsum(sizes) - sizes
    batches = []
    for _ in range(n_batches):
        own = rng.integers(len(sizes), size=n_triplets)
        other = (own + rng.integers(1, len(sizes), size=n_triplets)) % len(sizes)
        classes = np.concatenate([own, own, other])
        rows = order[first[classes] + rng.integers(sizes[classes])]
        batches.append((rows, np.zeros(len(rows), dtype=np.int64)))
    return batches


class BatchFeed:
    """Gives batches on the device: from its own memory where all images fit there."""

    def __init__(
        self,
        images: PreparedImages,
        class_index: NDArray[np.integer],
        sides: NDArray[np.float32],
        device: torch.device,
    ):
        self._images, self._class_index, self._sides, self.device = images, class_index, sides, device
        self._pixels: Tensor | None = None
        if device.type == "cuda":
            n_bytes = len(images) * int(np.prod(images.pixels.shape[1:]))
            if n_bytes < torch.cuda.mem_get_info(device)[0] / 3:
                blocks = np.array_split(np.arange(len(images)), -(-len(images) // BLOCK))
                self._pixels = torch.cat([torch.from_numpy(images.batch(rows)[0]).to(device) for rows in blocks])

    def __call__(self, rows: NDArray[np.int64], part: slice = WHOLE) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return pixels float (b, channels, T, T), background float (b, channels), classes (b,), sides (b, 2).

        With a `part` of the batch: pixels, background and sides of its images; classes of the whole batch.
        """
        classes = self._move(self._class_index[rows])
        rows = rows[part]
        pixels = self._move(self._images.batch(rows)[0]) if self._pixels is None else self._pixels[self._move(rows)]
        background = self._move(self._images.background[self._images.rows[rows]])
        sides = self._move(self._sides[rows])
        return pixels.permute(0, 3, 1, 2).float(), background.float(), classes, sides

    def _move(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(array)
        pinned = tensor.pin_memory() if self.device.type == "cuda" else tensor
        return pinned.to(self.device, non_blocking=True)
