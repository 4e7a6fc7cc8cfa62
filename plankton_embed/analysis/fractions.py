"""Add up the parts (fractions) of a sample, each with its own sub-sampling factor and volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

KEYS = ["code", "sample_id", "acq_id", "volume", "volume_of", "subsample_factor"]
NO_SAMPLE = "(none)"
UNCLEAR = (
    "several acq_id share one volume and have no subsample_factor: are they fractions or repeats? "
    "(fractions: give factors, 1 if all was "
    "imaged; repeats: give each a sample_id of its own, and add them up with --by)"
)
CONTRADICTING = (
    "several volumes in one sample_id, which is one sample of water (fix them; different water: give each a sample_id "
    "of its own, and add them up with --by)"
)
SEA_WATER = "sea water"  # what volumes are of, if the catalog has no column `volume_of`

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of every sample, and their sums.

    Attributes:
        table: one row per part: `sample`, those of the columns `sample_id`, `acq_id`, `volume` (m³), `volume_of` and
            `subsample_factor` that exist, and `n_images`.
        samples: one row per sample. With volumes `volume`, the sum of its water, and `volume_of`; with factors
            `subsample_factor`, if all images have the same. If a sample has several parts, also `n_parts` and
            `added_up`: `fractions`, `samples` or both. If an amount cannot be given, `why_missing`.
        factor: (n,) of each image, nan for all images of a sample if one has none; None without factors.
        water: (n,) number of the body of water of each image.
        water_volume: (W,) m³ of each body of water.
        n_divided: number of `sample_id` with fractions that are divided among several samples.
    """

    table: pd.DataFrame
    samples: pd.DataFrame
    factor: Floats | None
    water: NDArray[np.intp]
    water_volume: Floats
    n_divided: int


def add_parts_up(images: pd.DataFrame, names: NDArray[np.object_], by: str) -> Parts:
    """Find the parts of every sample, and add them up.

    - Fractions. The images of one `sample_id` with factors are of the same water, whatever their `acq_id`: each counts
      as many individuals as its factor, and the volume is counted once: concentration = sum of factors / volume.
    - Samples. Different `sample_id` are different water, each examined for all classes: the volumes are added too:
      concentration = sum of factors / sum of volumes. The same applies to acquisitions of one `sample_id` without
      factors whose volumes differ.

    Images without a `sample_id` are of the same water. Without the column `subsample_factor` every factor is 1. A
    sample in which the volumes of one acquisition, or of the fractions of one `sample_id`, differ has no volume.

    Args:
        images: one row per image: `code`, its sample, and those of `sample_id`, `acq_id`, `volume` (m³), `volume_of`
            (what the volume is of) and `subsample_factor` that exist; text may be categories.
        names: (S,) of the samples.
        by: column that the samples are from.
    """
    grouped = images.groupby([name for name in KEYS if name in images], dropna=False, observed=True)
    table = grouped.size().rename("n_images").reset_index()
    table = table.astype(dict.fromkeys(table.select_dtypes("category"), "str"))
    parts = table.reindex(columns=KEYS)
    parts["volume_of"] = parts["volume_of"].astype(object).where(parts["volume_of"].notna(), SEA_WATER)
    code, volume, factor = parts["code"], parts["volume"], parts["subsample_factor"]
    water = parts.groupby(["code", "sample_id"], dropna=False).ngroup()
    run = parts.groupby(["code", "sample_id", "acq_id"], dropna=False).ngroup()
    has_factor = factor.notna().groupby(water).transform("any")
    n_volumes = volume.groupby(water).transform("nunique")
    contradicts = (n_volumes > 1) & (has_factor | (volume.groupby(run).transform("nunique") > 1))
    contradicts = contradicts.groupby(water).transform("any")
    n_volumes = n_volumes.mask(contradicts, 0)
    volume = volume.mask(contradicts)
    own = run.where(n_volumes > 1, -1 - water)  # what has a volume of its own: an acquisition, or the whole water
    volumes = pd.DataFrame({"own": own, "code": code, "water": water, "volume": volume}).groupby("own").first()
    why_volume = why_factor = np.full(len(names), "", dtype=object)
    amounts: dict[str, pd.Series | NDArray[np.object_]] = {}
    if "volume" in images:
        is_unclear = (n_volumes == 1) & ~has_factor & (run.groupby(water).transform("nunique") > 1)
        why_volume = _explain_volume(parts, contradicts, is_unclear, names, by)
        amounts["volume"] = volumes.groupby("code")["volume"].sum().where(why_volume == "")
    if "volume_of" in images:
        amounts["volume_of"] = parts.groupby("code")["volume_of"].first()
    if "subsample_factor" in images:
        why_factor = _explain_factor(parts, names, by)
        of_sample = factor.groupby(code)
        amounts["subsample_factor"] = of_sample.first().where((of_sample.nunique() == 1) & (why_factor == ""))
    n_parts = code.value_counts().sort_index()
    if n_parts.max() > 1 and ("volume" in images or "subsample_factor" in images):
        has_fractions = (has_factor & water.duplicated(keep=False)).groupby(code).any()
        has_samples = volumes["code"].value_counts().sort_index() > 1
        amounts["n_parts"] = n_parts
        amounts["added_up"] = np.select(
            [has_fractions & has_samples, has_fractions, has_samples],
            ["fractions and samples", "fractions", "samples"],
            "",
        )
    why = ["; ".join(dict.fromkeys(filter(None, pair))) for pair in zip(why_volume, why_factor, strict=True)]
    if any(why):
        amounts["why_missing"] = np.array(why, dtype=object)
    row = grouped.ngroup().to_numpy()
    of_image = np.where(why_factor[code] == "", factor, np.nan)[row] if "subsample_factor" in images else None
    return Parts(
        table.drop(columns="code").assign(sample=names[code])[["sample", *table.columns.drop("code")]],
        pd.DataFrame(amounts, index=range(len(names))),
        of_image,
        water.to_numpy()[row].astype(np.intp),
        volumes.groupby("water")["volume"].sum(min_count=1).to_numpy(),
        _count_divided(parts),
    )


