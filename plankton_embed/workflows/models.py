"""`models`: the models that come with the package."""

from __future__ import annotations

import json

import pandas as pd

from plankton_embed.network.model_card import CONFIG_FILE
from plankton_embed.network.pretrained import FOLDER, list_pretrained

COLUMNS = ("name", "trunk", "side", "dimension", "n_classes", "n_images", "megabytes", "model_hash")


def models() -> pd.DataFrame:
    """List the models that come with the package; `EmbeddingModel.load` and all commands take their names.

    Returns:
        One row for each: `name`, `trunk`, `side` of its square input (pixels), `dimension` of its vectors, numbers of
        classes and images that it was trained on (`n_classes`, `n_images`), `megabytes` of its files, `model_hash`.
    """
    return pd.DataFrame([_describe(name) for name in list_pretrained()], columns=list(COLUMNS))


def _describe(name: str) -> dict[str, object]:
    folder = FOLDER / name
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return {
        "name": name,
        "trunk": config["network"]["trunk"],
        "side": config["preparation"]["target_size"],
        "dimension": config["network"]["dimension"],
        "n_classes": len(config["classes"]),
        "n_images": config["training"]["n_images"],
        "megabytes": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1),
        "model_hash": config["model_hash"],
    }
