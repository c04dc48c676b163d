"""AlignProp: reward gradients through randomly truncated sampling (Prabhudesai et al. 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from soc_ft.methods.base import within_trajectory
from soc_ft.methods.pathwise import Pathwise
from soc_ft.options import Count, Positive, Share

if TYPE_CHECKING:
    from torch import Tensor


class AlignProp(Pathwise):
    """The gradient of the reward through all transitions, outputs of some of which are constants.

    Latents are never cut (arXiv 2310.03739): gradient passes a step whose output is constant along
    the linear part of its mean. Which outputs carry gradient is drawn for each round:

    - ``per_step_uniform``: at each step anew, step k with probability (k + 1) / (K + 1), and the
      last one always; the code of the paper. What carries is not one piece of the trajectory.
    - ``per_rollout_uniform``: all steps from one on that is uniform among them.
    - ``per_rollout_gaussian``: all steps from one on that is normal, within 1 to K - 1.
    - ``last``: the last ones.
    """

    class Config(Pathwise.Config):
        """Options of conf/method/alignprop.yaml."""

        truncation: Literal[
            "per_step_uniform", "per_rollout_uniform", "per_rollout_gaussian", "last"
        ] = Field("per_step_uniform", description="which outputs carry gradient")
        last: Count = Field(1, description="their number, with truncation=last")
        gaussian_mean: Share = Field(
            0.84, description="share of the steps before the first, with per_rollout_gaussian"
        )
        gaussian_std: Positive = Field(0.1, description="its standard deviation, as a share")

    config: Config

    def with_gradient(self, num_steps: int) -> int:
        """All, but for those before the last ones that carry gradient."""
        return self.config.last if self.config.truncation == "last" else num_steps

    def pairs_per_sample(self, num_steps: int) -> int:
        """One, a whole sample.

        Raises:
            ConfigError: more transitions are asked for than there are.
        """
        if self.config.truncation == "last":
            within_trajectory("last", self.config.last, num_steps)
        return 1

    def carries(self, num_steps: int, keys: Tensor) -> Tensor | None:
        """(K,) bool, or None where the last ones alone are run again."""
        import torch

        steps = torch.arange(num_steps)
        match self.config.truncation:
            case "per_step_uniform":
                drawn = (keys * (num_steps + 1)).floor() <= steps
                return drawn | (steps == num_steps - 1)
            case "per_rollout_uniform":
                return steps >= (keys[0] * num_steps).floor()
            case "per_rollout_gaussian":
                return steps >= self._gaussian(keys[0], num_steps)
        return None

    def _gaussian(self, uniform: Tensor, K: int) -> Tensor:
        """First step in [1, K) from a uniform draw: a normal law cut there, rounded down."""
        mean, std = self.config.gaussian_mean * K, self.config.gaussian_std * K
        below, above = (
            (1 + math.erf((limit - mean) / (std * math.sqrt(2)))) / 2 for limit in (1.0, float(K))
        )
        quantile = below + uniform.double() * (above - below)
        normal = (2 * quantile - 1).erfinv() * math.sqrt(2)
        return (mean + std * normal).floor().clamp(1, K - 1)
