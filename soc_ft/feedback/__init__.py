"""Who answers for the reward: the reward itself, or a surrogate that learns from few answers."""

from soc_ft.feedback.base import Feedback

__all__ = ["Feedback"]
