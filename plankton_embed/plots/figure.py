"""Figures without global state: new axes, the shared colours and text sizes, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from plankton_embed.errors import SettingError
from plankton_embed.output import write_atomically

# Okabe and Ito's palette: distinct with every common colour blindness
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
BLACK, GREY, PALE = "#000000", "#6B6B6B", "#E4E4E4"

TEXT_SIZE, TITLE_SIZE = 9.0, 11.0  # points; a figure is at most about 10 inches wide, so 9 points are 12 px of 1000
PADDING = 0.1  # inches around all that is drawn
LONGEST_SIDE = 60_000  # pixels; matplotlib refuses 65,536


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of its own.

    Args:
        width: of the figure, in inches.
        height: of the figure, in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def save_figure(ax: Axes, path: str | Path, dpi: float = 150) -> Path:
    """Write the figure that contains the axes, whole or not at all.

    Args:
        ax: any axes of the figure.
        path: file to write; the suffix is the format, PNG when there is none.
        dpi: pixels per inch; very long figures get fewer.

    Returns:
        The path.

    Raises:
        SettingError: the suffix is not a format that matplotlib writes.
        OutputError: the file cannot be written.
    """
    path, figure = Path(path), ax.figure.figure
    kind, formats = path.suffix[1:].lower() or "png", FigureCanvasAgg.get_supported_filetypes()
    if kind not in formats:
        raise SettingError(f"{path}: no figure format {path.suffix}; choose one of {', '.join(sorted(formats))}")
    fitting = min(dpi, LONGEST_SIDE / max(figure.get_size_inches()))
    figure.set_dpi(fitting)
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine(None)
    # with bbox_inches="tight" and a layout engine, matplotlib draws everything a second time to find this box
    box = figure.get_tightbbox().padded(PADDING)
    with write_atomically(path) as temporary:
        options: Any = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}  # half the time of 6, 3 % larger
        figure.savefig(temporary, format=kind, dpi=fitting, bbox_inches=box, facecolor="white", **options)
    return path


def title_axes(ax: Axes, title: str, x_label: str = "", y_label: str = "") -> None:
    """Write the title and axis labels, and hide the upper and right line."""
    ax.set_title(title, loc="left", fontsize=TITLE_SIZE, parse_math=False)
    ax.set_xlabel(x_label, fontsize=TEXT_SIZE)
    ax.set_ylabel(y_label, fontsize=TEXT_SIZE)
    ax.tick_params(labelsize=TEXT_SIZE)
    ax.spines[["top", "right"]].set_visible(False)


def mark_epoch(ax: Axes, epoch: int, label: str = "") -> None:
    """Draw a dashed line at an epoch, behind the curves and before the grid."""
    ax.axvline(epoch, color=BLACK, linewidth=1, linestyle="--", label=label, zorder=1.9)


def draw_message(ax: Axes, message: str) -> None:
    """Write a message where there is nothing to draw."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", fontsize=TITLE_SIZE, color=GREY)
