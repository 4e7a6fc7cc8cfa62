"""What the tests of training share: eighteen drawn images of three classes, prepared."""

import pytest

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
