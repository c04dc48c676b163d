"""Which steps of a trajectory are regressed on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from soc_ft.core.strata import Strata

REFERENCE = Strata()
"""Half of the draws in the first 60 % of the steps, as the reference of Adjoint Matching has it."""


def draw_steps(keys: Tensor, count: int, strata: Strata = REFERENCE) -> Tensor:
    """Choose steps without replacement, stratified into an early and a late segment.

    Within a segment the smallest keys win, so that uniform keys keep each of its steps equally
    often.

    Args:
        keys: (..., K), uniform in [0, 1).
        count: number of steps, in [1, K].
        strata: how many of them fall into which segment.

    Returns:
        (..., count) int64, increasing along the last dim.

    Raises:
        ValueError: ``count`` is out of its range.
    """
    boundary, early = strata.divide(keys.shape[-1], count)
    chosen = [
        keys[..., :boundary].argsort(dim=-1)[..., :early],
        keys[..., boundary:].argsort(dim=-1)[..., : count - early] + boundary,
    ]
    return torch.cat(chosen, dim=-1).sort(dim=-1).values


def kept_steps(steps: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """Which steps of a trajectory to store so that all drawn ones are there, and where each lies.

    Args:
        steps: (B, ...) int64, n drawn steps of each sample, in [0, num_steps).
        num_steps: K.

    Returns:
        (B, min(n, K)) steps to store, and the places (B, ...) of ``steps`` among them.
    """
    drawn = steps.flatten(1)
    if drawn.shape[1] >= num_steps:
        return torch.arange(num_steps, device=steps.device).expand(len(steps), -1), steps
    return drawn, torch.arange(drawn.shape[1], device=steps.device).expand_as(drawn).view_as(steps)


def at_steps(values: Tensor, steps: Tensor) -> Tensor:
    """Entries (B, ..., *rest) of ``values`` (B, K, *rest) at each sample's ``steps`` (B, ...)."""
    rows = torch.arange(len(values), device=values.device).view(-1, *(1,) * (steps.dim() - 1))
    return values[rows, steps]


def inclusion_weights(num_steps: int, count: int, strata: Strata = REFERENCE) -> Tensor:
    """Inverse probability (K,) that :func:`draw_steps` draws each step.

    The sum over drawn steps of a quantity times these weights estimates its sum over all K steps
    without bias (Horvitz-Thompson). Infinite for steps that are never drawn.

    Raises:
        ValueError: ``count`` is out of its range.
    """
    boundary, early = strata.divide(num_steps, count)
    weights = torch.empty(num_steps, dtype=torch.float64)
    weights[:boundary] = boundary / early if early else math.inf
    late = count - early
    weights[boundary:] = (num_steps - boundary) / late if late else math.inf
    return weights
