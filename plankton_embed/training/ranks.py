"""The processes of one training, started by torchrun: what they share, and what the first does for all.

Every process (rank) has the whole model. Of every batch it embeds its own images; then all have the vectors of the
whole batch, compute the same loss, and add up their gradients. So a step is that of one process with the same batch.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from plankton_embed.errors import PlanktonEmbedError, SettingError
from plankton_embed.network.device import choose_device

STEP_SECONDS = 600.0  # a process that does not answer for so long within a step is lost
WAITING_DAYS = 30  # for the first, while it prepares images, validates or evaluates; if it ends, all see it at once
LEAST_IMAGES = 2  # of a batch in each process, as a batch norm needs

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ranks:
    """The processes that train one model together: this one is `rank` (0 … size-1), the first is 0.

    By default there is this process alone. Then nothing is exchanged, and every method returns what it is given.
    `device` is where all compute; empty if this process is alone.
    """

    rank: int = 0
    size: int = 1
    device: str = ""
    patient: Any = None  # the group in which the others wait for the first

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files, validates, and shows progress."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """The images of a batch that this process embeds: every `size`-th, so that it has images of many classes."""
        return slice(self.rank, None, self.size)

    def share(self, value: T) -> T:
        """Return the value of the first process in all."""
        if self.size == 1:
            return value
        values = [value if self.is_first else None]
        with self._explain():
            dist.broadcast_object_list(values, src=0, group=self.patient)
        return values[0]  # type: ignore[return-value]

    def ask_first(self, compute: Callable[[], T]) -> T:
        """Let the first process compute a value, and return it in all; of an error it alone shows the message."""
        if self.size == 1:
            return compute()
        value: T | None = None
        fault: PlanktonEmbedError | None = None
        if self.is_first:
            try:
                value = compute()
            except PlanktonEmbedError as error:
                fault = error
        value, failed = self.share((value, fault is not None))
        if fault is not None:
            raise fault
        if failed:
            raise SystemExit(1)
        return value  # type: ignore[return-value]

    def copy_from_first(self, *parts: nn.Module) -> None:
        """Copy all weights and buffers of the first process to the others."""
        if self.size == 1:
            return
        with self._explain(), torch.no_grad():
            for part in parts:
                for values in (*part.parameters(), *part.buffers()):
                    whole = values.detach().contiguous()
                    dist.broadcast(whole, src=0)
                    values.copy_(whole)

    def gather(self, vectors: Tensor, n: int) -> Tensor:
        """Return the vectors (n, d) of the whole batch; the gradient goes to those of this process, the given ones."""
        if self.size == 1:
            return vectors
        whole = vectors.new_zeros(n, vectors.shape[1])
        with self._explain(), torch.no_grad():
            whole[self.own] = vectors
            dist.all_reduce(whole)  # to each row all others add 0
        whole[self.own] = vectors
        return whole

    def combine(self, net: nn.Module, objective: nn.Module, loss: Tensor) -> Tensor:
        """Give all processes the gradient of the whole batch, and return its loss.

        Each has the gradient of the network by its own images: they are added up. The loss and the gradient of the
        proxies are of the whole batch in each: their mean is taken, so that they are equal to the last bit.
        """
        if self.size == 1:
            return loss
        of_net, of_all = ([p.grad for p in part.parameters() if p.grad is not None] for part in (net, objective))
        same = [*of_all, loss.detach().reshape(1)]
        parts = [*of_net, *same]
        flat = torch.cat([*(part.flatten() for part in of_net), *(part.flatten() / self.size for part in same)])
        with self._explain():
            dist.all_reduce(flat)
        for part, combined in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(combined.view_as(part))
        return parts[-1][0]

    def seed_step(self, *numbers: int) -> None:
        """Seed dropout from these numbers and the rank, so that no two processes drop the same."""
        if self.size > 1:
            seed = np.random.SeedSequence([*numbers, self.rank]).generate_state(1, np.uint64)[0]
            torch.manual_seed(int(seed))

    def synchronize_norms(self, net: nn.Module, device: torch.device) -> None:
        """Let the batch norms of a network on GPUs use the statistics of the whole batch (SyncBatchNorm).

        On processors each process uses those of its own images, as PyTorch has no other.
        """
        if self.size > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]

    def check_batch(self, n_images: int) -> None:
        """Raise a SettingError if a batch of so many images is too small for so many processes."""
        if self.size > 1 and n_images < LEAST_IMAGES * self.size:
            raise SettingError(
                f"batches of {n_images} images are too small for {self.size} processes, as each needs at least "
                f"{LEAST_IMAGES}; start at most {max(1, n_images // LEAST_IMAGES)} (--nproc-per-node), or set a higher "
                "training.classes_per_batch or training.batch_images_per_class"
            )

    def wait_for_all(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            with self._explain():
                dist.barrier(group=self.patient)

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Turn a fault of the exchange into an error with what to do."""
        try:
            yield
        except RuntimeError as error:
            raise PlanktonEmbedError(
                f"{_name(self.rank, self.size)}: another process of this training has ended, or has not answered for "
                f"{STEP_SECONDS / 60:g} minutes; its own message has the cause. {_HOW_TO_RESUME}"
            ) from error


