"""The control that a pair of predictions defines, and the losses on it."""

from __future__ import annotations

from torch import Tensor

from soc_ft.core.process import match_leading


def control(prediction: Tensor, base_prediction: Tensor, control_gain: Tensor) -> Tensor:
    """sqrt(delta) u = (c / sigma) (f - f_base).

    Args:
        prediction: (N, *latent), output of the fine-tuned model.
        base_prediction: (N, *latent), output of the base model at the same states.
        control_gain: (N,) or scalar, ``Process.control_gain`` at each row's step.

    Returns:
        (N, *latent), in units of the transition's noise.
    """
    return match_leading(control_gain, prediction) * (prediction - base_prediction)


def adjoint_matching_loss(control: Tensor, adjoint: Tensor, sigma: Tensor) -> Tensor:
    """|| sqrt(delta) u + sigma a ||^2 (Domingo-Enrich et al. 2024, Adjoint Matching).

    Args:
        control: (N, *latent), from :func:`control`.
        adjoint: (N, *latent), a_k or a_{k+1}, detached.
        sigma: (N,) or scalar, ``Process.sigma`` at each row's step.

    Returns:
        (N,), summed over the latent dims.
    """
    return (control + match_leading(sigma, adjoint) * adjoint).flatten(1).square().sum(dim=1)


def control_cost(control: Tensor) -> Tensor:
    """1/2 || sqrt(delta) u ||^2 (N,): the step's KL divergence from the base process, in nats."""
    return control.flatten(1).square().sum(dim=1) / 2
