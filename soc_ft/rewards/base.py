"""What a reward is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from typing import Self

    import torch


class Reward(Protocol):
    """Scores pictures for their prompts.

    A reward's module imports torch and the like inside its methods, so that a configuration can
    be checked (``differentiable``, the constructor's arguments) within a second.
    """

    name: ClassVar[str]
    differentiable: ClassVar[bool]

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Score (B, 3, H, W) pictures in [0, 1] for B prompts: (B,), higher is better."""
        ...

    def to(self, device: torch.device) -> Self:
        """Move the networks, if there are any."""
        ...
