from __future__ import annotations

import torch
from torch import Tensor

from soc_ft.core import normal, smoothed_gradient

LATENT = (2, 3)


def addressed(name: str, *shape: int) -> Tensor:
    return normal(shape, 0, name, [(0,)], torch.float64)[0]


def test_gradient_of_a_linear_reward_is_unaffected() -> None:
    """Breaks if clipping shrinks gradients that all agree."""
    slope = addressed("slope", 4, *LATENT)

    def linear(x: Tensor) -> tuple[Tensor, Tensor]:
        return (slope * x).flatten(1).sum(dim=1), slope

    latents, noise = addressed("latents", 4, *LATENT), addressed("noise", 4, 20, *LATENT)
    _, gradient = smoothed_gradient(linear, latents, noise, std=0.02, clip_quantile=0.85)
    torch.testing.assert_close(gradient, slope)


def test_quadratic_reward_averages_over_the_copies() -> None:
    """Breaks if the noise is scaled wrongly or shared between samples."""

    def quadratic(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.square().flatten(1).sum(dim=1) / 2, x

    latents, noise = addressed("latents", 4, *LATENT), addressed("noise", 4, 5, *LATENT)
    values, gradient = smoothed_gradient(quadratic, latents, noise, std=0.5, clip_quantile=1)
    copies = latents[:, None] + 0.5 * noise
    torch.testing.assert_close(gradient, copies.mean(dim=1))
    torch.testing.assert_close(values, copies.square().flatten(2).sum(dim=2).mean(dim=1) / 2)


def test_spikes_are_clipped_to_the_quantile_of_their_own_sample() -> None:
    """Breaks if one copy dominates the mean, or a sample is clipped by another one's norms."""
    norms = torch.tensor([[1.0, 1.0, 1.0, 1000.0], [50.0, 50.0, 50.0, 50.0]])
    calls = iter(norms.T)

    def spiky(x: Tensor) -> tuple[Tensor, Tensor]:
        norm = next(calls)
        return norm, norm[:, None] * torch.tensor([0.6, 0.8])

    _, gradient = smoothed_gradient(
        spiky, torch.zeros(2, 2), torch.zeros(2, 4, 2), std=0.02, clip_quantile=0.5
    )
    torch.testing.assert_close(gradient.norm(dim=1), torch.tensor([1.0, 50.0]))


def test_vanishing_gradients_stay_zero() -> None:
    """Breaks if a saturated reward divides zero by zero."""
    _, gradient = smoothed_gradient(
        lambda x: (x.sum(dim=1), torch.zeros_like(x)),
        torch.zeros(2, 3),
        torch.zeros(2, 4, 3),
        std=0.1,
        clip_quantile=0.85,
    )
    assert torch.equal(gradient, torch.zeros(2, 3))
