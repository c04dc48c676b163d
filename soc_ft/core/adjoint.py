"""The lean adjoint: how the reward depends on each state of the base process, by one VJP a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from soc_ft.core.schedule import Schedule
from soc_ft.core.trajectory import AdjointSolution, Predictor

AdjointAt = Literal["current", "next"]
"""What step k regresses on: a_k, as in the reference, or a_{k+1}, the optimum in discrete time."""


@torch.no_grad()
def lean_adjoint(
    predict_base: Predictor,
    schedule: Schedule,
    states: Tensor,
    terminal: Tensor,
    condition: Tensor,
    first_step: Tensor,
    *,
    adjoint_at: AdjointAt = "current",
) -> AdjointSolution:
    """Solve a_k = A_k a_{k+1} + c_k (d eps_hat / dx)^T a_{k+1} backwards along given states.

    This is the lean adjoint of Domingo-Enrich et al. 2024 (Adjoint Matching) for the DDIM
    transition, whose mean is linear in eps_hat. Samples do not interact: step k evaluates only
    those with ``first_step <= k``, each with one forward and one VJP.

    Args:
        predict_base: eps_hat of the base model, differentiable in its first argument.
        schedule: K transitions.
        states: (B, K+1, *latent), sampled by any process.
        terminal: (B, *latent), a_K = -lambda * grad r.
        condition: (B, ...), passed on to ``predict_base``.
        first_step: (B,) int64 in [0, K], the smallest step that each sample is needed at.
        adjoint_at: ``"next"`` leaves out the VJP of each sample's first step, whose regression
            only uses a_{k+1}.

    Returns:
        Base predictions from each sample's first step on; adjoints from the first step
        (``"current"``) or from the one after it (``"next"``) on. Zeros before.

    Raises:
        ValueError: if the states do not fit the schedule or ``first_step`` is out of range.
    """
    first_steps = first_step.tolist()
    _validate(schedule, states, first_steps)
    adjoints = torch.zeros_like(states)
    base_predictions = torch.zeros_like(states[:, 1:])
    timesteps = schedule.timesteps.to(states.device)

    adjoints[:, -1] = terminal
    for k in reversed(range(min(first_steps), schedule.num_steps)):
        last_with_vjp = k if adjoint_at == "current" else k - 1
        with_vjp = [b for b, first in enumerate(first_steps) if first <= last_with_vjp]
        forward_only = [b for b, first in enumerate(first_steps) if last_with_vjp < first <= k]
        if with_vjp:
            rows = torch.tensor(with_vjp, device=states.device)
            x, t, a = states[rows, k], timesteps[k].expand(len(rows)), adjoints[rows, k + 1]
            eps_hat, vjp = _forward_and_vjp(predict_base, x, t, condition[rows], a)
            base_predictions[rows, k] = eps_hat
            adjoints[rows, k] = schedule.mean(k, a, vjp)
        if forward_only:
            rows = torch.tensor(forward_only, device=states.device)
            x, t = states[rows, k], timesteps[k].expand(len(rows))
            base_predictions[rows, k] = predict_base(x, t, condition[rows]).to(x.dtype)
    return AdjointSolution(adjoints, base_predictions)


def _forward_and_vjp(
    predict: Predictor, x: Tensor, t: Tensor, condition: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor]:
    """eps_hat and (d eps_hat / dx)^T cotangent, both in the dtype of ``x``."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        eps_hat = predict(x, t, condition)
        (vjp,) = torch.autograd.grad(eps_hat, x, cotangent.to(eps_hat.dtype))
    return eps_hat.detach().to(x.dtype), vjp


def _validate(schedule: Schedule, states: Tensor, first_steps: Sequence[int]) -> None:
    if states.shape[1] != schedule.num_steps + 1:
        raise ValueError(
            f"states hold {states.shape[1]} times, expected {schedule.num_steps + 1} (K + 1)"
        )
    if len(first_steps) != len(states):
        raise ValueError(f"first_step has {len(first_steps)} entries for {len(states)} samples")
    if not all(0 <= first <= schedule.num_steps for first in first_steps):
        raise ValueError(f"first_step must lie in [0, {schedule.num_steps}], got {first_steps}")
