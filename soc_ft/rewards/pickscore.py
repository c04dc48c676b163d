"""PickScore: human preference on CLIP ViT-H/14 (Kirstain et al. 2023, arXiv:2305.01569)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile

if TYPE_CHECKING:
    import torch

    from soc_ft.rewards.networks.clip import CosineNetwork


class PickScore(NetworkReward):
    """Human preference for a picture given its prompt: a cosine times CLIP's learned scale.

    Prompts are cut to 77 tokens.

    Args:
        weights: file, folder or hub id of ``model.safetensors``.
        dtype: of the network.
        batch_size: pictures that are scored and differentiated together; None is all of them.

    Raises:
        ConfigError: an argument is wrong; a file is missing, cannot be read or holds other weights.
    """

    name = "pickscore"

    @classmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """The fine-tuned CLIP."""
        return cls.described(arguments, weights=("yuvalkirstain/PickScore_v1", "model.safetensors"))

    @classmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> CosineNetwork:
        """The network."""
        from soc_ft.rewards.networks import clip
        from soc_ft.rewards.networks.loading import key_in_clip, load_frozen

        embedder = load_frozen(
            clip.vit_h_14, files["weights"], dtype, layers=cls.layers, key_in_file=key_in_clip
        )
        return clip.CosineNetwork(embedder, scaled=True)
