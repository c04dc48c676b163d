"""Scores of the parts of a composite reward, from where they arise to where they are logged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor


class PartScores:
    """Keeps scores by part, evaluation after evaluation, until they are taken."""

    def __init__(self) -> None:
        self._noted: dict[str, list[Tensor]] = defaultdict(list)

    def note(self, scores: Mapping[str, Tensor]) -> None:
        """Keep the (b,) scores of an evaluation."""
        for name, values in scores.items():
            self._noted[name].append(values.detach().float())

    def take(self, samples: int) -> dict[str, Tensor]:
        """(samples,) scores by part, under names for the log; nothing is kept.

        What was noted since the last call are scores of the same samples, in order, once or
        several times over (as smoothing does); the result is their mean.
        """
        taken = {
            f"reward/{name}": torch.cat(values).view(-1, samples).mean(dim=0)
            for name, values in self._noted.items()
        }
        self._noted.clear()
        return taken
