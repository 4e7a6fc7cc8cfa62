"""Samples of a survey: their images, place, time, depth and volume of water."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.body_size import measure_bodies, unit_size
from plankton_embed.analysis.fractions import KEYS, NO_SAMPLE, Parts, add_parts_up
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import split_by_class

ALL, ALL_CLASSES = "all", "(all)"
N_BINS, MOST_BINS = 15, 1000  # of depth: approximate number by default, and maximum
MEASURED = ("area", "abd_area", "major", "minor")  # features that `measure_bodies` uses
AT_ONCE = 2**17  # images whose body sizes are computed at a time
Floats = NDArray[np.float64]
COLUMNS = (  # of a catalog that a survey is made from, beside the column of the samples
    *("object_id", *KEYS[1:], "latitude", "longitude", "time", "depth_min", "depth_max"),
    *(f"feature_{name}" for name in MEASURED),
    *("pixel_size", "size_unit"),
)


@dataclass(frozen=True, eq=False)
class Survey:
    """Images in samples.

    Attributes:
        samples: one row per sample: `sample`, `n_images`, `latitude`, `longitude`, `time`, `depth` (m) if the images
            have them, and the columns of `Parts.samples`.
        parts: as `Parts.table`.
        rows: the rows of the images of each sample.
        times: of each sample, in UTC.
        factor: as `Parts.factor`.
        biovolume: (n,) of each image, mm³, nan if unknown; None if unknown for all. `biovolume_kind` is the shape
            assumed.
        depth_bin: (n,) number of each image's bin of depth, -1 without depth; None if the images of a sample have no
            depths of their own.
        depth_edges: (B + 1,) edges of these bins, m.
        depth_volume: (S, B) m³ of each sample in each bin, nan if water is from several bins; None without bins or
            volumes.
        n_divided: as `Parts.n_divided`.
    """

    samples: pd.DataFrame
    parts: pd.DataFrame
    rows: list[NDArray[np.intp]]
    times: pd.Series
    factor: Floats | None
    biovolume: Floats | None
    biovolume_kind: str | None
    depth_bin: NDArray[np.intp] | None
    depth_edges: Floats
    depth_volume: Floats | None
    n_divided: int

    def column(self, name: str, default: float = np.nan) -> Floats:
        """Return a column as numbers (S,); `default` for all samples if it does not exist."""
        if name not in self.samples:
            return np.full(len(self.samples), default)
        return self.samples[name].to_numpy(dtype=float)


def divide_samples(images: pd.DataFrame, by: str = "sample_id", depth_bin: float | None = None) -> Survey:
    """Divide images into samples, and collect the data of each; see `add_parts_up` for the parts of a sample.

    Args:
        images: one row per image: `object_id`, the column `by`, and any columns of an `ImageCatalog`.
        by: column whose values are the samples. Images without a value are a sample `(none)` of unknown place and
            volume; if no image has a `sample_id`, all are one sample `all`.
        depth_bin: m, width of the bins of a profile, if the images of a sample have depths of their own; by default a
            round number.

    Raises:
        InputError: a value is not a number or time.
        SettingError: `depth_bin` cannot be used with these images, or makes too many bins.
    """
    codes, names = _name_samples(images, by)
    nameless = names[codes] == NO_SAMPLE
    samples = pd.DataFrame({"sample": names, "n_images": np.bincount(codes)})
    for column in ("latitude", "longitude"):
        if column in images:
            degrees = _read_numbers(images, column).mask(nameless)
            first = degrees.groupby(codes).transform("first")
            apart = degrees - first if column == "latitude" else (degrees - first + 180) % 360 - 180
            means = (first + apart).groupby(codes).mean()
            samples[column] = (
                means if column == "latitude" else means.where(means.abs() <= 180, (means + 180) % 360 - 180)
            )
    times = pd.Series(pd.NaT, index=samples.index, dtype="datetime64[ns, UTC]")
    if "time" in images:
        times, samples["time"] = _read_times(images, codes, nameless)
    depth = _read_depths(images).mask(nameless)
    if depth.notna().any():
        samples["depth"] = depth.groupby(codes).mean()
    parts = add_parts_up(_read_parts(images, codes, nameless), names, by)
    samples = pd.concat([samples, parts.samples], axis=1)
    bins, edges = _bin_depths(depth, codes, depth_bin)
    return Survey(
        samples,
        parts.table,
        split_by_class(codes),
        times,
        parts.factor,
        *_read_biovolume(images),
        bins,
        edges,
        _share_volumes(parts, codes, bins, len(edges) - 1),
        parts.n_divided,
    )


def _name_samples(images: pd.DataFrame, by: str) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Return the code of each image's sample (n,) and the names of the samples, sorted, `(none)` last."""
    values = images[by]
    if len(values) == 0:
        raise InputError("there are no images to count")
    if values.isna().all():
        if by != "sample_id":
            raise InputError(f"by: the column {by} is empty; give another one")
        return np.zeros(len(values), dtype=np.intp), np.array([ALL], dtype=object)
    if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_datetime64_any_dtype(values):
        values = _to_categories(values)
    codes, found = pd.factorize(values, sort=True)
    names = [f"{name:.15g}" if isinstance(name, float) else str(name) for name in found]
    if (codes < 0).any():
        if NO_SAMPLE in names:
            raise InputError(f"by: a sample of the column {by} is called {NO_SAMPLE}, as images without one are")
        codes = np.where(codes < 0, len(names), codes)
        names.append(NO_SAMPLE)
    return codes.astype(np.intp), np.array(names, dtype=object)


