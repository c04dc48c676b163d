"""ImageReward: human preference, learned on BLIP (Xu et al. 2023, arXiv:2304.05977)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from soc_ft.options import BatchSize, Precision
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.weights import WeightFile

if TYPE_CHECKING:
    import torch

    from soc_ft.rewards.networks.imagereward import ImageRewardNetwork


class ImageReward(NetworkReward):
    """Human preference for a picture given its prompt; about standardised over the training data.

    Prompts are cut to 35 tokens of bert-base-uncased, as in the official code.
    """

    name = "imagereward"

    def __init__(
        self,
        weights: str | None = None,
        vocabulary: str | None = None,
        dtype: Precision = "float32",
        batch_size: BatchSize | None = None,
    ) -> None:
        """Load the network and its tokenizer.

        Args:
            weights: file, folder or hub id of ``ImageReward.pt``.
            vocabulary: file, folder or hub id of the ``vocab.txt`` of bert-base-uncased.
            dtype: of the network.
            batch_size: pictures that are scored and differentiated together; None is all of them.

        Raises:
            ConfigError: an argument is wrong; a file is missing, cannot be read or holds other
                weights.
        """
        self._build(
            {
                "weights": weights,
                "vocabulary": vocabulary,
                "dtype": dtype,
                "batch_size": batch_size,
            }
        )

    @classmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """The checkpoint and the vocabulary."""
        return cls.described(
            arguments,
            weights=("THUDM/ImageReward", "ImageReward.pt"),
            vocabulary=("google-bert/bert-base-uncased", "vocab.txt"),
        )

    @classmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> ImageRewardNetwork:
        """The network with its tokenizer."""
        from soc_ft.rewards.networks import imagereward
        from soc_ft.rewards.networks.loading import load_frozen

        vocabulary = files["vocabulary"]
        tokenizer = imagereward.load_tokenizer(vocabulary.fetch(), str(vocabulary))
        network = load_frozen(
            imagereward.ImageRewardNetwork,
            files["weights"],
            dtype,
            layers=cls.layers,
            key_in_file=imagereward.official_key,
            ignored=imagereward.IGNORED,
        )
        network.tokenizer = tokenizer
        return network
