"""Shape and grey-level features of the body in an image, named as in ZooProcess, measured with scikit-image."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from sklearn.utils.parallel import Parallel, delayed

from plankton_embed.errors import InputError, needs_extra
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_files import FEATURE_PREFIX
from plankton_embed.images.grey_levels import resolve_white_level
from plankton_embed.images.mark_lines import border_of
from plankton_embed.images.marks import remove_marks as without_marks
from plankton_embed.images.preparation import DECODER_FAULTS, ImageSource, open_image, to_8bit
from plankton_embed.output import progress_bar
from plankton_embed.settings import PreparationSettings

logger = logging.getLogger(__name__)

DEFINITIONS = {
    "area": "pixels of the body, holes filled",
    "area_exc": "pixels of the body without its holes",
    "%area": "holes, in percent of area",
    "esd": "diameter of the disc of that area, 2 √(area / π)",
    "perim.": "length of the outer boundary, after Crofton in four directions",
    "width": "of the upright box around the body",
    "height": "of the upright box around the body",
    "major": "longer axis of the ellipse with the same second moments",
    "minor": "shorter axis of that ellipse",
    "angle": "of the longer axis to the x axis, counter-clockwise, 0 to 180°",
    "elongation": "major / minor",
    "feret": "largest distance between two points of the body",
    "convperim": "perimeter of the convex hull",
    "convarea": "area of the convex hull",
    "circ.": "4π area / perim.²",
    "circex": "4π area_exc / perim.²",
    "perimferet": "perim. / feret",
    "perimmajor": "perim. / major",
    "perimareaexc": "perim. / √area_exc",
    "feretareaexc": "feret / √area_exc",
    "convperim_perim": "convperim / perim.",
    "convarea_area": "convarea / area",
    "fractal": "Minkowski dimension of the outer boundary: 2 - slope of log(pixels within r of it) on log r, r 1 to 8",
    "skelarea": "pixels of the skeleton, by thinning, which changes when the body is turned",
    "skeleton_area": "skelarea / area",
    "thickr": "largest thickness along the skeleton / mean of the others; nan where the skeleton is one pixel",
    "symetrieh": "share of the body that its mirror image in the longer axis does not cover",
    "symetriev": "share of the body that its mirror image in the shorter axis does not cover",
    "mean": "grey level over area",
    "stddev": "of the grey levels, divided by area - 1; nan for a body of one pixel",
    "mode": "commonest grey level, the darkest of several",
    "min": "smallest grey level",
    "max": "largest grey level",
    "range": "max - min",
    "median": "of the grey levels",
    "intden": "sum of the grey levels, area · mean",
    "skew": "skewness of the grey levels; nan where they are all the same",
    "kurt": "kurtosis of the grey levels, 0 for a bell curve; nan where they are all the same",
    "cv": "100 stddev / mean; nan where mean is 0",
    "sr": "100 stddev / range; nan where range is 0",
    "meanpos": "(mean - max) / (mean - min); nan where range is 0",
    "histcum1": "grey level below which a quarter of the body is",
    "histcum2": "the same for a half",
    "histcum3": "the same for three quarters",
    "slope": "of the cumulative share of pixels on the grey level, least squares from min to max; nan where range is 0",
    "nb1": "regions of the quarter of the body farthest from the background's grey level",
    "nb2": "the same for a half",
    "nb3": "the same for three quarters",
    "centroids": "distance of the centre of area from the centre of |grey level - background|",
    "cdexc": "centroids / √area_exc",
}
"""Name and definition of every feature. Lengths are in pixels, grey levels 0 (black) to 255.

