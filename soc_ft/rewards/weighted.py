"""A weighted sum of rewards."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from soc_ft.errors import ConfigError
from soc_ft.options import NeutralDefault
from soc_ft.rewards.base import Moments, Reward

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Weighted:
    """Sum of rewards, each times its coefficient; differentiable if all of them are."""

    name = "weighted"
    differentiable = True
    statistics: Mapping[str, Moments] | None = None

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        coefficients: Mapping[str, float],
        normalise: NeutralDefault[bool] = False,
        statistics: NeutralDefault[Mapping[str, Moments] | None] = None,
    ) -> None:
        """Put rewards together.

        Args:
            rewards: by name; each part's score is logged under it, without its coefficient.
            coefficients: by the same names.
            normalise: standardise each score before it is multiplied by its coefficient.
            statistics: mean and deviation to standardise by, by the same names; None are those that
                a run measures on its base model.

        Raises:
            ConfigError: the names differ, there are none, or a number is out of range.
        """
        self.check_arguments(
            {
                "rewards": rewards,
                "coefficients": coefficients,
                "normalise": normalise,
                "statistics": statistics,
            }
        )
        self.rewards = dict(rewards)
        self.coefficients = dict(coefficients)
        if not normalise:
            self.statistics = {}
        elif statistics is not None:
            self.statistics = {name: (mean, std) for name, (mean, std) in statistics.items()}
        self.differentiable = all(reward.differentiable for reward in rewards.values())

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str = "reward") -> None:
        """Check that every reward has its numbers; the rewards are checked on their own.

        Args:
            arguments: of the constructor.
            key: of the reward in the configuration.

        Raises:
            ConfigError: says which lacks one.
        """
        rewards = arguments.get("rewards") or {}
        statistics = arguments.get("statistics")
        if not rewards:
            raise ConfigError(f"{key}.rewards: give at least one reward")
        _check_each(arguments, "coefficients", _is_finite, "a finite number", key)
        if statistics is None:
            return
        if not arguments.get("normalise"):
            raise ConfigError(f"{key}.statistics: means nothing without {key}.normalise=true")
        wanted = "[mean, deviation], finite and the second above 0,"
        _check_each(arguments, "statistics", _are_moments, wanted, key)

    @classmethod
    def lacks_statistics(cls, arguments: Mapping[str, Any]) -> bool:
        """Whether the parts are to be standardised by what only a run measures."""
        return bool(arguments.get("normalise")) and arguments.get("statistics") is None

    def standardised_by(self, statistics: Mapping[str, Moments]) -> Self:
        """The same sum of the same parts, standardised by these moments; without any, raw."""
        other = copy.copy(self)
        other.statistics = dict(statistics)
        return other

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) pictures in [0, 1] for B prompts -> (B,).

        Raises:
            ConfigError: as :meth:`combine`.
        """
        return self.combine(self.part_scores(images, prompts))

    def part_scores(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """(B,) scores by part, raw."""
        return {name: reward(images, prompts) for name, reward in self.rewards.items()}

    def combine(self, scores: Mapping[str, Tensor]) -> Tensor:
        """(B,) weighted sums of the parts' scores.

        Raises:
            ConfigError: they are to be standardised by moments that are not known.
        """
        if self.statistics is None:
            raise ConfigError(
                f"reward {self.name}: normalise=true, and no run has measured the mean and "
                "deviation of its parts; give them as statistics={part: [mean, deviation], ...}"
            )
        terms = []
        for name, score in scores.items():
            mean, deviation = self.statistics.get(name, (0.0, 1.0))
            terms.append(self.coefficients[name] * ((score.float() - mean) / deviation))
        return sum(terms[1:], terms[0])

    def wrapped(self) -> Iterable[Reward]:
        """The parts."""
        return self.rewards.values()

    def to(self, device: torch.device) -> Self:
        """Move the parts."""
        for reward in self.rewards.values():
            reward.to(device)
        return self


def _check_each(
    arguments: Mapping[str, Any], argument: str, fits: Callable[[Any], bool], wanted: str, key: str
) -> None:
    """Check that an argument has what is wanted for each reward, and nothing else."""
    rewards, values = arguments["rewards"], arguments.get(argument) or {}
    for name in rewards:
        if not fits(values.get(name)):
            raise ConfigError(
                f"{key}.{argument}.{name}={values.get(name)}: {key}.rewards.{name} needs {wanted} "
                "here"
            )
    for name in values:
        if name not in rewards:
            raise ConfigError(
                f"{key}.{argument}.{name}: there is no {key}.rewards.{name} (there are: "
                f"{', '.join(rewards)})"
            )


def _is_finite(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)


def _are_moments(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(map(_is_finite, value))
        and value[1] > 0
    )
