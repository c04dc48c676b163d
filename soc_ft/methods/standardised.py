"""What methods share that compare a reward with the last ones of its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Method, Round
from soc_ft.options import Count

if TYPE_CHECKING:
    from torch import Tensor


class Standardised(Method):
    """A method with statistics of its prompts' rewards, which a checkpoint holds."""

    class Config(Method.Config):
        """Options that all of them have."""

        statistics_size: Count = Field(32, description="last rewards that are kept of a prompt")
        statistics_minimum: Count = Field(
            16, description="fewer rewards of a prompt are compared with the whole round"
        )

    config: Any

    def __init__(self, **options: Any) -> None:
        """Take the options; no reward is known yet."""
        super().__init__(**options)
        self.statistics = core.PromptStatistics(
            self.config.statistics_size, self.config.statistics_minimum
        )

    def standardise(self, round_: Round, values: Tensor, deviation: Tensor | None = None) -> Tensor:
        """Advantages (m, n, ...) float64 of m values (m, n, ...) of each of the round's n samples.

        Zero for samples that are not finite, which no statistics hold either.

        Args:
            round_: the samples.
            values: rewards or returns.
            deviation: what all are divided by instead of their prompt's.
        """
        import torch

        ok = round_.finite
        prompts = [p for p, fine in zip(round_.prompts, ok.tolist(), strict=True) if fine]
        known = self.statistics.standardise(
            prompts * len(values), values[:, ok].flatten(0, 1), deviation
        )
        advantage = torch.zeros_like(values, dtype=torch.float64)
        advantage[:, ok] = known.unflatten(0, (len(values), -1))
        return advantage

    def state_dict(self) -> dict[str, Any]:
        """The last rewards of each prompt."""
        return {"statistics": self.statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.statistics.load_state_dict(state["statistics"])
