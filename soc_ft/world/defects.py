"""The ways in which a picture of the embedded model's world can be badly drawn.

Each has a severity in [0, 1]. Some change the scene before it is painted, the others the painted
picture. What they cost together is the picture's quality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from soc_ft.world.scenes import EXTENT, PALETTE, RADIUS, RESOLUTION, SHAPES, Scene, Speck

COSTS: dict[str, float] = {
    "blur": 1.5,
    "noise": 1.2,
    "ragged": 1.2,
    "bent": 1.2,
    "faint": 1.5,
    "clutter": 1.2,
    "cut": 1.5,
    "tiny": 1.2,
}
"""Every kind of defect with what it costs at severity 1; severities have this order."""

GOOD = 0.6
"""Quality from which a picture counts as well drawn."""

BENT_PIXELS, BENT_KNOTS = 4.0, 5
RAGGED_PIXELS, RAGGED_KNOTS = 6.0, 12
NOISE_STD = 0.2
BLUR_PIXELS = 3.0
FAINTEST = 0.25
LEAST_RADIUS = 5.0
MOST_SPECKS = 4


def quality(severities: Tensor) -> Tensor:
    """Quality (B,) in (0, 1] of pictures with these severities (B, 8): exp of minus their cost."""
    return torch.exp(-cost(severities))


def cost(severities: Tensor) -> Tensor:
    """What defects of these severities (B, 8) cost, (B,), in the units of ``COSTS``."""
    return severities @ torch.tensor(list(COSTS.values()))


def spoil_scene(
    scene: Scene, severity: Mapping[str, float], rng: np.random.Generator
) -> tuple[Scene, dict[str, float]]:
    """Make a scene faint, cluttered, cut off or tiny.

    Args:
        scene: what is spoilt; its words stay true.
        severity: by kind of defect; missing ones are 0.
        rng: places what clutters.

    Returns:
        The scene, and the severities that it has: only a small shape can become tiny, and only
        one that is not in the centre can be cut off.
    """
    real = {name: float(severity.get(name, 0.0)) for name in COSTS}
    real["tiny"] *= scene.size == "small"
    real["cut"] *= scene.position != "center"
    radius = scene.radius + real["tiny"] * (LEAST_RADIUS - RADIUS["small"][0])
    x, y = _pushed_out(scene, real["cut"] * radius * EXTENT[scene.shape])
    specks = [_speck(scene, real["clutter"], rng) for _ in range(_specks(real["clutter"]))]
    contrast = scene.contrast * (1.0 - (1.0 - FAINTEST) * real["faint"])
    spoilt = replace(scene, radius=radius, x=x, y=y, contrast=contrast, specks=tuple(specks))
    return spoilt, real


def spoil_pictures(pictures: Tensor, severities: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, bend and roughen pictures (B, 3, 64, 64) and add noise; severities are (B, 8)."""
    for name, spoil in OF_PICTURES.items():
        severity = severities[:, list(COSTS).index(name)]
        rows = severity.nonzero().squeeze(1)
        if len(rows):
            pictures = pictures.index_copy(
                0, rows, spoil(pictures[rows], severity[rows], generator)
            )
    return pictures


def _pushed_out(scene: Scene, pixels: float) -> tuple[float, float]:
    """The centre of a scene moved towards the border that it stands at."""
    x = {"left": -pixels, "right": pixels}.get(scene.position, 0.0)
    y = {"top": -pixels, "bottom": pixels}.get(scene.position, 0.0)
    return scene.x + x, scene.y + y


def _specks(severity: float) -> int:
    return round(MOST_SPECKS * severity + 0.5) if severity > 0.0 else 0


def _speck(scene: Scene, severity: float, rng: np.random.Generator) -> Speck:
    color = str(rng.choice([name for name in PALETTE if name != scene.background]))
    x, y = rng.uniform(3.0, RESOLUTION - 3.0, 2)
    return Speck(
        shape=SHAPES[int(rng.integers(len(SHAPES)))],
        radius=float(rng.uniform(2.5, 3.5) + 2.5 * severity),
        x=float(x),
        y=float(y),
        rgb=PALETTE[color],
    )


def bend(pictures: Tensor, severity: Tensor, generator: torch.Generator) -> Tensor:
    """Bend outlines by a smooth displacement of up to ``BENT_PIXELS * severity``."""
    return _displace(pictures, severity * BENT_PIXELS, BENT_KNOTS, generator)


def roughen(pictures: Tensor, severity: Tensor, generator: torch.Generator) -> Tensor:
    """Make outlines ragged by a displacement that changes every few pixels."""
    return _displace(pictures, severity * RAGGED_PIXELS, RAGGED_KNOTS, generator)


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


OF_PICTURES: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "bent": bend,
    "ragged": roughen,
    "blur": blur,
    "noise": add_noise,
}
"""The kinds that change the painted picture, in the order in which they are applied."""
