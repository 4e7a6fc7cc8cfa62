"""What the tests share: a cache of their own, one thread, drawn images, and the real ones where they are."""

import os
import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small nets gain nothing from more

import hypothesis
import numpy as np
import pytest

from plankton_embed.images.drawn import draw_set
from plankton_embed.output import write_folder_atomically
from plankton_embed.settings import NetworkSettings, PreparationSettings

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keep prepared images out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PLANKTON_EMBED_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Leave when a file reaches the disk itself to the system: no test cuts the power."""
    with mock.patch("plankton_embed.output.os.fsync"):
        yield


@pytest.fixture(scope="session")
def data_folder():
    folder = Path(os.environ.get("PLANKTON_EMBED_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder} (PLANKTON_EMBED_DATA names the folder)")
    return folder.resolve()


@pytest.fixture(scope="session")
def ndsb_folder(data_folder):
    """Return the folder of NDSB images, one subfolder a class; unpacked once and kept, for it is slow to delete."""
    archive = data_folder / "ndsb.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    folder = Path(tempfile.gettempdir()) / f"plankton_embed_tests_ndsb_{archive.stat().st_size}"
    if not folder.is_dir():
        with write_folder_atomically(folder) as temporary, tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
    return folder / "ndsb"


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory):
    """Twelve drawn images of each class, in class folders."""
    return draw_set(tmp_path_factory.mktemp("drawn"), n_per_class=12)


def _build_sized(size_inputs):
    from plankton_embed.network.model import EmbeddingModel

    network = NetworkSettings(trunk="resnet18", dimension=8, size_inputs=size_inputs)
    return EmbeddingModel.build(network, PreparationSettings(target_size=75)).to("cpu")


@pytest.fixture(scope="module")
def in_pixels():
    """An untrained model whose head sees the sides in pixels."""
    return _build_sized("pixels")


@pytest.fixture(scope="module")
def in_micrometres():
    """The same, in µm."""
    return _build_sized("micrometres")


@pytest.fixture(scope="session")
def write_shards():
    """Return a function that writes a table or a catalog into a folder of Parquet files of uneven sizes."""

    def write(whole, folder, ends=(1, 1, 0.4, 0.45)):
        folder.mkdir(parents=True)
        places = [0, *(end if isinstance(end, int) else int(end * len(whole)) for end in ends), len(whole)]
        for number, (start, end) in enumerate(pairwise(places)):
            whole.select(np.arange(start, end)).save(folder / f"{number:03d}.parquet")
        return folder

    return write
