"""New samples compared with calibration images: effects and p-values by hand, and what is flagged."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import energy_distance, mannwhitneyu, permutation_test

from plankton_embed.analysis.shift import (
    draw_samples,
    energy_effect,
    find_shift,
    judge_division,
    mix_effect,
    permute,
    rank_effect,
)
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable

CENTRES = 3 * np.random.default_rng(99).normal(size=(4, 6))


def draw(n, seed, weights=(1, 1, 1, 1), moved=0.0, sample_id=None):
    """Return n images of four classes, and their names: novelty_score is the distance to the class's centre."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, size=n, p=np.array(weights) / sum(weights))
    vectors = (CENTRES[codes] + rng.normal(size=(n, 6)) + moved).astype(np.float32)
    novelty_score = np.linalg.norm(vectors - CENTRES[codes], axis=1)
    label = np.array([f"class {code}" for code in codes], dtype=object)
    names = pd.DataFrame(
        {"best_label": label, "probability": 0.9, "novelty_score": novelty_score, "threshold": np.full(n, 3.5)}
    )
    ids = [f"{seed}/{row}" for row in range(n)]
    return EmbeddingTable(vectors, object_id=ids, label=label, sample_id=sample_id), names


CALIBRATION = draw(200, 1000)


def shift_of(new, **options):
    return find_shift(*CALIBRATION, *new, n_permutations=1000, **options)


def all_divisions(n, n_first):
    chosen = list(combinations(range(n), n_first))
    divisions = np.zeros((n, len(chosen)), dtype=np.float32)
    for column, rows in enumerate(chosen):
        divisions[list(rows), column] = 1
    return divisions


def test_energy_of_five_points_by_hand():
    points = np.array([0.0, 1.0, 2.0, 5.0, 9.0])
    division = np.array([1, 1, 0, 0, 0], dtype=np.float32)[:, None]
    measure = energy_effect(np.abs(points[:, None] - points))
    between = (2 + 5 + 9 + 1 + 4 + 8) / 6
    within = 1 + (3 + 7 + 4) / 3
    assert measure(division)[0] == pytest.approx((2 * between - within) / (2 * between))


@given(st.lists(st.integers(-50, 50), min_size=5, max_size=14), st.integers(2, 3))
@settings(max_examples=60)
def test_energy_agrees_with_scipy(values, n_first):
    """scipy takes the pairs of an image with itself along, and the root."""
    points = np.array(values, dtype=float)
    one, other = points[:n_first], points[n_first:]
    between = np.abs(one[:, None] - other).mean()
    corrected = [np.abs(part[:, None] - part).mean() / (len(part) - 1) for part in (one, other)]
    expected = energy_distance(one, other) ** 2 - sum(corrected)
    found = energy_effect(np.abs(points[:, None] - points))((np.arange(len(points)) < n_first)[:, None].astype("f4"))
    assert found[0] * 2 * between == pytest.approx(expected, abs=1e-4)


def test_the_effect_of_one_population_is_zero_on_average_whatever_the_sizes():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 5))
    measure = energy_effect(np.linalg.norm(points[:, None] - points, axis=2))
    for n_first in (2, 10, 30):
        by_chance = np.concatenate([measure(part) for part in permute(np.arange(60) < n_first, np.zeros(60), 4000, 1)])
        assert abs(by_chance.mean()) < 3 * by_chance.std() / 4000**0.5 + 1e-4


def test_the_effect_does_not_grow_with_the_number_of_images():
    effects = [shift_of(draw(n, 5, moved=1.0)).samples["vectors_effect"][0] for n in (50, 200, 800)]
    np.testing.assert_allclose(effects, np.mean(effects), rtol=0.35)


def test_ranks_within_labels_by_hand():
    values = np.array([5.0, 1.0, 2.0, 7.0, 7.0, 9.0, 3.0])
    names = np.array(["a", "a", "a", "b", "b", "b", "c"])
    new = np.array([1, 0, 0, 1, 0, 0, 1], dtype=np.float32)[:, None]
    # a: 5 lies above both. b: 7 ties with one and lies below the other. c has none to be compared with
    assert rank_effect(values, names)(new)[0] == pytest.approx((1 - 0.5) / 2)
    assert np.isnan(rank_effect(values, np.arange(7))(new)[0])
    rng = np.random.default_rng(0)
    values, is_new = rng.normal(size=30), np.arange(30) < 12
    u = mannwhitneyu(values[is_new], values[~is_new]).statistic
    found = rank_effect(values, np.zeros(30))(is_new[:, None].astype("f4"))[0]
    assert found == pytest.approx(2 * u / (12 * 18) - 1)