def _read_numbers(images: pd.DataFrame, column: str, above: float = -np.inf) -> pd.Series:
    """Return a column as numbers, nan for empty cells."""
    numbers = pd.to_numeric(images[column], errors="coerce").astype("float64")
    wrong = images[column].notna() & ~(np.isfinite(numbers) & (numbers > above))
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise InputError(
            f"column {column}: expected {'a number' if above == -np.inf else f'a number above {above:g}'}; found "
            f"{images[column].iloc[row]!r} for {images['object_id'].iloc[row]}"
        )
    return numbers


def _read_times(
    images: pd.DataFrame, codes: NDArray[np.intp], nameless: NDArray[np.bool_]
) -> tuple[pd.Series, pd.Series]:
    """Return the time of each sample, in UTC and as text: the mean if the images have several.

    Dates without time, which are read as midnight, do not count in a sample with times.
    """
    kinds, found = pd.factorize(images["time"])  # few values of many images; a missing one is -1, the last entry below
    given = pd.Series(found.astype("str") if isinstance(found, pd.CategoricalIndex) else found)
    times = pd.to_datetime(given, utc=True, errors="coerce", format="ISO8601")
    wrong = np.append(times.isna(), False)
    if wrong.any():
        row = int(wrong[kinds].argmax())
        raise InputError(
            f"column time: expected ISO 8601, such as 2014-04-20T04:20:11Z; found {images['time'].iloc[row]!r} for "
            f"{images['object_id'].iloc[row]}"
        )
    text, times = given.astype("str"), pd.concat([times, pd.Series([pd.NaT], dtype=times.dtype)], ignore_index=True)
    is_clock = np.append(text.str.contains(":", regex=False).to_numpy(dtype=bool), False)
    is_zoned = np.append(text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$").to_numpy(dtype=bool), True)
    kinds = np.where(nameless, -1, kinds)
    with_clock = pd.Series(is_clock[kinds]).groupby(codes).transform("any").to_numpy()
    kinds = np.where(with_clock & ~is_clock[kinds], -1, kinds)
    by_sample = times.take(kinds).reset_index(drop=True).groupby(codes)
    means, zoned = by_sample.mean(), pd.Series(is_zoned[kinds]).groupby(codes).all()
    described = means.dt.strftime("%Y-%m-%dT%H:%M:%S").str.cat(np.where(zoned, "Z", ""))
    first = pd.Series(kinds).where(kinds >= 0).groupby(codes).first().fillna(-1).astype(int)
    own = text.reindex(first.to_numpy()).set_axis(first.index)
    return means, own.where(by_sample.nunique() <= 1, described)


def _read_depths(images: pd.DataFrame) -> pd.Series:
    """Return the depth of each image, the mean of depth_min and depth_max, m; nan if one of them is missing."""
    ends = [_read_numbers(images, column) for column in ("depth_min", "depth_max") if column in images]
    return pd.concat(ends, axis=1).mean(axis=1, skipna=False) if ends else pd.Series(np.nan, index=images.index)


def _read_parts(images: pd.DataFrame, codes: NDArray[np.intp], nameless: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the columns that `add_parts_up` takes."""
    read = {"code": pd.Series(codes)}
    for column in KEYS:
        if column in ("volume", "subsample_factor") and column in images:
            read[column] = _read_numbers(images, column, above=0).mask(nameless)
        elif column in images:
            read[column] = _to_categories(images[column])
    return pd.DataFrame(read)


def _to_categories(values: pd.Series) -> pd.Series:
    """Return a column as categories of text, which need less memory and are grouped faster than text."""
    is_done = isinstance(values.dtype, pd.CategoricalDtype)
    return values if is_done else values.astype("str").where(values.notna()).astype("category")


def _read_biovolume(images: pd.DataFrame) -> tuple[Floats | None, str | None]:
    """Return the volume of each body, mm³, and its kind: ellipsoids, if as many are known as of spheres."""
    columns = [name for name in (*(f"feature_{name}" for name in MEASURED), "pixel_size") if name in images]
    kinds = ("biovolume_sphere", "biovolume_ellipsoid")
    found = {kind: np.full(len(images), np.nan) for kind in kinds}
    for start in range(0, len(images), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        part = images.iloc[rows]
        own = part[["object_id", *columns]].replace([np.inf, -np.inf], np.nan)
        numbers = {name.removeprefix("feature_"): _read_numbers(own, name) for name in columns}
        features = pd.DataFrame(numbers, index=own.index).drop(columns="pixel_size", errors="ignore")
        sizes = measure_bodies(features, unit_size(part))
        for kind in set(kinds) & set(sizes):
            found[kind][rows] = sizes[kind]
    counts = {kind: np.isfinite(values).sum() for kind, values in found.items()}
    chosen = max(reversed(kinds), key=lambda kind: counts[kind])  # of equals the ellipsoid
    return (found[chosen], chosen.removeprefix("biovolume_")) if counts[chosen] else (None, None)


def _bin_depths(
    depth: pd.Series, codes: NDArray[np.intp], width: float | None
) -> tuple[NDArray[np.intp] | None, Floats]:
    """Return each image's bin of depth, -1 without depth, and the edges; None if each sample has one depth."""
    if width is not None and not 0 < width < np.inf:
        raise SettingError(f"depth_bin: expected metres above 0; found {width}")
    if not (depth.groupby(codes).nunique() > 1).any():
        if width is not None:
            raise SettingError(
                "depth_bin: all images of a sample have the same depth, so there are no bins; leave it out"
            )
        return None, np.zeros(0)
    low, high = float(depth.min()), float(depth.max())
    width = _round_up((high - low) / N_BINS) if width is None else width
    first, last = int(np.floor(low / width)), int(np.floor(high / width))
    if last - first >= MOST_BINS:
        raise SettingError(f"depth_bin: {width:g} m makes {last - first + 1} bins; choose a wider one")
    numbers = (np.floor(depth / width) - first).fillna(-1).to_numpy(dtype=np.intp)
    return numbers, np.arange(first, last + 2, dtype=np.float64) * width


def _share_volumes(parts: Parts, codes: NDArray[np.intp], bins: NDArray[np.intp] | None, n_bins: int) -> Floats | None:
    """Return the volume of each sample in each bin (S, B); nan if a sample's water is from several bins."""
    if bins is None or "volume" not in parts.samples:
        return None
    water = pd.DataFrame({"code": codes, "bin": bins}).groupby(parts.water).agg(["min", "max"])
    code, low, high = (water[of].to_numpy() for of in (("code", "min"), ("bin", "min"), ("bin", "max")))
    volumes = np.zeros((len(parts.samples), n_bins))
    np.add.at(volumes, (code, low.clip(0)), parts.water_volume)
    volumes[parts.samples["volume"].isna()] = np.nan
    volumes[code[(low < high) | (low < 0)]] = np.nan
    return volumes


def _round_up(number: float) -> float:
    """Return the next number of 1, 2 or 5 times a power of 10."""
    power = 10.0 ** np.floor(np.log10(number))
    return next(float(step * power) for step in (1, 2, 5, 10) if step * power >= number * (1 - 1e-9))
