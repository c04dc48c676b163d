"""The sampler as a policy over transitions: log-densities and their noise."""

from __future__ import annotations

import math

from torch import Tensor

from soc_ft.core.process import Process


def log_density(process: Process, k: int | Tensor, x: Tensor, x_next: Tensor, f: Tensor) -> Tensor:
    """Log-density of the transition x -> x_next under the output f, per dimension.

    mean_d of -(x_next - m_k(x; f))^2 / (2 sigma_k^2) - log sigma_k - log(2 pi) / 2. The mean over
    dimensions, not the sum, is what the clip ranges of the field's policy gradients refer to
    (Black et al. 2023, DDPO).

    Args:
        process: its transitions, with sigma > 0.
        k: one step for all, or (N,) int64.
        x: (N, *latent), states x_k.
        x_next: (N, *latent), states x_{k+1}, constants.
        f: (N, *latent), output at x_k of the model whose density is asked for.

    Returns:
        (N,), differentiable in ``f``.
    """
    sigma = process.sigma_of(k, x)
    standardised = (x_next - process.mean(k, x, f)) / sigma
    each = -standardised.square() / 2 - sigma.log() - math.log(2 * math.pi) / 2
    return each.flatten(1).mean(dim=1)


def noise_log_density(process: Process, noise: Tensor) -> Tensor:
    """:func:`log_density` of sampled transitions under the output that sampled them.

    Args:
        process: its transitions, with sigma > 0.
        noise: (B, K, *latent), z_0 to z_{K-1}.

    Returns:
        (B, K).
    """
    squares = noise.flatten(2).square().mean(dim=2)
    return -squares / 2 - process.sigma.log().to(squares) - math.log(2 * math.pi) / 2


def transition_noise(
    process: Process, k: int | Tensor, x: Tensor, x_next: Tensor, f: Tensor
) -> Tensor:
    """The z (N, *latent) that took x to x_next; arguments as of :func:`log_density`.

    Raises:
        ValueError: the process has no noise.
    """
    A, c, sigma = process.coefficients(k, x)
    if not bool((process.sigma > 0).all()):
        raise ValueError("a process without noise (eta = 0) has none to reconstruct")
    return (x_next - A * x - c * f) / sigma
