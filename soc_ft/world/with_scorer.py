"""What holds the embedded world's scorer: a reward, an embedding, features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from soc_ft.world import REWARD

if TYPE_CHECKING:
    import torch


class WithScorer:
    """Loads the scorer when it is built; torch is imported only then."""

    def __init__(self, weights: str | None = None) -> None:
        """Load the scorer.

        Args:
            weights: folder written by ``python -m soc_ft.world.training stage=reward``; the
                shipped one by default.

        Raises:
            ConfigError: ``weights`` does not hold a scorer.
        """
        from soc_ft.world.scorer import ShapesScorer

        self._scorer = ShapesScorer.load(Path(weights) if weights else REWARD)

    def to(self, device: torch.device | str) -> Self:
        """Move the scorer."""
        self._scorer.to(device)
        return self
