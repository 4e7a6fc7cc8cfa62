"""Counts of the individuals of each class in the samples of a survey."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.analysis.body_size import size_spectrum
from plankton_embed.analysis.fractions import SEA_WATER
from plankton_embed.analysis.quantification import CorrectedCounts, CountCorrection
from plankton_embed.analysis.samples import ALL_CLASSES, Floats, Survey
from plankton_embed.notebook import Shown

N_COMMON = 8  # classes in profiles and time series
LEAST_TIMES = 3  # different times, for a time series
BOUNDS = ("", "_low", "_high")
DECIMALS = 9  # of counts; smaller differences are rounding errors
LEAST_COUNT = 0.5  # bodies of a class in a sample, for a spectrum of the class
AMOUNTS = ("concentration", "individuals", "corrected")  # the first that exists is shown
HALF = 0.5  # images (Jeffreys' prior): a class without images may be in the part of a sample that was not imaged


@dataclass(frozen=True, eq=False)
class SampleCounts:
    """Counts of one sample by label, (L,) each, with the rejected images last.

    `count`: predictions; `corrected`, `low`, `high`: images; `individuals` (3, L) in the whole sample, and their
    bounds; `biovolume` of the whole sample, mm³ (0 if it is unknown for all images). `by_depth` (B, L): corrected
    images in bins of depth, `individuals_by_depth` (B, L), and `n_by_depth` (B,) images. `spectra` by label, None
    without sizes. `class_images` (1 + D, C): images of the classes, the estimate and every draw, for adding samples up
    (they may exceed the number of images where few are rejected); `class_individuals` (1 + D, C).
    """

    count: Floats
    corrected: Floats
    low: Floats
    high: Floats
    individuals: Floats
    n_rejected: int
    biovolume: Floats
    by_depth: Floats
    individuals_by_depth: Floats
    n_by_depth: NDArray[np.intp]
    spectra: pd.DataFrame | None
    class_images: Floats
    class_individuals: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Abundance(Shown):
    """Counts of a survey.

    Attributes:
        table: one row per sample and label (the classes, then `unknown`): `sample`, `label`, `count` (predictions),
            `corrected`, `low`, `high`. With sub-sampling factors also `individuals`, `individuals_low`,
            `individuals_high`: in the whole sample. With volumes `concentration`, `concentration_low`,
            `concentration_high`, m⁻³. With body sizes `biovolume`, mm³ in the whole sample, and with volumes
            `biovolume_concentration`, mm³ m⁻³. `summary["volume_of"]` is the fluid that was measured.
        totals: one row per label, highest counts first: `count`, `corrected`, `low` and `high` of all samples together
            (with rejection not the sum over the samples, as `unknown` is at least 0 in each), and their `individuals`
            and `concentration` with bounds; nan where one sample has none, and concentrations where samples share
            their water.
        samples: one row per sample: `sample`, `n_images`, `n_refused`, `correction` (`none` where the counts are not
            corrected) and `why_uncorrected`, `fit_p` (see `MixtureTest`), `shift` (the verdict, see `Shift`),
            `latitude`, `longitude`, `time`, `depth` (m), and the columns of `Parts.samples` (`volume`, m³,
            `subsample_factor`, `added_up`, …), as far as they exist.
        spectra: one row per sample, label and bin of size: see `size_spectrum`; the label `(all)` is all images,
            without correction. None without body sizes.
        profile: the commonest classes over depth: one row per sample and label, with the columns of `table` and
            `depth`; if the images of a sample have depths of their own, one row per sample, bin and label: `depth`,
            `depth_low`, `depth_high`, `n_images`, `label`, `corrected`, with factors `individuals`, and with volumes
            `concentration`, where each sample of water is from one bin. None where depths do not vary.
        time_series: the same over `time`; None with fewer than 3 times.
        summary: plain values, ready for JSON.
        unknown: the label of rejected images.
        parts: if a sample has several parts (fractions, bins, runs), one row per part; see `Parts.table`.
        shares_water: whether the volumes cannot be added, because samples share their water or the volumes are
            of different fluids.
    """

    table: pd.DataFrame
    totals: pd.DataFrame
    samples: pd.DataFrame
    spectra: pd.DataFrame | None
    profile: pd.DataFrame | None
    time_series: pd.DataFrame | None
    summary: dict[str, Any]
    unknown: str
    parts: pd.DataFrame | None = None
    shares_water: bool = False

    @property
    def of_volume(self) -> str:
        """Text after the unit of concentrations, such as ` in the fluid that was run`; empty for sea water."""
        kind = self.summary.get("volume_of") or SEA_WATER
        return "" if kind == SEA_WATER else f" in the {kind}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return self.summary

    def by_sample(self, column: str = "corrected") -> pd.DataFrame:
        """Return a column of `table` with one row per sample and one column per label."""
        values = self.table[column].to_numpy().reshape(len(self.samples), -1)
        labels = self.table["label"].iloc[: values.shape[1]]
        return pd.DataFrame(values, pd.Index(self.samples["sample"], name="sample"), labels.tolist())

    def _describe(self) -> str:
        return f"{len(self.samples):,} samples, {len(self.totals)} labels, {self.samples['n_images'].sum():,} images"

    def _preview(self) -> pd.DataFrame:
        return self.totals.reset_index()


def count_sample(
    survey: Survey,
    number: int,
    labels: Sequence[str],
    predicted: NDArray[np.intp],
    log_probabilities: Floats,
    rejected: NDArray[np.bool_],
    correction: CountCorrection,
    kept: Floats | None = None,
    drawn_by: NDArray[np.intp] | None = None,
    is_corrected: bool = True,
) -> SampleCounts:
    """Count the images and individuals of each class in one sample.

    Images with different sub-sampling factors are corrected separately, because the classes differ between fractions
    (usually of size). Their counts and draws are added, weighted by the factors. Every draw has its own number of
    individuals in the part that was not imaged (negative binomial: the rest, given a random part), so that the interval
    of `individuals` includes the sampling error.

    A share of the images of each class is rejected: the count of the class is divided by the share that is kept, as far
    as there are rejected images. The other rejected images are the corrected count of `unknown`. Every draw has its own
    shares, and its own number of rejected images of each class (negative binomial).

    Args:
        survey: of all samples.
        number: of the sample.
        labels: (L,) the classes in the order of the probabilities, then `unknown` if no class has that name.
        predicted: (n,) codes of the predicted classes.
        log_probabilities: (n, C).
        rejected: (n,) whether the image is rejected.
        correction: learned from the calibration images.
        kept: (1 + D, C), the share of each class's images that is not rejected: the estimate, then one row for each of
            the D draws of the correction (see `estimate_kept`); by default all are kept.
        drawn_by: (n,) codes of the groups of these images that are drawn as a whole (see `CountCorrection.correct`).
        is_corrected: if False, the corrected counts are the counted predictions, without bounds or draws (nan).
    """
    rows = survey.rows[number]
    n, n_classes = log_probabilities.shape
    factor = np.ones(n) if survey.factor is None else survey.factor[rows]
    rng = np.random.default_rng([correction.seed, zlib.crc32(log_probabilities.tobytes()), 1])
    count, images, individuals = np.zeros(len(labels)), np.zeros((3, len(labels))), np.zeros((3, len(labels)))
    weights = np.zeros((n, len(labels)))  # columns add up to the corrected counts
    draws: Floats = np.zeros((1, len(labels)))
    individual_draws: Floats = np.zeros((1, len(labels)))
    class_images: Floats = np.zeros((1, n_classes))
    class_individuals: Floats = np.zeros((1, n_classes))
    values = np.unique(factor)  # nan is one of them, once
    for value in values:
        part = np.isnan(factor) if np.isnan(value) else factor == value
        inner = None if drawn_by is None else drawn_by[part]
        one = _count_part(
            labels, predicted[part], log_probabilities[part], rejected[part], correction, kept, rng, inner, is_corrected
        )
        weights[part] = one.weights
        count, images, draws = count + one.count, images + one.images, draws + one.draws
        individuals = individuals + value * one.images
        part_draws = one.draws + _draw_rest(one.draws, value, rng)
        individual_draws = individual_draws + part_draws
        limited = np.concatenate([value * one.images[:1, :n_classes], part_draws[:, :n_classes]])
        images_limited = np.concatenate([one.images[:1, :n_classes], one.draws[:, :n_classes]])
        class_images = class_images + one.class_images
        class_individuals = class_individuals + limited + value * (one.class_images - images_limited)
    if len(values) > 1:
        images[1:] = _bound(images[0], draws, correction.level)
    if values[-1] > 1:
        half = np.zeros_like(draws)
        half[:, :n_classes] = _draw_half((len(draws), n_classes), values[-1], correction.seed)
        individuals[1:] = _bound(individuals[0], individual_draws + half, correction.level)
    if not is_corrected:
        images[1:], individuals[1:], class_images[1:], class_individuals[1:] = np.nan, np.nan, np.nan, np.nan
    weighted = weights * factor[:, None]
    bins = np.full(n, -1) if survey.depth_bin is None else survey.depth_bin[rows]
    in_bin = np.arange(max(len(survey.depth_edges) - 1, 0))[:, None] == bins
    return SampleCounts(
        count,
        corrected=images[0],
        low=images[1],
        high=images[2],
        individuals=individuals,
        n_rejected=int(rejected.sum()),
        biovolume=np.zeros(n) @ weights
        if survey.biovolume is None
        else np.nan_to_num(survey.biovolume[rows]) @ weighted,
        by_depth=in_bin @ weights,
        individuals_by_depth=in_bin @ weighted,
        n_by_depth=in_bin.sum(axis=1),
        spectra=_measure_spectra(survey, number, labels, weights, factor),
        class_images=class_images,
        class_individuals=class_individuals,
    )


@dataclass(frozen=True, eq=False)
class _PartCounts:
    """Counts of the images of one factor: `images` (3, L) corrected, low and high; `draws` (D, L); `weights` (n, L).

    `class_images` as in `SampleCounts`.
    """

    count: Floats
    images: Floats
    draws: Floats
    class_images: Floats
    weights: Floats


def _count_part(
    labels: Sequence[str],
    predicted: NDArray[np.intp],
    log_probabilities: Floats,
    rejected: NDArray[np.bool_],
    correction: CountCorrection,
    kept: Floats | None,
    rng: np.random.Generator,
    drawn_by: NDArray[np.intp] | None,
    is_corrected: bool,
) -> _PartCounts:
    n, n_classes, n_rejected = len(predicted), log_probabilities.shape[1], int(rejected.sum())
    if is_corrected:
        found = correction.correct(log_probabilities[~rejected], None if drawn_by is None else drawn_by[~rejected])
    else:
        found, kept = _count_predictions(predicted[~rejected], n_classes, correction.n_draws), None
    images, draws = np.zeros((3, len(labels))), np.zeros((len(found.draws), len(labels)))
    count, weights = np.bincount(predicted[~rejected], minlength=len(labels)).astype(float), np.zeros((n, len(labels)))
    images[:, :n_classes] = found.count, found.low, found.high
    draws[:, :n_classes] = found.draws
    weights[~rejected, :n_classes] = found.posterior
    kept = np.ones((1 + len(draws), n_classes)) if kept is None else kept
    lost = found.count * (1 / kept[0] - 1)
    lost_draws = (found.draws > 0) * rng.negative_binomial(np.maximum(found.draws, 1), kept[1:]).astype(float)
    class_images = np.concatenate([[found.count + lost], found.draws + lost_draws])
    if n_rejected:
        lost, lost_draws = _limit(lost, n_rejected), _limit(lost_draws, n_rejected)
        weights[~rejected, :n_classes] *= 1 + lost / np.maximum(found.count, 1e-300)
        weights[rejected, -1] = max(1 - lost.sum() / n_rejected, 0)
        draws[:, :n_classes] += lost_draws
        draws[:, -1] = np.maximum(n_rejected - lost_draws.sum(axis=1), 0)  # rounding may go below
        images[0] = weights.sum(axis=0)
        images[1:] = _bound(images[0], draws, correction.level)
        count[-1] = n_rejected
    return _PartCounts(count, images.round(DECIMALS), draws, class_images, weights)


def _count_predictions(predicted: NDArray[np.intp], n_classes: int, n_draws: int) -> CorrectedCounts:
    """Return the predictions of images (n,) as counts without correction."""
    posterior = np.eye(n_classes)[predicted]
    count = posterior.sum(axis=0)
    return CorrectedCounts(count, count, count, posterior, np.tile(count, (n_draws, 1)))


def _limit(lost: Floats, n_rejected: int) -> Floats:
    """Limit the numbers of rejected images (…, C) of the classes so that their sum is at most `n_rejected`."""
    most = np.maximum(lost.sum(axis=-1, keepdims=True), n_rejected)
    return np.asarray(lost * (n_rejected / most))


def _draw_rest(imaged: Floats, factor: float, rng: np.random.Generator) -> Floats:
    """Draw the number of individuals in the part that was not imaged, given the imaged ones (any shape)."""
    if not factor > 1:
        return (factor - 1) * imaged  # nan where the factor is unknown
    return rng.poisson(rng.standard_gamma(imaged) * (factor - 1)).astype(float)  # negative binomial


def _draw_half(shape: tuple[int, ...], factor: float, seed: int) -> Floats:
    """Draw the individuals not imaged for half an image; the same for every sample and for all samples together."""
    return _draw_rest(np.full(shape, HALF), factor, np.random.default_rng([seed, 2]))


def _bound(estimate: Floats, draws: Floats, level: float) -> Floats:
    """Return the lower and upper bounds (2, L) from draws (D, L), the estimates (L,) within them."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.stack([np.minimum(low, estimate), np.maximum(high, estimate)])


