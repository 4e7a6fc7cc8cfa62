"""Every loss, recomputed from its formula."""

import io
import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from scipy.special import log_softmax, logsumexp

from plankton_embed.settings import ObjectiveName, ProxyName, TrainingSettings
from plankton_embed.training.objectives import build_objective, triplet_loss

MINERS = ("semihard", "hard", "all")
PAIRS = ("triplet", "multi_similarity", "supcon")
PROXIES = get_args(ProxyName)
FORMS = ("standard", "geometric", "alternative")
LABELS = torch.tensor([0, 0, 1, 1, 2])


def build(name, n_classes=4, dimension=2, **changes):
    changes = {"warmup": 0.0, **changes}  # a memory begins at once
    return build_objective(TrainingSettings(objective=name, **changes), n_classes, dimension)


def on_the_circle(*degrees):
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def unit_vectors(n, seed, dimension=6):
    vectors = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


FIVE = on_the_circle(0, 10, 15, 60, 100)


def proxies_of(objective, n_classes=4):
    """Return the proxies, one line a class."""
    (proxies,) = objective.parameters()
    return proxies if len(proxies) == n_classes else proxies.T


def copy_state(objective, fresh):
    """Put the state of one objective into another, by way of a file."""
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


# ------------------------------------------------------------------------------------------ the formulas, in numpy


def numpied(*tensors):
    return [np.asarray(tensor.detach().numpy(), dtype=float) for tensor in tensors]


def triplet_by_hand(vectors, labels, margin, miner, earlier=0):
    """Count every triplet; the first vectors may be a memory, which gives positives and negatives but no anchors."""
    (vectors,), losses = numpied(vectors), []
    for a, p, n in itertools.permutations(range(len(labels)), 3):
        if a >= earlier and labels[a] == labels[p] != labels[n]:
            gap = np.sum((vectors[a] - vectors[n]) ** 2) - np.sum((vectors[a] - vectors[p]) ** 2)
            mined = {"semihard": 0 < gap <= margin, "hard": gap <= 0, "all": gap <= margin}[miner]
            losses += [margin - gap] if mined and margin > gap else []
    return np.mean(losses) if losses else 0.0


def compare(vectors, labels, anchor):
    """Return the cosines of an anchor with all others of its class, and with all of another."""
    (unit,) = numpied(torch.nn.functional.normalize(vectors, dim=1))
    cosines, own = unit @ unit[anchor], (labels == labels[anchor]).numpy()
    others = np.arange(len(labels)) != anchor
    return cosines[own & others], cosines[~own]


def multi_similarity_by_hand(vectors, labels, earlier=0):
    # Wang et al. 2019, equations 7, 8 and 12, with alpha 2, beta 50, lambda .5 and epsilon .1
    losses = []
    for anchor in range(earlier, len(labels)):
        likes, unlikes = compare(vectors, labels, anchor)
        hard_likes = likes[likes < unlikes.max(initial=-np.inf) + 0.1]
        hard_unlikes = unlikes[unlikes > likes.min(initial=np.inf) - 0.1]
        losses.append(
            np.log(1 + np.exp(-2 * (hard_likes - 0.5)).sum()) / 2
            + np.log(1 + np.exp(50 * (hard_unlikes - 0.5)).sum()) / 50
        )
    return np.mean(losses)


def supcon_by_hand(vectors, labels, temperature, earlier=0):
    # Khosla et al. 2020, equation 2, of anchors that have a positive and a loss that is not 0 in single precision
    losses = []
    for anchor in range(earlier, len(labels)):
        likes, unlikes = compare(vectors, labels, anchor)
        everything = logsumexp(np.concatenate([likes, unlikes]) / temperature)
        losses += [np.mean(everything - likes / temperature)] if len(likes) else []
    return np.mean([loss for loss in losses if loss > 1e-7])


def normalized_softmax_by_hand(cosines, labels, temperature):
    # Zhai & Wu 2019, equation 3
    return -np.mean([log_softmax(row / temperature)[c] for row, c in zip(cosines, labels, strict=True)])


