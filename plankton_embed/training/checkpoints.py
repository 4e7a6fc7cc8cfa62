"""Training states and weights on disk: written whole or not at all, and read without executing code."""

from __future__ import annotations

import logging
import pickle
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from plankton_embed.errors import InputError, OutputError
from plankton_embed.output import write_atomically
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import TrainingSettings

logger = logging.getLogger(__name__)


class Checkpoints:
    """The states and weights of one training below `run.checkpoints`, and when the next state is due.

    Of several processes that train together, one `writes`.
    """

    def __init__(self, run: RunFolder, settings: TrainingSettings, writes: bool = True):
        self.run, self.settings, self.writes = run, settings, writes
        self._written = time.monotonic()
        for scratch in run.checkpoints.glob(".*") if writes else ():  # what a killed process was writing
            shutil.rmtree(scratch, ignore_errors=True)

    @property
    def states(self) -> list[Path]:
        """The training states, oldest first."""
        return sorted(self.run.checkpoints.glob("state-*.pt"))

    def is_due(self) -> bool:
        """Return whether this process writes, and `checkpoint_minutes` have passed since the last state was written."""
        return self.writes and time.monotonic() - self._written >= 60 * self.settings.checkpoint_minutes

    def save_state(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        """Write the state from which that step of that epoch continues; keep the newest `keep_checkpoints` only."""
        save_checkpoint(self.run.training_state(epoch, step), state)
        for old in self.states[: -self.settings.keep_checkpoints]:
            old.unlink(missing_ok=True)
        self._written = time.monotonic()

    def load_state(self) -> dict[str, Any] | None:
        """Read the newest state that can be read; None where there is none.

        Raises:
            InputError: there are states, and none can be read.
        """
        faults: list[tuple[Path, InputError]] = []
        for path in reversed(self.states):
            try:
                state = load_checkpoint(path)
            except InputError as error:
                faults.append((path, error))
                continue
            for faulty, fault in faults:
                logger.warning("%s; it is deleted, and training continues from the state before it", fault)
                faulty.unlink(missing_ok=True)
            return state
        if faults:
            raise InputError(f"{faults[0][1]}; train again (--overwrite)") from faults[0][1]
        return None

    def save_weights(self, epoch: int, net: nn.Module) -> None:
        """Write the weights after an epoch."""
        path = self.run.epoch_weights(epoch)
        weights = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
        with write_atomically(path) as temporary:
            try:
                safetensors.torch.save_file(weights, temporary)
            except SafetensorError as error:
                raise OutputError(f"cannot write {path}: {error}") from error

    def load_weights(self, epoch: int, net: nn.Module) -> None:
        """Load the weights of an epoch into a net; InputError when they cannot be read."""
        load_weights(self.run.epoch_weights(epoch), net)

    def drop_weights(self, best: int) -> None:
        """Delete the weights of all epochs but the best, unless every epoch is kept."""
        if not self.settings.keep_every_epoch:
            for epoch, path in self.run.kept_epochs().items():
                if epoch != best:
                    path.unlink(missing_ok=True)


def load_weights(path: Path, net: nn.Module) -> None:
    """Load saved weights into a net; InputError when they cannot be read."""
    try:
        net.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as weights: {error}; train again (--overwrite)") from error


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state (tensors, numbers, text, lists and dictionaries of them)."""
    with write_atomically(path) as temporary:
        try:
            torch.save(state, temporary)
        except (OSError, RuntimeError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a state onto the CPU.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()  # torch.load compares no checksum
        state = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else None
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is not a readable checkpoint: {error}") from error
    if damaged is not None:
        raise InputError(f"{path} is not a readable checkpoint: its part {damaged} is damaged")
    if not isinstance(state, dict):
        raise InputError(f"{path} is not a readable checkpoint: expected a dictionary, found {type(state).__name__}")
    return state
