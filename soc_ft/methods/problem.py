"""What a method may ask of the model and the reward."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from soc_ft.core import Condition, Process
from soc_ft.distributed import largest
from soc_ft.profiling import Clock
from soc_ft.rewards.base import Composite, Reward, awaits_statistics

PART = "reward/"
"""Stands before the names of a composite reward's parts in the log."""


class Policies(Protocol):
    """The base model, the trained one, and further copies of it that stand still for a while.

    Outputs are the network's own, (N, *latent), with classifier-free guidance at a scale.
    """

    def base(
        self, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float = 1.0
    ) -> Tensor:
        """Output of the pretrained model."""
        ...

    def trained(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        guidance_scale: float = 1.0,
        base_prediction: Tensor | None = None,
    ) -> Tensor:
        """Output of the model that is fine-tuned."""
        ...

    def anchor(
        self, name: str, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float = 1.0
    ) -> Tensor:
        """Output of a copy of the trained model, without gradient to its weights."""
        ...

    def null_condition(self) -> Condition:
        """The condition of the empty prompt, one row."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] of clean latents; differentiable."""
        ...


@dataclass
class Problem:
    """A base process, a reward, and where guidance enters.

    Attributes:
        model: predictions and decoding.
        reward: scores pictures for their prompts; NaN as long as it awaits its parts' moments.
        process: the transitions that are sampled and controlled.
        reward_scale: lambda > 0; the optimum samples p_base(x) exp(lambda r(x)).
        guidance_scale: w of guided predictions; 1 means none.
        guided: places where predictions are guided: ``trajectories``, and whatever else a method
            distinguishes, such as ``adjoint`` and ``control``.
        reward_batch: pictures that are decoded and scored together.
        clock: receives the seconds of each phase.
        parts: receives the scores of the reward's parts, if it has any.
        queries: pictures that the reward has scored since the last reset.
    """

    model: Policies
    reward: Reward
    process: Process
    reward_scale: float
    guidance_scale: float
    guided: frozenset[str]
    reward_batch: int
    clock: Clock = field(default_factory=Clock)
    parts: PartScores = field(default_factory=lambda: PartScores())
    queries: int = 0

    def base(
        self, x: Tensor, t: Tensor, condition: Condition, place: str = "trajectories"
    ) -> Tensor:
        """Output of the base model, guided if that place is."""
        return self.model.base(x, t, condition, self.scale(place))

    def trained(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        place: str = "trajectories",
        base_prediction: Tensor | None = None,
    ) -> Tensor:
        """Output of the trained model; in ``trajectories`` the law that samples.

        Args:
            x: (N, *latent).
            t: (N,) float32 times.
            condition: N rows.
            place: guided or not.
            base_prediction: (N, *latent), :meth:`base` at the same arguments if it is known; saves
                its evaluation where the trained network adds to the base.
        """
        return self.model.trained(x, t, condition, self.scale(place), base_prediction)

    def anchor(
        self, name: str, x: Tensor, t: Tensor, condition: Condition, place: str = "trajectories"
    ) -> Tensor:
        """Output of an anchor that the method has asked for, guided if that place is."""
        return self.model.anchor(name, x, t, condition, self.scale(place))

    def scale(self, place: str) -> float:
        """Guidance scale of a place; 1 where nothing is guided."""
        return self.guidance_scale if place in self.guided else 1.0

    def is_guided(self, place: str) -> bool:
        """Whether predictions for a place contain one for the empty prompt."""
        return self.scale(place) != 1.0

    def same_guidance(self, place: str, other: str) -> bool:
        """Whether predictions for one place serve the other."""
        return self.scale(place) == self.scale(other)

    def reward_of(self, latents: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) float32 rewards of clean latents, without gradient."""
        return self.pictures_and_rewards(latents, prompts)[1]

    def pictures_and_rewards(
        self, latents: Tensor, prompts: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) in [0, 1] of clean latents and their (B,) float32 rewards."""
        pictures, scores = [], []
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            for rows in chunks(len(latents), self.reward_batch):
                pictures.append(self.model.decode(latents[rows]))
                scores.append(self._score(pictures[-1], prompts[rows]))
        return torch.cat(pictures), torch.cat(scores)

    def reward_and_gradient(self, latents: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B,) rewards and (B, *latent) their gradients with respect to clean latents."""
        scores = torch.empty(len(latents), device=latents.device)
        gradient = torch.empty_like(latents)
        # Scores are compared and differentiated; reduced precision costs more than it saves here.
        with torch.enable_grad(), torch.autocast(latents.device.type, enabled=False):
            for rows in chunks(len(latents), self.reward_batch):
                x = latents[rows].detach().requires_grad_()
                score = self._score(self.model.decode(x), prompts[rows])
                gradient[rows] = torch.autograd.grad(score.sum(), x)[0]
                scores[rows] = score.detach()
        return scores, gradient

    def most(self, number: int) -> int:
        """The largest of all processes' numbers, such as of calls of a network.

        Processes that divide a network between them must call it equally often: a method whose
        samples decide how often makes up for the difference.
        """
        return largest(number, self.model.null_condition().device)

    def take_queries(self) -> int:
        """Pictures that the reward has scored since the last call."""
        taken, self.queries = self.queries, 0
        return taken

    def _score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        self.queries += len(images)
        if not isinstance(self.reward, Composite):
            return self.reward(images, prompts).float()
        scores = self.reward.part_scores(images, prompts)
        self.parts.note(scores)
        if awaits_statistics(self.reward):
            return images.new_full((len(images),), math.nan, dtype=torch.float32)
        return self.reward.combine(scores).float()


class PartScores:
    """Scores of the parts of a composite reward, kept until they are taken."""

    def __init__(self) -> None:
        """Start without scores."""
        self._noted: dict[str, list[Tensor]] = defaultdict(list)

    def note(self, scores: Mapping[str, Tensor]) -> None:
        """Keep the (b,) scores of an evaluation."""
        for name, values in scores.items():
            self._noted[name].append(values.detach().float())

    def take(self, samples: int) -> dict[str, Tensor]:
        """(samples,) scores by part, under names for the log; nothing is kept.

        What was noted since the last call are scores of the same samples, in order, once or
        several times over (as smoothing does); the result is their mean.
        """
        taken = {
            f"{PART}{name}": torch.cat(values).view(-1, samples).mean(dim=0)
            for name, values in self._noted.items()
        }
        self._noted.clear()
        return taken


def chunks(total: int, size: int) -> list[slice]:
    """Consecutive slices of at most ``size`` that cover ``range(total)``."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
