"""Importance weights between two controlled processes, by Girsanov's theorem."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from soc_ft.core.process import match_leading

Span = Literal["future", "path"]
"""The transitions whose ratios are multiplied: a step's own and later ones, or all."""


def log_ratio(
    prediction_new: Tensor, prediction_old: Tensor, noise: Tensor, control_gain: Tensor
) -> Tensor:
    """Log ratio of the transition densities of two models, log dP_new / dP_old.

    With d = (c / sigma)(f_new - f_old) this is -1/2 ||d||^2 + <d, z>. Both predictions have to be
    the ones that (would) sample, guidance included.

    Args:
        prediction_new: (N, *latent), output of the model to reweight to.
        prediction_old: (N, *latent), output that sampled the transition.
        noise: (N, *latent), the z of the transition.
        control_gain: (N,) or scalar, ``Process.control_gain`` at each row's step.

    Returns:
        (N,).
    """
    d = match_leading(control_gain, prediction_new) * (prediction_new - prediction_old)
    return (d * (noise - d / 2)).flatten(1).sum(dim=1)


def span_log_weights(log_ratios: Tensor, span: Span) -> Tensor:
    """Log weights of what starts at each step of a path, from the ratios of its transitions.

    A sample's adjoint at step k depends on its transitions from k on, its state on those before.
    So ``future``, the product from k on, makes the expectation of the adjoint given the state that
    of the new law, and leaves the law of the states as it was sampled: a regression with enough
    capacity has the same minimiser under any law of the states. ``path`` corrects both.

    Args:
        log_ratios: (B, K), from :func:`log_ratio`.
        span: see above.

    Returns:
        (B, K), the entry of step k at index k.
    """
    if span == "path":
        return log_ratios.sum(dim=1, keepdim=True).expand_as(log_ratios)
    return log_ratios.flip(1).cumsum(dim=1).flip(1)


def effective_sample_size(log_w: Tensor) -> Tensor:
    """Kish's (sum w)^2 / sum w^2 of log weights (N, ...) over the first dim.

    Returns:
        (...), each in [1, N], N for equal weights.
    """
    w = (log_w - log_w.amax(dim=0)).exp()
    return w.sum(dim=0).square() / w.square().sum(dim=0)


def normalised_weights(log_w: Tensor) -> Tensor:
    """Weights proportional to exp(log_w) (N, ...), whose mean over the first dim is one.

    No log weight overflows.
    """
    w = (log_w - log_w.amax(dim=0)).exp()
    return w / w.mean(dim=0)
