"""Training states on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from plankton_embed.errors import InputError
from plankton_embed.output import write_atomically


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state (tensors, numbers, text, lists and dictionaries of them)."""
    with write_atomically(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a state onto the CPU.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is no readable checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path} is no readable checkpoint: it holds a {type(state).__name__}")
    return state
