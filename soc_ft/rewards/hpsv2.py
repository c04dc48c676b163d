"""Human Preference Score v2: a fine-tuned CLIP ViT-H/14 (Wu et al. 2023, arXiv:2306.09341)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from soc_ft.options import BatchSize, Precision
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile

if TYPE_CHECKING:
    import torch

    from soc_ft.rewards.networks.hpsv2 import HPSv2Network

CHECKPOINTS = {"v2.0": "HPS_v2_compressed.pt", "v2.1": "HPS_v2.1_compressed.pt"}


class HPSv2(NetworkReward):
    """Human preference for a picture given its prompt: a cosine, typically 0.2 to 0.35.

    The picture is fitted into a square with black margins; prompts are cut to 77 tokens.
    """

    name = "hpsv2"

    def __init__(
        self,
        version: Literal["v2.0", "v2.1"] = "v2.1",
        weights: str | None = None,
        dtype: Precision = "float32",
        batch_size: BatchSize | None = None,
    ) -> None:
        """Load the network.

        Args:
            version: of the published weights, "v2.1" or "v2.0".
            weights: file, folder or hub id of the checkpoint.
            dtype: of the network.
            batch_size: pictures that are scored and differentiated together; None is all of them.

        Raises:
            ConfigError: an argument is wrong; a file is missing, cannot be read or holds other
                weights.
        """
        self._build(
            {"version": version, "weights": weights, "dtype": dtype, "batch_size": batch_size}
        )

    @classmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """The checkpoint of the version."""
        filename = CHECKPOINTS[arguments.get("version", "v2.1")]
        return cls.described(arguments, weights=("xswu/HPSv2", filename))

    @classmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> HPSv2Network:
        """The network."""
        from soc_ft.rewards.networks.hpsv2 import HPSv2Network
        from soc_ft.rewards.networks.loading import key_in_clip, load_frozen

        return load_frozen(
            HPSv2Network, files["weights"], dtype, layers=cls.layers, key_in_file=key_in_clip
        )
