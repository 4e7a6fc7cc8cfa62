"""The models that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from plankton_embed.network.model_card import CONFIG_FILE

FOLDER = Path(__file__).parent.parent / "pretrained"


def list_pretrained() -> list[str]:
    """Return the names of the models, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{CONFIG_FILE}"))


def find_pretrained(name: str | Path) -> Path | None:
    """Return the folder of the model of that name, or None."""
    return FOLDER / name if str(name) in list_pretrained() else None
