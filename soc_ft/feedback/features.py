"""Features of pictures that surrogates are fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from soc_ft.options import Precision
from soc_ft.rewards.clip import VIT_L_14
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile

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
        from soc_ft.rewards.networks.loading import key_in_clip, load_frozen

        embedder = load_frozen(
            clip.vit_l_14, files["weights"], dtype, layers=cls.layers, key_in_file=key_in_clip
        )
        return clip.ImageEmbeddingNetwork(embedder)


class ShapesFeatures:
    """What the embedded world's scorer sees, short of a score.

    The embedding e of the picture, its product with the embedding of the prompt (whose sum is
    their cosine), and features of the drawing.
    """

    def __init__(self, weights: str | None = None) -> None:
        """Load the scorer.

        Args:
            weights: folder of the scorer; the shipped one by default.

        Raises:
            ConfigError: ``weights`` does not hold a scorer.
        """
        from soc_ft.world import REWARD
        from soc_ft.world.scorer import ShapesScorer

        self._scorer = ShapesScorer.load(Path(weights) if weights else REWARD)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) pictures in [0, 1] for B prompts -> (B, D)."""
        return self._scorer.features(images.float(), list(prompts))

    def to(self, device: torch.device | str) -> Self:
        """Move the scorer."""
        self._scorer.to(device)
        return self
