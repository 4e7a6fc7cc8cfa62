from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plankton_embed.errors import InputError, OutputError
from plankton_embed.images import preparation, store, workers
from plankton_embed.images.catalog import content_hashes
from plankton_embed.images.preparation import prepare_image
from plankton_embed.images.store import cache_folder, log_sides, prepare_images
from plankton_embed.settings import PreparationSettings

SETTINGS = PreparationSettings(target_size=75)
N = 20


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Make few images several chunks."""
    monkeypatch.setattr(workers, "CHUNK", 4)


@pytest.fixture
def images(tmp_path):
    """Paths of images that all differ."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(N)]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + number % 7, 30), dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


def prepare(paths, cache, settings=SETTINGS, hashes=None):
    """Prepare without a bar."""
    return prepare_images(paths, hashes or content_hashes(paths, False), settings, cache=cache, progress=False)


def files(cache):
    """The folders of prepared pixels."""
    return sorted(path.name for path in (cache / "prepared").iterdir())


def refuse(*_):
    raise AssertionError("an image was read anew")


def test_the_pixels_are_those_of_prepare_image_in_the_order_of_the_paths(images, tmp_path):
    found = prepare(images, tmp_path)
    assert len(found) == N
    assert found.faults == {}
    for row in range(N):
        pixels, background, size = prepare_image(images[row], SETTINGS)
        assert (found.pixels[row] == pixels).all()
        assert found.background[row].tolist() == background.tolist()
        assert tuple(found.size[row]) == size
    backwards = prepare(images[::-1], tmp_path)
    assert (backwards.pixels[::-1] == found.pixels).all()


def test_color_images_keep_three_channels(images, tmp_path):
    found = prepare(images[:3], tmp_path, PreparationSettings(target_size=75, color="color"))
    assert found.pixels.shape == (3, 75, 75, 3)
    assert found.background.shape == (3, 3)


def test_the_second_call_reads_nothing_anew(images, tmp_path, monkeypatch):
    hashes = content_hashes(images, False)
    first = prepare(images, tmp_path, hashes=hashes)
    shutil.rmtree(tmp_path / "images")
    monkeypatch.setattr(preparation, "prepare_image", refuse)
    second = prepare(images, tmp_path, hashes=hashes)
    assert (first.pixels == second.pixels).all()
    assert (first.size == second.size).all()
    assert len(files(tmp_path)) == 1


def test_the_same_content_under_other_names_is_found_again(images, tmp_path, monkeypatch):
    first = prepare(images, tmp_path)
    shutil.move(tmp_path / "images", tmp_path / "moved")
    monkeypatch.setattr(preparation, "prepare_image", refuse)
    second = prepare([path.replace("/images/", "/moved/") for path in images], tmp_path)
    assert (first.pixels == second.pixels).all()


@pytest.mark.parametrize(
    "change", [{"target_size": 76}, {"background": "white"}, {"color": "color"}, {"white_level_16bit": 4095}]
)
def test_another_setting_gives_another_file(images, tmp_path, change):
    prepare(images[:2], tmp_path)
    prepare(images[:2], tmp_path, PreparationSettings(**{"target_size": 75, **change}))
    assert len(files(tmp_path)) == 2