def arcface_by_hand(cosines, labels, temperature, margin):
    # Deng et al. 2019, equation 3; past pi - margin, where the cosine would rise again, a straight line
    shifted = cosines.copy()
    for row, c in enumerate(labels):
        angle = np.arccos(cosines[row, c])
        bends = angle > np.pi - margin
        shifted[row, c] = np.cos(angle) - margin * np.sin(margin) if bends else np.cos(angle + margin)
    return normalized_softmax_by_hand(shifted, labels, temperature)


def proxy_anchor_by_hand(cosines, labels):
    # Kim et al. 2020, equation 4, with alpha 32 and delta .1
    labels, likes, unlikes = np.asarray(labels), [], []
    for c, of_proxy in enumerate(cosines.T):
        if (labels == c).any():
            likes.append(np.log(1 + np.exp(-32 * (of_proxy[labels == c] - 0.1)).sum()))
        unlikes.append(np.log(1 + np.exp(32 * (of_proxy[labels != c] + 0.1)).sum()))
    return np.mean(likes) + np.mean(unlikes)


def proxy_loss_by_hand(name, objective, vectors, labels, temperature, margin):
    unit, proxies = numpied(vectors, torch.nn.functional.normalize(proxies_of(objective), dim=1))
    cosines = unit @ proxies.T
    if name == "normalized_softmax":
        return normalized_softmax_by_hand(cosines, labels, temperature)
    if name == "arcface":
        return arcface_by_hand(cosines, labels, temperature, margin)
    return proxy_anchor_by_hand(cosines, labels)


def reference_by_hand(vectors, margin, form):
    (vectors,), losses = numpied(vectors), []
    n = len(vectors) // 3
    for i in range(n):
        anchor, positive, negative = vectors[i], vectors[n + i], vectors[2 * n + i]
        near, far = np.sum((anchor - positive) ** 2), np.sum((anchor - negative) ** 2)
        losses.append(
            {
                "standard": max(near - far + margin, 0),
                "geometric": max(near + margin / far, 0),
                "alternative": near + max(margin - far, 0),
            }[form]
        )
    return np.mean(losses)


# ------------------------------------------------------------------------------------------ triplet


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
    loss = build("triplet", margin=0.15, miner=miner)(FIVE, LABELS)
    squares = 2 - 2 * np.cos(np.deg2rad(mined))
    assert float(loss) == pytest.approx(np.mean(squares[:, 0] - squares[:, 1] + 0.15), abs=1e-5)


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("seed", range(4))
def test_random_points_by_counting_every_triplet(miner, seed):
    vectors, labels = unit_vectors(12, seed), torch.arange(12) % 4
    loss = build("triplet", margin=0.2, miner=miner)(vectors, labels)
    assert float(loss) == pytest.approx(triplet_by_hand(vectors, labels, 0.2, miner), abs=1e-5)


@pytest.mark.parametrize("miner", MINERS)
def test_a_collapsed_space_has_the_margin_as_its_loss_and_a_finite_gradient(miner):
    vectors = on_the_circle(*[30] * 6).requires_grad_()
    loss = build("triplet", margin=0.2, miner=miner)(vectors, torch.tensor([0, 0, 1, 1, 2, 2]))
    loss.backward()
    wanted = 0 if miner == "semihard" else 0.2  # none of its negatives is farther than its positives
    assert loss.item() == pytest.approx(wanted, abs=1e-6)
    assert vectors.grad.isfinite().all()


def listed_triplet_loss(vectors, labels, margin, miner):
    """The loss of pytorch-metric-learning, which lists the mined triplets."""
    squared = LpDistance(power=2)
    mined = TripletMarginMiner(margin=margin, type_of_triplets=miner, distance=squared)(vectors, labels)
    return TripletMarginLoss(margin=margin, distance=squared)(vectors, labels, mined)


def value_and_gradient(loss_of, vectors, *arguments):
    vectors = vectors.clone().requires_grad_()
    loss = loss_of(vectors, *arguments)
    loss.backward()
    return loss.detach(), vectors.grad