def _explain_volume(
    parts: pd.DataFrame, contradicts: pd.Series, is_unclear: pd.Series, names: NDArray[np.object_], by: str
) -> NDArray[np.object_]:
    """Return the reason why each sample has no volume; empty if it has one."""
    of_sample = parts["code"]
    is_missing, nameless = parts["volume"].isna().groupby(of_sample), parts["sample_id"].isna().groupby(of_sample)
    reasons = {
        f"no {by}": names == NO_SAMPLE,
        CONTRADICTING: contradicts.groupby(of_sample).any(),
        "volume is missing": is_missing.all(),
        "volume is missing for some images": is_missing.any(),
        "sample_id is missing for some images": nameless.any() & ~nameless.all(),
        "volumes of different things (column volume_of)": parts["volume_of"].groupby(of_sample).nunique() > 1,
        UNCLEAR: is_unclear.groupby(of_sample).any(),
    }
    return np.select([np.asarray(has) for has in reasons.values()], list(reasons), "").astype(object)


def _explain_factor(parts: pd.DataFrame, names: NDArray[np.object_], by: str) -> NDArray[np.object_]:
    """Return the reason why each sample has no factors; empty if it has them."""
    is_missing, is_low = (
        rows.groupby(parts["code"]) for rows in (parts["subsample_factor"].isna(), parts["subsample_factor"] < 1)
    )
    reasons = {
        f"no {by}": names == NO_SAMPLE,
        "subsample_factor is missing (1: all was imaged)": is_missing.all(),
        "subsample_factor is missing for some images (1: all was imaged)": is_missing.any(),
        "subsample_factor below 1 (16: a sixteenth was imaged)": is_low.any(),
    }
    return np.select([np.asarray(has) for has in reasons.values()], list(reasons), "").astype(object)


def _count_divided(parts: pd.DataFrame) -> int:
    """Return the number of `sample_id` with images in several samples that share a volume or have factors."""
    counted = parts[parts["volume"].notna() | parts["subsample_factor"].notna()].groupby("sample_id")
    return int(((counted["code"].nunique() > 1) & (counted["volume"].nunique() < 2)).sum())
