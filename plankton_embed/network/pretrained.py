"""The models that come with the package, by name."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from plankton_embed.errors import SettingError
from plankton_embed.network.model_card import CONFIG_FILE
from plankton_embed.settings import NetworkSettings

FOLDER = Path(__file__).parent.parent / "pretrained"
KEYWORDS = ("imagenet", "hub", "none")  # values of `network.weights` that are neither a name nor a path
HUB = "hf-hub:"  # before the name of a repository of timm

logger = logging.getLogger(__name__)


def list_pretrained() -> list[str]:
    """Return the names of the models, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{CONFIG_FILE}"))


def find_pretrained(name: str | Path) -> Path | None:
    """Return the folder of the model of that name, or None."""
    return FOLDER / name if str(name) in list_pretrained() else None


def warn_of_folder(name: str | Path) -> None:
    """Warn if a model of the package is used, and a folder of its name is here too."""
    if find_pretrained(name) and Path(name).is_dir():
        logger.warning(
            "%s is the model that comes with the package; the folder of that name is not used: give its absolute path, "
            "or rename it",
            name,
        )


def published_weights(trunk: str) -> str:
    """Return the weights that are published with a trunk: `imagenet` of torchvision, or `hub` of timm."""
    return "hub" if trunk.startswith("timm:") else "imagenet"


def choose_weights(network: NetworkSettings) -> str:
    """Return the starting weights: for `auto` the name of the model for this trunk, or `none`.

    For the sigmoid head of the recipe of 2019, `auto` is what the recipe starts from: ImageNet (`hub` for timm).

    Raises:
        SettingError: the trunk is frozen, and there is no model for it.
    """
    if network.weights != "auto":
        return network.weights
    if network.output == "sigmoid":
        return published_weights(network.trunk)
    trunks = {
        name: json.loads((FOLDER / name / CONFIG_FILE).read_text("utf-8"))["network"]["trunk"]
        for name in list_pretrained()
    }
    chosen = next((name for name, trunk in trunks.items() if trunk == network.trunk), "none")
    if network.frozen and chosen == "none":
        raise SettingError(
            f"network.frozen: no model with the trunk {network.trunk} comes with the package (there are: "
            f"{', '.join(f'{name} with {trunk}' for name, trunk in trunks.items()) or 'none'}); choose one of these "
            "trunks, or set network.weights"
        )
    return chosen
