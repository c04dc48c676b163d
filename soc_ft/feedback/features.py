"""Features of pictures that surrogates are fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from soc_ft.options import Precision
from soc_ft.rewards.clip import VIT_L_14
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile
from soc_ft.world.with_scorer import WithScorer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from soc_ft.rewards.networks.clip import ImageEmbeddingNetwork


class CLIPFeatures(NetworkReward):
    """Normalised image embeddings (B, 768) of OpenAI's ViT-L/14; prompts do not matter."""

    name: ClassVar[str] = "clip"

    def __init__(self, weights: str | None = None, dtype: Precision = "float32") -> None:
        """Load CLIP.

        Args:
            weights: file, folder or hub id of the weights of transformers' ``CLIPModel``.
            dtype: of the network.

        Raises:
            ConfigError: an argument is wrong; a file is missing, cannot be read or holds other
                weights.
        """
        self._build({"weights": weights, "dtype": dtype})

    @classmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """CLIP."""
        return cls.described(arguments, weights=VIT_L_14)

    @classmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> ImageEmbeddingNetwork:
        """The network."""
        from soc_ft.rewards.networks import clip

        return clip.ImageEmbeddingNetwork(clip.load_vit_l_14(files["weights"], dtype, cls.layers))


class ShapesFeatures(WithScorer):
    """What the embedded world's scorer sees, short of a score.

    The embedding e of the picture, its product with the embedding of the prompt (whose sum is
    their cosine), and features of the drawing.
    """

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) pictures in [0, 1] for B prompts -> (B, D)."""
        return self._scorer.features(images.float(), list(prompts))
