"""The lean adjoint: how the reward depends on each state of the base process, by one VJP a step."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from soc_ft.core.condition import Condition
from soc_ft.core.process import Predictor, Process

AdjointAt = Literal["current", "next"]
"""What step k regresses on: a_k, as in the reference, or a_{k+1}, the optimum in discrete time."""


@dataclass(frozen=True, eq=False)
class AdjointSolution:
    """Lean adjoints along given paths; what was not asked for is zero.

    Attributes:
        adjoints: (B, K+1, *latent), a_k at index k.
        base_predictions: (B, K, *latent), output of the base model at x_k, from the same solve.
    """

    adjoints: Tensor
    base_predictions: Tensor


@torch.no_grad()
def lean_adjoint(
    predict_base: Predictor,
    process: Process,
    states: Tensor,
    terminal: Tensor,
    condition: Condition,
    first_step: Tensor,
    *,
    adjoint_at: AdjointAt = "current",
) -> AdjointSolution:
    """Solve a_k = A_k a_{k+1} + c_k (d f / dx)^T a_{k+1} backwards along given states.

    This is the lean adjoint of Domingo-Enrich et al. 2024 (Adjoint Matching) for transitions whose
    mean is linear in the network's output f. Samples do not interact: step k evaluates only
    those with ``first_step <= k``, each with one forward and one VJP.

    Args:
        predict_base: output of the base model, differentiable in its first argument.
        process: K transitions.
        states: (B, K+1, *latent), sampled by any process.
        terminal: (B, *latent), a_K = -lambda * grad r.
        condition: B rows, passed on to ``predict_base``.
        first_step: (B,) int64 in [0, K], the smallest step that each sample is needed at.
        adjoint_at: ``"next"`` leaves out the VJP of each sample's first step, whose regression
            only uses a_{k+1}.

    Returns:
        Base predictions from each sample's first step on; adjoints from the first step
        (``"current"``) or from the one after it (``"next"``) on. Zeros before.

    Raises:
        ValueError: the states do not fit the process or ``first_step`` is out of range.
    """
    _validate(process, states, first_step)
    # In the order of first steps, the samples that a step needs are a prefix.
    order = first_step.to(states.device).argsort(stable=True)
    first_steps = first_step.sort().values.tolist()
    a, condition = terminal[order], condition[order]
    adjoints = torch.zeros_like(states)
    base_predictions = torch.zeros_like(states[:, 1:])

    adjoints[:, -1] = terminal
    for k in reversed(range(first_steps[0], process.num_steps)):
        needed = bisect_right(first_steps, k)
        solved = needed if adjoint_at == "current" else bisect_left(first_steps, k)
        rows = order[:needed]
        x = states[rows, k]
        t = process.times_of(k, x)
        if solved:
            f, vjp = _forward_and_vjp(
                predict_base, x[:solved], t[:solved], condition[:solved], a[:solved]
            )
            a[:solved] = process.mean(k, a[:solved], vjp)
            adjoints[rows[:solved], k] = a[:solved]
            base_predictions[rows[:solved], k] = f.to(x.dtype)
        if solved < needed:
            f = predict_base(x[solved:], t[solved:], condition[solved:needed])
            base_predictions[rows[solved:], k] = f.to(x.dtype)
    return AdjointSolution(adjoints, base_predictions)


def _forward_and_vjp(
    predict: Predictor, x: Tensor, t: Tensor, condition: Condition, cotangent: Tensor
) -> tuple[Tensor, Tensor]:
    """Output f at x, and (d f / dx)^T cotangent."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        f = predict(x, t, condition)
        (vjp,) = torch.autograd.grad(f, x, cotangent.to(f.dtype))
    return f.detach(), vjp


def _validate(process: Process, states: Tensor, first_step: Tensor) -> None:
    batch, length = states.shape[:2]
    if length != process.num_steps + 1:
        raise ValueError(f"states hold {length} times, expected {process.num_steps + 1} (K + 1)")
    if first_step.shape != (batch,) or batch == 0:
        raise ValueError(f"first_step has shape {tuple(first_step.shape)} for {batch} samples")
    if not ((first_step >= 0) & (first_step <= process.num_steps)).all():
        raise ValueError(f"first_step must lie in [0, {process.num_steps}], got {first_step}")
