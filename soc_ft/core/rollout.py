"""Sampling trajectories of a controlled diffusion process."""

from __future__ import annotations

import torch
from torch import Tensor

from soc_ft.core.losses import control, control_cost
from soc_ft.core.schedule import Schedule
from soc_ft.core.trajectory import Predictor, Trajectory


@torch.no_grad()
def rollout(
    predict: Predictor,
    schedule: Schedule,
    condition: Tensor,
    noise: Tensor,
    *,
    keep_predictions: bool = False,
) -> Trajectory:
    """Run x_{k+1} = m_k(x_k; predict(x_k)) + sigma_k z_k from k = 0 to K.

    Args:
        predict: eps_hat of the sampling model.
        schedule: K transitions.
        condition: (B, ...), passed on to ``predict``.
        noise: (B, K+1, *latent), x_0 at index 0 and z_k at index k+1; gives dtype and device.
        keep_predictions: also return the predictions, which importance weights need.

    Raises:
        ValueError: if the second dim of ``noise`` is not K+1.
    """
    batch, length = noise.shape[:2]
    if length != schedule.num_steps + 1:
        raise ValueError(f"noise has {length} entries a sample, expected {schedule.num_steps + 1}")
    states = torch.empty_like(noise)
    predictions = torch.empty_like(noise[:, 1:]) if keep_predictions else None
    timesteps = schedule.timesteps.to(noise.device)

    states[:, 0] = noise[:, 0]
    for k in range(schedule.num_steps):
        x = states[:, k]
        A, c, sigma = schedule.coefficients(k, x)
        eps_hat = predict(x, timesteps[k].expand(batch), condition).to(x.dtype)
        x_next = torch.mul(A, x, out=states[:, k + 1])
        x_next.addcmul_(c, eps_hat).addcmul_(sigma, noise[:, k + 1])
        if predictions is not None:
            predictions[:, k] = eps_hat
    return Trajectory(states, predictions)


@torch.no_grad()
def path_control_cost(
    predict_base: Predictor, schedule: Schedule, trajectory: Trajectory, condition: Tensor
) -> Tensor:
    """1/2 sum_k ||sqrt(delta) u_k||^2 (B,) of the law that sampled, in nats.

    Its mean is the KL divergence of the sampled path measure from the base one (Girsanov).

    Args:
        predict_base: eps_hat of the base process, conditioned and guided like the sampling one.
        schedule: K transitions, eta > 0.
        trajectory: rolled out with ``keep_predictions``.
        condition: (B, ...), passed on to ``predict_base``.

    Raises:
        ValueError: if the trajectory has no predictions.
    """
    if trajectory.predictions is None:
        raise ValueError("the trajectory has no predictions: roll it out with keep_predictions")
    states = trajectory.states
    timesteps, gain = schedule.timesteps.to(states.device), schedule.control_gain
    cost = states.new_zeros(len(states))
    for k in range(schedule.num_steps):
        base = predict_base(states[:, k], timesteps[k].expand(len(states)), condition)
        cost += control_cost(control(trajectory.predictions[:, k], base, gain[k]))
    return cost
