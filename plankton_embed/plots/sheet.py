"""Figure: a contact sheet, rows of small images with captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray
from PIL import Image

from plankton_embed.errors import InputError
from plankton_embed.plots.figure import BLACK, BLUE, PALE, TITLE_SIZE, VERMILION, draw_message, new_axes
from plankton_embed.plots.text import fit_lines

SHEET_WIDTH = 10.0  # inches at most, so that captions can be read at 1000 px
LEAST_WIDTH = 4.0  # inches
SHEET_HEIGHT = 60.0  # inches; longer sheets get smaller tiles
SMALLEST_TILE = 0.6  # inches; below it a sheet grows beyond both
LABEL_WIDTH = 1.5  # inches of the row labels
GAP, FRAME = 0.10, 0.035  # of a tile
CAPTION_SIZE, LABEL_SIZE, LINE_HEIGHT = 7.0, 8.5, 1.3  # points, points, of the size
CAPTION_LINES, LABEL_LINES = 6, 3  # at most
LEGEND_STEP = 48.0  # points
FRAMES = {"right": BLUE, "wrong": VERMILION, "query": BLACK}
GROUND = 236  # grey of a tile beside an image that is not square


@dataclass(frozen=True)
class Tile:
    """An image of any size, 8 or 16 bit, grey or colour; the text below it; and the meaning of its frame."""

    image: Image.Image | NDArray[np.uint8]
    caption: str = ""
    frame: Literal["none", "right", "wrong", "query"] = "none"


@dataclass(frozen=True)
class Sheet:
    """A title, and rows of a label, which may be empty, and tiles."""

    title: str
    rows: list[tuple[str, list[Tile]]]


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels of the mosaic; `points` is the size of such a pixel on paper."""

    tile: int
    gap: int
    caption: int
    caption_lines: int
    label: int
    legend: int
    points: float

    @property
    def pitch(self) -> tuple[int, int]:
        """Distance from one tile to the next, down and across."""
        return self.tile + self.caption + self.gap, self.tile + self.gap

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """First pixel of a tile, down and across."""
        return self.gap // 2 + row * self.pitch[0], self.gap // 2 + column * self.pitch[1]


def draw_sheet(sheet: Sheet, ax: Axes | None = None, *, tile_size: int = 110) -> Axes:
    """Draw images as square tiles in labelled rows, each scaled to fit without distortion.

    Long captions and labels are broken into lines or shortened with …; rows may differ in length.

    Args:
        sheet: title and rows.
        ax: where to draw; by default a new figure, taller for more rows.
        tile_size: pixels along a tile's side.

    Returns:
        The axes, with all the tiles as its one image.

    Raises:
        InputError: an array is not an image.
    """
    n_rows, n_columns = len(sheet.rows), max((len(tiles) for _, tiles in sheet.rows), default=0)
    if n_columns == 0:
        ax = ax or new_axes(5, 1.5)
        ax.set_title(sheet.title, loc="left", fontsize=TITLE_SIZE, parse_math=False)
        draw_message(ax, "no images")
        return ax
    layout = _lay_out(sheet, n_rows, n_columns, tile_size)
    height, width = n_rows * layout.pitch[0], n_columns * layout.pitch[1]
    inches = layout.points / 72
    right = max(width, round(LEAST_WIDTH / inches) - layout.label)  # room for title and legend beside a few tiles
    title = fit_lines(sheet.title, (right + layout.label) * layout.points, TITLE_SIZE, 2)
    head = 0.25 * (1 + len(title.splitlines()))
    ax = ax or new_axes((right + layout.label) * inches + 0.1, (height + layout.legend) * inches + head)
    ax.set_axis_off()
    ax.set_title(title, loc="left", fontsize=TITLE_SIZE, parse_math=False)
    ax.figure.figure.draw_without_rendering()  # fixes the position of the axes, before there is much to draw
    room = ax.get_window_extent()
    pixel = min(room.width / (right + layout.label), room.height / (height + layout.legend))
    zoom = pixel * 72 / ax.figure.figure.dpi / layout.points
    mosaic = _compose(sheet, layout, height, width)
    ax.imshow(mosaic, extent=(0, width, height, 0), interpolation="antialiased")
    ax.set(xlim=(-layout.label, right), ylim=(height, -layout.legend))
    _write_texts(sheet, layout, ax, zoom)
    return ax


