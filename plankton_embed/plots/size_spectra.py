"""Figure: the normalised biovolume size spectrum."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from plankton_embed.analysis.body_size import UM3_PER_MM3
from plankton_embed.analysis.counts import Abundance, fit_slope, pool_spectra
from plankton_embed.analysis.samples import ALL_CLASSES
from plankton_embed.plots.figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    TEXT_SIZE,
    VERMILION,
    draw_message,
    new_axes,
    title_axes,
)
from plankton_embed.plots.text import shorten

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9")  # of the commonest classes
MARKS = ("o", "s", "^", "D", "v", "P")
MOST_SAMPLES = 200  # drawn as thin lines


def draw_size_spectra(found: Abundance, ax: Axes | None = None) -> Axes:
    """Draw the normalised biovolume size spectra of all images and of the commonest classes, with fitted slopes.

    Args:
        found: with `spectra`.
        ax: axes that the two panels replace; by default a new figure.

    Returns:
        The axes of the left panel: each sample as a thin line, and all together as a black line with a fitted line. The
        right panel has the commonest classes of all samples together.
    """
    ax = ax or new_axes(10.5, 5.0)
    if found.spectra is None:
        draw_message(ax, "no body sizes")
        return ax
    title_axes(ax, "normalised biovolume size spectrum")
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=40)  # leaves room for the upper axis
    ax.set_axis_off()
    pooled = pool_spectra(found.spectra, found.samples, found.shares_water).dropna(subset="nbss")
    left = ax.inset_axes((0.0, 0.0, 0.46, 1.0))
    right = ax.inset_axes((0.54, 0.0, 0.46, 1.0), sharex=left, sharey=left)
    single = found.spectra[found.spectra["label"] == ALL_CLASSES]
    n_samples = single["sample"].nunique()
    if n_samples > 1:
        for number, (_, spectrum) in enumerate(single.groupby("sample", sort=False)):
            if number < MOST_SAMPLES:
                name = None if number else "single samples" + f", {MOST_SAMPLES} of them" * (n_samples > MOST_SAMPLES)
                _draw_spectrum(left, spectrum, color="0.75", linewidth=0.7, label=name, zorder=1)
    everything = pooled[pooled["label"] == ALL_CLASSES]
    name = f"all {n_samples:,} samples" if n_samples > 1 else "all images"
    if everything.empty:
        name += " together: volume of water unknown" + " (samples share it)" * found.shares_water
    _draw_spectrum(left, everything, color=BLACK, marker="o", markersize=4, linewidth=1.2, label=name, zorder=3)
    slope, intercept = fit_slope(everything)
    if np.isfinite(slope):
        filled = everything[everything["count"] >= 1]
        ends = np.sqrt((filled["low"] * filled["high"]).to_numpy())[[int(filled["nbss"].to_numpy().argmax()), -1]]
        fitted = 10 ** (intercept + slope * np.log10(ends))
        left.plot(ends, fitted, color=VERMILION, linestyle="--", label=f"slope {slope:.2f}", zorder=2)
    of_class = pooled[~pooled["label"].isin([ALL_CLASSES, found.unknown])]
    common = of_class.groupby("label")["count"].sum().nlargest(len(COLOURS)).index
    for label, colour, mark in zip(common, COLOURS, MARKS, strict=False):
        spectrum = of_class[of_class["label"] == label]
        slope = fit_slope(spectrum)[0]
        name = shorten(str(label), 115, TEXT_SIZE).replace("$", r"\$")
        name += f": {slope:.2f}" if np.isfinite(slope) else ""
        _draw_spectrum(right, spectrum, color=colour, marker=mark, markersize=4, linewidth=1.2, label=name)
    per_bin = "mm³ of the sample per mm³; volume of water unknown"
    if "volume" in found.samples:
        per_bin = f"mm³ m⁻³ per mm³{found.of_volume}"
    kind = found.summary["biovolume"]
    n_bare = found.summary.get("n_uncorrected", 0)
    bare = f" ({n_bare:,} {'sample is' if n_bare == 1 else 'samples are'} not)" if n_bare else ""
    for panel, title in ((left, "all images"), (right, f"commonest classes, corrected{bare}: slope")):
        title_axes(
            panel,
            "",
            f"body volume ({kind}), mm³",
            f"biovolume / bin width\n({per_bin})" * (panel is left),
        )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
        upper = panel.secondary_xaxis("top", functions=(_diameter, _volume))
        upper.set_xlabel("equivalent spherical diameter, µm", fontsize=TEXT_SIZE)
        upper.tick_params(labelsize=TEXT_SIZE)
        upper.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        upper.xaxis.set_minor_formatter(NullFormatter())
        upper.spines["top"].set_color(GREY)
        if not panel.lines:
            why = "water of all samples together is not known" if pooled.empty else "no class was found"
            panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", color=GREY)
            continue
        panel.legend(
            title=title,
            loc="upper left",
            bbox_to_anchor=(0, -0.12),
            ncols=2,
            fontsize=TEXT_SIZE,
            title_fontsize=TEXT_SIZE,
            frameon=False,
            alignment="left",
        )
    return left


def _draw_spectrum(panel: Axes, spectrum: pd.DataFrame, **style: object) -> None:
    filled = spectrum[spectrum["count"] >= 1]
    panel.plot(np.sqrt(filled["low"] * filled["high"]), filled["nbss"], **style)  # type: ignore[arg-type]


def _diameter(volume: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(np.cbrt(6 / np.pi * UM3_PER_MM3 * np.asarray(volume, dtype=float)))


def _volume(diameter: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(np.pi / 6 * np.asarray(diameter, dtype=float) ** 3 / UM3_PER_MM3)
