"""How many individuals of each class the samples of a survey hold."""

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
LEAST_TIMES = 3  # different ones that make a time series
BOUNDS = ("", "_low", "_high")
DECIMALS = 9  # of counts; what is smaller is noise of the arithmetic
LEAST_COUNT = 0.5  # bodies of a class in a sample that get a spectrum
AMOUNTS = ("concentration", "individuals", "corrected")  # the first of them that there is, is shown
HALF = 0.5  # an image (Jeffreys' prior): a class without an image may be in the part of a sample that was not imaged


@dataclass(frozen=True, eq=False)
class SampleCounts:
    """What one sample holds, label by label, the refused images last; (L,) each.

    `count` of names given; `corrected`, `low`, `high` images; `individuals` (3, L) in the whole sample, and their
    bounds; `biovolume` of the whole sample, mm³ (0 where it is unknown of all). `by_depth` (B, L) corrected images in
    bins of depth, `individuals_by_depth` (B, L), and `n_by_depth` (B,) images. `spectra` by label, None without sizes.
    `known` (1 + D, C) images of the classes, the estimate and every draw, which may be more than there are
    where few are refused, so that samples can be added up; `known_individuals` (1 + D, C).
    """

    count: Floats
    corrected: Floats
    low: Floats
    high: Floats
    individuals: Floats
    n_refused: int
    biovolume: Floats
    by_depth: Floats
    individuals_by_depth: Floats
    n_by_depth: NDArray[np.intp]
    spectra: pd.DataFrame | None
    known: Floats
    known_individuals: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Abundance(Shown):
    """What the samples of a survey hold.

    Attributes:
        table: one row a sample and label (the classes, then `unknown`): `sample`, `label`, `count` (names given),
            `corrected`, `low`, `high`. With sub-sampling factors also `individuals`, `individuals_low`,
            `individuals_high`: in the whole sample. With volumes `concentration`, `concentration_low`,
            `concentration_high`, m⁻³. With body sizes `biovolume`, mm³ in the whole sample, and with volumes
            `biovolume_concentration`, mm³ m⁻³. What the volumes are of is `summary["volume_of"]`.
        totals: one row a label, the most on top: `count`, `corrected`, `low` and `high` of all samples together (with
            refused images not the sum of the samples, in each of which `unknown` is at least 0), and
            their `individuals` and `concentration` with bounds; nan where they are not known of every sample, and
            concentrations where samples share their water.
        samples: one row a sample: `sample`, `n_images`, `n_refused`, `correction` (`none` where the counts are not
            corrected) and `why_uncorrected`, `fit_p` (see `MixtureTest`), `shift` (the verdict, see `Shift`),
            `latitude`, `longitude`, `time`, `depth` (m), and the columns of `Parts.samples` (`volume`, m³,
            `subsample_factor`, `added_up`, …), as far as there are such.
        spectra: one row a sample, label and bin of size: see `size_spectrum`; the label `(all)` is all images, as they
            are. None without body sizes.
        profile: the commonest classes over depth: one row a sample and label, with the columns of `table` and `depth`;
            where the images of a sample have depths of their own, one row a sample, bin and label: `depth`,
            `depth_low`, `depth_high`, `n_images`, `label`, `corrected`, with factors `individuals`, and with volumes
            `concentration`, where each sample of water is from one bin. None where depths do not vary.
        time_series: the same over `time`; None where there are fewer than 3 times.
        summary: plain values, ready for JSON.
        unknown: the label of refused images.
        parts: where a sample has several parts (fractions, bins, runs), one row a part; see `Parts.table`.
        shares_water: whether the water of all samples together is not known though that of each is: samples share it,
            or their volumes are of different things.
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
        """What concentrations are in, to follow a unit: ` in the fluid that was run`; empty for sea water."""
        kind = self.summary.get("volume_of") or SEA_WATER
        return "" if kind == SEA_WATER else f" in the {kind}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return self.summary

    def by_sample(self, column: str = "corrected") -> pd.DataFrame:
        """Return a column of `table` as one row a sample and one column a label."""
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
    named: NDArray[np.intp],
    log_probabilities: Floats,
    refused: NDArray[np.bool_],
    correction: CountCorrection,
    kept: Floats | None = None,
    drawn_by: NDArray[np.intp] | None = None,
    is_corrected: bool = True,
) -> SampleCounts:
    """Count what one sample holds.

    Images with different sub-sampling factors are corrected separately, because the classes differ between fractions
    (of size, mostly). Their counts and draws add up, weighted by the factors. Of the individuals in the part that was
    not imaged, every draw has a number of its own (negative binomial: what a random part leaves out, given what it
    holds), so that the interval of `individuals` holds the sampling error too.

    Of the images of each class a share is refused: the count of the class is divided by the share that is kept, as far
    as there are refused images. The rest of these is the corrected count of `unknown`. Every draw has its own shares,
    and its own number of refused images of each class (negative binomial).

    Args:
        survey: of all samples.
        number: of the sample.
        labels: (L,) the classes in the order of the probabilities, then `unknown` where no class is called so.
        named: (n,) codes of the names given.
        log_probabilities: (n, C).
        refused: (n,) whether the image is called unknown.
        correction: learned from the calibration images.
        kept: (1 + D, C), the share of each class's images that is not refused: the estimate, then one row for each of
            the D draws of the correction (see `estimate_kept`); by default all are kept.
        drawn_by: (n,) codes of what is drawn as a whole among these images (see `CountCorrection.correct`).
        is_corrected: otherwise the corrected counts are the predictions counted, without bounds or draws (nan).
    """
    rows = survey.rows[number]
    n, n_classes = log_probabilities.shape
    factor = np.ones(n) if survey.factor is None else survey.factor[rows]
    rng = np.random.default_rng([correction.seed, zlib.crc32(log_probabilities.tobytes()), 1])
    count, images, individuals = np.zeros(len(labels)), np.zeros((3, len(labels))), np.zeros((3, len(labels)))
    weights = np.zeros((n, len(labels)))  # columns add up to the corrected counts
    draws: Floats = np.zeros((1, len(labels)))
    individual_draws: Floats = np.zeros((1, len(labels)))
    known: Floats = np.zeros((1, n_classes))
    known_individuals: Floats = np.zeros((1, n_classes))
    values = np.unique(factor)  # nan is one of them, once
    for value in values:
        part = np.isnan(factor) if np.isnan(value) else factor == value
        inner = None if drawn_by is None else drawn_by[part]
        one = _count_part(
            labels, named[part], log_probabilities[part], refused[part], correction, kept, rng, inner, is_corrected
        )
        weights[part] = one.weights
        count, images, draws = count + one.count, images + one.images, draws + one.draws
        individuals = individuals + value * one.images
        part_draws = one.draws + _draw_rest(one.draws, value, rng)
        individual_draws = individual_draws + part_draws
        limited = np.concatenate([value * one.images[:1, :n_classes], part_draws[:, :n_classes]])
        images_limited = np.concatenate([one.images[:1, :n_classes], one.draws[:, :n_classes]])
        known = known + one.known
        known_individuals = known_individuals + limited + value * (one.known - images_limited)
    if len(values) > 1:
        images[1:] = _bound(images[0], draws, correction.level)
    if values[-1] > 1:
        half = np.zeros_like(draws)
        half[:, :n_classes] = _draw_half((len(draws), n_classes), values[-1], correction.seed)
        individuals[1:] = _bound(individuals[0], individual_draws + half, correction.level)
    if not is_corrected:
        images[1:], individuals[1:], known[1:], known_individuals[1:] = np.nan, np.nan, np.nan, np.nan
    weighted = weights * factor[:, None]
    bins = np.full(n, -1) if survey.depth_bin is None else survey.depth_bin[rows]
    in_bin = np.arange(max(len(survey.depth_edges) - 1, 0))[:, None] == bins
    return SampleCounts(
        count,
        corrected=images[0],
        low=images[1],
        high=images[2],
        individuals=individuals,
        n_refused=int(refused.sum()),
        biovolume=np.zeros(n) @ weights
        if survey.biovolume is None
        else np.nan_to_num(survey.biovolume[rows]) @ weighted,
        by_depth=in_bin @ weights,
        individuals_by_depth=in_bin @ weighted,
        n_by_depth=in_bin.sum(axis=1),
        spectra=_measure_spectra(survey, number, labels, weights, factor),
        known=known,
        known_individuals=known_individuals,
    )


@dataclass(frozen=True, eq=False)
class _PartCounts:
    """Counts of the images of one factor: `images` (3, L) corrected, low and high; `draws` (D, L); `weights` (n, L).

    `known` as in `SampleCounts`.
    """

    count: Floats
    images: Floats
    draws: Floats
    known: Floats
    weights: Floats


def _count_part(
    labels: Sequence[str],
    named: NDArray[np.intp],
    log_probabilities: Floats,
    refused: NDArray[np.bool_],
    correction: CountCorrection,
    kept: Floats | None,
    rng: np.random.Generator,
    drawn_by: NDArray[np.intp] | None,
    is_corrected: bool,
) -> _PartCounts:
    n, n_classes, n_refused = len(named), log_probabilities.shape[1], int(refused.sum())
    if is_corrected:
        found = correction.correct(log_probabilities[~refused], None if drawn_by is None else drawn_by[~refused])
    else:
        found, kept = _count_predictions(named[~refused], n_classes, correction.n_draws), None
    images, draws = np.zeros((3, len(labels))), np.zeros((len(found.draws), len(labels)))
    count, weights = np.bincount(named[~refused], minlength=len(labels)).astype(float), np.zeros((n, len(labels)))
    images[:, :n_classes] = found.count, found.low, found.high
    draws[:, :n_classes] = found.draws
    weights[~refused, :n_classes] = found.membership
    kept = np.ones((1 + len(draws), n_classes)) if kept is None else kept
    lost = found.count * (1 / kept[0] - 1)
    lost_draws = (found.draws > 0) * rng.negative_binomial(np.maximum(found.draws, 1), kept[1:]).astype(float)
    known = np.concatenate([[found.count + lost], found.draws + lost_draws])
    if n_refused:
        lost, lost_draws = _limit(lost, n_refused), _limit(lost_draws, n_refused)
        weights[~refused, :n_classes] *= 1 + lost / np.maximum(found.count, 1e-300)
        weights[refused, -1] = max(1 - lost.sum() / n_refused, 0)
        draws[:, :n_classes] += lost_draws
        draws[:, -1] = n_refused - lost_draws.sum(axis=1)
        images[0] = weights.sum(axis=0)
        images[1:] = _bound(images[0], draws, correction.level)
        count[-1] = n_refused
    return _PartCounts(count, images.round(DECIMALS), draws, known, weights)


def _count_predictions(named: NDArray[np.intp], n_classes: int, n_draws: int) -> CorrectedCounts:
    """Return the predictions of images (n,) as counts that nothing is corrected in."""
    membership = np.eye(n_classes)[named]
    count = membership.sum(axis=0)
    return CorrectedCounts(count, count, count, membership, np.tile(count, (n_draws, 1)))


def _limit(lost: Floats, n_refused: int) -> Floats:
    """Return numbers of refused images (…, C) of known classes; no more altogether than were refused."""
    most = np.maximum(lost.sum(axis=-1, keepdims=True), n_refused)
    return np.asarray(lost * (n_refused / most))


def _draw_rest(imaged: Floats, factor: float, rng: np.random.Generator) -> Floats:
    """Draw how many individuals are in the part that was not imaged, given how many were (of any shape)."""
    if not factor > 1:
        return (factor - 1) * imaged  # nan where the factor is unknown
    return rng.poisson(rng.standard_gamma(imaged) * (factor - 1)).astype(float)  # negative binomial


def _draw_half(shape: tuple[int, ...], factor: float, seed: int) -> Floats:
    """Draw what half an image stands for that was not imaged: the same for every sample and for all of them."""
    return _draw_rest(np.full(shape, HALF), factor, np.random.default_rng([seed, 2]))


def _bound(estimate: Floats, draws: Floats, level: float) -> Floats:
    """Return the lower and upper bounds (2, L) from draws (D, L), the estimates (L,) within them."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.stack([np.minimum(low, estimate), np.maximum(high, estimate)])


