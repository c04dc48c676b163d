"""Importance weights between two controlled processes, by Girsanov's theorem."""

from __future__ import annotations

from torch import Tensor

from soc_ft.core.process import match_leading


def log_weights(
    prediction_new: Tensor, prediction_old: Tensor, noise: Tensor, control_gain: Tensor
) -> Tensor:
    """Log ratio of the transition densities of two models, log dP_new / dP_old.

    With d = (c / sigma)(f_new - f_old) this is -1/2 ||d||^2 + <d, z>. The log weight
    of a path is the sum over its steps. Both predictions have to be the ones that (would) sample,
    guidance included.

    Args:
        prediction_new: (N, *latent), output of the model to reweight to.
        prediction_old: (N, *latent), output that sampled the transition.
        noise: (N, *latent), the z of the transition.
        control_gain: (N,) or scalar, ``Process.control_gain`` at each row's step.

    Returns:
        (N,) log weights.
    """
    d = match_leading(control_gain, prediction_new) * (prediction_new - prediction_old)
    return (d * (noise - d / 2)).flatten(1).sum(dim=1)


def effective_sample_size(log_w: Tensor) -> Tensor:
    """Kish's (sum w)^2 / sum w^2 of log weights (N,): scalar in [1, N], N for equal weights."""
    w = (log_w - log_w.max()).exp()
    return w.sum().square() / w.square().sum()


def normalised_weights(log_w: Tensor) -> Tensor:
    """Weights (N,) proportional to exp(log_w), with mean one; no log weight overflows."""
    w = (log_w - log_w.max()).exp()
    return w / w.mean()
