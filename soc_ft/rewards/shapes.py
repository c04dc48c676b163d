"""The learned text-image reward of the embedded model's world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ShapesReward:
    """Does the picture show what the prompt says, and is it well drawn?

    A small CLIP with a quality head, trained on synthetic preferences (Bradley-Terry). Scores
    are standardised: samples of the embedded base model have mean 0 and standard deviation 1.
    Where the prompt leaves them open, a large size and a central position are preferred.
    """

    name = "shapes"
    differentiable = True

    def __init__(self, weights: str | None = None) -> None:
        """Load the scorer.

        Args:
            weights: folder written by ``python -m soc_ft.world.training stage=reward``; the
                shipped one by default.

        Raises:
            ConfigError: ``weights`` does not hold a scorer.
        """
        from soc_ft.world import REWARD
        from soc_ft.world.scorer import ShapesScorer

        self._scorer = ShapesScorer.load(Path(weights) if weights else REWARD)

    def to(self, device: torch.device | str) -> Self:
        """Move the scorer to a device."""
        self._scorer.to(device)
        return self

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score pictures; differentiable with respect to them.

        Args:
            images: (B, 3, H, W) in [0, 1]; resized to 64x64, bicubic and antialiased, if needed.
            prompts: B prompts.

        Returns:
            (B,) scores in float32, higher is better.
        """
        return self._scorer(images.float(), prompts)
