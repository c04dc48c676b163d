"""What a fine-tuning method is.

Nothing heavy is imported here: a method's options and needs are checked before torch is. A method's
file keeps to that by importing torch inside its functions, and the rest as ``from soc_ft import
core``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from soc_ft import core
from soc_ft.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.core import Condition
    from soc_ft.methods.problem import Problem


@dataclass(frozen=True)
class Anchor:
    """A further policy beside the base and the trained one: a copy of the trained weights.

    Attributes:
        name: that :meth:`Problem.anchor` is asked for.
        refresh: when it follows the trained weights: before each round of samples (the policy
            that sampled), after each optimizer step, when a stage of feedback begins, or never.
        decay: share of itself that it keeps at a refresh, in [0, 1); 0 copies.
    """

    name: str
    refresh: Literal["round", "step", "stage", "never"] = "round"
    decay: float = 0.0


@dataclass(frozen=True)
class Needs:
    """What a method asks for; a configuration that does not give it is refused before it starts.

    Attributes:
        reward_gradient: the reward must be differentiable.
        memoryless: the process must forget its start (eta >= 1).
        denoiser: the network must predict the mean of the noise, or clean latent, that it was
            trained on, which is a velocity field; one that was distilled to few steps does not.
        noise: the transitions must be random (eta > 0), so that they have a density.
        group_size: consecutive samples that share a prompt.
        anchors: further policies.
        replay: samples may be used after the policy that drew them has moved.
        importance: :meth:`Method.log_ratio` gives a ratio, so such samples can be weighted; without
            ``replay`` they must be.
    """

    reward_gradient: bool = False
    memoryless: bool = False
    denoiser: bool = False
    noise: bool = False
    group_size: int = 1
    anchors: tuple[Anchor, ...] = ()
    replay: bool = True
    importance: bool = False


@dataclass(frozen=True)
class Request:
    """The samples that a method is asked to collect.

    Attributes:
        prompts: B prompts; those of a group are the same.
        condition: B rows, their encodings.
        latent_shape: shape of one latent.
        seed: seed of the run.
        addresses: B pairs (round, sample), distinct over the whole run, that all randomness is
            drawn by.
        passes: how often the samples will be used.
        group_size: consecutive samples of a round that share a prompt.
        transitions: which transitions :meth:`Method.log_ratio` will be asked for: ``none``, the
            pairs' ``own``, or ``all`` of the trajectory.
    """

    prompts: Sequence[str]
    condition: Condition
    latent_shape: tuple[int, ...]
    seed: int
    addresses: Sequence[tuple[int, int]]
    passes: int = 1
    group_size: int = 1
    transitions: Literal["none", "own", "all"] = "none"

    def normal(self, stream: str, shape: Sequence[int], *, shared: bool = False) -> Tensor:
        """(B, *shape) standard normal draws for the use named ``stream``.

        With ``shared`` the samples of a group get the same draw.
        """
        return core.normal(shape, self.seed, *self._places(stream, shared)).to(
            self.condition.device
        )

    def uniform(self, stream: str, shape: Sequence[int], *, shared: bool = False) -> Tensor:
        """(B, *shape) draws uniform in [0, 1) for the use named ``stream``."""
        return core.uniform(shape, self.seed, *self._places(stream, shared)).to(
            self.condition.device
        )

    def _places(self, stream: str, shared: bool) -> tuple[str, Sequence[tuple[int, int]]]:
        if not shared:
            return stream, self.addresses
        return f"{stream} of a group", [(r, i // self.group_size) for r, i in self.addresses]


@dataclass(frozen=True)
class Experience:
    """What was collected.

    Attributes:
        rewards: (B,).
        tensors: what :meth:`Method.loss` needs, each with leading dim B. They stay where they were
            made.
        stats: further numbers, each (B,), or (B, n) with a column for each step of the trajectory
            and zero where it was not measured. They are logged, and :meth:`Method.prepare` has
            those of the whole round.
    """

    rewards: Tensor
    tensors: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """The samples of a round over all chunks and processes, in the order of their numbers.

    Attributes:
        index: number of the round, from 0.
        rewards: (n,) on the CPU.
        finite: (n,) bool, samples none of whose numbers is infinite or NaN; the others are left
            out of the loss, and should be of statistics.
        stats: of :class:`Experience`, each (n,) or (n, ...).
        prompts: n prompts.
        group_size: consecutive samples that share a prompt.
    """

    index: int
    rewards: Tensor
    finite: Tensor
    stats: Mapping[str, Tensor]
    prompts: Sequence[str]
    group_size: int


@dataclass(frozen=True)
class Batch:
    """N pairs of a sample and one of its slots, out of the B samples of an optimizer batch.

    Attributes:
        tensors: of the B samples, as collected and prepared; the rewards are among them.
        conditions: B rows.
        sample_prompts: B prompts.
        addresses: B pairs (round, sample).
        seed: seed of the run.
        pass_index: how often the samples were used before.
        rows: (N,) int64, positions of the pairs' samples.
        slots: (N,) int64, in [0, :meth:`Method.pairs_per_sample`).
    """

    tensors: Mapping[str, Tensor]
    conditions: Condition
    sample_prompts: Sequence[str]
    addresses: Sequence[tuple[int, int]]
    seed: int
    pass_index: int
    rows: Tensor
    slots: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def __getitem__(self, name: str) -> Tensor:
        """(N, ...) entries of the pairs' samples of a tensor (B, ...)."""
        return self.tensors[name][self.rows]

    def slot(self, name: str) -> Tensor:
        """(N, ...) entries of the pairs of a tensor (B, passes, slots, ...)."""
        return self.tensors[name][self.rows, self.pass_index, self.slots]

    def at(self, name: str, places: Tensor) -> Tensor:
        """(N, ...) entries of a tensor (B, n, ...) at each pair's own place (N,)."""
        return self.tensors[name][self.rows, places]

    @property
    def condition(self) -> Condition:
        """N rows."""
        return self.conditions[self.rows]

    @property
    def prompts(self) -> list[str]:
        """N prompts."""
        return [self.sample_prompts[row] for row in self.rows.tolist()]

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        """(N, *shape) standard normal draws, each pair's own in each pass."""
        return core.normal(shape, self.seed, stream, self._places()).to(self.rows.device)

    def uniform(self, stream: str, shape: Sequence[int]) -> Tensor:
        """(N, *shape) draws uniform in [0, 1), each pair's own in each pass."""
        return core.uniform(shape, self.seed, stream, self._places()).to(self.rows.device)

    def select(self, pairs: slice | Tensor) -> Batch:
        """Some of the pairs."""
        return replace(self, rows=self.rows[pairs], slots=self.slots[pairs])

    def _places(self) -> list[tuple[int, ...]]:
        pairs = zip(self.rows.tolist(), self.slots.tolist(), strict=True)
        return [(*self.addresses[row], self.pass_index, slot) for row, slot in pairs]


