"""Prediction types of diffusion models, reduced to the noise prediction."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample"]


def to_epsilon(
    output: Tensor, x: Tensor, alpha_bar: Tensor, prediction_type: PredictionType
) -> Tensor:
    """Convert a network's output to eps_hat, with x = sqrt(alpha_bar) x_0 + sqrt(1-alpha_bar) eps.

    Args:
        output: (N, *latent), the network's prediction at ``x``.
        x: (N, *latent), noisy latents.
        alpha_bar: broadcasts against ``x``, in (0, 1).
        prediction_type: "epsilon"; "v_prediction", v = sqrt(alpha_bar) eps - sqrt(1-alpha_bar) x_0
            (Salimans & Ho 2022); or "sample", x_0.

    Raises:
        ValueError: unknown prediction type.
    """
    if prediction_type == "epsilon":
        return output
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction_type == "v_prediction":
        return signal * output + noise * x
    if prediction_type == "sample":
        return (x - signal * output) / noise
    raise ValueError(f"unknown prediction type {prediction_type!r}")