def test_the_mix_by_hand():
    assert mix_effect(np.array([8, 2, 0]), np.array([1, 1, 2])) == pytest.approx((0.55 + 0.05 + 0.5) / 2)
    assert mix_effect(np.array([[4, 4], [8, 0]]), np.array([1, 1])).tolist() == [0, 0.5]


@pytest.mark.parametrize("two_sided", [False, True])
def test_p_values_approach_those_of_all_divisions(two_sided):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.8, 1, 4), rng.normal(size=5)])
    is_first = np.arange(9) < 4
    measure = rank_effect(values, np.zeros(9)) if two_sided else energy_effect(np.abs(values[:, None] - values))
    effects = measure(all_divisions(9, 4))  # the first is the one to judge
    if two_sided:
        effects = np.abs(effects)
    exact = (effects >= effects[0] - 1e-6).mean()
    effect, p = judge_division(measure, is_first, np.zeros(9), 20_000, 0, two_sided=two_sided)
    assert abs(effect) == pytest.approx(effects[0])
    assert p == pytest.approx(exact, abs=4 * (exact / 20_000) ** 0.5)

    def statistic(one, other):
        points = np.concatenate([one, other])
        found = (rank_effect(points, np.zeros(9)) if two_sided else energy_effect(np.abs(points[:, None] - points)))(
            is_first[:, None].astype(np.float32)
        )[0]
        return abs(found) if two_sided else found

    # another program, all divisions one by one
    again = permutation_test((values[:4], values[4:]), statistic, n_resamples=np.inf, alternative="greater")
    assert again.pvalue == pytest.approx(exact)


def test_permutations_stay_within_groups():
    groups = np.array(["a"] * 5 + ["b"] * 7 + ["c"])
    is_first = np.arange(13) % 3 == 0
    parts = np.concatenate(list(permute(is_first, groups, 700, 0)), axis=1)
    assert parts.shape == (13, 700)
    for name in "abc":
        assert set(parts[groups == name].sum(axis=0)) == {is_first[groups == name].sum()}
    assert len(np.unique(parts, axis=1).T) > 100


def test_same_population_is_rarely_flagged_and_p_is_uniform():
    found = pd.concat([shift_of(draw(60, seed)).samples for seed in range(25)])
    assert (found["verdict"] == "alike").sum() >= 24
    for name in ("vectors", "mix", "appearance"):
        assert 0.25 < found[f"{name}_p"].mean() < 0.75, name


def test_another_appearance_another_mix_and_too_few():
    appearance = shift_of(draw(80, 1, moved=1.0)).samples.iloc[0]
    assert appearance["verdict"] == "appearance"
    assert appearance[["vectors_flagged", "appearance_flagged"]].all()
    assert appearance["vectors_p"] < 0.001
    assert appearance["refused"] > 0.1
    mix = shift_of(draw(80, 2, weights=(0, 1, 2, 17))).samples.iloc[0]
    assert mix["verdict"] == "class mix"
    assert mix[["vectors_flagged", "mix_flagged"]].all()
    assert mix["appearance_p"] > 0.001
    few = shift_of(draw(9, 3, moved=5.0)).samples.iloc[0]
    assert few["verdict"] == "too few images"
    assert few.filter(like="_flagged").sum() == 0
    assert np.isnan(few["vectors_effect"])


def test_lower_novelty_scores_are_another_appearance_too():
    new, names = draw(80, 4)
    near = CENTRES[[int(name[-1]) for name in names["best_label"]]]
    new = replace(new, vectors=near + 0.1 * (new.vectors - near))
    found = shift_of((new, names.assign(novelty_score=0.1 * names["novelty_score"]))).samples.iloc[0]
    assert found["appearance_effect"] < -0.9
    assert found["verdict"] == "appearance"


def test_a_sample_gets_what_it_gets_alone():
    ids = np.array(["north", "south", None, "east"], dtype=object)[np.arange(120) % 4]
    new, names = draw(120, 6)
    new = replace(new, sample_id=ids, vectors=new.vectors + 2 * (ids == "south")[:, None].astype(np.float32))
    found = shift_of((new, names)).samples
    assert found["sample_id"].tolist()[1] == "south"  # the most unlike
    assert found["n_images"].tolist() == [120, 30, 30, 30]
    assert pd.isna(found["sample_id"][0])
    alone = shift_of((new.select(ids == "south"), names[ids == "south"])).samples
    pd.testing.assert_frame_equal(alone.iloc[1:], found.iloc[1:2], check_dtype=False)
    assert not alone.iloc[0].drop("sample_id").compare(alone.iloc[1].drop("sample_id")).size