def _measure_spectra(
    survey: Survey, number: int, labels: Sequence[str], weights: Floats, factor: Floats
) -> pd.DataFrame | None:
    """Return the size spectra of one sample: of all images, and of each class that it may hold."""
    water = survey.column("volume")[number] if "volume" in survey.samples else None
    if survey.biovolume is None or np.isnan(factor).any() or (water is not None and not np.isfinite(water)):
        return None
    size = survey.biovolume[survey.rows[number]]
    held = np.flatnonzero(weights.sum(axis=0) >= LEAST_COUNT).tolist()
    bodies = {ALL_CLASSES: np.ones(len(size)), **{labels[code]: weights[:, code] for code in held}}
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
    """Make the tables of a survey from the counts of its samples.

    Args:
        survey: the samples.
        labels: (L,) the classes, then `unknown`.
        counted: of each sample.
        level: share of the intervals that should hold the true count.
        unknown: the label of refused images.
        summary: of the result, to which the numbers of images, samples and refused images are added.
    """
    n = len(labels)
    found: list[SampleCounts] = []
    known: Floats = np.zeros((1, 1))
    known_individuals = known
    for one in counted:  # the draws of all samples would fill the memory
        known, known_individuals = known + one.known, known_individuals + one.known_individuals
        found.append(replace(one, known=one.known[:0], known_individuals=one.known[:0]))
    n_images = int(survey.samples["n_images"].sum())
    share = np.minimum(n_images / np.maximum(known.sum(axis=1, keepdims=True), 1e-300), 1)  # nan where not corrected
    known, known_individuals = known * share, known_individuals * share
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
    samples.insert(2, "n_refused", [one.n_refused for one in found])
    spectra = [one.spectra for one in found if one.spectra is not None]
    totals = table.groupby("label", sort=False)[["count", "corrected", "low", "high"]].sum()
    n_classes = known.shape[1]
    pooled = np.column_stack([known, n_images - known.sum(axis=1)]).round(DECIMALS) + 0.0
    totals["corrected"] = pooled[0]
    totals["low"], totals["high"] = _bound(pooled[0], pooled[1:], level)
    whole = individuals.sum(axis=1)  # nan where one sample is not known
    most = 1.0 if survey.factor is None else survey.factor.max()
    half = _draw_half((len(known) - 1, n_classes), most, summary.get("seed", 0))
    of_all = whole[0].sum()
    whole[0] = np.append(known_individuals[0], of_all - known_individuals[0].sum()).round(DECIMALS) + 0.0
    whole[1:, :n_classes] = _bound(whole[0, :n_classes], known_individuals[1:] + half, level)
    whole[1:, n_classes] = np.minimum(whole[1, n_classes], whole[0, n_classes]), np.maximum(*whole[[2, 0], n_classes])
    alike = survey.n_divided == 0 and (  # else the same water is in several samples
        "volume_of" not in survey.samples or survey.samples["volume_of"].nunique(dropna=False) == 1
    )
    totals = _add_amounts(totals, survey, whole, volume.sum() if alike else np.nan)
    totals = totals.sort_values(["corrected", "count"], ascending=False, kind="stable")
    named = totals.drop(index=unknown, errors="ignore")["corrected"]
    common = named[named >= LEAST_COUNT].index[:N_COMMON].tolist()
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
    """Return what the summary says of amounts: what volumes are of, formula, units, and why amounts are missing."""
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
    """Return how many samples have each text in a column, which there may not be."""
    texts = samples[column] if column in samples else pd.Series(dtype="str")
    return {str(text): int(n) for text, n in texts[texts != ""].value_counts().items()}


