"""The web of the embedded model's world: what its base model was pretrained on.

As with the pictures of the real one, a minority is well drawn and most are mediocre or bad, and
captions are right, incomplete, or wrong in one word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from soc_ft.world import defects, drawing, scenes

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class WebPictures:
    """Pictures of the web with what the generator knows of them.

    Attributes:
        images: (B, 3, 64, 64) in [0, 1].
        captions: B texts, not all of them true.
        scenes: what was painted.
        severities: (B, 8) of their defects, in the order of ``defects.COSTS``.
    """

    images: Tensor
    captions: list[str]
    scenes: list[scenes.Scene]
    severities: Tensor


def sample(web: DictConfig, count: int, seed: Iterable[int]) -> WebPictures:
    """Draw ``count`` pictures, a pure function of the seed.

    Args:
        web: the mixture, ``web`` of ``conf/world.yaml``.
        count: how many.
        seed: several numbers.
    """
    rng = np.random.default_rng(list(seed))
    drawn = [draw_scene(web, rng) for _ in range(count)]
    painted = [scene for scene, _ in drawn]
    severities = torch.tensor([severity for _, severity in drawn], dtype=torch.float32)
    return WebPictures(
        images=paint(painted, severities, rng),
        captions=[web_caption(web, scene, rng) for scene in painted],
        scenes=painted,
        severities=severities,
    )


def paint(painted: list[scenes.Scene], severities: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures (B, 3, 64, 64) of scenes, spoilt by ``severities`` (B, 8)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    images = torch.from_numpy(drawing.render(painted))
    return defects.spoil_pictures(images, severities, generator)


def draw_scene(
    web: DictConfig, rng: np.random.Generator, words: dict[str, str] | None = None
) -> tuple[scenes.Scene, list[float]]:
    """A scene with defects of the mixture, and their severities.

    Args:
        web: the mixture.
        rng: what is not given is drawn from it.
        words: attributes that are kept; a defect that they rule out is then left out.
    """
    severity = draw_severities(web, rng)
    wanted = dict(words or {})
    if severity.get("tiny"):
        wanted.setdefault("size", "small")
    if severity.get("cut"):
        sides = [place for place in scenes.ATTRIBUTES["position"] if place != "center"]
        wanted.setdefault("position", str(rng.choice(sides)))
    scene, real = defects.spoil_scene(scenes.sample_scene(rng, wanted), severity, rng)
    return scene, list(real.values())


def draw_severities(web: DictConfig, rng: np.random.Generator) -> dict[str, float]:
    """Severities of the defects of one picture, by kind; what is not named is absent."""
    grades = list(web.grades.values())
    shares = np.array([grade.share for grade in grades])
    grade = grades[int(rng.choice(len(grades), p=shares / shares.sum()))]
    least, most = grade.defects
    kinds = rng.choice(list(defects.COSTS), int(rng.integers(least, most + 1)), replace=False)
    return {str(kind): float(rng.uniform(*grade.severity)) for kind in kinds}


def web_caption(web: DictConfig, scene: scenes.Scene, rng: np.random.Generator) -> str:
    """A caption as the web has them: right, incomplete, or wrong in one attribute."""
    draw = rng.random()
    if draw < web.wrong_captions:
        return scenes.caption(
            scenes.altered(scene, str(rng.choice(list(scenes.ATTRIBUTES))), rng), rng
        )
    return scenes.caption(scene, rng, complete=draw >= web.wrong_captions + web.incomplete_captions)
