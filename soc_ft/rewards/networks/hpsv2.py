"""Human Preference Score v2 (Wu et al. 2023, https://arxiv.org/abs/2306.09341) on open_clip."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
from torch import Tensor
from torch.nn import functional as F

from soc_ft.rewards.networks.loading import ScoringNetwork
from soc_ft.rewards.networks.pixels import at_least_float32, fit_in_square, normalise


class HPSv2Network(ScoringNetwork):
    """Cosine of a fine-tuned CLIP ViT-H/14, without its learned scale."""

    def __init__(self, vision_layers: int = 32, text_layers: int = 24) -> None:
        """Lay out CLIP; the weights come from a file.

        Args:
            vision_layers: depth of the picture part; by default that of the published weights.
            text_layers: depth of the text part, likewise.
        """
        super().__init__()
        config = open_clip.get_model_config("ViT-H-14")
        self.clip = open_clip.CLIP(
            config["embed_dim"],
            config["vision_cfg"] | {"layers": vision_layers},
            config["text_cfg"] | {"layers": text_layers},
        )

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) scores."""
        weight = self.clip.visual.conv1.weight
        pixels = normalise(fit_in_square(at_least_float32(images), 224))
        tokens = open_clip.tokenize(list(prompts)).to(weight.device)
        seen = at_least_float32(self.clip.encode_image(pixels.to(weight.dtype)))
        read = at_least_float32(self.clip.encode_text(tokens))
        return (F.normalize(seen, dim=-1) * F.normalize(read, dim=-1)).sum(dim=-1)