def test_another_content_or_order_gives_another_file(images, tmp_path):
    first = prepare(images[:2], tmp_path).pixels[0].copy()
    prepare(images[1::-1], tmp_path)
    prepare(images[:3], tmp_path)
    Image.new("L", (30, 20), 7).save(images[0])
    assert (prepare(images[:2], tmp_path).pixels[0] != first).any()
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("stop_after", [0, 1, 13])
def test_stopped_half_way_it_goes_on_to_the_same_pixels(images, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(workers, "count_cores", lambda: 1)
    whole = prepare(images, tmp_path / "whole")
    calls = []

    def stop(source, settings):
        calls.append(source)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return prepare_image(source, settings)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "prepare_image", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(images, tmp_path)

    again = []
    monkeypatch.setattr(preparation, "prepare_image", lambda *given: (again.append(given), prepare_image(*given))[1])
    resumed = prepare(images, tmp_path)
    assert (resumed.pixels == whole.pixels).all()
    assert (resumed.background == whole.background).all()
    assert (resumed.size == whole.size).all()
    assert len(again) == N - stop_after // 4 * 4  # chunks that were ready are not prepared twice


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY"], ids=["empty", "cut short"])
def test_files_that_were_only_half_laid_out_are_laid_out_anew(images, tmp_path, damage):
    whole = prepare(images, tmp_path)
    expected = whole.pixels.copy()
    folder = tmp_path / "prepared" / files(tmp_path)[0]
    for name in ("faults.json", "status.npy"):
        (folder / name).unlink()
    (folder / "background.npy").write_bytes(damage)
    assert (prepare(images, tmp_path).pixels == expected).all()


def test_faults_are_listed_with_their_reason_and_remembered(images, tmp_path, monkeypatch):
    with open(images[1], "w") as file:  # noqa: PTH123
        file.write("text")
    Image.new("L", (1, 1)).save(images[3])
    paths = [images[0], images[1], str(tmp_path / "none.png"), images[3], images[4]]
    found = prepare(paths, tmp_path)
    assert found.faults == {
        1: "the file is not an image of a known format",
        2: "the file does not exist",
        3: "1×1 pixels: a side is under 3",
    }
    assert (found.pixels[4] == prepare_image(images[4], SETTINGS)[0]).all()
    monkeypatch.setattr(preparation, "prepare_image", refuse)
    assert prepare(paths, tmp_path).faults == found.faults


def test_an_image_that_was_gone_for_a_moment_is_tried_again(images, tmp_path):
    hashes = content_hashes(images[:2], False)
    shutil.move(images[0], tmp_path / "away.png")
    assert prepare(images[:2], tmp_path, hashes=hashes).faults == {0: "the file does not exist"}
    shutil.move(tmp_path / "away.png", images[0])
    found = prepare(images[:2], tmp_path, hashes=hashes)
    assert found.faults == {}
    assert (found.pixels[0] == prepare_image(images[0], SETTINGS)[0]).all()


def test_rows_are_chosen_by_mask_number_and_slice(images, tmp_path):
    found = prepare(images[:6], tmp_path)
    odd = found.select(np.array([False, True] * 3))
    assert odd.rows.tolist() == [1, 3, 5]
    last = odd.select(np.array([2, 0]))
    assert (len(last), last.rows.tolist()) == (2, [5, 1])
    for positions, rows in ((np.array([1, 0]), [3, 1]), (slice(1, 3), [3, 5]), (np.array([], dtype=int), [])):
        pixels, background = odd.batch(positions)
        assert (pixels == found.pixels[rows]).all()
        assert (background == found.background[rows]).all()


def test_a_batch_is_a_copy_and_the_pixels_cannot_be_changed(images, tmp_path):
    found = prepare(images[:2], tmp_path)
    pixels, _ = found.batch(slice(0, 2))
    pixels[:] = 0
    assert found.pixels.any()
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[0] = 0


# --- the sides that a network with size inputs is shown


def test_log_sides_by_hand():
    sides = log_sides(np.array([[100, 50], [30, 300], [100, 100]]), "pixels")
    assert (sides.shape, sides.dtype) == ((3, 2), np.float32)
    expected = [[0, -math.log(2)], [math.log(3), math.log(0.3)], [0, 0]]
    np.testing.assert_allclose(sides, expected, rtol=1e-6)


def test_log_sides_in_micrometres_by_hand():
    sides = log_sides(np.array([[100, 50], [30, 300]]), "micrometres", np.array([2.0, 0.5]))
    np.testing.assert_allclose(sides, [[math.log(2), 0], [math.log(1.5), math.log(0.15)]], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("scale", [np.float32, np.float64])
def test_log_sides_are_float32_whatever_comes(dtype, scale):
    size = np.array([[60_000, 50]], dtype=dtype)
    for sides in (log_sides(size, "pixels"), log_sides(size, "micrometres", np.array([1], dtype=scale))):
        assert sides.dtype == np.float32
        np.testing.assert_allclose(sides, [[math.log(600), math.log(0.5)]], rtol=1e-6)


def test_no_image_has_no_sides():
    assert log_sides(np.zeros((0, 2), dtype=int), "pixels").shape == (0, 2)
    assert log_sides(np.zeros((0, 2), dtype=int), "micrometres", np.zeros(0)).shape == (0, 2)


SIDES = st.lists(st.tuples(st.integers(3, 10_000), st.integers(3, 10_000)), min_size=1, max_size=8)


@given(sizes=SIDES, um=st.floats(0.01, 1000))
def test_width_and_height_may_be_swapped_and_a_scale_is_a_sum_of_logs(sizes, um):
    size = np.array(sizes)
    sides = log_sides(size, "pixels")
    np.testing.assert_array_equal(log_sides(size[:, ::-1], "pixels"), sides)
    assert (sides[:, 0] >= sides[:, 1]).all()
    np.testing.assert_allclose(log_sides(size, "micrometres", np.full(len(size), um)), sides + math.log(um), atol=1e-5)


def test_prepared_images_know_their_sides_after_selecting_too(images, tmp_path):
    found = prepare(images[:6], tmp_path)  # 30 wide, 20 … 25 high
    wanted = np.log([[0.3, 0.2], [0.3, 0.21]])
    np.testing.assert_allclose(found.select(np.arange(2)).log_sides("pixels"), wanted, rtol=1e-6)
    odd = found.select(np.array([False, True] * 3))
    np.testing.assert_array_equal(odd.log_sides("pixels"), log_sides(found.size[[1, 3, 5]], "pixels"))
    scaled = replace(found, pixel_size=np.array([1, 2, 3, 4, 5, 6], dtype=np.float32))
    last = scaled.select(np.array([False, True] * 3)).select(np.array([2, 0]))
    np.testing.assert_allclose(last.log_sides("micrometres"), np.log([[1.8, 1.5], [0.6, 0.42]]), rtol=1e-6)
    assert odd.select(np.array([], dtype=int)).log_sides("pixels").shape == (0, 2)


@pytest.mark.parametrize("um", [np.nan, 0, -1, np.inf])
def test_a_missing_pixel_size_is_refused_only_where_it_matters(um):
    size, scale = np.array([[100, 50], [100, 50]]), np.array([1, um])
    with pytest.raises(InputError, match=r"column pixel_size \(µm per pixel\), found none for 1 of 2 images"):
        log_sides(size, "micrometres", scale)
    np.testing.assert_array_equal(log_sides(size, "pixels", scale), log_sides(size, "pixels"))
    np.testing.assert_array_equal(log_sides(size, "none", scale), log_sides(size, "none"))


# --- where it is written


def test_a_disk_too_small_is_said_before_anything_is_read(images, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(preparation, "prepare_image", refuse)
    with pytest.raises(OutputError, match=r"0\.0 GB are free.*PLANKTON_EMBED_CACHE"):
        prepare(images, tmp_path)


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file"):
        prepare(images[:2], tmp_path / "file")


def test_the_cache_is_where_the_environment_sets_it(monkeypatch, tmp_path, images):
    monkeypatch.setenv("PLANKTON_EMBED_CACHE", str(tmp_path / "named"))
    prepare(images[:1], None)
    assert len(files(tmp_path / "named")) == 1
    monkeypatch.delenv("PLANKTON_EMBED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "plankton_embed"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "plankton_embed"


def test_a_reason_is_one_error_a_fault(images):
    with pytest.raises(InputError):
        prepare_image(images[0] + "x", SETTINGS)