def _measure_spectra(
    survey: Survey, number: int, labels: Sequence[str], weights: Floats, factor: Floats
) -> pd.DataFrame | None:
    """Return the size spectra of one sample: of all images, and of each class with enough images."""
    water = survey.column("volume")[number] if "volume" in survey.samples else None
    if survey.biovolume is None or np.isnan(factor).any() or (water is not None and not np.isfinite(water)):
        return None
    size = survey.biovolume[survey.rows[number]]
    common = np.flatnonzero(weights.sum(axis=0) >= LEAST_COUNT).tolist()
    bodies = {ALL_CLASSES: np.ones(len(size)), **{labels[code]: weights[:, code] for code in common}}
    spectra = {label: size_spectrum(size, factor * weight, water) for label, weight in bodies.items()}
    table = pd.concat(list(spectra.values()), ignore_index=True)
    table.insert(0, "label", np.repeat(np.array(list(spectra), dtype=object), [len(part) for part in spectra.values()]))
    table.insert(0, "sample", survey.samples["sample"].iloc[number])
    return table


def gather_counts(
    survey: Survey,
    labels: Sequence[str],
    counted: Iterable[SampleCounts],
    level: float,
    unknown: str,
    summary: dict[str, Any],
) -> Abundance:
    """Combine the counts of the samples into the tables of a survey.

    Args:
        survey: the samples.
        labels: (L,) the classes, then `unknown`.
        counted: the counts of each sample.
        level: share of the intervals that should contain the true count.
        unknown: the label of rejected images.
        summary: of the result; the numbers of images, samples and rejected images are added to it.
    """
    n = len(labels)
    found: list[SampleCounts] = []
    class_images: Floats = np.zeros((1, 1))
    class_individuals = class_images
    for one in counted:  # the draws of all samples would fill the memory
        class_images, class_individuals = class_images + one.class_images, class_individuals + one.class_individuals
        found.append(replace(one, class_images=one.class_images[:0], class_individuals=one.class_images[:0]))
    n_images = int(survey.samples["n_images"].sum())
    share = np.minimum(n_images / np.maximum(class_images.sum(axis=1, keepdims=True), 1e-300), 1)  # nan: not corrected
    class_images, class_individuals = class_images * share, class_individuals * share
    table = pd.DataFrame({
        "sample": np.repeat(survey.samples["sample"].to_numpy(), n),
        "label": np.tile(np.array(labels, dtype=object), len(found)),
        "count": np.concatenate([one.count for one in found]).astype(int),
        **{name: np.concatenate([getattr(one, name) for one in found]) for name in ("corrected", "low", "high")},
    })  # fmt: skip
    individuals = np.stack([one.individuals for one in found], axis=1)  # (3, sample, label)
    volume = survey.column("volume")
    table = _add_amounts(table, survey, individuals.reshape(3, -1), np.repeat(volume, n))
    if survey.biovolume is not None:
        table["biovolume"] = np.concatenate([one.biovolume for one in found])
        if "volume" in survey.samples:
            table["biovolume_concentration"] = table["biovolume"] / np.repeat(volume, n)
    samples = survey.samples.copy()
    samples.insert(2, "n_refused", [one.n_rejected for one in found])
    spectra = [one.spectra for one in found if one.spectra is not None]
    totals = table.groupby("label", sort=False)[["count", "corrected", "low", "high"]].sum()
    n_classes = class_images.shape[1]
    pooled = np.column_stack([class_images, n_images - class_images.sum(axis=1)]).round(DECIMALS) + 0.0
    totals["corrected"] = pooled[0]
    totals["low"], totals["high"] = _bound(pooled[0], pooled[1:], level)
    whole = individuals.sum(axis=1)  # nan if one sample has none
    most = 1.0 if survey.factor is None else survey.factor.max()
    half = _draw_half((len(class_images) - 1, n_classes), most, summary.get("seed", 0))
    of_all = whole[0].sum()
    whole[0] = np.append(class_individuals[0], of_all - class_individuals[0].sum()).round(DECIMALS) + 0.0
    whole[1:, :n_classes] = _bound(whole[0, :n_classes], class_individuals[1:] + half, level)
    whole[1:, n_classes] = np.minimum(whole[1, n_classes], whole[0, n_classes]), np.maximum(*whole[[2, 0], n_classes])
    alike = survey.n_divided == 0 and (  # otherwise several samples share water
        "volume_of" not in survey.samples or survey.samples["volume_of"].nunique(dropna=False) == 1
    )
    totals = _add_amounts(totals, survey, whole, volume.sum() if alike else np.nan)
    totals = totals.sort_values(["corrected", "count"], ascending=False, kind="stable")
    of_classes = totals.drop(index=unknown, errors="ignore")["corrected"]
    common = of_classes[of_classes >= LEAST_COUNT].index[:N_COMMON].tolist()
    shown = table[table["label"].isin(common)].merge(samples[["sample"]].assign(_time=survey.times), "left", "sample")
    return Abundance(
        table,
        totals,
        samples,
        pd.concat(spectra, ignore_index=True) if spectra else None,
        _profile_depth(survey, labels, found, common, shown.drop(columns="_time")),
        _follow_time(survey, shown),
        {**summary, "n_images": int(samples["n_images"].sum()), "n_samples": len(samples),
         "n_refused": int(samples["n_refused"].sum()), **_describe_amounts(survey)},
        unknown,
        survey.parts if "n_parts" in samples else None,
        not alike,
    )  # fmt: skip


