"""The triplet loss, recomputed by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

from plankton_embed.settings import TrainingSettings
from plankton_embed.training.objectives import TripletObjective, build_objective

MINERS = ("semihard", "hard", "all")
LABELS = torch.tensor([0, 0, 1, 1, 2])


def on_the_circle(*degrees):
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def unit_vectors(n, seed):
    vectors = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def by_hand(vectors, labels, margin, miner):
    """Return loss and mined share by counting every triplet."""
    vectors, labels = np.asarray(vectors, dtype=float), np.asarray(labels)
    losses, n_mined, n_valid = [], 0, 0
    for a, p, n in itertools.permutations(range(len(labels)), 3):
        if labels[a] == labels[p] != labels[n]:
            n_valid += 1
            gap = np.sum((vectors[a] - vectors[n]) ** 2) - np.sum((vectors[a] - vectors[p]) ** 2)
            mined = {"semihard": 0 < gap <= margin, "hard": gap <= 0, "all": gap <= margin}[miner]
            n_mined += mined
            losses += [margin - gap] if mined and margin > gap else []
    return np.mean(losses) if losses else 0.0, n_mined / max(n_valid, 1)


@pytest.mark.parametrize(
    ("miner", "mined"),
    [
        ("semihard", [(10, 15), (45, 50)]),
        ("hard", [(10, 5), (45, 15), (45, 5), (45, 40)]),
        ("all", [(10, 15), (45, 50), (10, 5), (45, 15), (45, 5), (45, 40)]),
    ],
)
def test_five_points_by_hand(miner, mined):
    # a at 0 and 10 degrees, b at 15 and 60, c at 100; the angles from an anchor to its positive and its negatives are
    # 0: 10, 15 60 100;  10: 10, 5 50 90;  15: 45, 15 5 85;  60: 45, 60 50 40
    # the squared distance between points t apart is 2 - 2 cos t;
    # the margin of .15 is wider than the gap between 45 and 50 (.129), not than that between 45 and 60 (.414)
    loss, share = TripletObjective(0.15, miner)(on_the_circle(0, 10, 15, 60, 100), LABELS)
    squares = 2 - 2 * np.cos(np.deg2rad(mined))
    assert float(loss) == pytest.approx(np.mean(squares[:, 0] - squares[:, 1] + 0.15), abs=1e-5)
    assert float(share) == pytest.approx(len(mined) / 12)


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("seed", range(4))
def test_random_points_by_counting_every_triplet(miner, seed):
    vectors, labels = unit_vectors(12, seed), torch.arange(12) % 4
    loss, share = TripletObjective(0.2, miner)(vectors, labels)
    wanted = by_hand(vectors, labels, 0.2, miner)
    assert (float(loss), float(share)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("miner", MINERS)
def test_order_and_names_of_the_classes_do_not_matter(miner):
    vectors, labels = unit_vectors(16, 0), torch.arange(16) % 4
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    objective = TripletObjective(0.2, miner)
    loss, share = objective(vectors, labels)
    torch.testing.assert_close(objective(vectors[order], labels[order]), (loss, share))
    torch.testing.assert_close(objective(vectors, 7 - 2 * labels), (loss, share))


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_no_triplet_gives_no_loss_and_a_gradient_of_zero(miner, labels):
    vectors = unit_vectors(4, 0).requires_grad_()
    loss, share = TripletObjective(0.2, miner)(vectors, torch.tensor(labels))
    loss.backward()
    assert (loss.item(), share.item()) == (0, 0)
    assert torch.equal(vectors.grad, torch.zeros(4, 6))


@pytest.mark.parametrize("miner", MINERS)
def test_a_collapsed_space_has_the_margin_as_its_loss_and_a_finite_gradient(miner):
    vectors = on_the_circle(*[30] * 6).requires_grad_()
    loss, share = TripletObjective(0.2, miner)(vectors, torch.tensor([0, 0, 1, 1, 2, 2]))
    loss.backward()
    wanted = 0 if miner == "semihard" else 0.2  # none of its negatives is farther than its positives
    assert loss.item() == pytest.approx(wanted, abs=1e-6)
    assert float(share) == (0 if miner == "semihard" else 1)
    assert vectors.grad.isfinite().all()


def test_vectors_that_are_nan_do_not_pass_for_a_loss_of_zero():
    loss, _ = TripletObjective(0.2, "semihard")(torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1]))
    assert math.isnan(loss)


def test_a_step_down_the_gradient_lowers_the_loss():
    vectors, labels = unit_vectors(12, 3).requires_grad_(), torch.arange(12) % 3
    objective = TripletObjective(0.2, "all")
    loss, _ = objective(vectors, labels)
    loss.backward()
    stepped, _ = objective(torch.nn.functional.normalize(vectors - 0.01 * vectors.grad, dim=1).detach(), labels)
    assert stepped < loss


def test_the_settings_name_the_objective():
    assert build_objective(TrainingSettings(margin=0.3, miner="hard")) == TripletObjective(0.3, "hard")
