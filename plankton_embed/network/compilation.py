"""Compiles a network or a part of it, where that can be done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from plankton_embed.errors import SettingError
from plankton_embed.settings import Compile

logger = logging.getLogger(__name__)


def compile_module(module: nn.Module, compile: Compile, setting: str, **options: Any) -> Callable[..., Tensor]:
    """Return a compiled module; the first call compiles it, the backward pass included.

    Args:
        module: the module; it stays as it is.
        compile: `auto`: where it cannot be compiled, warn and use the module itself.
        setting: name of the setting, for the error.
        **options: of `torch.compile`.

    Raises:
        SettingError: in the first call: the module cannot be compiled, and `compile` is `on`.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to import
    from torch._functorch import config

    compiled: Any = torch.compile(module, **options)

    def forward(*inputs: Tensor) -> Tensor:
        nonlocal compiled
        if compiled is module:
            return compiled(*inputs)  # type: ignore[no-any-return]
        try:
            with config.patch(force_non_lazy_backward_lowering=True):
                return compiled(*inputs)  # type: ignore[no-any-return]
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n")[:2]).strip()
            if compile == "on":
                raise SettingError(
                    f"{setting}: the network cannot be compiled here ({reason}); leave it out"
                ) from error
            logger.warning("the network cannot be compiled here, and is used as it is: %s", reason)
            compiled = module
            return module(*inputs)  # type: ignore[no-any-return]

    return forward
