"""What rewards that a frozen network computes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from soc_ft.checking import check_call
from soc_ft.errors import check_all
from soc_ft.options import BatchSize, Precision
from soc_ft.rewards.weights import WeightFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from soc_ft.rewards.networks.loading import ScoringNetwork


class NetworkReward(ABC):
    """Loads a frozen network when it is built, and scores with it.

    Rewards with the same weights and precision share one network in a process.
    """

    name: ClassVar[str]
    differentiable: ClassVar[bool] = True
    layers: ClassVar[tuple[int, ...]] = ()
    """Depths of the network's picture and text parts, if not those of the published weights."""

    def __init__(
        self,
        weights: str | None = None,
        dtype: Precision = "float32",
        batch_size: BatchSize | None = None,
    ) -> None:
        """Load the network, or share one that is loaded.

        Args:
            weights: file, folder or hub id of the weights.
            dtype: of the network.
            batch_size: pictures that are scored and differentiated together; None is all of them.

        Raises:
            ConfigError: an argument is wrong; a file is missing, cannot be read or holds other
                weights.
        """
        self._build({"weights": weights, "dtype": dtype, "batch_size": batch_size})

    def _build(self, arguments: Mapping[str, Any]) -> None:
        """Load the network; for constructors with further arguments, which all go in by name."""
        check_call(type(self), arguments, "reward")
        import torch

        self.batch_size: int | None = arguments.get("batch_size")
        self.network = self.load(self.files(arguments), getattr(torch, arguments["dtype"]))

    @classmethod
    @abstractmethod
    def files(cls, arguments: Mapping[str, Any]) -> dict[str, WeightFile]:
        """The files that a reward with these arguments needs, by argument."""

    @classmethod
    @abstractmethod
    def load(cls, files: Mapping[str, WeightFile], dtype: torch.dtype) -> ScoringNetwork:
        """The frozen network with the weights of ``files``."""

    @classmethod
    def described(
        cls, arguments: Mapping[str, Any], **published: tuple[str, str]
    ) -> dict[str, WeightFile]:
        """Files by argument, from the (hub id, name) under which they are published."""
        return {
            argument: WeightFile(cls.name, argument, *home, arguments.get(argument))
            for argument, home in published.items()
        }

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str = "reward") -> None:
        """Check the arguments, and that every file can be had.

        Args:
            arguments: of the constructor.
            key: of the reward in the configuration.

        Raises:
            ConfigError: names the argument and says what to do.
        """
        check_call(cls, arguments, key)
        check_all(replace(file, key=key).check for file in cls.files(arguments).values())

    @classmethod
    def download(cls, arguments: Mapping[str, Any]) -> None:
        """Download the files that are not there; arguments as of the constructor."""
        for file in cls.files(arguments).values():
            file.fetch()

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score pictures; gradients reach them, and only them.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size.
            prompts: B prompts, of any length: what exceeds the tokenizer's limit is cut off.

        Returns:
            (B,) scores in float32, higher is better.
        """
        if self.batch_size is None:
            return self.network(images, prompts)
        from soc_ft.rewards.networks.microbatch import score_in_parts

        return score_in_parts(self.network, images, prompts, self.batch_size)

    def to(self, device: torch.device | str) -> Self:
        """Move the network, which other rewards may share, to a device."""
        self.network.to(device)
        return self
