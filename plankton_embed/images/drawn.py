"""Draws grey images of twelve plankton-like classes, so that demo, tests and docs need no download."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from plankton_embed.errors import OutputError, SettingError
from plankton_embed.images.workers import map_images
from plankton_embed.output import write_atomically

Array = npt.NDArray[np.float64]
Rng = np.random.Generator

_SHORTEST, _LONGEST, _TYPICAL = 30, 250, 95  # longest side of an image, in pixels
_AROUND = np.linspace(0.0, 2 * np.pi, 36, endpoint=False)  # angles of the points of a blob
_WAVES = np.arange(2, 9)  # its bumps, in waves per turn
_WAVES_AROUND = np.outer(_AROUND, _WAVES)
_HAIR = 0.7  # the thinnest line a pen leaves, in pixels
MANY = 500  # images, a few seconds of work, from which processes repay their start


# --- pen: marks in body coordinates, drawn at any scale and rotation ------------------------------------------------


@dataclass(frozen=True)
class _Mark:
    """One layer of ink: closed outlines, or lines with a width at each point (both as (n, 2) points)."""

    paths: list[Array]
    widths: list[Array] | None
    ink: float


class _Pen:
    """Collects marks in body coordinates: x runs from head (0) to tail (approximately 1), y is the ventral side."""

    def __init__(self, headings: Array | None = None) -> None:
        """Give the headings of the body axis, in radians, at equal steps from x = 0 to 1; None: a straight body."""
        self._headings = headings
        self.marks: list[_Mark] = []
        if headings is not None:
            self._at = np.linspace(0.0, 1.0, len(headings))
            step = np.column_stack([np.cos(headings), np.sin(headings)])
            self._axis = np.vstack([[0.0, 0.0], np.cumsum((step[1:] + step[:-1]) / 2, axis=0) * self._at[1]])

    def fill(self, *outlines: Array, ink: float) -> None:
        """Fill outlines as one layer; ink 0..1 darkens the layers below, negative ink erases them."""
        self.marks.append(_Mark([self._bend(o) for o in outlines], None, ink))

    def stroke(self, *lines: Array, width: float | Array, ink: float, tip: float = 1.0) -> None:
        """Draw lines as one layer, each narrowing from width to width x tip (or with a width for each point)."""
        widths = [np.broadcast_to(width, len(line)) * np.linspace(1.0, tip, len(line)) for line in lines]
        self.marks.append(_Mark([self._bend(line) for line in lines], widths, ink))

    def _bend(self, points: Array) -> Array:
        """Move points given along a straight axis to the bent axis."""
        if self._headings is None:
            return points
        along, aside = points.T
        heading = np.interp(along, self._at, self._headings)
        beyond = along - np.clip(along, 0.0, 1.0)
        x = np.interp(along, self._at, self._axis[:, 0]) + beyond * np.cos(heading) - aside * np.sin(heading)
        y = np.interp(along, self._at, self._axis[:, 1]) + beyond * np.sin(heading) + aside * np.cos(heading)
        return np.column_stack([x, y])

    def print(self, long_side: int, margin: int, turn: float, mirror: bool) -> Image.Image:
        """Return the ink, 0..255, as an "L" image of this longest side and margin, the body turned by turn radians."""
        turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        if mirror:
            turned = turned * [-1.0, 1.0]
        paths = [[path @ turned for path in mark.paths] for mark in self.marks]
        low, high = _bounds(self.marks, paths)
        finer = 4 if long_side < 160 else 3  # supersampling
        scale = (long_side - 2 * margin) / float((high - low).max()) * finer
        width, height = (int(side) for side in np.ceil((high - low) * scale / finer - 1e-6) + 2 * margin)
        canvas = Image.new("L", (width * finer, height * finer))
        for mark, layer in zip(self.marks, paths, strict=True):
            outlines = [(path - low) * scale + margin * finer for path in layer]
            if mark.widths is not None:
                outlines = [
                    _ribbon(line, np.maximum(wide * scale, _HAIR * finer))
                    for line, wide in zip(outlines, mark.widths, strict=True)
                ]
            _lay(canvas, outlines, mark.ink)
        return canvas.reduce(finer)


def _bounds(marks: list[_Mark], paths: list[list[Array]]) -> tuple[Array, Array]:
    """Return the lowest and the highest corner of the marks, including line widths."""
    low, high = [], []
    for mark, layer in zip(marks, paths, strict=True):
        for i, path in enumerate(layer):
            half = 0.0 if mark.widths is None else mark.widths[i][:, None] / 2
            low.append((path - half).min(axis=0))
            high.append((path + half).max(axis=0))
    return np.min(low, axis=0), np.max(high, axis=0)


def _lay(canvas: Image.Image, outlines: list[Array], ink: float) -> None:
    """Draw one translucent layer over the canvas."""
    points = np.concatenate(outlines)
    low = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, canvas.size)
    if (high <= low).any():
        return
    mask = Image.new("L", (int(high[0] - low[0]), int(high[1] - low[1])))
    draw = ImageDraw.Draw(mask)
    for outline in outlines:
        draw.polygon((outline - low).ravel().tolist(), fill=round(255 * min(abs(ink), 1.0)))
    canvas.paste(255 if ink > 0 else 0, (int(low[0]), int(low[1])), mask)


# --- lines and outlines --------------------------------------------------------------------------------------------


def _ribbon(line: Array, widths: Array) -> Array:
    """Return the outline of a line with a width at each point."""
    along = np.empty_like(line)
    along[1:-1] = line[2:] - line[:-2]
    along[0], along[-1] = line[1] - line[0], line[-1] - line[-2]
    aside = along[:, ::-1] * [-1.0, 1.0] / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    aside *= widths[:, None] / 2
    return np.concatenate([line + aside, (line - aside)[::-1]])


def _path(
    x: float, y: float, heading: float, length: float, turn: float = 0.0, sway: float = 0.0, phase: float = 0.0
) -> Array:
    """Return a line from (x, y) that turns by turn radians in total and sways about its course."""
    t = np.linspace(0.0, 1.0, 24)
    course = heading + turn * t + sway * np.sin(7.0 * t + phase)
    steps = np.column_stack([np.cos(course), np.sin(course)]) * length / (len(t) - 1)
    steps[0] = x, y
    return np.cumsum(steps, axis=0)


def _close(outline: Array) -> Array:
    return np.vstack([outline, outline[:1]])


def _segment(x0: float, y0: float, x1: float, y1: float) -> Array:
    return np.linspace([x0, y0], [x1, y1], 24)


def _oval(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, corner: float = 1.0) -> Array:
    """Return an ellipse, tilted by tilt radians; corner below 1 squares it off."""
    angle = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    u, v = rx * np.sign(c) * np.abs(c) ** corner, ry * np.sign(s) * np.abs(s) ** corner
    return np.column_stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)])


def _blob(rng: Rng, x: float, y: float, radius: float, rough: float) -> Array:
    """Return a closed outline of irregular radius; rough is the spread of the radius as a share of it."""
    heights = rng.normal(size=_WAVES.size) / np.sqrt(_WAVES)
    bumps = (heights * np.cos(_WAVES_AROUND + rng.uniform(0, 2 * np.pi, _WAVES.size))).sum(axis=1)
    r = radius * np.clip(1 + rough * bumps, 0.2, 2.5)
    return np.column_stack([x + r * np.cos(_AROUND), y + r * np.sin(_AROUND)])


def _smooth(x: Sequence[float], y: Sequence[float], n: int = 56) -> tuple[Array, Array]:
    """Return n points on a smooth curve near the points (x, y), with the same two ends."""
    at = np.linspace(x[0], x[-1], n)
    value = np.interp(at, x, y)
    for _ in range(2):
        value[2:-2] = np.convolve(value, np.full(5, 0.2), "valid")
    return at, value


def _body(x: Sequence[float], half: Sequence[float], lift: float = 0.0) -> Array:
    """Return the outline of a body with these half widths at these x; lift moves its middle to the ventral side."""
    at, value = _smooth(x, half)
    return np.concatenate([np.column_stack([at, lift + value]), np.column_stack([at, lift - value])[::-1]])


def _bow(rng: Rng, arc: float, wave: float) -> Array:
    """Return headings of a body axis with a random bend of standard deviation arc and S-bend of wave (radians)."""
    t = np.linspace(0.0, 1.0, 33)
    return np.asarray(rng.normal(0, arc) * t + rng.normal(0, wave) * np.sin(2 * np.pi * t + rng.uniform(0, 6)))


# --- the organisms -------------------------------------------------------------------------------------------------


def _copepod(rng: Rng) -> _Pen:
    pen = _Pen(_bow(rng, 0.2, 0.06))
    wide, waist = rng.uniform(0.13, 0.2), rng.uniform(0.58, 0.66)
    reach, sweep = rng.uniform(0.5, 0.95), rng.uniform(1.0, 1.9)
    for side in (-1, 1):
        angle = side * np.clip(sweep + rng.normal(0, 0.15), 0.6, 2.1)
        feeler = _path(0.05, side * wide * 0.5, angle, reach, -side * rng.uniform(-0.2, 0.9), 0.12, rng.uniform(0, 6))
        pen.stroke(feeler, width=0.026, ink=0.75, tip=0.4)
        hairs = [
            _path(feeler[i, 0], feeler[i, 1], angle + rng.normal(-side * 0.9, 0.3), rng.uniform(0.04, 0.11))
            for i in (10, 16, 23)
        ]
        pen.stroke(*hairs, width=0.007, ink=0.4)
    legs = [
        _path(x, wide * 0.7, rng.normal(0.9, 0.2), rng.uniform(0.12, 0.24), rng.normal(0, 0.5))
        for x in np.linspace(0.14, 0.48, rng.integers(3, 6))
    ]
    pen.stroke(*legs, width=0.022, ink=0.4, tip=0.4)
    tail = rng.uniform(0.84, 0.92)
    for side in (-1, 1):
        ramus = _path(tail - 0.02, side * 0.02, side * rng.uniform(0.05, 0.3), 0.08)
        pen.stroke(ramus, width=0.024, ink=0.7)
        hairs = [_path(ramus[-1, 0], ramus[-1, 1], side * a, rng.uniform(0.08, 0.2)) for a in (0.0, 0.25, 0.5)]
        pen.stroke(*hairs, width=0.007, ink=0.4)
    pen.fill(_body([waist - 0.05, waist + 0.04, tail], [0.045, 0.034, 0.026]), ink=0.65)
    if rng.random() < 0.25:
        pen.fill(*(_oval(waist + 0.13, side * 0.075, 0.1, 0.05, side * 0.2) for side in (-1, 1)), ink=0.7)
    prosome = _body(
        [0, 0.015, 0.09, 0.26, 0.45, waist, waist + 0.03], [0, wide * 0.35, wide * 0.8, wide, wide * 0.85, 0.08, 0.03]
    )
    pen.fill(prosome, ink=rng.uniform(0.5, 0.65))
    pen.stroke(prosome, width=0.014, ink=0.45)
    pen.fill(_oval(rng.uniform(0.25, 0.36), rng.normal(0, 0.02), 0.2, wide * 0.4), ink=rng.uniform(-0.35, 0.6))
    joints = np.sort(rng.uniform(0.3, 0.55, rng.integers(2, 5)))
    pen.stroke(*(_segment(x, -wide * 0.8, x + 0.01, wide * 0.8) for x in joints), width=0.008, ink=0.35)
    pen.fill(_oval(0.06, 0.0, 0.02, 0.02), ink=0.7)
    return pen


def _chaetognath(rng: Rng) -> _Pen:
    pen = _Pen(_bow(rng, 0.8, 0.25))
    half, fin = rng.uniform(0.014, 0.027), rng.uniform(1.6, 2.4)
    for start, end in ((0.45, 0.62), (0.66, 0.85)):
        pen.fill(_body([start, (start + end) / 2, end], [half * 0.8, half * fin, half * 0.7]), ink=0.22)
    spread = half * rng.uniform(1.4, 2.4)
    pen.fill(_body([0.9, 0.97, 1.0, 1.005], [half * 0.3, spread, spread * 0.9, 0]), ink=0.35)
    body = _body(
        [0, 0.012, 0.04, 0.065, 0.08, 0.3, 0.7, 0.93, 0.975],
        [half * 0.4, half * 1.1, half * 1.3, half * 0.8, half * 0.8, half, half, half * 0.5, half * 0.15],
    )
    pen.fill(body, ink=rng.uniform(0.4, 0.6))
    pen.stroke(body, width=0.008, ink=0.4)
    pen.fill(_oval(0.035, 0, 0.03, half * 1.0), ink=0.5)
    hooks = [_path(0.02, side * half, side * a, 0.035, -side * 1.5) for side in (-1, 1) for a in (1.9, 2.4)]
    pen.stroke(*hooks, width=0.006, ink=0.6)
    pen.stroke(_segment(0.07, 0, 0.7, 0), width=half * 0.5, ink=rng.uniform(0.1, 0.35))
    if rng.random() < 0.6:
        eggs = [_oval(rng.uniform(0.52, 0.69), side * half * 0.55, 0.05, half * 0.35) for side in (-1, 1)]
        pen.fill(*eggs, ink=0.45)
    return pen


def _medusa(rng: Rng) -> _Pen:
    pen = _Pen(_bow(rng, 0.25, 0.08))
    high, half = rng.uniform(0.3, 0.55), rng.uniform(0.28, 0.42)
    rim, sag = half * rng.uniform(0.68, 1.0), rng.uniform(0.0, 0.07)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 48)
    level = 1 - np.cos(angle) ** rng.uniform(0.7, 1.15)
    y = np.linspace(rim, -rim, 30)[1:-1]
    lobes = 0.006 * np.sin(y / rim * rng.uniform(9, 20))
    edge = np.column_stack([high + sag * (1 - (y / rim) ** 2) + lobes, y])
    dome = np.column_stack([high * level, np.sin(angle) * (half + (rim - half) * level**3)])
    bell = np.concatenate([dome, edge])
    tentacles = []
    for y in np.linspace(-rim, rim, rng.integers(5, 18)) * 0.97:
        heading, turn, sway = rng.normal(y * 0.5, 0.12), rng.normal(0, 0.7), rng.uniform(0.1, 0.5)
        root = high + 0.8 * sag * (1 - (y / rim) ** 2)
        tentacles.append(_path(root, y, heading, rng.uniform(0.6, 1.0), turn, sway, rng.uniform(0, 6)))
    reach = rng.uniform(0.25, 0.95)
    cut = [line[: max(4, int(len(line) * reach * rng.uniform(0.75, 1)))] for line in tentacles]
    pen.stroke(*cut, width=0.016, ink=rng.uniform(0.45, 0.7), tip=0.5)
    pen.fill(bell, ink=rng.uniform(0.28, 0.42))
    hollow = dome * [0.78, 0.8] + [high * 0.22, 0]
    pen.fill(hollow, ink=rng.uniform(-0.35, 0.2))
    pen.stroke(hollow, width=0.01, ink=0.3)
    pen.stroke(dome, width=0.018, ink=0.55)
    canals = [np.column_stack([hollow[:, 0], hollow[:, 1] * share])[:24] for share in (-0.55, 0.55)]
    pen.stroke(*canals, width=0.012, ink=0.3)
    pen.stroke(edge, width=0.026, ink=0.4)
    long = high * rng.uniform(0.5, 1.0)
    stalk = _path(high * 0.22, 0, rng.normal(0, 0.12), long, rng.normal(0, 0.3), 0.1, rng.uniform(0, 6))
    pen.stroke(stalk, width=rng.uniform(0.08, 0.13), ink=0.6, tip=0.55)
    lips = [_path(stalk[-1, 0], stalk[-1, 1], a, 0.07, rng.normal(0, 0.6)) for a in (-0.6, 0.0, 0.6)]
    pen.stroke(*lips, width=0.025, ink=0.5, tip=0.4)
    pen.fill(_oval(high * 0.27, 0, high * 0.1, half * 0.3), ink=rng.uniform(0.2, 0.5))
    return pen


def _diatom_chain(rng: Rng) -> _Pen:
    pen = _Pen(_bow(rng, 0.5, 0.08))
    cells = int(rng.integers(4, 15))
    pitch = 1 / cells
    tall = float(np.clip(pitch * rng.uniform(0.45, 1.5), 0.035, 0.16))
    long = pitch * rng.uniform(0.36, 0.46)
    corner, hairy = rng.uniform(0.25, 0.6), rng.random() < 0.5
    middles = (np.arange(cells) + 0.5) * pitch
    reach = rng.uniform(1.2, 3.0) * tall
    for x in middles if hairy else []:
        hairs = [
            _path(x + end * long, side * tall * 0.8, side * (np.pi / 2 - end * rng.uniform(0.2, 0.7)), reach,
                  rng.normal(0, 0.5))
            for end in (-1, 1) for side in (-1, 1)
        ]  # fmt: skip
        pen.stroke(*hairs, width=0.007, ink=0.5)
    pen.stroke(*(_segment(0.5 * pitch, y, 1 - 0.5 * pitch, y) for y in (-tall * 0.6, tall * 0.6)), width=0.01, ink=0.55)
    walls = [_oval(x, 0, long, tall, 0, corner) for x in middles]
    pen.fill(*walls, ink=rng.uniform(0.3, 0.5))
    pen.stroke(*(_close(wall) for wall in walls), width=0.014, ink=0.6)
    plump = rng.uniform(0.35, 0.7)
    plasts = [
        _blob(rng, x + rng.normal(0, long * 0.15), rng.normal(0, tall * 0.15), min(long, tall) * plump, 0.15)
        for x in middles
    ]
    pen.fill(*plasts, ink=rng.uniform(0.35, 0.65))
    return pen


def _radiolarian(rng: Rng) -> _Pen:
    pen = _Pen()
    core, halo = rng.uniform(0.12, 0.2), rng.uniform(0.24, 0.36)
    spines = int(rng.integers(9, 40))
    angles = np.linspace(0, 2 * np.pi, spines, endpoint=False) + rng.normal(0, 0.6 / spines, spines) + rng.uniform(0, 6)
    even = rng.uniform(0.05, 0.2)
    reach = 0.5 * (1 - rng.uniform(0, 3 * even, spines))
    rays = [_path(0, 0, a, max(r, halo * 1.15), rng.normal(0, 0.08)) for a, r in zip(angles, reach, strict=True)]
    pen.fill(_blob(rng, 0, 0, halo, 0.03), ink=rng.uniform(0.15, 0.35))
    pen.stroke(*rays, width=rng.uniform(0.012, 0.022), ink=rng.uniform(0.5, 0.7), tip=0.35)
    shell = _oval(0, 0, halo * 0.8, halo * 0.8)
    pen.stroke(_close(shell), width=0.018, ink=rng.uniform(0.1, 0.5))
    grains = rng.normal(0, halo * 0.45, (int(rng.integers(6, 22)), 2))
    pen.fill(*(_oval(x, y, 0.02, 0.02) for x, y in grains), ink=0.25)
    pen.fill(_blob(rng, 0, 0, core * 1.15, 0.05), ink=0.4)
    pen.fill(_blob(rng, 0, 0, core * 0.9, 0.06), ink=rng.uniform(0.55, 0.8))
    return pen


def _appendicularian(rng: Rng) -> _Pen:
    pen = _Pen()
    long, plump = rng.uniform(0.14, 0.19), rng.uniform(0.42, 0.62)
    curl = rng.choice([-1, 1]) * rng.uniform(0.4, 3.6)
    tail = _path(0, 0, rng.uniform(0.5, 1.4), 1.0, curl, rng.uniform(0.05, 0.45), rng.uniform(0, 6))
    t = np.linspace(0, 1, len(tail))
    broad = rng.uniform(0.1, 0.15) * np.interp(t, [0, 0.12, 0.6, 0.92, 1], [0.35, 0.9, 1, 0.7, 0.15])
    pen.stroke(tail, width=broad, ink=rng.uniform(0.25, 0.38))
    pen.stroke(tail, width=broad * 0.42, ink=rng.uniform(0.35, 0.55))
    pen.stroke(tail[:-2], width=0.012, ink=0.5)
    tilt = rng.normal(0, 0.15)
    trunk = _oval(-long * 0.55, -long * 0.1, long, long * plump, tilt)
    pen.fill(trunk, ink=rng.uniform(0.4, 0.55))
    pen.stroke(_close(trunk), width=0.014, ink=0.45)
    pen.fill(_blob(rng, -long * 0.1, -long * 0.1, long * plump * 0.75, 0.12), ink=rng.uniform(0.5, 0.8))
    pen.fill(_oval(-long * 1.1, -long * 0.15, long * 0.22, long * 0.15, tilt), ink=0.45)
    return pen


def _faecal_pellet(rng: Rng) -> _Pen:
    pen = _Pen(_bow(rng, 0.3, 0.12))
    half, blunt = rng.uniform(0.09, 0.2), rng.uniform(0.03, 0.14)
    taper = rng.uniform(0.45, 1.0)
    x = [0, blunt * 0.3, blunt, 0.5, 1 - blunt, 1 - blunt * 0.3, 1]
    rod = _body(x, [half * w for w in (0.25, 0.65, 0.95, 1, 0.9 * taper, 0.6 * taper, 0.2)])
    bumps = np.convolve(rng.normal(size=len(rod) + 2), np.full(3, 1 / 3), "valid")
    rod = rod + np.column_stack([bumps * 0.004, bumps * half * rng.uniform(0.04, 0.13)])
    pen.fill(rod, ink=rng.uniform(0.65, 0.85))
    pen.stroke(rod, width=0.02, ink=0.3)
    for ink in (0.35, -0.15):
        crumbs = [
            _blob(rng, rng.uniform(0.08, 0.92), rng.normal(0, half * 0.4), rng.uniform(0.02, 0.07), 0.2)
            for _ in range(rng.integers(3, 10))
        ]
        pen.fill(*crumbs, ink=ink)
    if rng.random() < 0.5:
        pen.fill(*(_blob(rng, end, rng.normal(0, half * 0.4), half * 0.4, 0.3) for end in (0.03, 0.97)), ink=0.35)
    return pen


def _detritus(rng: Rng) -> _Pen:
    pen = _Pen()
    clumps = int(rng.integers(18, 60))
    stretch = rng.uniform(0.35, 1.0)
    middles = [np.zeros(2)]
    for _ in range(clumps):  # each clump sticks to an earlier one
        angle = rng.uniform(0, 2 * np.pi)
        step = rng.uniform(0.04, 0.14) * np.array([np.cos(angle), np.sin(angle) * stretch])
        middles.append(middles[int(rng.integers(len(middles)))] + step)
    fibres = []
    for i in rng.integers(0, len(middles), rng.integers(3, 14)):
        x, y = middles[i]
        length, turn = rng.uniform(0.12, 0.35), rng.normal(0, 1.5)
        fibres.append(_path(x, y, rng.uniform(0, 6.3), length, turn, 0.5, rng.uniform(0, 6)))
    pen.stroke(*fibres, width=0.012, ink=rng.uniform(0.3, 0.55))
    rough = rng.uniform(0.15, 0.3)
    pen.fill(*(_blob(rng, x, y, rng.uniform(0.03, 0.1), rough) for x, y in middles), ink=rng.uniform(0.15, 0.35))
    for x, y in middles[:: int(rng.integers(1, 3))]:
        pen.fill(_blob(rng, x, y, rng.uniform(0.02, 0.08), rough), ink=rng.uniform(0.1, 0.4))
    for _ in range(3):
        fluff = [middles[i] + rng.normal(0, 0.06, 2) for i in rng.integers(0, len(middles), 30)]
        pen.fill(*(_blob(rng, x, y, rng.uniform(0.006, 0.03), 0.3) for x, y in fluff), ink=rng.uniform(0.15, 0.5))
    return pen


def _euphausiid(rng: Rng) -> _Pen:
    bend = rng.uniform(0.1, 1.9)
    pen = _Pen(bend * np.clip((np.linspace(0, 1, 33) - 0.35) / 0.6, 0, 1) + rng.normal(0, 0.1))
    half = rng.uniform(0.065, 0.095)
    feelers = [_path(0.02, 0, np.pi + rng.normal(0, 0.35), rng.uniform(0.2, 0.5), rng.normal(0, 0.8)) for _ in range(3)]
    pen.stroke(*feelers, width=0.011, ink=0.55, tip=0.5)
    back = rng.uniform(0.9, 1.5)
    legs = [
        _path(x, half * 0.7, rng.normal(back, 0.12), rng.uniform(0.14, 0.24), rng.uniform(-0.9, 0.5))
        for x in np.linspace(0.1, 0.36, 7)
    ]
    pen.stroke(*legs, width=0.016, ink=0.5, tip=0.4)
    paddles = [_path(x, half * 0.5, rng.normal(1.1, 0.2), rng.uniform(0.07, 0.12)) for x in np.linspace(0.45, 0.74, 5)]
    pen.stroke(*paddles, width=0.028, ink=0.45, tip=0.5)
    fan = rng.uniform(0.2, 0.45)
    blades = [_oval(0.985 + 0.05 * np.cos(a), 0.06 * np.sin(a), 0.075, 0.02, a) for a in (-fan, 0.0, fan)]
    pen.fill(*blades, ink=0.5)
    pen.fill(_body([0.36, 0.5, 0.7, 0.88, 0.96], [half * w for w in (0.85, 0.75, 0.55, 0.4, 0.3)]), ink=0.5)
    knots = np.linspace(0.4, 0.86, 6)
    shrink = np.interp(knots, [0.36, 0.88], [half * 0.82, half * 0.4])
    joints = [_path(x - 0.015, -h, np.pi / 2 - 0.4, 2 * h, 0.8) for x, h in zip(knots, shrink, strict=True)]
    pen.stroke(*joints, width=0.012, ink=0.5)
    carapace = _body(
        [-0.05, 0.0, 0.06, 0.2, 0.34, 0.4], [0.004, half * 0.35, half * 0.8, half, half * 0.95, half * 0.5]
    )
    pen.fill(carapace, ink=rng.uniform(0.5, 0.65))
    pen.stroke(carapace, width=0.01, ink=0.4)
    pen.fill(_oval(0.2, half * 0.05, 0.1, half * 0.5, 0.1), ink=rng.uniform(0.2, 0.6))
    pen.stroke(_segment(0.28, 0, 0.9, 0), width=0.014, ink=0.3)
    pen.fill(_oval(0.015, half * 0.45, 0.032, 0.03), ink=0.95)
    return pen


def _pteropod(rng: Rng) -> _Pen:
    pen = _Pen()
    turns, shrink = rng.uniform(2.2, 3.4), rng.uniform(0.16, 0.23)
    angle = np.linspace(0, 2 * np.pi * turns, int(32 * turns))
    squash = rng.uniform(0.75, 1.0)
    radius = 0.34 * np.exp(-shrink * angle / 2)
    coil = np.column_stack([radius * np.cos(angle), squash * radius * np.sin(angle)])
    mouth = rng.normal(0, 0.15)
    span, lobe = rng.uniform(0.32, 0.6), rng.uniform(0.1, 0.19)
    for side in (-1, 1):  # the wings spread from the mouth of the shell
        tilt = mouth - 0.5 + side * rng.uniform(0.35, 0.95)
        wing = _path(0.26, -0.08, tilt, span * rng.uniform(0.85, 1.1), side * rng.uniform(-0.2, 0.9))
        t = np.linspace(0, 1, len(wing))
        sheet = 2 * lobe * np.interp(t, [0, 0.3, 0.65, 0.85, 0.95, 1], [0.35, 0.6, 1, 0.95, 0.65, 0.3])
        pen.stroke(wing, width=sheet, ink=rng.uniform(0.28, 0.42))
        pen.stroke(wing[:18], width=sheet[:18] * 0.4, ink=0.25, tip=0.3)
        pen.fill(_oval(0.27, -0.07, 0.09, 0.06, tilt), ink=0.4)
    outer = coil[: int(32 * 1.05)]
    pen.fill(outer, ink=rng.uniform(0.45, 0.62))
    for whorl in (1, 2):
        pen.fill(coil[32 * whorl - 16 : 32 * whorl + 17], ink=rng.uniform(0.15, 0.4))
    pen.stroke(coil, width=np.maximum(0.022 * radius / 0.34, 0.01), ink=0.65)
    return pen


def _tintinnid(rng: Rng) -> _Pen:
    pen = _Pen(_bow(rng, 0.12, 0.03))
    mouth, flare, lip = rng.uniform(0.15, 0.25), rng.uniform(0.0, 0.4), rng.uniform(0.04, 0.12)
    horn, plump = rng.choice([0.0, rng.uniform(0.08, 0.35)]), rng.uniform(0.6, 1.6)
    bowl, widest = 1 - horn, rng.uniform(0.35, 0.6)
    x = np.linspace(0, 1, 64)
    deeper = np.clip((x / bowl - widest) / (1 - widest), 0, 1)
    half = mouth * (np.sqrt(1 - deeper ** (1 + plump)) + flare * np.exp(-x / lip))
    half = np.maximum(half, 0.02 * np.clip((1 - x) / max(horn, 0.01), 0, 1) ** 0.5)
    vase = np.concatenate([np.column_stack([x, half]), np.column_stack([x, -half])[::-1]])
    if rng.random() < 0.6:
        crown = [
            _path(0.01, y, np.pi + y * 3 + rng.normal(0, 0.15), rng.uniform(0.12, 0.22), rng.normal(0, 0.5))
            for y in np.linspace(-mouth, mouth, rng.integers(6, 12)) * 0.75
        ]
        pen.stroke(*crown, width=0.018, ink=0.45, tip=0.4)
    pen.fill(vase, ink=rng.uniform(0.22, 0.42))
    pen.stroke(vase, width=rng.uniform(0.022, 0.036), ink=0.6)
    pen.stroke(_segment(0.005, -half[0], 0.005, half[0]), width=0.02, ink=0.35)
    deep = rng.uniform(0.1, 0.4) * bowl
    cell = _body(
        [deep * 0.4, deep * 0.6, deep + 0.1, deep + bowl * 0.35, bowl * 0.85],
        [mouth * w for w in (0.3, 0.6, 0.75, 0.55, 0.05)],
    )
    pen.fill(cell, ink=rng.uniform(0.4, 0.65))
    grains = [_oval(deep + rng.uniform(0.05, 0.25), rng.normal(0, mouth * 0.25), 0.03, 0.03) for _ in range(4)]
    pen.fill(*grains, ink=0.4)
    return pen


def _fish_egg(rng: Rng) -> _Pen:
    pen = _Pen()
    oval = rng.uniform(0.92, 1.0)
    wall = _oval(0, 0, 0.5, 0.5 * oval)
    pen.fill(wall, ink=rng.uniform(0.12, 0.4))
    yolk, off = rng.uniform(0.34, 0.46), rng.normal(0, 0.02, 2)
    ball = _oval(off[0], off[1], yolk, yolk * oval)
    pen.fill(ball, ink=rng.uniform(0.05, 0.35))
    pen.stroke(_close(ball), width=0.012, ink=rng.uniform(0.1, 0.4))
    pen.stroke(_close(wall), width=rng.uniform(0.018, 0.035), ink=0.7)
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.4:
        embryo = _path(
            off[0] + yolk * 0.8 * np.cos(angle), off[1] + yolk * 0.8 * np.sin(angle), angle + np.pi / 2, yolk * 1.6, 2.0
        )
        pen.stroke(embryo, width=0.1 * np.sin(np.linspace(0.3, 3.0, len(embryo))) ** 0.6, ink=0.5)
        angle += np.pi
    away, drop = rng.uniform(0.1, 0.24), rng.uniform(0.06, 0.12)
    x, y = away * np.cos(angle), away * np.sin(angle)
    pen.fill(_oval(x, y, drop, drop), ink=0.75)
    pen.fill(_oval(x, y, drop * 0.6, drop * 0.6), ink=-rng.uniform(0.3, 0.7))
    return pen


_DRAW: dict[str, Callable[[Rng], _Pen]] = {
    "copepod": _copepod,
    "chaetognath": _chaetognath,
    "medusa": _medusa,
    "diatom_chain": _diatom_chain,
    "radiolarian": _radiolarian,
    "appendicularian": _appendicularian,
    "faecal_pellet": _faecal_pellet,
    "detritus": _detritus,
    "euphausiid": _euphausiid,
    "pteropod": _pteropod,
    "tintinnid": _tintinnid,
    "fish_egg": _fish_egg,
}

CLASSES: tuple[str, ...] = tuple(_DRAW)


# --- the camera ----------------------------------------------------------------------------------------------------


def _clouds(rng: Rng, size: tuple[int, int], grain: float) -> Array:
    """Return smooth noise of standard deviation near 1, (height, width); grain is the size of its bumps in pixels."""
    coarse = tuple(max(2, int(side / grain) + 2) for side in size[::-1])
    noise = Image.fromarray(rng.normal(size=coarse).astype(np.float32))
    return np.asarray(noise.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


def _photograph(ink: Image.Image, rng: Rng) -> Image.Image:
    """Return the grey image of a body whose ink absorbs light, with defocus, uneven light, specks and noise."""
    long_side = max(ink.size)
    blur = min(rng.gamma(2.0, 0.35), 0.4 + long_side / 80)
    dark = np.asarray(ink.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float64) / 255
    dark = dark * (1 + rng.uniform(0.03, 0.14) * _clouds(rng, ink.size, max(3.0, long_side / 20)))
    down, across = np.ogrid[: ink.height, : ink.width]
    for _ in range(rng.poisson(0.5)):  # specks
        far = (across - rng.uniform(0, ink.width)) ** 2 + (down - rng.uniform(0, ink.height)) ** 2
        dark += rng.uniform(0.2, 0.6) * np.exp(-far / (2 * rng.uniform(0.5, 1.3) ** 2))
    light = rng.uniform(205, 245) + rng.uniform(1, 5) * _clouds(rng, ink.size, long_side / 2)
    grey = light * (1 - rng.uniform(0.55, 1.0) * np.clip(dark, 0, 1))
    grey += rng.normal(0, rng.uniform(1.0, 4.5), grey.shape)
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


# --- public functions ----------------------------------------------------------------------------------------------


def draw_plankton(label: str, rng: np.random.Generator) -> Image.Image:
    """Draw one plankton image of a class.

    Args:
        label: one of CLASSES.
        rng: the source of all chance; the same state draws the same image.

    Returns:
        A grey ("L") image with a dark body on light ground, its longest side between 30 and 250 pixels.

    Raises:
        SettingError: the label is unknown.
    """
    _check_labels([label])
    long_side = int(np.clip(_TYPICAL * np.exp(rng.normal(0, 0.42)), _SHORTEST, _LONGEST))
    margin = int(rng.integers(2, 4 if long_side < 60 else 7))
    pen = _DRAW[label](rng)
    ink = pen.print(long_side, margin, rng.uniform(0, 2 * np.pi), bool(rng.random() < 0.5))
    return _photograph(ink, rng)


def draw_set(
    folder: str | Path,
    *,
    n_per_class: int = 100,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    progress: bool = True,
) -> Path:
    """Draw a folder of plankton images, one subfolder per class: folder/<class>/<class>_0001.png and so on.

    Each image depends only on seed, class and number, so a small set is a part of a large one. Existing files are
    kept.

    Args:
        folder: the folder of the class folders; created if it is missing.
        n_per_class: images in each class, 1 or more; default 100.
        seed: which set to draw, 0 or more; default 0.
        classes: the labels to draw; default all of CLASSES.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        SettingError: n_per_class is below 1, seed is below 0, or a label is unknown.
        OutputError: a class folder cannot be created.
    """
    if n_per_class < 1:
        raise SettingError(f"n_per_class: expected 1 or more images per class; found {n_per_class}")
    if seed < 0:
        raise SettingError(f"seed: expected a whole number, 0 or more; found {seed}")
    _check_labels(classes)
    folder = Path(folder)
    wanted = [(label, number) for label in dict.fromkeys(classes) for number in range(1, n_per_class + 1)]
    for label in dict.fromkeys(classes):
        try:
            (folder / label).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder / label}: the folder cannot be created ({error}); choose another folder"
            ) from error
    missing = [image for image in wanted if not _locate(folder, *image).exists()]
    map_images(partial(_draw_file, folder, seed), missing, "drawing plankton", progress, many=MANY)
    return folder


def _locate(folder: Path, label: str, number: int) -> Path:
    return folder / label / f"{label}_{number:04d}.png"


def _draw_file(folder: Path, seed: int, image: tuple[str, int]) -> None:
    label, number = image
    drawn = draw_plankton(label, np.random.default_rng([seed, zlib.crc32(label.encode()), number]))
    with write_atomically(_locate(folder, label, number)) as temporary:
        drawn.save(temporary, format="PNG")


def _check_labels(labels: Sequence[str]) -> None:
    unknown = [label for label in labels if label not in _DRAW]
    if unknown:
        raise SettingError(f"classes: expected some of {', '.join(CLASSES)}; found {', '.join(map(repr, unknown))}")
