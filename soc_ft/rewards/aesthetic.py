"""LAION's aesthetic predictor, version 2: a linear head on CLIP ViT-L/14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from soc_ft.options import BatchSize, Precision
from soc_ft.rewards.clip import VIT_L_14
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile

if TYPE_CHECKING:
    import torch

    from soc_ft.rewards.networks.clip import AestheticNetwork


class Aesthetic(NetworkReward):
    """How much people would like a picture, whatever its prompt, from about 1 to 10."""

    name = "aesthetic"

    def __init__(
        self,
        weights: str | None = None,
        clip_weights: str | None = None,
        dtype: Precision = "float32",
        batch_size: BatchSize | None = None,
    ) -> None:
        """Load CLIP and the head.

        Args:
            weights: file, folder or hub id of the head (``sac+logos+ava1-l14-linearMSE.pth`` of
                github.com/christophschuhmann/improved-aesthetic-predictor, by another name on the
                hub).
            clip_weights: file, folder or hub id of the weights of transformers' ``CLIPModel``.
            dtype: of CLIP; the head is float32.
            batch_size: pictures that are scored and differentiated together; None is all of them.

        Raises:
            ConfigError: an argument is wrong; a file is missing, cannot be read or holds other
                weights.
        """
        self._build(
            {
                "weights": weights,
                "clip_weights": clip_weights,
                "dtype": dtype,
                "batch_size": batch_size,
            }
        )

    @classmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """The head and CLIP."""
        return cls.described(
            arguments,
            weights=("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth"),
            clip_weights=VIT_L_14,
        )

    @classmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> AestheticNetwork:
        """The network."""
        import torch

        from soc_ft.rewards.networks import clip
        from soc_ft.rewards.networks.loading import load_frozen

        head = load_frozen(clip.AestheticHead, files["weights"], torch.float32)
        embedder = clip.load_vit_l_14(files["clip_weights"], dtype, cls.layers)
        return clip.AestheticNetwork(embedder, head)