@dataclass(frozen=True)
class Terms:
    """Losses of N pairs.

    Attributes:
        loss: (N,), differentiable; each a function of its own pair alone.
        stats: numbers to log, each (N,), detached.
        weight: (N,) >= 0, how much each loss counts in the mean over all pairs; None is one. A pair
            of weight zero is left out and still counted.
        notes: numbers that :meth:`Method.finish_step` wants of all pairs, each (N,), detached; they
            are not logged.
    """

    loss: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)


def within_trajectory(option: str, asked: int, num_steps: int) -> int:
    """``asked``, the value of an option, if a trajectory has as many steps.

    Raises:
        ConfigError: it has fewer.
    """
    if asked > num_steps:
        raise ConfigError(
            f"method.{option}={asked}: a trajectory has scheduler.num_steps={num_steps}"
        )
    return asked


class Method(ABC):
    """A fine-tuning method: what it collects, what it makes of a round, and its loss on pairs.

    Sampling in batches, replay, micro-batches, optimisation, distribution, logging and resuming
    are shared by all methods and live elsewhere.

    Attributes:
        needs: what it asks for; where that depends on the options, a property.
        config: the options of this instance.
    """

    class Config(BaseModel):
        """Options with their types, ranges, defaults and meanings; a method extends it."""

        model_config = ConfigDict(extra="forbid", frozen=True)

    needs: Needs = Needs()
    config: Any

    def __init__(self, **options: Any) -> None:
        """Take the options.

        Args:
            **options: of :class:`Config`.

        Raises:
            ValidationError: an option is unknown or out of its range.
        """
        self.config = self.Config(**options)

    def pairs_per_sample(self, num_steps: int) -> int:
        """S, pairs that each sample contributes to an optimizer step; 1 is whole samples.

        Args:
            num_steps: K of the process.

        Raises:
            ConfigError: the options do not fit a process of so many steps.
        """
        return 1

    @abstractmethod
    def collect(self, problem: Problem, request: Request) -> Experience:
        """Sample with the current model, without gradient; no statistics across samples."""

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """What follows from a whole round: advantages, dense returns, preferences.

        The same on every process.

        Returns:
            Tensors (n, ...) of the round's samples, which :meth:`loss` finds beside those that
            were collected.
        """
        return {}

    def complete(self, problem: Problem, samples: Batch) -> dict[str, Tensor]:
        """What the losses of an optimizer batch need beside what was collected and prepared.

        Asked once an optimizer step, of all samples: :meth:`loss` is asked in micro-batches, where
        to look at a number is to wait for the device, and where all processes call networks equally
        often (see :meth:`Problem.most`).

        Args:
            problem: what was sampled.
            samples: of this process, without pairs.

        Returns:
            Tensors (B, ...), which :meth:`loss` finds beside the others.
        """
        return {}

    @abstractmethod
    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Loss of the pairs of a batch; it is averaged over all pairs of the optimizer step."""

    def steps_of(self, batch: Batch) -> Tensor:
        """(N,) int64, the step of its trajectory that each pair is about.

        Asked of methods whose ``needs.importance`` is true.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no importance ratio")

    def log_ratio(self, problem: Problem, batch: Batch, steps: Tensor | None = None) -> Tensor:
        """(N,) log ratio of the current model to the one that sampled, of one transition a pair.

        Asked of methods whose ``needs.importance`` is true.

        Args:
            problem: what was sampled.
            batch: N pairs.
            steps: (N,) int64, any transitions of the pairs' trajectories, if they were collected
                with ``transitions="all"``; None asks for the pairs' own.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no importance ratio")

    def finish_step(self, losses: Tensor, notes: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from an optimizer step.

        Args:
            losses: (n,), of all pairs over all processes.
            notes: of :class:`Terms`, of the same pairs.

        Returns:
            What to log.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, loadable by ``torch.load(weights_only=True)``."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        return
