"""What a fine-tuning method is, and what it may ask of the model and the reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from soc_ft.core import Schedule, normal, uniform
from soc_ft.methods.problem import PartScores
from soc_ft.profiling import Clock
from soc_ft.rewards.base import Composite, Reward


class Denoisers(Protocol):
    """The base model and the fine-tuned one. Shapes are those of :data:`soc_ft.core.Predictor`."""

    def base(
        self, x: Tensor, t: Tensor, condition: Tensor, guidance_scale: float = 1.0
    ) -> Tensor: ...

    def finetuned(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        guidance_scale: float = 1.0,
        base_prediction: Tensor | None = None,
    ) -> Tensor: ...

    def null_condition(self) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


@dataclass
class ControlProblem:
    """One stochastic optimal control problem: a base process, a reward, and how guidance enters.

    Attributes:
        model: predictions and decoding.
        reward: scores pictures for their prompts.
        schedule: the transitions that are controlled.
        reward_scale: lambda > 0; the optimum samples p_base(x) exp(lambda r(x)).
        guidance_scale: w of the trajectories that are sampled; 1 means none.
        guidance_in_adjoint: whether the adjoint differentiates the guided base prediction.
        guidance_in_control: whether the control compares guided predictions.
        reward_batch: pictures that are decoded and scored together.
        adjoint_batch: trajectories whose adjoint is solved together.
        clock: receives the seconds of each phase.
        parts: receives the scores of the reward's parts, if it has any.
    """

    model: Denoisers
    reward: Reward
    schedule: Schedule
    reward_scale: float
    guidance_scale: float
    guidance_in_adjoint: bool
    guidance_in_control: bool
    reward_batch: int
    adjoint_batch: int
    clock: Clock = field(default_factory=Clock)
    parts: PartScores = field(default_factory=PartScores)

    def sample_with(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """eps_hat of the fine-tuned model as trajectories are sampled: the law behind a ratio."""
        return self.model.finetuned(x, t, condition, self.guidance_scale)

    def base_in_adjoint(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """eps_hat of the base model whose Jacobian the adjoint follows."""
        return self.model.base(x, t, condition, self._scale(self.guidance_in_adjoint))

    def base_in_control(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """eps_hat of the base model that the control is measured from."""
        return self.model.base(x, t, condition, self._scale(self.guidance_in_control))

    def finetuned_in_control(
        self, x: Tensor, t: Tensor, condition: Tensor, base_prediction: Tensor
    ) -> Tensor:
        """eps_hat of the fine-tuned model that is regressed."""
        return self.model.finetuned(
            x, t, condition, self._scale(self.guidance_in_control), base_prediction
        )

    def reward_of(self, latents: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) float32 rewards of clean latents, without gradient."""
        scores = []
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            for rows in chunks(len(latents), self.reward_batch):
                images = self.model.decode(latents[rows])
                scores.append(self._score(images, prompts[rows]))
        return torch.cat(scores)

    def reward_and_gradient(self, latents: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B,) rewards and (B, *latent) their gradients with respect to clean latents."""
        scores = torch.empty(len(latents), device=latents.device)
        gradient = torch.empty_like(latents)
        # Scores are compared and differentiated; reduced precision costs more than it saves here.
        with torch.enable_grad(), torch.autocast(latents.device.type, enabled=False):
            for rows in chunks(len(latents), self.reward_batch):
                x = latents[rows].detach().requires_grad_()
                score = self._score(self.model.decode(x), prompts[rows])
                gradient[rows] = torch.autograd.grad(score.sum(), x)[0]
                scores[rows] = score.detach()
        return scores, gradient

    def _score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        if not isinstance(self.reward, Composite):
            return self.reward(images, prompts).float()
        scores = self.reward.part_scores(images, prompts)
        self.parts.note(scores)
        return self.reward.combine(scores).float()

    def _scale(self, guided: bool) -> float:
        return self.guidance_scale if guided else 1.0


@dataclass(frozen=True)
class Request:
    """The samples that a method is asked to collect.

    Attributes:
        prompts: B prompts.
        condition: (B, L, D), their encodings.
        latent_shape: shape of one latent.
        seed: seed of the run.
        addresses: B integer tuples, distinct over the whole run, that all randomness is drawn by.
        passes: how often the samples will be used.
        keep_predictions: whether :meth:`Method.log_weights` will be asked for.
    """

    prompts: Sequence[str]
    condition: Tensor
    latent_shape: tuple[int, ...]
    seed: int
    addresses: Sequence[tuple[int, ...]]
    passes: int
    keep_predictions: bool

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        """(B, *shape) standard normal draws for the use named ``stream``."""
        return normal(shape, self.seed, stream, self.addresses).to(self.condition.device)

    def uniform(self, stream: str, shape: Sequence[int]) -> Tensor:
        """(B, *shape) draws uniform in [0, 1) for the use named ``stream``."""
        return uniform(shape, self.seed, stream, self.addresses).to(self.condition.device)


@dataclass(frozen=True)
class Experience:
    """What was collected.

    Attributes:
        rewards: (B,).
        tensors: what :meth:`Method.loss` needs, each with leading dim B.
        stats: further numbers to log, each (B,), or (B, n) with a column for each step of the
            trajectory and zero where it was not measured.
    """

    rewards: Tensor
    tensors: dict[str, Tensor]
    stats: dict[str, Tensor]


@dataclass(frozen=True)
class PairLoss:
    """Losses of (sample, step) pairs.

    Attributes:
        loss: (N,), differentiable.
        stats: numbers to log, each (N,), detached.
    """

    loss: Tensor
    stats: dict[str, Tensor]


class Method(ABC):
    """A fine-tuning method: what it collects, and its loss on (sample, step) pairs.

    Sampling in batches, replay, micro-batches, optimisation, distribution, logging and resuming
    are shared by all methods and live elsewhere.

    Args:
        needs_reward_gradient: whether the reward must be differentiable.
        regression_steps: S, pairs that each sample contributes to an optimizer step.
    """

    def __init__(self, needs_reward_gradient: bool, regression_steps: int) -> None:
        self.needs_reward_gradient = needs_reward_gradient
        self.regression_steps = regression_steps

    @abstractmethod
    def collect(self, problem: ControlProblem, request: Request) -> Experience:
        """Sample with the current model, without gradient."""

    @abstractmethod
    def loss(
        self,
        problem: ControlProblem,
        tensors: dict[str, Tensor],
        pass_index: int,
        rows: Tensor,
        slots: Tensor,
    ) -> PairLoss:
        """Loss of N pairs.

        Args:
            problem: the control problem.
            tensors: of one optimizer batch, as collected.
            pass_index: how often the samples were used before.
            rows: (N,) int64, positions in the batch.
            slots: (N,) int64 in [0, S), which of a sample's pairs.
        """

    def log_weights(
        self,
        problem: ControlProblem,
        tensors: dict[str, Tensor],
        pass_index: int,
        rows: Tensor,
        slots: Tensor,
    ) -> Tensor:
        """(N,) log ratio of the current model's law of the pairs to the one that sampled them.

        Zero here: a method that replays samples overrides it.
        """
        return torch.zeros(len(rows), device=rows.device)

    def keep(self, losses: Tensor) -> Tensor:
        """(N,) bool: pairs that count. All of them, unless a method masks outliers."""
        return torch.ones_like(losses, dtype=torch.bool)

    def finish_step(self, losses: Tensor) -> dict[str, float]:
        """Told the losses of all pairs of an optimizer step, over all processes; may log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        return


def chunks(total: int, size: int) -> list[slice]:
    """Consecutive slices of at most ``size`` that cover ``range(total)``."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
