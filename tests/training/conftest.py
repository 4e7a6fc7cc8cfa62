"""What the tests of training share: eighteen drawn images of three classes, prepared; and who waits for a GPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from plankton_embed.images.drawn import draw_set
from plankton_embed.images.store import prepare_images
from plankton_embed.settings import PreparationSettings


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Six of each class, class by class."""
    folder = draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=6, classes=("copepod", "fish_egg", "medusa"))
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    settings = PreparationSettings(target_size=75)
    return prepare_images(paths, paths, settings, cache=tmp_path_factory.mktemp("cache"), progress=False)


class Waits(TorchDispatchMode):
    """The operations, on any device, whose result would be waited for on a GPU, such as `item`."""

    WAITING = ("aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::equal", "aten::unique")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        name = operation.name()
        indices = arguments[1] if name.startswith("aten::index") and isinstance(arguments[1], list | tuple) else ()
        by_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        self.names += [name] if by_mask or name.startswith(self.WAITING) else []
        return operation(*arguments, **(keywords or {}))


@pytest.fixture
def waits():
    """A context that lists the operations that wait."""
    return Waits()
