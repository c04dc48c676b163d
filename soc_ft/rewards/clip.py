"""CLIP score: does the picture show what the prompt says (Radford et al. 2021)?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile

if TYPE_CHECKING:
    import torch

    from soc_ft.rewards.networks.clip import CosineNetwork

VIT_L_14 = ("openai/clip-vit-large-patch14", "model.safetensors")


class CLIPScore(NetworkReward):
    """Cosine of the embeddings of picture and prompt under OpenAI's ViT-L/14, in [-1, 1].

    Prompts are cut to 77 tokens.

    Args:
        weights: file, folder or hub id of the weights of transformers' ``CLIPModel``.
        dtype: of the network.
        batch_size: pictures that are scored and differentiated together; None is all of them.

    Raises:
        ConfigError: an argument is wrong; a file is missing, cannot be read or holds other weights.
    """

    name = "clip"

    @classmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """CLIP."""
        return cls.described(arguments, weights=VIT_L_14)

    @classmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> CosineNetwork:
        """The network."""
        from soc_ft.rewards.networks import clip

        embedder = clip.load_vit_l_14(files["weights"], dtype, cls.layers)
        return clip.CosineNetwork(embedder, scaled=False)