def _describe_amounts(survey: Survey) -> dict[str, Any]:
    """Return the part of the summary about amounts: kind of volume, formula, units, and why amounts are missing."""
    samples = survey.samples
    has_volumes, has_factors = "volume" in samples, "subsample_factor" in samples
    weight = "subsample_factor" if has_factors else "1"
    kind = None
    if has_volumes:
        kinds = samples["volume_of"] if "volume_of" in samples else pd.Series(SEA_WATER, samples.index)
        kind = " or ".join(kinds[samples["volume"].notna()].unique())
    why = _count_values(samples, "why_missing")
    units = {
        "individuals": "in the whole sample" if has_factors else None,
        "concentration": f"m⁻³ in the {kind}" if kind else None,
        "biovolume": "mm³ in the whole sample" if survey.biovolume is not None else None,
        "biovolume_concentration": f"mm³ m⁻³ in the {kind}" if kind and survey.biovolume is not None else None,
    }
    return {
        "volume_of": kind or None,
        "concentration": f"sum over images of {weight} / sum over samples of water of volume" if kind else None,
        "added_up": _count_values(samples, "added_up"),
        "units": {name: unit for name, unit in units.items() if unit},
        "why_missing": why if has_volumes else {**why, "there is no column volume": len(samples)},
    }


