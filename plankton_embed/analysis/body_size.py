"""Body sizes: diameter and biovolume from measured areas and axes, and size spectra."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

UM3_PER_MM3 = 1e9


def unit_size(images: pd.DataFrame) -> NDArray[np.float64]:
    """Return the µm per unit of the features' lengths, (n,); nan if unknown.

    Args:
        images: columns of an `ImageCatalog`: `pixel_size` (µm), for features in pixels; and `size_unit`: `um` if areas
            and axes are in µm, `unknown` if their unit is not known.
    """
    scale = np.full(len(images), np.nan)
    if "pixel_size" in images:
        scale = pd.to_numeric(images["pixel_size"], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        scale = np.where(np.isfinite(scale), scale, np.nan)
    if "size_unit" not in images:
        return scale
    unit = images["size_unit"].astype(object)
    return np.select([unit == "um", unit == "unknown"], [1.0, np.nan], scale)


def measure_bodies(features: pd.DataFrame, pixel_size: ArrayLike | None = None) -> pd.DataFrame:
    """Compute diameters and volumes from the measurements of the instrument's software.

    Args:
        features: columns of `ImageCatalog.features`. `area`, `major` and `minor` (the axes of the ellipse) are in
            pixels, as in ZooProcess and EcoTaxa; `abd_area` is in µm², as in FlowCam's software.
        pixel_size: (n,) µm per pixel, for the columns in pixels; 1 if they are in µm (see `unit_size`).

    Returns:
        One row per row: `esd`, the diameter of the circle of equal area, µm; `biovolume_sphere` of the sphere of that
        diameter, and `biovolume_ellipsoid` of the ellipse turned about its long axis, mm³. nan if a
        measurement is missing; a column is left out if it is missing for all.
    """
    scale = np.full(len(features), np.nan) if pixel_size is None else np.asarray(pixel_size, dtype=float)
    scale = np.where(scale > 0, scale, np.nan)

    def column(name: str) -> NDArray[np.float64]:
        return features[name].to_numpy(dtype=float) if name in features else np.full(len(features), np.nan)

    area = column("abd_area")
    area = np.where(np.isnan(area), column("area") * scale**2, area)
    diameter = 2 * np.sqrt(np.where(area > 0, area, np.nan) / np.pi)
    major, minor = column("major") * scale, column("minor") * scale
    ellipsoid = np.pi / 6 * major * minor**2
    sizes = pd.DataFrame(
        {
            "esd": diameter,
            "biovolume_sphere": np.pi / 6 * diameter**3 / UM3_PER_MM3,
            "biovolume_ellipsoid": np.where(ellipsoid > 0, ellipsoid, np.nan) / UM3_PER_MM3,
        },
        index=features.index,
    )
    return sizes.dropna(axis="columns", how="all")


def size_spectrum(biovolume: ArrayLike, weight: ArrayLike, water: float | None = None) -> pd.DataFrame:
    """Return the normalised biovolume size spectrum: biovolume in bins that double in size.

    Args:
        biovolume: (n,) volume of each body, mm³; missing values and values not above 0 are left out.
        weight: (n,) number of bodies in the sample that each body represents.
        water: volume of water that the sample represents, m³; by default the spectrum is that of the sample as a whole.

    Returns:
        One row per bin from the smallest to the largest body: `low` and `high` (mm³, powers of 2), `esd_low`,
        `esd_high` (µm, of spheres), `count`, `biovolume` (mm³), and `nbss`, the biovolume divided by the width of the
        bin and by the water (m⁻³; without water, no unit). (Source: Platt and Denman 1977, Helgoländer wiss.
        Meeresunters. 30.)
    """
    size, times = np.asarray(biovolume, dtype=float), np.asarray(weight, dtype=float)
    seen = np.isfinite(size) & (size > 0)
    size, times = size[seen], times[seen]
    names = ["low", "high", "esd_low", "esd_high", "count", "biovolume", "nbss"]
    if len(size) == 0:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in names})
    octave = np.floor(np.log2(size)).astype(int)
    first = int(octave.min())
    n_bins = int(octave.max()) - first + 1
    low = 2.0 ** np.arange(first, first + n_bins)
    esd = np.cbrt(6 / np.pi * UM3_PER_MM3 * np.append(low, 2 * low[-1]))
    total = np.bincount(octave - first, times * size, n_bins)
    count = np.bincount(octave - first, times, n_bins)
    columns = [low, 2 * low, esd[:-1], esd[1:], count, total, total / low / (1.0 if water is None else water)]
    return pd.DataFrame(dict(zip(names, columns, strict=True)))
