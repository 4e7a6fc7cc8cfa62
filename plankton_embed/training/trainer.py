"""The training loop, in one function."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from plankton_embed.errors import InputError, PlanktonEmbedError
from plankton_embed.images.augmentation import augment
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.compilation import compile_module
from plankton_embed.network.device import autocast, skips_on_device
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.network.pretrained import choose_weights
from plankton_embed.output import progress_bar
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings, TrainingSettings
from plankton_embed.training.batches import BatchFeed, plan_epoch
from plankton_embed.training.checkpoints import Checkpoints
from plankton_embed.training.collapse import active_share, find_collapse, measure_spread
from plankton_embed.training.history import EpochRecord, History
from plankton_embed.training.objectives import Objective, build_objective
from plankton_embed.training.ranks import ALONE, Ranks
from plankton_embed.training.tracking import Tracker

logger = logging.getLogger(__name__)

ROUND_EPOCHS, ROUND_DECAY = 5, 0.9  # schedule `rounds`
STEPS_BETWEEN_CHECKS = 50  # checking the losses waits for the device
COMPILE_FROM_STEPS = 5000  # then it saves a tenth of the time or more (see `docs/measurements.md`)
COMPILE_FROM_MINUTES = 6  # the time of these steps, where the clock ends the training
STATISTICS_IMAGES = 1024  # from which the statistics of the batch norms are measured after an epoch
LEAST_STATISTICS = 100  # of another instrument; from fewer images, the statistics are too uncertain


@dataclass(frozen=True)
class Validation:
    """What is measured after an epoch.

    `vectors` (n, d) and `class_index` (n,) of some training images; the accuracies with which these predict the
    validation images, and the `score` that chooses the best epoch, nan without validation images; and the number of
    validation classes that no image was predicted as.
    """

    vectors: NDArray[np.float32]
    class_index: NDArray[np.integer]
    centroid_accuracy: float = math.nan
    knn_accuracy: float = math.nan
    score: float = math.nan
    n_never_predicted: int = 0


def train_model(
    model: EmbeddingModel,
    images: PreparedImages,
    class_index: NDArray[np.integer],
    settings: Settings,
    run: RunFolder,
    *,
    start: Callable[[EmbeddingModel], NDArray[np.floating]] | None = None,
    validate: Callable[[EmbeddingModel], Validation] | None = None,
    objective: Objective | None = None,
    ranks: Ranks = ALONE,
    progress: bool = True,
) -> History:
    """Train a model in place; it ends with the weights of its best epoch.

    A state is written to `run.checkpoints` after every epoch, and every `checkpoint_minutes` within an epoch. Where
    states exist, training continues from the newest and ends in the same weights as if it had never stopped (on the
    CPU, bit for bit; not with `training.minutes`, where the clock ends it). A step whose loss or gradient is not
    finite, or whose batch has nothing to learn from, changes no weight and is counted.

    Args:
        model: the model, on its device.
        images: prepared training images.
        class_index: (n,) class code of each, 0 … C-1.
        settings: seed, augmentation and training are used.
        run: where states, weights and history go.
        start: prepares the model before its first step, and returns the mean vector of every class, (C, d), in which
            its proxy starts; by default model and proxies start as they are.
        validate: measures the space after every `training.validate_every` epochs, and after the last.
        objective: a loss of your own; by default that of the settings.
        ranks: the processes that train this model together. The first of them starts, validates and writes; all end
            with the same weights and history.
        progress: show a bar for each epoch.

    Raises:
        InputError: fewer than two classes, or class codes with gaps.
        SettingError: batches are too small for so many processes.
        PlanktonEmbedError: no step has a finite loss any more, or another process has ended; the last state on disk is
            good.
    """
    class_index = np.asarray(class_index, dtype=np.int64)
    n_classes = len(np.unique(class_index))
    if n_classes < 2:
        raise InputError(f"training needs at least 2 classes, found {n_classes}; a triplet takes images of two")
    if class_index.min() != 0 or class_index.max() != n_classes - 1:
        found = f"{class_index.min()} to {class_index.max()}"
        raise InputError(f"class_index: expected every code from 0 to {n_classes - 1}, found {n_classes} from {found}")
    training, device, net = settings.training, model.device, model.net
    planned = plan_epoch(class_index, training, np.random.default_rng(0))
    ranks.ask_first(lambda: ranks.check_batch(min(len(rows) for rows, _ in planned)))
    if choose_weights(settings.network) != "none":
        rate = training.learning_rate * training.pretrained_rate
        training = training.model_copy(update={"learning_rate": rate})
    names_loss = objective is None
    if names_loss and training.objective == "scheduled":
        first, then = training.objective_at(0), training.objective_at(1)
        logger.info("objective: %s, and %s from %.0f %% of the training on", first, then, 100 * training.proxy_share)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        objective = (objective or build_objective(training, n_classes, model.dimension)).to(device)
    optimizer = _build_optimizer(net, objective, training)
    mean_net = deepcopy(net) if training.ema else None
    kept_model = model if mean_net is None else replace(model, net=mean_net)
    feed = BatchFeed(images, class_index, images.log_sides(model.network.size_inputs), device)
    generator = torch.Generator()

    # continue where an earlier process was stopped
    checkpoints = Checkpoints(run, training, writes=ranks.is_first)
    stateful = {"net": net, "objective": objective, "optimizer": optimizer}
    stateful |= {} if mean_net is None else {"mean_net": mean_net}
    state = ranks.share(checkpoints.load_state() if ranks.is_first else None)
    history, first_step, sums = _resume(state, stateful, generator)
    limit = 60 * training.minutes if training.minutes else math.inf
    if start is not None and len(history) == first_step == 0:
        started = time.perf_counter()
        if ranks.is_first:
            objective.place_proxies(torch.from_numpy(start(model)).float().to(device))
        limit -= ranks.share(time.perf_counter() - started)
    ranks.copy_from_first(net, objective)
    ranks.synchronize_norms(net, device)
    n_steps_left = (training.epochs - len(history)) * len(planned)
    trunk: Callable[..., Tensor] = net.trunk
    if should_compile(training, n_steps_left, device):
        # the trunk only, and for batches of one shape, so that training starts soon
        logger.info("the trunk is compiled in the first step, which takes longer")
        trunk = compile_module(net.trunk, training.compile, "training.compile", dynamic=False)

    with ExitStack() as stack:
        logs = training.tensorboard and ranks.is_first
        tracker = stack.enter_context(Tracker(run.tensorboard)) if logs else None
        for epoch in range(len(history) + 1, training.epochs + 1):
            spent = sum(record.seconds for record in history.records)
            if spent >= limit:
                break
            if training.stop_on_collapse and find_collapse(history.records, n_classes) is not None:
                break
            # every epoch has its own seed, so that its batches can be planned again
            rng = np.random.default_rng([settings.seed, epoch])
            batches = plan_epoch(class_index, training, rng)
            seeds = rng.integers(2**63, size=2)
            if first_step == 0:
                generator.manual_seed(int(seeds[0]))
                torch.manual_seed(int(seeds[1]))
                sums = _Sums()
            started = time.perf_counter() - sums.seconds

            net.train()
            bar = progress_bar(
                batches[first_step:], f"epoch {epoch}/{training.epochs}", "step", shown=progress, done=first_step
            )
            for step, (rows, views) in enumerate(bar, first_step):
                share_of_time = (spent + time.perf_counter() - started) / limit
                share_of_time = ranks.share(share_of_time) if training.minutes else share_of_time
                progress_made = min(max((epoch - 1 + step / len(batches)) / training.epochs, share_of_time), 1.0)
                is_last = step == len(batches) - 1 or share_of_time >= 1
                for group in optimizer.param_groups:
                    group["lr"] = group["factor"] * learning_rate_at(progress_made, training)

                # forward
                ranks.seed_step(settings.seed, epoch, step)
                pixels, background, labels, sides = feed(rows, ranks.own)
                turned = torch.from_numpy(views)
                batch = augment(pixels, background, turned, settings.augmentation, generator, ranks.own)
                with autocast(device, training.precision):
                    vectors = net(batch, sides, trunk)
                vectors = ranks.gather(vectors, len(rows))
                loss = objective(vectors, labels, progress_made)

                # backward
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                loss = ranks.combine(net, objective, loss)
                norm, proxy_norm = (_gradient_norm(part) for part in (net, objective))
                is_finite = torch.isfinite(loss.detach()) & torch.isfinite(norm) & torch.isfinite(proxy_norm)
                is_useful = is_finite & (norm > 0)

                # step, unless the gradient is not finite or zero; where possible decided on the device, without waiting
                if skips_on_device(device):
                    optimizer.found_inf = (~is_useful).float()  # type: ignore[attr-defined]
                    optimizer.step()
                elif is_useful:
                    optimizer.step()
                if mean_net is not None:
                    n_steps = (epoch - 1) * len(batches) + step
                    _follow(mean_net, net, min(training.ema, n_steps / (n_steps + 9)))

                # log
                sums.add(loss.detach(), active_share(vectors, labels, training.margin), is_finite, is_useful)
                if sums.n_steps % STEPS_BETWEEN_CHECKS == 0 or is_last:
                    sums.refuse_if_all_broken(epoch, training)
                if is_last:
                    break
                if checkpoints.is_due():
                    sums.seconds = time.perf_counter() - started
                    checkpoints.save_state(epoch, step + 1, _pack(stateful, history, step + 1, sums, generator))

            # validate, record, keep
            shown = rng.permutation(np.concatenate([rows for rows, _ in batches]))
            seconds = ranks.share(time.perf_counter() - started)
            is_due = epoch % training.validate_every == 0 or epoch == training.epochs or spent + seconds >= limit
            if is_due or training.keep_every_epoch or not history.has_scores:  # without scores the newest is kept
                measure_statistics(kept_model.net, feed, shown[:STATISTICS_IMAGES], training)
                seconds = ranks.share(time.perf_counter() - started)
                is_due = is_due or spent + seconds >= limit
            first_step = 0
            measured = validate(kept_model) if validate and is_due and ranks.is_first else None
            record = EpochRecord(
                epoch=epoch,
                **sums.means(),
                learning_rate=float(optimizer.param_groups[0]["lr"]),
                **_describe_space(measured),
                images_per_second=sum(len(rows) for rows, _ in batches[: sums.n_steps]) / seconds,
                seconds=time.perf_counter() - started if is_due else seconds,
            )
            history.records.append(ranks.share(record))
            if ranks.is_first:
                if history.best is history.records[-1] or training.keep_every_epoch:
                    checkpoints.save_weights(epoch, kept_model.net)
                history.save(run.history)
                checkpoints.save_state(epoch + 1, 0, _pack(stateful, history, 0, _Sums(), generator))
                checkpoints.drop_weights(history.best.epoch)
            if tracker:
                tracker.log_epoch(history.records[-1])
            if progress:
                loss_name = f"{training.objective_at(progress_made)} loss" if names_loss else "loss"
                bar.write(_describe(history.records[-1], training.epochs, loss_name), file=bar.fp)
            fault = find_collapse(history.records, n_classes)
            if fault is not None and find_collapse(history.records[:-1], n_classes) is None:
                logger.warning(fault)

    if ranks.is_first:
        checkpoints.load_weights(history.best.epoch, net)
    ranks.copy_from_first(net)
    return history


@torch.no_grad()
def measure_statistics(net: nn.Module, feed: BatchFeed, rows: NDArray[np.int64], training: TrainingSettings) -> None:
    """Measure the means and variances of the batch norms again, on these images without augmentation.

    The running values of the training lag behind weights that change fast, and then every vector outside a training
    batch is wrong. (Wu & Johnson 2021, arXiv 2105.07576.)
    """
    norms = list_norms(net)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    net.train()
    n_batches = max(1, len(rows) // (training.classes_per_batch * training.batch_images_per_class))
    for number, some in enumerate(np.array_split(rows, n_batches) if norms else (), 1):
        for norm in norms:
            norm.momentum = 1 / number  # a plain mean over the batches; with None, each norm would wait for the device
        pixels, _, _, sides = feed(some)
        with autocast(feed.device, training.precision):
            net(pixels, sides)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def list_norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch norms of a network."""
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def adapt_statistics(model: EmbeddingModel, images: PreparedImages) -> None:
    """Measure the means and variances of the batch norms on images of another instrument, at most STATISTICS_IMAGES.

    Then the features of these images are distributed as those in the training (Li et al. 2016, arXiv 1603.04779). They
    are computed in float32, so that they do not depend on the machine.
    """
    nothing = np.zeros((len(images), 2), dtype=np.float32)  # neither classes nor sizes of images go into the norms
    feed = BatchFeed(images, nothing[:, 0].astype(np.int64), nothing, model.device)
    rows = np.random.default_rng(0).permutation(len(images))[:STATISTICS_IMAGES]
    measure_statistics(model.net, feed, rows, TrainingSettings(precision="float32"))


