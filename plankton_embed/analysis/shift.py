"""Dataset shift: compare samples of new images with the calibration images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.balance import split_by_class
from plankton_embed.notebook import Shown
from plankton_embed.output import progress_bar
from plankton_embed.table import EmbeddingTable
from plankton_embed.vector_shards import Vectors

logger = logging.getLogger(__name__)

P_LIMIT = 0.001
N_PERMUTATIONS = 2000
N_DRAWS = 100  # null draws from the calibration images
LEAST_IMAGES = 10  # of a sample that is tested
MOST_NEW, MOST_CALIBRATION = 1000, 2000  # images whose distances are compared, drawn once if there are more
AT_ONCE = 500  # permutations

APPEARANCE, UNLIKE, CLASS_MIX, ALIKE, TOO_FEW = "appearance", "unlike", "class mix", "alike", "too few images"
MOST_JUDGED, MOST_JUDGED_CALIBRATION = 300, 1000  # images of a sample, and for calibration, in `judge_shift`
VERDICTS = (APPEARANCE, UNLIKE, CLASS_MIX, ALIKE, TOO_FEW)

Effect = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # of divisions (n, p) of n images in two; (p,)


@dataclass(frozen=True, eq=False, repr=False)
class Shift(Shown):
    """Samples of new images compared with the calibration images.

    Three comparisons, each with an effect (0: no difference, 1: complete difference), the largest effect in null draws
    of as many images from the calibration images (at most half of them), and the p-value of a permutation test:

    - `vectors`: all differences in the space. The energy distance (Székely & Rizzo 2013), without bias, over twice the
      mean distance between the two sets. Other prevalences than in the calibration images are a difference too.
    - `mix`: only the predictions. The share of the images that would need another prediction to give the prevalences of
      the calibration images.
    - `appearance`: each image against the calibration images with the same prediction, whatever the prevalences. The
      share of such pairs in which the new image has the higher novelty score, minus the share in which it has the lower
      one (Cliff's delta), averaged over the new images; negative if their novelty scores are lower.

    A comparison is flagged if p < .001 and the effect is above those of all draws. Images are treated as independent,
    which is not quite true within one tow: a small effect in a large sample is not an alarm. If the samples of the
    calibration images are given, every draw takes whole samples, so that a flagged sample differs by more than these
    differ from each other; the p-values are still those of single images.

    Attributes:
        samples: one row per sample, the largest effect first, after a row for all images together (without
            `sample_id`): `sample_id`, `n_images`, `verdict`; `NAME_effect`, `NAME_draws` (the largest of the draws),
            `NAME_p`, `NAME_flagged` of each comparison; `refused` (share of the images) and `expected_accuracy` (mean
            probability of the predictions; too high if the appearance differs). The verdict is `appearance` if that is
            flagged; if another comparison is, `class mix` if draws have such an effect of `appearance` too, otherwise
            `unlike`; `alike` if none is flagged; `too few images` below 10, which are not compared.
        classes: one row per sample and predicted class, most rejected images first: `sample_id`, `label`, `n_images`,
            `share`, `calibration_share`, `n_refused`, `refused` (share), `novelty_score` and `calibration_novelty`
            (means).
        calibration: of the calibration images: `n_images`, `expected_accuracy`, and `accuracy` of their predictions.
        unknown_rate: share of the calibration images that the rejector was fitted to reject, if it is known.
    """

    samples: pd.DataFrame
    classes: pd.DataFrame
    calibration: dict[str, float]
    unknown_rate: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: all images together, and the number of samples with each verdict."""
        everything, single = self.samples.head(1).drop(columns="sample_id"), self.samples.iloc[1:]
        return {
            **{str(name): value for name, value in everything.to_dict("records")[0].items()},
            "calibration": self.calibration,
            "n_samples": len(single),
            **{f"n_{name.replace(' ', '_')}": int((single["verdict"] == name).sum()) for name in VERDICTS},
        }

    def _describe(self) -> str:
        verdicts = self.samples["verdict"].iloc[1:].value_counts()
        counts = [f"{n} {name}" for name, n in verdicts.items()]
        everything = f"{self.samples['n_images'].iloc[0]:,} images: {self.samples['verdict'].iloc[0]}"
        return ", ".join([everything, f"{len(self.samples) - 1} samples", *counts])

    def _preview(self) -> pd.DataFrame:
        return self.samples


def find_shift(
    calibration: EmbeddingTable,
    calibration_predictions: pd.DataFrame,
    new: Vectors,
    new_predictions: pd.DataFrame,
    *,
    calibration_samples: NDArray[np.intp] | None = None,
    n_permutations: int = N_PERMUTATIONS,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    most_calibration: int = MOST_CALIBRATION,
    progress: bool = False,
) -> Shift:
    """Compare samples of new images, and all of them together, with the calibration images.

    Args:
        calibration: labelled vectors of known classes that the network was not trained on.
        calibration_predictions: their predictions, row by row: `best_label` (before rejection), `probability`,
            `novelty_score`, and the `threshold` above which an image is rejected.
        new: vectors; their `sample_id` is their sample; images without one are only in the row of all images.
        new_predictions: their predictions.
        calibration_samples: (m,) codes of the samples that the draws take as a whole; by default single images.
        n_permutations: of each test; at least 1,000, as otherwise no p is below .001.
        n_draws: null draws from the calibration images.
        seed: of permutations and draws; the result for a sample does not depend on other samples.
        most_calibration: maximum number of calibration images that are compared, drawn once if there are more.
        progress: show a bar.

    Raises:
        SettingError: too few permutations or draws.
        InputError: too few calibration images, or no new ones.
    """
    if 1 / (1 + n_permutations) >= P_LIMIT:
        raise SettingError(f"permutations: expected at least 1,000, to show p < {P_LIMIT}; found {n_permutations}")
    if n_draws < 1:
        raise SettingError(f"draws: expected at least 1; found {n_draws}")
    if len(calibration) < 2 * LEAST_IMAGES:
        raise InputError(f"shift needs at least {2 * LEAST_IMAGES} calibration images; found {len(calibration)}")
    if len(new) == 0:
        raise InputError("there are no new images to compare with the calibration images")
    rows = draw_rows(len(calibration), most_calibration, seed)
    validated = _Compared.take(calibration.vectors[rows], calibration_predictions, rows, calibration_samples)
    distances = cdist(validated.vectors, validated.vectors).astype(np.float32)
    label_counts = calibration_predictions["best_label"].value_counts()
    listed = _list_samples(new)
    drawn = [rows[draw_rows(len(rows), MOST_NEW, seed)] for _, rows in listed]
    every = np.arange(len(new)) if isinstance(new, EmbeddingTable) else np.unique(np.concatenate(drawn))
    vectors = new.vectors if isinstance(new, EmbeddingTable) else new.take(every).vectors  # in one pass
    samples, classes = [], []
    bar = progress_bar(listed, "samples", "sample", shown=progress)
    for (sample_id, rows), compared in zip(bar, drawn, strict=True):
        predictions = new_predictions.iloc[rows]
        row: dict[str, Any] = {"sample_id": sample_id, "n_images": len(rows)}
        if len(rows) >= LEAST_IMAGES:
            sample = _Compared.take(vectors[np.searchsorted(every, compared)], new_predictions, compared)
            row |= _compare(sample, validated, distances, n_permutations, n_draws, seed)
            row |= _compare_mix(
                predictions["best_label"].value_counts(), label_counts, calibration_predictions, calibration_samples,
                n_permutations, n_draws, seed,
            )  # fmt: skip
        rejected = float((predictions["novelty_score"] > predictions["threshold"]).mean())
        samples.append(row | {"refused": rejected, "expected_accuracy": float(predictions["probability"].mean())})
        classes.append(_describe_classes(predictions, calibration_predictions).assign(sample_id=sample_id))
    is_right = calibration_predictions["best_label"].to_numpy() == calibration.label
    probability = float(calibration_predictions["probability"].mean())
    described = {"n_images": len(calibration), "expected_accuracy": probability, "accuracy": float(is_right.mean())}
    return Shift(_judge(pd.DataFrame(samples)), pd.concat(classes, ignore_index=True), described)


# ---------------------------------------------------------------------------------------------- comparisons


@dataclass(frozen=True)
class _Compared:
    """The compared images: `vectors` (n, d), `predicted` (n,), `novelty_score` (n,), and `samples` (n,) or None."""

    vectors: NDArray[np.float32]
    predicted: NDArray[np.str_]
    novelty_score: NDArray[np.float64]
    samples: NDArray[np.intp] | None = None

    @classmethod
    def take(
        cls,
        vectors: NDArray[np.float32],
        predictions: pd.DataFrame,
        rows: NDArray[np.intp],
        samples: NDArray[np.intp] | None = None,
    ) -> _Compared:
        novelty_score = predictions["novelty_score"].iloc[rows].to_numpy(dtype=np.float64)
        predicted = predictions["best_label"].iloc[rows].to_numpy(dtype=str)
        return cls(vectors, predicted, novelty_score, None if samples is None else samples[rows])


def _compare(
    new: _Compared,
    calibration: _Compared,
    calibration_distances: NDArray[np.float32],
    n_permutations: int,
    n_draws: int,
    seed: int,
) -> dict[str, float]:
    """Return effect, largest effect of the draws and p by the vectors, and by the appearance within classes."""
    n, n_calibration = len(new.predicted), len(calibration.predicted)
    across = cdist(new.vectors, calibration.vectors)
    distances = np.block([[cdist(new.vectors, new.vectors), across], [across.T, calibration_distances]])
    is_new = np.arange(n + n_calibration) < n
    if calibration.samples is None:
        drawn = np.arange(n_calibration) < min(n, n_calibration // 2)
        draws = np.concatenate(list(permute(drawn, np.zeros(n_calibration), n_draws, seed)), axis=1)
    else:
        draws = draw_samples(calibration.samples, min(n, n_calibration // 2), n_draws, seed)

    predicted = np.concatenate([new.predicted, calibration.predicted])
    novelty_score = np.concatenate([new.novelty_score, calibration.novelty_score])
    effect, p = judge_division(energy_effect(distances), is_new, np.zeros(len(is_new)), n_permutations, seed)
    largest = float(np.fmax.reduce(energy_effect(calibration_distances)(draws)))
    found = {"vectors_effect": effect, "vectors_draws": largest, "vectors_p": p}
    measure = rank_effect(novelty_score, predicted)
    effect, p = judge_division(measure, is_new, predicted, n_permutations, seed, two_sided=True)
    by_draws = rank_effect(calibration.novelty_score, calibration.predicted)(draws)
    largest = float(np.fmax.reduce(np.abs(by_draws)))
    return found | {"appearance_effect": effect, "appearance_draws": largest, "appearance_p": p}


def _compare_mix(
    new: pd.Series,
    calibration: pd.Series,
    calibration_predictions: pd.DataFrame,
    samples: NDArray[np.intp] | None,
    n_permutations: int,
    n_draws: int,
    seed: int,
) -> dict[str, float]:
    """Return effect, largest effect of the draws and p by the counts of the predicted classes."""
    labels = new.index.union(calibration.index)
    of_new, of_calibration = (counts.reindex(labels, fill_value=0).to_numpy() for counts in (new, calibration))
    n, n_drawn = int(of_new.sum()), min(int(of_new.sum()), int(of_calibration.sum()) // 2)
    rng, both = np.random.default_rng(seed), of_new + of_calibration
    shuffled = rng.multivariate_hypergeometric(both, n, size=n_permutations, method="marginals")
    if samples is None:
        drawn = rng.multivariate_hypergeometric(of_calibration, n_drawn, size=n_draws, method="marginals")
    else:
        codes = labels.get_indexer(pd.Index(calibration_predictions["best_label"]))
        divisions = draw_samples(samples, n_drawn, n_draws, seed)
        drawn = np.array([np.bincount(codes[column > 0], minlength=len(labels)) for column in divisions.T])
    effect = float(mix_effect(of_new, of_calibration))
    largest = float(mix_effect(drawn, of_calibration - drawn).max())
    return {"mix_effect": effect, "mix_draws": largest, "mix_p": _share(mix_effect(shuffled, both - shuffled), effect)}


def energy_effect(distances: NDArray[np.floating]) -> Effect:
    """Return the function that measures how far two parts of n images are apart, given their distances (n, n).

    Each part needs at least two images.

    The energy distance is twice the mean distance between the parts minus the mean distances within each, without pairs
    of an image with itself: its expectation is 0 for parts of one population, whatever their sizes. It is divided by
    twice the mean distance between the parts.
    """
    distances = distances.astype(np.float32)
    from_each = distances.sum(axis=1, dtype=np.float64)

    def measure(divisions: NDArray[np.float32]) -> NDArray[np.float64]:
        n_first = divisions.sum(axis=0, dtype=np.float64)
        n_second = len(divisions) - n_first
        first = (divisions * (distances @ divisions)).sum(axis=0, dtype=np.float64)
        across = from_each @ divisions - first
        second = from_each.sum() - 2 * across - first
        twice = 2 * across / (n_first * n_second)
        within = first / (n_first * (n_first - 1)) + second / (n_second * (n_second - 1))
        return np.asarray((twice - within) / np.maximum(twice, np.finfo(np.float32).tiny))

    return measure


def rank_effect(values: NDArray[np.floating], labels: NDArray[Any]) -> Effect:
    """Return the function that measures how much higher the values of one part of n images are than those of the other.

    Within every label: the share of pairs in which the first part's value is higher, minus the share in which it is
    lower; averaged over the first part's images. nan if no label is in both parts.
    """
    groups = _group(labels)
    ranks = [rankdata(values[rows]) for rows in groups]

    def measure(divisions: NDArray[np.float32]) -> NDArray[np.float64]:
        above, weights = np.zeros(divisions.shape[1]), np.zeros(divisions.shape[1])
        for rows, rank in zip(groups, ranks, strict=True):
            n_first = divisions[rows].sum(axis=0, dtype=np.float64)
            n_second = len(rows) - n_first
            higher = rank @ divisions[rows] - n_first * (n_first + 1) / 2  # pairs; a tie counts half
            weight = np.where(n_second > 0, n_first, 0)
            above += weight * (2 * higher / np.maximum(n_first * n_second, 1) - 1)
            weights += weight
        return np.where(weights > 0, above / np.maximum(weights, 1), np.nan)

    return measure


def mix_effect(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return half the sum of the absolute differences of two mixes of classes, given as counts (..., C)."""
    shares = (counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1) for counts in (one, other))
    return np.asarray(np.abs(np.subtract(*shares)).sum(axis=-1) / 2)


def judge_division(
    measure: Effect,
    is_first: NDArray[np.bool_],
    groups: NDArray[Any],
    n_permutations: int,
    seed: int,
    *,
    two_sided: bool = False,
) -> tuple[float, float]:
    """Return the effect of a division in two, and the share of random divisions (within the groups) as large.

    This p-value counts the division itself, so that it is never 0; it is nan if the effect is. Two-sided: as far from
    0 in either direction.
    """
    effect = float(measure(is_first[:, None].astype(np.float32))[0])
    if np.isnan(effect):
        return effect, effect
    by_chance = np.concatenate([measure(part) for part in permute(is_first, groups, n_permutations, seed)])
    return effect, _share(np.abs(by_chance), abs(effect)) if two_sided else _share(by_chance, effect)


def permute(
    is_first: NDArray[np.bool_], groups: NDArray[Any], n_permutations: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """Yield random divisions, (n, at most 500), with the same number of each group's images (n,) in the first part."""
    rng, rows_of = np.random.default_rng(seed), _group(groups)
    for start in range(0, n_permutations, AT_ONCE):
        divisions = np.repeat(is_first[:, None].astype(np.float32), min(AT_ONCE, n_permutations - start), axis=1)
        for rows in rows_of:
            divisions[rows] = rng.permuted(divisions[rows], axis=0)
        yield divisions


def draw_samples(samples: NDArray[np.intp], n: int, n_draws: int, seed: int) -> NDArray[np.float32]:
    """Return random divisions (m, n_draws) of m images; the first part is whole samples with at least n images.

    A last sample that would leave fewer than two images for the second part is left out.
    """
    rng, (_, codes) = np.random.default_rng(seed), np.unique(samples, return_inverse=True)
    sizes = np.bincount(codes)
    divisions = np.zeros((len(codes), n_draws), dtype=np.float32)
    for number in range(n_draws):
        order = rng.permutation(len(sizes))
        total = sizes[order].cumsum()
        n_taken = int(np.searchsorted(total, n)) + 1
        n_taken -= n_taken > 1 and total[n_taken - 1] > len(codes) - 2
        divisions[np.isin(codes, order[:n_taken]), number] = 1
    return divisions


def _share(by_chance: NDArray[np.float64], effect: float) -> float:
    """Return the p-value of an effect; effects that are smaller only by rounding count as equal."""
    return float((1 + (by_chance >= effect - 1e-6).sum()) / (1 + len(by_chance)))


def _group(labels: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Return the rows of every label."""
    return split_by_class(np.unique(labels, return_inverse=True)[1])


# ---------------------------------------------------------------------------------------------- tables


def _list_samples(new: Vectors) -> list[tuple[str | None, NDArray[np.intp]]]:
    """Return the rows of all images, then those of every sample."""
    in_sample = np.flatnonzero([sample_id is not None for sample_id in new.sample_id])
    single = [in_sample[rows] for rows in _group(new.sample_id[in_sample].astype(str))] if len(in_sample) else []
    return [(None, np.arange(len(new))), *((str(new.sample_id[rows[0]]), rows) for rows in single)]


def _describe_classes(predictions: pd.DataFrame, calibration_predictions: pd.DataFrame) -> pd.DataFrame:
    rejected = predictions["novelty_score"] > predictions["threshold"]
    by_label = predictions.assign(refused=rejected).groupby("best_label")
    calibration_by_label = calibration_predictions.groupby("best_label")
    columns = {
        "n_images": by_label.size(),
        "share": by_label.size() / len(predictions),
        "calibration_share": calibration_by_label.size() / len(calibration_predictions),
        "n_refused": by_label["refused"].sum(),
        "refused": by_label["refused"].mean(),
        "novelty_score": by_label["novelty_score"].mean(),
        "calibration_novelty": calibration_by_label["novelty_score"].mean(),
    }
    table = pd.DataFrame(columns).rename_axis("label").reset_index()
    table = table.fillna(dict.fromkeys(("n_images", "share", "calibration_share", "n_refused"), 0))
    table = table.astype({"n_images": int, "n_refused": int}).assign(sample_id=None)
    table = table.sort_values(["n_refused", "n_images", "label"], ascending=[False, False, True])
    return table[["sample_id", "label", *columns]]


def _judge(samples: pd.DataFrame) -> pd.DataFrame:
    """Add flags and verdicts; sort the columns, and the samples after the first row."""
    columns = ["sample_id", "n_images", "verdict"]
    for name in ("vectors", "mix", "appearance"):
        of_test = [f"{name}_effect", f"{name}_draws", f"{name}_p"]
        samples = samples.reindex(columns=samples.columns.union(of_test, sort=False))  # if no sample was tested
        effect = samples[f"{name}_effect"]
        inside = (effect.abs() if name == "appearance" else effect) <= samples[f"{name}_draws"]
        samples[f"{name}_flagged"] = ~inside & (samples[f"{name}_p"] < P_LIMIT)
        columns += [*of_test, f"{name}_flagged"]
    differs = samples["vectors_flagged"] | samples["mix_flagged"]
    rules = {
        TOO_FEW: samples["n_images"] < LEAST_IMAGES,
        APPEARANCE: samples["appearance_flagged"],
        CLASS_MIX: differs & inside,  # of the last comparison, the appearance
        UNLIKE: differs,
    }
    samples["verdict"] = np.select(list(rules.values()), list(rules), ALIKE)
    order = samples["vectors_effect"].iloc[1:].sort_values(ascending=False, kind="stable", na_position="last").index
    ordered = samples.loc[[0, *order], [*columns, "refused", "expected_accuracy"]]
    return ordered.reset_index(drop=True)


def draw_rows(n: int, most: int, seed: int) -> NDArray[np.intp]:
    """Return the numbers of at most so many of n rows, drawn at random, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def draw_judged(n: int) -> NDArray[np.intp]:
    """Return the rows of a sample of n images that `judge_shift` compares; of so few rows, all."""
    return draw_rows(n, MOST_JUDGED, 0)


def judge_shift(
    describe: Callable[[EmbeddingTable], pd.DataFrame],
    calibration: EmbeddingTable,
    samples: Sequence[EmbeddingTable],
    names: Sequence[str] | None = None,
    calibration_samples: NDArray[np.intp] | None = None,
    progress: bool = False,
) -> list[str]:
    """Return for each sample whether it is similar to the calibration images, and log it in one line.

    It is `find_shift` with fewer images (300 of a sample, 1,000 for calibration) and 1,000 permutations.

    Args:
        describe: returns the predictions of images, in the form that `find_shift` takes.
        calibration: labelled images of classes of the reference.
        samples: new images.
        names: of the samples; by default they are one sample, the query.
        calibration_samples: (m,) codes of the samples of the calibration images, to draw whole samples.
        progress: show a bar.

    Returns:
        The verdicts (see `Shift`); `too few images` also where there are too few calibration images.
    """
    if len(calibration) < 2 * LEAST_IMAGES:
        logger.info("shift: not compared, with fewer than %d calibration images", 2 * LEAST_IMAGES)
        return [TOO_FEW] * len(samples)

    drawn = [sample.select(draw_judged(len(sample))) for sample in samples]
    numbers = np.repeat(np.arange(len(drawn)), [len(sample) for sample in drawn]).astype(str)
    images = EmbeddingTable(np.concatenate([sample.vectors for sample in drawn]), sample_id=numbers.astype(object))
    found = find_shift(
        calibration,
        describe(calibration),
        images,
        describe(images),
        calibration_samples=calibration_samples,
        n_permutations=1000,
        most_calibration=MOST_JUDGED_CALIBRATION,
        progress=progress,
    )
    by_number = found.samples.iloc[1:].set_index("sample_id")["verdict"]  # without the row of all images together
    verdicts = [str(by_number.get(str(number), TOO_FEW)) for number in range(len(drawn))]
    differs = np.array(verdicts) == APPEARANCE
    advice = "their labels and counts are unreliable; see shift"
    if names is None and differs.any():
        logger.warning("shift: the images look unlike the calibration images (%s); %s", APPEARANCE, advice)
    elif differs.any():
        logger.warning(
            "shift: the images of %d of %d samples look unlike the calibration images, such as %s (%s); %s",
            *(int(differs.sum()), len(verdicts), names[int(differs.argmax())] if names else "", APPEARANCE, advice),
        )
    else:
        counted = pd.Series(verdicts).value_counts()
        logger.info("shift: %s", ", ".join(f"{name} ({n})" for name, n in counted.items()) if names else verdicts[0])
    return verdicts
