"""Leaving outliers out of the regression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a method is configured, and its mask made, before torch is imported
    from torch import Tensor


class QuantileMask:
    """Drops losses whose root exceeds a running quantile.

    The threshold is the bias-corrected exponential moving average (as in Adam) of the quantile of
    sqrt(loss). What is left out stays in the mean as zero, as in the reference implementation of
    Adjoint Matching. From that the mask differs in this:

    - It is updated once an optimizer batch, from the losses of all micro-batches and processes;
      the reference updates it once a micro-batch, from those of all processes. So the memory is of
      some ten optimizer steps here, and of less than one there.
    - A batch is masked with the threshold known before it; the reference first takes the batch in.
      So the outcome does not depend on how the batch is split, and the first batch is kept whole.
    - A loss at the threshold itself is kept; the reference leaves it out.
    - Validation does not move it, a checkpoint holds it, and losses that are not finite do not
      enter it.
    """

    def __init__(self, quantile: float = 0.9, decay: float = 0.9) -> None:
        """Start without a threshold: everything is kept until the first update.

        Args:
            quantile: in (0, 1].
            decay: of the moving average, in [0, 1).

        Raises:
            ValueError: if an argument is out of its range.
        """
        if not 0 < quantile <= 1:
            raise ValueError(f"quantile must be in (0, 1], got {quantile}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.quantile = quantile
        self.decay = decay
        self._average = 0.0
        self._updates = 0

    @property
    def threshold(self) -> float:
        """Largest sqrt(loss) that is kept; infinite before the first update."""
        if self._updates == 0:
            return math.inf
        return self._average / (1 - self.decay**self._updates)

    def keep(self, losses: Tensor) -> Tensor:
        """(N,) bool, True where sqrt(losses) <= threshold. NaN is never kept."""
        return losses.detach().sqrt() <= self.threshold

    def update(self, losses: Tensor) -> None:
        """Take in all losses (N,) of one optimizer batch, of every micro-batch and rank.

        Values that are not finite are ignored: one overflow must not disable the mask for good.
        """
        finite = losses.detach()[losses.isfinite()]
        if len(finite):
            quantile = finite.sqrt().double().quantile(self.quantile).item()
            self._average = self.decay * self._average + (1 - self.decay) * quantile
            self._updates += 1

    def state_dict(self) -> dict[str, float]:
        """What has been averaged so far."""
        return {"average": self._average, "updates": self._updates}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from :meth:`state_dict`."""
        self._average = float(state["average"])
        self._updates = int(state["updates"])
