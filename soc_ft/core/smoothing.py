"""Averaging reward gradients over perturbed latents, so that no single spike sets the adjoint."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from soc_ft.core.process import match_leading

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""latents (B, *latent) -> (values (B,), gradients of each sample's value (B, *latent))."""


def smoothed_gradient(
    value_and_gradient: ValueAndGradient,
    latents: Tensor,
    noise: Tensor,
    std: float,
    clip_quantile: float,
) -> tuple[Tensor, Tensor]:
    """Mean of the gradients at ``latents + std * noise``, clipped in norm.

    Each sample's n gradients are clipped to the ``clip_quantile``-quantile of their n norms. The
    copies are evaluated one at a time, in batches of B, and nothing is evaluated at ``latents``
    itself.

    Args:
        value_and_gradient: evaluates one batch.
        latents: (B, *latent).
        noise: (B, n, *latent), standard normal, n >= 1.
        std: scale of the perturbation, in units of the latents, >= 0.
        clip_quantile: in [0, 1]; 1 clips nothing.

    Returns:
        (B,) values averaged over the copies (those of the smoothed reward) and (B, *latent)
        gradients.
    """
    copies = noise.shape[1]
    gradients = torch.empty_like(noise)
    total = latents.new_zeros(len(latents))
    for j in range(copies):
        value, gradients[:, j] = value_and_gradient(latents + std * noise[:, j])
        total += value
    norms = gradients.flatten(2).norm(dim=2)
    limit = norms.quantile(clip_quantile, dim=1, keepdim=True)
    scale = (limit / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp(max=1)
    return total / copies, (match_leading(scale, gradients) * gradients).mean(dim=1)
