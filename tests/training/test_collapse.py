"""How vectors are spread, counted by hand; and when a space counts as collapsing."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from plankton_embed.training import collapse
from plankton_embed.training.collapse import active_share, count_never_predicted, find_collapse, measure_spread
from plankton_embed.training.history import EpochRecord

N_CLASSES = 20


def random_vectors(n, dimension, seed):
    return np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)


# ------------------------------------------------------------------------------------------ the spread


def test_five_points_by_hand():
    # the corners of a square of side 2 in two classes, and a third class in its middle
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1], [0, 0]], dtype=np.float32)
    spread = measure_spread(corners, np.array([0, 0, 1, 1, 2]))
    assert spread.within_distance == pytest.approx(2)  # two pairs of one class, both 2 apart
    # of two classes: two pairs 2 apart, two 2 √2, and four from a corner to the middle, √2
    assert spread.between_distance == pytest.approx((2 * 2 + 2 * 2 * 2**0.5 + 4 * 2**0.5) / 8)
    assert spread.effective_rank == pytest.approx(2)


@given(seed=st.integers(0, 100), n=st.integers(4, 30), dimension=st.integers(1, 6))
def test_distances_are_those_of_scipy_and_the_rank_is_that_of_numpy(seed, n, dimension):
    vectors, class_index = random_vectors(n, dimension, seed), np.arange(n) % 3
    spread = measure_spread(vectors, class_index)
    parts = [vectors[class_index == c] for c in range(3)]
    assert spread.within_distance == pytest.approx(np.mean(np.concatenate([pdist(part) for part in parts])))
    apart = [cdist(a, b).ravel() for a, b in itertools.combinations(parts, 2)]
    assert spread.between_distance == pytest.approx(np.mean(np.concatenate(apart)))
    variances = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False).astype(float) ** 2
    shares = variances / variances.sum()
    wanted = np.exp(-sum(share * np.log(share) for share in shares if share > 0))
    assert spread.effective_rank == pytest.approx(wanted, rel=1e-4)
    assert 1 - 1e-6 <= spread.effective_rank <= min(n - 1, dimension) + 1e-6


@pytest.mark.parametrize("block", [1, 4, 10, 11])
def test_distances_are_the_same_however_many_are_held_at_a_time(monkeypatch, block):
    vectors, class_index = random_vectors(10, 3, 0), np.arange(10) % 3
    whole = measure_spread(vectors, class_index)
    monkeypatch.setattr(collapse, "BLOCK", block)
    assert list(vars(measure_spread(vectors, class_index)).values()) == pytest.approx(list(vars(whole).values()))


LINE = np.outer(np.linspace(-1, 1, 9), [3.0, -4.0, 12.0])
TURN = np.linspace(0, 2 * np.pi, 12, endpoint=False)
CIRCLE = np.stack([np.cos(TURN), np.sin(TURN), np.zeros(12)], axis=1)


@pytest.mark.parametrize(
    ("vectors", "rank"),
    [
        (LINE, 1),
        (CIRCLE, 2),
        (np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]), 2),
        *[(np.concatenate([np.eye(d), -np.eye(d)]), d) for d in (3, 7, 64)],
        (np.tile([0.6, 0.8], (5, 1)), 0),  # all vectors are one
        (np.tile(np.random.default_rng(0).normal(size=64), (7, 1)), 0),  # whose mean is not quite they
        (np.zeros((5, 3)), 0),
        (np.diag([1.0, 1.0, 0.0])[[0, 1, 0, 1]], 1),  # two points always lie on a line
    ],
)
def test_the_effective_rank_is_the_number_of_directions_in_use(vectors, rank):
    for shift in (0, 5):  # where the cloud lies does not matter
        spread = measure_spread(vectors + shift, np.arange(len(vectors)) % 2)
        assert spread.effective_rank == pytest.approx(rank, abs=1e-6)


def test_the_effective_rank_of_two_unequal_directions_by_hand():
    # variances 4 : 1, so shares .8 and .2
    vectors = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]])
    wanted = math.exp(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))
    assert measure_spread(vectors, np.zeros(4, int)).effective_rank == pytest.approx(wanted)


def test_vectors_that_are_all_one_lie_nowhere_apart():
    spread = measure_spread(np.tile(random_vectors(1, 64, 0), (6, 1)), np.arange(6) % 2)
    assert spread.within_distance == pytest.approx(0, abs=1e-6)
    assert spread.between_distance == pytest.approx(0, abs=1e-6)


def test_a_distance_without_a_pair_is_nan():
    vectors = random_vectors(4, 3, 0)
    one_class, singles = measure_spread(vectors, np.zeros(4, int)), measure_spread(vectors, np.arange(4))
    assert math.isnan(one_class.between_distance)
    assert one_class.within_distance > 0
    assert math.isnan(singles.within_distance)
    assert singles.between_distance > 0


@given(seed=st.integers(0, 100))
def test_order_and_turns_of_the_space_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    vectors, class_index, order = rng.normal(size=(12, 4)), np.arange(12) % 3, rng.permutation(12)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    first, second = measure_spread(vectors, class_index), measure_spread(vectors[order] @ turn, class_index[order])
    assert list(vars(first).values()) == pytest.approx(list(vars(second).values()))


# ------------------------------------------------------------------------------------------ classes never predicted


def test_classes_never_predicted_by_hand():
    truth = np.repeat(["seen", "missed", "few", "unknown"], [5, 5, 4, 9])
    predicted = np.where(truth == "seen", "seen", "other")
    # "few" has four images only, "unknown" no training image to be predicted by
    assert count_never_predicted(truth, predicted, {"seen", "missed", "few", "other"}) == 1
    assert count_never_predicted(truth, truth, {"seen", "missed"}) == 0


# ------------------------------------------------------------------------------------------ active triplets


def test_the_active_share_of_four_points_by_hand():
    # on a line at 0 and 1 (a), 3 and 5 (b); squares from each anchor to its positive, and to its negatives:
    # 0: 1, 9 25;  1: 1, 4 16;  3: 4, 9 4;  5: 4, 25 16
    vectors, labels = torch.tensor([[0.0], [1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1, 1])
    assert active_share(vectors, labels, 0.5).item() == 1 / 8  # the negative 1 of anchor 3 is no farther than 5
    assert active_share(vectors, labels, 3.5).item() == 2 / 8  # and the negative 3 of anchor 1 is farther by 3
    assert active_share(vectors, labels, 100.0).item() == 1


@pytest.mark.parametrize("margin", [0.01, 0.2, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_active_share_is_that_of_a_triple_loop(margin, seed):
    vectors, labels = random_vectors(14, 3, seed), np.arange(14) % 5
    active, n_triplets = 0, 0
    for a, p, n in itertools.permutations(range(14), 3):
        if labels[a] == labels[p] != labels[n]:
            n_triplets += 1
            active += np.sum((vectors[a] - vectors[n]) ** 2) < np.sum((vectors[a] - vectors[p]) ** 2) + margin
    share = active_share(torch.from_numpy(vectors).requires_grad_(), torch.from_numpy(labels), margin)
    assert share.item() == pytest.approx(active / n_triplets)
    assert not share.requires_grad


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_a_triplet_the_active_share_is_nan(labels):
    assert math.isnan(active_share(torch.rand(3, 2), torch.tensor(labels), 0.2))


# ------------------------------------------------------------------------------------------ collapse


def record(epoch, **changes):
    """The record of a healthy epoch, with changes."""
    healthy = {
        "effective_rank": 10 * collapse.LEAST_RANK,
        "within_distance": 1.0,
        "between_distance": 10 * collapse.LEAST_SEPARATION,
        "n_never_predicted": 0,
    }
    return EpochRecord(epoch, loss=0.1, active_share=0.1, learning_rate=1e-3, **{**healthy, **changes})


FAULTS = {
    "one point": {"between_distance": 0.9 * collapse.LEAST_DISTANCE, "within_distance": 0.0},
    "directions": {"effective_rank": 0.9 * collapse.LEAST_RANK},
    "of one class 1.000": {"between_distance": 0.9 * collapse.LEAST_SEPARATION},
    "never predicted": {"n_never_predicted": 1 + math.floor(collapse.MOST_NEVER_PREDICTED * N_CLASSES)},
}
SOUND = [
    {"between_distance": 1.1 * collapse.LEAST_DISTANCE, "within_distance": 0.0},
    {"effective_rank": 1.1 * collapse.LEAST_RANK},
    {"between_distance": 1.1 * collapse.LEAST_SEPARATION},
    {"n_never_predicted": math.floor(collapse.MOST_NEVER_PREDICTED * N_CLASSES)},
    {"within_distance": math.nan, "between_distance": math.nan, "effective_rank": math.nan},  # nothing was measured
]


def record_epochs(*epochs):
    """The records of epochs, each a healthy one with changes."""
    return [record(number, **changes) for number, changes in enumerate(epochs, 1)]


@pytest.mark.parametrize("word", FAULTS)
def test_a_fault_that_lasts_is_named_with_its_remedy(word):
    records = record_epochs({}, {}, *[FAULTS[word]] * collapse.PATIENCE)
    message = find_collapse(records, N_CLASSES)
    assert f"epoch {records[-1].epoch}: the space is collapsing" in message
    assert word in message
    assert "training.learning_rate" in message
    assert "training.objective=scheduled" in message


@pytest.mark.parametrize("word", FAULTS)
def test_a_fault_that_does_not_last_is_none(word):
    bad, too_few = FAULTS[word], [FAULTS[word]] * (collapse.PATIENCE - 1)
    for epochs in ([{}, *too_few], [{}, *[bad] * 5, {}], [{}, bad, {}, *too_few]):
        assert find_collapse(record_epochs(*epochs), N_CLASSES) is None


@pytest.mark.parametrize("word", FAULTS)
def test_the_first_epoch_is_not_judged(word):
    epochs = [FAULTS[word]] * (collapse.PATIENCE + 1)
    assert find_collapse(record_epochs(*epochs[:-1]), N_CLASSES) is None
    assert find_collapse(record_epochs(*epochs), N_CLASSES) is not None


@pytest.mark.parametrize("first", FAULTS)
@pytest.mark.parametrize("last", FAULTS)
def test_of_faults_of_two_kinds_in_a_row_the_newest_is_named(first, last):
    epochs = [FAULTS[first]] * (collapse.PATIENCE - 1) + [FAULTS[last]]
    assert last in find_collapse(record_epochs({}, *epochs), N_CLASSES)


@pytest.mark.parametrize("changes", SOUND)
def test_a_space_that_is_sound_gives_none(changes):
    assert find_collapse(record_epochs(*[changes] * 10), N_CLASSES) is None


@pytest.mark.parametrize("word", FAULTS)
def test_epochs_without_validation_are_left_out(word):
    healthy, bad, unseen = {}, FAULTS[word], {"within_distance": math.nan, "between_distance": math.nan}
    epochs = [healthy, unseen, bad, unseen, unseen, bad, unseen]
    assert f"epoch {len(epochs) - 1}: the space is collapsing" in find_collapse(record_epochs(*epochs), N_CLASSES)
    assert find_collapse(record_epochs(*epochs[:-2]), N_CLASSES) is None


def test_two_classes_may_lie_on_a_line():
    line = record_epochs(*[{"effective_rank": 1.0}] * 10)
    assert find_collapse(line, 2) is None
    assert find_collapse(line, 3) is not None


def test_before_the_first_epoch_nothing_is_wrong():
    assert find_collapse([], N_CLASSES) is None


def test_vectors_on_one_point_are_found_and_classes_on_a_cross_are_not():
    cross = np.repeat(np.concatenate([np.eye(3), -np.eye(3)]), 4, axis=0)
    classes = np.repeat(np.arange(6), 4)
    for vectors, sound in ((cross, True), (np.ones((24, 3)), False), (np.outer(cross.sum(axis=1), [1, 0, 0]), False)):
        spread = vars(measure_spread(vectors, classes))
        assert (find_collapse(record_epochs(*[spread] * 10), N_CLASSES) is None) == sound
