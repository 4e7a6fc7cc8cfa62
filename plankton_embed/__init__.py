"""Plankton images as points in a space where distance means similarity."""

import warnings
from typing import Any

import lazy_loader

__version__ = "0.1.0"

# the public names are those of __init__.pyi; each is loaded when it is first used
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

MOVED_TO_BASELINES = (  # their old names work for one release
    "BoostedTreesClassifier", "EmbeddingAndFeaturesClassifier", "FineTunedNet", "FourConvNet", "LeNet", "PixelMLP",
    "SmallNet", "highest_losses", "read_pixels", "write_highest_losses",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in MOVED_TO_BASELINES:
        return _load(name)
    new = f"plankton_embed.baselines.{name}"
    warnings.warn(f"plankton_embed.{name} is now {new}; the next release has the new name only", FutureWarning, 2)
    return getattr(_load("baselines"), name)
