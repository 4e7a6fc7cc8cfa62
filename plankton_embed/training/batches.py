"""P x K batches: P classes, K images of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plankton_embed.images.balance import EpochPlan


def compose_batches(
    plan: EpochPlan, classes_per_batch: int, images_per_class: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cut an epoch into batches that hold each class at most once.

    Every image of the plan is shown exactly once. Where the classes outnumber `classes_per_batch`, batches hold that
    many or a little fewer, so that none is left nearly empty at the end.

    Args:
        plan: the images of the epoch, equally many of each class.
        classes_per_batch: P; all classes when there are fewer.
        images_per_class: K; the last group of a class is smaller where K does not divide its images.
        rng: the source of chance.

    Returns:
        (rows, views) of each batch.
    """
    n_classes, n_images = plan.rows.shape
    n_groups = -(-n_images // images_per_class)
    n_batches = max(n_groups, -(-n_classes * n_groups // classes_per_batch))
    groups_left = np.full(n_classes, n_groups)
    shown = np.zeros(n_classes, dtype=int)
    batches = []
    for size in (len(part) for part in np.array_split(np.arange(n_classes * n_groups), n_batches)):
        # the classes with most groups left go first; chance settles ties
        chosen = np.lexsort(np.stack([rng.random(n_classes), -groups_left]))[:size]
        spans = [(c, slice(shown[c], shown[c] + images_per_class)) for c in chosen]
        batches.append(
            (np.concatenate([plan.rows[c, s] for c, s in spans]), np.concatenate([plan.views[c, s] for c, s in spans]))
        )
        groups_left[chosen] -= 1
        shown[chosen] += images_per_class
    return batches
