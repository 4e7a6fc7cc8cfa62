"""Films of a projection: frames, formats, and what cannot be written."""

import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from plankton_embed.analysis.projection import project_epochs
from plankton_embed.errors import DependencyError, OutputError, SettingError
from plankton_embed.plots import film as film_module
from plankton_embed.plots.film import draw_film, write_film
from plankton_embed.plots.projection import mix_rows
from plankton_embed.table import EmbeddingTable


def film_of(n_epochs=3, **options):
    rng = np.random.default_rng(1)
    label = [*"abc"] * 4 + [None] * 2
    table = EmbeddingTable(np.random.default_rng(0).normal(size=(14, 4)), label=label)
    vectors = {3 * number: rng.normal(size=table.vectors.shape) * number for number in range(1, n_epochs + 1)}
    return project_epochs(table, vectors, {epoch: epoch / 100 for epoch in vectors if epoch != 6}, **options)


def test_a_frame_shows_its_epoch_within_the_limits_of_all():
    film = film_of()
    rows = mix_rows(film.basis.table)
    limits = set()
    for number, text in enumerate(["epoch 3   accuracy 0.030", "epoch 6", "epoch 9   accuracy 0.090"]):
        ax = draw_film(film, number)
        assert ax.get_title(loc="left") == text
        assert ax.get_title(loc="right") == "axes of epoch 9"
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), film.coordinates[number][rows][:, :2])
        ax.figure.draw_without_rendering()
        limits.add((*ax.get_xlim(), *ax.get_ylim()))
    assert len(limits) == 1
    left, right, low, high = limits.pop()
    x, y, _ = film.coordinates.reshape(-1, 3).T
    assert left < x.min() < x.max() < right
    assert low < y.min() < y.max() < high
    assert draw_film(film).get_title(loc="left") == "epoch 9   accuracy 0.090"
    with pytest.raises(SettingError, match="0 to 2; found 3"):
        draw_film(film, 3)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_is_read_back_frame_by_frame(tmp_path, suffix):
    film = film_of()
    path = write_film(film, tmp_path / "new" / f"film{suffix}", seconds=0.5)
    with Image.open(path) as image:
        assert image.n_frames == 7, "two gaps of 0.25 seconds at 12 frames a second, and the last"
        frames = []
        for number in range(7):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            assert image.info["duration"] == pytest.approx(1500 if number == 6 else 83, abs=4)
    height, width, _ = frames[0].shape
    assert width == 1000
    assert all((frame[0, 0] == 255).all() for frame in frames), "the ground is white"
    legend = slice(height - 30, None)
    for frame, following in itertools.pairwise(frames):
        assert (frame != following).any()
        np.testing.assert_array_equal(frame[legend], following[legend])
    canvas = draw_film(film, 1).figure.canvas
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[:height, :width, :3].astype(int)
    assert np.abs(frames[3] - drawn).mean() < 0.2, "the frame in the middle is the second epoch"
    assert np.abs(frames[2] - drawn).mean() > np.abs(frames[3] - drawn).mean()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_many_epochs_have_a_frame_each_and_one_epoch_is_a_still(tmp_path):
    with Image.open(write_film(film_of(9), tmp_path / "film.gif", seconds=0.4)) as image:
        assert image.n_frames == 9
        assert image.info["duration"] == 50
    with Image.open(write_film(film_of(1), tmp_path / "film.webp")) as image:
        assert image.n_frames == 1


def test_mp4_is_read_back_by_ffmpeg(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = write_film(film_of(), tmp_path / "film", seconds=0.5)
    assert path.name == "film.mp4"
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    assert facts["size"][0] == 1000
    assert facts["fps"] == pytest.approx(12, abs=0.1)
    frames = [np.frombuffer(frame, np.uint8).reshape(*facts["size"][::-1], 3) for frame in reader]
    assert len(frames) == 7 + 18
    canvas = draw_film(film_of()).figure.canvas
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[: facts["size"][1], :1000, :3].astype(int)
    assert np.abs(frames[-1] - drawn).mean() < 3


def test_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(DependencyError, match=r"pip install 'plankton_embed\[video\]'"):
        write_film(film_of(), tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
    assert write_film(film_of(2), tmp_path / "film", seconds=0.2).name == "film.webp"


def test_a_film_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def break_off(film, n_steps, axes):
        yield np.zeros((10, 10, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(film_module, "_draw_frames", break_off)
    for name in ("film.gif", "film.mp4"):
        with pytest.raises(KeyboardInterrupt):
            write_film(film_of(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_films_that_cannot_be_written(tmp_path):
    with pytest.raises(SettingError, match=r"\.mp4, \.webp, \.gif"):
        write_film(film_of(), tmp_path / "film.avi")
    for seconds in (0, -1, np.nan, np.inf):
        with pytest.raises(SettingError, match="seconds"):
            write_film(film_of(), tmp_path / "film.gif", seconds=seconds)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_film(film_of(), tmp_path / "file" / "film.gif", seconds=0.1)
