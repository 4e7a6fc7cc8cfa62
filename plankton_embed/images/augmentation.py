"""Training-time augmentation, drawn anew for each image and applied to the whole batch on its device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from plankton_embed.images.views import FIRST_MIRRORED
from plankton_embed.settings import AugmentationSettings

WHOLE = slice(None)


def augment(
    images: Tensor,
    background: Tensor,
    views: Tensor,
    settings: AugmentationSettings,
    generator: torch.Generator,
    part: slice = WHOLE,
) -> Tensor:
    """Turn, mirror, zoom, stretch, shift and brighten each image in its own way.

    Args:
        images: float (b, channels, T, T), 0-255.
        background: float (b, channels), the fill of the borders that open up.
        views: int, the view that each image of the whole batch is turned to first (see `images.views`).
        settings: limits of the changes.
        generator: the source of chance, on the CPU.
        part: which images of the whole batch these are; each is changed as it is in the whole batch.

    Returns:
        float (b, channels, T, T), 0-255.
    """
    matrices = _draw_matrices(views.cpu(), settings, generator)[part].to(images.device, non_blocking=True)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False).to(images.dtype)
    fill = background[:, :, None, None]
    moved = functional.grid_sample(images - fill, grid, "bilinear", "zeros", align_corners=False)
    light = _uniform(2, len(views), settings.brightness, generator)[:, part]
    contrast, brightness = light.to(images.device, non_blocking=True)
    moved = moved * (1 + contrast)[:, None, None, None] + fill
    brightened: Tensor = moved + 255 * 0.5 * brightness[:, None, None, None]
    return brightened.clamp(0, 255)


def _draw_matrices(views: Tensor, settings: AugmentationSettings, generator: torch.Generator) -> Tensor:
    """Return (b, 2, 3) affine matrices that map each output pixel to its place in the image."""
    n = len(views)
    mirror = torch.where(views >= FIRST_MIRRORED, -1.0, 1.0)
    if settings.flip:
        mirror = mirror * (torch.randint(0, 2, (n,), generator=generator) * 2 - 1)
    (turn,) = _uniform(1, n, settings.rotation, generator)
    angle = torch.deg2rad(turn) + (views % FIRST_MIRRORED) * (math.pi / 2)
    (zoom,) = _uniform(1, n, settings.zoom, generator)
    (stretch,) = torch.exp(_uniform(1, n, math.log1p(settings.stretch), generator))
    shift = _uniform(2, n, 2 * settings.shift, generator)
    cosine, sine = torch.cos(angle) / (1 + zoom), torch.sin(angle) / (1 + zoom)
    across, along = mirror * stretch, 1 / stretch
    rows = [across * cosine, -along * sine, shift[0], across * sine, along * cosine, shift[1]]
    return torch.stack(rows, dim=1).reshape(n, 2, 3)


def _uniform(rows: int, n: int, limit: float, generator: torch.Generator) -> Tensor:
    """Return (rows, n) numbers between -limit and limit."""
    return (torch.rand(rows, n, generator=generator) * 2 - 1) * limit
