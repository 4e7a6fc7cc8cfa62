from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plankton_embed.errors import OutputError, SettingError
from plankton_embed.images import drawn, workers
from plankton_embed.images.drawn import CLASSES, draw_plankton, draw_set


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def _images(label: str, n: int) -> list[Image.Image]:
    rng = np.random.default_rng(7)
    return [draw_plankton(label, rng) for _ in range(n)]


def test_the_twelve_classes_are_named() -> None:
    assert CLASSES == (
        "copepod", "chaetognath", "medusa", "diatom_chain", "radiolarian", "appendicularian", "faecal_pellet",
        "detritus", "euphausiid", "pteropod", "tintinnid", "fish_egg",
    )  # fmt: skip


@pytest.mark.parametrize("label", CLASSES)
def test_images_are_grey_in_range_and_all_differ(label: str) -> None:
    images = _images(label, 12)
    assert all(image.mode == "L" for image in images)
    assert all(30 <= max(image.size) <= 250 and min(image.size) >= 5 for image in images)
    assert len({image.tobytes() for image in images}) == len(images)
    assert len({image.size for image in images}) > 6


@pytest.mark.parametrize("label", CLASSES)
def test_the_background_is_lighter_than_the_body(label: str) -> None:
    for image in _images(label, 12):
        grey = np.asarray(image, dtype=float)
        border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        assert np.median(border) > 180
        assert np.median(border) > np.percentile(grey, 5) + 25


def test_sizes_spread_and_overlap_between_classes() -> None:
    sides = {label: [max(image.size) for image in _images(label, 20)] for label in CLASSES}
    assert max(min(side) for side in sides.values()) < min(max(side) for side in sides.values())


def test_the_same_state_draws_the_same_image() -> None:
    first, again, other = (draw_plankton("copepod", np.random.default_rng(seed)).tobytes() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_unknown_label_is_refused_and_the_known_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"fish_egg; found 'kraken'"):
        draw_plankton("kraken", np.random.default_rng(0))
    with pytest.raises(SettingError, match="kraken"):
        draw_set(tmp_path / "set", classes=["copepod", "kraken"])
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("setting", [{"n_per_class": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(tmp_path: Path, setting: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))):
        draw_set(tmp_path / "set", **setting)
    assert not (tmp_path / "set").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("taken")
    with pytest.raises(OutputError, match="set"):
        draw_set(tmp_path / "set", n_per_class=1)


def test_a_set_has_a_folder_for_each_class(tmp_path: Path) -> None:
    folder = draw_set(str(tmp_path / "deep" / "set"), n_per_class=2)
    assert folder == tmp_path / "deep" / "set"
    wanted = {f"{label}/{label}_{number:04d}.png" for label in CLASSES for number in (1, 2)}
    assert set(_bytes(folder)) == wanted


def test_an_image_depends_on_seed_class_and_number_alone(tmp_path: Path) -> None:
    pair = ["medusa", "pteropod"]
    small = _bytes(draw_set(tmp_path / "small", n_per_class=3, classes=pair))
    large = _bytes(draw_set(tmp_path / "large", n_per_class=5, classes=pair[::-1]))
    other = _bytes(draw_set(tmp_path / "other", n_per_class=3, classes=pair, seed=1))
    assert len(large) == 10
    assert small.items() <= large.items()
    assert not set(small.values()) & set(other.values())


def test_existing_files_are_left_as_they_are(tmp_path: Path) -> None:
    mine = tmp_path / "fish_egg" / "fish_egg_0002.png"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    draw_set(tmp_path, n_per_class=3, classes=["fish_egg"])
    before = {path: path.stat().st_mtime_ns for path in mine.parent.iterdir()}
    draw_set(tmp_path, n_per_class=3, classes=["fish_egg"])
    assert mine.read_bytes() == b"mine"
    assert {path: path.stat().st_mtime_ns for path in mine.parent.iterdir()} == before
    assert len(before) == 3


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="disk full"):
        draw_set(tmp_path, n_per_class=1, classes=["detritus"])
    assert list((tmp_path / "detritus").iterdir()) == []


def test_processes_draw_what_one_thread_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ["tintinnid", "fish_egg"]
    by_threads = _bytes(draw_set(tmp_path / "threads", n_per_class=40, classes=pair))
    monkeypatch.setattr(drawn, "MANY", 80)
    monkeypatch.setattr(workers, "ThreadPoolExecutor", None)
    assert _bytes(draw_set(tmp_path / "processes", n_per_class=40, classes=pair)) == by_threads
