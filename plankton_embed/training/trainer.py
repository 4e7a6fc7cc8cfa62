"""The training loop: one visible function, straight down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from plankton_embed.errors import InputError, PlanktonEmbedError
from plankton_embed.images.augmentation import augment
from plankton_embed.images.balance import balance_epoch
from plankton_embed.images.store import PreparedImages
from plankton_embed.network.device import autocast
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.output import write_atomically
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings, TrainingSettings
from plankton_embed.training.batches import compose_batches
from plankton_embed.training.checkpoints import load_checkpoint, save_checkpoint
from plankton_embed.training.history import EpochRecord, History
from plankton_embed.training.objectives import build_objective

Validation = Callable[[EmbeddingModel], dict[str, float]]


def train_model(
    model: EmbeddingModel,
    images: PreparedImages,
    class_index: NDArray[np.integer],
    settings: Settings,
    run: RunFolder,
    *,
    validate: Validation | None = None,
    progress: bool = True,
) -> History:
    """Train a model in place; it ends with the weights of its best epoch.

    After every epoch `run.last_checkpoint`, `run.history` and, when it is the best so far, `run.best_weights` are
    written; where `run.last_checkpoint` exists, training goes on from it and ends in the same weights as if it had
    never stopped (on the CPU, bit for bit).

    Args:
        model: the model, on its device.
        images: prepared training images.
        class_index: (n,) class code of each, 0 … C-1.
        settings: seed, augmentation and training are read.
        run: where the states go.
        validate: gives `centroid_accuracy` and `knn_accuracy` of the model; called after every epoch.
        progress: show a bar for every epoch.

    Raises:
        InputError: fewer than two classes.
        PlanktonEmbedError: the loss is no longer a number.
    """
    n_classes = len(np.unique(class_index))
    if n_classes < 2:
        raise InputError(f"training needs at least 2 classes, found {n_classes}; a triplet takes images of two")
    training, device, net = settings.training, model.device, model.net
    objective = build_objective(training)
    optimizer = torch.optim.AdamW(_parameter_groups(net, training.weight_decay), lr=training.learning_rate, fused=True)
    history = _resume(run, net, optimizer)

    for epoch in range(len(history) + 1, training.epochs + 1):
        # every epoch has its own chance, so that an epoch is the same whether or not the run was stopped before it
        rng = np.random.default_rng([settings.seed, epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        torch.manual_seed(int(rng.integers(2**63)))
        plan = balance_epoch(class_index, training.images_per_class, rng)
        batches = compose_batches(plan, training.classes_per_batch, training.batch_images_per_class, rng)

        net.train()
        started, losses, shares = time.perf_counter(), [], []
        bar = tqdm(batches, f"epoch {epoch}/{training.epochs}", unit="batch", disable=not progress, leave=False)
        for step, (rows, views) in enumerate(bar):
            progress_made = (epoch - 1 + step / len(batches)) / training.epochs
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(progress_made, training)

            # forward
            pixels, background = (torch.from_numpy(a).to(device, non_blocking=True) for a in images.batch(rows))
            labels = torch.from_numpy(class_index[rows]).to(device, non_blocking=True)
            batch = augment(
                pixels.permute(0, 3, 1, 2).float(),
                background.float(),
                torch.from_numpy(views),
                settings.augmentation,
                generator,
            )
            with autocast(device, training.precision):
                vectors = net(batch)
            loss, share = objective(vectors, labels)

            # backward
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            shares.append(share)

        # validate, record, keep
        mean_loss = float(torch.stack(losses).mean())  # waits for the device
        seconds = time.perf_counter() - started
        if not math.isfinite(mean_loss):
            raise PlanktonEmbedError(
                f"epoch {epoch}: the loss is {mean_loss}; train anew with a lower training.learning_rate "
                f"(now {training.learning_rate}) or training.precision=float32"
            )
        scores = validate(model) if validate else {}
        history.records.append(
            EpochRecord(
                epoch=epoch,
                loss=mean_loss,
                mined_share=float(torch.stack(shares).mean()),
                learning_rate=float(optimizer.param_groups[0]["lr"]),
                centroid_accuracy=scores.get("centroid_accuracy", math.nan),
                knn_accuracy=scores.get("knn_accuracy", math.nan),
                images_per_second=plan.rows.size / seconds,
                seconds=time.perf_counter() - started,
            )
        )
        _keep(run, net, optimizer, history)
        if progress:
            tqdm.write(_describe(history.records[-1], training.epochs), file=bar.fp)

    net.load_state_dict(safetensors.torch.load_file(run.best_weights))
    return history


def learning_rate_at(progress_made: float, training: TrainingSettings) -> float:
    """Return the rate at a share 0-1 of the training: a straight climb, then half a cosine down to 0."""
    if progress_made < training.warmup:
        return training.learning_rate * (progress_made + 1e-3) / (training.warmup + 1e-3)
    done = (progress_made - training.warmup) / (1 - training.warmup)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _parameter_groups(net: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels; leave biases and norms alone."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _resume(run: RunFolder, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> History:
    if not run.last_checkpoint.exists():
        return History()
    state = load_checkpoint(run.last_checkpoint)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return History([EpochRecord(**record) for record in state["history"]])


def _keep(run: RunFolder, net: torch.nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
    """Write the best weights before the checkpoint that says they are there."""
    if history.best is history.records[-1]:
        with write_atomically(run.best_weights) as temporary:
            weights = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
            safetensors.torch.save_file(weights, temporary)
    state = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(record) for record in history.records],
    }
    save_checkpoint(run.last_checkpoint, state)
    history.save(run.history)


def _describe(record: EpochRecord, n_epochs: int) -> str:
    accuracy = ""
    if not math.isnan(record.centroid_accuracy):
        accuracy = f"  val centroid {record.centroid_accuracy:.3f}  val kNN {record.knn_accuracy:.3f}"
    return f"epoch {record.epoch}/{n_epochs}  loss {record.loss:.4f}{accuracy}  {record.seconds:.0f} s"
