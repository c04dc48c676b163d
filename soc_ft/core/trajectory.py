"""Sampling: trajectories of a process without gradient, and ends of them with gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from soc_ft.core.condition import Condition
from soc_ft.core.losses import control, control_cost
from soc_ft.core.process import Predictor, Process, match_leading

StepCost = Callable[[int, Tensor, Tensor], Tensor]
"""(step k, state x_k (B, *latent), output there) -> (B,)."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Sampled paths.

    Attributes:
        states: (B, K+1, *latent), x_0 (noise) to x_K.
        predictions: (B, K, *latent), the outputs that sampled each transition, or None if not kept.
        clean: (B, *latent), the clean prediction of the last transition where that is decoded
            (``Process.ends_clean``), or None.
    """

    states: Tensor
    predictions: Tensor | None = None
    clean: Tensor | None = None

    @property
    def latents(self) -> Tensor:
        """(B, *latent), what is decoded: x_K, unless the process ends with a clean prediction."""
        return self.states[:, -1] if self.clean is None else self.clean


@torch.no_grad()
def rollout(
    predict: Predictor,
    process: Process,
    condition: Condition,
    noise: Tensor,
    *,
    keep_predictions: bool = False,
) -> Trajectory:
    """Run x_{k+1} = m_k(x_k; predict(x_k)) + sigma_k z_k from k = 0 to K.

    Args:
        predict: output of the sampling model.
        process: K transitions.
        condition: B rows, passed on to ``predict``.
        noise: (B, K+1, *latent), x_0 at index 0 and z_k at index k+1; gives dtype and device.
        keep_predictions: also return the predictions, which importance weights need.

    Raises:
        ValueError: the second dim of ``noise`` is not K+1.
    """
    if noise.shape[1] != process.num_steps + 1:
        raise ValueError(
            f"noise has {noise.shape[1]} entries a sample, expected {process.num_steps + 1}"
        )
    states = torch.empty_like(noise)
    predictions = torch.empty_like(noise[:, 1:]) if keep_predictions else None
    states[:, 0] = noise[:, 0]
    clean = None
    for k in range(process.num_steps):
        x = states[:, k]
        A, c, sigma = process.coefficients(k, x)
        f = predict(x, process.times_of(k, x), condition).to(x.dtype)
        x_next = torch.mul(A, x, out=states[:, k + 1])
        x_next.addcmul_(c, f).addcmul_(sigma, noise[:, k + 1])
        if predictions is not None:
            predictions[:, k] = f
        if process.ends_clean and k == process.num_steps - 1:
            clean = process.clean(k, x, f)
    return Trajectory(states, predictions, clean)


def differentiable_rollout(
    predict: Predictor,
    process: Process,
    condition: Condition,
    x: Tensor,
    noise: Tensor,
    *,
    recompute: bool = False,
    carries: Tensor | None = None,
    through_inputs: bool = True,
    cost: StepCost | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the last n transitions with gradient; what came before stays as it was sampled.

    Gradients reach the parameters behind ``predict`` at these n steps, and ``x``.

    Args:
        predict: output of the sampling model.
        process: K transitions.
        condition: B rows, passed on to ``predict``.
        x: (B, *latent), the states x_{K-n}; detach them to cut the gradient there.
        noise: (B, n, *latent), z_{K-n} to z_{K-1}, with 0 <= n <= K; with n = 0 ``x`` comes back.
        recompute: keep the states alone and evaluate each step again in the backward pass, so
            that memory is that of one evaluation.
        carries: (B, n) bool, at which of these steps a sample's output carries gradient; states
            are not cut, so that gradient passes the other steps along the linear part of their
            mean. None: all.
        through_inputs: whether gradient also passes through what the network is given
            (without it: Wu et al. 2024, DRTune, arXiv 2405.00760).
        cost: of a step, which is added up.

    Returns:
        (B, *latent), what is decoded (x_K, or the clean prediction before it), and (B,), the sum
        of the costs.

    Raises:
        ValueError: ``noise`` holds more steps than the process has.
    """
    first = process.num_steps - noise.shape[1]
    if first < 0:
        raise ValueError(f"noise of {noise.shape[1]} steps for {process.num_steps} transitions")

    def step(x: Tensor, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
        carried = None if carries is None else carries[:, k - first]
        given = x if through_inputs else x.detach()
        with torch.set_grad_enabled(carried is None or bool(carried.any())):
            f = predict(given, process.times_of(k, x), condition)
        if carried is not None:
            f = torch.where(match_leading(carried, f).bool(), f, f.detach())
        paid = x.new_zeros(len(x)) if cost is None else cost(k, given, f)
        if process.ends_clean and k == process.num_steps - 1:
            return process.clean(k, x, f), paid
        return process.mean(k, x, f) + process.sigma_of(k, x) * z, paid

    total = x.new_zeros(len(x))
    for k, z in enumerate(noise.unbind(dim=1), start=first):
        # Where no output carries gradient there is nothing to compute again.
        again = recompute and (carries is None or bool(carries[:, k - first].any()))
        x, paid = checkpoint(step, x, z, k, use_reentrant=False) if again else step(x, z, k)
        total = total + paid
    return x, total


@torch.no_grad()
def path_control_cost(
    predict_base: Predictor, process: Process, trajectory: Trajectory, condition: Condition
) -> Tensor:
    """1/2 sum_k ||sqrt(delta) u_k||^2 (B,) of the law that sampled, in nats.

    Its mean is the KL divergence of the sampled path measure from the base one (Girsanov).

    Args:
        predict_base: output of the base model, conditioned and guided like the sampling one.
        process: K transitions with sigma > 0.
        trajectory: rolled out with ``keep_predictions``.
        condition: B rows, passed on to ``predict_base``.

    Raises:
        ValueError: the trajectory has no predictions.
    """
    if trajectory.predictions is None:
        raise ValueError("the trajectory has no predictions: roll it out with keep_predictions")
    states = trajectory.states
    cost = states.new_zeros(len(states))
    for k in range(process.num_steps):
        x = states[:, k]
        base = predict_base(x, process.times_of(k, x), condition)
        gain = process.control_gain_of(k, x)
        cost += control_cost(control(trajectory.predictions[:, k], base, gain))
    return cost
