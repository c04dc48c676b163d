"""How many of the steps that are drawn from a trajectory fall into its early and its late part.

Without torch, so that a method's options can be checked before it is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Strata:
    """An early and a late segment of the K steps, and the draws that each gets.

    Attributes:
        early_fraction: share of the steps, in [0, 1], that form the early segment (rounded).
        early_share: share of the draws, in [0, 1], that the early segment gets (rounded down).

    Raises:
        ValueError: an attribute is out of its range.
    """

    early_fraction: float = 0.6
    early_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("early_fraction", "early_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")

    def divide(self, num_steps: int, count: int) -> tuple[int, int]:
        """Where the early segment ends, and how many of ``count`` draws fall into it.

        A segment that is too small passes its surplus on to the other.

        Raises:
            ValueError: ``count`` is not in [1, num_steps].
        """
        if not 1 <= count <= num_steps:
            raise ValueError(f"count must be in [1, {num_steps}], the number of steps, got {count}")
        boundary = round(self.early_fraction * num_steps)
        early = min(_floor(self.early_share * count), boundary)
        return boundary, max(early, count - (num_steps - boundary))

    def reach_every_step(self, num_steps: int, count: int) -> bool:
        """Whether each step has a chance to be drawn."""
        boundary, early = self.divide(num_steps, count)
        return (early > 0 or boundary == 0) and (count > early or boundary == num_steps)


def _floor(value: float) -> int:
    """Floor of a product of decimal fractions, e.g. 0.29 * 100 = 28.999999999999996 -> 29."""
    return math.floor(value + 1e-9)
