"""Fine-tuning modes: which weights are trained, and what they start from.

The modes are plain settings, light to import; ``attach`` builds the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from soc_ft.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from soc_ft.models.networks import Networks


class FineTuning(Protocol):
    """How a pretrained UNet is fine-tuned."""

    def attach(self, unet: UNet2DConditionModel) -> Networks:
        """Build base and trained network from a frozen, pretrained ``unet``."""
        ...


@dataclass(frozen=True)
class Full:
    """Train a second copy of the whole UNet; it starts at the base prediction."""

    def attach(self, unet: UNet2DConditionModel) -> Networks:
        """Copy the UNet."""
        from soc_ft.models.networks import TwoNetworks, trainable_copy

        return TwoNetworks(unet, trainable_copy(unet), additive=False)


@dataclass(frozen=True)
class LoRA:
    """Train low-rank updates of the attention layers (Hu et al. 2021); starts at the base model.

    The base model is the same network with the updates off, so there is one copy in memory.

    Attributes:
        rank: of the updates, >= 1.
        alpha: the updates are scaled by alpha / rank.
        targets: names of the linear layers that are updated.
        seed: of the Gaussian initialisation of the first factor; the second starts at zero.
    """

    rank: int = 16
    alpha: float = 16
    targets: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"finetune.rank={self.rank}: must be at least 1")
        if self.alpha <= 0:
            raise ConfigError(f"finetune.alpha={self.alpha}: must be positive")

    def attach(self, unet: UNet2DConditionModel) -> Networks:
        """Add the adapter layers to ``unet`` itself.

        Raises:
            ConfigError: no layer of the UNet has one of the names in ``targets``.
        """
        from soc_ft.models.networks import AdaptedNetwork

        return AdaptedNetwork(
            unet, rank=self.rank, alpha=self.alpha, targets=self.targets, seed=self.seed
        )


@dataclass(frozen=True)
class Offset:
    """Train a second copy of the UNet whose output is added to the base model's eps_hat.

    The last layer is re-initialised small, so the model starts near the base prediction. The
    regression evaluates the trained network only, where the base prediction is known already.

    Attributes:
        init_scale: the last layer's weights are normal with standard deviation
            init_scale / sqrt(fan-in), which makes offsets of the order of ``init_scale``.
        seed: of that initialisation.
    """

    init_scale: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.init_scale < 0:
            raise ConfigError(f"finetune.init_scale={self.init_scale}: must not be negative")

    def attach(self, unet: UNet2DConditionModel) -> Networks:
        """Copy the UNet and re-initialise the copy's last layer."""
        from soc_ft.models.networks import TwoNetworks, reinitialise, trainable_copy

        offset = trainable_copy(unet)
        reinitialise(offset.conv_out, self.init_scale, self.seed)
        return TwoNetworks(unet, offset, additive=True)


@dataclass(frozen=True)
class Frozen:
    """Train nothing: a base model to sample from, in memory once."""

    def attach(self, unet: UNet2DConditionModel) -> Networks:
        """Let the UNet be both networks."""
        from soc_ft.models.networks import TwoNetworks

        return TwoNetworks(unet, unet, additive=False)
