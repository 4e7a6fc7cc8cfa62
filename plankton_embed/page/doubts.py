"""What a reader should not trust, as far as the vectors and the files of a run show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.page.images import PageImages
from plankton_embed.page.run_facts import RunFacts

FEW_TRAINING, FEW_SCORED = 20, 10  # images of a class
BAD_ECE = 0.1
WIDE = 0.1  # of the interval of an accuracy; of the gap between accuracy and balanced accuracy
N_NAMED = 8  # classes that a warning lists

Doubt = tuple[str, Sequence[int] | NDArray[np.intp]]


def find_doubts(images: PageImages, run: RunFacts | None) -> list[dict[str, Any]]:
    """Return what a reader should not trust: `text`, and `rows` of images to look at, where there are some.

    Args:
        images: of the page.
        run: what the files of the run contain; None for the vectors of a file.
    """
    if run is None:
        found = [*_doubt_file(images), *_doubt_classes(images, RunFacts())]
    else:
        of_scores = [*_doubt_scores(images, run), *_doubt_splits(images, run)]
        found = [*of_scores, *_doubt_classes(images, run), *_doubt_files(images, run)]
    found += _doubt_labels(images)
    return [{"text": text, "rows": np.asarray(rows, dtype=np.int32)} for text, rows in found]


def _doubt_file(images: PageImages) -> Iterator[Doubt]:
    if images.reference.any():
        yield (
            "These are vectors of a file: there are no scores. Guesses of labelled images, and their confusion, are "
            "made from the other images of the file. They show how well classes are separated, not how well new images "
            "are predicted.",
            [],
        )
    else:
        yield "No image has a label: there are no guesses.", []


def _doubt_scores(images: PageImages, run: RunFacts) -> Iterator[Doubt]:
    scores, methods = run.scores, run.methods
    if not methods:
        n = int((images.table.is_labelled & (images.split != "train")).sum())
        why = f"scores.json is missing, though {n:,} images" if n else "no labelled images"
        yield f"There are no scores: {why} outside train{' have labels (see evaluate)' if n else ''}.", []
        return
    first = next(iter(methods.values()))
    if scores["split"] == "val":
        yield "The scores are those of val, on which the best epoch was chosen: they are too high.", []
    if intervals := first.get("intervals_95"):
        low, high = intervals["accuracy"]
        if high - low > WIDE:
            yield f"Few images were scored ({scores['n_images']:,}): the accuracy may be {low:.2f} or {high:.2f}.", []
    else:
        yield f"The scores have no intervals: {first.get('no_intervals', 'there are none in scores.json')}.", []
    if n_seen := scores.get("n_seen", 0):
        yield (
            f"{n_seen:,} of the {scores['n_images']:,} scored images were training images of the model, or of the "
            "model that it started from: the scores are too high.",
            [],
        )
    elif n_seen is None:
        yield (
            "It is not known which images the starting weights of the model were trained on: if scored images are "
            "among them, the scores are too high.",
            [],
        )
    errors = {name: of["calibration"]["ece"] for name, of in methods.items() if "calibration" in of}
    if not errors:
        yield "No calibration set (labelled images in val, beside test): predictions have no probabilities.", []
    elif max(errors.values()) > BAD_ECE:
        worst = max(errors, key=lambda name: errors[name])
        yield f"Probabilities by {worst} differ from the share of right predictions by {errors[worst]:.2f}.", []
    gap = first["accuracy"] - first["balanced_accuracy"]
    if gap > WIDE:
        yield f"Balanced accuracy is {gap:.2f} lower than accuracy: rare classes are predicted worse.", []


def _doubt_splits(images: PageImages, run: RunFacts) -> Iterator[Doubt]:
    split, samples = run.scores.get("split"), images.table.sample_id
    known = np.array([name is not None for name in samples], dtype=bool)
    scored = set(samples[known & (images.split == split)])
    shared = scored & set(samples[known & (images.split == "train")])
    if shared:
        yield (
            f"{len(shared):,} of the {len(scored):,} samples with scored images have images in train too. Images of a "
            "new sample may be predicted worse (--group-by sample_id keeps each sample in one split).",
            [],
        )
    if "train" not in images.split:
        yield (
            "There are no vectors of train. Guesses of labelled images, and their confusion, are made from the other "
            "images of this page. They show how well classes are separated, not how well new images are predicted.",
            [],
        )
    else:
        yield (
            "Images of train are nearer to their class means than new images, because the vectors were fitted to their "
            "labels. On the map, judge the separation of classes by val and test.",
            [],
        )


def _doubt_classes(images: PageImages, run: RunFacts) -> Iterator[Doubt]:
    labels, classes = images.label_index, images.classes
    counts = np.bincount(labels[images.reference], minlength=len(classes)).tolist()
    kind = "training images" if "train" in images.split else "labelled images"
    if few := [(name, n) for name, n in zip(classes, counts, strict=True) if 0 < n < FEW_TRAINING]:
        yield f"{_count(few)} with fewer than {FEW_TRAINING} {kind}: {_list(few)}.", []
    if gone := [name for name, n in zip(classes, counts, strict=True) if n == 0]:
        rows = _find_rows(images, gone)
        yield f"{_count(gone)} without a training image, so never predicted: {_list([(name,) for name in gone])}.", rows
    of_class = run.scores.get("knn", {}).get("per_class", [])
    if scored := [(row["label"], row["support"]) for row in of_class if 0 < row["support"] < FEW_SCORED]:
        yield f"{_count(scored)} scored on fewer than {FEW_SCORED} images: {_list(scored)}.", []
    if never := [(row["label"], row["support"]) for row in of_class if row["support"] > 0 and not row["recall"]]:
        rows = _find_rows(images, [name for name, _ in never])
        rows = rows[images.split[rows] == run.scores["split"]]
        yield f"{_count(never)} of which kNN predicted no image right: {_list(never)}.", rows


def _doubt_files(images: PageImages, run: RunFacts) -> Iterator[Doubt]:
    row_of = {name: row for row, name in enumerate(images.table.object_id.tolist())}
    if run.near_copies is not None and len(run.near_copies):
        ids = run.near_copies[["object_id", "copy_object_id"]].to_numpy(dtype=object).ravel()
        yield (
            f"{_count(run.near_copies, 'image', 's')} of val and test with a near-copy in another split: if both show "
            "the same animal, the scores are too high.",
            list(dict.fromkeys(row_of[name] for name in ids if name in row_of)),
        )
    if run.contradictions:
        rows = [row_of[name] for name in run.contradictions if name in row_of]
        yield f"{_count(run.contradictions, 'image', 's')} with a copy that has another label.", rows
    if run.n_lost:
        yield f"Left out because they cannot be read (see faults.csv): {run.n_lost:,} images, rows or files.", []


def _doubt_labels(images: PageImages) -> Iterator[Doubt]:
    n = int((images.label_index < 0).sum())
    if 0 < n < len(images):
        yield f"{n:,} of {len(images):,} images without a label: they are in no score.", []


def _find_rows(images: PageImages, names: Sequence[str]) -> NDArray[np.intp]:
    return np.flatnonzero(np.isin(images.table.label.astype(str), names))


def _count(items: Any, one: str = "class", ending: str = "es") -> str:
    return f"{len(items):,} {one}" if len(items) == 1 else f"{len(items):,} {one}{ending}"


def _list(items: Sequence[tuple[Any, ...]]) -> str:
    """Return the first names of a list, each with its number in brackets, if it has one."""
    ordered = sorted(items, key=lambda item: item[1] if len(item) > 1 else 0)
    names = [f"{item[0]} ({item[1]:.0f})" if len(item) > 1 else str(item[0]) for item in ordered[:N_NAMED]]
    return ", ".join(names) + (", …" if len(ordered) > N_NAMED else "")
