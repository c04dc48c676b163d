"""Importance weights between two controlled processes, by Girsanov's theorem."""

from __future__ import annotations

from torch import Tensor

from soc_ft.core.schedule import Schedule
from soc_ft.core.shapes import match_leading
from soc_ft.core.trajectory import Trajectory


def log_weights(
    prediction_new: Tensor, prediction_old: Tensor, noise: Tensor, control_gain: Tensor
) -> Tensor:
    """Log ratio of the transition densities of two models, log dP_new / dP_old.

    With d = (c / sigma)(eps_hat_new - eps_hat_old) this is -1/2 ||d||^2 + <d, z>. The log weight
    of a path is the sum over its steps. Both predictions have to be the ones that (would) sample,
    guidance included.

    Args:
        prediction_new: (N, *latent), eps_hat of the model to reweight to.
        prediction_old: (N, *latent), eps_hat that sampled the transition.
        noise: (N, *latent), the z of the transition.
        control_gain: (N,) or scalar, ``Schedule.control_gain`` at each row's step.

    Returns:
        (N,) log weights.
    """
    d = match_leading(control_gain, prediction_new) * (prediction_new - prediction_old)
    return (d * (noise - d / 2)).flatten(1).sum(dim=1)


def path_noise(schedule: Schedule, trajectory: Trajectory) -> Tensor:
    """The z_k (B, K, *latent) that sampled a trajectory, from its states and predictions.

    Raises:
        ValueError: if the trajectory was rolled out without ``keep_predictions``, or eta is 0.
    """
    if trajectory.predictions is None:
        raise ValueError("the trajectory has no predictions: roll it out with keep_predictions")
    if schedule.eta == 0:
        raise ValueError("a process with eta = 0 has no noise to reconstruct")
    states, predictions = trajectory.states, trajectory.predictions
    A, c, sigma = (
        match_leading(row[None], predictions) for row in (schedule.A, schedule.c, schedule.sigma)
    )
    return (states[:, 1:] - A * states[:, :-1] - c * predictions) / sigma


def effective_sample_size(log_w: Tensor) -> Tensor:
    """Kish's (sum w)^2 / sum w^2 of log weights (N,): scalar in [1, N], N for equal weights."""
    w = (log_w - log_w.max()).exp()
    return w.sum().square() / w.square().sum()


def normalised_weights(log_w: Tensor) -> Tensor:
    """Weights (N,) proportional to exp(log_w), with mean one; no log weight overflows."""
    w = (log_w - log_w.max()).exp()
    return w / w.mean()
