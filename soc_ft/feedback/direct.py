"""The reward itself, whenever the method asks."""

from __future__ import annotations

from pydantic import Field

from soc_ft.feedback.base import Feedback
from soc_ft.options import Count


class Direct(Feedback):
    """Every picture that a method collects is scored by the true reward."""

    class Config(Feedback.Config):
        """Options of conf/feedback/direct.yaml."""

        budget: Count | None = Field(
            None, description="answers of the reward; the run ends before it exceeds them"
        )

    config: Config

    @property
    def exhausted(self) -> bool:
        """Whether the budget does not suffice for another round like the last one."""
        budget, last = self.config.budget, self.queries - self._before_round
        return budget is not None and self.queries + last > budget
