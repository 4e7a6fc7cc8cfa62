"""To come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def recognize(path: Path, files: Sequence[str]) -> bool:
    """To come."""
    return False
