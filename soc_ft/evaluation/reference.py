"""The optimum that a run is measured against, from rewards of its base model's pictures.

``evaluate exact=true`` keeps these rewards with a description of the law that they are of. A run of
the same law (``validation.base_rewards``) then shows what would have been possible beside what it
reached, at no cost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from soc_ft.core import Tilt, nats_efficiency
from soc_ft.errors import ConfigError
from soc_ft.evaluation.exact import LEAST_EFFECTIVE_SAMPLES
from soc_ft.evaluation.statistics import Estimate, mean_and_error
from soc_ft.files import package_path
from soc_ft.integrity import check_whole
from soc_ft.models.weights import replacing_weights
from soc_ft.records.journal import (
    EFFICIENCY,
    POSSIBLE_AT_COST,
    POSSIBLE_AT_LEAST,
    POSSIBLE_GAIN,
    POSSIBLE_OBJECTIVE,
)

MODEL_KEYS = ("path", "revision", "variant", "single_file_config", "vae", "text_encoder")
_HALVINGS = 50


def law(
    model: Mapping[str, Any],
    noise_levels: Mapping[str, Any],
    num_steps: int,
    eta: float,
    guidance_scale: float,
    reward: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides the rewards of a base model's pictures, besides the prompts; what is JSON.

    Args:
        model: settings of conf/model.
        noise_levels: of conf/scheduler.
        num_steps: K.
        eta: noise level.
        guidance_scale: of the sampled pictures.
        reward: the component.
    """
    found = {f"model.{key}": model[key] for key in MODEL_KEYS if model.get(key) is not None}
    found |= {
        f"scheduler.{key}": value
        for key, value in noise_levels.items()
        if (key, value) != ("sampler", "ddim")  # which files from before say nothing of
    }
    found |= {"scheduler.num_steps": num_steps, "scheduler.eta": float(eta)}
    found |= {"guidance_scale": float(guidance_scale), "reward": dict(reward)}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


class BaseRewards:
    """Rewards of N independent pictures of the base model for each of some prompts."""

    def __init__(self, rewards: Tensor, prompts: Sequence[str], of_law: Mapping[str, Any]) -> None:
        """Keep them together.

        Args:
            rewards: (P, N), float32.
            prompts: P.
            of_law: as :func:`law` describes it.
        """
        self.rewards, self.prompts, self.of_law = rewards, list(prompts), dict(of_law)

    def save(self, path: Path) -> None:
        """Write a safetensors file whose metadata say of what it is."""
        from safetensors.torch import save_file

        metadata = {"law": json.dumps(self.of_law), "prompts": json.dumps(self.prompts)}
        with replacing_weights(path) as draft:
            save_file({"rewards": self.rewards.float().contiguous()}, draft, metadata)

    @classmethod
    def load(cls, given: str) -> BaseRewards:
        """Read what :meth:`save` wrote; ``package:`` in front is a file inside soc_ft.

        Raises:
            ConfigError: the file is damaged or another kind of file.
        """
        path = package_path(given)
        check_whole(path)
        try:
            with safe_open(path, "pt") as file:
                described, rewards = file.metadata() or {}, file.get_tensor("rewards")
            prompts, of_law = (json.loads(described[name]) for name in ("prompts", "law"))
            Tilt(rewards, 0.0)  # refuses what has no optimum
            if len(prompts) != len(rewards):
                raise ValueError(f"{len(rewards)} rows for {len(prompts)} prompts")
            return cls(rewards, prompts, of_law)
        except (SafetensorError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{given}: holds no rewards of a base model as `python -m soc_ft.evaluate "
                "exact=true` writes them"
            ) from error

    def differences(self, wanted: Mapping[str, Any], prompts: Sequence[str]) -> list[str]:
        """What keeps these rewards from being those of a law and of some prompts, in words."""
        found = [
            f"{key} ({self.of_law.get(key, 'absent')} there, {wanted.get(key, 'absent')} here)"
            for key in sorted(self.of_law.keys() | wanted.keys())
            if self.of_law.get(key) != wanted.get(key)
        ]
        unknown = sum(prompt not in self.prompts for prompt in prompts)
        return found + ([f"{unknown} of {len(prompts)} prompts"] if unknown else [])

    def of(self, prompts: Sequence[str]) -> Tensor:
        """(P, N) rewards of the pictures of ``prompts``."""
        return self.rewards[[self.prompts.index(prompt) for prompt in prompts]]


def beside_optimum(
    rewards: Tensor, reward_scale: float, gain: Estimate, cost: Estimate
) -> dict[str, Estimate]:
    """What was possible where a run gained so much at such a cost.

    Args:
        rewards: (P, N) of the base model's pictures for the prompts of the measurement.
        reward_scale: lambda of the run.
        gain: of the reward over the base model.
        cost: control cost, in nats.

    Returns:
        Gain and objective of the optimum at this lambda, or else what its gain is at least; the
        gain of the optimum of another lambda whose KL is the run's cost, as far as the effective
        samples reach; the efficiency of nats.
    """
    found: dict[str, Estimate] = {}
    tilt = Tilt(rewards, reward_scale)
    prompts = len(rewards)
    if float(tilt.effective_samples.min()) >= LEAST_EFFECTIVE_SAMPLES:
        found[POSSIBLE_GAIN] = Estimate(*tilt.gain(tilt.rewards), prompts)
        found[POSSIBLE_OBJECTIVE] = Estimate(*tilt.objective_gain(), prompts)
    else:
        found[POSSIBLE_AT_LEAST] = _least_gain(tilt.rewards, reward_scale)
    if not cost.mean > 0:
        return found
    alike = _tilt_of_cost(rewards, cost.mean)
    if alike is not None:
        possible = alike.gain(alike.rewards)
        # Along the optima the gain grows by 1 / lambda for each nat.
        error = math.hypot(possible.error, cost.error / alike.reward_scale)
        found[POSSIBLE_AT_COST] = Estimate(possible.value, error, prompts)
    each = nats_efficiency(1.0, cost.mean, tilt.base_variance().value)  # of a unit of reward
    efficiency = each * gain.mean
    if math.isfinite(efficiency):
        error = math.hypot(each * gain.error, efficiency * cost.error / (2 * cost.mean))
        found[EFFICIENCY] = Estimate(efficiency, error, gain.count)
    return found


def _least_gain(rewards: Tensor, reward_scale: float) -> Estimate:
    """A lower bound of the optimum's gain (P, N) that holds at any lambda, from the best of N.

    The law of the best of N has KL log N - (N - 1) / N to the base, so its objective bounds the
    optimal one; and lambda E*[r] is no less than the optimal objective.
    """
    number = rewards.shape[1]
    cost = math.log(number) - (number - 1) / number
    best = rewards.max(dim=1).values - rewards.mean(dim=1) - cost / reward_scale
    return mean_and_error(best.numpy())


def _tilt_of_cost(rewards: Tensor, cost: float) -> Tilt | None:
    """The optimum whose KL is ``cost``; None where too few samples carry it."""
    least, most = 1e-6, 1e6
    for _ in range(_HALVINGS):
        middle = math.sqrt(least * most)
        costs_less = Tilt(rewards, middle).divergence().value < cost
        least, most = (middle, most) if costs_less else (least, middle)
    found = Tilt(rewards, least)
    enough = float(found.effective_samples.min()) >= LEAST_EFFECTIVE_SAMPLES
    return found if enough and torch.isfinite(found.weights).all() else None
