"""DRTune: reward gradients past the networks' inputs (Wu et al. 2024, arXiv 2405.00760)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from soc_ft.methods.base import within_trajectory
from soc_ft.methods.pathwise import Pathwise
from soc_ft.options import Count

if TYPE_CHECKING:
    from torch import Tensor


class DRTune(Pathwise):
    """The gradient of the reward along the linear parts of the means alone.

    What the network is given is a constant, so that a step's output moves the picture by
    (prod_{j>k} A_j) c_k: one backward pass for each step that carries gradient, and no product of
    Jacobians that could explode.
    """

    class Config(Pathwise.Config):
        """Options of conf/method/drtune.yaml."""

        steps: Count = Field(5, description="steps that carry gradient, drawn for each round")
        choice: Literal["even", "last", "random"] = Field(
            "even", description="which: at even distances from a random one on, the last, or any"
        )

    config: Config
    through_inputs: ClassVar[bool] = False

    def with_gradient(self, num_steps: int) -> int:
        """All, for gradient of an early output passes the later states; or the last ones."""
        return self.config.steps if self.config.choice == "last" else num_steps

    def pairs_per_sample(self, num_steps: int) -> int:
        """One, a whole sample.

        Raises:
            ConfigError: more steps are asked for than there are.
        """
        within_trajectory("steps", self.config.steps, num_steps)
        return 1

    def carries(self, num_steps: int, keys: Tensor) -> Tensor | None:
        """(K,) bool, or None where the last ones alone are run again."""
        import torch

        count = self.config.steps
        if self.config.choice == "last":
            return None
        if self.config.choice == "random":
            return keys.argsort().argsort() < count
        distance = num_steps // count
        place = torch.arange(num_steps) - (keys[0] * distance).floor().long()
        return (place >= 0) & (place % distance == 0) & (place // distance < count)
