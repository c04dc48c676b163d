"""How the true reward may be asked; independent of the method that fine-tunes.

Nothing heavy is imported here: options are checked before torch is.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch

    from soc_ft.methods.problem import Problem
    from soc_ft.models.model import DiffusionModel


@dataclass(frozen=True)
class Circumstances:
    """What a protocol needs of the run.

    Attributes:
        model: encodes prompts and decodes.
        problem: the policy that is trained and the true reward.
        prompts: for training.
        seed: of the run.
        folder: where answers are kept.
        identity: of the configuration that they are answers under.
        rollout_batch: pictures that are sampled together.
        rank: of this process.
        ranks: how many there are.
    """

    model: DiffusionModel
    problem: Problem
    prompts: Sequence[str]
    seed: int
    folder: Path
    identity: str
    rollout_batch: int
    rank: int = 0
    ranks: int = 1


class Feedback(ABC):
    """A protocol of questions to the true reward.

    Attributes:
        config: the options of this instance.
        differentiable: whether what is trained on has a gradient, if not as the true reward has.
        queries: answers of the true reward so far, over all processes; validation is not counted.
    """

    class Config(BaseModel):
        """Options with their types, ranges, defaults and meanings; a protocol extends it."""

        model_config = ConfigDict(extra="forbid", frozen=True)

    config: Any
    differentiable: bool | None = None

    def __init__(self, **options: Any) -> None:
        """Take the options.

        Args:
            **options: of :class:`Config`.

        Raises:
            ValidationError: an option is unknown or out of its range.
        """
        self.config = self.Config(**options)
        self.queries = self._taken = self._before_round = 0

    @property
    def stages(self) -> int:
        """Parts of equal length that the run has; what is trained on changes between them."""
        return 1

    @property
    def prompt_sources(self) -> Sequence[str]:
        """Where it reads prompts of its own."""
        return ()

    @property
    def features(self) -> Any | None:
        """What it computes of pictures and prompts, (B, D), to predict the reward from."""
        return None

    def trained_on(self, problem: Problem) -> Problem:
        """The problem with the reward that the method is given."""
        return problem

    def begin_stage(self, stage: int, circumstances: Circumstances) -> Mapping[str, float]:
        """Do what comes before the first optimizer step of a stage, counted from 0.

        Returns:
            What to log.
        """
        return {}

    def begin_round(self) -> None:
        """Note that the questions from here on are of another round of samples."""
        self._before_round = self.queries

    def count(self, scored: int) -> None:
        """Note pictures that the reward of the training problem has scored, over all processes."""
        self.queries += scored

    def take_queries(self) -> int:
        """Answers of the true reward since the last call."""
        new, self._taken = self.queries - self._taken, self.queries
        return new

    @property
    def exhausted(self) -> bool:
        """Whether another round with as many questions as the last one would exceed the budget."""
        return False

    def to(self, device: torch.device) -> None:
        """Move what it computes with."""
        return

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, loadable by ``torch.load(weights_only=True)``."""
        return {"queries": self.queries, "before_round": self._before_round}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.queries = self._taken = state["queries"]
        self._before_round = state["before_round"]