def _count_values(samples: pd.DataFrame, column: str) -> dict[str, int]:
    """Return the number of samples with each text in a column, if it exists."""
    texts = samples[column] if column in samples else pd.Series(dtype="str")
    return {str(text): int(n) for text, n in texts[texts != ""].value_counts().items()}


def _add_amounts(table: pd.DataFrame, survey: Survey, individuals: Floats, volume: Floats | float) -> pd.DataFrame:
    """Add columns of individuals (3, rows) if there are factors, and of concentrations if there are volumes."""
    given = {"individuals": "subsample_factor", "concentration": "volume"}
    for name, column in given.items():
        if column in survey.samples:
            amounts = individuals if name == "individuals" else individuals / volume
            table = table.assign(**{f"{name}{end}": amount for end, amount in zip(BOUNDS, amounts, strict=True)})
    return table


def _profile_depth(
    survey: Survey, labels: Sequence[str], found: Sequence[SampleCounts], common: list[str], shown: pd.DataFrame
) -> pd.DataFrame | None:
    if survey.depth_bin is None:
        depths = survey.column("depth")
        if len(np.unique(depths[np.isfinite(depths)])) < 2:
            return None
        profile = shown.merge(survey.samples[["sample", "depth"]], "left", "sample").dropna(subset="depth")
        return profile.sort_values(["label", "depth"], kind="stable", ignore_index=True)
    counts = np.stack([one.by_depth for one in found])  # (sample, bin, label)
    individuals = np.stack([one.individuals_by_depth for one in found])
    n_images = np.stack([one.n_by_depth for one in found])
    sample, bin_number = np.nonzero(n_images)
    edges = survey.depth_edges
    bins = pd.DataFrame({
        "sample": survey.samples["sample"].to_numpy()[sample],
        "depth": (edges[bin_number] + edges[bin_number + 1]) / 2,
        "depth_low": edges[bin_number],
        "depth_high": edges[bin_number + 1],
        "n_images": n_images[sample, bin_number],
    })  # fmt: skip
    tables = []
    for label in common:
        column = list(labels).index(label)
        table = bins.assign(label=label, corrected=counts[sample, bin_number, column])
        if "subsample_factor" in survey.samples:
            table["individuals"] = individuals[sample, bin_number, column]
        if survey.depth_volume is not None and np.isfinite(survey.depth_volume).any():
            table["concentration"] = individuals[sample, bin_number, column] / survey.depth_volume[sample, bin_number]
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else None