def _lay_out(sheet: Sheet, n_rows: int, n_columns: int, tile_size: int) -> _Layout:
    """Choose sizes: `tile_size` at 100 pixels an inch, smaller where many tiles are side by side."""
    captions = {tile.caption for _, tiles in sheet.rows for tile in tiles}
    label = LABEL_WIDTH if any(label for label, _ in sheet.rows) else 0.0
    across = (SHEET_WIDTH - label) / n_columns / (1 + GAP)
    room = 72 * min(tile_size / 100, across)
    n_lines = max(len(fit_lines(text, room, CAPTION_SIZE, CAPTION_LINES).splitlines()) for text in captions)
    caption = n_lines * CAPTION_SIZE * LINE_HEIGHT / 72
    down = (SHEET_HEIGHT / n_rows - caption) / (1 + GAP)
    tile = max(min(tile_size / 100, across, down), min(SMALLEST_TILE, tile_size / 100))
    per_inch = tile_size / tile
    framed = any(tile.frame != "none" for _, tiles in sheet.rows for tile in tiles)
    return _Layout(
        tile=tile_size,
        gap=round(GAP * tile_size),
        caption=round(caption * per_inch),
        caption_lines=n_lines,
        label=round(label * per_inch),
        legend=round(0.25 * per_inch) if framed else 0,
        points=72 / per_inch,
    )


def _compose(sheet: Sheet, layout: _Layout, height: int, width: int) -> NDArray[np.uint8]:
    """Return the mosaic of all tiles with their frames, on opaque white (matplotlib draws four channels faster)."""
    mosaic = np.full((height, width, 4), 255, dtype=np.uint8)
    for row, (_, tiles) in enumerate(sheet.rows):
        for column, tile in enumerate(tiles):
            y, x = layout.corner(row, column)
            border = 1 if tile.frame == "none" else max(2, round(FRAME * layout.tile))
            down, across = (slice(max(0, start - border), start + layout.tile + border) for start in (y, x))
            mosaic[down, across] = np.multiply(to_rgba(FRAMES.get(tile.frame, PALE)), 255).round()
            mosaic[y : y + layout.tile, x : x + layout.tile, :3] = fit_square(tile.image, layout.tile)
    return mosaic


def fit_square(image: Image.Image | NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale any image to fit the middle of a square, (side, side, 3)."""
    image = _to_colour(image)
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    fitted = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    tile = np.full((side, side, 3), GROUND, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    tile[top : top + height, left : left + width] = np.asarray(fitted)
    return tile


def _to_colour(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    """Turn any image into 8-bit colour: deeper grey is scaled by its brightest pixel, transparency becomes white."""
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if image.mode[0] in "IF":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64)).clip(min=0)
        values = values.max() - values if image.info.get("white_is_zero") else values
        image = Image.fromarray((values / max(values.max(), 1e-9) * 255).round().astype(np.uint8))
    if image.mode in ("LA", "La", "RGBa", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    try:
        return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"a tile of the sheet is not an image: an array of {pixels.dtype}, {pixels.shape}") from error


def _write_texts(sheet: Sheet, layout: _Layout, ax: Axes, zoom: float) -> None:
    """Write captions below the tiles, labels left of the rows, and the legend of the frames."""
    caption_room, label_room = layout.tile * layout.points, (layout.label - layout.gap) * layout.points
    for row, (label, tiles) in enumerate(sheet.rows):
        y, _ = layout.corner(row, 0)
        text = fit_lines(label, label_room, LABEL_SIZE, LABEL_LINES)
        _write(ax, -layout.gap / 2, y + layout.tile / 2, text, LABEL_SIZE * zoom, "right", "center")
        below = y + layout.tile * (1 + FRAME) + 1 / layout.points
        for column, tile in enumerate(tiles):
            _, x = layout.corner(row, column)
            text = fit_lines(tile.caption, caption_room, CAPTION_SIZE, layout.caption_lines)
            _write(ax, x + layout.tile / 2, below, text, CAPTION_SIZE * zoom, "center", "top")
    _write_legend(sheet, layout, ax, zoom)


def _write_legend(sheet: Sheet, layout: _Layout, ax: Axes, zoom: float) -> None:
    used = {tile.frame for _, tiles in sheet.rows for tile in tiles}
    x = layout.gap / 2
    for frame, colour in FRAMES.items():
        if frame in used:
            _write(ax, x, -layout.legend / 2, f"■ {frame}", LABEL_SIZE * zoom, "left", "center", colour)
            x += LEGEND_STEP / layout.points


def _write(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    across: Literal["left", "center", "right"],
    down: Literal["top", "center"],
    colour: str = BLACK,
) -> None:
    if text:
        ax.text(x, y, text, fontsize=size, ha=across, va=down, color=colour, linespacing=1.1, parse_math=False)
