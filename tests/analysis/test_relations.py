"""Relations: by hand, planted, and against brute force."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plankton_embed.analysis import parallelograms as search
from plankton_embed.analysis import relations as module
from plankton_embed.analysis.parallelograms import ParallelogramSearch
from plankton_embed.analysis.relations import complete_analogy, find_in_window, find_relations
from plankton_embed.errors import InputError, SettingError
from plankton_embed.table import EmbeddingTable


def corners_of(found):
    return {corners for block in found for corners in zip(block.a, block.b, block.c, block.d, strict=True)}


def compare_all(points, epsilon):
    """Every two relations, both signs, as the diagonals of their parallelogram."""
    found = set()
    for (i, j), (k, m) in combinations(list(combinations(range(len(points)), 2)), 2):
        if len({i, j, k, m}) == 4:
            for x, y in ((k, m), (m, k)):  # i → j as x → y
                if np.linalg.norm((points[i] - points[j]) - (points[x] - points[y])) <= epsilon:
                    one, other = sorted([tuple(sorted((i, int(y)))), tuple(sorted((j, int(x))))])
                    found.add((*one, *other))
    return found


def relate(points, label=None, *arguments, **options):
    table = EmbeddingTable(np.asarray(points, dtype=np.float32), label=label)
    return find_relations(table, *arguments, n_threads=1, progress=False, **options)


@settings(max_examples=25)
@given(
    n=st.integers(4, 14),
    dimension=st.integers(1, 5),
    epsilon=st.floats(0.05, 3),
    cell=st.sampled_from([1, 4, 64]),
    seed=st.integers(0, 2**32 - 1),
)
@example(n=12, dimension=1, epsilon=1.0, cell=1, seed=281)  # two sums that are nearly equal
def test_the_same_as_comparing_every_two_relations(n, dimension, epsilon, cell, seed):
    points = np.random.default_rng(seed).normal(size=(n, dimension))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CELL", cell)
        patch.setattr(search, "BLOCK", 50)
        patch.setattr(search, "LARGE", 4)
        blocks = list(ParallelogramSearch(points, n_threads=2).find(epsilon, progress=False))
    found = corners_of(blocks)
    assert found == compare_all(points, epsilon)
    assert sum(len(block.a) for block in blocks) == len(found)  # each once
    for block in blocks:
        sides = points[block.a] - points[block.c] - points[block.d] + points[block.b]
        np.testing.assert_allclose(block.distance, np.linalg.norm(sides, axis=1), atol=1e-12)


def test_tight_classes_are_searched_exactly():
    """Rounding in single precision is that of a cell, which is small where points are close."""
    rng = np.random.default_rng(8)
    points = rng.normal(size=(3, 4))[np.arange(12) % 3] + 1e-4 * rng.normal(size=(12, 4))
    for epsilon in (5e-5, 2e-4, 1):
        assert corners_of(ParallelogramSearch(points).find(epsilon, progress=False)) == compare_all(points, epsilon)


def test_a_square_by_hand():
    square = [[0, 0], [3, 0], [0, 1], [3, 1.1]]
    found = relate(square, ["a", "b", "c", "d"], 0.2)
    assert found.n_found == 1
    best = found.best.iloc[0]
    assert best["distance"] == pytest.approx(0.1)
    assert best["length"] == pytest.approx(3, rel=1e-3)  # the longer way to read it
    assert best["relative"] == pytest.approx(0.1 / 1.05)  # the other
    assert {tuple(best[["x1", "y1"]]), tuple(best[["x2", "y2"]])} in (
        {(0, 1), (2, 3)}, {(1, 0), (3, 2)}
    )  # fmt: skip
    assert relate(square, ["a", "b", "c", "d"], 0.09).n_found == 0


def test_both_ends_are_of_two_classes():
    square = [[0, 0], [3, 0], [0, 1], [3, 1.1]]
    one_way = relate(square, ["a", "b", "a", "b"], 0.2)
    assert one_way.n_found == 1  # a → b, twice; not a → a
    assert one_way.best["length"][0] == pytest.approx(3, rel=1e-3)
    other_way = relate(square, ["a", "a", "b", "b"], 0.2)
    assert other_way.best["length"][0] == pytest.approx(1.05)
    assert relate(square, ["a", "a", "b", "a"], 0.2).n_found == 0
    assert relate(square, ["a", "a", "b", "a"], 0.2, different_classes=False).n_found == 1
    assert relate(square, None, 0.2).n_found == 1


@pytest.fixture(scope="module")
def planted():
    """Forty images of each of six classes; from nauplius to adult the way is the same as from zoea to adult."""
    rng = np.random.default_rng(1)
    names = ["nauplius", "adult", "zoea", "grown", "other", "further"]
    means = 3 * rng.normal(size=(6, 16))
    means[3] = means[2] + means[1] - means[0]
    codes = np.repeat(np.arange(6), 8)
    points = means[codes] + 0.3 * rng.normal(size=(48, 16))
    points[25] = points[9] - points[1] + points[17]  # one exact: 1 → 9 as 17 → 25
    return EmbeddingTable(points.astype(np.float32), label=np.array(names, dtype=object)[codes])


def test_planted_relations_are_found(planted):
    found = find_relations(planted, 1.5, n_threads=1, progress=False, n_shuffles=19)
    assert found.n_found > 20
    best = found.best.iloc[0]
    assert best["relative"] < 1e-5
    assert {frozenset(best[["x1", "y1"]]), frozenset(best[["x2", "y2"]])} == {frozenset((1, 9)), frozenset((17, 25))}
    assert (np.diff(found.best["relative"]) >= 0).all()
    corners = found.analogies[["x1", "y1", "x2", "y2"]]
    assert (found.analogies["n_classes"] == corners.nunique(axis=1)).all()
    four = found.analogies.iloc[0]
    assert four["n_classes"] == 4
    assert {frozenset(four[["x1", "y2"]]), frozenset(four[["y1", "x2"]])} == {
        frozenset(("nauplius", "grown")), frozenset(("adult", "zoea"))
    }  # fmt: skip
    assert four["p_value"] == pytest.approx(0.05)
    assert four["support"] > 10 * max(four["expected"], 1)
    assert found.analogies["support"].sum() == found.n_found


def test_a_limit_drops_the_worse_and_counts_all(planted):
    everything = find_relations(planted, 1.5, n_threads=1, progress=False, n_shuffles=0)
    few = find_relations(planted, 1.5, n_threads=1, progress=False, n_shuffles=0, limit=5)
    assert few.n_found == everything.n_found
    assert few.best.equals(everything.best.head(5))


def test_what_is_found_does_not_hang_on_the_order_of_images(planted):
    order = np.random.default_rng(2).permutation(len(planted))
    one, other = (
        find_relations(table, 1.2, n_threads=1, progress=False, n_shuffles=0)
        for table in (planted, planted.select(order))
    )
    assert one.n_found == other.n_found
    np.testing.assert_allclose(one.best["relative"], other.best["relative"], rtol=1e-6, atol=1e-7)


def test_shuffled_labels_have_no_small_p_values():
    rng = np.random.default_rng(3)
    labels = np.array(list("abcd"), dtype=object)[rng.integers(4, size=40)]
    found = relate(rng.normal(size=(40, 3)), labels, 0.3, n_shuffles=99)
    assert found.analogies["p_value"].mean() == pytest.approx(0.5, abs=0.25)
    assert (found.analogies["p_any"] >= found.analogies["p_value"] - 1e-12).all()
    assert found.analogies["support"].sum() == pytest.approx(found.analogies["expected"].sum(), rel=0.2)


def test_shufflings_of_a_part_estimate_those_of_all(planted, monkeypatch):
    whole = find_relations(planted, 1.5, n_threads=1, progress=False, n_shuffles=30).analogies["expected"].sum()
    monkeypatch.setattr(module, "MOST_SHUFFLED", 3000)
    part = find_relations(planted, 1.5, n_threads=1, progress=False, n_shuffles=30).analogies["expected"].sum()
    assert part == pytest.approx(whole, rel=0.5)


def test_p_values_of_a_part_are_as_rare_by_chance_as_those_of_all(monkeypatch):
    rng = np.random.default_rng(5)
    vectors, labels = rng.normal(size=(60, 3)) / 2, np.array(list("abcdefgh"), dtype=object)[rng.integers(8, size=60)]
    monkeypatch.setattr(module, "MOST_SHUFFLED", 99 * 400)
    found = relate(vectors, labels, 0.25, n_shuffles=99)
    assert found.n_found > 4 * 400
    assert (found.analogies["p_value"] <= 0.05).mean() < 0.1
    assert (found.analogies["p_any"] <= 0.05).mean() < 0.1


def test_without_shuffles_p_values_are_missing(planted):
    found = find_relations(planted, 1.5, n_threads=1, progress=False, n_shuffles=0).analogies
    assert len(found)
    assert found[["expected", "p_value", "p_any"]].isna().all(axis=None)


def test_copies_are_last():
    vectors = np.random.default_rng(6).normal(size=(8, 3))
    vectors[4:] = vectors[:4]
    found = relate(vectors, np.array(list("abcdabcd"), dtype=object), 0.1, n_shuffles=0)
    assert found.n_found == len(found.best) == 12
    assert np.isinf(found.best["relative"]).all()


def test_images_without_label_are_left_aside(planted):
    label = planted.label.copy()
    label[::5] = None
    some = EmbeddingTable(planted.vectors, label=label)
    for different in (True, False):
        found = find_relations(some, 1.5, different_classes=different, n_threads=1, progress=False, n_shuffles=0)
        assert len(found.table) == some.is_labelled.sum()
        assert len(found.analogies)


def test_images_are_enough_for_a_query(planted):
    bare = EmbeddingTable(planted.vectors, object_id=planted.object_id)
    classes, images = complete_analogy(bare, "1", "9", "17")
    assert len(classes) == 0
    assert images["object_id"][0] == "25"
    with pytest.raises(InputError, match="none, without labels"):
        complete_analogy(bare, "1", "9", "adult")


def test_the_window_of_2019_misses_most(planted):
    points = planted.vectors.astype(float)
    window = corners_of([find_in_window(points, 1.5)])
    exact = corners_of(ParallelogramSearch(points, n_threads=1).find(1.5, progress=False))
    assert window < exact
    assert 0 < len(window) < 0.5 * len(exact)
    found = find_relations(planted, 1.5, definition="window_2019", n_threads=1, progress=False, n_shuffles=0)
    assert 0 < found.n_found <= len(window)


def test_analogies_are_completed(planted):
    classes, images = complete_analogy(planted, "nauplius", "adult", "zoea", k=3)
    assert classes["label"][0] == "grown"
    assert set(images["label"]) == {"grown"}
    assert not set(classes["label"]) & {"nauplius", "adult", "zoea"}
    target = planted.vectors[9] - planted.vectors[1] + planted.vectors[17]
    classes, images = complete_analogy(planted, "1", "9", "17")
    assert images["object_id"][0] == "25"
    assert images["distance"][0] == pytest.approx(np.linalg.norm(planted.vectors[25] - target), abs=1e-5)
    assert not set(images["object_id"]) & {"1", "9", "17"}
    with pytest.raises(InputError, match="whale is neither"):
        complete_analogy(planted, "whale", "adult", "zoea")


def test_epsilon_is_chosen_by_how_many_are_wanted(planted, caplog):
    caplog.set_level("INFO")
    chosen = find_relations(planted, limit=300, n_threads=1, progress=False, n_shuffles=0)
    assert chosen.n_found == 300
    given = find_relations(planted, chosen.epsilon, n_threads=1, progress=False, n_shuffles=0, limit=300)
    assert given.best.equals(chosen.best)
    assert chosen.best["distance"].max() == chosen.epsilon
    assert f"epsilon: {chosen.epsilon:.6g}, chosen so that 300 relations are found" in caplog.text
    few = relate([[0, 0], [3, 0], [0, 1], [3, 1.1]], list("abcd"))
    assert (few.n_found, few.best["distance"].max()) == (3, pytest.approx(few.epsilon))  # all there are
    window = find_relations(planted, definition="window_2019", limit=50, progress=False, n_shuffles=0)
    assert window.n_found == 50


@pytest.mark.parametrize("limit", [20, 1000])
def test_a_part_of_the_sums_is_enough_to_choose(planted, monkeypatch, limit):
    everything = find_relations(planted, limit=limit, n_threads=1, progress=False, n_shuffles=0)
    monkeypatch.setattr(search, "SAMPLED", 30 * 1128)  # 30 of the 1,128 sums
    for seed in range(5):
        part = find_relations(planted, limit=limit, n_threads=1, progress=False, n_shuffles=0, seed=seed)
        assert part.epsilon == everything.epsilon  # the sample only bounds it
        assert part.n_found == limit


def test_what_is_expected_is_reported_before_the_search(caplog):
    rng = np.random.default_rng(4)
    points = rng.normal(size=(60, 3))
    true = relate(points, None, 0.4).n_found
    found = ParallelogramSearch(points, 1)
    everything = found.estimate_count(0.4, lambda some: np.ones(len(some.a), dtype=bool), rng)
    assert everything == true
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SAMPLED", 1770 * 100)
        parts = [
            found.estimate_count(0.4, lambda some: np.ones(len(some.a), dtype=bool), np.random.default_rng(seed))
            for seed in range(30)
        ]
    assert np.mean(parts) == pytest.approx(true, rel=0.1)
    assert found.estimate_seconds(0.4, rng) > 0
    caplog.set_level("INFO")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LONG", 0)
        relate(points, None, 0.4)
    assert f"approximately {float(f'{true:.2g}'):,.0f} pairs" in caplog.text
    assert "a smaller epsilon or fewer images take less" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"


def test_copies_are_compared_once_where_epsilon_is_chosen(caplog):
    rng = np.random.default_rng(6)
    points, labels = rng.normal(size=(20, 3)), list("abcd") * 5
    once = relate(points, labels, limit=50)
    copied = relate(np.repeat(points, 5, axis=0), np.repeat(labels, 5), limit=50)
    assert (copied.epsilon, copied.n_found) == (once.epsilon, 50)
    assert "80 of 100 images have the same vector as an earlier one and are left out" in caplog.text
    assert relate(np.repeat(points, 5, axis=0), np.repeat(labels, 5), once.epsilon).n_found > 1000
    with pytest.raises(InputError, match="four images; found 1"):
        relate(np.ones((9, 2)))


def test_as_many_equal_ones_as_a_lattice_has():
    found = relate(np.arange(30)[:, None], None, limit=10)
    equal = sum(a + b == c + d for (a, b), (c, d) in combinations(combinations(range(30), 2), 2) if a != c and b != d)
    assert found.n_found == equal
    assert 0 < found.epsilon < 1e-4


def test_few_that_lead_from_class_to_class(monkeypatch, caplog):
    """Where a sample meets none that can be read, any are looked for."""
    monkeypatch.setattr(search, "SAMPLED", 1)
    monkeypatch.setattr(search, "ENOUGH", 1)
    points = np.random.default_rng(7).normal(size=(40, 3))
    found = relate(points, [*"bb", *"a" * 38], limit=30)
    assert found.n_found == relate(points, [*"bb", *"a" * 38], found.epsilon).n_found
    assert "there are few relations between classes" in caplog.text


def test_copies_and_few_images():
    copies = relate(np.zeros((5, 2)), list("abcde"), 0.1, n_shuffles=3)
    assert copies.n_found == 15  # five fours, three parallelograms each
    assert (copies.best["relative"] == 0).all()
    nothing = relate([[0, 0], [1, 0], [0, 5], [9, 9]], list("abcd"), 0.1)
    assert (nothing.n_found, len(nothing.best), len(nothing.analogies)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("n", "label", "options", "error", "message"),
    [
        (3, None, {}, InputError, "four images; found 3"),
        (5, ["a"] * 5, {}, InputError, "at least 2 of them; found 1"),
        (5, ["a", "b", None, None, None], {}, InputError, "four images; found 2"),
        (5, ["a"] * 4 + ["b"], {}, InputError, "all images except one are of one class"),
        (5, None, {"epsilon": 0}, SettingError, "epsilon"),
        (5, None, {"epsilon": np.nan}, SettingError, "epsilon"),
        (5, None, {"limit": 0}, SettingError, "limit"),
        (5, None, {"definition": "some"}, SettingError, "window_2019"),
    ],
)
def test_what_cannot_be_related(n, label, options, error, message):
    with pytest.raises(error, match=message):
        relate(np.arange(n)[:, None], label, **options)
