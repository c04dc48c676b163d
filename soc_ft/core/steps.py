"""Which steps of a trajectory are regressed on."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_steps(
    keys: Tensor, count: int, early_fraction: float = 0.6, early_share: float = 0.5
) -> Tensor:
    """Choose steps without replacement, stratified into an early and a late segment.

    The first ``early_fraction`` of the K steps (rounded) form the early segment; it gets
    ``early_share`` of the ``count`` steps (rounded down), the late one the rest. A segment that is
    too small passes its surplus on to the other. Within a segment the smallest keys win, so that
    uniform keys keep each of its steps equally often.

    Args:
        keys: (..., K), uniform in [0, 1).
        count: number of steps, in [1, K].
        early_fraction: in [0, 1].
        early_share: in [0, 1].

    Returns:
        (..., count) int64, increasing along the last dim.

    Raises:
        ValueError: if an argument is out of its range.
    """
    boundary, early = _strata(keys.shape[-1], count, early_fraction, early_share)
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


def inclusion_weights(
    num_steps: int, count: int, early_fraction: float = 0.6, early_share: float = 0.5
) -> Tensor:
    """Inverse probability (K,) that :func:`draw_steps` draws each step.

    The sum over drawn steps of a quantity times these weights estimates its sum over all K steps
    without bias (Horvitz-Thompson). Infinite for steps that are never drawn.
    """
    boundary, early = _strata(num_steps, count, early_fraction, early_share)
    weights = torch.empty(num_steps, dtype=torch.float64)
    weights[:boundary] = boundary / early if early else math.inf
    late = count - early
    weights[boundary:] = (num_steps - boundary) / late if late else math.inf
    return weights


def _strata(
    num_steps: int, count: int, early_fraction: float, early_share: float
) -> tuple[int, int]:
    """Where the early segment ends, and how many of the draws fall into it."""
    if not 1 <= count <= num_steps:
        raise ValueError(f"count must be in [1, {num_steps}], the number of steps, got {count}")
    for name, value in (("early_fraction", early_fraction), ("early_share", early_share)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    boundary = round(early_fraction * num_steps)
    early = min(_floor(early_share * count), boundary)
    return boundary, max(early, count - (num_steps - boundary))


def _floor(value: float) -> int:
    """Floor of a product of decimal fractions, e.g. 0.29 * 100 = 28.999999999999996 -> 29."""
    return math.floor(value + 1e-9)
