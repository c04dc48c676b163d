"""Making up for the length that cutting takes from the mean of regression targets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a method is configured, and this made, before torch is imported
    from torch import Tensor


class ClipCorrection:
    """By how much to lengthen the cut targets of a step, to lack nothing along the control.

    Where a few targets y are very long, cutting them (to c) takes off most of their noise and
    shortens their mean. It may turn the mean, too, which stays. What the mean lacks along a control
    u that does not know the pair's noise, E[(y - c) . u], is one number a step instead of a vector,
    and so is known from few trajectories. With R and M the sums of (y - c) . u and c . u over the
    pairs so far, the older ones with less weight, and V how much R varies, the factor of a step is

        1 + max(0, R M / (M^2 + V)),

    the posterior mean of 1 + R / M given a standard normal prior of R / M: as long as little is
    known it stays near one, and a single long target moves it little.
    """

    def __init__(self, decay: float = 0.98) -> None:
        """Nothing is lengthened yet.

        Args:
            decay: of the sums from one optimizer step to the next, in [0, 1).

        Raises:
            ValueError: the decay is out of its range.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self._sums: dict[int, tuple[float, float, float]] = {}

    def factor(self, step: int) -> float:
        """Of a step k, at least 1."""
        lacking, variance, present = self._sums.get(step, (0.0, 0.0, 0.0))
        known = present**2 + variance
        return 1.0 + max(0.0, lacking * present / known) if known > 0 else 1.0

    def update(self, steps: Tensor, whole: Tensor, cut: Tensor) -> None:
        """Take in the pairs of an optimizer step, of all micro-batches and ranks.

        Args:
            steps: (N,) int64.
            whole: (N,) y . u.
            cut: (N,) c . u.
        """
        decays = (self.decay, self.decay**2, self.decay)
        for k, sums in self._sums.items():
            self._sums[k] = _of_three(old * d for old, d in zip(sums, decays, strict=True))
        lacking, present = (whole - cut).double(), cut.double()
        for k in steps.unique().tolist():
            here = steps == k
            new = (lacking[here].sum(), lacking[here].square().sum(), present[here].sum())
            old = self._sums.get(k, (0.0, 0.0, 0.0))
            self._sums[k] = _of_three(a + float(b) for a, b in zip(old, new, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What has been summed so far."""
        return {"sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._sums = {int(k): _of_three(sums) for k, sums in state["sums"].items()}


def _of_three(values: Iterable[float]) -> tuple[float, float, float]:
    lacking, variance, present = values
    return float(lacking), float(variance), float(present)
