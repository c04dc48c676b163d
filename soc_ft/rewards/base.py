"""What a reward is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard, runtime_checkable

if TYPE_CHECKING:
    from typing import Self

    import torch

    from soc_ft.data.metadata import Metadata

Moments = tuple[float, float]
"""Mean and standard deviation."""


class Reward(Protocol):
    """Scores pictures for their prompts.

    A reward's module imports torch and the like inside its methods, so that a configuration can
    be checked (``differentiable``, the constructor's arguments) within a second. Scores of
    different samples must not depend on each other.
    """

    name: ClassVar[str]

    @property
    def differentiable(self) -> bool:
        """Whether gradients reach the pictures; a class attribute, so that it can be checked."""
        ...

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Score (B, 3, H, W) pictures in [0, 1] for B prompts: (B,), higher is better."""
        ...

    def to(self, device: torch.device) -> Self:
        """Move the networks, if there are any."""
        ...


@runtime_checkable
class ChecksArguments(Protocol):
    """A reward with more to check than the names of its arguments."""

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str) -> None:
        """Check arguments, and that weights can be had, without importing torch.

        Args:
            arguments: of the constructor; rewards among them are still configurations.
            key: of the reward in the configuration.

        Raises:
            ConfigError: names the argument and says what to do.
        """
        ...


@runtime_checkable
class Downloads(Protocol):
    """A component with weights that can be downloaded ahead."""

    @classmethod
    def download(cls, arguments: Mapping[str, Any]) -> None:
        """Download what is not there; arguments as of the constructor."""
        ...


@runtime_checkable
class ImportsNames(Protocol):
    """A component with arguments that are dotted names of code, which it imports."""

    imported_names: ClassVar[tuple[str, ...]]


@runtime_checkable
class UsesMetadata(Protocol):
    """A reward or metric that wants to know what files say of prompts beside their text."""

    def use_metadata(self, of_prompts: Metadata) -> None:
        """Take it in; called once, when a run or an evaluation is built, before any picture.

        Args:
            of_prompts: by the text of each prompt that will be scored, the further keys of its JSON
                object, or the further columns of its row; empty if it has none.
        """
        ...


@runtime_checkable
class Wraps(Protocol):
    """A reward that asks others, rewards or functions, for its scores."""

    def wrapped(self) -> Iterable[Any]:
        """What it asks."""
        ...


@runtime_checkable
class Composite(Protocol):
    """A reward made of named parts, each of which is worth logging on its own."""

    def part_scores(self, images: torch.Tensor, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """(B,) scores by part; arguments as of the reward itself."""
        ...

    def combine(self, scores: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(B,) scores of the reward from those of its parts."""
        ...


@runtime_checkable
class Standardises(Reward, Composite, Protocol):
    """A composite reward whose parts can be standardised: minus a mean, divided by a deviation.

    A run measures these moments on its base model's pictures of the held-out prompts, before its
    first optimizer step, and keeps them: moments that followed the training would change what it
    maximises. Elsewhere they are given, as ``statistics`` to the constructor.

    Attributes:
        statistics: moments by part; none if the scores stay raw. None as long as moments are wanted
            and not known: the parts have scores then, and the reward has none.
    """

    statistics: Mapping[str, Moments] | None

    def standardised_by(self, statistics: Mapping[str, Moments]) -> Self:
        """The same reward, of the same parts, with these moments; without any, of raw scores."""
        ...

    @classmethod
    def lacks_statistics(cls, arguments: Mapping[str, Any]) -> bool:
        """Whether moments are wanted and not known of what the constructor makes of arguments."""
        ...


def awaits_statistics(reward: object) -> TypeGuard[Standardises]:
    """Whether a reward is still to be given the moments of its parts."""
    return isinstance(reward, Standardises) and reward.statistics is None
