"""Painting the pictures of the embedded model's world.

Edges are antialiased by a signed distance to the outline, so that every quantity of a scene
varies the picture continuously.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from soc_ft.world.scenes import EXTENT, RESOLUTION, Scene, Speck, caption, sample_scene


def render(scenes: Sequence[Scene]) -> NDArray[np.float32]:
    """Paint scenes.

    Args:
        scenes: B of them, of any shapes.

    Returns:
        (B, 3, 64, 64) pictures in [0, 1].
    """
    back = np.array([scene.background_rgb for scene in scenes], dtype=np.float32)
    pictures = np.tile(back[:, :, None, None], (1, 1, RESOLUTION, RESOLUTION))
    for picture, scene in zip(pictures, scenes, strict=True):
        for speck in scene.specks:
            cover = _cover(speck.shape, [speck])[0]
            picture += cover * (np.array(speck.rgb, dtype=np.float32)[:, None, None] - picture)
    kinds = np.array([scene.shape for scene in scenes])
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind).tolist()
        alike = [scenes[row] for row in rows]
        contrast = np.array([scene.contrast for scene in alike], dtype=np.float32)
        cover = _cover(kind, alike)[:, None]
        front = np.array([scene.color_rgb for scene in alike], dtype=np.float32)
        painted = back[rows] + contrast[:, None] * (front - back[rows])
        pictures[rows] += cover * (painted[:, :, None, None] - pictures[rows])
    return pictures


def sample(
    count: int, seed: Iterable[int] | int, **options: object
) -> tuple[NDArray[np.float32], list[str], list[Scene]]:
    """Draw ``count`` captioned pictures without defects, a pure function of the seed.

    Args:
        count: how many.
        seed: one number or several.
        options: of :func:`soc_ft.world.scenes.sample_scene`.

    Returns:
        Pictures (count, 3, 64, 64) in [0, 1], their captions and their scenes.
    """
    rng = np.random.default_rng(seed if isinstance(seed, int) else list(seed))
    scenes = [sample_scene(rng, **options) for _ in range(count)]  # type: ignore[arg-type]
    return render(scenes), [caption(scene, rng) for scene in scenes], scenes


def _cover(shape: str, outlines: Sequence[Scene | Speck]) -> NDArray[np.float32]:
    """Share (B, 64, 64) of each pixel that lies within outlines of one shape."""
    column = np.array([(each.x, each.y, each.radius) for each in outlines], dtype=np.float32)
    x0, y0, radius = column.T[:, :, None, None]
    pixel = np.arange(RESOLUTION, dtype=np.float32) + 0.5
    x, y = pixel[None, None, :] - x0, pixel[None, :, None] - y0
    distance = signed_distance(shape, x / radius, y / radius) * radius
    return np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)


def signed_distance(
    shape: str, x: NDArray[np.floating], y: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Signed distance (negative inside) to a shape of radius 1 centred at 0, y pointing down.

    Exact for the circle; elsewhere a bound that is exact along the edges, which is what
    antialiasing needs.
    """
    extent = EXTENT[shape]
    if shape == "circle":
        return np.sqrt(x * x + y * y) - 1.0
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - extent
    if shape == "cross":
        width = 0.4
        upright = np.maximum(np.abs(x) - width, np.abs(y) - extent)
        return np.minimum(upright, np.maximum(np.abs(y) - width, np.abs(x) - extent))
    if shape == "triangle":
        height = extent * 0.5 * np.sqrt(3.0)
        slope = np.abs(x) * np.sqrt(0.8) - (y + height) * np.sqrt(0.2)
        return np.maximum(slope, y - height).astype(np.float32)
    return _star_distance(x, y, outer=extent, inner=0.5 * extent)


def _star_distance(
    x: NDArray[np.floating], y: NDArray[np.floating], outer: float, inner: float
) -> NDArray[np.floating]:
    """Distance to a five-pointed star: fold the plane onto one tip, then one edge."""
    sector = 2.0 * np.pi / 5.0
    angle = np.arctan2(x, -y)
    folded = np.abs(np.mod(angle + sector / 2, sector) - sector / 2)
    length = np.sqrt(x * x + y * y)
    along, across = length * np.cos(folded), length * np.sin(folded)
    dent = inner * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    edge = dent - np.array([outer, 0.0])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return ((along - outer) * normal[0] + across * normal[1]).astype(np.float32)
