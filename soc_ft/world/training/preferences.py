"""Synthetic preferences: candidates for a prompt, with the utility of a simulated annotator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from soc_ft.world import drawing
from soc_ft.world.training import corruption

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import AutoencoderKL
    from omegaconf import DictConfig

    Damage = Callable[[Tensor, Tensor, torch.Generator], Tensor]

DAMAGES: dict[str, Damage] = {
    "blur": corruption.blur,
    "deformed": corruption.deform,
    "ragged": corruption.roughen,
    "noisy": corruption.add_noise,
}


@dataclass(frozen=True)
class Ballot:
    """Candidates for P prompts.

    Attributes:
        images: (P, M, 3, H, W) in [0, 1].
        utilities: (P, M), the annotator's; a difference of 1 is a preference of 73 %.
        prompts: the P prompts.
    """

    images: Tensor
    utilities: Tensor
    prompts: list[str]


def draw_ballot(config: DictConfig, seed: tuple[int, ...], vae: AutoencoderKL) -> Ballot:
    """Draw prompts and candidates that differ in truth, composition and drawing quality."""
    stage = config.preferences
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    prompts, candidates, utilities = [], [], []
    for _ in range(stage.prompts):
        wanted = drawing.sample_scene(rng)
        prompt = drawing.caption(wanted, rng)
        claims = drawing.mentioned_labels(wanted, prompt)
        prompts.append(prompt)
        scene = _candidate(claims, stage, rng)
        for number in range(stage.candidates):
            if number > 0 and rng.random() >= stage.twin_share:
                scene = _candidate(claims, stage, rng)
            candidates.append(scene)
            utilities.append(scene_utility(scene, claims, stage.penalty))
    images = torch.from_numpy(drawing.render(candidates))
    images, cost = _damage(images, stage, generator)
    images, redraw_cost = _redraw(images, vae, stage, generator)
    shape = stage.prompts, stage.candidates
    utility = torch.tensor(utilities) - cost - redraw_cost
    return Ballot(images.unflatten(0, shape), utility.view(shape), prompts)


def scene_utility(scene: drawing.Scene, claims: list[int], penalty: DictConfig) -> float:
    """What the annotator thinks of the content: truth first, then composition and contrast.

    Size and position count only where the prompt leaves them open (``claims`` of -1): then
    large and centred is preferred.
    """
    labels = drawing.labels(scene)
    wrong = sum(c >= 0 and c != label for c, label in zip(claims, labels, strict=True))
    utility = -penalty.wrong * wrong - penalty.contrast * (1.0 - scene.contrast)
    _, _, size, position, _ = claims
    if size < 0:
        utility -= penalty.small * (drawing.RADIUS["large"][1] - scene.radius) / 10.0
    if position < 0:
        middle = drawing.RESOLUTION / 2
        utility -= penalty.off_center * float(np.hypot(scene.x - middle, scene.y - middle)) / 20.0
    return utility


def _candidate(claims: list[int], stage: DictConfig, rng: np.random.Generator) -> drawing.Scene:
    """A scene that keeps what the prompt claims, apart from a few wrong attributes."""
    words = drawing.claimed_words(claims)
    wrong = rng.choice(len(stage.wrong_share), p=list(stage.wrong_share))
    for name in rng.permutation(sorted(words))[:wrong]:
        words[name] = str(rng.choice(drawing.alternatives(words, name)))
    if rng.random() < stage.swap_share and wrong:
        words = _swapped(words)
    return drawing.sample_scene(rng, words, contrast=tuple(stage.contrast))


def _swapped(words: dict[str, str]) -> dict[str, str]:
    """Exchange the colours of shape and background where both names exist."""
    color, background = words["color"], words["background"]
    if color in drawing.ATTRIBUTES["background"] and background in drawing.ATTRIBUTES["color"]:
        return words | {"color": background, "background": color}
    return words


def _severity(count: int, share: float, generator: torch.Generator) -> Tensor:
    present = torch.rand(count, generator=generator) < share
    return present * torch.rand(count, generator=generator)


def _damage(images: Tensor, stage: DictConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Damaged pictures and what the damage costs them."""
    cost = torch.zeros(len(images))
    for name, damage in DAMAGES.items():
        severity = _severity(len(images), stage.damage_share, generator)
        images = damage(images, severity, generator)
        cost = cost + stage.penalty[name] * severity
    return images, cost


@torch.no_grad()
def _redraw(
    images: Tensor, vae: AutoencoderKL, stage: DictConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Some pictures as the autoencoder draws them from disturbed latents, and the cost."""
    cost = torch.zeros(len(images))
    rows = torch.randperm(len(images), generator=generator)[: stage.redrawn]
    latents = vae.encode(2.0 * images[rows] - 1.0).latent_dist.mode()
    severity = _severity(len(rows), 0.7, generator)
    noise = torch.randn(latents.shape, generator=generator) / vae.config.scaling_factor
    latents = latents + severity.view(-1, 1, 1, 1) * noise * stage.latent_noise
    images = images.clone()
    images[rows] = (vae.decode(latents).sample * 0.5 + 0.5).clamp(0.0, 1.0)
    cost[rows] = stage.penalty.latent * severity
    return images, cost
