"""Embeds batches of images as fast as the device allows: norms folded into convolutions, bfloat16, compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError
from torch.nn import functional

from plankton_embed.errors import SettingError
from plankton_embed.images.views import VIEWS, check_views, turn_view
from plankton_embed.network.batches import LEAST_BATCH, Batch, choose_cpu_batch_size, fill_up
from plankton_embed.network.compilation import compile_module
from plankton_embed.network.device import autocast, resolve_precision
from plankton_embed.network.embedding_net import EmbeddingNet
from plankton_embed.output import progress_bar
from plankton_embed.settings import Compile, Precision

logger = logging.getLogger(__name__)

COMPILE_FROM = 300_000  # images from which `auto` compiles (see `docs/measurements.md`)
GPU_BYTES = 400  # memory that a pixel takes on a GPU in inference, generously
EVEN = 16  # rows and columns of a block of a matrix product
MOST_ON_GPU = 512  # images of a batch


def embed_batches(
    net: EmbeddingNet,
    batches: Iterable[Batch],
    n: int,
    batch_size: int,
    n_views: int = 1,
    precision: Precision = "auto",
    compile: Compile = "auto",
    progress: bool = False,
    features: bool = False,
) -> NDArray[np.float32]:
    """Embed n images: float32 (n, d).

    Equal images have equal vectors, to the last bit, in every call with the same batch size.

    Args:
        net: the network.
        batches: prepared pixels, uint8 (b, T, T, channels), with their `log_sides`, float32 (b, 2).
        n: images in all.
        batch_size: images at a time; a batch of fewer is filled up, so that all round in the same way.
        n_views: views of each image to average (see `images.views`).
        precision: `auto` (bfloat16 if the device computes fast with it), `bfloat16` or `float32`.
        compile: compile the network first: `on`, `off`, or `auto` (from COMPILE_FROM images on).
        progress: show a bar.
        features: return the input of the head instead, float32 (n, views, features), for `embed_features`; the network
            is not compiled then.
    """
    device = net.head.weight.device
    fast = prepare_for_inference(net, precision)
    forward: Callable[..., Tensor] = fast.extract_features if features else fast
    if should_compile(compile, n) and not features:
        forward = compile_module(fast, compile, "compile", options={"freezing": True})
    # on the device to the end, so that no batch waits for the one before it; in one piece, because small pieces all
    # over the memory would keep the system from using it again
    shape = (len(VIEWS[n_views]), net.head.in_features) if features else (net.head.out_features,)
    vectors = torch.empty(n, *shape, device=device)
    with torch.inference_mode(), progress_bar(n, "embedding", "image", shown=progress) as bar:
        at = 0
        for pixels, sides in batches:
            images, their_sides = (_move(fill_up(array, batch_size), device) for array in (pixels, sides))
            images = images.permute(0, 3, 1, 2)
            with autocast(device, precision):
                seen = torch.stack([forward(turn_view(images, view), their_sides) for view in VIEWS[n_views]])
            here = slice(at, at := at + len(pixels))
            vectors[here] = (seen.transpose(0, 1) if features else _average(net, seen))[: len(pixels)]
            bar.update(len(pixels))
        return vectors[:at].cpu().numpy()


def embed_features(net: EmbeddingNet, features: NDArray[np.float32], batch_size: int) -> NDArray[np.float32]:
    """Return the vectors of images from the features that `embed_batches` returned for them, float32 (n, d).

    With the same batch size they are equal, to the last bit, to those that `embed_batches` computes from the images.
    """
    head, device = _EvenLinear(deepcopy(net.head)), net.head.weight.device
    vectors = np.empty((len(features), net.head.out_features), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(features), batch_size):
            part = features[start : start + batch_size]
            views = _move(fill_up(part, batch_size), device).unbind(1)
            seen = torch.stack([net.scale_output(head(view)) for view in views])
            vectors[start : start + len(part)] = _average(net, seen)[: len(part)].cpu().numpy()
    return vectors


def _average(net: EmbeddingNet, seen: Tensor) -> Tensor:
    """Return the mean over views of the outputs of a net, (views, b, d)."""
    mean = seen.mean(0)
    return functional.normalize(mean, dim=1) if net.output == "unit" else mean


def prepare_for_inference(net: EmbeddingNet, precision: Precision) -> EmbeddingNet:
    """Return a copy of a net that embeds faster; its vectors differ by rounding only.

    Batch norms that follow a convolution become part of its weights (Jacob et al. 2018, arXiv 1712.05877). In bfloat16,
    the weights of convolutions and linear layers are stored in it. The first convolution stays in float32: its input is
    mostly background of one grey level, and rounding would change all of it in the same direction.
    """
    fast = deepcopy(net).eval()
    if any(isinstance(layer, nn.BatchNorm2d) for layer in fast.trunk.modules()):
        try:
            fast.trunk = fuse(fast.trunk)
        except (TraceError, TypeError, RuntimeError, AttributeError, ValueError):  # with control flow
            logger.info("the batch norms of this trunk cannot be folded into its convolutions")
    if resolve_precision(fast.head.weight.device, precision) == "bfloat16":
        layers = [(name, part) for name, part in fast.trunk.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        for number, (name, layer) in enumerate(layers):
            if number == 0 and isinstance(layer, nn.Conv2d):
                fast.trunk.set_submodule(name, _InFloat32(layer))
            else:
                layer.bfloat16()
    fast.head = _EvenLinear(fast.head)  # type: ignore[assignment]
    return fast.to(memory_format=torch.channels_last)


class _EvenLinear(nn.Module):
    """A linear layer that computes equal rows equally, to the last bit.

    A matrix product computes the rows and columns that are left over by its blocks in another order. Here zeros fill
    both up to multiples of EVEN, of which no blocks leave anything over.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = layer
        layer.weight = nn.Parameter(functional.pad(layer.weight.detach(), (0, -layer.in_features % EVEN)))

    def forward(self, inputs: Tensor) -> Tensor:
        n, n_features = inputs.shape
        outputs: Tensor = self.layer(functional.pad(inputs, (0, -n_features % EVEN, 0, -n % EVEN)))
        return outputs[:n]


class _InFloat32(nn.Module):
    """A layer that computes in float32 and returns bfloat16."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            outputs: Tensor = self.layer(inputs.float())
        return outputs.bfloat16()


def choose_batch_size(side: int, device: torch.device, given: int | None = None) -> int:
    """Return how many square images of this side are embedded at a time: the given number, or one that is fast.

    Raises:
        SettingError: the given number is under 1.
    """
    if given is None and device.type == "cuda":
        return int(np.clip(torch.cuda.mem_get_info(device)[0] // (GPU_BYTES * side**2), LEAST_BATCH, MOST_ON_GPU))
    return choose_cpu_batch_size(side, given)


def check_options(n_views: int, precision: Precision, compile: Compile) -> None:
    """Raise a SettingError if one of these options of embedding is unknown; for callers with long work before it."""
    check_views(n_views)
    resolve_precision(torch.device("cpu"), precision)
    should_compile(compile, 0)


def should_compile(compile: Compile, n_images: int) -> bool:
    """Return whether to compile a net for this number of images."""
    if compile not in get_args(Compile):
        raise SettingError(f"compile: expected {', '.join(get_args(Compile))}; found {compile!r}")
    return compile == "on" or (compile == "auto" and n_images >= COMPILE_FROM)


def _move(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
