"""The overview: data, settings, model, scores, training, and what a reader should not trust."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from plankton_embed.page.analysis_tables import list_values
from plankton_embed.page.doubts import find_doubts
from plankton_embed.page.images import PageImages
from plankton_embed.page.run_facts import RunFacts

SPLITS = ("train", "val", "test")
METRICS = ("accuracy", "balanced_accuracy", "f1_macro")
CURVES = {
    "loss": "loss",
    "centroid_accuracy": "accuracy by centroid, val",
    "knn_accuracy": "accuracy by kNN, val",
    "within_distance": "distance within classes",
    "between_distance": "distance between classes",
    "effective_rank": "directions in use",
}  # columns of history.csv -> what they show


def build_overview(images: PageImages, run: RunFacts | None = None) -> dict[str, Any]:
    """Return what the overview shows.

    Args:
        images: of the page.
        run: what the files of the run contain; None for the vectors of a file.

    Returns:
        `data` (`facts`, pairs of text, and `classes`: `label`, `n` and the number in each split); `model` (pairs);
        `settings` (pairs); `scores` (`of`, `methods`, `notes`, `retrieval`), None without; `history` (`epoch`,
        `curves`), None without; `by_rank` (rows), None without; `doubts` (`text`, and `rows`, images to look at).
    """
    doubts, run = find_doubts(images, run), run or RunFacts()
    return {
        "data": {"facts": _describe_data(images, run), "classes": _count_classes(images)},
        "model": _describe_model(images, run),
        "settings": [[name, _write(value)] for name, value in run.settings.items()],
        "scores": _list_scores(run) if run.methods else None,
        "history": _list_curves(run.history),
        "by_rank": None if run.by_rank is None else _list_rows(run.by_rank),
        "doubts": doubts,
    }


def _describe_data(images: PageImages, run: RunFacts) -> list[list[str]]:
    labels = images.label_index
    facts = [["images", f"{len(images):,}"], ["classes", f"{len(images.classes):,}"]]
    names, counts = np.unique(images.split.astype(str), return_counts=True)
    facts += [[split, f"{counts[names == split][0]:,}"] for split in SPLITS if split in names]
    if (labels < 0).any():
        facts.append(["without a label", f"{(labels < 0).sum():,}"])
    if n_samples := len({name for name in images.table.sample_id if name is not None}):
        facts.append(["samples", f"{n_samples:,}"])
    if group_by := run.settings.get("split.group_by"):
        facts.append(["kept in one split", f"images of the same {group_by}"])
    return facts


def _describe_model(images: PageImages, run: RunFacts) -> list[list[str]]:
    table = images.table
    facts = [["vectors", f"{table.dimension} numbers"]]
    if table.model_hash:
        facts.append(["model", table.model_hash])
    network, training = run.model.get("network", {}), run.model.get("training", {})
    if network:
        facts.append(["network", str(network["trunk"])])
        started = str(network.get("weights", "none"))
        facts.append(["started from", "random weights" if started == "none" else started])
        facts.append(["trained", "the last layer only" if network.get("frozen") else "all layers"])
    if "n_images" in training:
        facts.append(["training images", f"{training['n_images']:,}"])
    if "best_epoch" in training:
        facts.append(["best epoch", str(training["best_epoch"])])
    if side := run.model.get("preparation", {}).get("target_size"):
        facts.append(["input", f"{side} × {side} px"])
    if views := run.model.get("views"):
        facts.append(["views of an image", str(views)])
    return facts


def _count_classes(images: PageImages) -> list[dict[str, Any]]:
    labels, n = images.label_index, len(images.classes)
    splits = [name for name in SPLITS if (images.split == name).any()]
    counts = {name: np.bincount(labels[(labels >= 0) & (images.split == name)], minlength=n) for name in splits}
    total = np.bincount(labels[labels >= 0], minlength=n)
    return [
        {"label": name, "n": int(total[code]), **{split: int(counts[split][code]) for split in splits}}
        for code, name in enumerate(images.classes)
    ]


def _list_scores(run: RunFacts) -> dict[str, Any]:
    scores, methods, notes = run.scores, [], []
    for name, found in run.methods.items():
        row = {"method": name, "ece": found.get("calibration", {}).get("ece")}
        for metric in METRICS:
            low, high = (found.get("intervals_95") or {}).get(metric, (None, None))
            row |= {metric: found.get(metric), f"{metric}_low": low, f"{metric}_high": high}
        methods.append(row)
        if shared := found.get("shared_classes"):
            n, accuracy = shared["n_images"], shared["accuracy"]
            notes.append(f"{name}: accuracy {accuracy:.3f} for the {n:,} images whose label is in train")
    of = f"{scores['n_images']:,} labelled images of {scores['split']}, predicted from {scores['n_train']:,} of train"
    retrieval = {name: value for name, value in scores.get("retrieval", {}).items() if value is not None}
    return {"of": of, "methods": methods, "notes": notes, "retrieval": retrieval}


def _list_curves(history: pd.DataFrame | None) -> dict[str, Any] | None:
    if history is None or not len(history) or "epoch" not in history:
        return None
    curves = [
        {"name": title, "values": list_values(history[name])}
        for name, title in CURVES.items()
        if name in history and history[name].notna().any()
    ]
    return {"epoch": list_values(history["epoch"]), "curves": curves} if curves else None


def _list_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {str(name): list_values(frame[name]) for name in frame}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _write(value: Any) -> str:
    """Return a setting as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_write, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
