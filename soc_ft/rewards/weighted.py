"""A weighted sum of rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from soc_ft.errors import ConfigError
from soc_ft.rewards.base import Reward

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Weighted:
    """Sum of rewards, each times its coefficient; differentiable if all of them are."""

    name = "weighted"
    differentiable = True

    def __init__(self, rewards: Mapping[str, Reward], coefficients: Mapping[str, float]) -> None:
        """Put rewards together.

        Args:
            rewards: by name; each part's score is logged under it, without its coefficient.
            coefficients: by the same names.

        Raises:
            ConfigError: the names differ, or there are none.
        """
        self.check_arguments({"rewards": rewards, "coefficients": coefficients})
        self.rewards = dict(rewards)
        self.coefficients = dict(coefficients)
        self.differentiable = all(reward.differentiable for reward in rewards.values())

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str = "reward") -> None:
        """Check that every reward has a coefficient; the rewards are checked on their own.

        Args:
            arguments: of the constructor.
            key: of the reward in the configuration.

        Raises:
            ConfigError: says which has none.
        """
        rewards = arguments.get("rewards") or {}
        coefficients = arguments.get("coefficients") or {}
        if not rewards:
            raise ConfigError(f"{key}.rewards: give at least one reward")
        for name in rewards:
            value = coefficients.get(name)
            if (
                type(value) is bool
                or not isinstance(value, int | float)
                or not math.isfinite(value)
            ):
                raise ConfigError(
                    f"{key}.coefficients.{name}={value}: {key}.rewards.{name} needs a finite "
                    "number here"
                )
        for name in coefficients:
            if name not in rewards:
                raise ConfigError(
                    f"{key}.coefficients.{name}: there is no {key}.rewards.{name} (there are: "
                    f"{', '.join(rewards)})"
                )

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) pictures in [0, 1] for B prompts -> (B,)."""
        return self.combine(self.part_scores(images, prompts))

    def part_scores(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """(B,) scores by part, without coefficients."""
        return {name: reward(images, prompts) for name, reward in self.rewards.items()}

    def combine(self, scores: Mapping[str, Tensor]) -> Tensor:
        """(B,) weighted sums of the parts' scores."""
        terms = [self.coefficients[name] * score.float() for name, score in scores.items()]
        return sum(terms[1:], terms[0])

    def to(self, device: torch.device) -> Self:
        """Move the parts."""
        for reward in self.rewards.values():
            reward.to(device)
        return self