def test_tables_by_hand():
    new, names = draw(12, 0)
    names["best_label"] = ["class 0"] * 8 + ["class 9"] * 4
    names["novelty_score"] = [4.0] * 3 + [1.0] * 9
    names["probability"] = np.linspace(0, 1.1, 12)
    found = shift_of((new, names))
    first = found.samples.iloc[0]
    assert first["refused"] == 0.25
    assert first["expected_accuracy"] == pytest.approx(0.55)
    classes = found.classes.set_index("label")
    assert classes.index.tolist() == ["class 0", "class 9", "class 1", "class 2", "class 3"]
    assert classes["n_images"].tolist() == [8, 4, 0, 0, 0]
    assert classes["n_refused"].tolist() == [3, 0, 0, 0, 0]
    assert classes["share"].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    assert classes["novelty_score"]["class 0"] == pytest.approx((3 * 4 + 5) / 8)
    assert classes["refused"]["class 0"] == 0.375
    shares = CALIBRATION[1]["best_label"].value_counts(normalize=True)
    assert classes["calibration_share"].to_dict() == pytest.approx({**shares, "class 9": 0})
    own = CALIBRATION[1].groupby("best_label")["novelty_score"].mean()
    assert classes["calibration_novelty"].drop("class 9").to_dict() == pytest.approx(own.to_dict())
    half = CALIBRATION[1].assign(best_label=np.where(np.arange(200) < 50, "wrong", CALIBRATION[1]["best_label"]))
    described = find_shift(CALIBRATION[0], half, new, names, n_permutations=1000).calibration
    assert described == pytest.approx({"n_images": 200, "expected_accuracy": 0.9, "accuracy": 0.75})
    counted = found.to_dict()
    assert counted["n_samples"] == 0
    assert counted["verdict"] == first["verdict"]


def test_copies_of_one_vector_are_accepted():
    new, names = draw(20, 0)
    same = np.zeros((20, 6), dtype=np.float32)
    names = names.assign(best_label="a", novelty_score=0.0)
    known = EmbeddingTable(same, label=["a"] * 20)
    found = find_shift(known, names, replace(new, vectors=same), names, n_permutations=1000).samples.iloc[0]
    assert found["verdict"] == "alike"
    assert found["vectors_effect"] == 0


@pytest.mark.parametrize(
    ("size", "n_known", "options", "error", "message"),
    [
        (20, 200, {"n_permutations": 999}, SettingError, "at least 1,000"),
        (20, 200, {"n_draws": 0}, SettingError, "draws"),
        (20, 19, {}, InputError, "at least 20 calibration images; found 19"),
        (0, 200, {}, InputError, "no new images"),
    ],
)
def test_what_cannot_be_compared(size, n_known, options, error, message):
    known, names = CALIBRATION
    new, new_names = draw(20, 0)
    with pytest.raises(error, match=message):
        find_shift(known.select(range(n_known)), names[:n_known], new.select(range(size)), new_names[:size], **options)


@given(st.lists(st.integers(0, 9), min_size=20, max_size=60), st.integers(10, 30))
@example([0] * 10 + [1] * 8 + [2, 3], 10)  # a draw of 8 + 1 images: with the sample of 10, one would be left
@settings(max_examples=40, deadline=None)
def test_draws_of_whole_samples(samples, n):
    samples, n = np.array(samples), min(n, len(samples) // 2)
    drawn = draw_samples(samples, n, 5, 0)
    for division in drawn.T:
        assert all(len(set(division[samples == sample])) == 1 for sample in samples)
        assert 1 <= division.sum() <= len(samples)
        sizes_left = np.bincount(samples[division == 0], minlength=1)
        assert division.sum() >= n or division.sum() + sizes_left.max() > len(samples) - 2


def test_a_sample_that_differs_no_more_than_calibration_samples_do_is_flagged_by_image_alone():
    rng, moves = np.random.default_rng(1), np.random.default_rng(2).normal(0, 1.2, (12, 6))
    parts = [draw(40, 50 + number, moved=move) for number, move in enumerate(moves)]
    vectors = np.concatenate([table.vectors for table, _ in parts])
    label = np.concatenate([table.label for table, _ in parts])
    names, tows = pd.concat([part for _, part in parts], ignore_index=True), np.repeat(np.arange(12), 40)
    new = draw(40, 99, moved=rng.normal(0, 1.2, 6))
    calibration = (EmbeddingTable(vectors, label=label), names)
    by_image = find_shift(*calibration, *new, n_permutations=1000).samples.iloc[0]
    by_sample = find_shift(*calibration, *new, calibration_samples=tows, n_permutations=1000).samples.iloc[0]
    assert by_image["vectors_flagged"] and not by_sample["vectors_flagged"]
    for name in ("vectors", "mix", "appearance"):
        assert by_sample[f"{name}_effect"] == by_image[f"{name}_effect"]
        assert by_sample[f"{name}_p"] == by_image[f"{name}_p"]
    assert by_sample["vectors_draws"] > 2 * by_image["vectors_draws"]
