"""Running means and deviations of rewards, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a method is configured, and its statistics made, before torch is imported
    from torch import Tensor


class PromptStatistics:
    """What the last rewards of each prompt were (Black et al. 2023, DDPO, section 4.3).

    A prompt that few rewards are known of is compared with the whole batch. Deviations are those
    of a population, and 1e-6 is added to them.
    """

    EPSILON = 1e-6

    def __init__(self, size: int, minimum: int) -> None:
        """Start without rewards.

        Args:
            size: of the last rewards that are kept of a prompt, >= 1.
            minimum: rewards that a prompt's own statistics take, >= 1.

        Raises:
            ValueError: an argument is out of its range.
        """
        if size < 1 or minimum < 1:
            raise ValueError(f"size and minimum must be >= 1, got {size} and {minimum}")
        self.size = size
        self.minimum = minimum
        self._kept: dict[str, Tensor] = {}

    def standardise(
        self, prompts: Sequence[str], values: Tensor, deviation: Tensor | None = None
    ) -> Tensor:
        """Take the rewards in, then subtract each prompt's mean and divide by its deviation.

        Args:
            prompts: n of them.
            values: (n, ...) of these; columns are treated one by one.
            deviation: what all are divided by instead, if it is given.

        Returns:
            (n, ...) float64.
        """
        import torch

        values = values.double()
        mean, own_deviation = self._moments(values)
        result = (values - mean) / (own_deviation if deviation is None else deviation)
        for prompt, rows in _rows(prompts).items():
            own = values[rows]
            kept = self._kept.get(prompt)
            kept = own if kept is None else torch.cat([kept, own])
            self._kept[prompt] = kept = kept[-self.size :]
            if len(kept) >= self.minimum:
                mean, own_deviation = self._moments(kept)
                result[rows] = (own - mean) / (own_deviation if deviation is None else deviation)
        return result

    def _moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values.mean(dim=0), values.std(dim=0, correction=0) + self.EPSILON

    def state_dict(self) -> dict[str, Any]:
        """The kept rewards by prompt, as numbers."""
        return {prompt: kept.tolist() for prompt, kept in self._kept.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        import torch

        self._kept = {
            prompt: torch.tensor(kept, dtype=torch.float64) for prompt, kept in state.items()
        }


def _rows(prompts: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        found.setdefault(prompt, []).append(row)
    return found
