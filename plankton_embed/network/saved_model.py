"""Read from a saved model, without torch: its preparation, its classes, and the images that it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import content_hashes
from plankton_embed.network.model_card import CONFIG_FILE
from plankton_embed.network.pretrained import HUB, KEYWORDS, find_pretrained
from plankton_embed.settings import NetworkSettings, PreparationSettings
from plankton_embed.spreadsheet import simplify_label
from plankton_embed.table import UNKNOWN_START

WEIGHTS_FILE, SEEN_FILE = "model.safetensors", "training_images.npy"
EPOCHS_FOLDER = "checkpoints"  # of a run, with the weights of its epochs, and the origin of its model
EARLIER_CLASSES = "earlier_classes"  # in a model's facts about its training: other classes of the models before it


def is_own(folder: Path) -> bool:
    """Return whether the config.json of a folder is of a model of plankton_embed."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    groups = ("network", "preparation")
    return isinstance(config, dict) and "model_hash" in config and all(isinstance(config.get(n), dict) for n in groups)


def read_preparation(weights: str) -> PreparationSettings | None:
    """Return the preparation of the model that `network.weights` names; None if it is not a model of this package.

    Raises:
        InputError: it has settings that this release does not know.
    """
    config = _read_config(weights)
    try:
        return PreparationSettings.from_saved(config["preparation"]) if config else None
    except SettingError as error:
        raise InputError(
            f"network.weights: the preparation in the {CONFIG_FILE} of {weights} cannot be used: {error}\nA newer "
            "release may have written it: use that one, or start from another model"
        ) from error


def read_classes(weights: str | Path) -> list[str]:
    """Return the classes of the model that `network.weights` names, and of those that it started from, if known."""
    earlier = read_training(weights).get(EARLIER_CLASSES) or []
    return [str(name) for name in (*(_read_config(weights).get("classes") or []), *earlier)]


def find_known(classes: Iterable[str], weights: str | Path) -> list[str]:
    """Return those of these classes that the model of `network.weights` was trained on, by that or a similar name."""
    known = {simplify_label(name) for name in read_classes(weights)}
    return sorted(name for name in set(classes) if simplify_label(name) in known)


def read_training(weights: str | Path) -> dict[str, Any]:
    """Return the facts about the training of the model that `network.weights` names; none if they are not known."""
    return dict(_read_config(weights).get("training") or {})


def _read_config(weights: str | Path) -> dict[str, Any]:
    """Return the configuration of a saved model or run, or of its file of weights; an empty one if there is none."""
    path = _find_beside(weights, CONFIG_FILE)
    if path is None or not is_own(path.parent):
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")))


def read_seen(weights: str | Path) -> NDArray[np.uint64]:
    """Return the training images of a saved model or run, or of its file of weights; none where they are not known."""
    path = _find_beside(weights, SEEN_FILE)
    if path is None:
        return np.zeros(0, dtype=np.uint64)
    try:
        return np.asarray(np.load(path), dtype=np.uint64)
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a list of training images; copy the model again: {error}"
        ) from error


def is_forgetful(network: NetworkSettings) -> bool:
    """Return whether it is not known which images and classes the starting weights were trained on.

    Models of this package know it, unless their own start does not; another file, folder or repository may hold
    anything. The weights that torchvision and timm themselves publish count as known: they were not trained on images
    of this kind.
    """
    weights, trunk = network.weights, network.trunk.removeprefix("timm:")
    if weights == "hub" and trunk.startswith((HUB, "local-dir:")):
        weights = trunk
    if weights in KEYWORDS or weights.startswith(f"{HUB}timm/"):
        return False
    is_complete = bool(_read_config(weights)) and _find_beside(weights, SEEN_FILE) is not None
    return not is_complete or bool(read_training(weights).get(UNKNOWN_START))


def _find_beside(weights: str | Path, name: str) -> Path | None:
    """Return a file of a model, which is given by its name, its folder, its run, or a file of weights of these."""
    if weights in KEYWORDS:
        return None
    folder = find_pretrained(weights) or Path(weights)
    if folder.name == WEIGHTS_FILE:
        folder = folder.parent
    elif folder.parent.name == EPOCHS_FOLDER and folder.is_file():
        folder = folder.parent.parent
    folders = (folder, folder / "model", folder / EPOCHS_FOLDER)  # the last: of a run that is not finished
    return next((path for path in (each / name for each in folders) if path.is_file()), None)


def is_seen(hashes: Iterable[str], seen: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return for each content hash whether it is among the `seen` images of a model, bool (n,)."""
    return np.isin(shorten_hashes(hashes), seen)


def count_seen_images(paths: Sequence[str], weights: str, progress: bool = False) -> int:
    """Return how many images the model that `network.weights` names was trained on; unreadable ones do not count."""
    seen = read_seen(weights)
    hashes = content_hashes(paths, progress) if len(seen) else []
    return int(is_seen([text for text in hashes if text], seen).sum())


def shorten_hashes(hashes: Iterable[str]) -> NDArray[np.uint64]:
    """Return the first half of each content hash as a number, uint64 (n,)."""
    return np.array([int(text[:16], 16) for text in hashes], dtype=np.uint64)
