"""Distances in a taxonomy, predictions by rank, and broader names for images in doubt."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from plankton_embed.analysis.taxonomy import back_off, roll_up
from plankton_embed.analysis.taxonomy_files import parse_newick
from plankton_embed.errors import InputError, SettingError

FIVE = ["aurelia", "calanus", "detritus", "oithona", "paracalanus"]


def leaves_of(part):
    return frozenset([part]) if isinstance(part, str) else frozenset().union(*map(leaves_of, part))


def test_taxonomic_distance_is_the_height_of_the_lowest_group_that_holds_both(random_tree):
    part, text = random_tree(np.random.default_rng(1), 10)
    taxonomy = parse_newick(text)
    names = sorted(taxonomy.classes)
    found = pd.DataFrame(taxonomy.distances(names), names, names)

    def depth(below):
        return 0 if isinstance(below, str) else 1 + max(map(depth, below))

    def lowest(below, pair):
        inside = [child for child in below if not isinstance(child, str) and pair <= leaves_of(child)]
        return lowest(inside[0], pair) if inside else below

    for a, b in combinations(names, 2):
        assert found.loc[a, b] == found.loc[b, a] == depth(lowest(part, {a, b}))


def test_errors_rolled_up_by_hand(read, ranks):
    truth = ["calanus"] * 3 + ["oithona", "aurelia", "detritus"]
    names = ["calanus", "paracalanus", "oithona", "aurelia", "aurelia", "unknown"]
    found = roll_up(truth, names, read(ranks)).set_index("level")
    assert found.index.tolist() == ["label", "genus", "order", "phylum"]
    assert found["accuracy"].tolist() == pytest.approx([2 / 6, 2 / 6, 3 / 6, 4 / 6])
    # recall of calanus (Calanoida, Arthropoda), oithona, aurelia, detritus
    assert found["balanced_accuracy"].tolist() == pytest.approx(
        [(1 / 3 + 0 + 1 + 0) / 4, (1 / 3 + 0 + 1 + 0) / 4, (2 / 3 + 0 + 1 + 0) / 4, (3 / 4 + 1 + 0) / 3]
    )
    assert found["n_groups"].tolist() == [4, 4, 4, 3]
    assert (found["n"] == 6).all()
    assert (found["n_outside"] == 1).all()


def test_accuracy_never_falls_on_the_way_up_and_starts_at_the_usual_one(random_tree):
    rng = np.random.default_rng(0)
    _, text = random_tree(rng, 20)
    taxonomy = parse_newick(text)
    names = [*taxonomy.classes, "an unknown class"]
    truth, given = rng.choice(names, 500), rng.choice(names, 500)
    given = np.where(rng.random(500) < 0.4, truth, given)
    found = roll_up(truth, given, taxonomy)
    assert found["accuracy"][0] == (truth == given).mean()
    assert found["balanced_accuracy"][0] == pytest.approx(balanced_accuracy_score(truth, given))
    assert (np.diff(found["accuracy"]) >= 0).all()
    assert found["level"].tolist() == ["label", *(f"level {n}" for n in range(len(found) - 1, 0, -1))]


def test_broader_names_are_right_from_their_level_up(read, ranks):
    found = roll_up(["calanus"], ["Calanoida"], read(ranks))
    assert found["accuracy"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("truth", "names"), [([], []), (["a"], ["a", "b"]), (["a", None], ["a", "b"])])
def test_names_that_cannot_be_rolled_up(read, truth, names, ranks):
    with pytest.raises(InputError):
        roll_up(truth, names, read(ranks))


PROBABILITIES = np.array(
    [
        [0, 0.95, 0, 0, 0.05],  # calanus
        [0, 0.5, 0, 0.05, 0.45],  # a calanoid
        [0.02, 0.5, 0, 0.4, 0.08],  # an arthropod
        [0.5, 0.3, 0, 0.1, 0.1],
        [0.91, 0, 0.09, 0, 0],
    ],
    dtype=np.float32,
)


def test_backing_off_by_hand(read, ranks):
    found = back_off(PROBABILITIES, FIVE, read(ranks))
    assert found["label"].tolist() == ["calanus", "Calanoida", "Arthropoda", "root", "aurelia"]
    assert found["level"].tolist() == ["label", "order", "phylum", "root", "label"]
    assert found["probability"].tolist() == pytest.approx([0.95, 0.95, 0.98, 1, 0.91])
    sure = back_off(PROBABILITIES, FIVE, read(ranks), certainty=1)
    assert sure["label"].tolist() == ["Calanoida", "Arthropoda", "root", "root", "root"]
    low = back_off(PROBABILITIES, FIVE, read(ranks), certainty=0.4)
    assert low["label"].tolist() == ["calanus", "calanus", "calanus", "aurelia", "aurelia"]


@pytest.mark.parametrize("certainty", [0.3, 0.6, 0.9, 1.0])
def test_backing_off_takes_the_lowest_group_by_brute_force(certainty, random_tree):
    rng = np.random.default_rng(0)
    part, text = random_tree(rng, 12)
    taxonomy = parse_newick(text)
    names = sorted(taxonomy.classes)
    values = rng.dirichlet(np.full(12, 0.2), 100)
    found = back_off(values, names, taxonomy, certainty)
    columns = {name: column for column, name in enumerate(names)}

    def walk(below, level):
        yield level, leaves_of(below)
        for child in () if isinstance(below, str) else below:
            yield from walk(child, level + 1)

    groups = list(walk(part, 0))
    for row, (label, probability) in zip(values, found[["label", "probability"]].itertuples(index=False), strict=True):
        sums = [(level, row[[columns[name] for name in group]].sum(), group) for level, group in groups]
        _, best, group = max((item for item in sums if item[1] >= certainty - 1e-6), key=lambda item: item[:2])
        assert probability == pytest.approx(best)
        shown = sorted(group)
        more = f" + {len(shown) - 2} more" if len(shown) > 2 else ""
        assert label == ("root" if len(shown) == 12 else ", ".join(shown[:2]) + more)


def test_classes_outside_the_taxonomy_are_children_of_the_root(read, ranks):
    names = ["odd", "calanus", "oithona"]
    found = back_off([[0.95, 0.05, 0], [0.5, 0.1, 0.4], [0, 0.3, 0.7]], names, read(ranks))
    assert found["label"].tolist() == ["odd", "root", "Arthropoda"]
    left_open = read(ranks).add_classes(names).members(names)[found["node"]]
    assert left_open.tolist() == [[True, False, False], [True] * 3, [False, True, True]]


def test_backing_off_needs_distributions(read, ranks):
    taxonomy = read(ranks)
    with pytest.raises(InputError, match="row 1 does not"):
        back_off([[0.5, 0.5], [0.5, 0.4]], ["calanus", "oithona"], taxonomy)
    with pytest.raises(InputError, match="row 0 does not"):
        back_off([[np.nan, 1]], ["calanus", "oithona"], taxonomy)
    with pytest.raises(InputError, match="one column per class"):
        back_off([[0.5, 0.5]], ["calanus"], taxonomy)
    with pytest.raises(InputError, match="each class once"):
        back_off([[0.5, 0.5]], ["calanus", "calanus"], taxonomy)
    with pytest.raises(SettingError, match=r"above 0 and at most 1; found 1\.2"):
        back_off([[1.0]], ["calanus"], taxonomy, certainty=1.2)