def _follow_time(survey: Survey, shown: pd.DataFrame) -> pd.DataFrame | None:
    if survey.times.nunique() < LEAST_TIMES:
        return None
    series = shown.merge(survey.samples[["sample", "time"]], "left", "sample").dropna(subset="_time")
    return series.sort_values(["label", "_time"], kind="stable", ignore_index=True).drop(columns="_time")


def pool_spectra(spectra: pd.DataFrame, samples: pd.DataFrame, shares_water: bool = False) -> pd.DataFrame:
    """Return the spectra of all samples together: `label`, then as `size_spectrum`.

    Args:
        spectra: as in `Abundance`.
        samples: as in `Abundance`; if they have volumes, `nbss` is per volume of all samples.
        shares_water: as in `Abundance`; if True, and if there are volumes, `nbss` is nan.
    """
    bins = ["low", "high", "esd_low", "esd_high"]
    pooled = spectra.groupby(["label", *bins], as_index=False, sort=False)[["count", "biovolume"]].sum()
    seen = samples["sample"].isin(spectra["sample"].unique())
    water = 1.0
    if "volume" in samples:
        water = np.nan if shares_water else float(samples.loc[seen, "volume"].sum())
    pooled["nbss"] = pooled["biovolume"] / pooled["low"] / water
    return pooled.sort_values(["label", "low"], ignore_index=True)


def fit_slope(spectrum: pd.DataFrame) -> tuple[float, float]:
    """Fit a line to the logarithms (base 10) of `nbss` and of the bins' geometric middle.

    Only filled bins from the highest one on are used: an instrument misses smaller bodies.

    Returns:
        Slope and intercept; nan with fewer than 3 such bins of at least one body, or without `nbss`.
    """
    filled = spectrum[(spectrum["count"] >= 1) & spectrum["nbss"].notna()]
    filled = filled.iloc[int(filled["nbss"].to_numpy().argmax()) :] if len(filled) else filled
    if len(filled) < 3:
        return float("nan"), float("nan")
    middle = np.log10(np.sqrt(filled["low"] * filled["high"]))
    slope, intercept = np.polyfit(middle, np.log10(filled["nbss"]), 1)
    return float(slope), float(intercept)
