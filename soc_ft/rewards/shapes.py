"""The learned text-image reward of the embedded model's world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soc_ft.world.with_scorer import WithScorer

if TYPE_CHECKING:
    from torch import Tensor


class ShapesReward(WithScorer):
    """Does the picture show what the prompt says, and is it well drawn?

    A small CLIP with a quality head, trained on synthetic preferences (Bradley-Terry). Scores
    are standardised: samples of the embedded base model have mean 0 and standard deviation 1.
    Where the prompt leaves them open, a large size and a central position are preferred.
    """

    name = "shapes"
    differentiable = True

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score pictures; differentiable with respect to them.

        Args:
            images: (B, 3, H, W) in [0, 1]; resized to 64x64, bicubic and antialiased, if needed.
            prompts: B prompts.

        Returns:
            (B,) scores in float32, higher is better.
        """
        return self._scorer(images.float(), prompts)
