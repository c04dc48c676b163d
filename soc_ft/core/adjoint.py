"""The lean adjoint: how the reward depends on each state of the base process, by one VJP a step."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from soc_ft.core.condition import Condition
from soc_ft.core.losses import control, control_cost
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
    call_from: int | None = None,
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
            only uses a_{k+1}; the base predictions of all samples there come from one call.
        call_from: a step from which on ``predict_base`` is called in any case, with one sample
            where none is needed: so that processes that divide a network call it equally often.

    Returns:
        Base predictions from each sample's first step on; adjoints from the first step
        (``"current"``) or from the one after it (``"next"``) on. Zeros before.

    Raises:
        ValueError: the states do not fit the process or ``first_step`` is out of range.
    """
    first_steps = sorted(first_step.tolist())
    _validate(process, states, first_step.shape, first_steps)
    # In the order of first steps, the samples that a step needs are a prefix.
    first_step = first_step.to(states.device)
    order = first_step.argsort(stable=True)
    a, condition = terminal[order], condition[order]
    adjoints = torch.zeros_like(states)
    base_predictions = torch.zeros_like(states[:, 1:])

    adjoints[:, -1] = terminal
    solved_from = bisect_right if adjoint_at == "current" else bisect_left
    lowest = min(first_steps[0], process.num_steps if call_from is None else call_from)
    for k in reversed(range(lowest + (adjoint_at == "next"), process.num_steps)):
        needed = solved_from(first_steps, k)
        called = max(needed, 1)
        rows = order[:needed]
        x = states[order[:called], k]
        f, vjp = _forward_and_vjp(
            predict_base, x, process.times_of(k, x), condition[:called], a[:called]
        )
        a[:needed] = process.mean(k, a[:needed], vjp[:needed])
        adjoints[rows, k] = a[:needed]
        base_predictions[rows, k] = f[:needed].to(x.dtype)
    if adjoint_at == "next" and (there := bisect_left(first_steps, process.num_steps)):
        rows = order[:there]
        steps = first_step[rows]
        x = states[rows, steps]
        f = predict_base(x, process.times_of(steps, x), condition[:there])
        base_predictions[rows, steps] = f.to(x.dtype)
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


def _validate(
    process: Process, states: Tensor, shape: tuple[int, ...], first_steps: list[int]
) -> None:
    batch, length = states.shape[:2]
    if length != process.num_steps + 1:
        raise ValueError(f"states hold {length} times, expected {process.num_steps + 1} (K + 1)")
    if shape != (batch,) or batch == 0:
        raise ValueError(f"first_step has shape {tuple(shape)} for {batch} samples")
    if not 0 <= first_steps[0] <= first_steps[-1] <= process.num_steps:
        raise ValueError(f"first_step must lie in [0, {process.num_steps}], got {first_steps}")


@torch.no_grad()
def full_adjoint(
    predict: Predictor,
    predict_base: Predictor,
    process: Process,
    states: Tensor,
    terminal: Tensor,
    condition: Condition,
) -> AdjointSolution:
    """Gradients a_k of the cost to go, of the controlled process, along given states.

    a_k = (d m_k / dx)^T a_{k+1} + grad_x |sqrt(delta) u_k|^2 / 2, with the mean m_k of the trained
    model: the adjoint that the lean one leaves two terms out of (Domingo-Enrich et al. 2024,
    Adjoint Matching, section 4), here in discrete time.

    Args:
        predict: output of the model that sampled, differentiable in its first argument.
        predict_base: output of the base model, likewise.
        process: K transitions with sigma > 0.
        states: (B, K+1, *latent).
        terminal: (B, *latent), a_K = -lambda * grad r.
        condition: B rows.

    Returns:
        Adjoints and base predictions at all steps.

    Raises:
        ValueError: the states do not fit the process.
    """
    _validate(process, states, (len(states),), [0])
    adjoints = torch.zeros_like(states)
    base_predictions = torch.zeros_like(states[:, 1:])
    adjoints[:, -1] = a = terminal
    for k in reversed(range(process.num_steps)):
        with torch.enable_grad():
            x = states[:, k].detach().requires_grad_()
            t = process.times_of(k, x)
            f, base = predict(x, t, condition), predict_base(x, t, condition)
            cost = control_cost(control(f, base, process.control_gain_of(k, x))).sum()
            value = (process.mean(k, x, f) * a).sum() + cost
            (a,) = torch.autograd.grad(value, x)
        adjoints[:, k] = a
        base_predictions[:, k] = base.detach()
    return AdjointSolution(adjoints, base_predictions)
