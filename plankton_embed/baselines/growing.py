"""System A's data steps on arrays: drop classes, cap large ones, grow small ones after the split, cluster centroids."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter, ImageOps

from plankton_embed.baselines.net_batches import Codes, Pixels
from plankton_embed.baselines.net_classifier import check_images, check_labels
from plankton_embed.classifiers.calibrated import hold_out
from plankton_embed.errors import InputError, SettingError, needs_extra
from plankton_embed.images.balance import draw_per_class


def _quarter_turn(image: Image.Image) -> Image.Image:
    turned = image.transpose(Image.Transpose.ROTATE_90)
    return turned if turned.size == image.size else turned.resize(image.size, Image.Resampling.BICUBIC)


PASSES: dict[str, Callable[[Image.Image], Image.Image]] = {  # in A's order
    "mirror": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "blur": lambda image: image.filter(ImageFilter.BLUR),
    "quarter turn": _quarter_turn,
    "smooth": lambda image: image.filter(ImageFilter.SMOOTH),
    "detail": lambda image: image.filter(ImageFilter.DETAIL),
    "sharpen": lambda image: image.filter(ImageFilter.SHARPEN),
}


@dataclass(frozen=True)
class Examples:
    """Images uint8 (n, height, width[, 3]), their labels (n,), and the row (n,) of the image each was made from."""

    images: Pixels
    labels: NDArray[Any]
    sources: Codes

    def __len__(self) -> int:
        return len(self.images)


def drop_classes(labels: ArrayLike, classes: Collection[Any] = ()) -> Codes:
    """Return the rows of images whose label is not one of the listed classes.

    Args:
        labels: (n,) class names, None or nan where missing.
        classes: names to drop; A dropped artefacts.

    Raises:
        SettingError: no image has one of the classes.
    """
    names = pd.Series(np.asarray(labels, dtype=object))
    missing = [name for name in classes if not (names == name).any()]
    if missing:
        raise SettingError(
            f"classes: no image has the class {missing}; the classes are {list(names.dropna().unique())}"
        )
    return np.flatnonzero((names.notna() & ~names.isin(list(classes))).to_numpy())


def cap_classes(labels: ArrayLike, most: int = 20_000, seed: int = 0) -> Codes:
    """Return the rows, ascending, of at most `most` randomly drawn images of every class.

    Args:
        labels: (n,) class names.
        most: maximum number of images of a class; by default A's 20,000.
        seed: same seed, same part.
    """
    if most < 1:
        raise SettingError(f"most: expected at least 1; found {most!r}")
    names = check_labels(labels)
    return draw_per_class(names, most, np.random.default_rng(seed))


def grow_classes(images: ArrayLike, labels: ArrayLike, least: int = 1000) -> Examples:
    """Grow small classes by A's seven passes: mirror, upside down, blur, quarter turn, smooth, detail, sharpen.

    Each pass doubles every class that has fewer than `least` images at that moment: changed copies of all its images,
    with those of earlier passes, are added at the end. A class of 12 grows to 1,536, one of 600 to 1,200. The quarter
    turn of an image that is not square is resized to the old shape.

    Use it on the training part only, and give `fit` validation images that were separated before: copies of test images
    make scores too high (see `divide_and_grow`), and copies of validation images let a net train too long.

    Args:
        images: uint8 (n, height, width) or (n, height, width, 3).
        labels: (n,) class names.
        least: the limit; by default A's 1000.

    Returns:
        The images first, then the grown ones; `sources` are rows of `images`.
    """
    if least < 1:
        raise SettingError(f"least: expected at least 1; found {least!r}")
    examples = _take(images, labels)
    for change in PASSES.values():
        _, codes, sizes = np.unique(examples.labels, return_inverse=True, return_counts=True)
        rows = np.flatnonzero(sizes[codes] < least)
        if not len(rows):
            break
        changed = np.stack([np.asarray(change(Image.fromarray(examples.images[row]))) for row in rows])
        examples = Examples(
            np.concatenate([examples.images, changed]),
            np.concatenate([examples.labels, examples.labels[rows]]),
            np.concatenate([examples.sources, examples.sources[rows]]),
        )
    return examples


def divide_and_grow(
    images: ArrayLike,
    labels: ArrayLike,
    test_fraction: float = 0.2,
    least: int = 1000,
    seed: int = 0,
    *,
    leak: bool = False,
) -> tuple[Examples, Examples]:
    """Divide images, stratified by class, and grow the small classes of the training part.

    `leak=True` repeats the error of system A, which grew the classes first and divided afterwards: copies of one image
    are then in both parts, and a net that memorises training images scores well on test images. Its purpose is to
    measure how much too high such scores are; never choose a model by them.

    Args:
        images: uint8 (n, height, width) or (n, height, width, 3).
        labels: (n,) class names.
        test_fraction: share of the test part, above 0 and below 1; every class keeps a training image.
        least: see `grow_classes`.
        seed: same seed, same split.
        leak: grow before dividing.

    Returns:
        The training and the test part; `sources` are rows of `images`.
    """
    if not 0 < test_fraction < 1:
        raise SettingError(f"test_fraction: expected between 0 and 1; found {test_fraction!r}")
    whole = grow_classes(images, labels, least) if leak else _take(images, labels)
    _, codes = np.unique(whole.labels, return_inverse=True)
    is_test = hold_out(codes, test_fraction, seed)
    train, test = (
        Examples(whole.images[side], whole.labels[side], whole.sources[side]) for side in (~is_test, is_test)
    )
    if leak:
        return train, test
    grown = grow_classes(train.images, train.labels, least)
    return Examples(grown.images, grown.labels, train.sources[grown.sources]), test


def cluster_centroids(images: ArrayLike, labels: ArrayLike, seed: int = 0) -> tuple[Pixels, NDArray[Any]]:
    """Reduce every class to the size of the smallest by k-means: it is replaced by the mean images of as many clusters.

    The results are mean images and have no source. This is imbalanced-learn's `ClusterCentroids`; its time and memory
    grow with the number of clusters, so grow the small classes and cap the large ones first.

    Args:
        images: uint8 (n, height, width) or (n, height, width, 3).
        labels: (n,) class names.
        seed: seed of the first centres of the clusters.

    Returns:
        Images and labels.

    Raises:
        DependencyError: imbalanced-learn (the extra `balance`) is not installed.
    """
    with needs_extra("ClusterCentroids", "balance"):
        from imblearn.under_sampling import ClusterCentroids
    examples = _take(images, labels)
    flat = examples.images.reshape(len(examples), -1).astype(np.float32)
    sampler = ClusterCentroids(voting="soft", random_state=seed)
    means, names = sampler.fit_resample(flat, examples.labels)
    pixels = np.rint(np.clip(means, 0, 255)).astype(np.uint8)
    return pixels.reshape(-1, *examples.images.shape[1:]), np.asarray(names)


def _take(images: ArrayLike, labels: ArrayLike) -> Examples:
    pixels, names = check_images(images), check_labels(labels)
    if len(pixels) != len(names):
        raise InputError(f"expected one label for each image; found {len(pixels)} images and {len(names)} labels")
    return Examples(pixels, names, np.arange(len(pixels)))