The names and, unless stated otherwise, the definitions are those of the ZooProcess manual, as listed by EcoTaxa
(Gorsky et al. 2010, J. Plankton Res. 32:285; Minkowski dimension: Bérubé and Jébrak 1999, Comput. Geosci. 25:1059).
No publication defines symetrieh, symetriev, thickr and the edge pixels of several others exactly. The definitions here
are our own, so do not put numbers of ZooProcess and these into one column. `fcons` and `symetriehc` are left out for
the same reason, and positions in the picture (x, y, bx …) because they do not describe the body.
"""

RADII = (1, 2, 4, 8)  # pixels, for the Minkowski dimension
N_PER_CHUNK = 64
N_FOR_PROCESSES = 512  # with at least so many images, several processes are faster


def measure_shapes(
    images: ImageCatalog | Sequence[ImageSource],
    progress: bool = True,
    largest_only: bool = False,
    white_level: Literal["auto"] | int = "auto",
    remove_marks: Literal["auto", "off"] = "auto",
) -> pd.DataFrame:
    """Measure the body of every image; see DEFINITIONS.

    Otsu's threshold separates the body from the background, which is the side of the median of the border: dark on
    light or light on dark. All regions count as one body, because the threshold cuts antennae, chains and pale bodies
    into pieces. Grey levels are not changed; those of more than 8 bits are on the scale of `white_level`.

    Args:
        images: a catalog, or images as for `open_image`.
        progress: show a progress bar.
        largest_only: measure only the largest region (diagonal neighbours are joined), for pictures that show other
            bodies or specks; ZooProcess has one region per picture.
        white_level: the value that is white in images of more than 8 bits; `auto`: found from these images.
        remove_marks: remove scale bars, their text and corner marks first (see `images.marks`), or measure them too.

    Returns:
        One row per image, in order; float64. All nan if an image has only one grey level or cannot be read; a warning
        counts such images.

    Raises:
        DependencyError: scikit-image is not installed.
        InputError: not one image can be read.
    """
    with needs_extra("measuring shape features", "features"):
        import skimage  # noqa: F401
    sources: Sequence[ImageSource] = images.paths if isinstance(images, ImageCatalog) else images
    chunks = [sources[start : start + N_PER_CHUNK] for start in range(0, len(sources), N_PER_CHUNK)]
    given = PreparationSettings(color="grey", white_level_16bit=white_level, remove_marks=remove_marks)
    settings = resolve_white_level(given, sources, progress)
    n_jobs = -1 if len(sources) >= N_FOR_PROCESSES else 1
    rows: list[dict[str, float] | str] = []
    with progress_bar(len(sources), "measuring", "image", shown=progress) as bar:
        work = Parallel(n_jobs=n_jobs, return_as="generator")
        for part in work(delayed(_measure_chunk)(chunk, largest_only, settings) for chunk in chunks):
            rows.extend(part)
            bar.update(len(part))
    faults = [(number, row) for number, row in enumerate(rows) if isinstance(row, str)]
    if faults:
        number, fault = faults[0]
        source = sources[number]
        first = f"the first is {source if isinstance(source, str | Path) else f'image {number}'}: {fault}"
        if len(faults) == len(rows):
            raise InputError(f"none of the {len(rows)} images can be read; {first}")
        logger.warning("%d of %d images cannot be read, and have no features; %s", len(faults), len(rows), first)
    n_empty = sum(not row for row in rows)
    if n_empty:
        logger.warning("%d of %d images have only one grey level, and no features", n_empty, len(rows))
    measured = [row if isinstance(row, dict) else {} for row in rows]
    return pd.DataFrame(measured, columns=list(DEFINITIONS), index=range(len(rows)), dtype=np.float64)


def add_shape_features(
    catalog: ImageCatalog,
    progress: bool = True,
    largest_only: bool = False,
    remove_marks: Literal["auto", "off"] = "auto",
) -> ImageCatalog:
    """Return the catalog with the columns `feature_…` of `measure_shapes`; existing columns are kept.

    Raises:
        DependencyError: scikit-image is not installed.
        InputError: not one image can be read.
    """
    new = measure_shapes(catalog, progress, largest_only, remove_marks=remove_marks).add_prefix(FEATURE_PREFIX)
    new = new[[name for name in new if name not in catalog.frame]].set_axis(catalog.frame.index, axis=0)
    return ImageCatalog(pd.concat([catalog.frame, new], axis=1))


def find_body(grey: NDArray[np.uint8], largest_only: bool = False) -> tuple[NDArray[np.bool_], float] | None:
    """Return the mask of the body, and the grey level of the background; None if all pixels are equal.

    Args:
        grey: (height, width).
        largest_only: only the largest region.
    """
    from skimage.filters import threshold_otsu

    if grey.min() == grey.max():
        return None
    ground = float(np.median(border_of(grey)))
    threshold = threshold_otsu(grey)
    body = grey <= threshold if ground > threshold else grey > threshold
    if not largest_only:
        return body, ground
    labels, _ = ndimage.label(body, np.ones((3, 3)))
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1, ground


def measure_shape(grey: NDArray[np.uint8], largest_only: bool = False) -> dict[str, float]:
    """Return the features of the body in a grey image (height, width); empty if it has only one grey level."""
    found = find_body(grey, largest_only)
    if found is None:
        return {}
    mask, ground = found
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    body, levels = np.pad(mask[box], 1), np.pad(grey[box], 1)
    filled = ndimage.binary_fill_holes(body)
    return (
        _measure_outline(filled, int(body.sum()))
        | _measure_skeleton(filled)
        | _measure_grey(levels[filled])
        | _measure_depth(filled, levels, ground, int(body.sum()))
    )


def _measure_outline(filled: NDArray[np.bool_], area_exc: int) -> dict[str, float]:
    from skimage.measure import perimeter_crofton

    rows, columns = np.nonzero(filled)
    area = len(rows)
    (xx, xy), (_, yy) = np.cov(columns, rows, ddof=0) + np.eye(2) / 12  # the variance of a pixel itself
    tilt, spread = 0.5 * math.atan2(-2 * xy, xx - yy), math.hypot(xx - yy, 2 * xy)  # rows are counted downwards
    major, minor = (2 * math.sqrt(2 * (xx + yy + sign * spread)) for sign in (1, -1))
    ends = np.stack([filled.argmax(1), filled.shape[1] - filled[:, ::-1].argmax(1)], axis=1)[1:-1]  # of each row
    heights = np.repeat(np.arange(len(ends)), 2)
    corners = np.concatenate([np.column_stack([ends.ravel(), heights + edge]) for edge in (0, 1)])
    hull = ConvexHull(corners)
    perimeter = float(perimeter_crofton(filled, directions=4))
    feret = float(pdist(corners[hull.vertices]).max())
    return {
        "area": area,
        "area_exc": area_exc,
        "%area": 100 * (area - area_exc) / area,
        "esd": 2 * math.sqrt(area / math.pi),
        "perim.": perimeter,
        "width": filled.shape[1] - 2,
        "height": filled.shape[0] - 2,
        "major": major,
        "minor": minor,
        "angle": math.degrees(tilt) % 180,
        "elongation": major / minor,
        "feret": feret,
        "convperim": float(hull.area),  # in two dimensions
        "convarea": float(hull.volume),
        "circ.": 4 * math.pi * area / perimeter**2,
        "circex": 4 * math.pi * area_exc / perimeter**2,
        "perimferet": perimeter / feret,
        "perimmajor": perimeter / major,
        "perimareaexc": perimeter / math.sqrt(area_exc),
        "feretareaexc": feret / math.sqrt(area_exc),
        "convperim_perim": float(hull.area) / perimeter,
        "convarea_area": float(hull.volume) / area,
        "symetrieh": _asymmetry(filled, tilt),
        "symetriev": _asymmetry(filled, tilt + math.pi / 2),
    }


def _asymmetry(filled: NDArray[np.bool_], tilt: float) -> float:
    """Return the share of pixels whose mirror image in an axis through the centre is outside the body."""
    rows, columns = np.nonzero(filled)
    x, y = columns - columns.mean(), rows - rows.mean()
    cosine, sine = math.cos(2 * tilt), math.sin(2 * tilt)
    mirrored_x = np.rint(cosine * x - sine * y + columns.mean()).astype(np.intp)
    mirrored_y = np.rint(-sine * x - cosine * y + rows.mean()).astype(np.intp)
    height, width = filled.shape
    within = (mirrored_x >= 0) & (mirrored_x < width) & (mirrored_y >= 0) & (mirrored_y < height)
    return 1 - float(filled[mirrored_y[within], mirrored_x[within]].sum()) / len(rows)


def _measure_skeleton(filled: NDArray[np.bool_]) -> dict[str, float]:
    from skimage.morphology import skeletonize

    skeleton = skeletonize(filled)
    thickness = np.sort(ndimage.distance_transform_edt(filled)[skeleton])
    around = np.pad(filled, max(RADII))
    inside = ndimage.distance_transform_edt(around)
    outside = ndimage.distance_transform_edt(~around)
    distance = np.where(around, inside, outside) - 0.5  # of pixel centres from the edge between two pixels
    near = [np.count_nonzero(distance <= radius) for radius in RADII]
    return {
        "fractal": 2 - float(np.polyfit(np.log(RADII), np.log(near), 1)[0]),
        "skelarea": len(thickness),
        "skeleton_area": len(thickness) / np.count_nonzero(filled),
        "thickr": float(thickness[-1] / thickness[:-1].mean()) if len(thickness) > 1 else math.nan,
    }


def _measure_grey(levels: NDArray[np.uint8]) -> dict[str, float]:
    """Return the features of the grey levels (n,) of a body."""
    counts = np.bincount(levels, minlength=256)
    values = levels.astype(np.float64)
    mean, low, high = float(values.mean()), float(values.min()), float(values.max())
    stddev = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    spread = high - low
    quarters = np.quantile(values, (0.25, 0.5, 0.75))
    skew = kurt = sr = meanpos = slope = math.nan
    if spread:
        scaled = (values - mean) / values.std()
        skew, kurt = float((scaled**3).mean()), float((scaled**4).mean()) - 3
        sr, meanpos = 100 * stddev / spread, (mean - high) / (mean - low)
        share = counts.cumsum()[int(low) : int(high) + 1] / len(values)
        slope = float(np.polyfit(np.arange(len(share)), share, 1)[0])
    return {
        "mean": mean,
        "stddev": stddev,
        "mode": int(counts.argmax()),
        "min": low,
        "max": high,
        "range": spread,
        "median": quarters[1],
        "intden": float(values.sum()),
        "skew": skew,
        "kurt": kurt,
        "cv": 100 * stddev / mean if mean else math.nan,
        "sr": sr,
        "meanpos": meanpos,
        "histcum1": quarters[0],
        "histcum2": quarters[1],
        "histcum3": quarters[2],
        "slope": slope,
    }


def _measure_depth(
    filled: NDArray[np.bool_], levels: NDArray[np.uint8], ground: float, area_exc: int
) -> dict[str, float]:
    """Return the features of the difference of the body's grey levels from the background's."""
    depth = np.where(filled, np.abs(levels - ground), 0)
    rows, columns = np.nonzero(filled)
    weights = depth[filled]
    apart = math.hypot(*(np.average(place, weights=weights) - place.mean() for place in (rows, columns)))
    limits = np.quantile(weights, (0.75, 0.5, 0.25))
    regions = [ndimage.label(filled & (depth >= limit), np.ones((3, 3)))[1] for limit in limits]
    return {f"nb{k}": n for k, n in enumerate(regions, 1)} | {"centroids": apart, "cdexc": apart / math.sqrt(area_exc)}


def _measure_chunk(
    sources: Sequence[ImageSource], largest_only: bool, settings: PreparationSettings
) -> list[dict[str, float] | str]:
    """Return the features of each image, empty without a body, or the reason why it cannot be read."""
    rows: list[dict[str, float] | str] = []
    for source in sources:
        try:
            image = to_8bit(open_image(source), settings)
        except (InputError, *DECODER_FAULTS) as error:
            rows.append(str(error))
        else:
            image = without_marks(image) if settings.remove_marks == "auto" else image
            rows.append(measure_shape(np.asarray(image), largest_only))
    return rows
