"""Units of EcoTaxa tables: pixel sizes, volumes of water, sub-sampling factors, and the unit of body sizes.

Sources: Picheral & Mériguet 2025, doi:10.5281/zenodo.14704251; PlanktoScope's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.readers.faults import Faults
from plankton_embed.spreadsheet import read_spreadsheet

Dilution = Literal["multiply", "divide", "ignore"]
FeatureUnit = Literal["px", "um"]
SMALLEST_PIXEL, LARGEST_PIXEL = 0.05, 1000.0  # µm; outside of these no plankton instrument works
TOLERANCE = 0.1  # relative difference of a ratio of sizes from 1, or from the pixel size, that still counts as equal
FEWEST_VARIED = 10  # if so many objects fill the same share of their images, the images are cropped tightly
LEAST_FILL = 0.2  # the smallest share of an image's side that an object fills
SIZES = ("area", "major", "minor")  # body sizes are computed from these
PLANKTOSCOPE = ("acq_imaged_volume", "sample_concentrated_sample_volume", "sample_total_volume")
MESHES = ("acq_minimum_mesh", "acq_maximum_mesh")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UnitOptions:
    """What a user states about the units of a source.

    Attributes:
        dilution: how `sample_dilution_factor` changes the number of objects: `multiply`, `divide` or `ignore`.
        images_per_sample: number of images that a UVP took: one number for all samples, or a CSV with the columns
            `sample` and `images`.
        feature_unit: unit of areas and axes: `px` or `um`.
    """

    dilution: str | None = None
    images_per_sample: float | str | Path | None = None
    feature_unit: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("dilution", get_args(Dilution)), ("feature_unit", get_args(FeatureUnit))):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise SettingError(f"{name}: expected {' or '.join(allowed)}; found {value!r}")

    def n_images(self, samples: pd.Series) -> Floats:
        """Return how many images were taken of each object's sample, nan where this is unknown."""
        given = self.images_per_sample
        if given is None:
            return np.full(len(samples), np.nan)
        try:
            number = float(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return _read_counts(Path(given), samples)  # type: ignore[arg-type]
        if not 0 < number < np.inf:
            raise SettingError(f"images_per_sample: expected a number above 0, or a CSV sample,images; found {given}")
        return np.full(len(samples), number)


def measure_sizes(frame: pd.DataFrame, faults: Faults, options: UnitOptions, vignettes: pd.DataFrame) -> pd.DataFrame:
    """Return those of `pixel_size` (µm), `volume` (m³), `subsample_factor` and `size_unit` that can be found.

    The concentration of objects is the sum of `subsample_factor / volume` over them.

    Args:
        frame: the EcoTaxa columns of all tables.
        faults: collects the reasons why something is missing.
        options: what the user states.
        vignettes: `width` and `height` of every image in pixels, nan where it was not opened.
    """
    pixel_size = _measure_pixels(frame, faults)
    volume, factor = _measure_volumes(frame, faults, options)
    sizes = {"pixel_size": pixel_size, "volume": volume, "subsample_factor": factor}
    found: dict[str, object] = {name: values for name, values in sizes.items() if np.isfinite(values).any()}
    unit = _find_unit(frame, pixel_size, vignettes, faults, options.feature_unit)
    if (unit != "px").any():
        found["size_unit"] = pd.Series(unit, dtype="str")
    return pd.DataFrame(found, index=frame.index)


# ---------------------------------------------------------------------------------------------- pixels


def _measure_pixels(frame: pd.DataFrame, faults: Faults) -> Floats:
    """Return µm per pixel, nan where it is unknown.

    In mm: `process_particle_pixel_size_mm` (ZooScan), `acq_pixel` and `process_pixel` of a UVP. In µm:
    `process_pixel_size` of a PlanktoScope, and its `process_pixel`, which may be from another calibration. Other
    instruments use either unit: a value of 1 or more must be µm, and smaller ones are left out.
    """
    is_uvp, is_planktoscope = _is_instrument(frame, "uvp"), _is_instrument(frame, "planktoscope")
    micrometres = _positive_numbers(frame, "process_pixel_size")
    is_planktoscope |= np.isfinite(micrometres) & ~is_uvp
    size = np.full(len(frame), np.nan)
    n_unknown = 0
    for column in ("process_particle_pixel_size_mm", "process_pixel_size", "acq_pixel", "process_pixel"):
        value = _positive_numbers(frame, column)
        if column.endswith("_mm"):
            in_um = value * 1000
        else:
            in_um = np.where((value >= 1) | is_planktoscope, value, np.where(is_uvp, value * 1000, np.nan))
            n_unknown = max(n_unknown, int((np.isnan(in_um) & np.isfinite(value) & np.isnan(size)).sum()))
        is_absurd = np.isfinite(in_um) & ((in_um < SMALLEST_PIXEL) | (in_um > LARGEST_PIXEL))
        if is_absurd.any():
            first = f"{value[is_absurd][0]:g} in {is_absurd.sum():,} rows, which would be {in_um[is_absurd][0]:g} µm"
            _note(faults, column, f"pixels of {SMALLEST_PIXEL:g} to {LARGEST_PIXEL:g} µm", f"{first}; left out")
            in_um = np.where(is_absurd, np.nan, in_um)
        differs = np.isfinite(size) & np.isfinite(in_um) & (np.abs(in_um - size) > 0.01 * size)
        if differs.any():
            found = f"{in_um[differs][0]:g} µm in {differs.sum():,} rows; {size[differs][0]:g} µm is used"
            _note(faults, column, "the same pixel size as in another column", found)
        size = np.where(np.isnan(size), in_um, size)
    if n_unknown:
        expected = "pixel sizes whose unit follows from the instrument (UVP: mm, PlanktoScope: µm)"
        found = f"{n_unknown:,} rows of acq_pixel or process_pixel below 1, in an unknown unit; left out"
        _note(faults, "pixel_size", expected, found, "write µm into process_pixel_size")
    return size


# ---------------------------------------------------------------------------------------------- volumes


def _measure_volumes(frame: pd.DataFrame, faults: Faults, options: UnitOptions) -> tuple[Floats, Floats]:
    """Return the water of each object's sample (m³), and the number of its objects that each imaged one represents."""
    net = _positive_numbers(frame, "sample_tot_vol")
    imaged = _positive_numbers(frame, "acq_imaged_volume")
    per_image = _positive_numbers(frame, "acq_volimage")
    is_planktoscope = _is_instrument(frame, "planktoscope") | (np.isfinite(imaged) & np.isnan(net))
    is_uvp = (_is_instrument(frame, "uvp") | np.isfinite(per_image)) & np.isnan(net) & ~is_planktoscope
    factor = np.where(is_planktoscope | is_uvp, np.nan, _positive_numbers(frame, "acq_sub_part"))
    volume = np.where(is_planktoscope | is_uvp, np.nan, net)

    lacks = np.isfinite(volume) & np.isnan(factor)
    _report_missing(faults, lacks, "acq_sub_part besides sample_tot_vol, for concentrations")
    volume = np.where(lacks, np.nan, volume)

    if is_planktoscope.any():
        water, times = _measure_planktoscope(frame, is_planktoscope, faults, options.dilution)
        volume, factor = np.where(is_planktoscope, water, volume), np.where(is_planktoscope, times, factor)
    elif options.dilution is not None:
        raise SettingError(
            f"dilution: it applies to volumes of a PlanktoScope (acq_imaged_volume); {faults.source} has none; "
            "leave it out"
        )
    if is_uvp.any():
        samples = frame["sample_id"] if "sample_id" in frame else pd.Series(None, index=frame.index, dtype=object)
        water = per_image * options.n_images(samples) / 1000
        lacks = is_uvp & np.isnan(water)
        expected = "acq_volimage (litres per image) of a UVP and the number of images taken of each sample"
        _report_missing(
            faults, lacks, expected, "give it with catalog --images-per-sample (a number, or a CSV sample,images)"
        )
        volume, factor = np.where(is_uvp, water, volume), np.where(is_uvp & ~lacks, 1.0, factor)
    elif options.images_per_sample is not None:
        raise SettingError(
            f"images_per_sample: it applies to tables of a UVP (acq_volimage); {faults.source} has none; leave it out"
        )
    column = "sample_total_volume" if is_planktoscope.any() else "acq_volimage" if is_uvp.any() else "sample_tot_vol"
    _report_contradictions(frame, volume, column, ["sample_id"], faults)
    _report_contradictions(frame, factor, "acq_sub_part", ["sample_id", "acq_id"], faults)
    return volume, factor


def _report_contradictions(frame: pd.DataFrame, values: Floats, column: str, keys: list[str], faults: Faults) -> None:
    """Report samples whose images have several volumes, and acquisitions whose images have several factors."""
    if not {*keys} <= {*frame}:
        return
    found = frame[keys].assign(value=values).dropna().drop_duplicates().groupby(keys)["value"].agg(list)
    several = found[[len(different) > 1 for different in found]]
    if several.empty:
        return
    name = several.index[0]
    first = f"{name if isinstance(name, str) else name[-1]} ({', '.join(f'{v:g}' for v in sorted(several.iloc[0])[:5])}"
    if keys == ["sample_id"]:
        what, unit = "one volume in all rows of a sample_id", " m³)"
        more = "abundance gives no concentration for them"
        remedy = "correct them, or give different water a different sample_id"
    else:
        what, unit = "one factor in all rows of an acq_id", ")"
        more, remedy = "each image counts with its own", "correct them"
    _note(faults, column, what, f"several in {len(several):,}, such as {first}{unit}; {more}", remedy)


def _measure_planktoscope(
    frame: pd.DataFrame, is_planktoscope: NDArray[np.bool_], faults: Faults, dilution: str | None
) -> tuple[Floats, Floats]:
    """Return the volume of sea water in m³, and the factor: concentrated / imaged volume, corrected for the dilution.

    Acquisitions of one sample with the same meshes are repeats, so their imaged volumes are added.
    """
    imaged, concentrated, total = (np.where(is_planktoscope, _positive_numbers(frame, c), np.nan) for c in PLANKTOSCOPE)
    for column, values in zip(PLANKTOSCOPE, (imaged, concentrated, total), strict=True):
        _report_missing(faults, is_planktoscope & np.isnan(values), f"{column} of a PlanktoScope, for concentrations")
    diluted = np.where(is_planktoscope, _positive_numbers(frame, "sample_dilution_factor"), np.nan)
    diluted = np.where(np.isnan(diluted), 1.0, diluted)
    is_diluted = diluted != 1
    if is_diluted.any() and dilution is None:
        _report_missing(
            faults, is_diluted, f"the direction of sample_dilution_factor (here {diluted[is_diluted][0]:g})",
            "does it multiply the number of objects, or divide it? give catalog --dilution multiply, divide or ignore",
        )  # fmt: skip
    elif dilution is not None and not is_diluted.any():
        raise SettingError(
            f"dilution: no row of {faults.source} has a sample_dilution_factor other than 1; leave it out"
        )
    times = {"multiply": diluted, "divide": 1 / diluted, "ignore": np.ones(len(frame))}
    turn = np.where(is_diluted, np.nan, 1.0) if dilution is None else times[dilution]
    factor = concentrated / _add_repeats(frame, imaged, faults) * turn
    is_complete = np.isfinite(factor) & np.isfinite(total)
    is_less = is_complete & (concentrated < imaged)
    if is_less.any():
        found = f"{imaged[is_less][0]:g} ml of {concentrated[is_less][0]:g} ml in {is_less.sum():,} rows, kept as it is"
        _note(faults, "acq_imaged_volume", "at most the volume of the concentrated sample", found)
    return np.where(is_complete, total / 1000, np.nan), np.where(is_complete, factor, np.nan)


def _add_repeats(frame: pd.DataFrame, imaged: Floats, faults: Faults) -> Floats:
    """Return the imaged volume of each object's sample, summed over acquisitions; nan where one has several volumes."""
    if "sample_id" not in frame or "acq_id" not in frame:
        return imaged
    keys = ["sample_id", *(name for name in MESHES if name in frame)]
    runs = frame[[*keys, "acq_id"]].assign(imaged=imaged)
    acquisitions = runs[runs[["sample_id", "acq_id", "imaged"]].notna().all(axis="columns")]
    n_volumes = acquisitions.groupby([*keys, "acq_id"], dropna=False)["imaged"].nunique()
    several = n_volumes[n_volumes > 1].reset_index()
    if len(several):
        found = f"several in {len(several):,}, such as {several['acq_id'].iloc[0]}; the sample has no volume"
        _note(faults, "acq_imaged_volume", "one volume in all rows of an acquisition", found)
    imaged = np.where(frame["sample_id"].isin(several["sample_id"]), np.nan, imaged)
    runs["imaged"] = imaged
    runs = runs[runs[["sample_id", "acq_id", "imaged"]].notna().all(axis="columns")]
    once = runs.drop_duplicates()
    sums = once.groupby(keys, dropna=False)["imaged"].agg(["sum", "size"])
    if (sums["size"] > 1).any():
        n = int((sums["size"] > 1).sum())
        expected = "one acquisition of each sample"
        found = f"several of {n:,}; their imaged volumes are added, so they count as one"
        _note(faults, "acq_imaged_volume", expected, found)
    added = runs[keys].merge(sums.reset_index(), on=keys, how="left")["sum"].set_axis(runs.index)
    return added.reindex(frame.index).fillna(pd.Series(imaged, index=frame.index)).to_numpy(dtype=np.float64)


def _read_counts(path: Path, samples: pd.Series) -> Floats:
    """Read from a CSV (sample, images) how many images were taken of each object's sample."""
    if not path.is_file():
        raise SettingError(
            f"images_per_sample: expected a number above 0, or a CSV with the columns sample and images; found {path}"
        )
    table = read_spreadsheet(path, "images per sample", ("sample", "images"))
    numbers = pd.to_numeric(table["images"], errors="coerce")
    is_bad = ~((numbers > 0) & np.isfinite(numbers)) | table["sample"].duplicated()
    if is_bad.any():
        row = int(is_bad.to_numpy().argmax())
        raise InputError(
            f"images per sample {path}, sample {table['sample'].iloc[row]}: expected each sample once, with a number "
            f"above 0; found {table['images'].iloc[row]!r}"
        )
    unknown = sorted(set(table["sample"]) - set(samples.dropna().astype(str)))
    if unknown:
        raise InputError(
            f"images per sample {path}: expected values of sample_id in the source; found {', '.join(unknown[:5])}"
        )
    return samples.astype(object).map(dict(zip(table["sample"], numbers, strict=True))).to_numpy(dtype=np.float64)


# ---------------------------------------------------------------------------------------------- unit of sizes


def _find_unit(
    frame: pd.DataFrame, pixel_size: Floats, vignettes: pd.DataFrame, faults: Faults, given: str | None
) -> NDArray[np.object_]:
    """Return the unit of areas and axes of each object: `px`, `um`, or `unknown`.

    EcoTaxa's unit is pixels. Widths are in µm where they divided by the width of the box in pixels give the pixel size
    for all objects, or where objects are larger than their own images. Tables of a PlanktoScope use either unit;
    without such evidence it is `unknown`.
    """
    unit = np.full(len(frame), "px", dtype=object)
    measured = [name for name in SIZES if f"object_{name}" in frame]
    if given is not None:
        if not measured:
            raise SettingError(
                f"feature_unit: it applies to object_area, object_major and object_minor; {faults.source} has none of "
                "them; leave it out"
            )
        unit[:] = given
        return unit
    if not measured:
        return unit
    instrument = frame["acq_instrument"].fillna("") if "acq_instrument" in frame else pd.Series("", index=frame.index)
    is_planktoscope = _is_instrument(frame, "planktoscope") | np.isfinite(
        _positive_numbers(frame, "process_pixel_size")
    )
    groups = pd.factorize(pd.MultiIndex.from_arrays([instrument, pd.Series(pixel_size).round(6).fillna(0)]))[0]
    table_ratio, image_ratio = _compare_boxes(frame), _compare_images(frame, vignettes)
    for group in range(groups.max() + 1):
        rows = groups == group
        scale = float(pixel_size[rows][0])
        found = _judge(table_ratio[rows], scale, is_exact=True) or _judge(image_ratio[rows], scale, is_exact=False)
        unit[rows] = found or np.where(is_planktoscope[rows], "either", "px")
    for name, outcome, remedy in (
        ("um", "in µm, as boxes in pixels show: no pixel size is applied to them", "if not, give --feature-unit px"),
        ("unknown", "neither in pixels nor in µm, as boxes show; no body sizes are computed from them",
         "give catalog --feature-unit px or um"),
        ("either", "of a PlanktoScope, whose tables have pixels or µm, and nothing here shows which; no body sizes are "
         "computed from them", "give catalog --feature-unit px or um"),
    ):  # fmt: skip
        n = int((unit == name).sum())
        if n:
            _note(faults, f"object_{measured[0]}", "sizes in pixels", f"sizes of {n:,} objects {outcome}", remedy)
    unit[unit == "either"] = "unknown"
    return unit


def _compare_boxes(frame: pd.DataFrame) -> Floats:
    """Return sizes divided by the same sizes in pixels, where columns contain both; nan elsewhere."""
    pairs = []
    for side in ("width", "height"):
        boxes = [
            f"{start}_{end}"
            for start in ("bbox", "bounding_box", "box", "image", "img", "roi")
            for end in (side, side[0])
        ]
        pairs += [(side, box, 1.0) for box in (*boxes, f"{side}_px", f"{side}_pixels")]
    pairs += [(size, f"{size}_{unit}", 2.0 if size == "area" else 1.0) for size in SIZES for unit in ("px", "pixels")]
    ratio = np.full(len(frame), np.nan)
    for size, box, power in pairs:
        found = (_positive_numbers(frame, f"object_{size}") / _positive_numbers(frame, f"object_{box}")) ** (1 / power)
        ratio = np.where(np.isnan(ratio), found, ratio)
    area = _positive_numbers(frame, "object_width") * _positive_numbers(frame, "object_height")
    return np.where(np.isnan(ratio), np.sqrt(area / _positive_numbers(frame, "object_bounding_box_area")), ratio)


def _compare_images(frame: pd.DataFrame, vignettes: pd.DataFrame) -> Floats:
    """Return the sizes of objects divided by those of their images; nan where one is unknown."""
    area = _positive_numbers(frame, "object_width") * _positive_numbers(frame, "object_height")
    return np.asarray(np.sqrt(area / (vignettes["width"] * vignettes["height"]).to_numpy()))


def _judge(ratio: Floats, pixel_size: float, *, is_exact: bool) -> str | None:
    """Return the unit of sizes from their ratios to sizes in pixels; None where the ratios do not decide it.

    Args:
        ratio: one per object.
        pixel_size: µm.
        is_exact: whether both sizes are of the same thing; else they are of an object and of the image around it.
    """
    ratio = ratio[np.isfinite(ratio)]
    if len(ratio) == 0:
        return None
    low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    is_constant = high - low <= 2 * TOLERANCE * middle
    if is_constant and abs(middle - 1) <= TOLERANCE:
        return "px"
    if (
        is_constant
        and abs(middle / pixel_size - 1) <= TOLERANCE
        and (is_exact or len(np.unique(ratio)) >= FEWEST_VARIED)
    ):
        return "um"
    if is_exact:
        return "unknown"
    if middle <= 1 + TOLERANCE:  # in µm, objects would be larger than their images, or tiny in them
        return "px" if middle > pixel_size * (1 + TOLERANCE) or middle < LEAST_FILL * pixel_size else None
    return "um" if middle / pixel_size <= 1 + TOLERANCE else "unknown"


def _note(faults: Faults, column: str, expected: str, found: str, remedy: str = "") -> None:
    faults.add(faults.source, expected, found, column=column, kept=True, remedy=remedy)


def _report_missing(faults: Faults, lacks: NDArray[np.bool_], expected: str, remedy: str = "") -> None:
    if lacks.any():
        n = f"{lacks.sum():,} image" + ("s" if lacks.sum() > 1 else "")
        found = f"no value for {n}, so they have no volume and no concentration"
        _note(faults, "volume", expected, found, remedy)


def _is_instrument(frame: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    if "acq_instrument" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return np.array(frame["acq_instrument"].fillna("").str.lower().str.contains(name), dtype=bool)


def _positive_numbers(frame: pd.DataFrame, column: str) -> Floats:
    """Return a column as numbers; nan where it has no number above zero, or is missing."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)
