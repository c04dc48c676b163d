"""DDIM: the process of variance-preserving diffusion models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from soc_ft.core.process import Process

PredictionType = Literal["epsilon", "v_prediction", "sample"]
"""What the network's output is, for x = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.

The noise eps; v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022); or x_0.
"""


def ddim(
    timesteps: Tensor,
    alpha_bar: Tensor,
    alpha_bar_next: Tensor,
    eta: float,
    prediction: PredictionType = "epsilon",
) -> Process:
    """K DDIM transitions (Song et al. 2021, eq. 12) with any eta.

    The process is memoryless from eta = 1 on. Above 1 its marginals are exact only as K grows:
    the noise may then exceed the variance of the marginal, and the root changes its sign.

    Args:
        timesteps: (K,) training timesteps, >= 0, strictly decreasing.
        alpha_bar: (K,) float64 in (0, 1), cumulative product at ``timesteps``, strictly increasing.
        alpha_bar_next: (K,) float64 in (0, 1), cumulative product after the transition, strictly
            greater than ``alpha_bar``. The last one is below 1, or the last sigma would vanish and
            with it the control.
        eta: noise level, >= 0.
        prediction: what the network's output is.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_levels(timesteps, alpha_bar=alpha_bar, alpha_bar_next=alpha_bar_next)
    if (alpha_bar_next <= alpha_bar).any():
        raise ValueError("alpha_bar_next must exceed alpha_bar at every step")
    if not 0 <= eta < float("inf"):
        raise ValueError(f"eta must be finite and >= 0, got {eta}")
    sigma = eta * (
        ((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next)).sqrt()
    )
    remaining = 1 - alpha_bar_next - sigma**2
    direction = remaining.sign() * remaining.abs().sqrt()
    signal, noise, signal_next = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), alpha_bar_next.sqrt()
    (clean_x, clean_f), (eps_x, eps_f) = predictions(prediction, signal, noise)
    A = signal_next * clean_x + direction * eps_x
    c = signal_next * clean_f + direction * eps_f
    return Process(timesteps.double(), A, c, sigma, clean_x, clean_f, signal, noise, eta)


def predictions(
    prediction: PredictionType, signal: Tensor, noise: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Factors of the state x and of the output f in the clean prediction, and in that of eps.

    Args:
        prediction: what the output is.
        signal: (K,) sqrt(alpha_bar), > 0.
        noise: (K,) sqrt(1 - alpha_bar), > 0.

    Returns:
        (p, q) of x0_hat = p x + q f, and (u, v) of eps_hat = u x + v f, each (K,).

    Raises:
        ValueError: the prediction type is unknown.
    """
    nothing, one = torch.zeros_like(signal), torch.ones_like(signal)
    if prediction == "epsilon":
        return (1 / signal, -noise / signal), (nothing, one)
    if prediction == "v_prediction":
        return (signal, -noise), (noise, signal)
    if prediction == "sample":
        return (nothing, one), (1 / noise, -signal / noise)
    raise ValueError(f"unknown prediction type {prediction!r}")


def ddim_on_grid(
    alphas_cumprod: Tensor,
    timesteps: Tensor | Sequence[int],
    eta: float,
    prediction: PredictionType = "epsilon",
) -> Process:
    """:func:`ddim` on the grid whose every transition ends where the next one starts.

    The last transition ends at (1 + alpha_bar_{K-1}) / 2.

    Args:
        alphas_cumprod: (T,) cumulative products of the training process.
        timesteps: (K,) training timesteps, strictly decreasing, within [0, T).
        eta: noise level, >= 0.
        prediction: what the network's output is.

    Raises:
        ValueError: an argument is out of its range.
    """
    timesteps = torch.as_tensor(timesteps, dtype=torch.int64).cpu()
    if timesteps.numel() and not 0 <= int(timesteps.min()) <= int(timesteps.max()) < len(
        alphas_cumprod
    ):
        raise ValueError(f"timesteps must lie in [0, {len(alphas_cumprod)}), got {timesteps}")
    alpha_bar = alphas_cumprod.to("cpu", torch.float64)[timesteps]
    following = torch.cat([alpha_bar[1:], (1 + alpha_bar[-1:]) / 2])
    return ddim(timesteps, alpha_bar, following, eta, prediction)


def check_levels(timesteps: Tensor, **alpha_bars: Tensor) -> None:
    """Check the grid of a process.

    Args:
        timesteps: (K,) int64, >= 0, strictly decreasing.
        **alpha_bars: by their names, (K,) float64 in (0, 1), strictly increasing.

    Raises:
        ValueError: one of them is not.
    """
    shape = timesteps.shape
    if len(shape) != 1 or shape[0] == 0 or timesteps.dtype != torch.int64:
        raise ValueError(f"timesteps must be a non-empty vector of int64, got {timesteps}")
    if timesteps.min() < 0 or (timesteps.diff() >= 0).any():
        raise ValueError(f"timesteps must be >= 0 and strictly decreasing, got {timesteps}")
    for name, values in alpha_bars.items():
        if values.shape != shape or values.dtype != torch.float64:
            raise ValueError(f"{name} must be float64 of shape {tuple(shape)}, like timesteps")
        if not ((values > 0) & (values < 1)).all():
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {values}")
        if (values.diff() <= 0).any():
            raise ValueError(f"{name} must increase strictly with the step, got {values}")
