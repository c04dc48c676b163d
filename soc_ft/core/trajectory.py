"""What a rollout and an adjoint solve hand on. Tensors are sample-first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (N, *latent), t (N,) int64 training timesteps, condition (N, ...)) -> eps_hat (N, *latent)."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Sampled paths.

    Attributes:
        states: (B, K+1, *latent), x_0 (noise) to x_K (clean latents).
        predictions: (B, K, *latent), the eps_hat that sampled each transition, or None if not kept.
    """

    states: Tensor
    predictions: Tensor | None = None


@dataclass(frozen=True, eq=False)
class AdjointSolution:
    """Lean adjoints along given paths; what was not asked for is zero.

    Attributes:
        adjoints: (B, K+1, *latent), a_k at index k.
        base_predictions: (B, K, *latent), eps_hat of the base model at x_k, from the same solve.
    """

    adjoints: Tensor
    base_predictions: Tensor
