"""Film: the images as points that move while the network learns, on the same axes for all epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.errors import DependencyError, OutputError, SettingError
from plankton_embed.output import write_atomically
from plankton_embed.plots.figure import GREY, TEXT_SIZE, new_axes, title_axes
from plankton_embed.plots.projection import (
    PLOT_HEIGHT,
    WIDTH,
    check_axes,
    class_markers,
    draw_legend,
    legend_height,
    mix_rows,
    name_axis,
    scatter_points,
)

if TYPE_CHECKING:
    from plankton_embed.analysis.projection import Film

FRAMES_PER_SECOND = 12
MOST_STEPS = 24  # frames from one epoch to the next
SECONDS_PER_EPOCH, LEAST_SECONDS, MOST_SECONDS = 0.8, 3.0, 15.0
HOLD = 1.5  # seconds that the last epoch is shown
EPOCH_SIZE = 15.0  # points
DPI = 100
QUALITY = 7.0  # of MP4, 0 to 10
SUFFIXES = (".mp4", ".webp", ".gif")

Pixels = NDArray[np.uint8]


def draw_film(film: Film, number: int = -1, axes: tuple[int, int] = (0, 1), ax: Axes | None = None) -> Axes:
    """Draw the images as points after one epoch, within the limits of the whole film.

    Args:
        film: see `project_epochs`.
        number: of the epoch in the film, counted from 0; by default the last.
        axes: which two, counted from 0.
        ax: where to draw; by default a new figure, of one size for all frames.

    Returns:
        The axes, with the points as their only collection, and epoch and accuracy as left title.

    Raises:
        SettingError: the film has no such epoch or axes.
    """
    if not -len(film) <= number < len(film):
        raise SettingError(f"frame: expected 0 to {len(film) - 1}; found {number}")
    scene = _set_scene(film, axes, ax)
    scene.show(number % len(film))
    return scene.ax


def write_film(film: Film, path: str | Path, *, seconds: float | None = None, axes: tuple[int, int] = (0, 1)) -> Path:
    """Write a film of all epochs that stops at the last; with few epochs, frames between them are added.

    Args:
        film: see `project_epochs`.
        path: file to write, MP4 (extra `video`), WebP or GIF; without suffix MP4 if the extra is installed, else WebP.
        seconds: from the first epoch to the last; by default 0.8 for each epoch, at least 3 and at most 15.
        axes: which two, counted from 0.

    Returns:
        The path.

    Raises:
        SettingError: another suffix, seconds not above 0, or axes that the film does not have.
        DependencyError: the file is an MP4 and the extra is not installed.
        OutputError: the file cannot be written.
    """
    path = name_film(path)
    n_gaps = max(len(film) - 1, 1)
    check_seconds(seconds)
    if seconds is None:
        seconds = float(np.clip(SECONDS_PER_EPOCH * n_gaps, LEAST_SECONDS, MOST_SECONDS))
    n_steps = int(np.clip(round(FRAMES_PER_SECOND * seconds / n_gaps), 1, MOST_STEPS))
    rate = n_steps * n_gaps / seconds
    frames = _draw_frames(film, n_steps, axes)
    with write_atomically(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_mp4(frames, temporary, rate)
        else:
            _write_by_pillow(frames, temporary, rate)
    return path


def check_seconds(seconds: float | None) -> None:
    """Raise SettingError unless the seconds are None or a number above 0."""
    if seconds is not None and not (np.isfinite(seconds) and seconds > 0):
        raise SettingError(f"seconds: expected a number above 0; found {seconds}")


def name_film(path: str | Path) -> Path:
    """Return the path of a film with its suffix; where it has none, with that of the format that `write_film` chooses.

    Raises:
        SettingError: another suffix.
        DependencyError: the file is an MP4 and the extra is not installed.
    """
    path = Path(path)
    if not path.suffix:
        path = path.with_suffix(".mp4" if _makes_mp4() else ".webp")
    if path.suffix.lower() not in SUFFIXES:
        raise SettingError(f"{path}: no film format {path.suffix}; choose one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".mp4":
        _find_mp4_writer()
    return path


@dataclass(frozen=True)
class _Scene:
    """The axes, which stay the same, and the points and caption, which move."""

    film: Film
    axes: tuple[int, int]
    ax: Axes
    points: PathCollection
    caption: Text

    def show(self, position: float) -> None:
        """Move the points to their positions in an epoch, counted from 0, or between two epochs."""
        before = int(position)
        share = position - before
        after = min(before + 1, len(self.film) - 1)
        weight = share**2 * (3 - 2 * share)  # starts and stops gently
        positions = (1 - weight) * self.film.coordinates[before] + weight * self.film.coordinates[after]
        self.points.set_offsets(positions[mix_rows(self.film.basis.table)][:, self.axes])
        self.caption.set_text(_describe_epoch(self.film, before))


def _set_scene(film: Film, axes: tuple[int, int], ax: Axes | None = None) -> _Scene:
    """Draw everything that does not move, and the points of the first epoch."""
    check_axes(film.basis, axes)
    table = film.basis.table
    markers = class_markers(table)
    ax = ax or new_axes(WIDTH, PLOT_HEIGHT + legend_height(markers))
    title_axes(ax, "", *(name_axis(film.basis, axis) for axis in axes))
    ax.set_title(f"axes of epoch {film.basis_epoch}", loc="right", fontsize=TEXT_SIZE, color=GREY)
    caption = ax.set_title(_describe_epoch(film, 0), loc="left", fontsize=EPOCH_SIZE)
    positions = film.coordinates[:, :, axes]
    points = scatter_points(ax, positions[0], table, markers)
    ax.update_datalim([positions.min(axis=(0, 1)), positions.max(axis=(0, 1))])  # the same limits for every epoch
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    draw_legend(ax, markers)
    return _Scene(film, axes, ax, points, caption)


def _describe_epoch(film: Film, number: int) -> str:
    accuracy = film.accuracies[number]
    return f"epoch {film.epochs[number]}" + ("" if np.isnan(accuracy) else f"   accuracy {accuracy:.3f}")


def _draw_frames(film: Film, n_steps: int, axes: tuple[int, int]) -> Iterator[Pixels]:
    """Yield every frame, (height, width, 3) of even sides; the fixed parts are drawn once."""
    scene = _set_scene(film, axes)
    figure = scene.ax.figure.figure
    figure.set_dpi(DPI)
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no type hints
    moving = (scene.points, scene.caption)
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    fixed = canvas.copy_from_bbox(figure.bbox)
    height, width = (side // 2 * 2 for side in np.shape(canvas.buffer_rgba())[:2])
    for step in range((len(film) - 1) * n_steps + 1):
        canvas.restore_region(fixed)
        scene.show(step / n_steps)
        for artist in moving:
            scene.ax.draw_artist(artist)
        yield np.array(canvas.buffer_rgba())[:height, :width, :3]


def _find_mp4_writer() -> Any:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe, write_frames

        get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise DependencyError(
            "MP4 needs the extra video: pip install 'plankton_embed[video]'; or write a .webp or .gif file"
        ) from error
    return write_frames


def _makes_mp4() -> bool:
    try:
        _find_mp4_writer()
    except DependencyError:
        return False
    return True


def _write_mp4(frames: Iterator[Pixels], path: Path, rate: float) -> None:
    write_frames = _find_mp4_writer()
    frame = next(frames)
    size = (frame.shape[1], frame.shape[0])
    writer = write_frames(str(path), size, fps=rate, quality=QUALITY, macro_block_size=2, ffmpeg_log_level="error")
    try:
        writer.send(None)
        writer.send(frame.tobytes())
        for frame in frames:
            writer.send(frame.tobytes())
        for _ in range(round(HOLD * rate)):
            writer.send(frame.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path.name}: {error}") from error
    finally:
        writer.close()


def _write_by_pillow(frames: Iterator[Pixels], path: Path, rate: float) -> None:
    """Write with one palette for all frames: one byte a pixel in memory, and no flicker."""
    first, *others = _reduce_colours(frames)
    milliseconds = [round(1000 / rate)] * len(others) + [round(1000 * HOLD)]
    options: dict[str, Any] = {"lossless": True, "method": 0} if path.suffix.lower() == ".webp" else {"disposal": 1}
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, **options)


def _reduce_colours(frames: Iterator[Pixels]) -> list[Image.Image]:
    """Return frames in the 256 colours of the first, whose legend has all of them; nearly white becomes white."""
    first = next(frames)
    model = Image.fromarray(first).quantize(256)
    palette = np.array(model.getpalette(), dtype=np.uint8)
    palette[np.repeat((palette.reshape(-1, 3) > 246).all(axis=1), 3)] = 255  # Pillow looks colours up in steps of 8
    model.putpalette(palette.tobytes())
    every = chain([first], frames)
    return [Image.fromarray(frame).quantize(palette=model, dither=Image.Dither.NONE) for frame in every]