ALONE = Ranks()
_HOW_TO_RESUME = (
    "If it was killed, the states on disk are good, and the same command with --resume continues, also with another "
    "number of processes"
)


def count_ranks() -> int:
    """Return the number of processes that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def refuse_ranks(command: str) -> None:
    """Raise a SettingError if torchrun has started several processes: only `train` shares its work among them."""
    if (size := count_ranks()) > 1:
        raise SettingError(
            f"{command} runs in one process; torchrun has started {size}. Only train shares its work among several: "
            f"torchrun --nproc-per-node {size} -m plankton_embed train CATALOG -o RUN"
        )


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, or be alone; they are together until the block ends in all.

    Messages of the library are shown by the first only, except errors.

    Args:
        device: `auto`, `cpu` or `cuda`. On GPUs every process takes its own, and gradients go by NCCL; else by Gloo.

    Raises:
        SettingError: there are fewer GPUs than processes, or the device is of another kind.
        PlanktonEmbedError: one of the processes has ended, or does not answer.
    """
    size = count_ranks()
    if size == 1:
        yield ALONE
        return
    rank = int(os.environ["RANK"])
    device = _choose_device(device)
    backend = "nccl" if device == "cuda" else "gloo"
    logger = logging.getLogger("plankton_embed")
    level = logger.level
    if rank:
        logger.setLevel(logging.ERROR)
    with _explain_stop(rank, size):
        try:
            with Ranks(rank, size)._explain():
                dist.init_process_group(backend, timeout=timedelta(seconds=STEP_SECONDS))
                patient = dist.new_group(backend="gloo", timeout=timedelta(days=WAITING_DAYS))
            ranks = Ranks(rank, size, device, patient)
            yield ranks
            ranks.wait_for_all()
            dist.destroy_process_group()
        except BaseException:
            if backend == "gloo" and dist.is_initialized():  # others see it at once; NCCL would wait for them
                dist.destroy_process_group()
            raise
        finally:
            logger.setLevel(level)


def _name(rank: int, size: int) -> str:
    return f"process {rank + 1} of {size}"


def _choose_device(device: str) -> str:
    """Return `cpu` or `cuda`; the GPU of this process becomes its current one."""
    name = device
    if device == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise SettingError(f"device: expected cpu or cuda with several processes; found {device}")
    if name == "cpu":
        return name
    local, n_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= n_gpus:
        raise SettingError(
            f"device: expected a GPU for each process of a machine; found {n_gpus} GPUs; start as many processes "
            "(--nproc-per-node), or add --device cpu"
        )
    torch.cuda.set_device(local)
    choose_device(name)
    return name


@contextmanager
def _explain_stop(rank: int, size: int) -> Iterator[None]:
    """Turn SIGTERM, with which torchrun ends the others when one has ended, into an error with what to do."""

    def stop(*_: object) -> None:
        raise PlanktonEmbedError(
            f"{_name(rank, size)}: stopped from outside, most often by torchrun because another process of this "
            f"training has ended; its own message has the cause. {_HOW_TO_RESUME}"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so that the error is still shown
        raise
    signal.signal(signal.SIGTERM, before)
