"""What an evaluation found: estimates of each metric for each set of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soc_ft.evaluation.statistics import Estimate

BASE, FINE_TUNED = "base model", "fine-tuned"


@dataclass(frozen=True)
class Scores:
    """What was measured of one set of pictures.

    Attributes:
        block: how they were sampled (``schedule``, ``eta``, ``num_steps``); empty if unknown.
        model: what they are of.
        pictures: how many there are.
        estimates: by metric: mean over prompts.
        differences: by metric: paired difference to the base model's pictures, if there are any.
    """

    block: Mapping[str, Any]
    model: str
    pictures: int
    estimates: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """How they were sampled, in words; nothing if that is unknown."""
        if not self.block:
            return ""
        return "{schedule}, eta {eta:g}, {num_steps} steps".format(**self.block)
