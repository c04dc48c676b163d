"""The convolutions that every network of the embedded world sees pictures through."""

from __future__ import annotations

from torch import nn


def picture_trunk(channels: list[int], features: int, resolution: int) -> nn.Sequential:
    """Features (B, F) of pictures (B, 3, R, R) in [-1, 1].

    The last map is flattened, not pooled: where things are is part of what a picture shows.

    Args:
        channels: of the stages, each of which halves height and width.
        features: F.
        resolution: R.
    """
    layers: list[nn.Module] = []
    for width, wider in zip([3, *channels], channels, strict=False):
        layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
    side = resolution // 2 ** len(channels)
    flat = nn.Linear(channels[-1] * side**2, features)
    return nn.Sequential(*layers, nn.Flatten(), flat, nn.SiLU())