def _add_amounts(table: pd.DataFrame, survey: Survey, individuals: Floats, volume: Floats | float) -> pd.DataFrame:
    """Add columns of individuals (3, rows) where there are factors, and of concentrations where there are volumes."""
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
    sample, place = np.nonzero(n_images)
    edges = survey.depth_edges
    bins = pd.DataFrame({
        "sample": survey.samples["sample"].to_numpy()[sample],
        "depth": (edges[place] + edges[place + 1]) / 2,
        "depth_low": edges[place],
        "depth_high": edges[place + 1],
        "n_images": n_images[sample, place],
    })  # fmt: skip
    tables = []
    for label in common:
        column = list(labels).index(label)
        table = bins.assign(label=label, corrected=counts[sample, place, column])
        if "subsample_factor" in survey.samples:
            table["individuals"] = individuals[sample, place, column]
        if survey.depth_volume is not None and np.isfinite(survey.depth_volume).any():
            table["concentration"] = individuals[sample, place, column] / survey.depth_volume[sample, place]
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
        samples: as in `Abundance`; where they have volumes, `nbss` is by all of the water.
        shares_water: as in `Abundance`; where there are volumes, `nbss` is nan then.
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

    Of the filled bins those from the highest on: below it, an instrument misses bodies.

    Returns:
        Slope and intercept; nan where fewer than 3 such bins hold a body at least, or `nbss` is not known.
    """
    filled = spectrum[(spectrum["count"] >= 1) & spectrum["nbss"].notna()]
    filled = filled.iloc[int(filled["nbss"].to_numpy().argmax()) :] if len(filled) else filled
    if len(filled) < 3:
        return float("nan"), float("nan")
    middle = np.log10(np.sqrt(filled["low"] * filled["high"]))
    slope, intercept = np.polyfit(middle, np.log10(filled["nbss"]), 1)
    return float(slope), float(intercept)
