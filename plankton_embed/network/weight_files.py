"""Files of weights in safetensors: each array as small as it can be without changing a value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

SCALE = ".int8_scale"  # after the name of weights in int8: the array with the scale of each output channel
HIGHEST = 127  # of the whole numbers of a channel in int8, of either sign


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights; float32 values are stored in int8 or bfloat16 where that changes none of them.

    In int8, `NAME` has whole numbers of -127 to 127, and `NAME.int8_scale` what those of each output channel (the first
    axis) are multiplied by.
    """
    stored: dict[str, Tensor] = {}
    for name, value in weights.items():
        stored |= _shorten(name, value)
    safetensors.torch.save_file({name: value.cpu().contiguous() for name, value in stored.items()}, path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, of any program; those that `write_weights` stored in int8 are float32 again.

    Raises:
        OSError, safetensors.SafetensorError, ValueError: the file cannot be read.
    """
    return restore_int8(safetensors.torch.load_file(path))


def restore_int8(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in which those that `write_weights` stored in int8 are float32 again.

    Raises:
        ValueError: a scale does not fit its weights.
    """
    weights = dict(stored)
    for name in [name for name, value in stored.items() if value.dtype == torch.int8 and name + SCALE in stored]:
        whole, scale = stored[name], weights.pop(name + SCALE)
        if scale.shape != whole.shape[:1]:
            expected, found = tuple(whole.shape[:1]), tuple(scale.shape)
            raise ValueError(f"{name}{SCALE}: expected a scale for each output channel {expected}, found {found}")
        if not (scale.is_floating_point() and scale.isfinite().all() and (scale > 0).all()):
            raise ValueError(f"{name}{SCALE}: expected scales that are fractions, finite and above 0")
        weights[name] = whole * scale.float().reshape(*scale.shape, *[1] * (whole.ndim - 1))
    return weights


def find_scale(weights: Tensor) -> Tensor:
    """Return the scale at which the largest weight of each output channel is 127, (channels, 1, …); 1 if all are 0."""
    scale = weights.abs().amax(dim=tuple(range(1, weights.ndim)), keepdim=True) / HIGHEST
    return scale.where(scale > 0, 1)


def to_int8(weights: Tensor, scale: Tensor) -> Tensor:
    """Return weights as whole numbers of -127 to 127, int8, which times the scale are close to them."""
    return (weights / scale).round().clamp(-HIGHEST, HIGHEST).to(torch.int8)


def _shorten(name: str, values: Tensor) -> dict[str, Tensor]:
    """Return the arrays that are stored for these weights, by name."""
    if values.dtype != torch.float32:
        return {name: values}
    if values.ndim > 1 and values.numel():
        scale = find_scale(values)
        whole = to_int8(values, scale)
        if _is_same(values, whole * scale):
            return {name: whole} | _shorten(name + SCALE, scale.flatten())
    short = values.bfloat16()
    return {name: short if _is_same(values, short.float()) else values}


def _is_same(values: Tensor, others: Tensor) -> bool:
    """Return whether float32 values have the same bits; of a zero, the hash of a model knows the sign."""
    return torch.equal(values.view(torch.int32), others.view(torch.int32))
