"""Image embedding in which the diversity of shapes pictures is measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ShapesEmbedding:
    """Embedding of the contrastive model behind the shapes reward.

    Args:
        weights: folder of the scorer; the shipped one by default.

    Raises:
        ConfigError: ``weights`` does not hold a scorer.
    """

    name = "shapes"
    embeds = True

    def __init__(self, weights: str | None = None) -> None:
        from soc_ft.assets import REWARD
        from soc_ft.assets.scorer import ShapesScorer

        self._scorer = ShapesScorer.load(Path(weights) if weights else REWARD)

    def to(self, device: torch.device | str) -> Self:
        """Move the embedding to a device."""
        self._scorer.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Embed pictures (B, 3, H, W) in [0, 1] as (B, D) vectors of unit L2 norm."""
        return self._scorer.embed_images(images.float())