def should_compile(training: TrainingSettings, n_steps: int, device: torch.device) -> bool:
    """Return whether to compile the trunk for this number of steps, at most; `auto`: on a GPU, where it repays."""
    is_short = n_steps < COMPILE_FROM_STEPS or 0 < training.minutes < COMPILE_FROM_MINUTES
    return training.compile == "on" or (training.compile == "auto" and device.type == "cuda" and not is_short)


def learning_rate_at(progress_made: float, training: TrainingSettings) -> float:
    """Return the learning rate at a share 0-1 of the training.

    Linear warmup, then half a cosine down to 0 (`cosine`) or times 0.9 after every 5 epochs (`rounds`).
    """
    if progress_made < training.warmup:
        return training.learning_rate * (progress_made + 1e-3) / (training.warmup + 1e-3)
    if training.schedule == "rounds":
        return training.learning_rate * float(
            ROUND_DECAY ** (int(progress_made * training.epochs + 1e-6) // ROUND_EPOCHS)
        )
    done = (progress_made - training.warmup) / (1 - training.warmup)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class _Sums:
    """Sums over the steps of an epoch, on the device where possible."""

    loss: Tensor | float = 0.0
    active_share: Tensor | float = 0.0
    n_useful: Tensor | int = 0  # finite, with something to learn from
    n_with_triplets: Tensor | int = 0
    n_finite: Tensor | int = 0
    n_steps: int = 0
    seconds: float = 0.0
    n_finite_before: int = 0  # at the last check

    def add(self, loss: Tensor, share: Tensor, is_finite: Tensor, is_useful: Tensor) -> None:
        has_triplets = is_finite & torch.isfinite(share)
        self.loss = self.loss + torch.where(is_useful, loss, 0).float()
        self.active_share = self.active_share + torch.where(has_triplets, share, 0).float()
        self.n_useful = self.n_useful + is_useful.long()
        self.n_with_triplets = self.n_with_triplets + has_triplets.long()
        self.n_finite = self.n_finite + is_finite.long()
        self.n_steps += 1

    def refuse_if_all_broken(self, epoch: int, training: TrainingSettings) -> None:
        n_finite = int(self.n_finite)
        is_whole = self.n_steps % STEPS_BETWEEN_CHECKS == 0  # the last check of an epoch may be of a few steps only
        if n_finite == (self.n_finite_before if is_whole else 0):
            raise PlanktonEmbedError(
                f"epoch {epoch}: none of the last steps had a finite loss; the last state on disk is good, but would "
                f"end in the same way: train again with a lower training.learning_rate (now "
                f"{training.learning_rate}) or training.precision=float32"
            )
        self.n_finite_before = n_finite

    def means(self) -> dict[str, Any]:
        n_useful = int(self.n_useful)
        return {
            "loss": float(self.loss) / n_useful if n_useful else 0.0,
            "active_share": float(self.active_share) / max(int(self.n_with_triplets), 1),
            "n_empty_steps": int(self.n_finite) - n_useful,
            "n_broken_steps": self.n_steps - int(self.n_finite),
        }


def _build_optimizer(net: nn.Module, objective: Objective, training: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimizer: weight decay for matrices and kernels, none for biases, norms and proxies."""
    kernels = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    proxies = list(objective.parameters())
    groups = [
        {"params": kernels, "weight_decay": training.weight_decay, "factor": 1.0},
        {"params": rest, "weight_decay": 0.0, "factor": 1.0},
    ] + ([{"params": proxies, "weight_decay": 0.0, "factor": training.proxy_rate}] if proxies else [])
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
    sgd = torch.optim.SGD(groups, lr=training.learning_rate, momentum=0.9, fused=True)
    for parameter in kernels + rest + proxies:  # else undefined where the first step is skipped
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _gradient_norm(part: nn.Module) -> Tensor:
    return nn.utils.get_total_norm(p.grad for p in part.parameters() if p.grad is not None)


def _follow(mean_net: nn.Module, net: nn.Module, decay: float) -> None:
    """Update a running mean of the weights."""
    follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    follow(list(mean_net.parameters()), list(net.parameters()), None)


def _pack(
    stateful: dict[str, Any], history: History, step: int, sums: _Sums, generator: torch.Generator
) -> dict[str, Any]:
    """Return the whole state that the rest of the training depends on."""
    return {
        **{name: part.state_dict() for name, part in stateful.items()},
        "history": [asdict(record) for record in history.records],
        "step": step,
        "sums": asdict(sums),
        "generator": generator.get_state(),
        "chance": torch.get_rng_state(),
        "cuda_chance": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _resume(
    state: dict[str, Any] | None, stateful: dict[str, Any], generator: torch.Generator
) -> tuple[History, int, _Sums]:
    """Load a state; return the epochs done, the next step of the current epoch, and the sums of that epoch."""
    if state is None:
        return History(), 0, _Sums()
    for name, part in stateful.items():
        part.load_state_dict(state[name])
    generator.set_state(state["generator"])
    torch.set_rng_state(state["chance"])
    if state["cuda_chance"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_chance"])
    return History([EpochRecord(**record) for record in state["history"]]), state["step"], _Sums(**state["sums"])


def _describe_space(measured: Validation | None) -> dict[str, Any]:
    if measured is None:
        return {}
    return {
        **asdict(measure_spread(measured.vectors, measured.class_index)),
        "centroid_accuracy": measured.centroid_accuracy,
        "knn_accuracy": measured.knn_accuracy,
        "score": measured.score,
        "n_never_predicted": measured.n_never_predicted,
    }


def _describe(record: EpochRecord, n_epochs: int, loss_name: str) -> str:
    accuracy = ""
    if not math.isnan(record.centroid_accuracy):
        accuracy = f"  val centroid {record.centroid_accuracy:.3f}  val kNN {record.knn_accuracy:.3f}"
    skipped = f"  {record.n_broken_steps} steps skipped, not finite" if record.n_broken_steps else ""
    skipped += f"  {record.n_empty_steps} steps without a triplet" if record.n_empty_steps else ""
    return f"epoch {record.epoch}/{n_epochs}  {loss_name} {record.loss:.4f}{accuracy}  {record.seconds:.0f} s{skipped}"
