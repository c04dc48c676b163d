"""What the networks of the embedded world that see pictures have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F


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


def network_pixels(images: Tensor, resolution: int) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] as the networks take them: (B, 3, R, R) in [-1, 1]."""
    size = (resolution, resolution)
    if images.shape[-2:] != size:
        images = F.interpolate(images, size, mode="bicubic", antialias=True)
    return 2.0 * images - 1.0


def save_network(network: nn.Module, description: dict[str, Any], folder: Path) -> None:
    """Write weights, float16, and what the network is built from to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict().items()
    weights = {name: v.half().contiguous() for name, v in state if v.is_floating_point()}
    save_file(weights, folder / "model.safetensors")
    text = json.dumps(description, indent=2, default=str)
    (folder / "config.json").write_text(text + "\n")
