"""The control that a pair of predictions defines, and the losses on it."""

from __future__ import annotations

from torch import Tensor

from soc_ft.core.process import Process, match_leading


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


def denoising_error(process: Process, k: Tensor, x: Tensor, f: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error (N,) of the output f at x, whose clean latent is known.

    The error of the clean prediction, divided by the output's factor in it: that of the output
    itself, whatever the network predicts.

    Args:
        process: its noise levels.
        k: (N,) int64, the level of each row.
        x: (N, *latent), noised with :meth:`Process.noised`.
        f: (N, *latent), output at x.
        clean: (N, *latent), what was noised.
    """
    factor = match_leading(process.clean_f.to(x)[k], x)
    return ((process.clean(k, x, f) - clean) / factor).flatten(1).square().mean(dim=1)
