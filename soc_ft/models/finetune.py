"""Fine-tuning modes: which weights are trained, and what they start from.

The modes are plain settings, light to import; ``attach`` builds the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from soc_ft.checking import check_call
from soc_ft.options import Count, CountOrZero, NonNegative, Positive

if TYPE_CHECKING:
    from soc_ft.models.family import Family
    from soc_ft.models.networks import Networks


class FineTuning(Protocol):
    """How a pretrained network is fine-tuned."""

    def attach(self, family: Family) -> Networks:
        """Build base and trained network from the frozen, pretrained one of a family."""
        ...


@dataclass(frozen=True)
class Full:
    """Train a second copy of the whole network; it starts at the base prediction.

    Attributes:
        init: weights to start from instead: the folder of a run, an export or a checkpoint of one,
            as in ``starting.find_start``. The base model stays the pretrained one.
    """

    init: str | None = None

    def attach(self, family: Family) -> Networks:
        """Copy the network."""
        from soc_ft.models.networks import TwoNetworks, trainable_copy

        return TwoNetworks(family.network, trainable_copy(family.network), family.call)


@dataclass(frozen=True)
class LoRA:
    """Train low-rank updates of the attention layers (Hu et al. 2021); starts at the base model.

    The base model is the same network with the updates off, so there is one copy in memory.

    Attributes:
        rank: of the updates, >= 1.
        alpha: the updates are scaled by alpha / rank; positive.
        targets: names of the layers that are updated, or how they end.
        seed: of the Gaussian initialisation of the first factor; the second starts at zero.
        init: weights to start from instead: the folder of a run, an export or a checkpoint of one,
            as in ``starting.find_start``. The base model stays the pretrained one.
    """

    rank: Count = 16
    alpha: Positive = 16
    targets: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")
    seed: CountOrZero = 0
    init: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: names the first that is left.
        """
        check_call(LoRA, vars(self), "finetune")

    def attach(self, family: Family) -> Networks:
        """Add the adapter layers to the network itself.

        Raises:
            ConfigError: one of the ``targets`` names no layer, or none that can be updated.
        """
        from soc_ft.models.networks import AdaptedNetwork

        return AdaptedNetwork(
            family.network,
            family.call,
            rank=self.rank,
            alpha=self.alpha,
            targets=self.targets,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Offset:
    """Train a second copy of the network whose output is added to the base model's.

    The last layer is re-initialised small, so the model starts near the base prediction. The
    regression evaluates the trained network only, where the base prediction is known already.

    Attributes:
        init_scale: the last layer's weights are normal with standard deviation
            init_scale / sqrt(fan-in), which makes offsets of the order of ``init_scale``; >= 0.
        seed: of that initialisation.
        init: weights to start from instead: the folder of a run, an export or a checkpoint of one,
            as in ``starting.find_start``. The base model stays the pretrained one.
    """

    init_scale: NonNegative = 1e-2
    seed: CountOrZero = 0
    init: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: names the first that is left.
        """
        check_call(Offset, vars(self), "finetune")

    def attach(self, family: Family) -> Networks:
        """Copy the network and re-initialise the copy's last layer."""
        from soc_ft.models.networks import TwoNetworks, reinitialise, trainable_copy

        offset = trainable_copy(family.network)
        reinitialise(family.last_layer(offset), self.init_scale, self.seed)
        return TwoNetworks(family.network, offset, family.call, additive=True)


@dataclass(frozen=True)
class Frozen:
    """Train nothing: a base model to sample from, in memory once."""

    def attach(self, family: Family) -> Networks:
        """Let the network be both."""
        from soc_ft.models.networks import TwoNetworks

        return TwoNetworks(family.network, family.network, family.call)
