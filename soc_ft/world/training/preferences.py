"""Synthetic preferences: candidates for a prompt, and the choices of simulated annotators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from soc_ft.world import defects, scenes, web

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Ballot:
    """Candidates for P prompts.

    Attributes:
        images: (P, M, 3, H, W) in [0, 1].
        utilities: (P, M); of a difference of 1, 73 % of annotators choose the better picture.
        votes: (P, M (M - 1) / 2), share of those who chose the first picture of a pair, in the
            order of ``torch.triu_indices``.
        prompts: the P prompts.
    """

    images: Tensor
    utilities: Tensor
    votes: Tensor
    prompts: list[str]


def draw_ballot(config: DictConfig, seed: tuple[int, ...], vae: AutoencoderKL) -> Ballot:
    """Draw prompts, candidates that differ in truth, composition and drawing, and choices."""
    stage = config.preferences
    rng = np.random.default_rng(seed)
    prompts, candidates, severities, utilities = [], [], [], []
    for _ in range(stage.prompts):
        wanted = scenes.sample_scene(rng)
        prompt = scenes.caption(wanted, rng)
        claims = scenes.mentioned_labels(wanted, prompt)
        prompts.append(prompt)
        words = _candidate_words(claims, stage, rng)
        for number in range(stage.candidates):
            if number > 0 and rng.random() >= stage.twin_share:
                words = _candidate_words(claims, stage, rng)
            scene, spoilt = web.draw_scene(config.web, rng, words)
            candidates.append(scene)
            severities.append(spoilt)
            utilities.append(scene_utility(scene, claims, stage.penalty))
    severity = torch.tensor(severities, dtype=torch.float32)
    images, redraw_cost = _redraw(web.paint(candidates, severity, rng), vae, stage, rng)
    shape = stage.prompts, stage.candidates
    utility = torch.tensor(utilities, dtype=torch.float32)
    utility = utility - stage.penalty.defects * defects.cost(severity) - redraw_cost
    return Ballot(
        images=images.unflatten(0, shape),
        utilities=utility.view(shape),
        votes=_votes(utility.view(shape), stage.annotators, rng),
        prompts=prompts,
    )


def _votes(utilities: Tensor, annotators: int, rng: np.random.Generator) -> Tensor:
    """Share of annotators who choose the first picture of each pair, each with mistakes."""
    first, second = torch.triu_indices(utilities.shape[1], utilities.shape[1], offset=1)
    preferred = (utilities[:, first] - utilities[:, second]).sigmoid()
    return torch.from_numpy(rng.binomial(annotators, preferred.numpy()) / annotators).float()


def scene_utility(scene: scenes.Scene, claims: list[int], penalty: DictConfig) -> float:
    """What a typical annotator thinks of the content: truth first, then composition.

    Size and position count only where the prompt leaves them open (``claims`` of -1): then
    large and centred is preferred.
    """
    labels = scenes.labels(scene)
    wrong = sum(c >= 0 and c != label for c, label in zip(claims, labels, strict=True))
    utility = -penalty.wrong * wrong
    _, _, size, position, _ = claims
    if size < 0:
        utility -= penalty.small * (scenes.RADIUS["large"][1] - scene.radius) / 10.0
    if position < 0:
        middle = scenes.RESOLUTION / 2
        utility -= penalty.off_center * float(np.hypot(scene.x - middle, scene.y - middle)) / 20.0
    return float(utility)


def _candidate_words(
    claims: list[int], stage: DictConfig, rng: np.random.Generator
) -> dict[str, str]:
    """What the prompt claims, apart from a few wrong attributes."""
    words = scenes.claimed_words(claims)
    wrong = rng.choice(len(stage.wrong_share), p=list(stage.wrong_share))
    for name in rng.permutation(sorted(words))[:wrong]:
        words[name] = str(rng.choice(scenes.alternatives(words, name)))
    return _swapped(words) if rng.random() < stage.swap_share and wrong else words


def _swapped(words: dict[str, str]) -> dict[str, str]:
    """Exchange the colours of shape and background where both names exist."""
    color, background = words["color"], words["background"]
    if color in scenes.ATTRIBUTES["background"] and background in scenes.ATTRIBUTES["color"]:
        return words | {"color": background, "background": color}
    return words


@torch.no_grad()
def _redraw(
    images: Tensor, vae: AutoencoderKL, stage: DictConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Some pictures as the autoencoder draws them from disturbed latents, and the cost."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    cost = torch.zeros(len(images))
    rows = torch.randperm(len(images), generator=generator)[: stage.redrawn]
    latents = vae.encode(2.0 * images[rows] - 1.0).latent_dist.mode()
    severity = torch.rand(len(rows), generator=generator)
    noise = torch.randn(latents.shape, generator=generator) / vae.config.scaling_factor
    latents = latents + severity.view(-1, 1, 1, 1) * noise * stage.latent_noise
    images = images.clone()
    images[rows] = (vae.decode(latents).sample * 0.5 + 0.5).clamp(0.0, 1.0)
    cost[rows] = stage.penalty.latent * severity
    return images, cost
