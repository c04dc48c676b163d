"""Defects of known severity, for preferences between well and badly drawn pictures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WARP_PIXELS = 5.0
RAGGED_PIXELS = 3.0
NOISE_STD = 0.2
BLUR_PIXELS = 3.0


def deform(pictures: Tensor, severity: Tensor, generator: torch.Generator) -> Tensor:
    """Bend outlines by a smooth displacement of up to ``WARP_PIXELS * severity``."""
    return _displace(pictures, severity * WARP_PIXELS, 5, generator)


def roughen(pictures: Tensor, severity: Tensor, generator: torch.Generator) -> Tensor:
    """Make outlines ragged by a displacement that changes every few pixels."""
    return _displace(pictures, severity * RAGGED_PIXELS, 20, generator)


def add_noise(pictures: Tensor, severity: Tensor, generator: torch.Generator) -> Tensor:
    """Add pixel noise of standard deviation ``NOISE_STD * severity``."""
    noise = torch.randn(pictures.shape, generator=generator)
    return (pictures + NOISE_STD * severity.view(-1, 1, 1, 1) * noise).clamp(0.0, 1.0)


def blur(pictures: Tensor, severity: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur of standard deviation ``BLUR_PIXELS * severity`` pixels."""
    reach = torch.arange(-6, 7, dtype=pictures.dtype)
    std = (BLUR_PIXELS * severity).clamp(min=0.1).view(-1, 1)
    kernel = torch.softmax(-0.5 * (reach / std) ** 2, dim=-1)
    count, channels, height, width = pictures.shape
    kernel = kernel.repeat_interleave(channels, 0)
    rows = F.pad(pictures, (6, 6, 6, 6), mode="replicate").reshape(
        1, count * channels, height + 12, width + 12
    )
    rows = F.conv2d(rows, kernel[:, None, :, None], groups=count * channels)
    rows = F.conv2d(rows, kernel[:, None, None, :], groups=count * channels)
    return rows.reshape(count, channels, height, width)


def _displace(pictures: Tensor, pixels: Tensor, knots: int, generator: torch.Generator) -> Tensor:
    """Resample along a random displacement field given on ``knots`` x ``knots`` points."""
    count, _, height, width = pictures.shape
    field = torch.rand((count, 2, knots, knots), generator=generator) * 2.0 - 1.0
    field = F.interpolate(field, (height, width), mode="bicubic", align_corners=True)
    field = field * pixels.view(-1, 1, 1, 1) * (2.0 / width)
    identity = torch.eye(2, 3).expand(count, 2, 3)
    grid = F.affine_grid(identity, list(pictures.shape), align_corners=False)
    return F.grid_sample(
        pictures,
        grid + field.permute(0, 2, 3, 1),
        padding_mode="border",
        align_corners=False,
    )