RANDOM = torch.Generator().manual_seed(0)
BATCHES = {
    "random": (unit_vectors(96, 1), torch.arange(96) // 4),
    "not unit": (3 * torch.randn(40, 8, generator=RANDOM), torch.arange(40) % 5),
    "uneven": (unit_vectors(50, 2), torch.randint(0, 4, (50,), generator=RANDOM)),
    "tight": (torch.ones(32, 6) + 0.1 * unit_vectors(32, 3), torch.arange(32) // 4),
    "one class": (unit_vectors(8, 4), torch.zeros(8, dtype=torch.long)),
    "no pair": (unit_vectors(8, 5), torch.arange(8)),
    "one point": (torch.ones(8, 6), torch.arange(8) // 2),
    "a pair on one point": (unit_vectors(4, 6).repeat(2, 1), torch.arange(8) % 4),
}


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("margin", [1e-12, 0.05, 0.2, 1.5])
@pytest.mark.parametrize("batch", BATCHES)
def test_counted_triplets_have_the_loss_and_gradient_of_listed_ones(batch, margin, miner):
    vectors, labels = BATCHES[batch]
    loss, gradient = value_and_gradient(triplet_loss, vectors, labels, margin, miner)
    wanted, wanted_gradient = value_and_gradient(listed_triplet_loss, vectors, labels, margin, miner)
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    torch.testing.assert_close(gradient, wanted_gradient, atol=1e-5, rtol=1e-5)
    assert loss > 0 or margin == 1e-12 or batch not in ("random", "not unit", "uneven")


@pytest.mark.parametrize("miner", MINERS)
def test_vectors_that_are_nan_have_a_triplet_loss_that_is_nan(miner):
    vectors = BATCHES["random"][0].clone()
    vectors[5] = math.nan
    assert triplet_loss(vectors, BATCHES["random"][1], 0.2, miner).isnan()


@pytest.mark.parametrize("name", ["triplet", "normalized_softmax", "scheduled", "reference_2019"])
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_the_default_objectives_never_wait_for_the_device(waits, name, progress):
    objective, vectors = build(name, dimension=6), unit_vectors(12, 0).requires_grad_()
    labels = torch.arange(12) // 3
    with waits as found:
        objective(vectors, labels, progress).backward()
    assert vectors.grad.isfinite().all()
    assert found.names == []


def test_a_list_of_triplets_waits_for_the_device(waits):  # the check of the test above
    with waits as found:
        listed_triplet_loss(unit_vectors(12, 0), torch.arange(12) // 3, 0.2, "semihard")
    assert "aten::nonzero" in found.names


# ------------------------------------------------------------------------------------------ the other pairs


@pytest.mark.parametrize("vectors", [FIVE, unit_vectors(5, 0, 2), unit_vectors(5, 1, 2), on_the_circle(0, 1, 2, 3, 4)])
def test_multi_similarity_by_its_formula(vectors):
    loss = build("multi_similarity")(vectors, LABELS)
    assert float(loss) == pytest.approx(multi_similarity_by_hand(vectors, LABELS), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("vectors", [FIVE, unit_vectors(5, 0, 2), unit_vectors(5, 1, 2)])
def test_supcon_by_its_formula(vectors, temperature):
    loss = build("supcon", temperature=temperature)(vectors, LABELS)
    assert float(loss) == pytest.approx(supcon_by_hand(vectors, LABELS, temperature), abs=1e-5)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_nothing_to_compare_gives_no_loss_and_a_gradient_of_zero(name, labels):
    for memory in (0, 8):
        vectors = unit_vectors(4, 0, 2).requires_grad_()
        loss = build(name, memory=memory)(vectors, torch.tensor(labels))
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(vectors.grad, torch.zeros(4, 2))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("memory", [0, 8])
def test_vectors_that_are_nan_do_not_pass_for_a_loss_of_zero(name, memory):
    objective = build(name, memory=memory)
    assert math.isnan(objective(torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1])))
    one = FIVE.clone()
    one[4, 1] = math.nan  # alone in its class, so that no pair need look at it
    assert math.isnan(build(name, memory=memory)(one, LABELS))


# ------------------------------------------------------------------------------------------ memory


FIRST, SECOND = (on_the_circle(0, 10, 15, 60), torch.tensor([0, 0, 1, 1])), (
    on_the_circle(5, 40, 12, 100), torch.tensor([0, 0, 1, 1]))  # fmt: skip


def with_memory_by_hand(name, batches, memory=8):
    """Return the loss of the newest of some batches, compared with the newest `memory` vectors."""
    vectors, labels = (torch.cat(parts)[-memory:] for parts in zip(*batches, strict=True))
    earlier = len(labels) - len(batches[-1][1])
    return {
        "triplet": lambda: triplet_by_hand(vectors, labels, 0.2, "semihard", earlier),
        "multi_similarity": lambda: multi_similarity_by_hand(vectors, labels, earlier),
        "supcon": lambda: supcon_by_hand(vectors, labels, 0.05, earlier),
    }[name]()


@pytest.mark.parametrize("name", PAIRS)
def test_with_a_memory_a_batch_is_compared_with_the_one_before_it_too(name):
    objective = build(name, memory=8)
    assert float(objective(*FIRST)) == pytest.approx(float(build(name)(*FIRST)), abs=1e-6)
    loss = float(objective(*SECOND))
    assert loss == pytest.approx(with_memory_by_hand(name, [FIRST, SECOND]), abs=1e-5)
    assert loss != pytest.approx(float(build(name)(*SECOND)), abs=1e-3)


@pytest.mark.parametrize("name", PAIRS)
def test_a_memory_begins_when_the_warmup_is_over(name):
    objective = build(name, memory=8, warmup=0.2)
    for batch in (FIRST, SECOND):
        assert float(objective(*batch, 0.19)) == float(build(name)(*batch))
    objective(*FIRST, 0.2)
    assert float(objective(*SECOND, 0.9)) == pytest.approx(with_memory_by_hand(name, [FIRST, SECOND]), abs=1e-5)


@pytest.mark.parametrize("size", [3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_memory_of_eight_holds_the_newest_eight(size, seed):
    objective = build("triplet", memory=8, dimension=6)
    batches = [(unit_vectors(size, 10 * seed + n), (torch.arange(size) + n) % 3) for n in range(5)]
    for n, batch in enumerate(batches, 1):
        wanted = with_memory_by_hand("triplet", batches[:n])
        assert float(objective(*batch)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("n_before", [1, 2, 3])  # half full, full, gone round
def test_a_memory_is_part_of_the_state(name, n_before):
    objective = build(name, memory=8)
    for n in range(n_before):
        objective(unit_vectors(4, n, 2), torch.tensor([0, 0, 1, 1]))
    restored = copy_state(objective, build(name, memory=8))
    for batch in (FIRST, SECOND):
        loss = objective(*batch)
        assert torch.equal(restored(*batch), loss)
        assert loss > 0


@pytest.mark.parametrize("name", PAIRS)
def test_a_memory_gets_over_a_batch_that_is_nan(name):
    objective = build(name, memory=8)
    objective(*FIRST)
    objective(torch.full((4, 2), math.nan), FIRST[1])
    vectors = SECOND[0].clone().requires_grad_()
    loss = objective(vectors, SECOND[1])
    loss.backward()
    assert 0 < loss.item() < math.inf
    assert vectors.grad.isfinite().all()
    objective(*FIRST)
    assert objective(*SECOND).item() == pytest.approx(with_memory_by_hand(name, [FIRST, SECOND]), abs=1e-5)


def test_only_the_batch_itself_has_a_gradient_not_the_memory():
    first, second = (batch[0].clone().requires_grad_() for batch in (FIRST, SECOND))
    objective = build("triplet", memory=8)
    objective(first, FIRST[1])
    objective(second, SECOND[1]).backward()
    assert first.grad is None
    assert second.grad.norm() > 0


# ------------------------------------------------------------------------------------------ proxies


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize(("temperature", "margin"), [(0.05, 0.2), (0.5, 1.2)])
@pytest.mark.parametrize("seed", range(3))
def test_a_proxy_loss_by_its_formula(name, temperature, margin, seed):
    torch.manual_seed(seed)
    objective = build(name, temperature=temperature, angular_margin=margin)  # the fourth class has no image
    vectors = unit_vectors(5, seed, 2)
    wanted = proxy_loss_by_hand(name, objective, vectors, LABELS, temperature, margin)
    assert objective(vectors, LABELS).item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    with torch.no_grad():
        proxies_of(objective).mul_(3)  # the way counts, not the length
    assert objective(vectors, LABELS).item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_arcface_bends_where_angle_and_margin_pass_half_a_turn():
    objective = build("arcface", angular_margin=0.5, n_classes=2, temperature=1.0)
    with torch.no_grad():
        proxies_of(objective, 2).copy_(on_the_circle(0, 90))
    # an image of the first class, 170 degrees from its proxy and 80 from the other: 2.967 rad + .5 is past 3.142
    loss = objective(on_the_circle(170), torch.tensor([0]))
    own, other = math.cos(math.radians(170)) - 0.5 * math.sin(0.5), math.cos(math.radians(80))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(other - own)), abs=1e-5)


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_start_with_length_one_one_a_class_and_can_start_at_its_mean(name):
    objective = build(name, n_classes=7, dimension=5)
    proxies = proxies_of(objective, 7)
    assert proxies.shape == (7, 5)
    assert proxies.requires_grad
    torch.testing.assert_close(proxies.norm(dim=1), torch.ones(7))
    means = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    objective.place_proxies(means)
    torch.testing.assert_close(proxies_of(objective, 7), torch.nn.functional.normalize(means, dim=1))


@pytest.mark.parametrize("name", PROXIES)
def test_a_step_moves_the_proxies_of_its_classes_towards_their_images(name):
    objective, images = build(name, n_classes=4, temperature=0.5), on_the_circle(30, 120, 210, 300)
    with torch.no_grad():
        proxies_of(objective).copy_(on_the_circle(0, 90, 180, 270))
    objective(images, torch.arange(4)).backward()
    torch.optim.SGD(objective.parameters(), lr=0.01).step()
    cosines = (torch.nn.functional.normalize(proxies_of(objective), dim=1) * images).sum(dim=1)
    assert (cosines > math.cos(math.radians(30)) + 1e-4).all()


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_proxies_learn_from_any_batch(name, labels):
    vectors = unit_vectors(4, 0, 2).requires_grad_()
    objective = build(name)
    loss = objective(vectors, torch.tensor(labels))
    loss.backward()
    (proxies,) = objective.parameters()
    assert loss.isfinite()
    assert vectors.grad.isfinite().all()
    assert proxies.grad.isfinite().all()
    assert proxies.grad.norm() > 0


# ------------------------------------------------------------------------------------------ scheduled


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_scheduled_is_a_proxy_loss_and_then_the_triplet_loss(name, share):
    objective = build("scheduled", proxy_objective=name, proxy_share=share, margin=0.15, miner="all")
    first = proxy_loss_by_hand(name, objective, FIVE, LABELS, 0.05, 0.2)
    then = triplet_by_hand(FIVE, LABELS, 0.15, "all")
    for progress in (0, share - 1e-6):
        assert objective(FIVE, LABELS, progress).item() == pytest.approx(first, rel=1e-5)
    for progress in (share, 1):
        assert objective(FIVE, LABELS, progress).item() == pytest.approx(then, abs=1e-5)


def test_scheduled_leaves_the_proxies_alone_once_it_has_switched():
    objective = build("scheduled")
    vectors = FIVE.clone().requires_grad_()
    objective(vectors, LABELS, 0.9).backward()
    (proxies,) = objective.parameters()
    assert proxies.grad is None
    assert vectors.grad.norm() > 0


# ------------------------------------------------------------------------------------------ reference_2019


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        # triplets (0 0, .6 .8, .5 0) and (1 1, 1 .5, 0 0): squares near 1 and .25, far .25 and 2; the margin is 1.5
        ("standard", (2.25 + 0) / 2),
        ("geometric", (7 + 1) / 2),
        ("alternative", (2.25 + 0.25) / 2),
    ],
)
def test_two_triplets_by_hand(form, wanted):
    vectors = torch.tensor([[0, 0], [1, 1], [0.6, 0.8], [1, 0.5], [0.5, 0], [0, 0]])
    loss = build("reference_2019", form=form, margin=1.5)(vectors, torch.zeros(6))
    assert float(loss) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("margin", [0.3, 5.0])
def test_five_triplets_by_the_formula(form, margin):
    vectors = torch.rand(15, 4, generator=torch.Generator().manual_seed(0))
    loss = build("reference_2019", form=form, margin=margin)(vectors, torch.zeros(15))
    assert float(loss) == pytest.approx(reference_by_hand(vectors, margin, form), abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_the_triplets_does_not_matter(form):
    vectors = torch.rand(15, 4, generator=torch.Generator().manual_seed(0))
    objective, order = build("reference_2019", form=form), torch.tensor([3, 0, 4, 1, 2])
    permuted = vectors.reshape(3, 5, 4)[:, order].reshape(15, 4)
    torch.testing.assert_close(objective(permuted, torch.zeros(15)), objective(vectors, torch.zeros(15)))


@pytest.mark.parametrize("form", ["standard", "alternative"])
def test_a_collapsed_reference_space_has_the_margin_as_its_loss(form):
    vectors = torch.full((15, 4), 0.5).requires_grad_()
    loss = build("reference_2019", form=form, margin=5)(vectors, torch.zeros(15))
    loss.backward()
    assert loss.item() == 5
    assert vectors.grad.isfinite().all()


# ------------------------------------------------------------------------------------------ all of them


def test_every_name_is_tested_here_and_can_be_built():
    assert set(get_args(ObjectiveName)) == {*PAIRS, *PROXIES, "scheduled", "reference_2019"}
    for name in get_args(ObjectiveName):
        assert build(name)(unit_vectors(12, 0, 2), torch.arange(12) % 4).ndim == 0


@pytest.mark.parametrize("name", [*PAIRS, *PROXIES, "scheduled"])
def test_the_order_of_the_images_does_not_matter(name):
    vectors, labels = unit_vectors(16, 0, 2), torch.arange(16) % 4
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    objective = build(name)
    torch.testing.assert_close(objective(vectors[order], labels[order]), objective(vectors, labels))


@pytest.mark.parametrize("name", PAIRS)
def test_the_codes_of_the_classes_do_not_matter_to_pairs(name):
    vectors, labels = unit_vectors(16, 0), torch.arange(16) % 4
    objective = build(name)
    torch.testing.assert_close(objective(vectors, 7 - 2 * labels), objective(vectors, labels))


@pytest.mark.parametrize("name", [*PAIRS, *PROXIES, "scheduled"])
def test_a_step_down_the_gradient_lowers_the_loss(name):
    vectors, labels = unit_vectors(12, 3).requires_grad_(), torch.arange(12) % 3
    objective = build(name, n_classes=3, dimension=6, miner="all")
    loss = objective(vectors, labels)
    loss.backward()
    step = 0.01 * vectors.grad / vectors.grad.norm()
    assert objective(torch.nn.functional.normalize(vectors - step, dim=1).detach(), labels) < loss


@pytest.mark.parametrize("name", [*PROXIES, "scheduled"])
def test_the_state_holds_the_proxies(name):
    objective, fresh = build(name), build(name)
    assert not torch.equal(*(next(iter(o.parameters())) for o in (objective, fresh)))
    assert torch.equal(copy_state(objective, fresh)(FIVE, LABELS), objective(FIVE, LABELS))
