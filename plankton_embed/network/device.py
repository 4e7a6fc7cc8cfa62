"""The device that computes, and its precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import get_args

import torch

from plankton_embed.errors import SettingError
from plankton_embed.settings import Precision


def choose_device(name: str = "auto") -> torch.device:
    """Return the device to use: `auto` takes cuda, then mps, then cpu.

    Raises:
        SettingError: the device is unknown or not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {name!r} cannot be used here ({reason}); try auto or cpu") from error
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether matrix products on the device are faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))  # T4, V100 and RTX 20 only emulate it
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def skips_on_device(device: torch.device) -> bool:
    """Return whether PyTorch's fused optimizers skip a step where `found_inf` is set; on `mps` they do not."""
    return device.type in ("cpu", "cuda")


def resolve_precision(device: torch.device, precision: Precision) -> Precision:
    """Return bfloat16 or float32: what `auto` means on this device.

    Raises:
        SettingError: the precision is unknown.
    """
    if precision not in get_args(Precision):
        raise SettingError(f"precision: expected {', '.join(get_args(Precision))}; found {precision!r}")
    if precision == "auto":
        return "bfloat16" if has_fast_bfloat16(device) else "float32"
    return precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which the network computes in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(device, precision) == "bfloat16")
